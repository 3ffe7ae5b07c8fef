//! Operations on datagram sockets that carry control messages: more than bytes and an address.
//! recvmsg(2), sendmsg(2), cmsg(3).
//!
//! # Safety
//! The buffer and the header belong to the operation, on the heap, and so does the memory for the
//! control messages, which belongs to the header.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

use io_uring::{opcode, squeue};

use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{
    Direction, Handle, Left, MOST_BYTES, Manner, MessageHeader, Op, Operation, Step, Turns, filled,
    needs_room, written,
};
use crate::ring::Completion;
use crate::sys::SockAddr;
use crate::sys::control::{Control, Details, ROOM_OF_DATAGRAM};

/// Explicit congestion notification: the lowest two bits of the traffic class, RFC 3168.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not know it.
    NotEct = 0b00,
    /// The transport knows it; the mark that L4S uses.
    Ect1 = 0b01,
    /// The transport knows it.
    Ect0 = 0b10,
    /// A router on the way was congested.
    Ce = 0b11,
}

impl Ecn {
    fn of_class(class: u8) -> Ecn {
        match class & 0b11 {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }
}

/// How a datagram is sent: where to, from where, and what its packets carry. For
/// [`send_msg`](crate::net::UdpSocket::send_msg) and
/// [`send_batch`](crate::net::UdpSocket::send_batch).
///
/// Whatever is not chosen is left to the socket and the routes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageOptions {
    to: Option<SocketAddr>,
    source: Option<IpAddr>,
    interface: Option<u32>,
    traffic_class: Option<u8>,
    segment_size: Option<u16>,
}

impl MessageOptions {
    /// To the connected peer, with nothing chosen.
    #[must_use]
    pub fn new() -> MessageOptions {
        MessageOptions::default()
    }

    /// The address that it goes to.
    #[must_use]
    pub fn to(mut self, address: SocketAddr) -> MessageOptions {
        self.to = Some(address);
        self
    }

    /// The address of this machine that it comes from: `IP_PKTINFO`, `IPV6_PKTINFO`. A socket that
    /// is bound to no single address answers so from the address that was asked, which
    /// [`MessageInfo::local`] tells.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> MessageOptions {
        self.source = Some(address);
        self
    }

    /// The number of the interface that it goes out by: `IP_PKTINFO`, `IPV6_PKTINFO`.
    #[must_use]
    pub fn interface(mut self, interface: u32) -> MessageOptions {
        self.interface = Some(interface);
        self
    }

    /// The traffic class or type of service, of which the lowest two bits are ECN: `IPV6_TCLASS`,
    /// `IP_TOS`.
    #[must_use]
    pub fn traffic_class(mut self, class: u8) -> MessageOptions {
        self.traffic_class = Some(class);
        self
    }

    /// The lowest two bits of the traffic class; the others are as chosen before, or zero.
    #[must_use]
    pub fn ecn(self, ecn: Ecn) -> MessageOptions {
        let others = self.traffic_class.unwrap_or(0) & !0b11;
        self.traffic_class(others | ecn as u8)
    }

    /// The kernel or the network card cuts the buffer into datagrams of that many bytes, of which
    /// the last may be shorter: `UDP_SEGMENT`, udp(7). At most 64 datagrams, and 65,507 bytes
    /// (65,487 with IPv6) in all.
    #[must_use]
    pub fn segment_size(mut self, size: u16) -> MessageOptions {
        self.segment_size = Some(size);
        self
    }

    /// Writes what needs control messages.
    fn write_to(&self, control: &mut Control) {
        control.clear();
        let (v4, v6) = self.families();
        if self.source.is_some() || self.interface.is_some() {
            let interface = self.interface.unwrap_or(0);
            match self.source.map(|source| source.to_canonical()) {
                Some(IpAddr::V4(source)) => control.push_source_v4(source, interface),
                Some(IpAddr::V6(source)) => control.push_source_v6(source, interface),
                None => {
                    if v4 {
                        control.push_source_v4(Ipv4Addr::UNSPECIFIED, interface);
                    }
                    if v6 {
                        control.push_source_v6(Ipv6Addr::UNSPECIFIED, interface);
                    }
                }
            }
        }
        if let Some(class) = self.traffic_class {
            if v4 {
                control.push_type_of_service(class);
            }
            if v6 {
                control.push_traffic_class(class);
            }
        }
        if let Some(size) = self.segment_size {
            control.push_segment_length(size);
        }
    }

    /// May its packets be those of IPv4, of IPv6? The kernel passes over messages for the other
    /// family.
    fn families(&self) -> (bool, bool) {
        let address =
            self.to.map(|to| to.ip()).or(self.source).map(|address| address.to_canonical());
        address.map_or((true, true), |address| (address.is_ipv4(), address.is_ipv6()))
    }
}

/// What is told of a datagram that was received by [`recv_msg`](crate::net::UdpSocket::recv_msg) or
/// [`messages`](crate::net::UdpSocket::messages).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageInfo {
    /// Where it came from.
    pub from: SocketAddr,
    /// The address that it was sent to; for a broadcast or a group that of the group. Told after
    /// [`set_recv_pktinfo`](crate::net::UdpSocket::set_recv_pktinfo).
    pub local: Option<IpAddr>,
    /// The number of the interface that it came in by. Told with `local`.
    pub interface: Option<u32>,
    /// Its traffic class or type of service. Told after
    /// [`set_recv_tos`](crate::net::UdpSocket::set_recv_tos).
    pub traffic_class: Option<u8>,
    /// These are several datagrams of one sender, each that many bytes long but the last, which may
    /// be shorter. Told after [`set_gro`](crate::net::UdpSocket::set_gro).
    pub segment_size: Option<u16>,
    /// It was longer than its buffer, and the rest of it is lost.
    pub truncated: bool,
    /// More was told than there was room for (`MSG_CTRUNC`), so that some of the above may be
    /// missing. It happens only if other details were asked for past these methods.
    pub control_truncated: bool,
}

impl MessageInfo {
    pub(super) fn new(from: SocketAddr, details: Details) -> MessageInfo {
        MessageInfo {
            from,
            local: details.local,
            interface: details.interface,
            traffic_class: details.traffic_class,
            segment_size: details.segment_length,
            truncated: details.is_cut_off,
            control_truncated: details.lacks_control,
        }
    }

    /// Explicit congestion notification: the lowest two bits of the traffic class.
    #[must_use]
    pub fn ecn(&self) -> Option<Ecn> {
        self.traffic_class.map(Ecn::of_class)
    }
}

/// Receives one datagram and all that is told of it.
pub struct ReceiveMessage<B> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
}

impl<B: IoBufMut> ReceiveMessage<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveMessage<B>> {
        let refused = needs_room(&buffer);
        let header = MessageHeader::for_any_address();
        Op::settled(ReceiveMessage { socket: socket.clone(), buffer, header }, refused)
    }
}

// SAFETY: the buffer, the header and its control messages belong to the operation, on the heap; the
// handle keeps the descriptor open.
unsafe impl<B: IoBufMut> Operation for ReceiveMessage<B> {
    type Output = Result<(usize, MessageInfo, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.capacity().min(MOST_BYTES);
        let buffer = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: length };
        self.header.message_of_one(buffer, true);
        self.header.control().make_room(ROOM_OF_DATAGRAM);
        opcode::RecvMsg::new(self.socket.target(), self.header.with_control()).build()
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        let count = match completion.result() {
            Ok(count) => count,
            error => {
                return Step::Done(filled(self.buffer, error).map(|_| unreachable!("an error")));
            }
        };
        let mut details = Details::of_flags(self.header.message_flags());
        self.header.take_control(|enclosed| details.add(enclosed));
        let address = self.header.into_message_address();
        Step::Done(filled(self.buffer, Ok(count)).and_then(|(count, buffer)| {
            match address.as_socket() {
                Some(from) => Ok((count, MessageInfo::new(from, details), buffer)),
                None => Err(Error::new(
                    io::Error::other("a datagram from an address that is neither IPv4 nor IPv6"),
                    buffer,
                )),
            }
        }))
    }
}

impl<B: IoBufMut> ReceiveMessage<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(mut self) -> Step<Self> {
        let (bytes, info) = match self.socket.lane(Direction::Inbound).take_left() {
            Some(Left::Datagram { bytes, from, details }) => {
                (bytes, MessageInfo::new(from, details))
            }
            Some(Left::Failed(errno)) => {
                let error = io::Error::from_raw_os_error(errno);
                return Step::Done(Err(Error::new(error, self.buffer)));
            }
            _ => return Step::Again(self),
        };
        let count = bytes.len().min(self.buffer.capacity());
        let truncated = info.truncated || count < bytes.len();
        // SAFETY: the buffer belongs to this operation, has room for that many bytes, and is not
        // the lane's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.buffer.as_mut_ptr(), count) };
        let info = MessageInfo { truncated, ..info };
        Step::Done(filled(self.buffer, Ok(count)).map(|(count, buffer)| (count, info, buffer)))
    }

    fn leave(self, completion: Completion) {
        let socket = self.socket.clone();
        let Step::Done(received) = self.complete(completion) else { return };
        let lane = socket.lane(Direction::Inbound);
        match received {
            Ok((count, info, buffer)) => {
                let details = Details {
                    local: info.local,
                    interface: info.interface,
                    traffic_class: info.traffic_class,
                    segment_length: info.segment_size,
                    is_cut_off: info.truncated,
                    lacks_control: info.control_truncated,
                };
                let bytes = buffer.as_init()[..count].to_vec();
                lane.leave(Left::Datagram { bytes, from: info.from, details })
            }
            Err(error) => lane.leave_error(error.get_ref()),
        }
    }
}

/// Sends one datagram with options of its own, or several that are cut from one buffer.
pub struct SendMessage<B> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
    has_address: bool,
}

impl<B: IoBuf> SendMessage<B> {
    pub(crate) fn op<'h>(
        socket: &'h Handle,
        buffer: B,
        options: &MessageOptions,
    ) -> Op<'h, SendMessage<B>> {
        let mut header = match options.to {
            Some(address) => MessageHeader::for_address(&SockAddr::from(address)),
            None => MessageHeader::for_any_address(),
        };
        options.write_to(header.control());
        let has_address = options.to.is_some();
        Op::new(SendMessage { socket: socket.clone(), buffer, header, has_address })
    }
}

// SAFETY: as for `ReceiveMessage`.
unsafe impl<B: IoBuf> Operation for SendMessage<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.init_len().min(MOST_BYTES);
        let buffer =
            libc::iovec { iov_base: self.buffer.as_init_ptr().cast_mut().cast(), iov_len: length };
        self.header.message_of_one(buffer, self.has_address);
        let message = self.header.with_control();
        opcode::SendMsg::new(self.socket.target(), message).flags(libc::MSG_NOSIGNAL as u32).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(written(self.buffer, completion.result()))
    }
}

impl<B: IoBuf> SendMessage<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, Manner::AfterDropped))
    }
}
