//! Pipes: bytes from one end to the other, within a process or between two. pipe(7).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use super::own_methods::reads_by_own_methods;
use super::pipe_methods::{reading_methods, writing_methods};
use super::poll::{into_poll, reads_by_polls, writes_by_polls};
use super::write::AsyncWrite;
use crate::blocking::spawn_blocking;
use crate::buf::{Error, IoBuf, IoBufMut, IoBufs, Slice};
use crate::inflight::{Handle, Op, Resource};
use crate::op::Chunks;
use crate::op::chunks::{ChunkSource, ReadChunk};
use crate::op::file::{ReadAt, ReadExactAt, WriteAllAt, WriteAt};
use crate::op::open::Open;
use crate::op::path::Place;
use crate::op::place::InOrder;
use crate::op::vectored::{ReadVectoredAt, WriteAllVectoredAt, WriteVectoredAt};
use crate::sys;
use crate::sys::names::c_path;

/// The reading end of a pipe.
///
/// # Dropping
/// The end is closed when `drop` returns, and dropped operations of it that are in flight are
/// cancelled. Writers get `EPIPE` from then on.
#[derive(Debug)]
pub struct PipeReader {
    handle: Resource,
}

/// The writing end of a pipe.
///
/// # No signal
/// A write that nobody reads is the error `EPIPE`. Since Linux 6.18 no `SIGPIPE` comes with it
/// (`RWF_NOSIGNAL`). Before that it does, and Rust's runtime ignores it: only a program that has
/// given the signal its default action back is ended by it, as with std's pipes.
///
/// # Dropping
/// The end is closed when `drop` returns, and dropped operations of it that are in flight are
/// cancelled. With the last writing end the reader sees the end of the stream.
#[derive(Debug)]
pub struct PipeWriter {
    handle: Resource,
}

/// A new pipe; pipe2(2), which the calling thread makes at once. std's [`std::io::pipe`].
///
/// Both ends are close-on-exec and blocking. Nobody sets them to `O_NONBLOCK`, so a child that gets
/// one finds it as it expects.
///
/// ```
/// # annulus::block_on(async {
/// let (reader, writer) = annulus::io::pipe()?;
/// writer.write_all("through").await?;
/// drop(writer);
/// let (count, bytes) = reader.read(Vec::with_capacity(64)).await?;
/// assert_eq!(&bytes[..count], b"through");
/// assert_eq!(reader.read(bytes).await?.0, 0); // the end
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// `EMFILE` or `ENFILE` if there may be no further descriptors.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let [reader, writer] = sys::open_pipe()?;
    Ok((
        PipeReader { handle: Resource::of_file(reader) },
        PipeWriter { handle: Resource::of_file(writer) },
    ))
}

/// Makes a named pipe with these permissions, less the umask; mkfifo(3), on the pool of
/// [`spawn_blocking`].
///
/// If the future is dropped it may be made all the same.
///
/// # Errors
/// `AlreadyExists` if the name is taken, else the kernel's; `InvalidInput` for a path with a NUL
/// byte.
pub async fn mkfifo(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let path = c_path(path.as_ref())?;
    spawn_blocking(move || sys::make_fifo(&path, mode)).await?
}

/// Opens one end, or both, of a named pipe without waiting for the other, and then lets its
/// operations wait.
async fn open_fifo(path: &Path, access: i32) -> io::Result<Resource> {
    let path = c_path(path)?;
    let handle = Open::op(Place::here(path), access | libc::O_NONBLOCK | libc::O_NOCTTY, 0).await?;
    if !sys::is_pipe(handle.as_fd()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no pipe"));
    }
    sys::set_nonblocking(&*handle, false)?;
    Ok(handle)
}

impl PipeReader {
    /// Opens a named pipe for reading; open(2), by the ring. It does not wait: the first read waits
    /// for a writer.
    ///
    /// If the future is dropped nothing stays open.
    ///
    /// # Errors
    /// `InvalidInput` for a path that names something else, or has a NUL byte; else the kernel's.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<PipeReader> {
        Ok(PipeReader { handle: open_fifo(path.as_ref(), libc::O_RDONLY).await? })
    }

    /// Opens a named pipe for reading, and counts as a writer, too: a read never sees the end, and
    /// waits for the next writer instead.
    ///
    /// # Errors
    /// As [`open`](PipeReader::open).
    pub async fn open_endless(path: impl AsRef<Path>) -> io::Result<PipeReader> {
        Ok(PipeReader { handle: open_fifo(path.as_ref(), libc::O_RDWR).await? })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    reading_methods!();

    /// The bytes as they come, in buffers of the runtime, as a stream; see [`Chunks`].
    ///
    /// # Errors
    /// Its items: the kernel's.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.handle, ChunkSource::File)
    }

    /// Reads what has come into a buffer of the runtime; read(2). While it waits it holds none.
    ///
    /// An empty [`Chunk`](crate::buf::Chunk) is the end. What a dropped one took waits for the
    /// next read.
    ///
    /// Yields `io::Result<Chunk>`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_chunk(&self) -> Op<'_, ReadChunk> {
        ReadChunk::op(&self.handle, ChunkSource::File)
    }

    /// Another descriptor of this end; fcntl(2). The two share the bytes: each goes to one of them.
    ///
    /// # Errors
    /// `EMFILE` if there may be no further descriptors.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        sys::duplicate(self.as_fd()).map(PipeReader::from)
    }

    /// Waits for the end of operations whose futures were dropped, then closes the end; close(2).
    ///
    /// # Errors
    /// The kernel's. The descriptor is closed even then.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    ///
    /// Bytes that a dropped read took are not carried over: they waited here, not in the kernel.
    pub async fn into_std(self) -> io::PipeReader {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl PipeWriter {
    /// Opens a named pipe for writing; open(2), by the ring. It does not wait for a reader.
    ///
    /// If the future is dropped nothing stays open.
    ///
    /// # Errors
    /// `ENXIO` if nobody has it open for reading: try again, or open it for reading first.
    /// `InvalidInput` for a path that names something else, or has a NUL byte; else the kernel's.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<PipeWriter> {
        Ok(PipeWriter { handle: open_fifo(path.as_ref(), libc::O_WRONLY).await? })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    writing_methods!();

    /// Another descriptor of this end; fcntl(2). The reader sees the end when both are closed.
    ///
    /// # Errors
    /// `EMFILE` if there may be no further descriptors.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        sys::duplicate(self.as_fd()).map(PipeWriter::from)
    }

    /// Waits for the end of operations whose futures were dropped, then closes the end; close(2).
    ///
    /// # Errors
    /// The kernel's. The descriptor is closed even then.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is.
    pub async fn into_std(self) -> io::PipeWriter {
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

reads_by_own_methods!([] PipeReader);

reads_by_polls!([] PipeReader, InOrder);
writes_by_polls!([] PipeWriter, |end| close_early(end));
into_poll!([] PipeReader, PollReader);
into_poll!([] PipeWriter, PollWriter);

/// Closes an end for which nothing is under way, while the value stays: in its place comes the end
/// of a pipe that nobody reads, for which there must be a descriptor.
fn close_early(end: &mut Rc<PipeWriter>) -> io::Result<()> {
    let (_, unread) = pipe()?;
    *end = Rc::new(unread);
    Ok(())
}

/// Through this trait the end can be closed while the value stays.
impl AsyncWrite for PipeWriter {
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        PipeWriter::write(self, buffer).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Closes this end. Writes fail with `EPIPE` from then on.
    ///
    /// In its place comes the end of a pipe that nobody reads, for which there must be a
    /// descriptor.
    async fn shutdown(&mut self) -> io::Result<()> {
        let (_, unread) = pipe()?;
        mem::replace(self, unread).close().await
    }

    async fn write_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<(usize, B), Error<B>> {
        PipeWriter::write_vectored(self, buffers).await
    }

    async fn write_all<B: IoBuf>(&mut self, buffer: B) -> Result<B, Error<B>> {
        PipeWriter::write_all(self, buffer).await
    }

    async fn write_all_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<B, Error<B>> {
        PipeWriter::write_all_vectored(self, buffers).await
    }
}

/// The conversions that both ends have.
macro_rules! conversions {
    ($end:ty) => {
        impl From<OwnedFd> for $end {
            /// A descriptor of something else reads and writes as far as that lets itself be read
            /// and written from front to back.
            fn from(descriptor: OwnedFd) -> Self {
                Self { handle: Resource::of_file(descriptor.into()) }
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.handle.as_fd()
            }
        }

        impl AsRawFd for $end {
            fn as_raw_fd(&self) -> RawFd {
                self.handle.as_raw_fd()
            }
        }
    };
}

conversions!(PipeReader);
conversions!(PipeWriter);

impl From<io::PipeReader> for PipeReader {
    fn from(reader: io::PipeReader) -> PipeReader {
        OwnedFd::from(reader).into()
    }
}

impl From<io::PipeWriter> for PipeWriter {
    fn from(writer: io::PipeWriter) -> PipeWriter {
        OwnedFd::from(writer).into()
    }
}
