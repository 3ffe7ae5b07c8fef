//! A writer that collects small writes and makes large ones of them.

use std::io;
use std::mem;

use super::write::{AsyncWrite, takes_no_more};
use crate::buf::{Error, IoBuf, IoBufs};

/// How much is collected, in bytes.
const CAPACITY: usize = 8 << 10;

/// A writer with a buffer: std's [`BufWriter`](std::io::BufWriter).
///
/// **Call [`flush`](AsyncWrite::flush), or [`shutdown`](AsyncWrite::shutdown), at the end.** A drop
/// cannot wait, so what is in the buffer then is lost.
///
/// # Dropping a future
/// A write that only copies into the buffer is carried out at its first poll. A dropped one that
/// had to write the buffer out, and a dropped `flush` or `shutdown`, may have written any first
/// part of it. Nobody knows which, so from then on every method fails with an error that says so,
/// and bytes are never left out in silence. Keep such a future instead of dropping it.
///
/// ```
/// use annulus::io::{AsyncWrite, BufWriter};
///
/// # annulus::block_on(async {
/// let mut writer = BufWriter::new(Vec::new());
/// for number in 0..3 {
///     writer.write_all(format!("{number}\n")).await?; // no system call
/// }
/// writer.flush().await?;
/// assert_eq!(writer.get_ref(), b"0\n1\n2\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct BufWriter<W> {
    writer: W,
    bytes: Vec<u8>,
    capacity: usize,
    /// A write of the buffer has begun, and its outcome is not here.
    is_in_doubt: bool,
}

impl<W> BufWriter<W> {
    /// A buffer of 8 KiB.
    pub fn new(writer: W) -> BufWriter<W> {
        BufWriter::with_capacity(CAPACITY, writer)
    }

    /// A buffer of so many bytes.
    pub fn with_capacity(capacity: usize, writer: W) -> BufWriter<W> {
        BufWriter { writer, bytes: Vec::new(), capacity, is_in_doubt: false }
    }

    /// What is collected and not written.
    pub fn buffer(&self) -> &[u8] {
        &self.bytes
    }

    /// The writer beneath, to look at.
    pub fn get_ref(&self) -> &W {
        &self.writer
    }

    /// The writer beneath. What is written to it comes before what is in the buffer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// The writer beneath. What is in the buffer is lost: flush first.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

impl<W: AsyncWrite> BufWriter<W> {
    /// Writes the buffer out. After an error the rest of it stays for the next call.
    async fn write_out(&mut self) -> io::Result<()> {
        if self.is_in_doubt {
            return Err(io::Error::other(
                "a flush of this writer was dropped, and how much it wrote is not known",
            ));
        }
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.is_in_doubt = true;
        let written = self.writer.write_all(mem::take(&mut self.bytes)).await;
        self.is_in_doubt = false;
        match written {
            Ok(mut bytes) => {
                bytes.clear();
                self.bytes = bytes;
                Ok(())
            }
            Err(error) => {
                let written = error.transferred();
                let (error, mut bytes) = error.into_parts();
                bytes.drain(..written);
                self.bytes = bytes;
                Err(error)
            }
        }
    }

    /// Makes room for so many bytes, if the buffer can have it.
    async fn make_room(&mut self, length: usize) -> io::Result<()> {
        if self.is_in_doubt || self.bytes.len() + length > self.capacity {
            self.write_out().await?;
        }
        if self.bytes.capacity() == 0 && length < self.capacity {
            self.bytes.reserve_exact(self.capacity);
        }
        Ok(())
    }
}

impl<W: AsyncWrite> AsyncWrite for BufWriter<W> {
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        if let Err(error) = self.make_room(buffer.init_len()).await {
            return Err(Error::new(error, buffer));
        }
        if buffer.init_len() >= self.capacity {
            return self.writer.write(buffer).await;
        }
        self.bytes.extend_from_slice(buffer.as_init());
        Ok((buffer.init_len(), buffer))
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write_out().await?;
        self.writer.flush().await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.write_out().await?;
        self.writer.shutdown().await
    }

    async fn write_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<(usize, B), Error<B>> {
        let length = buffers.total_len();
        if let Err(error) = self.make_room(length).await {
            return Err(Error::new(error, buffers));
        }
        if length >= self.capacity {
            return self.writer.write_vectored(buffers).await;
        }
        self.bytes.extend_from_slice(&buffers.bytes_from(0, length));
        Ok((length, buffers))
    }

    async fn write_all_vectored<B: IoBufs>(&mut self, buffers: B) -> Result<B, Error<B>> {
        let length = buffers.total_len();
        if length >= self.capacity {
            if let Err(error) = self.make_room(length).await {
                return Err(Error::new(error, buffers));
            }
            return self.writer.write_all_vectored(buffers).await;
        }
        match self.write_vectored(buffers).await {
            Ok((count, buffers)) if count < length => Err(Error::new(takes_no_more(), buffers)),
            Ok((_, buffers)) => Ok(buffers),
            Err(error) => Err(error),
        }
    }
}
