//! The standard streams: input, output, and errors, whatever they are connected to.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use std::cell::OnceCell;

use futures_channel::oneshot;
use futures_util::future::Either;
use futures_util::{Stream, stream};

use super::pipe_methods::reading_methods;
use super::poll::{into_poll, reads_by_polls, writes_by_polls};
use super::read::AsyncRead;
use super::write::AsyncWrite;
use crate::blocking::spawn_blocking;
use crate::buf::{Chunk, Error, IoBuf, IoBufMut, IoBufs, Slice};
use crate::inflight::{Direction, Handle, Manner, Op, Resource, Turn};
use crate::op::Chunks;
use crate::op::chunks::{ChunkSource, ReadChunk};
use crate::op::file::{ReadAt, ReadExactAt, WriteAllAt, WriteAt};
use crate::op::place::InOrder;
use crate::op::vectored::{ReadVectoredAt, WriteAllVectoredAt, WriteVectoredAt};
use crate::runtime::spawn;
use crate::sys::{self, SharedPosition, StandardStream};

/// One of them on one thread.
#[derive(Debug)]
struct Standard {
    handle: Resource,
    /// Output to a regular file, whose position belongs to all who were started with it.
    position: Option<Arc<SharedPosition>>,
}

thread_local! {
    /// Kept until the thread ends, so that what dropped operations took is there for the next
    /// handle.
    static INPUT: OnceCell<Rc<Standard>> = const { OnceCell::new() };
    static OUTPUT: OnceCell<Rc<Standard>> = const { OnceCell::new() };
    static ERROR: OnceCell<Rc<Standard>> = const { OnceCell::new() };
}

fn standard(stream: StandardStream) -> io::Result<Rc<Standard>> {
    let place = match stream {
        StandardStream::Input => &INPUT,
        StandardStream::Output => &OUTPUT,
        StandardStream::Error => &ERROR,
    };
    place.with(|place| match place.get() {
        Some(standard) => Ok(Rc::clone(standard)),
        None => {
            let descriptor = sys::standard_stream(stream)?;
            let position = match stream {
                StandardStream::Input => None,
                _ => SharedPosition::of(&descriptor)?.map(Arc::new),
            };
            let opened = Standard { handle: Resource::of_file(descriptor), position };
            Ok(Rc::clone(place.get_or_init(|| Rc::new(opened))))
        }
    })
}

/// A handle of the standard input.
///
/// All handles of a thread are one: reads take turns, and what a dropped read took waits for the
/// next read of any handle.
///
/// ```no_run
/// use annulus::io::{BufReader, stdin};
///
/// # annulus::block_on(async {
/// let mut lines = BufReader::new(stdin()?).lines();
/// while let Some(line) = lines.next_line().await? {
///     println!("{line}");
/// }
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What it is connected to
/// A pipe, a terminal, a socket and a device are read as they have something. A regular file is
/// read at its own position, which it shares with whoever was started with it: two processes that
/// read at the same moment may get the same bytes. Nothing sets `O_NONBLOCK`, and descriptor 0 is
/// neither used nor closed: each thread reads by a duplicate of it, which the first call of
/// [`stdin`] makes.
///
/// # Several threads
/// Each byte goes to one of them, whichever reads. What a dropped read took stays on its thread.
/// std's [`std::io::stdin`] has a buffer of its own, and what is in it is not seen here.
#[derive(Debug)]
pub struct Stdin {
    shared: Rc<Standard>,
}

/// A handle of the standard output.
///
/// All handles of a thread are one: writes take turns. There is no buffer, so what was awaited has
/// been written, and a program that ends loses nothing of it. Many small writes go to a
/// [`BufWriter`](crate::io::BufWriter), which is flushed at the end. A write that was dropped may
/// be carried out or not, in part too, and never after a later one.
///
/// ```
/// # annulus::block_on(async {
/// annulus::io::stdout()?.write_all("hello\n").await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What it is connected to
/// Writes to a pipe, a terminal, a socket and a device wait in the ring until it takes them. Writes
/// to a regular file are made by the pool of [`spawn_blocking`], with write(2): it moves the
/// position that this process shares with others in one step, which the ring does not. Nothing sets
/// `O_NONBLOCK`, and descriptor 1 is neither used nor closed: each thread writes by a duplicate of
/// it, which the first call of [`stdout`] makes.
///
/// `println!` has a buffer and a lock of its own. Lines of both come in the order of the calls if
/// std's are flushed first.
#[derive(Debug)]
pub struct Stdout {
    shared: Rc<Standard>,
}

/// A handle of the standard error stream. All is as with [`Stdout`], and descriptor 2.
#[derive(Debug)]
pub struct Stderr {
    shared: Rc<Standard>,
}

/// The standard input of this process.
///
/// # Errors
/// `EBADF` if it is closed, `EMFILE` if there may be no further descriptors.
pub fn stdin() -> io::Result<Stdin> {
    standard(StandardStream::Input).map(|shared| Stdin { shared })
}

/// The standard output of this process.
///
/// # Errors
/// `EBADF` if it is closed, `EMFILE` if there may be no further descriptors.
pub fn stdout() -> io::Result<Stdout> {
    standard(StandardStream::Output).map(|shared| Stdout { shared })
}

/// The standard error stream of this process.
///
/// # Errors
/// `EBADF` if it is closed, `EMFILE` if there may be no further descriptors.
pub fn stderr() -> io::Result<Stderr> {
    standard(StandardStream::Error).map(|shared| Stderr { shared })
}

impl Stdin {
    fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    reading_methods!();

    /// Reads what has come, and lends it: in a buffer of the runtime, or of a file in memory of
    /// the heap. An empty [`Chunk`] is the end.
    ///
    /// What a dropped one took waits for the next read.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn read_chunk(&self) -> io::Result<Chunk> {
        if self.handle().is_stream() {
            return ReadChunk::op(self.handle(), ChunkSource::File).await;
        }
        let (count, mut bytes) = self.read(Vec::with_capacity(16 << 10)).await?;
        bytes.truncate(count);
        Ok(Chunk::of_bytes(bytes))
    }

    /// The bytes as they come, to the end, as a stream, which has to be pinned. Dropping it loses
    /// no byte.
    ///
    /// # Errors
    /// Its items: the kernel's.
    pub fn chunks(&self) -> impl Stream<Item = io::Result<Chunk>> {
        if self.handle().is_stream() {
            return Either::Left(Chunks::new(self.handle(), ChunkSource::File));
        }
        Either::Right(stream::try_unfold(self, async |stdin| {
            let chunk = stdin.read_chunk().await?;
            Ok((!chunk.is_empty()).then_some((chunk, stdin)))
        }))
    }
}

/// The reader for a handle and for its references.
macro_rules! reads_standard_input {
    ($for:ty) => {
        impl AsyncRead for $for {
            async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
                Stdin::read(self, buffer).await
            }

            async fn read_vectored<B: IoBufMut>(
                &mut self,
                buffers: Vec<B>,
            ) -> Result<(usize, Vec<B>), Error<Vec<B>>> {
                Stdin::read_vectored(self, buffers).await
            }

            fn lends_chunks(&self) -> bool {
                self.handle().is_stream()
            }

            async fn read_chunk(&mut self) -> io::Result<Chunk> {
                Stdin::read_chunk(self).await
            }

            fn chunks(&mut self) -> impl Stream<Item = io::Result<Chunk>> {
                Stdin::chunks(self)
            }

            async fn read_exact<B: IoBufMut>(&mut self, buffer: B) -> Result<B, Error<B>> {
                Stdin::read_exact(self, buffer).await
            }
        }
    };
}

reads_standard_input!(Stdin);
reads_standard_input!(&Stdin);

impl Standard {
    /// Has a thread write at the shared position, in turn. If the future is dropped before its turn
    /// nothing is written; after it, later writes wait for the end.
    async fn write_on_a_thread(
        &self,
        position: &Arc<SharedPosition>,
        bytes: Vec<u8>,
        all: bool,
    ) -> io::Result<(usize, io::Result<()>)> {
        let (handle, position) = ((*self.handle).clone(), Arc::clone(position));
        let (tell, outcome) = oneshot::channel();
        let task = spawn(async move {
            let mut turn = Turn::new(&handle, Direction::Outbound, Manner::Alone);
            poll_fn(|context| turn.poll(context)).await;
            if !tell.is_canceled() {
                let written = spawn_blocking(move || position.write(&bytes, all)).await;
                drop(tell.send(written));
            }
        });
        match outcome.await {
            Ok(written) => Ok(written?),
            Err(oneshot::Canceled) => Err(task.await.map_or_else(io::Error::from, |()| {
                io::Error::other("the runtime of this write has ended")
            })),
        }
    }

    async fn write<B: IoBuf>(&self, buffer: B) -> Result<(usize, B), Error<B>> {
        let Some(position) = &self.position else {
            return WriteAt::op(&self.handle, buffer, InOrder).await;
        };
        match self.write_on_a_thread(position, buffer.as_init().to_vec(), false).await {
            Ok((count, Ok(()))) => Ok((count, buffer)),
            Ok((_, Err(error))) | Err(error) => Err(Error::new(error, buffer)),
        }
    }

    async fn write_all<B: IoBuf>(&self, buffer: B) -> Result<B, Error<B>> {
        let Some(position) = &self.position else {
            return WriteAllAt::op(&self.handle, buffer, InOrder).await;
        };
        match self.write_on_a_thread(position, buffer.as_init().to_vec(), true).await {
            Ok((_, Ok(()))) => Ok(buffer),
            Ok((count, Err(error))) => Err(Error::new(error, buffer).with_transferred(count)),
            Err(error) => Err(Error::new(error, buffer)),
        }
    }

    async fn write_vectored<B: IoBufs>(&self, buffers: B) -> Result<(usize, B), Error<B>> {
        let Some(position) = &self.position else {
            return WriteVectoredAt::op(&self.handle, buffers, InOrder).await;
        };
        let bytes = buffers.bytes_from(0, usize::MAX);
        match self.write_on_a_thread(position, bytes, false).await {
            Ok((count, Ok(()))) => Ok((count, buffers)),
            Ok((_, Err(error))) | Err(error) => Err(Error::new(error, buffers)),
        }
    }

    async fn write_all_vectored<B: IoBufs>(&self, buffers: B) -> Result<B, Error<B>> {
        let Some(position) = &self.position else {
            return WriteAllVectoredAt::op(&self.handle, buffers, InOrder).await;
        };
        let bytes = buffers.bytes_from(0, usize::MAX);
        match self.write_on_a_thread(position, bytes, true).await {
            Ok((_, Ok(()))) => Ok(buffers),
            Ok((count, Err(error))) => Err(Error::new(error, buffers).with_transferred(count)),
            Err(error) => Err(Error::new(error, buffers)),
        }
    }
}

/// The methods and traits of both streams for output.
macro_rules! writes {
    ($type:ident) => {
        impl $type {
            fn handle(&self) -> &Handle {
                &self.shared.handle
            }

            /// Writes, and returns the count and the buffer; write(2). It may write less than the
            /// buffer holds.
            ///
            /// A dropped write may be carried out all the same, and never after a later one.
            ///
            /// # Errors
            /// The kernel's, with the buffer: `EPIPE` when nobody reads any more.
            pub async fn write<B: IoBuf>(&self, buffer: B) -> Result<(usize, B), Error<B>> {
                self.shared.write(buffer).await
            }

            /// Writes all of the buffer, and returns it.
            ///
            /// If the future is dropped, any first part of it may be written, before what later
            /// writes write.
            ///
            /// # Errors
            /// As [`write`](Self::write); [`transferred`](Error::transferred) says how much was
            /// written before.
            pub async fn write_all<B: IoBuf>(&self, buffer: B) -> Result<B, Error<B>> {
                self.shared.write_all(buffer).await
            }

            /// Writes several buffers, one after the other; writev(2). It may write less than they
            /// hold. Dropping it is as with [`write`](Self::write).
            ///
            /// # Errors
            /// As [`write`](Self::write).
            pub async fn write_vectored<B: IoBufs>(
                &self,
                buffers: B,
            ) -> Result<(usize, B), Error<B>> {
                self.shared.write_vectored(buffers).await
            }

            /// Writes all of several buffers, one after the other, and returns them.
            ///
            /// # Errors
            /// As [`write_all`](Self::write_all).
            pub async fn write_all_vectored<B: IoBufs>(&self, buffers: B) -> Result<B, Error<B>> {
                self.shared.write_all_vectored(buffers).await
            }
        }

        writes!(@trait $type, $type);
        writes!(@trait $type, &$type);
    };
    (@trait $type:ident, $for:ty) => {
        impl AsyncWrite for $for {
            async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
                self.shared.write(buffer).await
            }

            /// There is no buffer.
            async fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }

            /// The stream belongs to nobody, and stays open.
            async fn shutdown(&mut self) -> io::Result<()> {
                Ok(())
            }

            async fn write_vectored<B: IoBufs>(
                &mut self,
                buffers: B,
            ) -> Result<(usize, B), Error<B>> {
                self.shared.write_vectored(buffers).await
            }

            async fn write_all<B: IoBuf>(&mut self, buffer: B) -> Result<B, Error<B>> {
                self.shared.write_all(buffer).await
            }

            async fn write_all_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<B, Error<B>> {
                self.shared.write_all_vectored(buffers).await
            }
        }
    };
}

writes!(Stdout);
writes!(Stderr);

reads_by_polls!([] Stdin, InOrder);
writes_by_polls!([] Stdout, |_stream| Ok(()));
writes_by_polls!([] Stderr, |_stream| Ok(()));
into_poll!([] Stdin, PollReader);
into_poll!([] Stdout, PollWriter);
into_poll!([] Stderr, PollWriter);

/// The descriptor by which this thread reads or writes, a duplicate of the standard one; of it
/// std's [`IsTerminal`](std::io::IsTerminal) tells whether it is a terminal.
macro_rules! lends_descriptor {
    ($type:ty) => {
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.handle().as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.handle().as_raw_fd()
            }
        }
    };
}

lends_descriptor!(Stdin);
lends_descriptor!(Stdout);
lends_descriptor!(Stderr);
