//! The lines of a reader, and its parts between two bytes of a kind, one after the other.

use std::io;

use futures_util::{Stream, stream};

use super::buf_reader::BufReader;
use super::read::{AsyncRead, not_text};

impl<R: AsyncRead> BufReader<R> {
    /// The lines, one after the other.
    pub fn lines(self) -> Lines<R> {
        Lines { reader: self }
    }

    /// The parts between two bytes of this kind, one after the other.
    pub fn split(self, delimiter: u8) -> Split<R> {
        Split { reader: self, delimiter }
    }
}

/// The lines of [`BufReader::lines`].
///
/// A line has no bound: for what somebody else sends,
/// `BufReader::new(reader.take(most))` has one.
///
/// ```
/// use annulus::io::BufReader;
///
/// # annulus::block_on(async {
/// let mut lines = BufReader::new(&b"one\r\ntwo\n\nlast"[..]).lines();
/// let mut all = Vec::new();
/// while let Some(line) = lines.next_line().await? {
///     all.push(line);
/// }
/// assert_eq!(all, ["one", "two", "", "last"]);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
}

/// The parts of [`BufReader::split`].
#[derive(Debug)]
pub struct Split<R> {
    reader: BufReader<R>,
    delimiter: u8,
}

impl<R: AsyncRead> Lines<R> {
    /// The next line, without its `\n` or `\r\n`. `None` is the end.
    ///
    /// A dropped one loses nothing.
    ///
    /// # Errors
    /// `InvalidData` for a line that is not UTF-8, which is consumed; else the reader's.
    pub async fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        String::from_utf8(line).map(Some).map_err(|_| not_text())
    }

    /// The lines as a stream, which has to be pinned. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<String>> {
        stream::try_unfold(self, async |mut lines| {
            Ok(lines.next_line().await?.map(|line| (line, lines)))
        })
    }

    /// The reader.
    pub fn into_inner(self) -> BufReader<R> {
        self.reader
    }
}

impl<R: AsyncRead> Split<R> {
    /// The next part, without the byte behind it. `None` is the end.
    ///
    /// A dropped one loses nothing.
    ///
    /// # Errors
    /// The reader's.
    pub async fn next_segment(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut part = Vec::new();
        if self.reader.read_until(self.delimiter, &mut part).await? == 0 {
            return Ok(None);
        }
        if part.last() == Some(&self.delimiter) {
            part.pop();
        }
        Ok(Some(part))
    }

    /// The parts as a stream, which has to be pinned. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Vec<u8>>> {
        stream::try_unfold(self, async |mut parts| {
            Ok(parts.next_segment().await?.map(|part| (part, parts)))
        })
    }

    /// The reader.
    pub fn into_inner(self) -> BufReader<R> {
        self.reader
    }
}
