//! Reading and writing an open file.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use super::{Metadata, OpenOptions};
use crate::buf::{IoBuf, IoBufMut, IoBufs};
use crate::inflight::{Op, Resource};
use crate::op::Chunks;
use crate::op::chunks::{ChunkSource, ReadChunk};
use crate::op::file::{Advise, Fsync, ReadAt, ReadExactAt, Truncate, WriteAllAt, WriteAt};
use crate::op::path::Statx;
use crate::op::vectored::{ReadVectoredAt, WriteVectoredAt};

/// An open file. Operations name their position, so any number of them can be in flight at once.
///
/// # Dropping
/// The file is closed when `drop` returns. Dropped operations of it that are in flight are
/// cancelled; where those are made by a worker, it is closed with the end of the last of them. A
/// file of a network or user-space file system, or of a device, is closed by a thread, since that
/// may wait: `drop` does not. [`close`](File::close) waits, and says how that went. A forgotten
/// file (`mem::forget`) keeps its descriptor.
///
/// ```
/// use annulus::fs::File;
///
/// # annulus::block_on(async {
/// let file = File::open("Cargo.toml").await?;
/// let (count, head) = file.read_at(Vec::with_capacity(9), 0).await?;
/// assert_eq!(&head[..count], b"[package]");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct File {
    handle: Resource,
}

/// How a part of a file will be used, for [`File::advise`]; posix_fadvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing is known of it: what holds for a file without advice (`POSIX_FADV_NORMAL`).
    Normal,
    /// From lower offsets to higher ones: the kernel reads further ahead (`POSIX_FADV_SEQUENTIAL`).
    Sequential,
    /// In no order: the kernel does not read ahead (`POSIX_FADV_RANDOM`).
    Random,
    /// Once only (`POSIX_FADV_NOREUSE`).
    NoReuse,
    /// Soon: the kernel begins to read it (`POSIX_FADV_WILLNEED`).
    WillNeed,
    /// Not soon: the kernel lets go of whole pages that it has cached (`POSIX_FADV_DONTNEED`).
    DontNeed,
}

impl Advice {
    fn code(self) -> i32 {
        match self {
            Advice::Normal => libc::POSIX_FADV_NORMAL,
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::NoReuse => libc::POSIX_FADV_NOREUSE,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        }
    }
}

impl File {
    pub(super) fn from_handle(handle: Resource) -> File {
        File { handle }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of [`OpenOptions::open`], here and below.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing; it is made if need be and else emptied.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// Makes a file for reading and writing, which must not exist.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).await
    }

    /// Options for opening a file otherwise: [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads at an offset, and returns the count and the buffer; pread(2).
    ///
    /// The read starts at the buffer's beginning, may use its whole capacity, and sets the length
    /// to what it read. 0 is the end of the file. It may read less than fits; one read moves at
    /// most 2,147,479,552 bytes.
    ///
    /// A dropped read loses nothing, since the next one names its position again.
    ///
    /// On a pipe, a FIFO, a terminal or a descriptor of events (eventfd, timerfd, signalfd,
    /// inotify), which have no positions, the offset does not count. There the bytes that a dropped
    /// read got go to the next read.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for a buffer without room or an offset over
    /// `i64::MAX`.
    pub fn read_at<B: IoBufMut>(&self, buffer: B, offset: u64) -> Op<'_, ReadAt<B>> {
        ReadAt::op(&self.handle, buffer, offset)
    }

    /// The bytes of a pipe, a FIFO, a terminal or a descriptor of events as they come, in buffers
    /// of the runtime, as a stream; see [`Chunks`].
    ///
    /// ```
    /// use std::io::Write;
    /// use annulus::fs::File;
    /// use futures_util::StreamExt;
    ///
    /// # annulus::block_on(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let reader = File::from(std::os::fd::OwnedFd::from(reader));
    /// writer.write_all(b"line\n")?;
    /// let chunk = reader.chunks().next().await.expect("something was written")?;
    /// assert_eq!(&chunk[..], b"line\n");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Its items: the kernel's; `InvalidInput` for a file with positions (also `/dev/null` and
    /// `/dev/zero`), which is read at an offset.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.handle, ChunkSource::File)
    }

    /// Reads what has come through a pipe, a FIFO or a terminal into a buffer of the runtime;
    /// read(2). While it waits it holds none.
    ///
    /// An empty [`Chunk`](crate::buf::Chunk) is the end of the stream. What a dropped one got waits
    /// for the next.
    ///
    /// Yields `io::Result<Chunk>`.
    ///
    /// # Errors
    /// As [`chunks`](File::chunks).
    pub fn read_chunk(&self) -> Op<'_, ReadChunk> {
        ReadChunk::op(&self.handle, ChunkSource::File)
    }

    /// Reads at an offset until the buffer's whole capacity is full, and returns it.
    ///
    /// The capacity of a `Vec` may be larger than was asked for: [`slice(..n)`](IoBuf::slice) reads
    /// exactly `n` bytes. Dropping it is as with [`read_at`](File::read_at).
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the file, else the kernel's. The buffer that the error carries
    /// holds what was read until then, and [`transferred`](crate::Error::transferred) counts it; at
    /// 0 the buffer is as it was given.
    pub fn read_exact_at<B: IoBufMut>(&self, buffer: B, offset: u64) -> Op<'_, ReadExactAt<B>> {
        ReadExactAt::op(&self.handle, buffer, offset)
    }

    /// Reads at an offset into several buffers, one after the other; preadv(2). Buffers that
    /// nothing was read into keep their length.
    ///
    /// At most 1024 buffers take part, as after a short read. It allocates for the list of
    /// addresses.
    ///
    /// Yields `Result<(usize, Vec<B>), Error<Vec<B>>>`.
    ///
    /// # Errors
    /// As [`read_at`](File::read_at).
    pub fn read_vectored_at<B: IoBufMut>(
        &self,
        buffers: Vec<B>,
        offset: u64,
    ) -> Op<'_, ReadVectoredAt<B>> {
        ReadVectoredAt::op(&self.handle, buffers, offset)
    }

    /// Writes at an offset, and returns the count and the buffer; pwrite(2). It may write less than
    /// the buffer holds.
    ///
    /// A dropped write may happen all the same, wholly or in part. Later writes, syncs and
    /// `set_len` of this `File` wait until that is known, so it never lands after one of them.
    /// Reads do not wait.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for an offset over `i64::MAX`.
    pub fn write_at<B: IoBuf>(&self, buffer: B, offset: u64) -> Op<'_, WriteAt<B>> {
        WriteAt::op(&self.handle, buffer, offset)
    }

    /// Writes all of the buffer at an offset, and returns it. If the future is dropped any first
    /// part of it may be written, as with [`write_at`](File::write_at).
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at); [`transferred`](crate::Error::transferred) says how much
    /// was written before.
    pub fn write_all_at<B: IoBuf>(&self, buffer: B, offset: u64) -> Op<'_, WriteAllAt<B>> {
        WriteAllAt::op(&self.handle, buffer, offset)
    }

    /// Writes several buffers at an offset, one after the other; pwritev(2). It may write less than
    /// they hold, and at most 1024 take part.
    ///
    /// They come as a vector, an array, or a tuple of different ones.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_vectored_at<B: IoBufs>(
        &self,
        buffers: B,
        offset: u64,
    ) -> Op<'_, WriteVectoredAt<B>> {
        WriteVectoredAt::op(&self.handle, buffers, offset)
    }

    /// Brings content and metadata to the device; fsync(2). It covers writes that have ended, not
    /// those in flight. For dropped writes it waits. If it is dropped itself it may happen all the
    /// same.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's, for example of an earlier write that only now came to the device.
    pub fn sync_all(&self) -> Op<'_, Fsync> {
        Fsync::op(&self.handle, false)
    }

    /// Brings the content to the device, and only the metadata that is needed to find it;
    /// fdatasync(2).
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// As [`sync_all`](File::sync_all).
    pub fn sync_data(&self) -> Op<'_, Fsync> {
        Fsync::op(&self.handle, true)
    }

    /// Makes the file `length` bytes long, cutting it off or filling up with zeroes; ftruncate(2).
    /// Before Linux 6.9 it takes the [software path](crate::docs::software_ring).
    ///
    /// It waits for dropped writes. If it is dropped itself it may happen all the same, but not
    /// after a later write of this `File`.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's; `InvalidInput` for a length over `i64::MAX`.
    pub fn set_len(&self, length: u64) -> Op<'_, Truncate> {
        Truncate::op(&self.handle, length)
    }

    /// Tells the kernel how a part of the file will be used, so that it reads ahead, or lets go of
    /// what it has cached; posix_fadvise(2). `len` 0 means: to the end of the file. Nothing that is
    /// read or written changes by it.
    ///
    /// It waits for nothing that is in flight, so pages that are not written yet stay in the cache:
    /// [`sync_data`](File::sync_data) comes before [`Advice::DontNeed`]. If it is dropped it may
    /// happen all the same.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// ```
    /// use annulus::fs::{Advice, File};
    ///
    /// # annulus::block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// file.advise(0, 0, Advice::WillNeed).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's, such as `ESPIPE` for a pipe; `InvalidInput` for an offset over `i64::MAX`.
    pub fn advise(&self, offset: u64, len: u32, advice: Advice) -> Op<'_, Advise> {
        Advise::op(&self.handle, offset, len, advice.code())
    }

    /// What the file is, how large, and when it changed; statx(2).
    ///
    /// # Errors
    /// The kernel's.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        Statx::of_file(&self.handle).await.map(Metadata::new)
    }

    /// Waits until every operation whose future was dropped has ended, and returns how the writes
    /// among them ended, in the order of their ends: the bytes written, or the kernel's error
    /// (`ECANCELED` for one that did nothing).
    ///
    /// At most the latest 1024 results are kept for this call. A sync and a `set_len` count as
    /// writes, of 0 bytes. Reads and operations that somebody awaits are not waited for.
    pub async fn quiesce(&self) -> Vec<io::Result<usize>> {
        self.handle.quiesce().await
    }

    /// Waits for the end of operations whose futures were dropped, then closes the file; close(2).
    ///
    /// If the future is dropped the file is closed all the same.
    ///
    /// A worker thread of the kernel that has made a write lets go of the file a moment after the
    /// write has ended, which no call can wait for. So in one of 3,000 rounds (as seen) a program
    /// could not be run yet in the next line (`ETXTBSY`), or a lock was still held: try to run it
    /// again, and unlock with `LOCK_UN`, which works at once.
    ///
    /// # Errors
    /// What earlier writes left to say, on file systems that say it here. The descriptor is closed
    /// even then.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    pub async fn into_std(self) -> std::fs::File {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::from(OwnedFd::from(file))
    }
}

impl From<OwnedFd> for File {
    fn from(descriptor: OwnedFd) -> File {
        File { handle: Resource::of_file(descriptor.into()) }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
