//! Both directions of a stream, for code that polls.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::reader::PollReader;
use super::source::{PollRead, PollWrite};
use super::writer::PollWriter;
use crate::buf::Chunk;

/// A stream for code that polls: what libraries take that are written against the traits of
/// futures-io, tokio or hyper. From `into_poll`, as of
/// [`TcpStream`](crate::net::TcpStream::into_poll).
///
/// With the features of these names it implements `futures_io::{AsyncRead, AsyncBufRead,
/// AsyncWrite}`, `tokio::io::{AsyncRead, AsyncBufRead, AsyncWrite}` and `hyper::rt::{Read, Write}`.
/// It is `Unpin`, and stays on its thread. What is read is copied once, from a buffer of the
/// runtime, or lent there; what is written is copied once, and large pieces are sent from where
/// they lie. [`PollReader`] and [`PollWriter`], of which it is made, say what happens on a drop and
/// when.
///
#[cfg_attr(feature = "futures-io", doc = "```")]
#[cfg_attr(not(feature = "futures-io"), doc = "```ignore")]
/// // With the feature `futures-io`, and the methods of futures-util.
/// use annulus::net::UnixStream;
/// use futures_util::{AsyncBufReadExt, AsyncWriteExt};
///
/// # annulus::block_on(async {
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut ours = ours.into_poll();
/// theirs.write_all("one line\n").await?;
/// let mut line = String::new();
/// ours.read_line(&mut line).await?;
/// ours.write_all(line.as_bytes()).await?;
/// assert_eq!(theirs.read_exact(vec![0; 9]).await?, b"one line\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Files
/// A file has one position for both directions. So a read begins behind what was written before,
/// and what was read ahead is forgotten before a write. The two of
/// [`into_split`](PollStream::into_split) do not know that of each other.
///
/// # What it costs
/// A connection has about 300 bytes of it, the allocations included, and no buffer while it waits.
#[derive(Debug)]
pub struct PollStream<S: PollRead + PollWrite> {
    reader: PollReader<S>,
    writer: PollWriter<S>,
}

impl<S: PollRead + PollWrite> PollStream<S> {
    pub(crate) fn new(stream: S) -> PollStream<S> {
        let stream = Rc::new(stream);
        PollStream {
            reader: PollReader::of_shared(Rc::clone(&stream)),
            writer: PollWriter::of_shared(stream),
        }
    }

    /// The stream, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        self.reader.get_ref()
    }

    /// Both directions, for two tasks. Dropping the writer ends its direction, after what it has
    /// taken.
    pub fn into_split(self) -> (PollReader<S>, PollWriter<S>) {
        (self.reader, self.writer.into_half())
    }

    /// Waits until all is written, and returns the stream. What was received and not read waits in
    /// it for the next read.
    ///
    /// If the future is dropped, so is the stream.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn into_inner(mut self) -> io::Result<S> {
        self.writer.finish().await?;
        drop(self.writer.into_target());
        Ok(self.reader.into_inner().expect("nobody else has the stream once all is written"))
    }

    /// Gives up what is not written yet, and closes the stream; a TCP connection is reset. Of what
    /// was taken any first part may have been written.
    pub fn abort(self) {
        self.writer.abort();
    }

    /// As [`PollReader::poll_fill_buf`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_fill_buf(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        ready!(self.poll_written(context));
        self.reader.poll_fill_buf(context)
    }

    /// As [`PollReader::consume`].
    ///
    /// # Panics
    /// As there.
    pub fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }

    /// As [`PollReader::poll_read`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(context));
        self.reader.poll_read(context, buffer)
    }

    /// As [`PollReader::poll_chunk`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        ready!(self.poll_written(context));
        self.reader.poll_chunk(context)
    }

    /// As [`PollReader::unread`].
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.reader.unread(bytes);
    }

    #[cfg(any(feature = "tokio-io", feature = "hyper"))]
    pub(super) fn poll_copy(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
        put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(context));
        self.reader.poll_copy(context, room, put)
    }

    /// As [`PollWriter::poll_write`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// As [`PollWriter::poll_write_vectored`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.reader.has_positions() {
            self.reader.step_back();
        }
        self.writer.poll_write_vectored(context, slices)
    }

    /// As [`PollWriter::poll_flush`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(context)
    }

    /// As [`PollWriter::poll_shutdown`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_shutdown(context)
    }

    /// Waits until what was written is where a read would find it, if both move one position.
    fn poll_written(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.reader.has_positions() { self.writer.poll_idle(context) } else { Poll::Ready(()) }
    }
}

crate::io::reads_for_libraries!([S: PollRead + PollWrite] PollStream<S>);
crate::io::lends_for_libraries!([S: PollRead + PollWrite] PollStream<S>);
crate::io::writes_for_libraries!([S: PollRead + PollWrite] PollStream<S>);
