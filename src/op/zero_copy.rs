//! Sends whose bytes the kernel does not copy. send_zc(2), sendmsg_zc(2).
//!
//! Such a send has two completions: its result, and the notification that nothing reads the memory
//! any more. The driver joins the two, so here there is one. Turn and descriptor are given up with
//! the result. Where the kernel cannot do it, the send is done again as a plain one.
//!
//! # Safety
//! Buffers, their list and the header belong to the operation, and stay until the notification,
//! which is its last completion.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use crate::sys::SockAddr;
use io_uring::{opcode, squeue, types};

use super::vectored::Vectors;
use crate::buf::{Error, IoBuf, IoBufs};
use crate::inflight::{
    Direction, Habits, Handle, Manner, MessageHeader, Notification, Op, Operation, Progress, Step,
    Turns, advance, clamp, write_zero,
};
use crate::ring::{COMPLETION_COPIED, Completion};

/// `IORING_SEND_ZC_REPORT_USAGE`: the notification says whether the bytes were copied after all.
const REPORT_USAGE: u16 = 1 << 3;

/// What became of a send without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// How many bytes were sent, from the start of the buffer.
    pub count: usize,
    /// The kernel has copied all or some of them after all: the route (the loopback device), the
    /// network card or the kind of socket demands it.
    pub copied: bool,
}

/// How far a send is, and how it goes on.
struct SendProgress {
    /// `None` once only the notification is awaited.
    socket: Option<Handle>,
    manner: Manner,
    sent: usize,
    whole: usize,
    /// Is it to go on until all is sent?
    all: bool,
    /// The kernel has refused to do it without a copy.
    plain: bool,
    copied: bool,
}

/// What a completion means for the send.
enum Outcome {
    Again,
    Done(Sent),
    Failed(io::Error),
}

impl SendProgress {
    fn new(socket: &Handle, manner: Manner, whole: usize, all: bool) -> SendProgress {
        SendProgress {
            socket: Some(socket.clone()),
            manner,
            sent: 0,
            whole,
            all,
            plain: false,
            copied: false,
        }
    }

    fn target(&self) -> types::Fd {
        self.socket.as_ref().expect("nothing is submitted after the last result").target()
    }

    fn flags(&self) -> i32 {
        // MSG_WAITALL as in `SendAll`.
        libc::MSG_NOSIGNAL | if self.all { libc::MSG_WAITALL } else { 0 }
    }

    fn go_on(&mut self, completion: Completion) -> Outcome {
        let result = completion.result();
        let refusal = result.as_ref().err().and_then(io::Error::raw_os_error);
        // No zero copy for this socket, no locked memory left, a kernel that has no report (before
        // 6.2).
        if !self.plain && matches!(refusal, Some(libc::EOPNOTSUPP | libc::ENOMEM | libc::EINVAL)) {
            self.plain = true;
            return Outcome::Again;
        }
        self.copied |= result.is_ok() && (self.plain || completion.flags & COMPLETION_COPIED != 0);
        match advance(&mut self.sent, self.whole, result, write_zero) {
            Progress::Partial if self.all => Outcome::Again,
            Progress::Partial | Progress::Complete => {
                Outcome::Done(Sent { count: self.sent, copied: self.copied })
            }
            Progress::Failed(error) => Outcome::Failed(error),
        }
    }

    fn is_over(&self, result: i32) -> bool {
        usize::try_from(result).is_ok_and(|count| !self.all || self.sent + count >= self.whole)
    }

    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.socket.as_ref().map(|socket| (socket, Direction::Outbound, self.manner))
    }
}

/// One send from one buffer, or as many as it takes.
pub struct SendZeroCopy<B> {
    progress: SendProgress,
    buffer: B,
    /// With the address of a datagram that has one.
    header: Option<MessageHeader>,
}

impl<B: IoBuf> SendZeroCopy<B> {
    fn new(socket: &Handle, buffer: B, manner: Manner, all: bool) -> SendZeroCopy<B> {
        SendZeroCopy {
            progress: SendProgress::new(socket, manner, buffer.init_len(), all),
            buffer,
            header: None,
        }
    }

    /// Sends bytes of a stream.
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, SendZeroCopy<B>> {
        Op::new(SendZeroCopy::new(socket, buffer, Manner::Alone, false))
    }

    /// Sends all bytes to a stream.
    pub(crate) fn all(socket: &Handle, buffer: B) -> Op<'_, SendZeroCopy<B>> {
        Op::new(SendZeroCopy::new(socket, buffer, Manner::Alone, true))
    }

    /// Sends one datagram to the peer of a connected socket.
    pub(crate) fn datagram(socket: &Handle, buffer: B) -> Op<'_, SendZeroCopy<B>> {
        Op::new(SendZeroCopy::new(socket, buffer, Manner::AfterDropped, false))
    }

    /// Sends one datagram to an address.
    pub(crate) fn datagram_to(
        socket: &Handle,
        buffer: B,
        address: SocketAddr,
    ) -> Op<'_, SendZeroCopy<B>> {
        let header = Some(MessageHeader::for_address(&SockAddr::from(address)));
        Op::new(SendZeroCopy {
            header,
            ..SendZeroCopy::new(socket, buffer, Manner::AfterDropped, false)
        })
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBuf` keeps, and so does the
// header; the handle keeps the descriptor open until the first completion. `sent` never exceeds the
// length, so the address stays within the buffer.
unsafe impl<B: IoBuf> Operation for SendZeroCopy<B> {
    type Output = Result<(Sent, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });
    const HABITS: Habits<Self> = Habits {
        notification: Some(Notification { is_over: Self::is_over, release: Self::release }),
        ..Habits::USUAL
    };

    fn entry(&mut self) -> squeue::Entry {
        let (target, flags) = (self.progress.target(), self.progress.flags());
        let length = clamp(self.progress.whole - self.progress.sent);
        // SAFETY: `sent` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_init_ptr().add(self.progress.sent) };
        let header = match (&mut self.header, self.progress.plain) {
            (None, true) => return opcode::Send::new(target, address, length).flags(flags).build(),
            (None, false) => {
                return opcode::SendZc::new(target, address, length)
                    .flags(flags)
                    .zc_flags(REPORT_USAGE)
                    .build();
            }
            (Some(header), _) => header,
        };
        let buffer = libc::iovec { iov_base: address.cast_mut().cast(), iov_len: length as usize };
        let message = header.message_of_one(buffer, true);
        send_message(&self.progress, message)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        match self.progress.go_on(completion) {
            Outcome::Again => Step::Again(self),
            Outcome::Done(sent) => Step::Done(Ok((sent, self.buffer))),
            Outcome::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffer).with_transferred(self.progress.sent)))
            }
        }
    }
}

impl<B: IoBuf> SendZeroCopy<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.progress.lane()
    }

    fn moved(&self) -> usize {
        self.progress.sent
    }

    fn is_over(&self, result: i32) -> bool {
        self.progress.is_over(result)
    }

    fn release(&mut self) -> Option<Handle> {
        self.progress.socket.take()
    }
}

/// sendmsg(2), without a copy as long as the kernel does that.
fn send_message(progress: &SendProgress, message: *const libc::msghdr) -> squeue::Entry {
    let (target, flags) = (progress.target(), progress.flags() as u32);
    if progress.plain {
        return opcode::SendMsg::new(target, message).flags(flags).build();
    }
    opcode::SendMsgZc::new(target, message).flags(flags).ioprio(REPORT_USAGE).build()
}

/// One send from several buffers, or as many as it takes.
pub struct SendVectoredZeroCopy<S> {
    progress: SendProgress,
    buffers: S,
    vectors: Vectors,
    header: MessageHeader,
}

impl<S: IoBufs> SendVectoredZeroCopy<S> {
    fn new(socket: &Handle, buffers: S, all: bool) -> SendVectoredZeroCopy<S> {
        let progress = SendProgress::new(socket, Manner::Alone, buffers.total_len(), all);
        let vectors = Vectors::of_all(&buffers);
        SendVectoredZeroCopy {
            progress,
            buffers,
            vectors,
            header: MessageHeader::for_any_address(),
        }
    }

    /// Sends bytes of a stream.
    pub(crate) fn op(socket: &Handle, buffers: S) -> Op<'_, SendVectoredZeroCopy<S>> {
        Op::new(SendVectoredZeroCopy::new(socket, buffers, false))
    }

    /// Sends all bytes to a stream.
    pub(crate) fn all(socket: &Handle, buffers: S) -> Op<'_, SendVectoredZeroCopy<S>> {
        Op::new(SendVectoredZeroCopy::new(socket, buffers, true))
    }
}

// SAFETY: the buffers, the vectors and the header belong to the operation, on the heap; the handle
// keeps the descriptor open until the first completion. The vectors only get shorter, within the
// buffers.
unsafe impl<S: IoBufs> Operation for SendVectoredZeroCopy<S> {
    type Output = Result<(Sent, S), Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });
    const HABITS: Habits<Self> = Habits {
        notification: Some(Notification { is_over: Self::is_over, release: Self::release }),
        ..Habits::USUAL
    };

    fn entry(&mut self) -> squeue::Entry {
        let message = self.header.message(self.vectors.of_next_call(), false);
        send_message(&self.progress, message)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        let before = self.progress.sent;
        match self.progress.go_on(completion) {
            Outcome::Done(sent) => Step::Done(Ok((sent, self.buffers))),
            Outcome::Failed(error) => Step::Done(Err(
                Error::new(error, self.buffers).with_transferred(self.progress.sent)
            )),
            Outcome::Again => {
                self.vectors.skip(self.progress.sent - before);
                Step::Again(self)
            }
        }
    }
}

impl<S: IoBufs> SendVectoredZeroCopy<S> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.progress.lane()
    }

    fn moved(&self) -> usize {
        self.progress.sent
    }

    fn is_over(&self, result: i32) -> bool {
        self.progress.is_over(result)
    }

    fn release(&mut self) -> Option<Handle> {
        self.progress.socket.take()
    }
}
