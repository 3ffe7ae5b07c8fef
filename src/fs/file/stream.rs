//! The content of a file as a stream of buffers, with several reads in flight.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;

use super::File;
use super::read_ahead::{Buffers, Plan, ReadAhead, alignment_of, expected_end};
use crate::buf::{BufferPool, IoBuf, Part, PoolBuffer, Slice, VecInParts};
use crate::inflight::{Handle, Resource};

/// What an item holds unless [`FileStream::chunk_size`] says otherwise.
const USUAL_CHUNK: usize = 128 << 10;
/// Reads in flight unless [`FileStream::depth`] says otherwise.
const USUAL_DEPTH: usize = 8;
/// The parts in which a whole file is read. Their memory is new to the processor's cache anyway.
const WHOLE_FILE_PIECE: usize = 512 << 10;
const WHOLE_FILE_DEPTH: usize = 4;
/// The largest chunk: what is registered as one area.
const LARGEST_CHUNK: usize = 1 << 30;
/// Registering a pool pays if each of its buffers is used that often.
const USES_OF_REGISTERED: u64 = 4;

impl File {
    /// A part of the file as a stream of buffers, in order, with several reads in flight; pread(2).
    ///
    /// ```
    /// use annulus::fs::File;
    /// use futures_util::TryStreamExt;
    ///
    /// # annulus::block_on(async {
    /// let file = File::open("Cargo.lock").await?;
    /// let mut lines = 0;
    /// let mut content = file.stream(..).chunk_size(64 << 10).depth(4);
    /// while let Some(chunk) = content.try_next().await? {
    ///     lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    /// }
    /// # assert!(lines > 100);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// See [`FileStream`] for what it does, and [`sink`](File::sink) for the other direction.
    ///
    /// # Errors
    /// Its items: those of [`read_at`](File::read_at); `InvalidInput` for a range that ends before
    /// it starts, and for a pipe or another file without positions, for which there is
    /// [`chunks`](File::chunks).
    pub fn stream(&self, range: impl RangeBounds<u64>) -> FileStream<'_> {
        FileStream::new(&range, Source::Borrowed(&self.handle))
    }

    /// The same as a stream that has the file: for a task, or for the body of an HTTP response. The
    /// file is closed with it.
    ///
    /// # Errors
    /// Its items, as those of [`stream`](File::stream).
    pub fn into_stream(self, range: impl RangeBounds<u64>) -> FileStream<'static> {
        FileStream::new(&range, Source::Owned(self.handle))
    }
}

impl File {
    /// How many bytes the file is expected to have behind the first `read`, if there are any.
    pub(in crate::fs) fn expected_rest(&self, read: usize) -> Option<usize> {
        let rest = expected_end(&self.handle).checked_sub(read as u64)?;
        usize::try_from(rest).ok().filter(|rest| *rest > 0)
    }

    /// Reads what comes behind the bytes in a vector, which are the first of the file, until its
    /// capacity is full or the file ends.
    pub(in crate::fs) async fn read_parts(&self, content: Vec<u8>) -> io::Result<Vec<u8>> {
        let plan = Plan {
            range: content.len() as u64..content.capacity() as u64,
            piece: WHOLE_FILE_PIECE,
            depth: WHOLE_FILE_DEPTH,
            alignment: 1,
            expected_end: expected_end(&self.handle),
        };
        // In a box, since the future of a short read would pay for its space.
        let mut reading = Box::new(ReadAhead::new(&self.handle, plan, VecInParts::new(content)));
        let handle = &self.handle;
        while let Some(item) = poll_fn(|context| reading.poll_next(handle, context)).await {
            let (part, _) = item?;
            reading.buffers_mut().give_back(part);
        }
        Ok(reading.into_buffers().into_vec())
    }
}

impl Buffers for VecInParts {
    type Buffer = Part;

    fn take(&mut self, length: usize) -> Part {
        VecInParts::take(self, length)
    }
}

/// The stream of [`File::stream`]: the content of a file in buffers that go back for the next reads
/// when they are dropped.
///
/// Each item is a buffer of [`chunk_size`](FileStream::chunk_size) bytes, the last a shorter one.
/// It can be written as it is, and kept: then further buffers are made. So the stream needs memory
/// for its reads in flight, one item, and what is kept.
///
/// The stream keeps up to [`depth`](FileStream::depth) reads in flight. It begins one when an item
/// is taken, so who takes none stops it. What the page cache has is copied at once, one item at a
/// time and without the ring, since more at a time would be no faster; after 512 KiB other tasks
/// run. Reads of a file that was opened with `O_DIRECT` go into aligned buffers, registered with
/// the runtime if the file is long enough (see [`BufferPool`]). A range that does not consist of
/// whole blocks is read in whole blocks, and cut.
///
/// The stream ends with the range, or at the end of the file, wherever that is when it is read. It
/// goes on after short reads. An error is the last item; what was read before it comes first.
///
/// # Dropping
/// Reads in flight are cancelled, and their buffers are freed with their last completions. No byte
/// is lost, since the next read names its position again.
#[must_use = "a stream does nothing until it is polled"]
pub struct FileStream<'f> {
    /// Goes before the file.
    state: State,
    file: Source<'f>,
    chunk_size: usize,
    depth: usize,
}

enum State {
    New(Range<u64>),
    Reading(Box<ReadAhead<Pool>>),
    Ended,
}

enum Source<'f> {
    Borrowed(&'f Handle),
    Owned(Resource),
}

impl Source<'_> {
    fn handle(&self) -> &Handle {
        match self {
            Source::Borrowed(handle) => handle,
            Source::Owned(resource) => resource,
        }
    }
}

impl FileStream<'_> {
    /// How many bytes an item holds, 128 KiB if nothing is said: at least 1, at most 1 GiB, and
    /// with `O_DIRECT` rounded up to whole blocks. Not to be changed once the stream was polled.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.chunk_size = bytes.clamp(1, LARGEST_CHUNK);
        self
    }

    /// How many reads are in flight at most, 8 if nothing is said, and at least 1. Not to be
    /// changed once the stream was polled.
    pub fn depth(mut self, reads: usize) -> Self {
        self.depth = reads.max(1);
        self
    }
}

impl<'f> FileStream<'f> {
    fn new(range: &impl RangeBounds<u64>, file: Source<'f>) -> FileStream<'f> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let state = State::New(start..end);
        FileStream { state, file, chunk_size: USUAL_CHUNK, depth: USUAL_DEPTH }
    }

    fn begin(&self, range: Range<u64>) -> io::Result<ReadAhead<Pool>> {
        let file = self.file.handle();
        if file.is_stream() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a pipe, a terminal or another file without positions is read by `chunks`",
            ));
        }
        if range.end < range.start {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the range ends at {} and starts at {}", range.end, range.start),
            ));
        }
        let is_direct = file.is_direct();
        let alignment = alignment_of(file);
        let piece = self.chunk_size.next_multiple_of(alignment);
        let expected_end = expected_end(file);
        // A device, and what the kernel makes up, have no size.
        let size = if expected_end == 0 { u64::MAX } else { expected_end };
        let pieces = size.min(range.end).saturating_sub(range.start) / piece as u64 + 2;
        let count = pieces.min(self.depth.saturating_add(1) as u64);
        let is_registered = is_direct && pieces / USES_OF_REGISTERED >= count;
        let pool = Pool { pool: None, count: count as usize, size: piece, is_registered };
        let plan = Plan { range, piece, depth: self.depth, alignment, expected_end };
        Ok(ReadAhead::new(file, plan, pool))
    }
}

impl Stream for FileStream<'_> {
    type Item = io::Result<Slice<PoolBuffer>>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Slice<PoolBuffer>>>> {
        if let State::New(range) = &self.state {
            match self.begin(range.clone()) {
                Ok(reading) => self.state = State::Reading(Box::new(reading)),
                Err(error) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let FileStream { state, file, .. } = &mut *self;
        let State::Reading(reading) = state else { return Poll::Ready(None) };
        match ready!(reading.poll_next(file.handle(), context)) {
            Some(Ok((buffer, part))) => Poll::Ready(Some(Ok(buffer.slice(part)))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                // Its memory is not needed any more.
                *state = State::Ended;
                Poll::Ready(None)
            }
        }
    }
}

impl FusedStream for FileStream<'_> {
    fn is_terminated(&self) -> bool {
        match &self.state {
            State::New(_) => false,
            State::Reading(reading) => reading.has_ended(),
            State::Ended => true,
        }
    }
}

impl fmt::Debug for FileStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStream")
            .field("file", self.file.handle())
            .field("chunk_size", &self.chunk_size)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

/// The buffers of a stream. What is kept of them is replaced, so nobody waits for it.
struct Pool {
    pool: Option<BufferPool>,
    count: usize,
    size: usize,
    is_registered: bool,
}

impl Buffers for Pool {
    type Buffer = PoolBuffer;

    fn take(&mut self, _length: usize) -> PoolBuffer {
        let (count, size) = (self.count, self.size);
        let pool = self.pool.get_or_insert_with(|| match self.is_registered {
            true => BufferPool::new(count, size),
            false => BufferPool::unregistered(count, size),
        });
        pool.try_acquire().unwrap_or_else(|| {
            let single = BufferPool::unregistered(1, size);
            single.try_acquire().expect("a new pool has its buffer")
        })
    }
}
