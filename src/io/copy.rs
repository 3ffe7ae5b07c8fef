//! Copying a reader into a writer, and two streams into each other.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::try_join;

use super::read::AsyncRead;
use super::write::AsyncWrite;
use crate::buf::{Chunk, IoBuf, Slice};

/// What a copy of a reader without chunks reads at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// Most chunks that are written together, so that what waits to be written has a bound.
const CHUNKS_AT_A_TIME: usize = 16;

/// What was copied, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// How much.
    pub bytes: u64,
    /// Which way was taken.
    pub by: CopiedBy,
}

/// The ways of [`copy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiedBy {
    /// In the buffers of the runtime in which it came: no copy in this process.
    Chunks,
    /// Through one buffer, which is read into and written from again and again.
    Buffer,
}

/// Copies all that comes from a reader into a writer, flushes it, and says how much that was.
///
/// A reader that lends chunks, as a socket or a pipe, has them written as they came. What waits is
/// written together. Any other reader is read into one buffer of 256 KiB, which is then written.
///
/// splice(2) and sendfile(2) are not used; [the measurements](super#what-copy-does-not-do) say why.
///
/// If the future is dropped, bytes that were read and not written are lost.
///
/// ```
/// # annulus::block_on(async {
/// let mut copied = Vec::new();
/// let done = annulus::io::copy(&mut &b"all of it"[..], &mut copied).await?;
/// assert_eq!((done.bytes, &copied[..]), (9, &b"all of it"[..]));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// The reader's or the writer's, whichever comes first.
pub async fn copy<R: AsyncRead, W: AsyncWrite>(
    reader: &mut R,
    writer: &mut W,
) -> io::Result<Copied> {
    let copied = match reader.lends_chunks() {
        true => Copied { bytes: copy_chunks(reader, writer).await?, by: CopiedBy::Chunks },
        false => Copied { bytes: copy_by_buffer(reader, writer).await?, by: CopiedBy::Buffer },
    };
    writer.flush().await?;
    Ok(copied)
}

async fn copy_chunks<R: AsyncRead, W: AsyncWrite>(
    reader: &mut R,
    writer: &mut W,
) -> io::Result<u64> {
    let mut chunks = pin!(reader.chunks());
    let (mut arrived, mut bytes) = (Vec::new(), 0);
    loop {
        // An end or an error counts after what came before it was written.
        let end = poll_fn(|context| take_ready(chunks.as_mut(), &mut arrived, context)).await;
        bytes += arrived.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        match (arrived.pop(), arrived.is_empty()) {
            (None, _) => {}
            (Some(only), true) => drop(writer.write_all(only).await?),
            (Some(last), false) => {
                arrived.push(last);
                arrived = writer.write_all_vectored(arrived).await?;
                arrived.clear();
            }
        }
        if let Some(end) = end {
            return end.map(|()| bytes);
        }
    }
}

/// Waits for a chunk, and takes those that have come with it, up to a bound; says whether the
/// stream has ended.
fn take_ready(
    mut chunks: Pin<&mut impl Stream<Item = io::Result<Chunk>>>,
    arrived: &mut Vec<Chunk>,
    context: &mut Context<'_>,
) -> Poll<Option<io::Result<()>>> {
    while arrived.len() < CHUNKS_AT_A_TIME {
        match chunks.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => arrived.push(chunk),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(Some(Ok(()))),
            Poll::Pending if arrived.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(None)
}

async fn copy_by_buffer<R: AsyncRead, W: AsyncWrite>(
    reader: &mut R,
    writer: &mut W,
) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut bytes = 0;
    loop {
        let count;
        (count, buffer) = reader.read(buffer).await?;
        if count == 0 {
            return Ok(bytes);
        }
        buffer = Slice::into_inner(writer.write_all(buffer.slice(..count)).await?);
        bytes += count as u64;
    }
}

/// Copies both directions of two streams into each other, until both have ended: what a proxy does.
/// Returns what went from `a` to `b`, and from `b` to `a`.
///
/// When one direction ends, the writing direction of the other stream is shut down, and the other
/// direction goes on. Both are as in [`copy`]. It takes references, whose types are readers and
/// writers: all streams of this crate.
///
/// If the future is dropped, bytes that were read and not written are lost, and the streams are
/// open.
///
/// ```no_run
/// use std::io;
/// use annulus::{io::copy_bidirectional, net::{TcpListener, TcpStream}};
///
/// async fn proxy(listener: TcpListener) -> io::Result<()> {
///     loop {
///         let (client, _) = listener.accept().await?;
///         annulus::spawn(async move {
///             let server = TcpStream::connect("127.0.0.1:8080").await?;
///             copy_bidirectional(&client, &server).await
///         });
///     }
/// }
/// ```
///
/// # Errors
/// The first error of either direction, which ends both.
pub async fn copy_bidirectional<A, B>(a: &A, b: &B) -> io::Result<(Copied, Copied)>
where
    for<'r> &'r A: AsyncRead + AsyncWrite,
    for<'r> &'r B: AsyncRead + AsyncWrite,
{
    try_join(copy_to_the_end(a, b), copy_to_the_end(b, a)).await
}

async fn copy_to_the_end(
    mut reader: impl AsyncRead,
    mut writer: impl AsyncWrite,
) -> io::Result<Copied> {
    let copied = copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(copied)
}
