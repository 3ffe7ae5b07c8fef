//! The trait of whatever bytes can be read from.
// Futures of this crate stay on their thread, so nobody asks whether those of a trait are `Send`.
#![allow(async_fn_in_trait)]

use std::io;

use futures_util::Stream;
use futures_util::stream;

use super::chain::Chain;
use super::take::Take;
use crate::buf::{Chunk, Error, IoBufMut, Slice};

/// How much a reader without buffers of the runtime reads for a chunk, in bytes.
const BYTES_OF_A_CHUNK: usize = 16 << 10;

/// Something to read bytes from, in order: a stream, a half of one, a pipe, a file, bytes in
/// memory.
///
/// Methods take `&mut self`, as in std, so that adapters can hold a reader and a position. Types of
/// this crate whose own methods take `&self` implement the trait for their references, too: give
/// `&mut &stream` to code that wants a `&mut` reader.
///
/// # How to implement it
/// [`read`](AsyncRead::read) is enough. A type that has a better way for the others overrides them,
/// and gives the same bytes.
///
/// ```
/// use std::io;
/// use annulus::Error;
/// use annulus::buf::IoBufMut;
/// use annulus::io::AsyncRead;
///
/// /// Counts down to zero, a digit at a time.
/// struct CountDown(u8);
///
/// impl AsyncRead for CountDown {
///     async fn read<B: IoBufMut>(&mut self, mut buffer: B) -> Result<(usize, B), Error<B>> {
///         if buffer.capacity() == 0 {
///             return Err(Error::new(io::ErrorKind::InvalidInput.into(), buffer));
///         }
///         if self.0 == 0 {
///             return Ok((0, buffer)); // the end, and from now on always
///         }
///         self.0 -= 1;
///         Ok((buffer.put(&[b'0' + self.0]), buffer))
///     }
/// }
///
/// # annulus::block_on(async {
/// let mut text = String::new();
/// CountDown(3).read_to_string(&mut text).await?;
/// assert_eq!(text, "210");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What a dropped future means for an implementor
/// `select!` and [`time::timeout`](crate::time::timeout) drop futures. Bytes that a dropped `read`,
/// `read_vectored` or `read_chunk` took must come with the next call. The types of this crate keep
/// that promise. A reader that awaits one operation of another and then only computes keeps it by
/// itself. One that awaits twice stores in `self` what the first brought, before the second await.
pub trait AsyncRead {
    /// Reads what has come into a buffer, and returns the count and the buffer.
    ///
    /// It waits for at least one byte, starts at the buffer's beginning, may use its whole
    /// capacity, and sets the length to what it read. 0 is the end. Bytes that a dropped one took
    /// come with the next call.
    ///
    /// # Errors
    /// The reader's, with the buffer; `InvalidInput` for a buffer without room.
    async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>>;

    /// Reads what has come into several buffers, one after the other. Buffers that nothing was read
    /// into keep their length.
    ///
    /// A reader that cannot do that reads into the first buffer that has room. Dropping it is as
    /// with [`read`](AsyncRead::read).
    ///
    /// # Errors
    /// As [`read`](AsyncRead::read).
    async fn read_vectored<B: IoBufMut>(
        &mut self,
        mut buffers: Vec<B>,
    ) -> Result<(usize, Vec<B>), Error<Vec<B>>> {
        let Some(first) = buffers.iter().position(|buffer| buffer.capacity() > 0) else {
            return Err(Error::new(no_room(), buffers));
        };
        let buffer = buffers.remove(first);
        match self.read(buffer).await {
            Ok((count, buffer)) => {
                buffers.insert(first, buffer);
                Ok((count, buffers))
            }
            Err(error) => Err(error.map(|buffer| {
                buffers.insert(first, buffer);
                buffers
            })),
        }
    }

    /// Has this reader buffers of the runtime, so that [`read_chunk`](AsyncRead::read_chunk) lends
    /// what came without a copy?
    ///
    /// `false` says that a `read` into a buffer that is used again is cheaper.
    fn lends_chunks(&self) -> bool {
        false
    }

    /// Reads what has come, and lends it: a stream in a buffer of the runtime, any other reader in
    /// memory of the heap. An empty [`Chunk`] is the end.
    ///
    /// Bytes that a dropped one took come with the next call.
    ///
    /// # Errors
    /// The reader's.
    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        let (count, mut bytes) = self.read(Vec::with_capacity(BYTES_OF_A_CHUNK)).await?;
        bytes.truncate(count);
        Ok(Chunk::of_bytes(bytes))
    }

    /// The bytes as they come, to the end, as a stream of [`Chunk`]s.
    ///
    /// Sockets and pipes keep one receive armed for it. Dropping it loses no byte.
    ///
    /// # Errors
    /// Its items: the reader's. It ends after one.
    fn chunks(&mut self) -> impl Stream<Item = io::Result<Chunk>> {
        stream::try_unfold(self, async |reader| {
            let chunk = reader.read_chunk().await?;
            Ok((!chunk.is_empty()).then_some((chunk, reader)))
        })
    }

    /// Reads until the buffer's whole capacity is full, and returns it.
    ///
    /// The capacity of a `Vec` may be larger than was asked for:
    /// [`slice(..n)`](crate::buf::IoBuf::slice) reads exactly `n` bytes.
    ///
    /// If the future is dropped, sockets, pipes and [`BufReader`](crate::io::BufReader) keep what
    /// it had read for the next call. With other readers it goes with the buffer.
    ///
    /// # Errors
    /// `UnexpectedEof` if the end comes before, else the reader's;
    /// [`transferred`](Error::transferred) counts what was read until then, which lies at the
    /// buffer's beginning.
    async fn read_exact<B: IoBufMut>(&mut self, mut buffer: B) -> Result<B, Error<B>> {
        let mut filled = 0;
        while filled < buffer.capacity() {
            match self.read(buffer.slice(filled..)).await {
                Ok((0, rest)) => {
                    return Err(
                        Error::new(ended_early(), rest.into_inner()).with_transferred(filled)
                    );
                }
                Ok((count, rest)) => {
                    filled += count;
                    buffer = rest.into_inner();
                }
                Err(error) => return Err(error.map(Slice::into_inner).with_transferred(filled)),
            }
        }
        Ok(buffer)
    }

    /// Reads what has come behind the bytes that the buffer holds, and returns the count and the
    /// buffer.
    ///
    /// If the future is dropped the buffer goes with it, and what it held before; what was read
    /// comes with the next call.
    ///
    /// # Errors
    /// As [`read`](AsyncRead::read): a full buffer has no room.
    async fn read_append<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        match self.read(buffer.spare()).await {
            Ok((count, rest)) => Ok((count, rest.into_inner())),
            Err(error) => Err(error.map(Slice::into_inner)),
        }
    }

    /// Reads to the end, appends all of it to `bytes`, and returns how much that was.
    ///
    /// The bytes are appended as they come, so a dropped one loses none: they are in `bytes`, and
    /// another call goes on. That costs a copy; the buffer is borrowed and never the kernel's.
    ///
    /// # Errors
    /// The reader's; what was read until then is in `bytes`.
    async fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        loop {
            let chunk = self.read_chunk().await?;
            if chunk.is_empty() {
                return Ok(bytes.len() - before);
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    /// Reads to the end, appends all of it to `text`, and returns how many bytes that were.
    ///
    /// If the future is dropped, or fails, `text` is as it was, and what was read is lost. Where
    /// that matters use [`read_to_end`](AsyncRead::read_to_end).
    ///
    /// # Errors
    /// `InvalidData` for bytes that are not UTF-8, else the reader's.
    async fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).await?;
        text.push_str(str::from_utf8(&bytes).map_err(|_| not_text())?);
        Ok(bytes.len())
    }

    /// This reader, which ends after `limit` bytes at the latest.
    fn take(self, limit: u64) -> Take<Self>
    where
        Self: Sized,
    {
        Take::new(self, limit)
    }

    /// This reader to its end, then another.
    fn chain<R: AsyncRead>(self, next: R) -> Chain<Self, R>
    where
        Self: Sized,
    {
        Chain::new(self, next)
    }
}

pub(super) fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the buffer has no room to read into")
}

pub(super) fn ended_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the end came before the buffer was full")
}

pub(super) fn not_text() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the stream did not contain valid UTF-8")
}
