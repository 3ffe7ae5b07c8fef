//! A pipelined writer of a file: several writes in flight, and an end that says what is written and
//! what is durable.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Sink;

use super::File;
use super::read_ahead::alignment_of;
use crate::buf::{AlignedBuffer, Error, IoBuf, Slice};
use crate::inflight::{Handle, Op};
use crate::op::cached::submit_early;
use crate::op::file::{Fsync, WriteAllAt};
use crate::sys;

/// Writes in flight unless [`FileSink::depth`] says otherwise.
const USUAL_DEPTH: usize = 8;
/// That many bytes of buffers that do not suit `O_DIRECT` are collected before they are written.
const COLLECTED: usize = 128 << 10;

/// What [`FileSink::finish`] brings to the device before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the kernel writes it when it likes.
    None,
    /// The content, and the metadata that is needed to find it; fdatasync(2).
    Data,
    /// The content and all metadata; fsync(2).
    All,
}

/// Why a [`FileSink`] failed, and how far it had come. `?` makes an [`io::Error`] of it, with the
/// kernel's error number.
pub struct SinkError {
    error: io::Error,
    written: u64,
    durable: u64,
}

impl SinkError {
    /// How many bytes are written from the sink's start without a gap. Some of those behind them
    /// may be written, too.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes from the sink's start are on the device: those that were written when a sync
    /// succeeded that [`finish`](FileSink::finish) made.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The kind of the error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// The kernel's error number, if the error came from there.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.error.raw_os_error()
    }

    /// The error without the counts.
    pub fn get_ref(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkError")
            .field("error", &self.error)
            .field("written", &self.written)
            .field("durable", &self.durable)
            .finish()
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SinkError { error, written, durable } = self;
        write!(f, "{error}; {written} bytes are written without a gap, {durable} are durable")
    }
}

/// Its source is that of the [`io::Error`], whose message it shows.
impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<SinkError> for io::Error {
    fn from(error: SinkError) -> io::Error {
        error.error
    }
}

impl File {
    /// A pipelined writer from the start of the file on; pwrite(2). See [`FileSink`].
    ///
    /// ```
    /// use annulus::fs::{Durability, File};
    /// use futures_util::TryStreamExt;
    ///
    /// # annulus::block_on(async {
    /// # let path = std::env::temp_dir().join(format!("annulus-sink-{}", std::process::id()));
    /// let (from, to) = (File::open("Cargo.lock").await?, File::create(&path).await?);
    /// let mut content = from.stream(..);
    /// let mut sink = to.sink();
    /// while let Some(chunk) = content.try_next().await? {
    ///     sink.write(chunk).await?; // the same buffer, without a copy
    /// }
    /// let written = sink.finish(Durability::Data).await?;
    /// assert_eq!(written, from.metadata().await?.len());
    /// # annulus::fs::remove_file(&path).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn sink<B: IoBuf>(&self) -> FileSink<'_, B> {
        self.sink_at(0)
    }

    /// A pipelined writer from an offset on; pwrite(2). See [`FileSink`].
    pub fn sink_at<B: IoBuf>(&self, offset: u64) -> FileSink<'_, B> {
        let file: &Handle = &self.handle;
        let is_in_order = file.is_stream() || sys::appends(file.as_fd());
        let alignment = alignment_of(file);
        let failure = (!offset.is_multiple_of(alignment as u64)).then(|| {
            Failure::Untold(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a file opened with O_DIRECT is written from a multiple of {alignment} on, and {offset} is none"
                ),
            ))
        });
        FileSink {
            file,
            depth: if is_in_order { 1 } else { USUAL_DEPTH },
            is_in_order,
            alignment,
            start: offset,
            next: offset,
            end: offset,
            collected: None,
            window: VecDeque::new(),
            started: 0,
            written: 0,
            durable: 0,
            failure,
        }
    }
}

/// A pipelined writer, made by [`File::sink`] and [`File::sink_at`]: takes buffers in order and
/// keeps several writes in flight. It is a [`Sink`], too.
///
/// [`write`](FileSink::write) waits only while [`depth`](FileSink::depth) writes are in flight. A
/// buffer is dropped with the end of its write, so one of a pool or of a
/// [`stream`](super::FileStream) goes back. [`finish`](FileSink::finish) waits for all of them, and
/// syncs as asked. The file becomes no shorter. A pipe, a terminal and a file opened with
/// `O_APPEND` are written to one buffer at a time, in order.
///
/// Writes through the page cache are made by one worker thread of the kernel for each file, so they
/// go on beside the loop, and more than two in flight bring nothing. Direct writes to blocks that
/// the file has already are in flight together; those that make it longer the file system does one
/// by one.
///
/// # `O_DIRECT`
/// The sink starts at a whole block. A buffer whose address and length suit is written as it is;
/// others are collected in aligned memory, 128 KiB at a time. What is left over at the end, less
/// than a block, is written through the page cache: for the time of that write the sink clears the
/// flag of the open file (fcntl(2)), and other transfers of it go through the page cache, too. So
/// the file ends with the last byte, and what it holds behind that stays.
///
/// # Errors
/// An error is told once, by the next call, when all that was in flight has ended: [`SinkError`]
/// says how much is written without a gap, and how much is durable. Nothing is written from then
/// on, and later calls fail.
///
/// # Dropping
/// A sink that is dropped before `finish` has ended cancels its writes: each of them may happen all
/// the same, wholly or in part, and what was collected is not written. Later writes, syncs and
/// `set_len` of this [`File`] wait until that is known, so nothing lands after one of them.
#[must_use = "a sink that is not finished may not write all"]
pub struct FileSink<'f, B: IoBuf> {
    file: &'f Handle,
    depth: usize,
    is_in_order: bool,
    alignment: usize,
    start: u64,
    /// Where the next write begins.
    next: u64,
    /// Where the next buffer begins: behind what is collected.
    end: u64,
    collected: Option<AlignedBuffer>,
    window: VecDeque<Write<'f, B>>,
    /// So many at the front of the window were polled, and thereby begun.
    started: usize,
    written: u64,
    durable: u64,
    failure: Option<Failure>,
}

enum Failure {
    Untold(io::Error),
    Told,
}

/// One write.
struct Write<'f, B: IoBuf> {
    offset: u64,
    length: usize,
    state: WriteState<'f, B>,
    /// While the flag is cleared for it.
    _through_cache: Option<ThroughCache<'f>>,
}

enum WriteState<'f, B: IoBuf> {
    Given(Op<'f, WriteAllAt<Slice<B>>>),
    Collected(Op<'f, WriteAllAt<AlignedBuffer>>),
    /// How much was written, and the error that ended it.
    Ended(usize, Option<io::Error>),
}

impl<B: IoBuf> Write<'_, B> {
    /// The first poll begins it. Ready: it has ended.
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        fn failed<B>(error: Error<B>) -> (usize, Option<io::Error>) {
            (error.transferred(), Some(error.into()))
        }
        let mut context = Context::from_waker(context.waker());
        let length = self.length;
        let (moved, error) = match &mut self.state {
            WriteState::Ended(..) => return Poll::Ready(()),
            WriteState::Given(write) => ready!(Pin::new(write).poll(&mut context))
                .map_or_else(failed, |_buffer| (length, None)),
            WriteState::Collected(write) => ready!(Pin::new(write).poll(&mut context))
                .map_or_else(failed, |_buffer| (length, None)),
        };
        self.state = WriteState::Ended(moved, error);
        Poll::Ready(())
    }
}

/// While it lives, transfers of an open file go through the page cache.
struct ThroughCache<'f>(&'f Handle);

impl ThroughCache<'_> {
    fn begin(file: &Handle) -> io::Result<ThroughCache<'_>> {
        sys::set_direct(file.as_fd(), false)?;
        Ok(ThroughCache(file))
    }
}

impl Drop for ThroughCache<'_> {
    fn drop(&mut self) {
        // It was set before, so the file system takes it.
        let _ = sys::set_direct(self.0.as_fd(), true);
    }
}

impl<B: IoBuf> FileSink<'_, B> {
    /// How many writes are in flight at most, 8 if nothing is said, and at least 1. Not to be
    /// changed later. A pipe, a terminal and a file opened with `O_APPEND` keep to 1.
    pub fn depth(mut self, writes: usize) -> Self {
        if !self.is_in_order {
            self.depth = writes.max(1);
        }
        self
    }

    /// How many bytes are written from the sink's start without a gap, as far as is known.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Begins the write of a buffer, when fewer than [`depth`](FileSink::depth) writes are in
    /// flight.
    ///
    /// If it is dropped before it has ended the buffer is not written, and the sink can be used on.
    ///
    /// # Errors
    /// That of an earlier write; see [`FileSink`]. The buffer is not written then.
    pub async fn write(&mut self, buffer: B) -> Result<(), SinkError> {
        poll_fn(|context| self.poll_room(context)).await?;
        self.accept(buffer);
        poll_fn(|context| {
            self.start_all(context);
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    /// Waits until everything is written, brings it to the device as asked, and returns how many
    /// bytes were written.
    ///
    /// If it is dropped before it has ended, that is as if the sink were.
    ///
    /// # Errors
    /// The first error of a write, or else that of the sync. What could be written is synced even
    /// if a write failed, so [`SinkError::durable`] counts it.
    pub async fn finish(mut self, durability: Durability) -> Result<u64, SinkError> {
        poll_fn(|context| self.poll_all(context)).await;
        let data_only = match durability {
            Durability::None => None,
            Durability::Data => Some(true),
            Durability::All => Some(false),
        };
        if let Some(data_only) = data_only {
            match Fsync::op(self.file, data_only).await {
                Ok(()) => self.durable = self.written,
                Err(error) => {
                    self.failure.get_or_insert(Failure::Untold(error));
                }
            }
        }
        self.told()?;
        Ok(self.written)
    }

    /// The failure, if there is one.
    fn told(&mut self) -> Result<(), SinkError> {
        let Some(failure) = &mut self.failure else { return Ok(()) };
        let error = match std::mem::replace(failure, Failure::Told) {
            Failure::Untold(error) => error,
            Failure::Told => io::Error::other("an earlier write of this sink has failed"),
        };
        Err(SinkError { error, written: self.written, durable: self.durable })
    }

    /// Waits until another write may begin.
    fn poll_room(&mut self, context: &Context<'_>) -> Poll<Result<(), SinkError>> {
        self.start_all(context);
        while let Poll::Ready(true) = self.poll_first(context) {}
        if self.failure.is_some() {
            ready!(self.poll_empty(context));
            return Poll::Ready(self.told());
        }
        if self.window.len() < self.depth { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Begins what was accepted.
    fn start_all(&mut self, context: &Context<'_>) {
        while let Some(write) = self.window.get_mut(self.started) {
            if write.poll(context).is_pending() {
                submit_early();
            }
            self.started += 1;
        }
    }

    /// Waits for the end of the first write. `false`: there is none.
    fn poll_first(&mut self, context: &Context<'_>) -> Poll<bool> {
        let Some(first) = self.window.front_mut() else { return Poll::Ready(false) };
        ready!(first.poll(context));
        let Some(first) = self.window.pop_front() else { return Poll::Ready(false) };
        self.started = self.started.saturating_sub(1);
        if self.failure.is_none()
            && let WriteState::Ended(moved, error) = first.state
        {
            self.written = self.written.max(first.offset - self.start + moved as u64);
            self.failure = error.map(Failure::Untold);
        }
        Poll::Ready(true)
    }

    /// Waits until nothing is in flight.
    fn poll_empty(&mut self, context: &Context<'_>) -> Poll<()> {
        self.start_all(context);
        while ready!(self.poll_first(context)) {}
        Poll::Ready(())
    }

    /// Waits until all that was accepted is written, or an error has ended it.
    fn poll_all(&mut self, context: &Context<'_>) -> Poll<()> {
        loop {
            ready!(self.poll_empty(context));
            if self.failure.is_some() || self.start + self.written == self.end {
                return Poll::Ready(());
            }
            self.write_collected();
        }
    }
}

impl<'f, B: IoBuf> FileSink<'f, B> {
    /// Takes a buffer, and makes at most one write of it.
    fn accept(&mut self, buffer: B) {
        let length = buffer.init_len();
        if length == 0 {
            return;
        }
        self.end = self.end.saturating_add(length as u64);
        let blocks = length - length % self.alignment;
        let suits = blocks > 0
            && self.collected.is_none()
            && buffer.as_init_ptr().addr().is_multiple_of(self.alignment);
        if !suits {
            return self.collect(buffer.as_init());
        }
        if blocks < length {
            self.collected = Some(copied(&buffer.as_init()[blocks..]));
        }
        let write = WriteAllAt::op(self.file, buffer.slice(..blocks), self.next);
        self.push(WriteState::Given(write), blocks, None);
        self.next = self.next.saturating_add(blocks as u64);
    }

    /// Puts bytes behind those that wait until there are enough, and writes whole blocks of them if
    /// there are.
    fn collect(&mut self, bytes: &[u8]) {
        let mut collected = self.collected.take().unwrap_or_else(|| copied(&[]));
        if collected.capacity() - collected.len() < bytes.len() {
            let mut larger =
                AlignedBuffer::with_page_alignment(collected.len().saturating_add(bytes.len()));
            larger.extend_from_slice(&collected);
            collected = larger;
        }
        collected.extend_from_slice(bytes);
        let is_enough = collected.len() >= COLLECTED;
        self.collected = Some(collected);
        if is_enough {
            self.write_blocks();
        }
    }

    /// Writes the whole blocks of what is collected. `false`: there is none.
    fn write_blocks(&mut self) -> bool {
        let Some(mut collected) = self.collected.take() else { return false };
        let blocks = collected.len() - collected.len() % self.alignment;
        if blocks == 0 {
            self.collected = Some(collected);
            return false;
        }
        if blocks < collected.len() {
            self.collected = Some(copied(&collected[blocks..]));
            collected.truncate(blocks);
        }
        let write = WriteAllAt::op(self.file, collected, self.next);
        self.push(WriteState::Collected(write), blocks, None);
        self.next = self.next.saturating_add(blocks as u64);
        true
    }

    /// Writes what is collected. Less than a block goes through the page cache, and stays here for
    /// the block that it will be part of.
    fn write_collected(&mut self) {
        if self.write_blocks() {
            return;
        }
        let Some(rest) = self.collected.as_deref().map(copied) else { return };
        match ThroughCache::begin(self.file) {
            Ok(through_cache) => {
                let length = rest.len();
                let write = WriteAllAt::op(self.file, rest, self.next);
                self.push(WriteState::Collected(write), length, Some(through_cache));
            }
            Err(error) => self.failure = Some(Failure::Untold(error)),
        }
    }

    fn push(
        &mut self,
        state: WriteState<'f, B>,
        length: usize,
        through_cache: Option<ThroughCache<'f>>,
    ) {
        let offset = self.next;
        self.window.push_back(Write { offset, length, state, _through_cache: through_cache });
    }
}

/// Aligned memory that begins with these bytes.
fn copied(bytes: &[u8]) -> AlignedBuffer {
    let mut collected = AlignedBuffer::with_page_alignment(COLLECTED.max(bytes.len()));
    collected.extend_from_slice(bytes);
    collected
}

/// `close` writes what was collected, and syncs nothing.
impl<B: IoBuf> Sink<B> for FileSink<'_, B> {
    type Error = SinkError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        self.poll_room(context)
    }

    fn start_send(mut self: Pin<&mut Self>, buffer: B) -> Result<(), SinkError> {
        self.accept(buffer);
        Ok(())
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        ready!(self.poll_all(context));
        Poll::Ready(self.told())
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_flush(context)
    }
}

impl<B: IoBuf> Unpin for FileSink<'_, B> {}

impl<B: IoBuf> fmt::Debug for FileSink<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("file", &self.file)
            .field("depth", &self.depth)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
