//! Reads and writes of files that are read from front to back, and of others at their own position:
//! pipes, terminals, the standard streams. read(2), write(2), readv(2), writev(2).
//!
//! They are what receives and sends are for a socket: one of each direction at a time, and what a
//! dropped read took waits for the next.
//!
//! # Safety
//! Buffers, and lists of their addresses, belong to the operations; `IoBuf` promises that their
//! memory stays where it is while they move.
#![allow(unsafe_code)]

use io_uring::{opcode, squeue};

use super::vectored::{self, Vectors};
use crate::buf::{Error, IoBuf, IoBufMut, IoBufs};
use crate::inflight::{
    Direction, Handle, Manner, Op, Operation, Progress, Step, Turns, advance, claim, claim_exact,
    clamp, end_of_file, filled, incomplete, leave, needs_room, write_zero, written,
};
use crate::ring::Completion;
use crate::sys;

/// The position that a file has, or none.
const HERE: u64 = u64::MAX;

type Lane<'h> = Option<(&'h Handle, Direction, Manner)>;

fn inbound(file: &Handle) -> Lane<'_> {
    Some((file, Direction::Inbound, Manner::Alone))
}

fn outbound(file: &Handle) -> Lane<'_> {
    Some((file, Direction::Outbound, Manner::Alone))
}

fn reading(file: &Handle, address: *mut u8, length: usize) -> squeue::Entry {
    let target = file.target_of_transfer();
    opcode::Read::new(target.number, address, clamp(length))
        .offset(HERE)
        .build()
        .flags(target.flags)
}

fn writing(file: &Handle, address: *const u8, length: usize, signal: Signal) -> squeue::Entry {
    let target = file.target_of_transfer();
    opcode::Write::new(target.number, address, clamp(length))
        .rw_flags(signal.flags())
        .offset(HERE)
        .build()
        .flags(target.flags)
}

fn writing_vectors(file: &Handle, vectors: &[libc::iovec], signal: Signal) -> squeue::Entry {
    let target = file.target_of_transfer();
    opcode::Writev::new(target.number, vectors.as_ptr(), vectors.len() as u32)
        .rw_flags(signal.flags())
        .offset(HERE)
        .build()
        .flags(target.flags)
}

/// What comes with the error of a write that nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// Nothing, where the kernel can do that.
    Never,
    /// `SIGPIPE`, if the program has not ignored it: the file knows no flags.
    Perhaps,
}

impl Signal {
    fn flags(self) -> i32 {
        match self {
            Signal::Never => sys::without_signal(),
            Signal::Perhaps => 0,
        }
    }

    /// Is the write to be made again, without flags?
    fn is_refused(&mut self, completion: &Completion) -> bool {
        let refused =
            *self == Signal::Never && completion.result == -libc::EOPNOTSUPP && self.flags() != 0;
        if refused {
            *self = Signal::Perhaps;
        }
        refused
    }
}

/// One read.
pub struct Read<B> {
    file: Handle,
    buffer: B,
}

impl<B: IoBufMut> Read<B> {
    pub(crate) fn op(file: &Handle, buffer: B) -> Op<'_, Read<B>> {
        let refused = needs_room(&buffer);
        Op::settled(Read { file: file.clone(), buffer }, refused)
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBufMut` keeps; the handle
// keeps the descriptor open.
unsafe impl<B: IoBufMut> Operation for Read<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        ..Turns::of(|read| inbound(&read.file))
    });

    fn entry(&mut self) -> squeue::Entry {
        reading(&self.file, self.buffer.as_mut_ptr(), self.buffer.capacity())
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(filled(self.buffer, completion.result()))
    }
}

impl<B: IoBufMut> Read<B> {
    fn claim(mut self) -> Step<Self> {
        match claim(&self.file, &mut self.buffer, 0) {
            Some(result) => Step::Done(filled(self.buffer, result)),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        leave(&self.file, self.buffer, 0, completion);
    }
}

/// Reads until the buffer is full.
pub struct ReadExact<B> {
    file: Handle,
    buffer: B,
    filled: usize,
}

impl<B: IoBufMut> ReadExact<B> {
    pub(crate) fn op(file: &Handle, buffer: B) -> Op<'_, ReadExact<B>> {
        // Nothing to wait for.
        let nothing = (buffer.capacity() == 0).then_some(0);
        Op::settled(ReadExact { file: file.clone(), buffer, filled: 0 }, nothing)
    }
}

// SAFETY: as for `Read`; `filled` never exceeds the capacity, so the address stays within the
// buffer.
unsafe impl<B: IoBufMut> Operation for ReadExact<B> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        ..Turns::of(|read| inbound(&read.file))
    });

    fn entry(&mut self) -> squeue::Entry {
        // SAFETY: `filled` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_mut_ptr().add(self.filled) };
        reading(&self.file, address, self.buffer.capacity() - self.filled)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        let progress =
            advance(&mut self.filled, self.buffer.capacity(), completion.result(), end_of_file);
        self.after(progress)
    }
}

impl<B: IoBufMut> ReadExact<B> {
    fn after(self, progress: Progress) -> Step<Self> {
        match progress {
            Progress::Partial => Step::Again(self),
            Progress::Complete => {
                Step::Done(filled(self.buffer, Ok(self.filled)).map(|(_, buffer)| buffer))
            }
            Progress::Failed(error) => Step::Done(Err(incomplete(self.buffer, self.filled, error))),
        }
    }

    fn claim(mut self) -> Step<Self> {
        let progress = claim_exact(&self.file, &mut self.buffer, &mut self.filled);
        self.after(progress)
    }

    fn leave(self, completion: Completion) {
        leave(&self.file, self.buffer, self.filled, completion);
    }
}

/// One read into several buffers.
pub struct ReadVectored<B> {
    file: Handle,
    buffers: Vec<B>,
    vectors: Vectors,
}

impl<B: IoBufMut> ReadVectored<B> {
    pub(crate) fn op(file: &Handle, mut buffers: Vec<B>) -> Op<'_, ReadVectored<B>> {
        let refused = vectored::needs_room(&buffers);
        let vectors = Vectors::to_fill(&mut buffers);
        Op::settled(ReadVectored { file: file.clone(), buffers, vectors }, refused)
    }
}

// SAFETY: the buffers and the vectors belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl<B: IoBufMut> Operation for ReadVectored<B> {
    type Output = Result<(usize, Vec<B>), Error<Vec<B>>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        ..Turns::of(|read| inbound(&read.file))
    });

    fn entry(&mut self) -> squeue::Entry {
        let (target, vectors) = (self.file.target_of_transfer(), self.vectors.of_next_call());
        opcode::Readv::new(target.number, vectors.as_ptr(), vectors.len() as u32)
            .offset(HERE)
            .build()
            .flags(target.flags)
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(vectored::filled(self.buffers, completion.result()))
    }
}

impl<B: IoBufMut> ReadVectored<B> {
    fn claim(self) -> Step<Self> {
        match vectored::claim(&self.file, &self.vectors) {
            Some(result) => Step::Done(vectored::filled(self.buffers, result)),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        vectored::leave(&self.file, self.buffers, completion);
    }
}

/// One write.
pub struct Write<B> {
    file: Handle,
    buffer: B,
    signal: Signal,
}

impl<B: IoBuf> Write<B> {
    pub(crate) fn op(file: &Handle, buffer: B) -> Op<'_, Write<B>> {
        Op::new(Write { file: file.clone(), buffer, signal: Signal::Never })
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBuf` keeps; the handle keeps
// the descriptor open.
unsafe impl<B: IoBuf> Operation for Write<B> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(|write| outbound(&write.file)));

    fn entry(&mut self) -> squeue::Entry {
        writing(&self.file, self.buffer.as_init_ptr(), self.buffer.init_len(), self.signal)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        if self.signal.is_refused(&completion) {
            return Step::Again(self);
        }
        Step::Done(written(self.buffer, completion.result()))
    }
}

/// Writes until the buffer is through.
pub struct WriteAll<B> {
    file: Handle,
    buffer: B,
    written: usize,
    signal: Signal,
}

impl<B: IoBuf> WriteAll<B> {
    pub(crate) fn op(file: &Handle, buffer: B) -> Op<'_, WriteAll<B>> {
        Op::new(WriteAll { file: file.clone(), buffer, written: 0, signal: Signal::Never })
    }
}

// SAFETY: as for `Write`; `written` never exceeds the length, so the address stays within the
// buffer.
unsafe impl<B: IoBuf> Operation for WriteAll<B> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { moved: |write| write.written, ..Turns::of(|write| outbound(&write.file)) });

    fn entry(&mut self) -> squeue::Entry {
        // SAFETY: `written` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_init_ptr().add(self.written) };
        writing(&self.file, address, self.buffer.init_len() - self.written, self.signal)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        if self.signal.is_refused(&completion) {
            return Step::Again(self);
        }
        match advance(&mut self.written, self.buffer.init_len(), completion.result(), write_zero) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => Step::Done(Ok(self.buffer)),
            Progress::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffer).with_transferred(self.written)))
            }
        }
    }
}

/// One write from several buffers.
pub struct WriteVectored<S> {
    file: Handle,
    buffers: S,
    vectors: Vectors,
    signal: Signal,
}

impl<S: IoBufs> WriteVectored<S> {
    pub(crate) fn op(file: &Handle, buffers: S) -> Op<'_, WriteVectored<S>> {
        let vectors = Vectors::of_all(&buffers);
        Op::new(WriteVectored { file: file.clone(), buffers, vectors, signal: Signal::Never })
    }
}

// SAFETY: as for `ReadVectored`.
unsafe impl<S: IoBufs> Operation for WriteVectored<S> {
    type Output = Result<(usize, S), Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(|write| outbound(&write.file)));

    fn entry(&mut self) -> squeue::Entry {
        writing_vectors(&self.file, self.vectors.of_next_call(), self.signal)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        if self.signal.is_refused(&completion) {
            return Step::Again(self);
        }
        Step::Done(written(self.buffers, completion.result()))
    }
}

/// Writes until several buffers are through.
pub struct WriteAllVectored<S> {
    file: Handle,
    buffers: S,
    vectors: Vectors,
    written: usize,
    whole: usize,
    signal: Signal,
}

impl<S: IoBufs> WriteAllVectored<S> {
    pub(crate) fn op(file: &Handle, buffers: S) -> Op<'_, WriteAllVectored<S>> {
        let (vectors, whole) = (Vectors::of_all(&buffers), buffers.total_len());
        Op::new(WriteAllVectored {
            file: file.clone(),
            buffers,
            vectors,
            written: 0,
            whole,
            signal: Signal::Never,
        })
    }
}

// SAFETY: as for `ReadVectored`; the vectors only get shorter, within the buffers.
unsafe impl<S: IoBufs> Operation for WriteAllVectored<S> {
    type Output = Result<S, Error<S>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { moved: |write| write.written, ..Turns::of(|write| outbound(&write.file)) });

    fn entry(&mut self) -> squeue::Entry {
        writing_vectors(&self.file, self.vectors.of_next_call(), self.signal)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        if self.signal.is_refused(&completion) {
            return Step::Again(self);
        }
        let before = self.written;
        match advance(&mut self.written, self.whole, completion.result(), write_zero) {
            Progress::Complete => Step::Done(Ok(self.buffers)),
            Progress::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffers).with_transferred(self.written)))
            }
            Progress::Partial => {
                self.vectors.skip(self.written - before);
                Step::Again(self)
            }
        }
    }
}
