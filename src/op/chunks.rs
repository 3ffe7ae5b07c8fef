//! Receiving into buffers that the ring takes itself: one at a time, and as a stream. recv(2),
//! read(2), io_uring_provided_buffers(7).
//!
//! An entry names a group instead of memory. The kernel takes a buffer when there is something to
//! put into it, so whoever waits holds none. Where it has no multishot receive, each receive is
//! armed anew, and nothing else changes.
//!
//! # Safety
//! The entries name no memory but the group of the runtime's pool, whose buffers the driver keeps
//! until the ring is gone.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;
use io_uring::{opcode, squeue};

use crate::buf::{Chunk, ChunkPool, MOST_BYTES};
use crate::driver::{Arrival, BUFFER_GROUP};
use crate::inflight::{
    Direction, Habits, Handle, Lane, Left, Manner, MultishotStream, Op, Operation, Received, Step,
    Turns,
};
use crate::ring::Completion;
use crate::runtime::current;
use crate::sys;

/// Chunks that wait for their stream to be polled at which it is stopped: more than the kernel
/// takes from one socket at a time, so that a stream that keeps up is never stopped.
pub(super) const UNCLAIMED: u16 = 40;

/// The same for a stream under an adapter, whose consumer may be slow on purpose: as much as keeps
/// it busy while the receive is armed anew, and no more, since each peer may have it.
const UNCLAIMED_BY_POLLS: u8 = 8;

/// What is received from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkSource {
    Socket,
    /// A pipe, a FIFO or a terminal.
    File,
}

impl ChunkSource {
    /// A file with positions is read at an offset, so that a dropped read loses nothing.
    fn fits(self, handle: &Handle) -> bool {
        self == ChunkSource::Socket || handle.is_stream()
    }

    /// Does one entry bring chunk after chunk? Of inotify's descriptors, which the kernel reads by
    /// an older way, a multishot read brings nothing; and of those like it nobody reads much.
    fn is_repeated(self, handle: &Handle) -> bool {
        self == ChunkSource::Socket || !sys::is_of_events(handle.as_fd())
    }

    /// The entry of one receive of at most `length` bytes, or of many.
    fn entry(self, handle: &Handle, multishot: bool, length: u32) -> squeue::Entry {
        let (target, nowhere) = (handle.target(), ptr::null_mut());
        match (self, multishot) {
            (ChunkSource::File, _) if handle.is_for_workers() => select(
                opcode::Read::new(handle.target_for_worker(), nowhere, length)
                    .buf_group(BUFFER_GROUP)
                    .build(),
            )
            .flags(squeue::Flags::ASYNC),
            (ChunkSource::Socket, true) => opcode::RecvMulti::new(target, BUFFER_GROUP).build(),
            (ChunkSource::File, true) => opcode::ReadMulti::new(target, 0, BUFFER_GROUP).build(),
            (ChunkSource::Socket, false) => {
                select(opcode::Recv::new(target, nowhere, length).buf_group(BUFFER_GROUP).build())
            }
            (ChunkSource::File, false) => {
                select(opcode::Read::new(target, nowhere, length).buf_group(BUFFER_GROUP).build())
            }
        }
    }
}

/// Refused before submission.
fn has_positions() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "chunks come from sockets, pipes, FIFOs, terminals and descriptors of events; a file with positions is read at an offset",
    )
}

fn select(entry: squeue::Entry) -> squeue::Entry {
    entry.flags(squeue::Flags::BUFFER_SELECT)
}

/// The stream of `chunks()`: received bytes as they come, in buffers of the runtime.
///
/// One receive stays armed in the ring and brings chunk after chunk. It takes a buffer only when
/// there are bytes for it, so an idle connection holds none. A stream that is not polled is stopped
/// after about 40 chunks; the rest waits in the kernel, and the peer has to wait.
///
/// It ends (`None`) at the end of the stream and after an error. Dropping it before loses no byte:
/// what had been received, and what still comes until the receive is stopped, waits in the
/// connection for the next `read`, `read_chunk` or `chunks`. From its first poll until it is
/// dropped or has ended, other reads of the same connection wait.
#[must_use = "a stream does nothing until it is polled"]
pub struct Chunks<'h> {
    receive: MultishotStream<Bytes>,
    handle: PhantomData<&'h ()>,
}

/// The bytes of a stream.
struct Bytes {
    source: ChunkSource,
    /// Cleared where the kernel has none.
    multishot: bool,
    ended: bool,
    /// Chunks that wait to be polled at which the receive is stopped.
    limit: u8,
}

const _: () = assert!(size_of::<Chunks<'_>>() <= 40);

impl<'h> Chunks<'h> {
    pub(crate) fn new(handle: &'h Handle, source: ChunkSource) -> Chunks<'h> {
        Chunks::with_limit(handle, source, UNCLAIMED as u8)
    }

    /// Under an adapter, which has a share of the resource, and is stopped early if nobody polls
    /// it.
    pub(crate) fn for_polls(handle: &Handle, source: ChunkSource) -> Chunks<'static> {
        Chunks::with_limit(handle, source, UNCLAIMED_BY_POLLS)
    }

    fn with_limit<'any>(handle: &Handle, source: ChunkSource, limit: u8) -> Chunks<'any> {
        let kind = Bytes { source, multishot: true, ended: false, limit };
        Chunks { receive: MultishotStream::new(handle, kind), handle: PhantomData }
    }

    /// Takes what is left in the lane, or arms the receive.
    fn begin(&mut self, context: &Context<'_>) -> Poll<Option<io::Result<Chunk>>> {
        let source = self.receive.kind.source;
        if !source.fits(self.receive.handle()) {
            return Poll::Ready(Some(Err(has_positions())));
        }
        ready!(self.receive.poll_turn(context));
        if self.receive.lane().has_left()
            && let Some(left) = take_left(self.receive.lane())
        {
            return Poll::Ready(Some(left));
        }
        let core = current();
        let pool = match core.pool() {
            Ok(pool) => pool,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        self.receive.kind.multishot &= source.is_repeated(self.receive.handle());
        let mut entry =
            source.entry(self.receive.handle(), self.receive.kind.multishot, pool.buffer_size());
        if self.receive.kind.multishot
            && core.check(entry.get_opcode() as u8) == Err(libc::EOPNOTSUPP)
        {
            self.receive.kind.multishot = false;
            entry = source.entry(self.receive.handle(), false, pool.buffer_size());
        }
        let limit = self.receive.kind.limit.into();
        // SAFETY: the entry names the pool's group, and the handle's descriptor.
        match unsafe { self.receive.arm(entry, limit, context) } {
            Ok(()) => Poll::Pending,
            Err(errno) => Poll::Ready(Some(Err(io::Error::from_raw_os_error(errno)))),
        }
    }

    /// All but bytes that have come, and the wait for them.
    #[inline(never)]
    fn poll_other(&mut self, context: &Context<'_>) -> Poll<Option<io::Result<Chunk>>> {
        let item = loop {
            if self.receive.is_armed() {
                let arrival = ready!(self.receive.poll_arrival(context));
                if let Some(item) = self.received(arrival) {
                    break Some(item);
                }
            } else if self.receive.kind.ended {
                break None;
            } else {
                break ready!(self.begin(context));
            }
        };
        if !matches!(item, Some(Ok(_))) {
            self.receive.kind.ended = true;
        }
        if self.receive.kind.ended && !self.receive.is_armed() {
            self.receive.end_turn();
        }
        Poll::Ready(item)
    }

    /// What an arrival means. `None`: nothing, and the receive goes on or is armed again.
    fn received(&mut self, arrival: Arrival) -> Option<io::Result<Chunk>> {
        match (arrival.completion.result, arrival.chunk) {
            (1.., Some(chunk)) => return Some(Ok(chunk)),
            (0, _) => self.receive.kind.ended = true,
            (result, _) => match -result {
                // Stopped since too much waited, or for want of a buffer: there are some by now,
                // since what came is looked at before.
                libc::ECANCELED | libc::EINTR | libc::ENOBUFS => {}
                libc::EINVAL if self.receive.kind.multishot => self.receive.kind.multishot = false,
                errno => return Some(Err(io::Error::from_raw_os_error(errno))),
            },
        }
        None
    }
}

/// The bytes or the error that a dropped operation has left.
fn take_left(lane: Lane<'_>) -> Option<io::Result<Chunk>> {
    let left = match lane.take_left()? {
        // What came along is closed, as in `Lane::take_bytes`.
        Left::Message { bytes, .. } => Left::Bytes { bytes, start: 0 },
        left => left,
    };
    match left {
        Left::Chunk(chunk) => Some(Ok(chunk)),
        Left::Bytes { bytes, start } => {
            let end = bytes.len().min(start + MOST_BYTES);
            let chunk = Chunk::copied(&bytes[start..end]);
            if end < bytes.len() {
                lane.put_back(Left::Bytes { bytes, start: end });
            }
            Some(Ok(chunk))
        }
        Left::Failed(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
        Left::Datagram { .. } | Left::Message { .. } | Left::Connection(_) => None,
    }
}

impl Received for Bytes {
    /// Keeps what came for the next read.
    fn leave(lane: Lane<'_>, arrival: Arrival) {
        match (arrival.completion.result(), arrival.chunk) {
            (Ok(1..), Some(chunk)) => lane.leave(Left::Chunk(chunk)),
            (Err(error), _) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                lane.leave_error(&error)
            }
            _ => {}
        }
    }
}

impl Stream for Chunks<'_> {
    type Item = io::Result<Chunk>;

    // Inlined, so that a chunk goes to where the caller wants it: in between it would be written in
    // single words and read in wider steps at once, for which a processor stalls.
    #[inline]
    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Chunk>>> {
        match ready!(self.receive.poll_bytes(context)) {
            Some(chunk) => Poll::Ready(Some(Ok(chunk))),
            None => self.poll_other(context),
        }
    }
}

impl FusedStream for Chunks<'_> {
    fn is_terminated(&self) -> bool {
        self.receive.kind.ended && !self.receive.is_armed()
    }
}

impl Unpin for Chunks<'_> {}

impl fmt::Debug for Chunks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("handle", self.receive.handle()).finish_non_exhaustive()
    }
}

/// One receive into a buffer of the runtime. An empty chunk is the end of the stream.
pub struct ReadChunk {
    handle: Handle,
    source: ChunkSource,
    /// Set with the first entry, if there is memory for it.
    pool: Option<Rc<ChunkPool>>,
}

impl ReadChunk {
    pub(crate) fn op(handle: &Handle, source: ChunkSource) -> Op<'_, ReadChunk> {
        let refused = (!source.fits(handle)).then_some(-libc::EINVAL);
        Op::settled(ReadChunk { handle: handle.clone(), source, pool: None }, refused)
    }
}

// SAFETY: the entry names no memory of the operation's; the handle keeps the descriptor open.
unsafe impl Operation for ReadChunk {
    type Output = io::Result<Chunk>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });
    // It does so in `complete`, since an interrupted one may have taken a buffer.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    /// Without memory for the buffers it is an entry that does nothing: one that receives would
    /// lose what it receives.
    fn entry(&mut self) -> squeue::Entry {
        self.pool = current().pool().ok();
        match &self.pool {
            Some(pool) => self.source.entry(&self.handle, false, pool.buffer_size()),
            None => opcode::Nop::new().build(),
        }
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let length = usize::try_from(completion.result).unwrap_or(0);
        // SAFETY: the ring takes buffers of this pool only, and this is the operation's last
        // completion, which comes once.
        let chunk = completion
            .buffer()
            .zip(self.pool.as_ref())
            .map(|(id, pool)| unsafe { pool.chunk(id, length) });
        match (completion.result, chunk, &self.pool) {
            (1.., Some(chunk), _) => Step::Done(Ok(chunk)),
            (0.., _, None) => Step::Done(Err(io::Error::from_raw_os_error(libc::ENOMEM))),
            (0.., _, Some(_)) => Step::Done(Ok(Chunk::copied(&[]))),
            (errno, _, Some(pool)) if errno == -libc::ENOBUFS => {
                pool.exhausted();
                Step::Again(self)
            }
            (errno, ..) if errno == -libc::EINTR => Step::Again(self),
            (errno, ..) if errno == -libc::EINVAL && !self.source.fits(&self.handle) => {
                Step::Done(Err(has_positions()))
            }
            (errno, ..) => Step::Done(Err(io::Error::from_raw_os_error(-errno))),
        }
    }
}

impl ReadChunk {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.handle, Direction::Inbound, Manner::Alone))
    }

    fn claim(self) -> Step<Self> {
        match take_left(self.handle.lane(Direction::Inbound)) {
            Some(left) => Step::Done(left),
            None => Step::Again(self),
        }
    }

    fn leave(self, completion: Completion) {
        if self.pool.is_none() {
            // It has received nothing, and the next call finds out for itself whether there is
            // memory.
            return;
        }
        let handle = self.handle.clone();
        let lane = handle.lane(Direction::Inbound);
        match self.complete(completion) {
            Step::Done(Ok(chunk)) if !chunk.is_empty() => lane.leave(Left::Chunk(chunk)),
            Step::Done(Err(error)) => lane.leave_error(&error),
            Step::Done(Ok(_)) | Step::Again(_) => {}
        }
    }
}
