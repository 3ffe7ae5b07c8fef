//! Operations on several buffers at once, filled or emptied one after the other. readv(2),
//! writev(2), sendmsg(2), recvmsg(2).
//!
//! # Safety
//! The buffers and the list of their addresses belong to the operation; the list is a heap block of
//! its own that does not move.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use io_uring::{opcode, squeue};

use super::alignment::explain;
use super::place::Place;
use crate::buf::{Error, IoBufMut, IoBufs};
use crate::inflight::{
    Direction, Handle, Left, MOST_BYTES, Manner, MessageHeader, Op, Operation, Progress, Step,
    Turns, advance, no_room, write_zero, written,
};
use crate::ring::Completion;

/// Most buffers that the kernel takes at once (`UIO_MAXIOV`); those beyond wait for the next call,
/// as after any short transfer.
const MOST_BUFFERS: usize = 1024;

/// The addresses of as many buffers as one call takes.
pub(super) struct Vectors(Vec<libc::iovec>);

impl Vectors {
    fn of(buffers: impl Iterator<Item = (*mut u8, usize)>) -> Vectors {
        let mut left = MOST_BYTES;
        let vectors = buffers.take(MOST_BUFFERS).map(|(address, length)| {
            let length = length.min(left);
            left -= length;
            libc::iovec { iov_base: address.cast(), iov_len: length }
        });
        Vectors(vectors.collect())
    }

    pub(super) fn to_fill<B: IoBufMut>(buffers: &mut [B]) -> Vectors {
        Vectors::of(buffers.iter_mut().map(|buffer| (buffer.as_mut_ptr(), buffer.capacity())))
    }

    fn to_empty<S: IoBufs>(buffers: &S) -> Vectors {
        let mut all = Vectors::of_all(buffers);
        all.0.truncate(MOST_BUFFERS);
        all
    }

    /// The addresses of all buffers, for as many calls as it takes. Empty ones are left out: a call
    /// that takes no others would move nothing.
    pub(super) fn of_all<S: IoBufs>(buffers: &S) -> Vectors {
        let mut vectors = Vec::new();
        buffers.for_each(&mut |address, length| {
            if length > 0 {
                vectors.push(libc::iovec { iov_base: address.cast_mut().cast(), iov_len: length });
            }
        });
        Vectors(vectors)
    }

    /// Those that the next call takes. The kernel itself cuts off what is more than one call moves.
    pub(super) fn of_next_call(&self) -> &[libc::iovec] {
        &self.0[..self.0.len().min(MOST_BUFFERS)]
    }

    /// Leaves out what a call has moved, and empty buffers in front of the rest.
    pub(super) fn skip(&mut self, mut count: usize) {
        let mut through = 0;
        for vector in &mut self.0 {
            let here = count.min(vector.iov_len);
            vector.iov_base = vector.iov_base.cast::<u8>().wrapping_add(here).cast();
            vector.iov_len -= here;
            count -= here;
            if vector.iov_len > 0 {
                break;
            }
            through += 1;
        }
        assert_eq!(count, 0, "the kernel reports more bytes than the buffers hold");
        self.0.drain(..through);
    }
}

/// Ends a read: spreads the count over the buffers in order. Buffers that nothing was read into
/// keep their length.
pub(super) fn filled<B: IoBufMut>(
    mut buffers: Vec<B>,
    result: io::Result<usize>,
) -> Result<(usize, Vec<B>), Error<Vec<B>>> {
    let count = match result {
        Ok(count) => count,
        Err(error) if has_no_room(&buffers) => return Err(Error::new(no_room(error), buffers)),
        Err(error) => return Err(Error::new(error, buffers)),
    };
    let mut left = count;
    for buffer in &mut buffers {
        let here = left.min(buffer.capacity());
        if here == 0 {
            continue;
        }
        // SAFETY: the kernel has filled the buffers in order, this one with `here` bytes, and the
        // operation has ended.
        unsafe { buffer.set_init_len(here) };
        left -= here;
    }
    assert_eq!(left, 0, "the kernel reports {count} bytes in smaller buffers");
    Ok((count, buffers))
}

fn has_no_room<B: IoBufMut>(buffers: &[B]) -> bool {
    buffers.iter().take(MOST_BUFFERS).all(|buffer| buffer.capacity() == 0)
}

pub(super) fn needs_room<B: IoBufMut>(buffers: &[B]) -> Option<i32> {
    has_no_room(buffers).then_some(-libc::EINVAL)
}

/// Moves what is left of a stream into the buffers, or gives the error that is left.
pub(super) fn claim(stream: &Handle, Vectors(vectors): &Vectors) -> Option<io::Result<usize>> {
    let room = vectors.iter().map(|vector| vector.iov_len).sum();
    let mut rest = vectors.iter();
    stream.lane(Direction::Inbound).take_bytes(room, |mut bytes| {
        while let (false, Some(vector)) = (bytes.is_empty(), rest.next()) {
            let (here, later) = bytes.split_at(bytes.len().min(vector.iov_len));
            // SAFETY: the vector names memory of one of the operation's buffers, with room for that
            // many bytes, and not the lane's.
            unsafe { ptr::copy_nonoverlapping(here.as_ptr(), vector.iov_base.cast(), here.len()) };
            bytes = later;
        }
    })
}

/// Leaves the bytes of a read that nobody waits for.
pub(super) fn leave<B: IoBufMut>(stream: &Handle, buffers: Vec<B>, completion: Completion) {
    let lane = stream.lane(Direction::Inbound);
    match filled(buffers, completion.result()) {
        Err(error) => lane.leave_error(error.get_ref()),
        Ok((0, _)) => {}
        Ok((count, buffers)) => {
            let mut bytes = Vec::with_capacity(count);
            for buffer in &buffers {
                let here = (count - bytes.len()).min(buffer.capacity());
                bytes.extend_from_slice(&buffer.as_init()[..here]);
            }
            lane.leave(Left::Bytes { bytes, start: 0 });
        }
    }
}

/// One read at an offset into several buffers.
pub struct ReadVectoredAt<B, P = u64> {
    file: Handle,
    buffers: Vec<B>,
    vectors: Vectors,
    place: P,
}

impl<B: IoBufMut, P: Place> ReadVectoredAt<B, P> {
    pub(crate) fn op(file: &Handle, mut buffers: Vec<B>, place: P) -> Op<'_, ReadVectoredAt<B, P>> {
        let refused = needs_room(&buffers).or(place.refused());
        let vectors = Vectors::to_fill(&mut buffers);
        Op::settled(ReadVectoredAt { file: file.clone(), buffers, vectors, place }, refused)
    }
}

// SAFETY: the buffers and the vectors belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl<B: IoBufMut, P: Place> Operation for ReadVectoredAt<B, P> {
    type Output = Result<(usize, Vec<B>), Error<Vec<B>>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        is_told: false,
        ..Turns::of(Self::lane)
    });

    fn entry(&mut self) -> squeue::Entry {
        let Vectors(vectors) = &self.vectors;
        let target = self.file.target_of_transfer();
        opcode::Readv::new(target.number, vectors.as_ptr(), vectors.len() as u32)
            .offset(self.place.of_read(&self.file, 0))
            .build()
            .flags(target.flags)
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        self.place.has_read(&self.file, completion.count());
        let result = completion.result().map_err(|error| {
            explain(error, &self.file, &self.vectors.0, self.place.of_read(&self.file, 0))
        });
        Step::Done(filled(self.buffers, result))
    }
}

impl<B: IoBufMut, P: Place> ReadVectoredAt<B, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        let (direction, manner) = self.place.turns_of_read(&self.file)?;
        Some((&self.file, direction, manner))
    }

    fn claim(self) -> Step<Self> {
        match claim(&self.file, &self.vectors) {
            Some(result) => Step::Done(filled(self.buffers, result)),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        if self.place.is_read_once(&self.file) {
            leave(&self.file, self.buffers, completion);
        }
    }
}

/// One write at an offset from several buffers.
pub struct WriteVectoredAt<S, P = u64> {
    file: Handle,
    buffers: S,
    vectors: Vectors,
    place: P,
}

impl<S: IoBufs, P: Place> WriteVectoredAt<S, P> {
    pub(crate) fn op(file: &Handle, buffers: S, place: P) -> Op<'_, WriteVectoredAt<S, P>> {
        let vectors = Vectors::to_empty(&buffers);
        Op::settled(
            WriteVectoredAt { file: file.clone(), buffers, vectors, place },
            place.refused(),
        )
    }
}

// SAFETY: as for `ReadVectoredAt`.
unsafe impl<S: IoBufs, P: Place> Operation for WriteVectoredAt<S, P> {
    type Output = Result<(usize, S), Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let Vectors(vectors) = &self.vectors;
        let target = self.file.target_of_transfer();
        opcode::Writev::new(target.number, vectors.as_ptr(), vectors.len() as u32)
            .rw_flags(self.file.flags_of_write())
            .offset(self.place.of_write(&self.file, 0))
            .build()
            .flags(target.flags)
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        self.place.has_written(&self.file, completion.count());
        let result = completion.result().map_err(|error| {
            explain(error, &self.file, &self.vectors.0, self.place.of_write(&self.file, 0))
        });
        Step::Done(written(self.buffers, result))
    }
}

impl<S: IoBufs, P: Place> WriteVectoredAt<S, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, P::MANNER_OF_WRITE))
    }
}

/// Writes at an offset until several buffers are through.
pub struct WriteAllVectoredAt<S, P = u64> {
    file: Handle,
    buffers: S,
    vectors: Vectors,
    place: P,
    written: usize,
    whole: usize,
}

impl<S: IoBufs, P: Place> WriteAllVectoredAt<S, P> {
    pub(crate) fn op(file: &Handle, buffers: S, place: P) -> Op<'_, WriteAllVectoredAt<S, P>> {
        let (vectors, whole) = (Vectors::of_all(&buffers), buffers.total_len());
        let file = file.clone();
        let operation = WriteAllVectoredAt { file, buffers, vectors, place, written: 0, whole };
        Op::settled(operation, place.refused())
    }
}

// SAFETY: as for `ReadVectoredAt`; the vectors only get shorter, within the buffers.
unsafe impl<S: IoBufs, P: Place> Operation for WriteAllVectoredAt<S, P> {
    type Output = Result<S, Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let vectors = self.vectors.of_next_call();
        let target = self.file.target_of_transfer();
        opcode::Writev::new(target.number, vectors.as_ptr(), vectors.len() as u32)
            .rw_flags(self.file.flags_of_write())
            .offset(self.place.of_write(&self.file, self.written))
            .build()
            .flags(target.flags)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        self.place.has_written(&self.file, completion.count());
        let before = self.written;
        let result = completion.result().map_err(|error| {
            let offset = self.place.of_write(&self.file, self.written);
            explain(error, &self.file, self.vectors.of_next_call(), offset)
        });
        match advance(&mut self.written, self.whole, result, write_zero) {
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

impl<S: IoBufs, P: Place> WriteAllVectoredAt<S, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, P::MANNER_OF_WRITE))
    }

    fn moved(&self) -> usize {
        self.written
    }
}

/// One receive into several buffers.
pub struct ReceiveVectored<B> {
    socket: Handle,
    buffers: Vec<B>,
    vectors: Vectors,
    header: MessageHeader,
}

impl<B: IoBufMut> ReceiveVectored<B> {
    pub(crate) fn op(socket: &Handle, mut buffers: Vec<B>) -> Op<'_, ReceiveVectored<B>> {
        let refused = needs_room(&buffers);
        let vectors = Vectors::to_fill(&mut buffers);
        Op::settled(
            ReceiveVectored {
                socket: socket.clone(),
                buffers,
                vectors,
                header: MessageHeader::for_any_address(),
            },
            refused,
        )
    }
}

// SAFETY: the buffers, the vectors and the header belong to the operation, on the heap; the handle
// keeps the descriptor open.
unsafe impl<B: IoBufMut> Operation for ReceiveVectored<B> {
    type Output = Result<(usize, Vec<B>), Error<Vec<B>>>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let message = self.header.message(&self.vectors.0, false);
        opcode::RecvMsg::new(self.socket.target(), message).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(filled(self.buffers, completion.result()))
    }
}

impl<B: IoBufMut> ReceiveVectored<B> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Inbound, Manner::Alone))
    }

    fn claim(self) -> Step<Self> {
        match claim(&self.socket, &self.vectors) {
            Some(result) => Step::Done(filled(self.buffers, result)),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        leave(&self.socket, self.buffers, completion);
    }
}

/// One send from several buffers.
pub struct SendVectored<S> {
    socket: Handle,
    buffers: S,
    vectors: Vectors,
    header: MessageHeader,
}

impl<S: IoBufs> SendVectored<S> {
    pub(crate) fn op(socket: &Handle, buffers: S) -> Op<'_, SendVectored<S>> {
        let vectors = Vectors::to_empty(&buffers);
        Op::new(SendVectored {
            socket: socket.clone(),
            buffers,
            vectors,
            header: MessageHeader::for_any_address(),
        })
    }
}

// SAFETY: as for `ReceiveVectored`.
unsafe impl<S: IoBufs> Operation for SendVectored<S> {
    type Output = Result<(usize, S), Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let message = self.header.message(&self.vectors.0, false);
        opcode::SendMsg::new(self.socket.target(), message).flags(libc::MSG_NOSIGNAL as u32).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(written(self.buffers, completion.result()))
    }
}

impl<S: IoBufs> SendVectored<S> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, Manner::Alone))
    }
}

/// Sends until several buffers are through.
pub struct SendAllVectored<S> {
    socket: Handle,
    buffers: S,
    vectors: Vectors,
    header: MessageHeader,
    sent: usize,
    whole: usize,
}

impl<S: IoBufs> SendAllVectored<S> {
    pub(crate) fn op(socket: &Handle, buffers: S) -> Op<'_, SendAllVectored<S>> {
        let (vectors, whole) = (Vectors::of_all(&buffers), buffers.total_len());
        Op::new(SendAllVectored {
            socket: socket.clone(),
            buffers,
            vectors,
            header: MessageHeader::for_any_address(),
            sent: 0,
            whole,
        })
    }
}

// SAFETY: as for `ReceiveVectored`; the vectors only get shorter, within the buffers.
unsafe impl<S: IoBufs> Operation for SendAllVectored<S> {
    type Output = Result<S, Error<S>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        let message = self.header.message(self.vectors.of_next_call(), false);
        // MSG_WAITALL as in `SendAll`.
        opcode::SendMsg::new(self.socket.target(), message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build()
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        let before = self.sent;
        match advance(&mut self.sent, self.whole, completion.result(), write_zero) {
            Progress::Complete => Step::Done(Ok(self.buffers)),
            Progress::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffers).with_transferred(self.sent)))
            }
            Progress::Partial => {
                self.vectors.skip(self.sent - before);
                Step::Again(self)
            }
        }
    }
}

impl<S: IoBufs> SendAllVectored<S> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.socket, Direction::Outbound, Manner::Alone))
    }

    fn moved(&self) -> usize {
        self.sent
    }
}
