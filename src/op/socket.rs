//! Operations on connected sockets: connect, receive, send, shut down. connect(2), recv(2),
//! send(2), shutdown(2).
//!
//! # Safety
//! Buffers belong to the operations, and `IoBuf` promises that their memory stays where it is while
//! they move.
#![allow(unsafe_code)]

use std::io;
use std::net;

use crate::sys::SockAddr;
use io_uring::{opcode, squeue};

use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{
    Direction, Habits, Handle, Link, MOST_BYTES, Manner, MessageHeader, Op, Operation, Progress,
    Step, Turns, advance, claim, claim_exact, clamp, end_of_file, filled, incomplete, leave,
    leave_received, needs_room, peek, write_zero, written,
};
use crate::ring::Completion;

/// Connects a socket. Its handle is with the operation, so that a dropped attempt closes it.
pub(crate) struct Connect {
    socket: Handle,
    header: MessageHeader,
}

impl Connect {
    pub(crate) fn op(socket: &Handle, address: &SockAddr) -> Op<'static, Connect> {
        Op::new(Connect { socket: socket.clone(), header: MessageHeader::for_address(address) })
    }
}

// SAFETY: the address lies in the operation's header, on the heap; the handle keeps the descriptor
// open.
unsafe impl Operation for Connect {
    type Output = io::Result<()>;

    // Interrupted, the attempt goes on by itself, and a second one would only say so.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let address = self.header.address();
        opcode::Connect::new(self.socket.target(), address, self.header.address_length()).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Link for Connect {
    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

/// One receive. 0 bytes are the end of the stream.
pub struct Receive<B> {
    socket: Handle,
    buffer: B,
}

impl<B: IoBufMut> Receive<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, Receive<B>> {
        let refused = needs_room(&buffer);
        Op::settled(Receive { socket: socket.clone(), buffer }, refused)
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBufMut` keeps; the handle
// keeps the descriptor open.
unsafe impl<B: IoBufMut> Operation for Receive<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.capacity());
        opcode::Recv::new(self.socket.target(), self.buffer.as_mut_ptr(), length).build()
    }

    #[inline(always)]
    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(filled(self.buffer, completion.result()))
    }
}

impl<B: IoBufMut> Receive<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(mut self) -> Step<Self> {
        match claim(&self.socket, &mut self.buffer, 0) {
            Some(result) => Step::Done(filled(self.buffer, result)),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        leave(&self.socket, self.buffer, 0, completion);
    }
}

impl<B: IoBufMut> Link for Receive<B> {
    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }

    fn source(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn leave_output(source: &Handle, output: Self::Output) {
        if let Ok((count, buffer)) = output {
            leave_received(source, buffer, count);
        }
    }
}

/// Looks at what has come, which stays for the next receive.
pub struct Peek<B>(Receive<B>);

impl<B: IoBufMut> Peek<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, Peek<B>> {
        let refused = needs_room(&buffer);
        Op::settled(Peek(Receive { socket: socket.clone(), buffer }), refused)
    }
}

// SAFETY: as for `Receive`, which it is.
unsafe impl<B: IoBufMut> Operation for Peek<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let Peek(Receive { socket, buffer }) = self;
        let length = clamp(buffer.capacity());
        opcode::Recv::new(socket.target(), buffer.as_mut_ptr(), length)
            .flags(libc::MSG_PEEK)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(filled(self.0.buffer, completion.result()))
    }
}

impl<B: IoBufMut> Peek<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.0.lane()
    }

    /// Looks at what is left.
    fn claim(self) -> Step<Self> {
        let Peek(Receive { socket, mut buffer }) = self;
        match peek(&socket, &mut buffer) {
            Some(result) => Step::Done(filled(buffer, result)),
            None => Step::Again(Peek(Receive { socket, buffer })),
        }
    }

    /// The bytes are in the socket still.
    fn leave(self, completion: Completion) {
        if let Err(error) = completion.result() {
            self.0.socket.lane(Direction::Inbound).leave_error(&error);
        }
    }
}

/// Receives until the buffer is full.
pub struct ReceiveExact<B> {
    socket: Handle,
    buffer: B,
    filled: usize,
}

impl<B: IoBufMut> ReceiveExact<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveExact<B>> {
        // Nothing to wait for; the kernel would wait for a byte all the same.
        let nothing = (buffer.capacity() == 0).then_some(0);
        Op::settled(ReceiveExact { socket: socket.clone(), buffer, filled: 0 }, nothing)
    }
}

// SAFETY: as for `Receive`; `filled` never exceeds the capacity, so the address stays within the
// buffer.
unsafe impl<B: IoBufMut> Operation for ReceiveExact<B> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.capacity() - self.filled);
        // SAFETY: `filled` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_mut_ptr().add(self.filled) };
        // Not MSG_WAITALL: when a reset cuts that short, the kernel reports what had come and
        // forgets the error, and the next receive takes the reset for the end of the stream.
        opcode::Recv::new(self.socket.target(), address, length).build()
    }

    #[inline(always)]
    fn complete(mut self, completion: Completion) -> Step<Self> {
        match advance(&mut self.filled, self.buffer.capacity(), completion.result(), end_of_file) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => {
                Step::Done(filled(self.buffer, Ok(self.filled)).map(|(_, buffer)| buffer))
            }
            Progress::Failed(error) => Step::Done(Err(incomplete(self.buffer, self.filled, error))),
        }
    }
}

impl<B: IoBufMut> ReceiveExact<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(mut self) -> Step<Self> {
        match claim_exact(&self.socket, &mut self.buffer, &mut self.filled) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => {
                Step::Done(filled(self.buffer, Ok(self.filled)).map(|(_, buffer)| buffer))
            }
            Progress::Failed(error) => Step::Done(Err(incomplete(self.buffer, self.filled, error))),
        }
    }

    fn leave(self, completion: Completion) {
        leave(&self.socket, self.buffer, self.filled, completion);
    }
}

impl<B: IoBufMut> Link for ReceiveExact<B> {
    const IN_WHOLE: bool = true;

    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn may_be_followed(&self) -> bool {
        self.buffer.capacity() - self.filled <= MOST_BYTES
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }

    fn source(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn leave_output(source: &Handle, output: Self::Output) {
        if let Ok(buffer) = output {
            let count = buffer.init_len();
            leave_received(source, buffer, count);
        }
    }
}

/// One send. A peer that has gone is EPIPE, never a signal.
pub struct Send<B> {
    socket: Handle,
    buffer: B,
    manner: Manner,
}

impl<B: IoBuf> Send<B> {
    /// Sends bytes of a stream.
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, Send<B>> {
        Op::new(Send { socket: socket.clone(), buffer, manner: Manner::Alone })
    }

    /// Sends one datagram: whole or not at all, so several may be under way.
    pub(crate) fn datagram(socket: &Handle, buffer: B) -> Op<'_, Send<B>> {
        Op::new(Send { socket: socket.clone(), buffer, manner: Manner::AfterDropped })
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBuf` keeps; the handle keeps
// the descriptor open.
unsafe impl<B: IoBuf> Operation for Send<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.init_len());
        opcode::Send::new(self.socket.target(), self.buffer.as_init_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build()
    }

    #[inline(always)]
    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(written(self.buffer, completion.result()))
    }
}

impl<B: IoBuf> Send<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, self.manner))
    }
}

impl<B: IoBuf> Link for Send<B> {
    const IN_WHOLE: bool = true;

    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        matches!(output, Ok((count, buffer)) if *count == clamp(buffer.init_len()) as usize)
    }
}

/// Sends until the buffer is through.
pub struct SendAll<B> {
    socket: Handle,
    buffer: B,
    sent: usize,
}

impl<B: IoBuf> SendAll<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, SendAll<B>> {
        Op::new(SendAll { socket: socket.clone(), buffer, sent: 0 })
    }
}

// SAFETY: as for `Send`; `sent` never exceeds the length, so the address stays within the buffer.
unsafe impl<B: IoBuf> Operation for SendAll<B> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.init_len() - self.sent);
        // SAFETY: `sent` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_init_ptr().add(self.sent) };
        // MSG_WAITALL: the kernel itself goes on after a full window, so that one completion is the
        // rule.
        opcode::Send::new(self.socket.target(), address, length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
    }

    #[inline(always)]
    fn complete(mut self, completion: Completion) -> Step<Self> {
        match advance(&mut self.sent, self.buffer.init_len(), completion.result(), write_zero) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => Step::Done(Ok(self.buffer)),
            Progress::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffer).with_transferred(self.sent)))
            }
        }
    }
}

impl<B: IoBuf> SendAll<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, Manner::Alone))
    }

    fn moved(&self) -> usize {
        self.sent
    }
}

impl<B: IoBuf> Link for SendAll<B> {
    const IN_WHOLE: bool = true;

    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn may_be_followed(&self) -> bool {
        self.buffer.init_len() - self.sent <= MOST_BYTES
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

/// Ends one direction of a connection, or both.
pub struct Shutdown {
    socket: Handle,
    how: net::Shutdown,
}

impl Shutdown {
    pub(crate) fn op(socket: &Handle, how: net::Shutdown) -> Op<'_, Shutdown> {
        Op::new(Shutdown { socket: socket.clone(), how })
    }
}

// SAFETY: the entry names no memory; the handle keeps the descriptor open.
unsafe impl Operation for Shutdown {
    type Output = io::Result<()>;

    fn entry(&mut self) -> squeue::Entry {
        let how = match self.how {
            net::Shutdown::Read => libc::SHUT_RD,
            net::Shutdown::Write => libc::SHUT_WR,
            net::Shutdown::Both => libc::SHUT_RDWR,
        };
        opcode::Shutdown::new(self.socket.target_for_worker(), how).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(match completion.result() {
            // The peer has ended or reset the connection: there is nothing left to shut down.
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
            result => result.map(drop),
        })
    }
}

impl Link for Shutdown {
    fn named(&self) -> Option<&Handle> {
        Some(&self.socket)
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}
