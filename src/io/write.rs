//! The trait of whatever bytes can be written to.
// Futures of this crate stay on their thread, so nobody asks whether those of a trait are `Send`.
#![allow(async_fn_in_trait)]

use std::io;

use crate::buf::{Error, IoBuf, IoBufs, Slice};

/// How much a writer that takes one buffer at a time copies together of several, in bytes.
const BYTES_AT_A_TIME: usize = 64 << 10;

/// Something to write bytes to, in order: a stream, a half of one, a pipe, a file, memory.
///
/// Methods take `&mut self`, as in std. Types of this crate whose own methods take `&self`
/// implement the trait for their references, too.
///
/// # How to implement it
/// [`write`](AsyncWrite::write), [`flush`](AsyncWrite::flush) and
/// [`shutdown`](AsyncWrite::shutdown) are enough. A writer around another hands all three on.
///
/// ```
/// use std::io;
/// use annulus::Error;
/// use annulus::buf::IoBuf;
/// use annulus::io::AsyncWrite;
///
/// /// Counts what goes through.
/// struct Counted<W> {
///     writer: W,
///     bytes: u64,
/// }
///
/// impl<W: AsyncWrite> AsyncWrite for Counted<W> {
///     async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
///         let (count, buffer) = self.writer.write(buffer).await?;
///         self.bytes += count as u64;
///         Ok((count, buffer))
///     }
///
///     async fn flush(&mut self) -> io::Result<()> {
///         self.writer.flush().await
///     }
///
///     async fn shutdown(&mut self) -> io::Result<()> {
///         self.writer.shutdown().await
///     }
/// }
///
/// # annulus::block_on(async {
/// let mut counted = Counted { writer: Vec::new(), bytes: 0 };
/// counted.write_all("four").await?;
/// assert_eq!((counted.writer, counted.bytes), (b"four".to_vec(), 4));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What a dropped future means for an implementor
/// A dropped write may have been carried out, wholly or in part. It must not be carried out after
/// a later one. The types of this crate keep that promise: later writes wait for the end of a
/// dropped one. So a writer that hands each write on keeps it by itself. One that keeps bytes in
/// `self` removes them when they were written, and not before the await.
pub trait AsyncWrite {
    /// Writes, and returns the count and the buffer. It may write less than the buffer holds.
    ///
    /// A dropped one may be carried out all the same, but never after a later write.
    ///
    /// # Errors
    /// The writer's, with the buffer.
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>>;

    /// Brings on its way what the writer keeps; a writer that keeps nothing has nothing to do.
    ///
    /// It is no sync: see [`File::sync_all`](crate::fs::File::sync_all).
    ///
    /// # Errors
    /// The writer's.
    async fn flush(&mut self) -> io::Result<()>;

    /// Flushes, then ends the writing direction: whoever reads at the other end sees the end.
    ///
    /// A socket is shut down for writing, a pipe is closed. A file has no such end: nothing
    /// happens.
    ///
    /// # Errors
    /// The writer's.
    async fn shutdown(&mut self) -> io::Result<()>;

    /// Writes several buffers, one after the other. It may write less than they hold.
    ///
    /// They come as a vector, an array, or a tuple of different ones. A writer that cannot do that
    /// copies the first 64 KiB of them together.
    ///
    /// # Errors
    /// As [`write`](AsyncWrite::write).
    async fn write_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<(usize, B), Error<B>> {
        match self.write(buffers.bytes_from(0, BYTES_AT_A_TIME)).await {
            Ok((count, _)) => Ok((count, buffers)),
            Err(error) => Err(error.map(|_| buffers)),
        }
    }

    /// Writes all of the buffer, and returns it.
    ///
    /// If the future is dropped any first part of it may be written, before what later writes
    /// write.
    ///
    /// # Errors
    /// `WriteZero` if the writer takes no more, else as [`write`](AsyncWrite::write);
    /// [`transferred`](Error::transferred) says how much was written before.
    async fn write_all<B: IoBuf>(&mut self, mut buffer: B) -> Result<B, Error<B>> {
        let mut written = 0;
        while written < buffer.init_len() {
            match self.write(buffer.slice(written..)).await {
                Ok((0, rest)) => {
                    return Err(
                        Error::new(takes_no_more(), rest.into_inner()).with_transferred(written)
                    );
                }
                Ok((count, rest)) => {
                    written += count;
                    buffer = rest.into_inner();
                }
                Err(error) => return Err(error.map(Slice::into_inner).with_transferred(written)),
            }
        }
        Ok(buffer)
    }

    /// Writes all of several buffers, one after the other, and returns them.
    ///
    /// They come as a vector, an array, or a tuple of different ones. A writer that cannot do that
    /// copies them together, 64 KiB at a time.
    ///
    /// # Errors
    /// As [`write_all`](AsyncWrite::write_all).
    async fn write_all_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<B, Error<B>> {
        let (mut written, whole) = (0, buffers.total_len());
        while written < whole {
            match self.write_all(buffers.bytes_from(written, BYTES_AT_A_TIME)).await {
                Ok(part) => written += part.len(),
                Err(error) => {
                    let written = written + error.transferred();
                    return Err(error.map(|_| buffers).with_transferred(written));
                }
            }
        }
        Ok(buffers)
    }
}

pub(super) fn takes_no_more() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the writer takes no more bytes")
}
