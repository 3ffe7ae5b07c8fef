//! The listener of Unix streams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::stream::UnixStream;
use crate::inflight::Op;
use crate::net::adopt::{Kind, adopt, adopt_surely};
use crate::op::Incoming;
use crate::op::accept::{Accept, Listening};
use crate::op::custom::Fd;
use crate::sys::{self, Domain, SockAddr, Type, option};

/// Connections that wait to be accepted. The kernel cuts it down to `net.core.somaxconn`.
pub(super) const BACKLOG: u32 = 1024;

/// A socket that takes connections at a path.
///
/// Dropping it closes the socket and leaves the path, as in std: remove it before binding again.
///
/// ```
/// use annulus::net::{UnixListener, UnixStream};
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-unix-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path).await?;
/// let (server, _address) = listener.accept().await?;
/// client.write_all("ping").await?;
/// let pong = server.read_exact(vec![0; 4]).await?;
/// assert_eq!(pong, b"ping");
/// # annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixListener {
    handle: Listening,
}

impl UnixListener {
    /// Makes a socket at `path`. A path that starts with a NUL byte is a name in the abstract
    /// space.
    ///
    /// It is a system call of this thread, as in std and tokio. A path on a file system that is
    /// elsewhere makes it wait.
    ///
    /// # Errors
    /// The kernel's, for example `AddrInUse` when the path exists; `InvalidInput` for a path over
    /// 107 bytes or with a NUL byte inside.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_to(&sys::unix_address_at(path.as_ref())?)
    }

    /// As [`bind`](UnixListener::bind), at an address: a path or a name in the abstract space. At
    /// an unnamed one the kernel chooses a name in the abstract space.
    ///
    /// ```
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use annulus::net::{UnixListener, UnixStream};
    ///
    /// # annulus::block_on(async {
    /// let address = SocketAddr::from_abstract_name("annulus-bind-addr")?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// let client = UnixStream::connect_addr(&address).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bind_to(&sys::kernel_unix_address(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixListener> {
        let socket = sys::open_socket(Domain::UNIX, Type::STREAM, None)?;
        sys::bind(&socket, address)?;
        sys::listen(&socket, BACKLOG)?;
        Ok(UnixListener { handle: Listening::of_own(socket)? })
    }

    /// Takes the next connection, with the peer's address, which is mostly unnamed; accept(2).
    ///
    /// What was said of [`TcpListener::accept`](crate::net::TcpListener::accept) about dropping and
    /// errors holds here.
    ///
    /// Yields `io::Result<(UnixStream, SocketAddr)>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accept(&self) -> Op<'_, Accept<UnixStream>> {
        Accept::op(self.handle.handle())
    }

    /// The connections as a stream, for ever, without their addresses; see [`Incoming`].
    ///
    /// ```
    /// use annulus::net::{UnixListener, UnixStream};
    /// use futures_util::StreamExt;
    ///
    /// # annulus::block_on(async {
    /// let listener = UnixListener::bind("\0annulus-incoming")?;
    /// let mut incoming = listener.incoming();
    /// let _client = UnixStream::connect("\0annulus-incoming").await?;
    /// let stream = incoming.next().await.expect("it never ends")?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn incoming(&self) -> Incoming<'_, UnixStream> {
        Incoming::new(self.handle.handle())
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::unix_address_of(&sys::local_address(self)?)
    }

    /// The error that is pending on the socket, if any: `SO_ERROR`.
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        option::ERROR.get(self)
    }

    /// Closes the listener, and a connection that a dropped accept took.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Takes over a listener of std's. It may be blocking or not, and stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        Ok(UnixListener { handle: Listening::new(adopt(listener, Kind::Unix)?) })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// A connection that a dropped accept took is closed: it waited here, not in the kernel.
    pub async fn into_std(self) -> std::os::unix::net::UnixListener {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl From<std::os::unix::net::UnixListener> for UnixListener {
    /// # Panics
    /// Where [`from_std`](UnixListener::from_std) gives an error.
    #[track_caller]
    fn from(listener: std::os::unix::net::UnixListener) -> UnixListener {
        UnixListener { handle: Listening::new(adopt_surely(listener, Kind::Unix)) }
    }
}

impl From<OwnedFd> for UnixListener {
    /// # Panics
    /// Where [`from_std`](UnixListener::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixListener {
        UnixListener { handle: Listening::new(adopt_surely(descriptor, Kind::Unix)) }
    }
}

impl From<&UnixListener> for Fd {
    fn from(listener: &UnixListener) -> Fd {
        Fd::of(listener.handle.handle())
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.handle().as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.handle().as_raw_fd()
    }
}
