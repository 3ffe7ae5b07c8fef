//! The options of sockets: one row for each, with its level, its name and the type of its value.
//! getsockopt(2), setsockopt(2).

use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use libc::{
    IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY, SO_BROADCAST, SO_DOMAIN, SO_ERROR,
    SO_LINGER, SO_PASSCRED, SO_PEERCRED, SO_PEERPIDFD, SO_REUSEADDR, SO_REUSEPORT, SO_TYPE,
    SOL_SOCKET, TCP_NODELAY,
};
use socket2::{Domain, Type};

use super::calls;

/// Of any socket; socket(7).
pub(crate) const BROADCAST: SocketOption<bool> = row(SOL_SOCKET, SO_BROADCAST);
pub(crate) const DOMAIN: SocketOption<Domain> = row(SOL_SOCKET, SO_DOMAIN);
/// The error that is pending. To ask for it takes it.
pub(crate) const ERROR: SocketOption<Option<io::Error>> = row(SOL_SOCKET, SO_ERROR);
/// How long closing waits until what was sent has arrived, in whole seconds.
pub(crate) const LINGER: SocketOption<Option<Duration>> = row(SOL_SOCKET, SO_LINGER);
/// Does each message come with the credentials of its sender?
pub(crate) const PASS_CREDENTIALS: SocketOption<bool> = row(SOL_SOCKET, SO_PASSCRED);
/// `struct ucred`: the process, the user and the group of the peer.
pub(super) const PEER_CREDENTIALS: SocketOption<[c_int; 3]> = row(SOL_SOCKET, SO_PEERCRED);
/// The number of a new descriptor of the peer's process. To ask for it makes it.
pub(super) const PEER_PIDFD: SocketOption<c_int> = row(SOL_SOCKET, SO_PEERPIDFD);
pub(crate) const REUSE_ADDRESS: SocketOption<bool> = row(SOL_SOCKET, SO_REUSEADDR);
pub(crate) const REUSE_PORT: SocketOption<bool> = row(SOL_SOCKET, SO_REUSEPORT);
pub(crate) const TYPE: SocketOption<Type> = row(SOL_SOCKET, SO_TYPE);

/// Of internet sockets; ip(7), ipv6(7).
pub(crate) const TIME_TO_LIVE: SocketOption<u32> = row(IPPROTO_IP, IP_TTL);
pub(crate) const ONLY_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_V6ONLY);

/// Of TCP; tcp(7).
pub(crate) const NO_DELAY: SocketOption<bool> = row(IPPROTO_TCP, TCP_NODELAY);

/// A row of the table.
#[derive(Debug)]
pub(crate) struct SocketOption<T> {
    level: c_int,
    name: c_int,
    value: PhantomData<T>,
}

const fn row<T>(level: c_int, name: c_int) -> SocketOption<T> {
    SocketOption { level, name, value: PhantomData }
}

impl<T: Value> SocketOption<T> {
    /// Asks the socket for its value.
    pub(crate) fn get(&self, socket: &impl AsFd) -> io::Result<T> {
        let mut words = T::Words::default();
        calls::socket_option(socket.as_fd(), self.level, self.name, words.as_mut())?;
        Ok(T::of_words(words))
    }
}

impl<T: Settable> SocketOption<T> {
    /// Gives the socket a value.
    pub(crate) fn set(&self, socket: &impl AsFd, value: T) -> io::Result<()> {
        calls::set_socket_option(socket.as_fd(), self.level, self.name, value.into_words().as_ref())
    }
}

/// What an option may have as its value: for the kernel, one or more C integers.
pub(crate) trait Value {
    type Words: Default + AsRef<[c_int]> + AsMut<[c_int]>;

    fn of_words(words: Self::Words) -> Self;
}

/// A value that may be set.
pub(crate) trait Settable: Value {
    fn into_words(self) -> Self::Words;
}

impl Value for bool {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> bool {
        word != 0
    }
}

impl Settable for bool {
    fn into_words(self) -> [c_int; 1] {
        [self.into()]
    }
}

impl Value for u32 {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> u32 {
        word as u32
    }
}

impl Settable for u32 {
    fn into_words(self) -> [c_int; 1] {
        [self as c_int]
    }
}

impl Value for c_int {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> c_int {
        word
    }
}

impl Value for [c_int; 3] {
    type Words = [c_int; 3];

    fn of_words(words: [c_int; 3]) -> [c_int; 3] {
        words
    }
}

/// `struct linger`: whether, and how many seconds.
impl Value for Option<Duration> {
    type Words = [c_int; 2];

    fn of_words([is_on, seconds]: [c_int; 2]) -> Option<Duration> {
        (is_on != 0).then(|| Duration::from_secs(seconds as u64))
    }
}

impl Settable for Option<Duration> {
    fn into_words(self) -> [c_int; 2] {
        self.map_or([0, 0], |duration| [1, duration.as_secs() as c_int])
    }
}

/// An errno, 0 for none.
impl Value for Option<io::Error> {
    type Words = [c_int; 1];

    fn of_words([errno]: [c_int; 1]) -> Option<io::Error> {
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }
}

impl Value for Domain {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> Domain {
        word.into()
    }
}

impl Value for Type {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> Type {
        word.into()
    }
}

/// Does closing this socket wait until its bytes are sent?
pub(crate) fn lingers(socket: BorrowedFd<'_>) -> bool {
    matches!(LINGER.get(&socket), Ok(Some(duration)) if !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn options_are_read_as_they_were_set_and_as_socket2_reads_them() {
        let socket = sys::open_socket(Domain::IPV6, Type::STREAM, None).expect("a socket");
        let other = socket2::SockRef::from(&socket);
        for value in [true, false] {
            for (option, others) in [
                (BROADCAST, socket2::Socket::broadcast as fn(&socket2::Socket) -> io::Result<bool>),
                (NO_DELAY, socket2::Socket::tcp_nodelay),
                (ONLY_V6, socket2::Socket::only_v6),
                (REUSE_ADDRESS, socket2::Socket::reuse_address),
                (REUSE_PORT, socket2::Socket::reuse_port),
            ] {
                option.set(&socket, value).expect("it may be set");
                assert_eq!(option.get(&socket).expect("it may be read"), value, "{option:?}");
                assert_eq!(others(&other).expect("it may be read"), value, "{option:?}");
            }
        }
        TIME_TO_LIVE.set(&socket, 7).expect("it may be set");
        assert_eq!(
            (TIME_TO_LIVE.get(&socket).expect("read"), other.ttl_v4().expect("read")),
            (7, 7)
        );
        assert_eq!(DOMAIN.get(&socket).expect("read"), Domain::IPV6);
        assert_eq!(TYPE.get(&socket).expect("read"), Type::STREAM);
        assert!(ERROR.get(&socket).expect("read").is_none());
        for linger in [Some(Duration::from_secs(3)), Some(Duration::ZERO), None] {
            LINGER.set(&socket, linger).expect("it may be set");
            assert_eq!(
                (LINGER.get(&socket).expect("read"), other.linger().expect("read")),
                (linger, linger)
            );
            assert_eq!(lingers(socket.as_fd()), linger == Some(Duration::from_secs(3)));
        }
    }

    #[test]
    fn what_is_no_socket_has_no_options() {
        let (pipe, _writer) = io::pipe().expect("a pipe");
        assert_eq!(
            DOMAIN.get(&pipe).map_err(|error| error.raw_os_error()),
            Err(Some(libc::ENOTSOCK))
        );
        assert_eq!(
            NO_DELAY.set(&pipe, true).map_err(|error| error.raw_os_error()),
            Err(Some(libc::ENOTSOCK))
        );
    }
}
