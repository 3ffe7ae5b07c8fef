//! Streams between a virtual machine and its host; vsock(7).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::adopt::{Kind, adopt, adopt_surely};
use super::split::{ReadHalf, WriteHalf, split};
use super::stream::{Stream, reading_methods, writing_methods};
use crate::inflight::{Handle, Op, Resource};
use crate::op::Incoming;
use crate::op::accept::{Accept, Accepted, Listening};
use crate::op::poll::{Interest, Poll};
use crate::op::socket::Connect;
use crate::sys::{self, Descriptor, Domain, SockAddr, Type, option};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Events of an attempt to connect: few are no end, and none comes without a reason.
const MOST_EVENTS: usize = 1000;

/// The address of one end: a machine, by its context identifier (CID), and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VsockAddr {
    cid: u32,
    port: u32,
}

impl VsockAddr {
    /// Every address of this machine, to bind to; `VMADDR_CID_ANY`.
    pub const CID_ANY: u32 = libc::VMADDR_CID_ANY;
    /// This machine itself, where the kernel has the loopback (Linux 5.6, `vsock_loopback`);
    /// `VMADDR_CID_LOCAL`.
    pub const CID_LOCAL: u32 = libc::VMADDR_CID_LOCAL;
    /// The host, for its guests; `VMADDR_CID_HOST`.
    pub const CID_HOST: u32 = libc::VMADDR_CID_HOST;
    /// Whichever port the kernel chooses, to bind to; `VMADDR_PORT_ANY`.
    pub const PORT_ANY: u32 = libc::VMADDR_PORT_ANY;

    /// A port of a machine.
    pub const fn new(cid: u32, port: u32) -> VsockAddr {
        VsockAddr { cid, port }
    }

    /// The machine.
    pub const fn cid(&self) -> u32 {
        self.cid
    }

    /// The port.
    pub const fn port(&self) -> u32 {
        self.port
    }

    fn to_kernel(self) -> SockAddr {
        SockAddr::vsock(self.cid, self.port)
    }

    fn of_kernel(address: &SockAddr) -> io::Result<VsockAddr> {
        let (cid, port) = address
            .as_vsock_address()
            .ok_or_else(|| io::Error::other("the socket's address is none of vsock"))?;
        Ok(VsockAddr { cid, port })
    }
}

/// As `cid:port`.
impl fmt::Display for VsockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cid, self.port)
    }
}

/// A socket that takes connections from a virtual machine's host, or from its guests.
///
/// ```no_run
/// use annulus::net::{VsockAddr, VsockListener, VsockStream};
///
/// # annulus::block_on(async {
/// let listener = VsockListener::bind(VsockAddr::new(VsockAddr::CID_ANY, 1234))?;
/// let client = VsockStream::connect(VsockAddr::new(VsockAddr::CID_LOCAL, 1234)).await?;
/// let (server, _peer) = listener.accept().await?;
/// client.write_all("ping").await?;
/// assert_eq!(server.read_exact(vec![0; 4]).await?, b"ping");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct VsockListener {
    handle: Listening,
}

impl VsockListener {
    /// Binds to a port and listens.
    ///
    /// # Errors
    /// The kernel's: `AddrInUse`, `AddrNotAvailable` for a CID that is not this machine's,
    /// `PermissionDenied` for a port below 1024, `EAFNOSUPPORT` where the kernel has no vsock.
    pub fn bind(address: VsockAddr) -> io::Result<VsockListener> {
        let socket = sys::open_socket(Domain::VSOCK, Type::STREAM, None)?;
        sys::bind(&socket, &address.to_kernel())?;
        sys::listen(&socket, BACKLOG)?;
        Ok(VsockListener { handle: Listening::of_own(socket)? })
    }

    /// Takes the next connection, with the peer's address; accept(2).
    ///
    /// What was said of [`TcpListener::accept`](super::TcpListener::accept) about dropping and
    /// errors holds here.
    ///
    /// Yields `io::Result<(VsockStream, VsockAddr)>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accept(&self) -> Op<'_, Accept<VsockStream>> {
        Accept::op(self.handle.handle())
    }

    /// The connections as a stream, for ever, without their addresses; see [`Incoming`].
    pub fn incoming(&self) -> Incoming<'_, VsockStream> {
        Incoming::new(self.handle.handle())
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<VsockAddr> {
        VsockAddr::of_kernel(&sys::local_address(self)?)
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
    pub fn from_fd(descriptor: OwnedFd) -> io::Result<VsockListener> {
        Ok(VsockListener { handle: Listening::new(adopt(descriptor, Kind::Vsock)?) })
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    ///
    /// A connection that a dropped accept took is closed: it waited here, not in the kernel.
    pub async fn into_fd(self) -> OwnedFd {
        self.handle.into_descriptor().await.into()
    }
}

/// A connection between a virtual machine and its host.
///
/// What was said of dropping a [`TcpStream`](super::TcpStream) holds here.
#[derive(Debug)]
pub struct VsockStream {
    handle: Resource,
}

impl VsockStream {
    /// Connects to a port of a machine.
    ///
    /// If the future is dropped, its socket is closed.
    ///
    /// # Errors
    /// The kernel's: `ConnectionReset` when nobody listens, `ENODEV` where there is no way to that
    /// machine, `TimedOut`, `EAFNOSUPPORT` where the kernel has no vsock.
    pub async fn connect(address: VsockAddr) -> io::Result<VsockStream> {
        let handle = Resource::new(sys::open_socket(Domain::VSOCK, Type::STREAM, None)?);
        match Connect::op(&handle, &address.to_kernel()).await {
            Err(error) if is_under_way(&error) => until_connected(&handle, error).await?,
            result => result?,
        }
        Ok(VsockStream { handle })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    reading_methods!();
    writing_methods!();

    /// Takes the stream apart for two tasks. [`ReadHalf::reunite`] puts it together again.
    pub fn into_split(self) -> (ReadHalf<VsockStream>, WriteHalf<VsockStream>) {
        split(self)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The kernel's, here and below.
    pub fn local_addr(&self) -> io::Result<VsockAddr> {
        VsockAddr::of_kernel(&sys::local_address(self)?)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` when the connection has ended.
    pub fn peer_addr(&self) -> io::Result<VsockAddr> {
        VsockAddr::of_kernel(&sys::peer_address(self)?)
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
    pub fn from_fd(descriptor: OwnedFd) -> io::Result<VsockStream> {
        Ok(VsockStream { handle: adopt(descriptor, Kind::Vsock)? })
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    ///
    /// Bytes that a dropped read took are not carried over: they waited here, not in the kernel.
    pub async fn into_fd(self) -> OwnedFd {
        self.handle.into_descriptor().await.into()
    }
}

/// The kernel's ring takes the first event of a vsock for the end of the attempt, and that may be
/// no more than that its packet is sent.
fn is_under_way(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EALREADY | libc::EINPROGRESS))
}

/// Waits for the end of an attempt that goes on.
async fn until_connected(socket: &Handle, under_way: io::Error) -> io::Result<()> {
    for _ in 0..MOST_EVENTS {
        if let Some(error) = option::ERROR.get(socket)? {
            return Err(error);
        }
        if sys::peer_address(socket).is_ok() {
            return Ok(());
        }
        Poll::op(socket, Interest::WRITABLE).await?;
    }
    Err(under_way)
}

impl Stream for VsockStream {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Accepted for VsockStream {
    type Address = VsockAddr;

    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(VsockStream, VsockAddr)> {
        let stream = VsockStream { handle: Resource::new(socket) };
        Ok((stream, VsockAddr::of_kernel(peer)?))
    }
}

impl From<OwnedFd> for VsockListener {
    /// # Panics
    /// Where [`from_fd`](VsockListener::from_fd) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> VsockListener {
        VsockListener { handle: Listening::new(adopt_surely(descriptor, Kind::Vsock)) }
    }
}

impl AsFd for VsockListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.handle().as_fd()
    }
}

impl AsRawFd for VsockListener {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.handle().as_raw_fd()
    }
}

impl From<OwnedFd> for VsockStream {
    /// # Panics
    /// Where [`from_fd`](VsockStream::from_fd) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> VsockStream {
        VsockStream { handle: adopt_surely(descriptor, Kind::Vsock) }
    }
}

impl AsFd for VsockStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for VsockStream {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
