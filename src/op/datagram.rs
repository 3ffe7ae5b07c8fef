//! Operations on datagram sockets that carry an address. recvmsg(2), sendmsg(2).
//!
//! # Safety
//! The buffer and the header belong to the operation, on the heap.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::ptr;

use crate::sys::SockAddr;
use io_uring::{opcode, squeue};

use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{
    Direction, Handle, Left, MOST_BYTES, Manner, MessageHeader, Op, Operation, Step, Turns, filled,
    needs_room, written,
};
use crate::ring::Completion;
use crate::sys::control::Details;

/// Receives one datagram and says where it came from. What the buffer has no room for is lost.
pub struct ReceiveFrom<B> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
}

impl<B: IoBufMut> ReceiveFrom<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveFrom<B>> {
        let refused = needs_room(&buffer);
        Op::settled(ReceiveFrom::new(socket, buffer), refused)
    }

    fn new(socket: &Handle, buffer: B) -> ReceiveFrom<B> {
        ReceiveFrom { socket: socket.clone(), buffer, header: MessageHeader::for_any_address() }
    }

    /// Its header, with its buffer and room for the address.
    fn message(&mut self) -> *mut libc::msghdr {
        let length = self.buffer.capacity().min(MOST_BYTES);
        let buffer = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: length };
        self.header.message_of_one(buffer, true)
    }
}

// SAFETY: the buffer and the header belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl<B: IoBufMut> Operation for ReceiveFrom<B> {
    type Output = Result<(usize, SocketAddr, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let message = self.message();
        opcode::RecvMsg::new(self.socket.target(), message).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let address = self.header.into_message_address();
        let received = filled(self.buffer, completion.result());
        Step::Done(received.and_then(|(count, buffer)| match address.as_socket() {
            Some(address) => Ok((count, address, buffer)),
            None => Err(Error::new(
                io::Error::other("a datagram from an address that is neither IPv4 nor IPv6"),
                buffer,
            )),
        }))
    }
}

impl<B: IoBufMut> ReceiveFrom<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(self) -> Step<Self> {
        let left = self.socket.lane(Direction::Inbound).take_left();
        self.put(left)
    }

    /// Puts what is left into the buffer.
    fn put(mut self, left: Option<Left>) -> Step<Self> {
        let (bytes, from) = match left {
            Some(Left::Datagram { bytes, from, .. }) => (bytes, from),
            Some(Left::Failed(errno)) => {
                return Step::Done(Err(Error::new(
                    io::Error::from_raw_os_error(errno),
                    self.buffer,
                )));
            }
            _ => return Step::Again(self),
        };
        let count = bytes.len().min(self.buffer.capacity());
        // SAFETY: the buffer belongs to this operation, has room for that many bytes, and is not
        // the lane's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.buffer.as_mut_ptr(), count) };
        Step::Done(filled(self.buffer, Ok(count)).map(|(count, buffer)| (count, from, buffer)))
    }

    fn leave(self, completion: Completion) {
        let socket = self.socket.clone();
        let details = Details::of_flags(self.header.message_flags());
        let Step::Done(received) = self.complete(completion) else { return };
        let lane = socket.lane(Direction::Inbound);
        match received {
            Ok((count, from, buffer)) => {
                let bytes = buffer.as_init()[..count].to_vec();
                lane.leave(Left::Datagram { bytes, from, details })
            }
            Err(error) => lane.leave_error(error.get_ref()),
        }
    }
}

/// As [`ReceiveFrom`], for those who know where it comes from.
pub struct ReceiveDatagram<B>(ReceiveFrom<B>);

impl<B: IoBufMut> ReceiveDatagram<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveDatagram<B>> {
        let refused = needs_room(&buffer);
        Op::settled(ReceiveDatagram(ReceiveFrom::new(socket, buffer)), refused)
    }

    fn without_address(step: Step<ReceiveFrom<B>>) -> Step<Self> {
        match step {
            Step::Done(received) => Step::Done(received.map(|(count, _, buffer)| (count, buffer))),
            Step::Again(operation) => Step::Again(ReceiveDatagram(operation)),
        }
    }
}

// SAFETY: as for `ReceiveFrom`, which it is.
unsafe impl<B: IoBufMut> Operation for ReceiveDatagram<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        self.0.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Self::without_address(self.0.complete(completion))
    }
}

impl<B: IoBufMut> ReceiveDatagram<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.0.lane()
    }

    fn claim(self) -> Step<Self> {
        Self::without_address(self.0.claim())
    }

    fn leave(self, completion: Completion) {
        self.0.leave(completion);
    }
}

/// Looks at the next datagram, which stays for the next receive.
pub struct PeekFrom<B>(ReceiveFrom<B>);

impl<B: IoBufMut> PeekFrom<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, PeekFrom<B>> {
        let refused = needs_room(&buffer);
        Op::settled(PeekFrom(ReceiveFrom::new(socket, buffer)), refused)
    }

    fn of(step: Step<ReceiveFrom<B>>) -> Step<Self> {
        match step {
            Step::Done(received) => Step::Done(received),
            Step::Again(operation) => Step::Again(PeekFrom(operation)),
        }
    }
}

// SAFETY: as for `ReceiveFrom`, which it is.
unsafe impl<B: IoBufMut> Operation for PeekFrom<B> {
    type Output = Result<(usize, SocketAddr, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let message = self.0.message();
        opcode::RecvMsg::new(self.0.socket.target(), message).flags(libc::MSG_PEEK as u32).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Self::of(self.0.complete(completion))
    }
}

impl<B: IoBufMut> PeekFrom<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.0.lane()
    }

    fn claim(self) -> Step<Self> {
        let left = self.0.socket.lane(Direction::Inbound).look_at_left(|left| match left {
            Left::Datagram { bytes, from, details } => {
                Some(Left::Datagram { bytes: bytes.clone(), from: *from, details: *details })
            }
            Left::Failed(errno) => Some(Left::Failed(*errno)),
            _ => None,
        });
        Self::of(self.0.put(left.flatten()))
    }

    /// The datagram is in the socket still.
    fn leave(self, completion: Completion) {
        if let Err(error) = completion.result() {
            self.0.socket.lane(Direction::Inbound).leave_error(&error);
        }
    }
}

/// As [`PeekFrom`], for those who know where it comes from.
pub struct PeekDatagram<B>(PeekFrom<B>);

impl<B: IoBufMut> PeekDatagram<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, PeekDatagram<B>> {
        let refused = needs_room(&buffer);
        Op::settled(PeekDatagram(PeekFrom(ReceiveFrom::new(socket, buffer))), refused)
    }

    fn without_address(step: Step<PeekFrom<B>>) -> Step<Self> {
        match step {
            Step::Done(received) => Step::Done(received.map(|(count, _, buffer)| (count, buffer))),
            Step::Again(operation) => Step::Again(PeekDatagram(operation)),
        }
    }
}

// SAFETY: as for `ReceiveFrom`, which it is.
unsafe impl<B: IoBufMut> Operation for PeekDatagram<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        self.0.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Self::without_address(self.0.complete(completion))
    }
}

impl<B: IoBufMut> PeekDatagram<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.0.lane()
    }

    fn claim(self) -> Step<Self> {
        Self::without_address(self.0.claim())
    }

    fn leave(self, completion: Completion) {
        self.0.leave(completion);
    }
}

/// Sends one datagram to an address.
pub struct SendTo<B> {
    socket: Handle,
    buffer: B,
    header: MessageHeader,
}

impl<B: IoBuf> SendTo<B> {
    pub(crate) fn op(socket: &Handle, buffer: B, address: SocketAddr) -> Op<'_, SendTo<B>> {
        let header = MessageHeader::for_address(&SockAddr::from(address));
        Op::new(SendTo { socket: socket.clone(), buffer, header })
    }
}

// SAFETY: as for `ReceiveFrom`.
unsafe impl<B: IoBuf> Operation for SendTo<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.init_len().min(MOST_BYTES);
        let buffer =
            libc::iovec { iov_base: self.buffer.as_init_ptr().cast_mut().cast(), iov_len: length };
        let message = self.header.message_of_one(buffer, true);
        opcode::SendMsg::new(self.socket.target(), message).flags(libc::MSG_NOSIGNAL as u32).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(written(self.buffer, completion.result()))
    }
}

impl<B: IoBuf> SendTo<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, Manner::AfterDropped))
    }
}
