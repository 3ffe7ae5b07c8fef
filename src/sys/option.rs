//! The options of sockets: one row for each, with its level, its name and the type of its value.
//! getsockopt(2), setsockopt(2).

use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use libc::{
    IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP,
    IP_FREEBIND, IP_MULTICAST_IF, IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_PKTINFO, IP_RECVTOS,
    IP_TOS, IP_TRANSPARENT, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPV6_ADD_MEMBERSHIP,
    IPV6_AUTOFLOWLABEL, IPV6_DROP_MEMBERSHIP, IPV6_FREEBIND, IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_IF, IPV6_MULTICAST_LOOP, IPV6_RECVPKTINFO, IPV6_RECVTCLASS, IPV6_TCLASS,
    IPV6_TRANSPARENT, IPV6_UNICAST_HOPS, IPV6_V6ONLY, SO_BINDTODEVICE, SO_BROADCAST, SO_BUSY_POLL,
    SO_DOMAIN, SO_ERROR, SO_INCOMING_CPU, SO_KEEPALIVE, SO_LINGER, SO_MARK, SO_PASSCRED,
    SO_PEERCRED, SO_PEERPIDFD, SO_PRIORITY, SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
    SO_TYPE, SOL_SOCKET, SOL_UDP, TCP_CONGESTION, TCP_CORK, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT,
    TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY, TCP_QUICKACK, TCP_USER_TIMEOUT, UDP_GRO,
};
use socket2::{Domain, Type};

use super::calls;

/// Of any socket; socket(7).
pub(crate) const BROADCAST: SocketOption<bool> = row(SOL_SOCKET, SO_BROADCAST);
/// How long a receive looks at the network card by itself before it waits.
pub(crate) const BUSY_POLL: SocketOption<Microseconds> = row(SOL_SOCKET, SO_BUSY_POLL);
pub(crate) const DEVICE: SocketOption<Name> = row(SOL_SOCKET, SO_BINDTODEVICE);
pub(crate) const DOMAIN: SocketOption<Domain> = row(SOL_SOCKET, SO_DOMAIN);
/// The error that is pending. To ask for it takes it.
pub(crate) const ERROR: SocketOption<Option<io::Error>> = row(SOL_SOCKET, SO_ERROR);
pub(crate) const INCOMING_CPU: SocketOption<u32> = row(SOL_SOCKET, SO_INCOMING_CPU);
pub(crate) const KEEP_ALIVE: SocketOption<bool> = row(SOL_SOCKET, SO_KEEPALIVE);
/// How long closing waits until what was sent has arrived, in whole seconds.
pub(crate) const LINGER: SocketOption<Option<Duration>> = row(SOL_SOCKET, SO_LINGER);
/// Does each message come with the credentials of its sender?
pub(crate) const PASS_CREDENTIALS: SocketOption<bool> = row(SOL_SOCKET, SO_PASSCRED);
/// `struct ucred`: the process, the user and the group of the peer.
pub(super) const PEER_CREDENTIALS: SocketOption<[c_int; 3]> = row(SOL_SOCKET, SO_PEERCRED);
/// The number of a new descriptor of the peer's process. To ask for it makes it.
pub(super) const PEER_PIDFD: SocketOption<c_int> = row(SOL_SOCKET, SO_PEERPIDFD);
pub(crate) const MARK: SocketOption<u32> = row(SOL_SOCKET, SO_MARK);
pub(crate) const PRIORITY: SocketOption<u32> = row(SOL_SOCKET, SO_PRIORITY);
/// Twice what was asked for, of which the kernel takes half for its own books.
pub(crate) const RECEIVE_BUFFER: SocketOption<u32> = row(SOL_SOCKET, SO_RCVBUF);
pub(crate) const REUSE_ADDRESS: SocketOption<bool> = row(SOL_SOCKET, SO_REUSEADDR);
pub(crate) const REUSE_PORT: SocketOption<bool> = row(SOL_SOCKET, SO_REUSEPORT);
/// As [`RECEIVE_BUFFER`].
pub(crate) const SEND_BUFFER: SocketOption<u32> = row(SOL_SOCKET, SO_SNDBUF);
pub(crate) const TYPE: SocketOption<Type> = row(SOL_SOCKET, SO_TYPE);

/// Of IPv4; ip(7).
pub(crate) const FREE_BIND_V4: SocketOption<bool> = row(IPPROTO_IP, IP_FREEBIND);
pub(crate) const JOIN_V4: SocketOption<GroupV4> = row(IPPROTO_IP, IP_ADD_MEMBERSHIP);
pub(crate) const JOIN_SOURCE_V4: SocketOption<SourceV4> = row(IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP);
pub(crate) const LEAVE_V4: SocketOption<GroupV4> = row(IPPROTO_IP, IP_DROP_MEMBERSHIP);
pub(crate) const LEAVE_SOURCE_V4: SocketOption<SourceV4> =
    row(IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP);
pub(crate) const MULTICAST_INTERFACE_V4: SocketOption<Ipv4Addr> = row(IPPROTO_IP, IP_MULTICAST_IF);
pub(crate) const MULTICAST_LOOP_V4: SocketOption<bool> = row(IPPROTO_IP, IP_MULTICAST_LOOP);
pub(crate) const MULTICAST_TTL_V4: SocketOption<u32> = row(IPPROTO_IP, IP_MULTICAST_TTL);
/// Control messages about each datagram: where it was sent to, and its type of service.
pub(crate) const TELLS_DESTINATION_V4: SocketOption<bool> = row(IPPROTO_IP, IP_PKTINFO);
pub(crate) const TELLS_TYPE_OF_SERVICE: SocketOption<bool> = row(IPPROTO_IP, IP_RECVTOS);
pub(crate) const TIME_TO_LIVE: SocketOption<u32> = row(IPPROTO_IP, IP_TTL);
pub(crate) const TRANSPARENT_V4: SocketOption<bool> = row(IPPROTO_IP, IP_TRANSPARENT);
pub(crate) const TYPE_OF_SERVICE: SocketOption<u32> = row(IPPROTO_IP, IP_TOS);

/// Of IPv6; ipv6(7).
pub(crate) const AUTO_FLOW_LABEL: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL);
pub(crate) const FLOW_LABEL: SocketOption<FlowLabel> = row(IPPROTO_IPV6, IPV6_FLOWLABEL_MGR);
pub(crate) const FREE_BIND_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_FREEBIND);
pub(crate) const HOPS_V6: SocketOption<u32> = row(IPPROTO_IPV6, IPV6_UNICAST_HOPS);
pub(crate) const JOIN_V6: SocketOption<GroupV6> = row(IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP);
pub(crate) const JOIN_SOURCE_V6: SocketOption<SourceV6> =
    row(IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP);
pub(crate) const LEAVE_V6: SocketOption<GroupV6> = row(IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP);
pub(crate) const LEAVE_SOURCE_V6: SocketOption<SourceV6> =
    row(IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP);
pub(crate) const MULTICAST_HOPS_V6: SocketOption<u32> = row(IPPROTO_IPV6, IPV6_MULTICAST_HOPS);
pub(crate) const MULTICAST_INTERFACE_V6: SocketOption<u32> = row(IPPROTO_IPV6, IPV6_MULTICAST_IF);
pub(crate) const MULTICAST_LOOP_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_MULTICAST_LOOP);
pub(crate) const ONLY_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_V6ONLY);
/// Are flow labels that an address names used?
pub(crate) const SENDS_FLOW_LABEL: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_FLOWINFO_SEND);
pub(crate) const TELLS_DESTINATION_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_RECVPKTINFO);
pub(crate) const TELLS_TRAFFIC_CLASS: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_RECVTCLASS);
pub(crate) const TRAFFIC_CLASS: SocketOption<u32> = row(IPPROTO_IPV6, IPV6_TCLASS);
pub(crate) const TRANSPARENT_V6: SocketOption<bool> = row(IPPROTO_IPV6, IPV6_TRANSPARENT);

/// Of TCP; tcp(7).
pub(crate) const CONGESTION: SocketOption<Name> = row(IPPROTO_TCP, TCP_CONGESTION);
pub(crate) const CORK: SocketOption<bool> = row(IPPROTO_TCP, TCP_CORK);
/// How many connections may wait that carried data in their first packet.
pub(crate) const FAST_OPEN: SocketOption<u32> = row(IPPROTO_TCP, TCP_FASTOPEN);
pub(crate) const FAST_OPEN_CONNECT: SocketOption<bool> = row(IPPROTO_TCP, TCP_FASTOPEN_CONNECT);
pub(crate) const KEEP_ALIVE_INTERVAL: SocketOption<Seconds> = row(IPPROTO_TCP, TCP_KEEPINTVL);
pub(crate) const KEEP_ALIVE_RETRIES: SocketOption<u32> = row(IPPROTO_TCP, TCP_KEEPCNT);
pub(crate) const KEEP_ALIVE_TIME: SocketOption<Seconds> = row(IPPROTO_TCP, TCP_KEEPIDLE);
pub(crate) const NO_DELAY: SocketOption<bool> = row(IPPROTO_TCP, TCP_NODELAY);
pub(crate) const QUICK_ACK: SocketOption<bool> = row(IPPROTO_TCP, TCP_QUICKACK);
pub(crate) const USER_TIMEOUT: SocketOption<Milliseconds> = row(IPPROTO_TCP, TCP_USER_TIMEOUT);

/// Of UDP; udp(7).
pub(crate) const COALESCES: SocketOption<bool> = row(SOL_UDP, UDP_GRO);

/// Of the kernel's in6.h.
const IPV6_FLOWLABEL_MGR: c_int = 32;
const IPV6_FLOWINFO_SEND: c_int = 33;
/// Of the kernel's in.h; RFC 3678.
const MCAST_JOIN_SOURCE_GROUP: c_int = 46;
const MCAST_LEAVE_SOURCE_GROUP: c_int = 47;

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

/// What an option may be set to.
pub(crate) trait Settable {
    type Set: AsRef<[c_int]>;

    fn into_words(self) -> Self::Set;
}

impl Value for bool {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> bool {
        word != 0
    }
}

impl Settable for bool {
    type Set = [c_int; 1];

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
    type Set = [c_int; 1];

    fn into_words(self) -> [c_int; 1] {
        [self as c_int]
    }
}

/// Declares the lengths of time that options have, each in its unit.
macro_rules! durations {
    ($($name:ident: $from:ident, $unit:expr;)*) => {$(
        /// The value of an option of that unit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) Duration);

        impl Value for $name {
            type Words = [c_int; 1];

            fn of_words([word]: [c_int; 1]) -> $name {
                $name(Duration::$from(word as u32 as u64))
            }
        }

        impl Settable for $name {
            type Set = [c_int; 1];

            /// Rounded up, since 0 means something else; at most what a C integer holds.
            fn into_words(self) -> [c_int; 1] {
                [c_int::try_from(self.0.as_nanos().div_ceil($unit)).unwrap_or(c_int::MAX)]
            }
        }
    )*};
}

durations! {
    Seconds: from_secs, 1_000_000_000;
    Milliseconds: from_millis, 1_000_000;
    Microseconds: from_micros, 1_000;
}

/// The name of an interface or of a way to control congestion: at most 15 bytes, then zeroes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Name([u8; 16]);

impl Name {
    /// `None`: too long, or with a zero inside.
    pub(crate) fn new(name: &[u8]) -> Option<Name> {
        let mut bytes = [0; 16];
        bytes[..15].get_mut(..name.len())?.copy_from_slice(name);
        (!name.contains(&0)).then_some(Name(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl Value for Name {
    type Words = [c_int; 4];

    fn of_words(words: [c_int; 4]) -> Name {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(words.map(c_int::to_ne_bytes).as_flattened());
        Name(bytes)
    }
}

impl Settable for Name {
    type Set = [c_int; 4];

    fn into_words(self) -> [c_int; 4] {
        into_words(&self.0)
    }
}

impl Value for Ipv4Addr {
    type Words = [c_int; 1];

    fn of_words([word]: [c_int; 1]) -> Ipv4Addr {
        word.to_ne_bytes().into()
    }
}

impl Settable for Ipv4Addr {
    type Set = [c_int; 1];

    fn into_words(self) -> [c_int; 1] {
        into_words(&self.octets())
    }
}

/// A group, and the address of an interface; `struct ip_mreq`.
#[derive(Debug)]
pub(crate) struct GroupV4(pub(crate) Ipv4Addr, pub(crate) Ipv4Addr);

impl Settable for GroupV4 {
    type Set = [c_int; 2];

    fn into_words(self) -> [c_int; 2] {
        into_words([self.0.octets(), self.1.octets()].as_flattened())
    }
}

/// A group, the address of an interface, and who sends; `struct ip_mreq_source`.
#[derive(Debug)]
pub(crate) struct SourceV4(pub(crate) Ipv4Addr, pub(crate) Ipv4Addr, pub(crate) Ipv4Addr);

impl Settable for SourceV4 {
    type Set = [c_int; 3];

    fn into_words(self) -> [c_int; 3] {
        into_words([self.0.octets(), self.1.octets(), self.2.octets()].as_flattened())
    }
}

/// A group, and the number of an interface; `struct ipv6_mreq`.
#[derive(Debug)]
pub(crate) struct GroupV6(pub(crate) Ipv6Addr, pub(crate) u32);

impl Settable for GroupV6 {
    type Set = [c_int; 5];

    fn into_words(self) -> [c_int; 5] {
        let [a, b, c, d] = into_words(&self.0.octets());
        [a, b, c, d, self.1 as c_int]
    }
}

/// A group, the number of an interface, and who sends; `struct group_source_req`.
#[derive(Debug)]
pub(crate) struct SourceV6(pub(crate) Ipv6Addr, pub(crate) u32, pub(crate) Ipv6Addr);

impl Settable for SourceV6 {
    type Set = [c_int; 66];

    fn into_words(self) -> [c_int; 66] {
        let mut words = [0; 66];
        words[0] = self.1 as c_int;
        // The addresses are aligned as 64-bit numbers, and the kernel's room for one is 128 bytes.
        for (first, address) in [(2, self.0), (34, self.2)] {
            [words[first]] =
                into_words([libc::AF_INET6 as u16, 0].map(u16::to_ne_bytes).as_flattened());
            words[first + 2..first + 6].copy_from_slice(&into_words::<4>(&address.octets()));
        }
        words
    }
}

/// A flow label that anybody may use, for packets to an address; `struct in6_flowlabel_req`.
#[derive(Debug)]
pub(crate) struct FlowLabel(pub(crate) u32, pub(crate) Ipv6Addr);

impl Settable for FlowLabel {
    type Set = [c_int; 8];

    fn into_words(self) -> [c_int; 8] {
        const GET: u8 = 0;
        const ANYBODY: u8 = 255;
        const CREATE: u16 = 1;
        let [a, b, c, d] = into_words(&self.1.octets());
        let [create, more] = CREATE.to_ne_bytes();
        // Behind them are two times of leases, which the kernel chooses for 0.
        let [how] = into_words(&[GET, ANYBODY, create, more]);
        [a, b, c, d, self.0.to_be() as c_int, how, 0, 0]
    }
}

/// Bytes as they lie in memory.
fn into_words<const WORDS: usize>(bytes: &[u8]) -> [c_int; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = c_int::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
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
    type Set = [c_int; 2];

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
    fn memberships_lie_in_memory_as_the_kernel_wants_them() {
        let [a, b, c] = [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let bytes =
            |words: &[c_int]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        assert_eq!(bytes(&GroupV4(a, b).into_words()), [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(size_of::<libc::ip_mreq>(), 8);
        let source = SourceV4(a, b, c).into_words();
        assert_eq!(bytes(&source), [10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3]);
        assert_eq!(size_of::<libc::ip_mreq_source>(), 12);
        let group: Ipv6Addr = "ff02::1234".parse().expect("an address");
        let words = bytes(&GroupV6(group, 7).into_words());
        assert_eq!((&words[..16], &words[16..]), (&group.octets()[..], &7u32.to_ne_bytes()[..]));
        assert_eq!(size_of::<libc::ipv6_mreq>(), words.len());
        let source: Ipv6Addr = "fd00::9".parse().expect("an address");
        let words = bytes(&SourceV6(group, 7, source).into_words());
        let storage = size_of::<libc::sockaddr_storage>();
        assert_eq!(words.len(), 8 + 2 * storage);
        assert_eq!(words[..4], 7u32.to_ne_bytes());
        for (start, address) in [(8, group), (8 + storage, source)] {
            assert_eq!(words[start..start + 2], (libc::AF_INET6 as u16).to_ne_bytes());
            assert_eq!(words[start + 8..start + 24], address.octets());
        }
    }

    #[test]
    fn times_are_rounded_up_and_names_have_fifteen_bytes() {
        for (time, seconds, milliseconds) in [
            (Duration::ZERO, 0, 0),
            (Duration::from_nanos(1), 1, 1),
            (Duration::from_millis(1000), 1, 1000),
            (Duration::from_micros(1_000_001), 2, 1001),
            (Duration::MAX, c_int::MAX, c_int::MAX),
        ] {
            assert_eq!(Seconds(time).into_words(), [seconds]);
            assert_eq!(Milliseconds(time).into_words(), [milliseconds]);
        }
        for name in [&b""[..], b"lo", b"fifteen bytes.."] {
            let name_there = Name::of_words(Name::new(name).expect("a name").into_words());
            assert_eq!(name_there.as_bytes(), name);
        }
        assert!(Name::new(b"sixteen bytes...").is_none() && Name::new(b"a\0b").is_none());
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
