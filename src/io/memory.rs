//! Readers and writers that are memory, or nothing at all. They never wait.

use std::io::{self, Cursor};

use super::read::{AsyncRead, no_room};
use super::write::AsyncWrite;
use crate::buf::{Chunk, Error, IoBuf, IoBufMut, IoBufs};

/// Puts as many of these bytes into a buffer as it has room for.
fn give<B: IoBufMut>(bytes: &[u8], mut buffer: B) -> Result<(usize, B), Error<B>> {
    if buffer.capacity() == 0 {
        return Err(Error::new(no_room(), buffer));
    }
    Ok((buffer.put(bytes), buffer))
}

/// Reads the bytes of the slice, which gets shorter by them.
impl AsyncRead for &[u8] {
    async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        let (count, buffer) = give(self, buffer)?;
        *self = &self[count..];
        Ok((count, buffer))
    }
}

/// Reads the bytes behind the cursor's position, which moves on by them.
impl<T: AsRef<[u8]>> AsyncRead for Cursor<T> {
    async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        let bytes = self.get_ref().as_ref();
        let start = usize::try_from(self.position()).unwrap_or(usize::MAX).min(bytes.len());
        let (count, buffer) = give(&bytes[start..], buffer)?;
        self.set_position(self.position() + count as u64);
        Ok((count, buffer))
    }
}

/// Appends.
impl AsyncWrite for Vec<u8> {
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        self.extend_from_slice(buffer.as_init());
        Ok((buffer.init_len(), buffer))
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As std's cursor does it for what can be written to there: a vector grows, an array or a slice
/// takes no more than it has room for.
impl<T> AsyncWrite for Cursor<T>
where
    Cursor<T>: io::Write,
{
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        match io::Write::write(self, buffer.as_init()) {
            Ok(count) => Ok((count, buffer)),
            Err(error) => Err(Error::new(error, buffer)),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reader of [`empty`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

/// A reader that is at its end.
#[must_use]
pub fn empty() -> Empty {
    Empty
}

impl AsyncRead for Empty {
    async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        give(&[], buffer)
    }

    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        Ok(Chunk::default())
    }
}

/// The reader of [`repeat`].
#[derive(Debug, Clone)]
pub struct Repeat {
    bytes: Chunk,
}

/// A reader that gives one byte again and again, without end.
#[must_use]
pub fn repeat(byte: u8) -> Repeat {
    Repeat { bytes: Chunk::copied(&[byte; 16 << 10]) }
}

impl AsyncRead for Repeat {
    async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        give(&self.bytes, buffer)
    }

    fn lends_chunks(&self) -> bool {
        true
    }

    /// The same memory each time.
    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        Ok(self.bytes.clone())
    }
}

/// The writer of [`sink`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Sink;

/// A writer that takes everything and keeps nothing.
#[must_use]
pub fn sink() -> Sink {
    Sink
}

impl AsyncWrite for Sink {
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        Ok((buffer.init_len(), buffer))
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn write_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<(usize, B), Error<B>> {
        Ok((buffers.total_len(), buffers))
    }
}
