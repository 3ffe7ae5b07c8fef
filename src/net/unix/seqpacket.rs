//! Unix connections that keep messages apart: `SOCK_SEQPACKET`.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::credentials::credential_methods;
use super::descriptors::descriptor_methods;
use super::listener::BACKLOG;
use crate::buf::{IoBuf, IoBufMut};
use crate::inflight::{Handle, Op, Resource};
use crate::net::adopt::{Kind, adopt, adopt_surely};
use crate::op::Incoming;
use crate::op::accept::{Accept, Accepted, Listening};
use crate::op::custom::Fd;
use crate::op::socket::Connect;
use crate::op::unix_message::{ReceiveUnixMessage, SendUnixMessage, WholeMessage};
use crate::sys::{self, Descriptor, Domain, SockAddr, Type, option};

/// A socket that takes connections at a path, which keep messages apart.
///
/// Dropping it closes the socket and leaves the path: remove it before binding again.
///
/// ```
/// use annulus::net::{UnixSeqpacket, UnixSeqpacketListener};
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-seqpacket-{}", std::process::id()));
/// let listener = UnixSeqpacketListener::bind(&path)?;
/// let client = UnixSeqpacket::connect(&path).await?;
/// let (server, _address) = listener.accept().await?;
/// client.send("one").await?;
/// client.send("two").await?;
/// let (count, buffer) = server.recv(Vec::with_capacity(16)).await?;
/// assert_eq!(&buffer[..count], b"one");
/// # annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixSeqpacketListener {
    handle: Listening,
}

impl UnixSeqpacketListener {
    /// Makes a socket at `path`. A path that starts with a NUL byte is a name in the abstract
    /// space.
    ///
    /// It is a system call of this thread, as in std and tokio. A path on a file system that is
    /// elsewhere makes it wait.
    ///
    /// # Errors
    /// The kernel's, for example `AddrInUse` when the path exists; `InvalidInput` for a path over
    /// 107 bytes or with a NUL byte inside.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixSeqpacketListener> {
        UnixSeqpacketListener::bind_to(&sys::unix_address_at(path.as_ref())?)
    }

    /// As [`bind`](UnixSeqpacketListener::bind), at an address: a path or a name in the abstract
    /// space. At an unnamed one the kernel chooses a name in the abstract space.
    ///
    /// # Errors
    /// As [`bind`](UnixSeqpacketListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixSeqpacketListener> {
        UnixSeqpacketListener::bind_to(&sys::kernel_unix_address(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixSeqpacketListener> {
        let socket = sys::open_socket(Domain::UNIX, Type::SEQPACKET, None)?;
        sys::bind(&socket, address)?;
        sys::listen(&socket, BACKLOG)?;
        Ok(UnixSeqpacketListener { handle: Listening::of_own(socket)? })
    }

    /// Takes the next connection, with the peer's address, which is mostly unnamed; accept(2).
    ///
    /// What was said of [`TcpListener::accept`](crate::net::TcpListener::accept) about dropping and
    /// errors holds here.
    ///
    /// Yields `io::Result<(UnixSeqpacket, SocketAddr)>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accept(&self) -> Op<'_, Accept<UnixSeqpacket>> {
        Accept::op(self.handle.handle())
    }

    /// The connections as a stream, for ever, without their addresses; see [`Incoming`].
    pub fn incoming(&self) -> Incoming<'_, UnixSeqpacket> {
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

    /// Takes over a listening socket, for which std has no type. It may be blocking or not, and
    /// stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_fd(descriptor: OwnedFd) -> io::Result<UnixSeqpacketListener> {
        let handle = Listening::new(adopt(descriptor, Kind::UnixSeqpacket)?);
        Ok(UnixSeqpacketListener { handle })
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    ///
    /// A connection that a dropped accept took is closed: it waited here, not in the kernel.
    pub async fn into_fd(self) -> OwnedFd {
        self.handle.into_descriptor().await.into()
    }
}

/// A connection between two processes of one machine that keeps messages apart.
///
/// Messages arrive in order, whole and once. What was said of dropping a
/// [`UnixStream`](crate::net::UnixStream) holds here.
#[derive(Debug)]
pub struct UnixSeqpacket {
    handle: Resource,
}

impl UnixSeqpacket {
    /// Connects to the socket at `path`. While the listener's backlog is full, this waits on a
    /// worker thread of the kernel.
    ///
    /// If the future is dropped, its socket is closed.
    ///
    /// # Errors
    /// The kernel's: `NotFound`, `ConnectionRefused` when nobody listens, `EPROTOTYPE` for a socket
    /// of another type; `InvalidInput` as for [`bind`](UnixSeqpacketListener::bind).
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixSeqpacket> {
        UnixSeqpacket::connect_to(&sys::unix_address_at(path.as_ref())?).await
    }

    /// As [`connect`](UnixSeqpacket::connect), to an address: a path or a name in the abstract
    /// space.
    ///
    /// # Errors
    /// As [`connect`](UnixSeqpacket::connect).
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<UnixSeqpacket> {
        UnixSeqpacket::connect_to(&sys::kernel_unix_address(address)?).await
    }

    async fn connect_to(address: &SockAddr) -> io::Result<UnixSeqpacket> {
        let handle = Resource::new(sys::open_socket(Domain::UNIX, Type::SEQPACKET, None)?);
        Connect::op(&handle, address).await?;
        Ok(UnixSeqpacket { handle })
    }

    /// Two ends that are connected to each other; socketpair(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixSeqpacket, UnixSeqpacket)> {
        let [a, b] = sys::open_pair(Type::SEQPACKET)?
            .map(|socket| UnixSeqpacket { handle: Resource::new(socket) });
        Ok((a, b))
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends one message; sendmsg(2). Waits while the peer has no room.
    ///
    /// If the future is dropped it may be sent all the same, but not after a later one.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer: `EPIPE` or `ECONNRESET` when the peer has gone, `EMSGSIZE`
    /// for a message that is too long. There is no `SIGPIPE`.
    pub fn send<B: IoBuf>(&self, buffer: B) -> Op<'_, SendUnixMessage<B>> {
        SendUnixMessage::to_peer(&self.handle, buffer)
    }

    /// Receives one message, and returns its length and the buffer; recvmsg(2). 0 is the end, or an
    /// empty message: the kernel does not tell the two apart.
    ///
    /// If the future is dropped and the receive won the race against its cancelling, the message
    /// waits in the socket for the next receive, cut to the room of the dropped buffer. One receive
    /// is in flight at a time; further ones wait for their turn.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// `EMSGSIZE` if the message was longer than the buffer has room for: its first part is in the
    /// buffer, [`transferred`](crate::Error::transferred) counts it, and the rest is lost. Else the
    /// kernel's, with the buffer; `InvalidInput` for a buffer without room.
    pub fn recv<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveUnixMessage<B, WholeMessage>> {
        ReceiveUnixMessage::op(&self.handle, buffer)
    }

    descriptor_methods!(false, op);
    credential_methods!();

    /// Ends one direction of the connection, or both; shutdown(2).
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shutdown(&self, how: Shutdown) -> Op<'_, crate::op::socket::Shutdown> {
        crate::op::socket::Shutdown::op(&self.handle, how)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::unix_address_of(&sys::local_address(self)?)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` when the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sys::unix_address_of(&sys::peer_address(self)?)
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

    /// Takes over a connected socket, for which std has no type. It may be blocking or not, and
    /// stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_fd(descriptor: OwnedFd) -> io::Result<UnixSeqpacket> {
        Ok(UnixSeqpacket { handle: adopt(descriptor, Kind::UnixSeqpacket)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    ///
    /// A message that a dropped receive took is not carried over: it waited here, not in the
    /// kernel.
    pub async fn into_fd(self) -> OwnedFd {
        self.handle.into_descriptor().await.into()
    }
}

impl Accepted for UnixSeqpacket {
    type Address = SocketAddr;

    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(UnixSeqpacket, SocketAddr)> {
        let connection = UnixSeqpacket { handle: Resource::new(socket) };
        Ok((connection, sys::unix_address_of(peer)?))
    }
}

impl From<OwnedFd> for UnixSeqpacketListener {
    /// # Panics
    /// Where [`from_fd`](UnixSeqpacketListener::from_fd) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixSeqpacketListener {
        let handle = Listening::new(adopt_surely(descriptor, Kind::UnixSeqpacket));
        UnixSeqpacketListener { handle }
    }
}

impl From<&UnixSeqpacketListener> for Fd {
    fn from(listener: &UnixSeqpacketListener) -> Fd {
        Fd::of(listener.handle.handle())
    }
}

impl AsFd for UnixSeqpacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.handle().as_fd()
    }
}

impl AsRawFd for UnixSeqpacketListener {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.handle().as_raw_fd()
    }
}

impl From<OwnedFd> for UnixSeqpacket {
    /// # Panics
    /// Where [`from_fd`](UnixSeqpacket::from_fd) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixSeqpacket {
        UnixSeqpacket { handle: adopt_surely(descriptor, Kind::UnixSeqpacket) }
    }
}

impl From<&UnixSeqpacket> for Fd {
    fn from(socket: &UnixSeqpacket) -> Fd {
        Fd::of(&socket.handle)
    }
}

impl AsFd for UnixSeqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for UnixSeqpacket {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
