//! Reading by polls: what came is lent, in the buffer of the runtime into which it was received.

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, Stream};

use super::source::PollRead;
use crate::buf::Chunk;
use crate::inflight::{Direction, Handle, Left, Op};
use crate::io::unread::Unread;
use crate::op::chunks::{ChunkSource, Chunks};
use crate::op::file::ReadAt;
use crate::op::place::Place;
use crate::sys::Whence;

/// How much is read at a time from a file with positions, in bytes.
const BYTES_OF_FILE: usize = 64 << 10;

/// The reading direction of a stream, half, pipe or file, for code that polls; from `into_poll`.
///
/// It is what libraries take that are written against the traits of futures-io, tokio or hyper:
/// with the feature `futures-io`, `tokio-io` or `hyper` it implements theirs. The methods here are
/// for code without them.
///
/// # What it holds
/// One receive stays armed in the ring, and takes a buffer of the runtime only when there are bytes
/// for it. At most about 8 such buffers wait to be read; the rest waits in the kernel, and the peer
/// has to wait. A file with positions is read 64 KiB at a time, when they are asked for.
///
/// # Dropping
/// Dropping a future that polls it loses nothing: the bytes are here, and not in the future. What
/// was received and not read goes with the reader when that is dropped, and back to the stream by
/// `into_inner`.
///
/// ```
/// use std::future::poll_fn;
///
/// # annulus::block_on(async {
/// let (reader, writer) = annulus::io::pipe()?;
/// writer.write_all("through").await?;
/// let mut reader = reader.into_poll();
/// let mut four = [0; 4];
/// assert_eq!(poll_fn(|context| reader.poll_read(context, &mut four)).await?, 4);
/// let rest = poll_fn(|context| reader.poll_chunk(context)).await?;
/// assert_eq!((&four, &rest[..]), (b"thro", &b"ugh"[..]));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct PollReader<S: PollRead> {
    source: Rc<S>,
    input: Input<S::Place>,
    current: Unread,
    /// What went wrong behind bytes that were handed over.
    failed: Option<io::Error>,
    ended: bool,
}

/// What is under way.
enum Input<P: Place> {
    Nothing,
    /// A socket, a pipe or a terminal.
    Chunks(Chunks<'static>),
    /// A file with positions.
    File(Op<'static, ReadAt<Vec<u8>, P>>),
}

impl<S: PollRead> PollReader<S> {
    pub(crate) fn new(source: S) -> PollReader<S> {
        PollReader::of_shared(Rc::new(source))
    }

    pub(super) fn of_shared(source: Rc<S>) -> PollReader<S> {
        PollReader {
            source,
            input: Input::Nothing,
            current: Unread::nothing(),
            failed: None,
            ended: false,
        }
    }

    /// What is read from, for its addresses and options. From the first poll on, reads through it
    /// wait.
    pub fn get_ref(&self) -> &S {
        &self.source
    }

    /// Waits until there are bytes, and lends them, without a copy. None is the end, which stays.
    ///
    /// # Errors
    /// The kernel's, once; then it is at the end.
    pub fn poll_fill_buf(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.current.is_empty() {
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Err(error));
            }
            if !self.ended {
                ready!(self.poll_next(context))?;
            }
        }
        Poll::Ready(Ok(self.current.bytes()))
    }

    /// The first `count` of the lent bytes are done with.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.current.consume(count);
        if self.current.is_empty() && !self.reuses_memory() {
            // A buffer of the runtime goes back now, and not with the next bytes.
            self.current = Unread::nothing();
        }
    }

    /// Waits until there are bytes, and copies as many as there are and fit. 0 bytes are the end.
    ///
    /// # Errors
    /// As [`poll_fill_buf`](PollReader::poll_fill_buf).
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut start = 0;
        self.poll_copy(context, buffer.len(), |bytes| {
            buffer[start..start + bytes.len()].copy_from_slice(bytes);
            start += bytes.len();
        })
    }

    /// Waits until there are bytes, and gives them away without a copy. An empty chunk is the end.
    /// With the feature `bytes`, a chunk becomes a `Bytes` without a copy, too.
    ///
    /// # Errors
    /// As [`poll_fill_buf`](PollReader::poll_fill_buf).
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        ready!(self.poll_fill_buf(context))?;
        Poll::Ready(Ok(self.current.take_chunk()))
    }

    /// Puts bytes in front of those that are still to be read: what a library has read ahead and
    /// gives back.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.current.put_back(bytes);
        }
    }

    /// What is read from. What was received and not read waits in it for the next read. `None`: the
    /// other direction has it still.
    pub fn into_inner(self) -> Option<S> {
        Rc::into_inner(self.into_source())
    }

    /// Copies what has come to where `put` puts it, at most `room` bytes. 0 bytes are the end.
    pub(super) fn poll_copy(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut copied = 0;
        while copied < room {
            let bytes = match self.poll_fill_buf(context) {
                Poll::Ready(Ok(bytes)) => bytes,
                other if copied == 0 => return other.map_ok(|_| 0),
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Pending => break,
            };
            let count = bytes.len().min(room - copied);
            put(&bytes[..count]);
            self.consume(count);
            copied += count;
            // Behind bytes of a file the next read would have to be waited for.
            if count == 0 || !matches!(self.input, Input::Chunks(_)) {
                break;
            }
        }
        Poll::Ready(Ok(copied))
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Input::Nothing = self.input {
            self.input = self.begin();
        }
        let next = match &mut self.input {
            Input::Nothing => None,
            Input::Chunks(chunks) => {
                ready!(Pin::new(chunks).poll_next(context)).map(|chunk| chunk.map(Unread::Chunk))
            }
            Input::File(read) => {
                let read = ready!(read.poll_unpin(context));
                self.input = Input::Nothing;
                match read {
                    Ok((0, _)) => None,
                    Ok((_, bytes)) => Some(Ok(Unread::of(bytes))),
                    Err(error) => Some(Err(error.into())),
                }
            }
        };
        match next {
            Some(Ok(bytes)) => self.current = bytes,
            end => {
                self.ended = true;
                self.input = Input::Nothing;
                end.transpose()?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn begin(&mut self) -> Input<S::Place> {
        let handle = self.source.inbound();
        if handle.is_socket() {
            Input::Chunks(Chunks::for_polls(handle, ChunkSource::Socket))
        } else if handle.is_stream() {
            Input::Chunks(Chunks::for_polls(handle, ChunkSource::File))
        } else {
            let memory = self.current.take_memory(BYTES_OF_FILE);
            Input::File(Op::new(ReadAt::new(handle, memory, S::PLACE)))
        }
    }

    /// Is it a file with positions, and not at its end? Then what was lent is read into again.
    fn reuses_memory(&self) -> bool {
        !self.ended && self.has_positions()
    }

    /// Is it a file that is read at one place after the other?
    pub(super) fn has_positions(&self) -> bool {
        has_positions(self.source.inbound())
    }

    /// The source, to which what nobody has consumed goes back.
    pub(super) fn into_source(mut self) -> Rc<S> {
        // First what was received ahead goes into the lane, then what came before it.
        self.input = Input::Nothing;
        let handle = self.source.inbound();
        if !S::PLACE.is_read_once(handle) {
            self.step_back();
            return self.source;
        }
        let lane = handle.lane(Direction::Inbound);
        if !self.current.is_empty() {
            lane.put_back(match self.current {
                Unread::Chunk(chunk) => Left::Chunk(chunk),
                Unread::Heap { bytes, start } => Left::Bytes { bytes, start },
            });
        }
        if let Some(error) = self.failed {
            lane.leave_error(&error);
        }
        self.source
    }

    /// Makes a file with positions stand where the next byte to be read is. Reading ahead has moved
    /// it.
    pub(super) fn step_back(&mut self) {
        self.input = Input::Nothing;
        let rest = mem::replace(&mut self.current, Unread::nothing()).bytes().len() as u64;
        let handle = self.source.inbound();
        if rest > 0
            && let Ok(at) = handle.stream_position()
        {
            // It has stood there, so it can again.
            let _ = handle.stand_at(at.saturating_sub(rest) as i64, Whence::Start);
        }
    }
}

fn has_positions(handle: &Handle) -> bool {
    !handle.is_socket() && !handle.is_stream()
}

crate::io::reads_for_libraries!([S: PollRead] PollReader<S>);
crate::io::lends_for_libraries!([S: PollRead] PollReader<S>);

impl<S: PollRead> Unpin for PollReader<S> {}

impl<S: PollRead> fmt::Debug for PollReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollReader").field("source", self.source.inbound()).finish_non_exhaustive()
    }
}
