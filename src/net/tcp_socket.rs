//! TCP sockets that are neither connected nor listen yet; tcp(7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::address::not_internet;
use super::adopt::{Kind, adopt_descriptor};
use super::options::{internet_options, tcp_options};
use super::tcp::{TcpListener, TcpStream};
use crate::inflight::Resource;
use crate::op::accept::Listening;
use crate::op::socket::Connect;
use crate::sys::{self, Descriptor, Domain, Protocol, SockAddr, Type, option};

/// A TCP socket that is neither connected nor listens yet, to set its options before it does.
///
/// [`TcpStream::connect`] and [`TcpListener::bind`] make a socket for each address until one works.
/// This is one socket of one family, for one address. [`ListenOptions`](super::ListenOptions) lies
/// between: it looks up names and tries all addresses, and knows the choices of listeners only.
///
/// All methods but `connect` are system calls that do not wait.
///
/// ```
/// use annulus::net::{TcpListener, TcpSocket};
///
/// # annulus::block_on(async {
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.bind(([127, 0, 0, 1], 0).into())?;
/// let listener: TcpListener = socket.listen(1024)?;
///
/// let socket = TcpSocket::new_v4()?;
/// socket.set_nodelay(true)?;
/// socket.bind(([127, 0, 0, 1], 0).into())?; // it has a port before it connects
/// let stream = socket.connect(listener.local_addr()?).await?;
/// assert!(stream.nodelay()?);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    socket: Descriptor,
}

impl TcpSocket {
    /// A socket for IPv4; socket(2).
    ///
    /// # Errors
    /// The kernel's, for example `EMFILE`.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV4)
    }

    /// A socket for IPv6; socket(2).
    ///
    /// # Errors
    /// The kernel's, for example `EMFILE`, or `EAFNOSUPPORT` where there is no IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV6)
    }

    fn new(domain: Domain) -> io::Result<TcpSocket> {
        let socket = sys::open_socket(domain, Type::STREAM, Some(Protocol::TCP))?;
        Ok(TcpSocket { socket })
    }

    /// Takes over a socket of std's, which need not be connected. It may be blocking or not, and
    /// stays so.
    ///
    /// # Errors
    /// `InvalidInput` for a socket of another domain or type, and the error says which type fits;
    /// else the kernel's. The socket is closed then.
    pub fn from_std_stream(stream: std::net::TcpStream) -> io::Result<TcpSocket> {
        Ok(TcpSocket { socket: adopt_descriptor(stream, Kind::Tcp)? })
    }

    /// Chooses the address of this end; bind(2). Port 0 lets the kernel choose.
    ///
    /// # Errors
    /// The kernel's, for example `AddrInUse`, or `AddrNotAvailable` for an address that no
    /// interface has.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        sys::bind(&self.socket, &SockAddr::from(address))
    }

    /// Connects to an address; connect(2).
    ///
    /// If the future is dropped, its socket is closed.
    ///
    /// # Errors
    /// The kernel's, for example `ConnectionRefused`. The socket is closed then.
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let handle = Resource::new(self.socket);
        Connect::op(&handle, &SockAddr::from(address)).await?;
        Ok(TcpStream::connected(handle))
    }

    /// Lets so many connections wait to be accepted; listen(2). At most `net.core.somaxconn` may.
    ///
    /// # Errors
    /// The kernel's. The socket is closed then.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        sys::listen(&self.socket, backlog)?;
        Ok(TcpListener::listening(Listening::of_own(self.socket)?))
    }

    /// The address of this end: port 0 before it has one.
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

    super::options::accessors! {
        /// Binds even while connections of an earlier listener linger: `SO_REUSEADDR`, socket(7).
        set_reuseaddr;
        /// May it be bound while connections of an earlier listener linger?
        reuseaddr: bool = REUSE_ADDRESS;

        /// Lets several sockets share the port, between which the kernel spreads the connections:
        /// `SO_REUSEPORT`, socket(7).
        set_reuseport;
        /// May several sockets share the port?
        reuseport: bool = REUSE_PORT;

        /// Sends the first write with the first packet of the connection, if the kernel knows the
        /// peer: `TCP_FASTOPEN_CONNECT`. `connect` then ends at once, and the first write tells
        /// whether somebody listens.
        set_fastopen_connect;
        /// Is the first write sent with the first packet?
        fastopen_connect: bool = FAST_OPEN_CONNECT;

        /// How many connections may wait whose first packet carried data: `TCP_FASTOPEN`, tcp(7).
        /// To be set before `listen`. `net.ipv4.tcp_fastopen` must allow it.
        set_fastopen;
        /// How many connections may wait whose first packet carried data.
        fastopen: u32 = FAST_OPEN;
    }

    internet_options!();
    tcp_options!();
}

impl From<TcpSocket> for OwnedFd {
    fn from(socket: TcpSocket) -> OwnedFd {
        socket.socket.into()
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TcpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
