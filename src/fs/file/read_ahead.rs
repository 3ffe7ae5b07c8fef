//! Reads ahead: a window of reads that follow each other in a file, whose first is handed over when
//! it has ended.
//!
//! What the page cache has is read one piece at a time and at once. The copy is the cost of such a
//! read, a window of them would only be colder, and the same buffer stays in the processor's
//! cache. With the first piece that would have to be waited for the window opens, and it closes
//! again when nothing of it is waited for.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::buf::{IoBuf, IoBufMut, Slice};
use crate::exec::yield_once;
use crate::inflight::{Handle, Op};
use crate::op::cached::{has_cached_reads, read_cached, submit_early};
use crate::op::file::ReadAt;
use crate::sys;

/// The alignment of direct transfers where the kernel does not tell: enough for every usual disk.
const USUAL_ALIGNMENT: usize = 4096;
/// That many bytes are copied from the page cache before others have their turn.
const BYTES_IN_A_ROW: usize = 512 << 10;
/// After that many pieces that were cached, beyond a window whose reads have all ended, the next
/// are cached, too.
const ENOUGH_HITS: u8 = 2;

/// Where the buffers come from.
pub(in crate::fs) trait Buffers {
    type Buffer: IoBufMut;

    /// An empty buffer with room for `length` bytes. They are asked for in the order of the file.
    fn take(&mut self, length: usize) -> Self::Buffer;
}

/// What is read.
#[derive(Debug, Clone)]
pub(in crate::fs) struct Plan {
    pub(in crate::fs) range: Range<u64>,
    /// The length of a piece, a multiple of the alignment.
    pub(in crate::fs) piece: usize,
    /// Reads in flight at most.
    pub(in crate::fs) depth: usize,
    /// What offset and length of each read are multiples of.
    pub(in crate::fs) alignment: usize,
    /// Where the file ends, as far as is known. Up to there the window is used as a whole.
    pub(in crate::fs) expected_end: u64,
}

/// What was read: a buffer, and which part of it belongs to the range.
type Item<B> = io::Result<(B, Range<usize>)>;

pub(in crate::fs) struct ReadAhead<S: Buffers> {
    plan: Plan,
    buffers: S,
    /// A buffer that was taken and not used.
    spare: Option<S::Buffer>,
    window: VecDeque<Piece<S::Buffer>>,
    /// Where the next read begins.
    next: u64,
    /// Reads in flight at most that begin behind the expected end. It doubles with each that was
    /// not the end.
    beyond: usize,
    stage: Stage,
    is_cached: bool,
    hits: u8,
    /// The window is not filled before it is empty.
    is_closing: bool,
    /// What is left of [`BYTES_IN_A_ROW`].
    bytes_left: usize,
}

enum Stage {
    Reading,
    /// To be told next.
    Failed(io::Error),
    Ended,
}

/// One read, or the parts of one.
struct Piece<B: IoBufMut> {
    offset: u64,
    length: usize,
    state: PieceState<B>,
}

enum PieceState<B: IoBufMut> {
    InFlight {
        // It holds for as long as whoever reads ahead has the file.
        read: Op<'static, ReadAt<Slice<B>>>,
        filled: usize,
    },
    Settled(Settled<B>),
    /// Only while it changes.
    Between,
}

struct Settled<B> {
    buffer: B,
    filled: usize,
    outcome: Outcome,
}

enum Outcome {
    Full,
    EndOfFile,
    Failed(io::Error),
}

impl<S: Buffers> ReadAhead<S> {
    pub(in crate::fs) fn new(file: &Handle, plan: Plan, buffers: S) -> ReadAhead<S> {
        let first = plan.range.start - plan.range.start % plan.alignment as u64;
        ReadAhead {
            buffers,
            spare: None,
            window: VecDeque::new(),
            next: first,
            beyond: 1,
            stage: Stage::Reading,
            is_cached: has_cached_reads(file),
            hits: 0,
            is_closing: false,
            bytes_left: BYTES_IN_A_ROW,
            plan,
        }
    }

    pub(in crate::fs) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    pub(in crate::fs) fn buffers_mut(&mut self) -> &mut S {
        &mut self.buffers
    }

    /// The buffers, once nothing is read any more.
    pub(in crate::fs) fn into_buffers(self) -> S {
        self.buffers
    }

    /// The next piece of the file, which is the same in each call.
    pub(in crate::fs) fn poll_next(
        &mut self,
        file: &Handle,
        context: &Context<'_>,
    ) -> Poll<Option<Item<S::Buffer>>> {
        loop {
            match mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Ended => return Poll::Ready(None),
                Stage::Failed(error) => return Poll::Ready(Some(Err(error))),
                Stage::Reading => self.stage = Stage::Reading,
            }
            if self.window.is_empty() {
                if self.next >= self.plan.range.end {
                    self.stage = Stage::Ended;
                    continue;
                }
                self.is_closing = false;
                if !ready!(self.poll_cached(file, context)) {
                    self.fill(file, context);
                }
            }
            let first = self.window.front_mut().expect("a window that was filled is not empty");
            if first.poll(file, self.plan.alignment, context).is_pending() {
                self.bytes_left = BYTES_IN_A_ROW;
                return Poll::Pending;
            }
            if let Some(item) = self.take_first(file, context) {
                return Poll::Ready(Some(item));
            }
        }
    }

    /// Takes the first piece, which has ended. `None`: nothing of it is left to hand over.
    fn take_first(&mut self, file: &Handle, context: &Context<'_>) -> Option<Item<S::Buffer>> {
        let piece = self.window.pop_front()?;
        let PieceState::Settled(Settled { buffer, filled, outcome }) = piece.state else {
            return None;
        };
        match outcome {
            Outcome::Full => {
                if piece.offset.saturating_add(piece.length as u64) > self.plan.expected_end {
                    self.beyond = self.plan.depth.min(self.beyond * 2);
                }
                self.refill(file, context);
            }
            // What is in flight beyond it is cancelled.
            Outcome::EndOfFile => self.end(Stage::Ended),
            Outcome::Failed(error) => self.end(Stage::Failed(error)),
        }
        let within = |offset: u64| offset.saturating_sub(piece.offset).min(filled as u64) as usize;
        let part = within(self.plan.range.start)..within(self.plan.range.end);
        (!part.is_empty()).then_some(Ok((buffer, part)))
    }

    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.window.clear();
        self.spare = None;
    }

    /// A piece was taken from the window: begins others.
    fn refill(&mut self, file: &Handle, context: &Context<'_>) {
        let alignment = self.plan.alignment;
        let Some(last) = self.window.back_mut() else { return };
        if self.is_closing {
            return;
        }
        if self.is_cached && last.poll(file, alignment, context).is_ready() {
            if self.next < self.plan.range.end && self.read_cached(file) {
                self.hits += 1;
                self.is_closing = self.hits == ENOUGH_HITS;
                return;
            }
            self.hits = 0;
        }
        self.fill(file, context);
    }

    /// Begins reads until there are as many as may be.
    fn fill(&mut self, file: &Handle, context: &Context<'_>) {
        self.hits = 0;
        while self.window.len() < self.plan.depth
            && self.next < self.plan.range.end
            && self.may_begin()
        {
            let (offset, length) = (self.next, self.next_length());
            let buffer = self.take_buffer(length);
            let read = ReadAt::op(file, buffer.slice(..length), offset);
            let state = PieceState::InFlight { read, filled: 0 };
            let mut piece = Piece { offset, length, state };
            // The first poll starts it. It is submitted by itself: of what is submitted together,
            // the kernel makes one request where it can, and then a piece waits for the others.
            if piece.poll(file, self.plan.alignment, context).is_pending() {
                submit_early();
            }
            self.window.push_back(piece);
            self.next = offset.saturating_add(length as u64);
        }
    }

    /// Is the file expected to reach so far, or may the next read find that out?
    fn may_begin(&self) -> bool {
        let end = self.plan.expected_end;
        self.next < end
            || self.window.iter().filter(|piece| piece.offset >= end).count() < self.beyond
    }

    fn next_length(&self) -> usize {
        let left = self.plan.range.end - self.next;
        let length = left.min(self.plan.piece as u64) as usize;
        length.next_multiple_of(self.plan.alignment)
    }

    fn take_buffer(&mut self, length: usize) -> S::Buffer {
        self.spare.take().unwrap_or_else(|| self.buffers.take(length))
    }

    /// Reads the next piece from the page cache, if all of it is there. Others have had their turn
    /// before it is ready.
    fn poll_cached(&mut self, file: &Handle, context: &Context<'_>) -> Poll<bool> {
        if !self.is_cached {
            return Poll::Ready(false);
        }
        let cost = self.next_length().min(BYTES_IN_A_ROW);
        let Some(left) = self.bytes_left.checked_sub(cost) else {
            self.bytes_left = BYTES_IN_A_ROW;
            return yield_once(context).map(|()| false);
        };
        self.bytes_left = left;
        Poll::Ready(self.read_cached(file))
    }

    fn read_cached(&mut self, file: &Handle) -> bool {
        let (offset, length) = (self.next, self.next_length());
        let buffer = self.take_buffer(length).slice(..length);
        let (filled, buffer) = match read_cached(file, buffer, offset) {
            Ok((filled, slice)) => (filled, slice.into_inner()),
            Err(slice) => {
                self.spare = Some(slice.into_inner());
                return false;
            }
        };
        let outcome = if filled < length { Outcome::EndOfFile } else { Outcome::Full };
        let state = PieceState::Settled(Settled { buffer, filled, outcome });
        self.window.push_back(Piece { offset, length, state });
        self.next = offset.saturating_add(length as u64);
        true
    }
}

impl<B: IoBufMut> Piece<B> {
    /// Waits until it is settled, and goes on after a short read.
    fn poll(&mut self, file: &Handle, alignment: usize, context: &Context<'_>) -> Poll<()> {
        let mut context = Context::from_waker(context.waker());
        loop {
            let PieceState::InFlight { read, filled } = &mut self.state else {
                return Poll::Ready(());
            };
            let filled = *filled;
            let result = ready!(Pin::new(read).poll(&mut context));
            let before = mem::replace(&mut self.state, PieceState::Between);
            // The future of the read, which has ended.
            drop(before);
            self.state = match result {
                Ok((count, slice)) => self.after(file, alignment, filled, count, slice),
                Err(error) => {
                    let (error, slice) = error.into_parts();
                    let outcome = Outcome::Failed(error);
                    PieceState::Settled(Settled { buffer: slice.into_inner(), filled, outcome })
                }
            };
        }
    }

    /// What a read of `count` bytes comes to. A short one is no sign of the end but where the next
    /// one brings nothing more. It begins at a whole block, so a direct read of the last block, if
    /// the file ends in it, is made twice.
    fn after(
        &self,
        file: &Handle,
        alignment: usize,
        before: usize,
        count: usize,
        slice: Slice<B>,
    ) -> PieceState<B> {
        let filled = slice.begin() + count;
        let buffer = slice.into_inner();
        let outcome = if filled >= self.length {
            Outcome::Full
        } else if filled <= before {
            Outcome::EndOfFile
        } else {
            let begin = filled - filled % alignment;
            let rest = buffer.slice(begin..self.length);
            let read = ReadAt::op(file, rest, self.offset + begin as u64);
            return PieceState::InFlight { read, filled };
        };
        PieceState::Settled(Settled { buffer, filled: filled.max(before), outcome })
    }
}

/// What address, offset and length of each transfer of a file are multiples of, as far as is known;
/// statx(2).
pub(in crate::fs) fn alignment_of(file: &Handle) -> usize {
    if !file.is_direct() {
        return 1;
    }
    sys::alignment_of_direct_transfers(file.as_fd())
        .map_or(USUAL_ALIGNMENT, |(of_memory, of_offset)| of_memory.max(of_offset) as usize)
}

/// What a plan must know of a file.
pub(in crate::fs) fn expected_end(file: &Handle) -> u64 {
    sys::Status::of(file.as_fd()).map_or(0, |status| status.size)
}
