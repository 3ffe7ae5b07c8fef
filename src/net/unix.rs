//! Unix streams; unix(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::adopt::{Kind, adopt, adopt_surely};
use super::split::{ReadHalf, WriteHalf, split};
use super::stream::{Stream, reading_methods, writing_methods};
use crate::inflight::{Handle, Op, Resource};
use crate::op::Incoming;
use crate::op::accept::{Accept, Accepted, Listening};
use crate::op::socket::Connect;
use crate::sys::{self, Descriptor, Domain, SockAddr, Type, option};

/// Connections that wait to be accepted. The kernel cuts it down to `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

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
    /// # Errors
    /// The kernel's, for example `AddrInUse` when the path exists; `InvalidInput` for a path over
    /// 107 bytes or with a NUL byte inside.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let address = address_at(path.as_ref())?;
        let socket = sys::open_socket(Domain::UNIX, Type::STREAM, None)?;
        sys::bind(&socket, &address)?;
        sys::listen(&socket, BACKLOG)?;
        Ok(UnixListener { handle: Listening::of_own(socket)? })
    }

    /// Takes the next connection, with the peer's address, which is mostly unnamed; accept(2).
    ///
    /// What was said of [`TcpListener::accept`](super::TcpListener::accept) about dropping and
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
        address_of(&sys::local_address(self)?)
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

/// A connection between two processes of one machine.
///
/// # Dropping
/// The stream is closed when `drop` returns, and dropped operations of it that are in flight are
/// cancelled. (With several runtimes on one thread, or outside one, it is closed with the end of
/// the last of them.) One that lingers (`SO_LINGER`) is closed by a thread, for which `drop` does
/// not wait; `close` does.
#[derive(Debug)]
pub struct UnixStream {
    handle: Resource,
}

impl UnixStream {
    /// Connects to the socket at `path`. While the listener's backlog is full, this waits on a
    /// worker thread of the kernel.
    ///
    /// If the future is dropped, its socket is closed.
    ///
    /// # Errors
    /// The kernel's: `NotFound`, or `ConnectionRefused` when nobody listens; `InvalidInput` as for
    /// [`bind`](UnixListener::bind).
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let address = address_at(path.as_ref())?;
        let handle = Resource::new(sys::open_socket(Domain::UNIX, Type::STREAM, None)?);
        Connect::op(&handle, &address).await?;
        Ok(UnixStream { handle })
    }

    /// Two streams that are connected to each other; socketpair(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let [a, b] = sys::open_pair()?.map(|socket| UnixStream { handle: Resource::new(socket) });
        Ok((a, b))
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    reading_methods!();
    writing_methods!();

    /// Takes the stream apart for two tasks. [`ReadHalf::reunite`] puts it together again.
    pub fn into_split(self) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
        split(self)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(&sys::local_address(self)?)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` when the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address_of(&sys::peer_address(self)?)
    }

    /// The error that is pending on the socket, if any: `SO_ERROR`.
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        option::ERROR.get(self)
    }

    /// Waits for the end of operations whose futures were dropped, then closes the connection.
    ///
    /// # Errors
    /// The kernel's. The descriptor is closed even then.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Takes over a connection of std's. It may be blocking or not, and stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        Ok(UnixStream { handle: adopt(stream, Kind::Unix)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// Bytes that a dropped read took are not carried over: they waited here, not in the kernel.
    /// Where that matters end reads with [`cancel`](crate::Op::cancel).
    pub async fn into_std(self) -> std::os::unix::net::UnixStream {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

/// A path or an abstract name as the kernel takes it. Inside a path a NUL byte would end it early.
fn address_at(path: &Path) -> io::Result<SockAddr> {
    if path.as_os_str().as_bytes().iter().skip(1).any(|&byte| byte == 0) && !is_abstract(path) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a path must not contain a NUL byte",
        ));
    }
    SockAddr::unix(path)
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// As std has it. A peer may have bound itself to a path that std cannot hold (all 108 bytes); it
/// counts as unnamed, since a name must not cost the connection.
fn address_of(address: &SockAddr) -> io::Result<SocketAddr> {
    if let Some(name) = address.as_abstract_namespace() {
        return SocketAddr::from_abstract_name(name);
    }
    let path = address.as_pathname().unwrap_or(Path::new(""));
    SocketAddr::from_pathname(path).or_else(|_| SocketAddr::from_pathname(""))
}

impl Stream for UnixStream {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Accepted for UnixStream {
    type Address = SocketAddr;

    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(UnixStream, SocketAddr)> {
        let stream = UnixStream { handle: Resource::new(socket) };
        Ok((stream, address_of(peer)?))
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

impl From<std::os::unix::net::UnixStream> for UnixStream {
    /// # Panics
    /// Where [`from_std`](UnixStream::from_std) gives an error.
    #[track_caller]
    fn from(stream: std::os::unix::net::UnixStream) -> UnixStream {
        UnixStream { handle: adopt_surely(stream, Kind::Unix) }
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

impl From<OwnedFd> for UnixStream {
    /// # Panics
    /// Where [`from_std`](UnixStream::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixStream {
        UnixStream { handle: adopt_surely(descriptor, Kind::Unix) }
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for UnixStream {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
