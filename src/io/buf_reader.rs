//! A reader that reads much at a time and gives it in the pieces that are asked for: lines, parts
//! up to a byte, counts.

use std::io::{self, BufRead};

use super::read::{AsyncRead, ended_early, no_room, not_text};
use super::unread::Unread;
use crate::buf::{Chunk, Error, IoBufMut};

/// How much is read at a time of a reader that lends no chunks, in bytes.
const CAPACITY: usize = 8 << 10;

/// A reader with a buffer: std's [`BufReader`](std::io::BufReader).
///
/// Streams and pipes lend the buffers of the runtime, in chunks. What is consumed of one is copied
/// once, from the chunk to where it is wanted. Other readers, as files, read into a buffer of this
/// value's own.
///
/// There is no trait for readers with a buffer: a function that needs one takes a `BufReader<R>`.
///
/// # Dropping a future
/// A dropped method loses nothing and consumes nothing: what it had read is here for the next call.
/// What a dropped read of the reader beneath took comes with the next, as [`AsyncRead`] says.
///
/// ```
/// use annulus::io::{AsyncRead, BufReader};
///
/// # annulus::block_on(async {
/// let mut reader = BufReader::new(&b"GET / HTTP/1.1\r\nbody"[..]);
/// let mut line = String::new();
/// reader.read_line(&mut line).await?;
/// assert_eq!(line, "GET / HTTP/1.1\r\n");
/// assert_eq!(reader.read_exact(vec![0; 4]).await?, b"body");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct BufReader<R> {
    reader: R,
    unread: Unread,
    capacity: usize,
}

impl<R> BufReader<R> {
    /// A buffer of 8 KiB, if the reader lends no chunks.
    pub fn new(reader: R) -> BufReader<R> {
        BufReader::with_capacity(CAPACITY, reader)
    }

    /// As [`new`](BufReader::new), with the size of the buffer in bytes. Chunks have the size that
    /// [`Builder::chunks`](crate::Builder::chunks) says.
    ///
    /// # Panics
    /// If it is 0.
    pub fn with_capacity(capacity: usize, reader: R) -> BufReader<R> {
        assert!(capacity > 0, "a reader's buffer has room for at least one byte");
        BufReader { reader, unread: Unread::nothing(), capacity }
    }

    /// What was read and is not consumed. It reads nothing.
    pub fn buffer(&self) -> &[u8] {
        self.unread.bytes()
    }

    /// Consumes the first `count` bytes of the buffer.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.unread.consume(count);
    }

    /// The reader beneath, to look at.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The reader beneath. What is read from it comes after what is in the buffer.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The reader beneath. What is in the buffer is lost.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: AsyncRead> BufReader<R> {
    /// What was read and is not consumed, after a read if that is nothing. Empty is the end.
    ///
    /// # Errors
    /// The reader's.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        Ok(self.unread.bytes())
    }

    /// Reads once, when all is consumed.
    async fn fill(&mut self) -> io::Result<()> {
        if self.reader.lends_chunks() {
            self.unread = Unread::Chunk(self.reader.read_chunk().await?);
            return Ok(());
        }
        let memory = self.unread.take_memory(self.capacity);
        let (read, mut bytes) = match self.reader.read(memory).await {
            Ok((count, bytes)) => (Ok(count), bytes),
            Err(error) => {
                let (error, bytes) = error.into_parts();
                (Err(error), bytes)
            }
        };
        bytes.truncate(*read.as_ref().unwrap_or(&0));
        self.unread = Unread::of(bytes);
        read.map(drop)
    }

    /// Reads up to the next `delimiter` or the end, appends all of it with the delimiter to
    /// `bytes`, and returns how many bytes that were: 0 at the end.
    ///
    /// It reads as much as it takes: [`take`](AsyncRead::take) sets a bound.
    ///
    /// # Errors
    /// The reader's. `bytes` is as it was then, and what was read is here for the next call.
    pub async fn read_until(&mut self, delimiter: u8, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let mut appended = Appended { reader: self, bytes, before };
        loop {
            let Appended { reader, bytes, .. } = &mut appended;
            let mut there = reader.unread.bytes();
            let count = there.read_until(delimiter, bytes)?;
            reader.unread.consume(count);
            if bytes.len() > before && bytes.last() == Some(&delimiter) {
                break;
            }
            reader.fill().await?;
            if reader.unread.is_empty() {
                break;
            }
        }
        Ok(appended.keep())
    }

    /// Reads up to the next newline or the end, appends all of it with the newline to `line`, and
    /// returns how many bytes that were: 0 at the end.
    ///
    /// It reads as much as it takes: [`take`](AsyncRead::take) sets a bound.
    ///
    /// # Errors
    /// `InvalidData` for a line that is not UTF-8, which is consumed; else as
    /// [`read_until`](BufReader::read_until). `line` is as it was in either case.
    pub async fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let count = self.read_until(b'\n', &mut bytes).await?;
        line.push_str(str::from_utf8(&bytes).map_err(|_| not_text())?);
        Ok(count)
    }
}

impl<R: AsyncRead> AsyncRead for BufReader<R> {
    async fn read<B: IoBufMut>(&mut self, mut buffer: B) -> Result<(usize, B), Error<B>> {
        if buffer.capacity() == 0 {
            return Err(Error::new(no_room(), buffer));
        }
        if self.unread.is_empty() {
            // What fills the buffer at once need not go through it.
            if buffer.capacity() >= self.capacity {
                return self.reader.read(buffer).await;
            }
            if let Err(error) = self.fill().await {
                return Err(Error::new(error, buffer));
            }
        }
        let count = buffer.put(self.unread.bytes());
        self.unread.consume(count);
        Ok((count, buffer))
    }

    fn lends_chunks(&self) -> bool {
        self.reader.lends_chunks()
    }

    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        if self.unread.is_empty() {
            return self.reader.read_chunk().await;
        }
        Ok(self.unread.take_chunk())
    }

    /// A dropped one consumes nothing.
    async fn read_exact<B: IoBufMut>(&mut self, buffer: B) -> Result<B, Error<B>> {
        let mut taken = Taken { reader: self, buffer: Some(buffer), filled: 0 };
        loop {
            let capacity = taken.buffer.as_ref().map_or(0, IoBufMut::capacity);
            taken.fill();
            if taken.filled == capacity {
                return Ok(taken.keep());
            }
            let error = match taken.reader.fill().await {
                Ok(()) if taken.reader.unread.is_empty() => ended_early(),
                Ok(()) => continue,
                Err(error) => error,
            };
            let filled = taken.filled;
            return Err(Error::new(error, taken.keep()).with_transferred(filled));
        }
    }
}

/// Bytes that a method has consumed, and appended to the caller's. If it is dropped, or fails, they
/// go back.
struct Appended<'r, R> {
    reader: &'r mut BufReader<R>,
    bytes: &'r mut Vec<u8>,
    before: usize,
}

impl<R> Appended<'_, R> {
    fn keep(mut self) -> usize {
        let count = self.bytes.len() - self.before;
        self.before = self.bytes.len();
        count
    }
}

impl<R> Drop for Appended<'_, R> {
    fn drop(&mut self) {
        if self.bytes.len() > self.before {
            self.reader.unread.put_back(self.bytes.split_off(self.before));
        }
    }
}

/// The same in a buffer that belongs to the method.
struct Taken<'r, R, B: IoBufMut> {
    reader: &'r mut BufReader<R>,
    buffer: Option<B>,
    filled: usize,
}

impl<R, B: IoBufMut> Taken<'_, R, B> {
    /// Moves what there is into the buffer, as far as there is room.
    fn fill(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        let mut rest = buffer.slice(self.filled..);
        let count = rest.put(self.reader.unread.bytes());
        self.reader.unread.consume(count);
        self.filled += count;
        self.buffer = Some(rest.into_inner());
    }

    fn keep(mut self) -> B {
        self.buffer.take().expect("the buffer is there until it is kept")
    }
}

impl<R, B: IoBufMut> Drop for Taken<'_, R, B> {
    fn drop(&mut self) {
        if let Some(buffer) = &self.buffer
            && self.filled > 0
        {
            self.reader.unread.put_back(buffer.as_init()[..self.filled].to_vec());
        }
    }
}
