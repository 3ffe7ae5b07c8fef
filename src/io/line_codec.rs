//! Frames that are lines of text.

use std::io;

use super::codec::{Decoder, Encoder, FrameBytes};
use super::read::not_text;

/// Frames that are lines of UTF-8, which end with `\n` or `\r\n`. The last may have no end.
///
/// Unlike [`BufReader::lines`](crate::io::BufReader::lines) it has a limit, by default 64 KiB, for
/// what somebody else sends.
///
/// ```
/// use annulus::io::{FramedRead, LinesCodec};
/// use futures_util::StreamExt;
///
/// # annulus::block_on(async {
/// let mut lines = FramedRead::new(&b"HELO\r\nQUIT\r\n"[..], LinesCodec::new());
/// assert_eq!(lines.next().await.unwrap()?, "HELO");
/// assert_eq!(lines.next().await.unwrap()?, "QUIT");
/// assert!(lines.next().await.is_none());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct LinesCodec {
    longest: usize,
    /// How many bytes of what has come hold no newline.
    searched: usize,
}

impl LinesCodec {
    /// Lines of at most 64 KiB.
    #[must_use]
    pub fn new() -> LinesCodec {
        LinesCodec { longest: 64 << 10, searched: 0 }
    }

    /// The longest line, in bytes, without its end. A longer one is an error.
    #[must_use]
    pub fn max_length(mut self, bytes: usize) -> LinesCodec {
        self.longest = bytes;
        self
    }

    fn line(&self, bytes: &[u8]) -> io::Result<String> {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.len() > self.longest {
            return Err(self.too_long());
        }
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| not_text())
    }

    fn too_long(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than the limit of {} bytes", self.longest),
        )
    }
}

impl Default for LinesCodec {
    fn default() -> LinesCodec {
        LinesCodec::new()
    }
}

impl Decoder for LinesCodec {
    type Frame = String;

    /// # Errors
    /// `InvalidData` for a line that is longer than the limit, or is not UTF-8.
    fn decode(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<String>> {
        match bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(found) => {
                let end = self.searched + found;
                self.searched = 0;
                let line = self.line(&bytes[..end]);
                bytes.advance(end + 1);
                line.map(Some)
            }
            // One more for the `\r` of the end.
            None if bytes.len() > self.longest.saturating_add(1) => Err(self.too_long()),
            None => {
                self.searched = bytes.len();
                Ok(None)
            }
        }
    }

    fn decode_end(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<String>> {
        if let Some(line) = self.decode(bytes)? {
            return Ok(Some(line));
        }
        self.searched = 0;
        if bytes.is_empty() {
            return Ok(None);
        }
        let line = self.line(bytes);
        bytes.advance(bytes.len());
        line.map(Some)
    }
}

impl<F: AsRef<str>> Encoder<F> for LinesCodec {
    /// # Errors
    /// `InvalidInput` for text with a newline in it, which would be two lines.
    fn encode(&mut self, frame: F, bytes: &mut Vec<u8>) -> io::Result<()> {
        let line = frame.as_ref();
        if line.contains('\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line must not contain a newline",
            ));
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        Ok(())
    }
}
