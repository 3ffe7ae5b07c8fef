//! Reading by polls: what came is lent, in the buffer of the runtime into which it was received.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, Stream};

use super::source::PollRead;
use crate::buf::Chunk;
use crate::inflight::{Direction, Left, Op};
use crate::io::unread::Unread;
use crate::op::chunks::{ChunkSource, Chunks};
use crate::op::file::ReadAt;
use crate::op::place::Standing;

/// How much is read at a time from a file with positions, in bytes.
const BYTES_OF_FILE: usize = 64 << 10;

/// The reading direction of a stream, half, pipe or file, for code that polls.
pub struct PollReader<S: PollRead> {
    source: Rc<S>,
    /// Nothing until the first poll.
    input: Option<Input>,
    current: Unread,
    ended: bool,
}

/// What is under way.
enum Input {
    /// A socket, a pipe or a terminal.
    Chunks(Chunks<'static>),
    /// A file with positions.
    File(Op<'static, ReadAt<Vec<u8>, Standing>>),
}

impl<S: PollRead> PollReader<S> {
    pub(crate) fn new(source: S) -> PollReader<S> {
        PollReader::of_shared(Rc::new(source))
    }

    pub(super) fn of_shared(source: Rc<S>) -> PollReader<S> {
        PollReader { source, input: None, current: Unread::nothing(), ended: false }
    }

    /// What is read from, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        &self.source
    }

    /// Waits until there are bytes, and lends them. None is the end.
    ///
    /// # Errors
    /// The kernel's, once; then it is at the end.
    pub fn poll_fill_buf(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.current.is_empty() && !self.ended {
            ready!(self.poll_next(context))?;
        }
        Poll::Ready(Ok(self.current.bytes()))
    }

    /// The first `count` of the lent bytes are done with.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.current.consume(count);
        if self.current.is_empty() {
            // A buffer of the runtime goes back now, and not with the next bytes.
            self.current = Unread::nothing();
        }
    }

    /// Waits until there are bytes, and gives them away without a copy. An empty chunk is the end.
    ///
    /// # Errors
    /// As [`poll_fill_buf`](PollReader::poll_fill_buf).
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        ready!(self.poll_fill_buf(context))?;
        Poll::Ready(Ok(self.current.take_chunk()))
    }

    /// Copies what has come to where `put` puts it, at most `room` bytes. 0 bytes are the end.
    #[cfg(any(feature = "futures-io", feature = "tokio-io", feature = "hyper"))]
    pub(super) fn poll_copy(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
        put: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.poll_fill_buf(context))?;
        let count = room.min(bytes.len());
        put(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }

    /// Puts bytes in front of those that are still to be read: what a library has read ahead and
    /// gives back.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.current.put_back(bytes);
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let input = self.input.get_or_insert_with(|| Input::of(&*self.source));
        let next = match input {
            Input::Chunks(chunks) => {
                ready!(Pin::new(chunks).poll_next(context)).map(|chunk| chunk.map(Unread::Chunk))
            }
            Input::File(read) => {
                let read = ready!(read.poll_unpin(context));
                self.input = None;
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
                self.input = None;
                end.transpose()?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The source, to which what nobody has consumed goes back.
    pub(super) fn into_shared(mut self) -> Rc<S> {
        // First what was received ahead goes into the lane, then what came before it.
        self.input = None;
        if !self.current.is_empty() {
            let rest = self.current.take_chunk();
            self.source.inbound().lane(Direction::Inbound).put_back(Left::Chunk(rest));
        }
        self.source
    }
}

impl Input {
    fn of(source: &impl PollRead) -> Input {
        let handle = source.inbound();
        if handle.is_socket() {
            Input::Chunks(Chunks::of(handle, ChunkSource::Socket))
        } else if handle.is_stream() {
            Input::Chunks(Chunks::of(handle, ChunkSource::File))
        } else {
            let buffer = Vec::with_capacity(BYTES_OF_FILE);
            Input::File(Op::new(ReadAt::new(handle, buffer, Standing)))
        }
    }
}

impl<S: PollRead> Unpin for PollReader<S> {}

impl<S: PollRead> fmt::Debug for PollReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollReader").field("source", self.source.inbound()).finish_non_exhaustive()
    }
}
