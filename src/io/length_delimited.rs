//! Frames that begin with their length.

use std::io;

use super::codec::{Decoder, Encoder, FrameBytes};
use crate::buf::{Chunk, MOST_BYTES};

/// Frames that begin with their length, as a big-endian number of four bytes unless told otherwise.
///
/// A received frame is a [`Chunk`] without the number. One that came in one chunk of a stream is
/// lent without a copy. A frame can have up to 8 MiB, and by default 1 MiB: who sends a longer
/// length gets no memory for it, but an error.
///
/// ```
/// use annulus::io::{FramedRead, FramedWrite, LengthDelimited};
/// use futures_util::{SinkExt, StreamExt};
///
/// # annulus::block_on(async {
/// let (ours, theirs) = annulus::net::UnixStream::pair()?;
/// let mut sender = FramedWrite::new(ours, LengthDelimited::new());
/// sender.feed("one").await?;
/// sender.send("and another").await?;
/// let mut frames = FramedRead::new(theirs, LengthDelimited::new());
/// assert_eq!(frames.next().await.unwrap()?, b"one");
/// assert_eq!(frames.next().await.unwrap()?, b"and another");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct LengthDelimited {
    width: usize,
    is_little_endian: bool,
    counts_itself: bool,
    longest: usize,
}

impl LengthDelimited {
    /// A length of four bytes, big-endian, of the frame alone; frames of at most 1 MiB.
    #[must_use]
    pub fn new() -> LengthDelimited {
        LengthDelimited {
            width: 4,
            is_little_endian: false,
            counts_itself: false,
            longest: 1 << 20,
        }
    }

    /// How many bytes the length has: 1 to 8.
    ///
    /// # Panics
    /// For any other number.
    #[must_use]
    pub fn width(mut self, bytes: usize) -> LengthDelimited {
        assert!((1..=8).contains(&bytes), "a length has 1 to 8 bytes, and not {bytes}");
        self.width = bytes;
        self
    }

    /// The length comes with its lowest byte first.
    #[must_use]
    pub fn little_endian(mut self) -> LengthDelimited {
        self.is_little_endian = true;
        self
    }

    /// The length counts its own bytes, too.
    #[must_use]
    pub fn counts_itself(mut self) -> LengthDelimited {
        self.counts_itself = true;
        self
    }

    /// The longest frame, in bytes, without its length. Longer ones are an error, in both
    /// directions.
    ///
    /// # Panics
    /// Above 8 MiB, which a chunk can hold.
    #[must_use]
    pub fn max_frame_length(mut self, bytes: usize) -> LengthDelimited {
        assert!(bytes <= MOST_BYTES, "a frame has at most {MOST_BYTES} bytes");
        self.longest = bytes;
        self
    }

    fn own_length(&self) -> u64 {
        if self.counts_itself { self.width as u64 } else { 0 }
    }

    fn too_long(&self, kind: io::ErrorKind, length: u64) -> io::Error {
        io::Error::new(
            kind,
            format!("a frame of {length} bytes is longer than the limit of {}", self.longest),
        )
    }
}

impl Default for LengthDelimited {
    fn default() -> LengthDelimited {
        LengthDelimited::new()
    }
}

impl Decoder for LengthDelimited {
    type Frame = Chunk;

    /// # Errors
    /// `InvalidData` for a frame that is longer than the limit, or shorter than its own length.
    fn decode(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<Chunk>> {
        let Some(field) = bytes.get(..self.width) else {
            bytes.need(self.width);
            return Ok(None);
        };
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let number = match self.is_little_endian {
            true => field.iter().rev().fold(0, append),
            false => field.iter().fold(0, append),
        };
        let Some(length) = number.checked_sub(self.own_length()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame says it has {number} bytes, which is less than its length has"),
            ));
        };
        let length = match usize::try_from(length) {
            Ok(fits) if fits <= self.longest => fits,
            _ => return Err(self.too_long(io::ErrorKind::InvalidData, length)),
        };
        if bytes.len() - self.width < length {
            bytes.need(self.width + length);
            return Ok(None);
        }
        bytes.advance(self.width);
        Ok(Some(bytes.split_to(length)))
    }
}

impl<F: AsRef<[u8]>> Encoder<F> for LengthDelimited {
    /// # Errors
    /// `InvalidInput` for a frame that is longer than the limit, or than the length can say.
    fn encode(&mut self, frame: F, bytes: &mut Vec<u8>) -> io::Result<()> {
        let frame = frame.as_ref();
        let number = frame.len() as u64 + self.own_length();
        let fits = self.width == 8 || number >> (8 * self.width) == 0;
        if frame.len() > self.longest || !fits {
            return Err(self.too_long(io::ErrorKind::InvalidInput, frame.len() as u64));
        }
        match self.is_little_endian {
            true => bytes.extend_from_slice(&number.to_le_bytes()[..self.width]),
            false => bytes.extend_from_slice(&number.to_be_bytes()[8 - self.width..]),
        }
        bytes.extend_from_slice(frame);
        Ok(())
    }
}
