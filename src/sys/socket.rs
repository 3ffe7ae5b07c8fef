//! The calls on sockets that the machine makes at once, without a ring. socket(2), bind(2),
//! listen(2), sendmsg(2).

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::Descriptor;

/// A new socket, close-on-exec and blocking: the ring waits for it by polling, and some operations
/// fail on a non-blocking one.
pub(crate) fn open_socket(
    domain: Domain,
    kind: Type,
    protocol: Option<Protocol>,
) -> io::Result<Descriptor> {
    Socket::new_raw(domain, kind.cloexec(), protocol).map(owned)
}

/// Two Unix sockets that are connected to each other; socketpair(2).
pub(crate) fn open_pair(kind: Type) -> io::Result<[Descriptor; 2]> {
    let (a, b) = Socket::pair_raw(Domain::UNIX, kind.cloexec(), None)?;
    Ok([owned(a), owned(b)])
}

fn owned(socket: Socket) -> Descriptor {
    OwnedFd::from(socket).into()
}

/// bind(2).
pub(crate) fn bind(socket: &impl AsFd, address: &SockAddr) -> io::Result<()> {
    SockRef::from(socket).bind(address)
}

/// Lets so many connections wait to be accepted; listen(2).
pub(crate) fn listen(socket: &impl AsFd, backlog: u32) -> io::Result<()> {
    SockRef::from(socket).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// Ends one direction or both; shutdown(2).
pub(crate) fn shut_down(socket: &impl AsFd, how: Shutdown) -> io::Result<()> {
    SockRef::from(socket).shutdown(how)
}

/// Sends what fits of several slices, and nothing later; sendmsg(2). `WouldBlock` if nothing fits.
/// A peer that has gone is `EPIPE`, never a signal.
pub(crate) fn send_at_once(socket: &impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    SockRef::from(socket).send_vectored_with_flags(slices, flags)
}

/// Whether calls on it fail where they would wait; `O_NONBLOCK` in fcntl(2).
pub(crate) fn set_nonblocking(socket: &impl AsFd, nonblocking: bool) -> io::Result<()> {
    SockRef::from(socket).set_nonblocking(nonblocking)
}

/// The address of this end; getsockname(2).
pub(crate) fn local_address(socket: &impl AsFd) -> io::Result<SockAddr> {
    SockRef::from(socket).local_addr()
}

/// The address of the other end; getpeername(2).
pub(crate) fn peer_address(socket: &impl AsFd) -> io::Result<SockAddr> {
    SockRef::from(socket).peer_addr()
}
