//! Unix streams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::credentials::credential_methods;
use super::descriptors::descriptor_methods;
use crate::inflight::{Handle, Resource};
use crate::net::adopt::{Kind, adopt, adopt_surely};
use crate::net::split::{ReadHalf, WriteHalf, split};
use crate::net::stream::{Stream, reading_methods, writing_methods};
use crate::op::accept::Accepted;
use crate::op::custom::Fd;
use crate::op::socket::Connect;
use crate::sys::{self, Descriptor, Domain, SockAddr, Type, option};

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
    /// [`bind`](crate::net::UnixListener::bind).
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_to(&sys::unix_address_at(path.as_ref())?).await
    }

    /// As [`connect`](UnixStream::connect), to an address: a path or a name in the abstract space.
    ///
    /// # Errors
    /// As [`connect`](UnixStream::connect); `InvalidInput` for an unnamed one.
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&sys::kernel_unix_address(address)?).await
    }

    async fn connect_to(address: &SockAddr) -> io::Result<UnixStream> {
        let handle = Resource::new(sys::open_socket(Domain::UNIX, Type::STREAM, None)?);
        Connect::op(&handle, address).await?;
        Ok(UnixStream { handle })
    }

    /// Two streams that are connected to each other; socketpair(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let [a, b] = sys::open_pair(Type::STREAM)?
            .map(|socket| UnixStream { handle: Resource::new(socket) });
        Ok((a, b))
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    reading_methods!();
    writing_methods!();
    descriptor_methods!(true, of_stream);
    credential_methods!();

    /// Takes the stream apart for two tasks. [`ReadHalf::reunite`] puts it together again.
    pub fn into_split(self) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
        split(self)
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

impl Stream for UnixStream {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Accepted for UnixStream {
    type Address = SocketAddr;

    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(UnixStream, SocketAddr)> {
        let stream = UnixStream { handle: Resource::new(socket) };
        Ok((stream, sys::unix_address_of(peer)?))
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

impl From<OwnedFd> for UnixStream {
    /// # Panics
    /// Where [`from_std`](UnixStream::from_std) gives an error.
    #[track_caller]
    fn from(descriptor: OwnedFd) -> UnixStream {
        UnixStream { handle: adopt_surely(descriptor, Kind::Unix) }
    }
}

impl From<&UnixStream> for Fd {
    fn from(stream: &UnixStream) -> Fd {
        Fd::of(&stream.handle)
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
