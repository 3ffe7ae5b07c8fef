//! Unix datagrams.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::credentials::credential_methods;
use super::descriptors::descriptor_methods;
use crate::buf::{IoBuf, IoBufMut};
use crate::inflight::{Handle, Op, Resource};
use crate::net::adopt::{Kind, adopt, adopt_surely};
use crate::op::custom::Fd;
use crate::op::socket::Connect;
use crate::op::unix_message::{Bytes, BytesFrom, ReceiveUnixMessage, SendUnixMessage};
use crate::sys::{self, Domain, SockAddr, Type, option};

/// A socket for datagrams between processes of one machine.
///
/// They arrive in order, whole and once, and a send waits while the receiver has no room. What a
/// buffer has no room for is cut off; [`recv_with_fds`](UnixDatagram::recv_with_fds) tells of that.
/// A buffer without any room is refused with `InvalidInput`; sending an empty buffer sends an empty
/// datagram.
///
/// Dropping it closes the socket and leaves the path, as in std: remove it before binding again.
///
/// ```
/// use annulus::net::UnixDatagram;
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-datagram-{}", std::process::id()));
/// let (server, client) = (UnixDatagram::bind(&path)?, UnixDatagram::unbound()?);
/// client.send_to("ping", &path).await?;
/// let (count, from, buffer) = server.recv_from(Vec::with_capacity(16)).await?;
/// assert_eq!(&buffer[..count], b"ping");
/// assert!(from.is_unnamed());
/// # annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    handle: Resource,
}

impl UnixDatagram {
    /// Makes a socket at `path`. A path that starts with a NUL byte is a name in the abstract
    /// space.
    ///
    /// It is a system call of this thread, as in std and tokio. A path on a file system that is
    /// elsewhere makes it wait.
    ///
    /// # Errors
    /// The kernel's, for example `AddrInUse` when the path exists; `InvalidInput` for a path over
    /// 107 bytes or with a NUL byte inside.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&sys::unix_address_at(path.as_ref())?)
    }

    /// As [`bind`](UnixDatagram::bind), at an address: a path or a name in the abstract space. At
    /// an unnamed one the kernel chooses a name in the abstract space.
    ///
    /// # Errors
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&sys::kernel_unix_address(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixDatagram> {
        let socket = sys::open_socket(Domain::UNIX, Type::DGRAM, None)?;
        sys::bind(&socket, address)?;
        Ok(UnixDatagram { handle: Resource::new(socket) })
    }

    /// Makes a socket without a name, which can send but not be sent to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unbound() -> io::Result<UnixDatagram> {
        let socket = sys::open_socket(Domain::UNIX, Type::DGRAM, None)?;
        Ok(UnixDatagram { handle: Resource::new(socket) })
    }

    /// Two sockets that are connected to each other; socketpair(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let [a, b] = sys::open_pair(Type::DGRAM)?
            .map(|socket| UnixDatagram { handle: Resource::new(socket) });
        Ok((a, b))
    }

    /// Sets the peer of [`send`](UnixDatagram::send), which alone may send to this socket from then
    /// on. It may be called again.
    ///
    /// # Errors
    /// The kernel's: `NotFound`, or `ConnectionRefused` when nobody has the socket open;
    /// `InvalidInput` as for [`bind`](UnixDatagram::bind).
    pub async fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        Connect::op(&self.handle, &sys::unix_address_at(path.as_ref())?).await
    }

    /// As [`connect`](UnixDatagram::connect), to an address: a path or a name in the abstract
    /// space.
    ///
    /// # Errors
    /// As [`connect`](UnixDatagram::connect).
    pub async fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        Connect::op(&self.handle, &sys::kernel_unix_address(address)?).await
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends one datagram to the connected peer; sendmsg(2). Waits while that has no room.
    ///
    /// If the future is dropped it may be sent all the same, but not after a later one.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer: `ENOTCONN` without a peer, `ECONNREFUSED` when the peer has
    /// gone, `EMSGSIZE` for a datagram that is too long. There is no `SIGPIPE`.
    pub fn send<B: IoBuf>(&self, buffer: B) -> Op<'_, SendUnixMessage<B>> {
        SendUnixMessage::to_peer(&self.handle, buffer)
    }

    /// Sends one datagram to the socket at `path`; sendmsg(2). Waits while that has no room.
    ///
    /// What was said of [`send`](UnixDatagram::send) about dropping holds here.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send`](UnixDatagram::send) and [`connect`](UnixDatagram::connect).
    pub fn send_to<B: IoBuf>(
        &self,
        buffer: B,
        path: impl AsRef<Path>,
    ) -> Op<'_, SendUnixMessage<B>> {
        SendUnixMessage::to(&self.handle, buffer, sys::unix_address_at(path.as_ref()))
    }

    /// As [`send_to`](UnixDatagram::send_to), to an address: a path or a name in the abstract
    /// space.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr<B: IoBuf>(
        &self,
        buffer: B,
        address: &SocketAddr,
    ) -> Op<'_, SendUnixMessage<B>> {
        SendUnixMessage::to(&self.handle, buffer, sys::kernel_unix_address(address))
    }

    /// Receives one datagram, and returns its length and the buffer; recvmsg(2).
    ///
    /// What was said of [`recv_from`](UnixDatagram::recv_from) about dropping holds here.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for a buffer without room.
    pub fn recv<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveUnixMessage<B, Bytes>> {
        ReceiveUnixMessage::op(&self.handle, buffer)
    }

    /// Receives one datagram, and returns its length, where it came from, and the buffer;
    /// recvmsg(2).
    ///
    /// If the future is dropped and the receive won the race against its cancelling, the datagram
    /// waits in the socket for the next receive, with its address and cut to the room of the
    /// dropped buffer. One receive is in flight at a time; further ones wait for their turn.
    ///
    /// Yields `Result<(usize, SocketAddr, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`recv`](UnixDatagram::recv).
    pub fn recv_from<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveUnixMessage<B, BytesFrom>> {
        ReceiveUnixMessage::op(&self.handle, buffer)
    }

    descriptor_methods!(false, op);
    credential_methods!();

    /// Ends one direction, or both; shutdown(2).
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shutdown(&self, how: Shutdown) -> Op<'_, crate::op::socket::Shutdown> {
        crate::op::socket::Shutdown::op(&self.handle, how)
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::unix_address_of(&sys::local_address(self)?)
    }

    /// The address of the connected peer.
    ///
    /// # Errors
    /// `NotConnected` when there is none.
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

    /// Waits for the end of operations whose futures were dropped, then closes the socket.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Takes over a socket of std's. It may be blocking or not, and stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram { handle: adopt(socket, Kind::UnixDatagram)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// A datagram that a dropped receive took is not carried over: it waited here, not in the
    /// kernel.
    pub async fn into_std(self) -> std::os::unix::net::UnixDatagram {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl From<std::os::unix::net::UnixDatagram> for UnixDatagram {
    /// # Panics
    /// Where [`from_std`](UnixDatagram::from_std) gives an error.
    #[track_caller]
    fn from(socket: std::os::unix::net::UnixDatagram) -> UnixDatagram {
        UnixDatagram { handle: adopt_surely(socket, Kind::UnixDatagram) }
    }
}

impl From<OwnedFd> for UnixDatagram {
    /// # Panics
    /// Where [`from_std`](UnixDatagram::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixDatagram {
        UnixDatagram { handle: adopt_surely(descriptor, Kind::UnixDatagram) }
    }
}

impl From<&UnixDatagram> for Fd {
    fn from(socket: &UnixDatagram) -> Fd {
        Fd::of(&socket.handle)
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for UnixDatagram {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
