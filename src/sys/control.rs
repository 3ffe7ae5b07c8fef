//! Control messages: what goes along with the bytes of sendmsg(2) and comes along with those of
//! recvmsg(2). cmsg(3).
//!
//! One [`Control`] is the memory for those of one call: filled with messages to be sent, or empty
//! with room for what comes. What comes is taken once, right after the call. A descriptor that is
//! among it has an owner from then on, and is closed unless somebody keeps it.
//!
//! # Safety
//! Only the kernel writes into the room of a [`Control`], or a copy of what it wrote. A number
//! there that is called a descriptor was opened by the kernel for this program, and nobody has
//! taken it yet: after the taking the memory is empty.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Descriptor;

/// `struct cmsghdr`: the length with this header, the level and the type.
const HEAD: usize = size_of::<libc::cmsghdr>();

/// Bytes that a message takes whose data has so many; `CMSG_SPACE`.
pub(crate) const fn space(data: usize) -> usize {
    HEAD + data.next_multiple_of(ALIGNMENT)
}

/// What messages lie at multiples of.
const ALIGNMENT: usize = size_of::<usize>();

/// The most descriptors that one message carries; `SCM_MAX_FD`, unix(7).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Room for all that the kernel tells of an internet datagram: where it was sent to, its traffic
/// class (one of each family), and the length of its segments.
pub(crate) const ROOM_OF_DATAGRAM: usize = space(size_of::<libc::in6_pktinfo>())
    + 2 * space(size_of::<c_int>())
    + space(size_of::<c_int>());

/// Who has sent something; `struct ucred`, unix(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) process: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// A control message that has come, as far as it is known here.
#[derive(Debug)]
pub(crate) enum Enclosed {
    /// Descriptors of the sender, close-on-exec if the call had `MSG_CMSG_CLOEXEC`; `SCM_RIGHTS`.
    Descriptors(Vec<Descriptor>),
    /// `SCM_CREDENTIALS`.
    Credentials(Credentials),
    /// The process of the sender; `SCM_PIDFD`.
    Process(Descriptor),
    /// The address here, and the interface that it came in by; `IP_PKTINFO`, `IPV6_PKTINFO`.
    Destination { address: IpAddr, interface: u32 },
    /// Type of service or traffic class: its lowest two bits are ECN; `IP_TOS`, `IPV6_TCLASS`.
    TrafficClass(u8),
    /// These are several datagrams, each that long but perhaps the last; `UDP_GRO`.
    SegmentLength(u16),
}

/// What is told of an internet datagram beside its bytes and where it came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) local: Option<IpAddr>,
    pub(crate) interface: Option<u32>,
    pub(crate) traffic_class: Option<u8>,
    pub(crate) segment_length: Option<u16>,
    /// It was longer than its buffer.
    pub(crate) is_cut_off: bool,
    /// More was told than there was room for.
    pub(crate) lacks_control: bool,
}

impl Details {
    /// Of a message with these `MSG_*` flags.
    pub(crate) fn of_flags(flags: c_int) -> Details {
        Details {
            is_cut_off: flags & libc::MSG_TRUNC != 0,
            lacks_control: flags & libc::MSG_CTRUNC != 0,
            ..Details::default()
        }
    }

    pub(crate) fn add(&mut self, enclosed: Enclosed) {
        match enclosed {
            Enclosed::Destination { address, interface } => {
                (self.local, self.interface) = (Some(address.to_canonical()), Some(interface));
            }
            Enclosed::TrafficClass(class) => self.traffic_class = Some(class),
            Enclosed::SegmentLength(length) => self.segment_length = Some(length),
            Enclosed::Descriptors(_) | Enclosed::Credentials(_) | Enclosed::Process(_) => {}
        }
    }
}

/// The memory for control messages. Its address stays the same while it moves, until it is changed.
#[derive(Default)]
pub(crate) struct Control {
    words: Vec<u64>,
}

impl Control {
    /// Where the messages are, for `msg_control`.
    pub(crate) fn address(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast()
    }

    /// How many bytes there are, for `msg_controllen`.
    pub(crate) fn length(&self) -> usize {
        size_of_val(self.words.as_slice())
    }

    /// Makes it empty; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    /// Makes it empty, with room for that many bytes to come.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        self.words.clear();
        self.words.resize(bytes.div_ceil(ALIGNMENT), 0);
    }

    /// Adds a message to be sent.
    pub(crate) fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        self.words.push((HEAD + data.len()) as u64);
        let [a, b, c, d] = level.to_ne_bytes();
        let [e, f, g, h] = kind.to_ne_bytes();
        self.words.push(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        for piece in data.chunks(ALIGNMENT) {
            let mut word = [0; ALIGNMENT];
            word[..piece.len()].copy_from_slice(piece);
            self.words.push(u64::from_ne_bytes(word));
        }
    }

    /// Gives the receiver these descriptors too; `SCM_RIGHTS`.
    pub(crate) fn push_descriptors<'fd>(
        &mut self,
        descriptors: impl IntoIterator<Item = BorrowedFd<'fd>>,
    ) {
        let numbers = descriptors.into_iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes());
        self.push(libc::SOL_SOCKET, libc::SCM_RIGHTS, &numbers.collect::<Vec<u8>>());
    }

    /// Chooses the address and the interface that an IPv4 datagram is sent from; `IP_PKTINFO`.
    pub(crate) fn push_source_v4(&mut self, address: Ipv4Addr, interface: u32) {
        let mut data = [0; 12];
        data[..4].copy_from_slice(&interface.to_ne_bytes());
        data[4..8].copy_from_slice(&address.octets());
        self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
    }

    /// Chooses the address and the interface that an IPv6 datagram is sent from; `IPV6_PKTINFO`.
    pub(crate) fn push_source_v6(&mut self, address: Ipv6Addr, interface: u32) {
        let mut data = [0; 20];
        data[..16].copy_from_slice(&address.octets());
        data[16..].copy_from_slice(&interface.to_ne_bytes());
        self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
    }

    /// The type of service of an IPv4 datagram; `IP_TOS`.
    pub(crate) fn push_type_of_service(&mut self, class: u8) {
        self.push(libc::IPPROTO_IP, libc::IP_TOS, &c_int::from(class).to_ne_bytes());
    }

    /// The traffic class of an IPv6 datagram; `IPV6_TCLASS`.
    pub(crate) fn push_traffic_class(&mut self, class: u8) {
        self.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &c_int::from(class).to_ne_bytes());
    }

    /// Cuts what is sent into datagrams of that length; `UDP_SEGMENT`, udp(7).
    pub(crate) fn push_segment_length(&mut self, length: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &length.to_ne_bytes());
    }

    /// Hands over what came, of which the call says that it is `length` bytes, and is empty then.
    /// What `keep` does not keep is closed.
    pub(crate) fn take(&mut self, length: usize, keep: impl FnMut(Enclosed)) {
        let length = length.min(self.length());
        let first = self.words.as_ptr().cast::<u8>();
        // SAFETY: the memory belongs to this, and is at least that long.
        let bytes = unsafe { std::slice::from_raw_parts(first, length) };
        // SAFETY: only the kernel has written into this memory since it was made empty, and it is
        // made empty again.
        unsafe { take_from(bytes, keep) };
        self.clear();
    }
}

/// As [`Control::take`], of bytes in a buffer.
///
/// # Safety
/// The kernel has written the bytes, as the control messages of one call, and nobody has taken them
/// yet.
pub(crate) unsafe fn take_from(mut bytes: &[u8], mut keep: impl FnMut(Enclosed)) {
    while let Some((message, rest)) = split_first(bytes) {
        // SAFETY: the caller's promise.
        if let Some(enclosed) = unsafe { message.into_enclosed() } {
            keep(enclosed);
        }
        bytes = rest;
    }
}

/// One control message as it lies in memory.
struct Raw<'m> {
    level: c_int,
    kind: c_int,
    data: &'m [u8],
}

/// The first message, and what follows. `None` at the end, and where no message can be.
fn split_first(bytes: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let (head, _) = bytes.split_at_checked(HEAD)?;
    let length = usize::from_ne_bytes(head[..8].try_into().ok()?);
    let data = bytes.get(HEAD..length)?;
    let number = |at: usize| Some(c_int::from_ne_bytes(head[at..at + 4].try_into().ok()?));
    let rest = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    Some((Raw { level: number(8)?, kind: number(12)?, data }, rest))
}

impl Raw<'_> {
    fn number(&self, at: usize) -> Option<c_int> {
        Some(c_int::from_ne_bytes(self.data.get(at..at + 4)?.try_into().ok()?))
    }

    /// # Safety
    /// The kernel has written it, and nobody has taken it yet.
    unsafe fn into_enclosed(self) -> Option<Enclosed> {
        let unsigned = |at| self.number(at).map(|number| number as u32);
        // SAFETY: the kernel has opened it for this program, the caller says that nobody has taken
        // it yet, and the owner that is made here is the first.
        let own = |number: c_int| unsafe { Descriptor::of_number(number) };
        Some(match (self.level, self.kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                // A list that is cut off names those that were opened; the others never were.
                let numbers = (0..self.data.len() / 4).filter_map(|index| self.number(index * 4));
                Enclosed::Descriptors(numbers.map(own).collect())
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => Enclosed::Credentials(Credentials {
                process: unsigned(0)?,
                user: unsigned(4)?,
                group: unsigned(8)?,
            }),
            // Where there is none, a negative errno stands instead.
            (libc::SOL_SOCKET, SCM_PIDFD) => {
                Enclosed::Process(own(self.number(0).filter(|number| *number >= 0)?))
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // Behind the interface there is the address for an answer, then that in the packet.
                let octets: [u8; 4] = self.data.get(8..12)?.try_into().ok()?;
                Enclosed::Destination {
                    address: IpAddr::V4(Ipv4Addr::from(octets)),
                    interface: unsigned(0)?,
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let octets: [u8; 16] = self.data.get(..16)?.try_into().ok()?;
                Enclosed::Destination {
                    address: IpAddr::V6(Ipv6Addr::from(octets)),
                    interface: unsigned(16)?,
                }
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => Enclosed::TrafficClass(*self.data.first()?),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                Enclosed::TrafficClass(u8::try_from(self.number(0)?).ok()?)
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                Enclosed::SegmentLength(u16::try_from(self.number(0)?).ok()?)
            }
            _ => return None,
        })
    }
}

/// Of the kernel's socket.h.
const SCM_PIDFD: c_int = 4;

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::UdpSocket;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Sends one byte with these messages.
    fn send(socket: &impl AsRawFd, control: &mut Control) -> io::Result<()> {
        let mut byte = 7u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: zeroes are a message header without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = control.address().cast();
        message.msg_controllen = control.length() as _;
        // SAFETY: all that the header names outlives the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
        if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Receives one byte, with so much room for messages: all of them, and whether they were cut
    /// off.
    fn receive(socket: &impl AsRawFd, room: usize) -> (Vec<Enclosed>, bool) {
        let mut control = Control::default();
        control.make_room(room);
        let mut byte = 0u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: zeroes are a message header without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = control.address().cast();
        message.msg_controllen = room as _;
        let flags = libc::MSG_CMSG_CLOEXEC;
        // SAFETY: all that the header names outlives the call.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        assert_eq!((count, byte), (1, 7), "{}", io::Error::last_os_error());
        let mut found = Vec::new();
        control.take(message.msg_controllen as usize, |enclosed| found.push(enclosed));
        assert_eq!(control.length(), 0);
        (found, message.msg_flags & libc::MSG_CTRUNC != 0)
    }

    fn set(socket: &impl AsRawFd, level: c_int, name: c_int) {
        let one: c_int = 1;
        // SAFETY: the value outlives the call.
        let result = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const one).cast(), 4)
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn descriptors_have_an_owner_when_they_come_and_those_cut_off_were_never_opened() {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        let pipes: Vec<_> = (0..3).map(|_| io::pipe().expect("a pipe")).collect();
        for (room, expected) in [(space(12), 3), (space(8), 2), (HEAD + 8, 2), (HEAD, 0), (0, 0)] {
            let mut control = Control::default();
            control.push_descriptors(pipes.iter().map(|(reader, _)| reader.as_fd()));
            assert_eq!(control.length(), space(12));
            send(&theirs, &mut control).expect("sent");
            let (found, is_cut_off) = receive(&ours, room);
            let got: usize = found
                .iter()
                .map(|enclosed| match enclosed {
                    Enclosed::Descriptors(descriptors) => descriptors.len(),
                    other => panic!("{other:?}"),
                })
                .sum();
            // Where the kernel rounds the room up, one more has come.
            assert!(got == expected || room == space(8), "{got} of {room} bytes");
            assert_eq!(is_cut_off, got < 3);
            let numbers: Vec<i32> = found
                .iter()
                .flat_map(|enclosed| match enclosed {
                    Enclosed::Descriptors(descriptors) => {
                        descriptors.iter().map(AsRawFd::as_raw_fd)
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            // SAFETY: the call takes no memory.
            let flags = |number: i32| unsafe { libc::fcntl(number, libc::F_GETFD) };
            assert!(numbers.iter().all(|number| flags(*number) == libc::FD_CLOEXEC));
        }
    }

    #[test]
    fn who_has_sent_it_is_told() {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        set(&ours, libc::SOL_SOCKET, libc::SO_PASSCRED);
        // SAFETY: the calls take no memory.
        let own = unsafe {
            Credentials {
                process: std::process::id(),
                user: libc::geteuid(),
                group: libc::getegid(),
            }
        };
        send(&theirs, &mut Control::default()).expect("sent");
        let (found, is_cut_off) = receive(&ours, space(12));
        assert!(matches!(found[..], [Enclosed::Credentials(from)] if from == own), "{found:?}");
        assert!(!is_cut_off);
    }

    #[test]
    fn what_belongs_to_an_internet_datagram_comes_over_both_families() {
        for (address, level, options) in [
            ("127.0.0.1:0", libc::IPPROTO_IP, [libc::IP_PKTINFO, libc::IP_RECVTOS]),
            ("[::1]:0", libc::IPPROTO_IPV6, [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS]),
        ] {
            let Ok(ours) = UdpSocket::bind(address) else {
                println!("skipped {address}: no such address here");
                continue;
            };
            let theirs = UdpSocket::bind(address).expect("as above");
            let here = ours.local_addr().expect("an address");
            theirs.connect(here).expect("connected");
            options.into_iter().for_each(|option| set(&ours, level, option));
            let mut control = Control::default();
            match theirs.local_addr().expect("an address").ip() {
                IpAddr::V4(source) => {
                    control.push_source_v4(source, 0);
                    control.push_type_of_service(0b1010_1001);
                }
                IpAddr::V6(source) => {
                    control.push_source_v6(source, 0);
                    control.push_traffic_class(0b1010_1001);
                }
            }
            control.push_segment_length(1);
            send(&theirs, &mut control).expect("sent");
            let (found, is_cut_off) = receive(&ours, ROOM_OF_DATAGRAM);
            assert!(!is_cut_off);
            let [Enclosed::Destination { address, interface }, Enclosed::TrafficClass(class)] =
                found[..]
            else {
                panic!("{found:?}")
            };
            assert_eq!((address, class), (here.ip(), 0b1010_1001));
            assert_ne!(interface, 0);
        }
    }

    #[test]
    fn bytes_that_are_no_message_end_the_reading() {
        for bytes in
            [&[][..], &[0; 15], &[0; 64], &[0xff; 64], &[15, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]
        {
            // SAFETY: none of it is a descriptor.
            unsafe { take_from(bytes, |enclosed| panic!("{enclosed:?}")) };
        }
    }
}
