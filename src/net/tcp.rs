//! TCP: listeners and streams; tcp(7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use super::address::{ToSocketAddrs, after_a_turn, first_that_works, lookup_host, not_internet};
use super::adopt::{Kind, adopt, adopt_surely};
use super::busy::once_free;
use super::options::{internet_options, tcp_options};
use super::race::connect_to_first;
use super::split::{ReadHalf, WriteHalf, split};
use super::stream::{Stream, reading_methods, writing_methods, zero_copy_methods};
use crate::inflight::{Handle, Op, Resource};
use crate::op::Incoming;
use crate::op::accept::{Accept, Accepted, Listening};
use crate::op::custom::Fd;
use crate::op::socket::Connect;
use crate::sys::{self, Descriptor, Domain, Protocol, SockAddr, Type, option};

/// Connections that wait to be accepted, by default. The kernel cuts it down to
/// `net.core.somaxconn`.
const DEFAULT_BACKLOG: u32 = 1024;

/// How a listener is to be made: what [`TcpListener::bind`] does, with other choices.
///
/// It looks up names and tries all of their addresses. A [`TcpSocket`](super::TcpSocket) is for one
/// address, and has all options of sockets.
///
/// ```
/// use annulus::net::ListenOptions;
/// # annulus::block_on(async {
/// let listener = ListenOptions::new().backlog(4096).reuse_port(true).bind("127.0.0.1:0").await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ListenOptions {
    backlog: u32,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
}

impl ListenOptions {
    /// A backlog of 1024, the address reusable, the port not.
    #[must_use]
    pub fn new() -> ListenOptions {
        ListenOptions {
            backlog: DEFAULT_BACKLOG,
            reuse_address: true,
            reuse_port: false,
            only_v6: None,
        }
    }

    /// How many connections may wait to be accepted; listen(2). 1024 by default, at most
    /// `net.core.somaxconn`.
    pub fn backlog(&mut self, backlog: u32) -> &mut ListenOptions {
        self.backlog = backlog;
        self
    }

    /// Binds even while connections of an earlier listener linger: `SO_REUSEADDR`, on by default as
    /// in std.
    pub fn reuse_address(&mut self, reuse: bool) -> &mut ListenOptions {
        self.reuse_address = reuse;
        self
    }

    /// Lets several listeners share the port, between which the kernel spreads the connections:
    /// `SO_REUSEPORT`.
    pub fn reuse_port(&mut self, reuse: bool) -> &mut ListenOptions {
        self.reuse_port = reuse;
        self
    }

    /// Whether an IPv6 listener leaves IPv4 alone: `IPV6_V6ONLY`. By default as
    /// `net.ipv6.bindv6only` says.
    pub fn only_v6(&mut self, only: bool) -> &mut ListenOptions {
        self.only_v6 = Some(only);
        self
    }

    /// Binds to the first address that works, and listens.
    ///
    /// # Errors
    /// The last address's, for example `AddrInUse`; `InvalidInput` for text that is no address.
    pub async fn bind(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        first_that_works(address, |address| once_free(move || self.listen(address))).await
    }

    fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket =
            sys::open_socket(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        option::REUSE_ADDRESS.set(&socket, self.reuse_address)?;
        if self.reuse_port {
            option::REUSE_PORT.set(&socket, true)?;
        }
        if let (Some(only), true) = (self.only_v6, address.is_ipv6()) {
            option::ONLY_V6.set(&socket, only)?;
        }
        sys::bind(&socket, &SockAddr::from(address))?;
        sys::listen(&socket, self.backlog)?;
        Ok(TcpListener { handle: Listening::of_own(socket)? })
    }
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions::new()
    }
}

/// A socket that takes TCP connections.
///
/// ```
/// use annulus::net::{TcpListener, TcpStream};
///
/// # annulus::block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
///
/// client.write_all("ping").await?;
/// let (count, buffer) = server.read(Vec::with_capacity(16)).await?;
/// assert_eq!((count, buffer.as_slice()), (4, &b"ping"[..]));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct TcpListener {
    handle: Listening,
}

impl TcpListener {
    /// Binds to the first address that works, with the defaults of [`ListenOptions`]. Port 0 lets
    /// the kernel choose.
    ///
    /// # Errors
    /// As [`ListenOptions::bind`].
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        ListenOptions::new().bind(address).await
    }

    /// Takes the next connection, with the peer's address; accept(2).
    ///
    /// If the future is dropped, the accept goes on in the listener and takes one connection, which
    /// waits there for the next call and is closed with the listener if there is none; see the
    /// [module page](super#dropping-a-future). One accept is in flight at a time; further ones wait
    /// for their turn.
    ///
    /// Yields `io::Result<(TcpStream, SocketAddr)>`.
    ///
    /// # Errors
    /// The kernel's. `EMFILE` and `ENFILE` (no descriptor left) leave the connection waiting and
    /// the listener in order: close something, or wait a little, and call again.
    pub fn accept(&self) -> Op<'_, Accept<TcpStream>> {
        Accept::op(self.handle.handle())
    }

    /// The connections as a stream, for ever, without their addresses; see [`Incoming`].
    ///
    /// ```
    /// use annulus::net::{TcpListener, TcpStream};
    /// use futures_util::StreamExt;
    ///
    /// # annulus::block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let mut incoming = listener.incoming();
    /// let _client = TcpStream::connect(listener.local_addr()?).await?;
    /// let stream = incoming.next().await.expect("it never ends")?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn incoming(&self) -> Incoming<'_, TcpStream> {
        Incoming::new(self.handle.handle())
    }

    /// A socket that listens.
    pub(super) fn listening(handle: Listening) -> TcpListener {
        TcpListener { handle }
    }

    internet_options!();
    tcp_options!();

    /// The address it is bound to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::local_address(self)?.as_socket().ok_or_else(not_internet)
    }

    /// The error that is pending on the socket, if any: `SO_ERROR`.
    ///
    /// # Errors
    /// The kernel's, when it cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        option::ERROR.get(self)
    }

    /// Closes the listener; connections that wait are reset, and one that a dropped accept took is
    /// closed.
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
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { handle: Listening::new(adopt(listener, Kind::Tcp)?) })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// A connection that a dropped accept took is closed: it waited here, not in the kernel.
    pub async fn into_std(self) -> std::net::TcpListener {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

/// A TCP connection.
///
/// # Dropping
/// The stream is closed when `drop` returns, and dropped operations of it that are in flight are
/// cancelled. (With several runtimes on one thread, or outside one, it is closed with the end of
/// the last of them.) One that lingers (`SO_LINGER`) is closed by a thread, for which `drop` does
/// not wait; `close` does.
#[derive(Debug)]
pub struct TcpStream {
    handle: Resource,
}

impl TcpStream {
    /// Connects to whichever of the addresses answers first.
    ///
    /// Several are tried as RFC 8305 ("Happy Eyeballs") says: IPv4 and IPv6 take turns, beginning
    /// with the first address, and in a family the order stays. The next attempt begins when one
    /// fails, or after 250 ms beside those that have not answered. The first that succeeds wins;
    /// the others are cancelled and their sockets closed. getaddrinfo(3) puts IPv6 first where this
    /// machine has a route for it.
    ///
    /// If the future is dropped, its sockets are closed.
    ///
    /// # Errors
    /// That of the attempt that failed last, for example `ConnectionRefused`; `InvalidInput` for
    /// text that is no address.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let addresses = lookup_host(address).await?;
        let connected = match addresses[..] {
            [address] => TcpStream::connect_to(address).await,
            _ => connect_to_first(addresses).await.map(|handle| TcpStream { handle }),
        };
        match connected {
            Ok(stream) => Ok(stream),
            Err(error) => Err(after_a_turn(error).await),
        }
    }

    /// Connects to an address, within that time.
    ///
    /// If the future is dropped, its socket is closed.
    ///
    /// # Errors
    /// `TimedOut` when the time is up, `InvalidInput` if it is zero, else the kernel's.
    pub async fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a connection takes longer than no time",
            ));
        }
        let handle = TcpStream::open_for(*address)?;
        Connect::op(&handle, &SockAddr::from(*address)).timeout(timeout).await?;
        Ok(TcpStream { handle })
    }

    async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
        let handle = TcpStream::open_for(address)?;
        Connect::op(&handle, &SockAddr::from(address)).await?;
        Ok(TcpStream { handle })
    }

    fn open_for(address: SocketAddr) -> io::Result<Resource> {
        let domain = Domain::for_address(address);
        Ok(Resource::new(sys::open_socket(domain, Type::STREAM, Some(Protocol::TCP))?))
    }

    /// A socket that is connected.
    pub(super) fn connected(handle: Resource) -> TcpStream {
        TcpStream { handle }
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    reading_methods!();
    writing_methods!();
    zero_copy_methods!();
    internet_options!();
    tcp_options!();

    /// Takes the stream apart for two tasks. [`ReadHalf::reunite`] puts it together again.
    pub fn into_split(self) -> (ReadHalf<TcpStream>, WriteHalf<TcpStream>) {
        split(self)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::local_address(self)?.as_socket().ok_or_else(not_internet)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` when the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sys::peer_address(self)?.as_socket().ok_or_else(not_internet)
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
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream { handle: adopt(stream, Kind::Tcp)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// Bytes that a dropped read took are not carried over: they waited here, not in the kernel.
    /// Where that matters end reads with [`cancel`](crate::Op::cancel).
    pub async fn into_std(self) -> std::net::TcpStream {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl Stream for TcpStream {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Accepted for TcpStream {
    type Address = SocketAddr;

    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = TcpStream { handle: Resource::new(socket) };
        Ok((stream, peer.as_socket().ok_or_else(not_internet)?))
    }
}

impl From<std::net::TcpListener> for TcpListener {
    /// # Panics
    /// Where [`from_std`](TcpListener::from_std) gives an error.
    #[track_caller]
    fn from(listener: std::net::TcpListener) -> TcpListener {
        TcpListener { handle: Listening::new(adopt_surely(listener, Kind::Tcp)) }
    }
}

impl From<OwnedFd> for TcpListener {
    /// # Panics
    /// Where [`from_std`](TcpListener::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> TcpListener {
        TcpListener { handle: Listening::new(adopt_surely(descriptor, Kind::Tcp)) }
    }
}

impl From<std::net::TcpStream> for TcpStream {
    /// # Panics
    /// Where [`from_std`](TcpStream::from_std) gives an error.
    #[track_caller]
    fn from(stream: std::net::TcpStream) -> TcpStream {
        TcpStream { handle: adopt_surely(stream, Kind::Tcp) }
    }
}

impl From<OwnedFd> for TcpStream {
    /// # Panics
    /// Where [`from_std`](TcpStream::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> TcpStream {
        TcpStream { handle: adopt_surely(descriptor, Kind::Tcp) }
    }
}

impl From<&TcpListener> for Fd {
    fn from(listener: &TcpListener) -> Fd {
        Fd::of(listener.handle.handle())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.handle().as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.handle().as_raw_fd()
    }
}

impl From<&TcpStream> for Fd {
    fn from(stream: &TcpStream) -> Fd {
        Fd::of(&stream.handle)
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
