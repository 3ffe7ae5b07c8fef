//! UDP; udp(7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::address::{ToSocketAddrs, first_that_works, not_internet};
use super::adopt::{Kind, adopt, adopt_surely};
use super::busy::once_free;
use super::options::{accessors, internet_options};
use crate::buf::{IoBuf, IoBufMut};
use crate::inflight::{Handle, Op, Resource};
use crate::op::Datagrams;
use crate::op::custom::Fd;
use crate::op::datagram::{PeekDatagram, PeekFrom, ReceiveDatagram, ReceiveFrom, SendTo};
use crate::op::socket::{Connect, Send};
use crate::op::zero_copy::SendZeroCopy;
use crate::sys::{self, Domain, Protocol, SockAddr, Type, option};

/// A socket for datagrams.
///
/// What a buffer has no room for is cut off. A buffer without any room is refused with
/// `InvalidInput`; sending an empty buffer sends an empty datagram. The socket is closed when
/// `drop` returns.
///
/// ```
/// use annulus::net::UdpSocket;
///
/// # annulus::block_on(async {
/// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
/// a.send_to("ping", b.local_addr()?).await?;
/// let (count, from, buffer) = b.recv_from(Vec::with_capacity(16)).await?;
/// assert_eq!((&buffer[..count], from), (&b"ping"[..], a.local_addr()?));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    handle: Resource,
}

impl UdpSocket {
    /// Binds to the first address that works. Port 0 lets the kernel choose.
    ///
    /// # Errors
    /// The last address's, for example `AddrInUse`; `InvalidInput` for text that is no address.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        first_that_works(address, |address| once_free(move || UdpSocket::bound(address))).await
    }

    fn bound(address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::new(Domain::for_address(address))?;
        socket.bind_to(address)?;
        Ok(socket)
    }

    /// A socket for IPv4 that is not bound yet, to set its options before it is; socket(2).
    ///
    /// ```
    /// use annulus::net::UdpSocket;
    ///
    /// # annulus::block_on(async {
    /// let socket = UdpSocket::new_v4()?;
    /// socket.set_reuseport(true)?;
    /// socket.bind_to(([127, 0, 0, 1], 0).into())?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's, for example `EMFILE`.
    pub fn new_v4() -> io::Result<UdpSocket> {
        UdpSocket::new(Domain::IPV4)
    }

    /// A socket for IPv6 that is not bound yet; socket(2).
    ///
    /// # Errors
    /// The kernel's, for example `EMFILE`, or `EAFNOSUPPORT` where there is no IPv6.
    pub fn new_v6() -> io::Result<UdpSocket> {
        UdpSocket::new(Domain::IPV6)
    }

    fn new(domain: Domain) -> io::Result<UdpSocket> {
        let socket = sys::open_socket(domain, Type::DGRAM, Some(Protocol::UDP))?;
        Ok(UdpSocket { handle: Resource::new(socket) })
    }

    /// Chooses the address of a socket that is not bound yet; bind(2).
    ///
    /// # Errors
    /// The kernel's, for example `AddrInUse`, or `InvalidInput` for a socket that is bound.
    pub fn bind_to(&self, address: SocketAddr) -> io::Result<()> {
        sys::bind(self, &SockAddr::from(address))
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sets the peer of [`send`](UdpSocket::send) and [`recv`](UdpSocket::recv): the first address
    /// that works.
    ///
    /// # Errors
    /// As [`bind`](UdpSocket::bind).
    pub async fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        first_that_works(address, |address| Connect::op(&self.handle, &SockAddr::from(address)))
            .await
    }

    /// Sends one datagram to the connected peer; send(2).
    ///
    /// If the future is dropped it may be sent all the same, but not after a later one.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer: `ECONNREFUSED` when an earlier datagram found nobody,
    /// `EMSGSIZE` for one that is too long.
    pub fn send<B: IoBuf>(&self, buffer: B) -> Op<'_, Send<B>> {
        Send::datagram(&self.handle, buffer)
    }

    /// Receives one datagram from the connected peer, or from anybody if there is none, and returns
    /// its length and the buffer; recv(2).
    ///
    /// What was said of [`recv_from`](UdpSocket::recv_from) about dropping holds here.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for a buffer without room.
    pub fn recv<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveDatagram<B>> {
        ReceiveDatagram::op(&self.handle, buffer)
    }

    /// Sends one datagram to an address; sendmsg(2).
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send`](UdpSocket::send).
    pub fn send_to<B: IoBuf>(&self, buffer: B, address: SocketAddr) -> Op<'_, SendTo<B>> {
        SendTo::op(&self.handle, buffer, address)
    }

    /// Sends one datagram to the connected peer without copying it; `IORING_OP_SEND_ZC`,
    /// send_zc(2).
    ///
    /// The buffer comes back when the network card has sent it. See
    /// [`TcpStream::send_zc`](super::TcpStream::send_zc) for when it pays, and what happens where
    /// it cannot be had. Needs Linux 6.2.
    ///
    /// Yields `Result<(Sent, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send`](UdpSocket::send).
    pub fn send_zc<B: IoBuf>(&self, buffer: B) -> Op<'_, SendZeroCopy<B>> {
        SendZeroCopy::datagram(&self.handle, buffer)
    }

    /// Sends one datagram to an address without copying it, as [`send_zc`](UdpSocket::send_zc) does
    /// to the connected peer.
    ///
    /// Yields `Result<(Sent, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`send`](UdpSocket::send).
    pub fn send_to_zc<B: IoBuf>(&self, buffer: B, address: SocketAddr) -> Op<'_, SendZeroCopy<B>> {
        SendZeroCopy::datagram_to(&self.handle, buffer, address)
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
    /// As [`recv`](UdpSocket::recv).
    pub fn recv_from<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReceiveFrom<B>> {
        ReceiveFrom::op(&self.handle, buffer)
    }

    /// Looks at the next datagram, and returns its length, where it came from, and the buffer;
    /// recvmsg(2) with `MSG_PEEK`. It stays for the next receive.
    ///
    /// What a dropped receive left is seen first. If the future is dropped, nothing has happened.
    ///
    /// Yields `Result<(usize, SocketAddr, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek_from<B: IoBufMut>(&self, buffer: B) -> Op<'_, PeekFrom<B>> {
        PeekFrom::op(&self.handle, buffer)
    }

    /// Looks at the next datagram, and returns its length and the buffer, as
    /// [`peek_from`](UdpSocket::peek_from) does.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`recv`](UdpSocket::recv).
    pub fn peek<B: IoBufMut>(&self, buffer: B) -> Op<'_, PeekDatagram<B>> {
        PeekDatagram::op(&self.handle, buffer)
    }

    /// The datagrams as they come, in buffers of the runtime, as a stream; see [`Datagrams`].
    ///
    /// ```
    /// use annulus::net::UdpSocket;
    /// use futures_util::StreamExt;
    ///
    /// # annulus::block_on(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.send_to("ping", b.local_addr()?).await?;
    /// let mut datagrams = b.datagrams();
    /// let ping = datagrams.next().await.expect("it never ends")?;
    /// assert_eq!((&ping.chunk[..], ping.from), (&b"ping"[..], a.local_addr()?));
    /// b.send_to(ping.chunk, ping.from).await?; // no copy
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Its items: the kernel's, `ECONNREFUSED` when an earlier datagram found nobody.
    pub fn datagrams(&self) -> Datagrams<'_> {
        Datagrams::new(&self.handle)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::local_address(self)?.as_socket().ok_or_else(not_internet)
    }

    /// The peer.
    ///
    /// # Errors
    /// `NotConnected` when there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sys::peer_address(self)?.as_socket().ok_or_else(not_internet)
    }

    accessors! {
        /// Allows datagrams to broadcast addresses: `SO_BROADCAST`, socket(7).
        set_broadcast;
        /// Are datagrams to broadcast addresses allowed?
        broadcast: bool = BROADCAST;

        /// Lets several sockets have the address, all of which receive what is sent to a group or
        /// broadcast: `SO_REUSEADDR`, socket(7). To be set before the socket is bound.
        set_reuseaddr;
        /// May several sockets have the address?
        reuseaddr: bool = REUSE_ADDRESS;

        /// Lets several sockets have the address, between which the kernel spreads the datagrams:
        /// `SO_REUSEPORT`, socket(7). To be set before the socket is bound.
        set_reuseport;
        /// May several sockets have the address, and share the datagrams?
        reuseport: bool = REUSE_PORT;
    }

    internet_options!();

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
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        Ok(UdpSocket { handle: adopt(socket, Kind::Udp)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// A datagram that a dropped receive took is not carried over: it waited here, not in the
    /// kernel.
    pub async fn into_std(self) -> std::net::UdpSocket {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl From<std::net::UdpSocket> for UdpSocket {
    /// # Panics
    /// Where [`from_std`](UdpSocket::from_std) gives an error.
    #[track_caller]
    fn from(socket: std::net::UdpSocket) -> UdpSocket {
        UdpSocket { handle: adopt_surely(socket, Kind::Udp) }
    }
}

impl From<OwnedFd> for UdpSocket {
    /// # Panics
    /// Where [`from_std`](UdpSocket::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UdpSocket {
        UdpSocket { handle: adopt_surely(descriptor, Kind::Udp) }
    }
}

impl From<&UdpSocket> for Fd {
    fn from(socket: &UdpSocket) -> Fd {
        Fd::of(&socket.handle)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
