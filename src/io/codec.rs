//! What turns bytes into frames and frames into bytes: the traits, and the memory between.

use std::io;

use super::unread::Unread;
use crate::buf::{Chunk, MOST_BYTES};

/// Finds frames in bytes.
pub trait Decoder {
    /// What a frame becomes.
    type Frame;

    /// Takes the first frame out of what has come. `None`: more bytes are needed, and it is called
    /// again with these and those.
    ///
    /// # Errors
    /// Bytes that are no frame: the stream ends with the error.
    fn decode(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<Self::Frame>>;

    /// The same at the end, when nothing more comes. It is called until it says `None`.
    ///
    /// # Errors
    /// `UnexpectedEof` for a frame without its end, unless a decoder says otherwise.
    fn decode_end(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<Self::Frame>> {
        match self.decode(bytes)? {
            None if !bytes.is_empty() => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the stream ended within a frame, after {} bytes of it", bytes.len()),
            )),
            frame => Ok(frame),
        }
    }
}

/// Turns frames into bytes.
pub trait Encoder<F> {
    /// Appends the bytes of a frame.
    ///
    /// # Errors
    /// A frame that has no such form. What it has appended is taken away again.
    fn encode(&mut self, frame: F, bytes: &mut Vec<u8>) -> io::Result<()>;
}

/// The bytes that have come and belong to no frame yet, for a [`Decoder`].
///
/// They are a slice, whatever chunks they came in.
#[derive(Debug)]
pub struct FrameBytes {
    unread: Unread,
    /// How many the decoder has said it needs, if it has.
    needed: usize,
}

impl FrameBytes {
    pub(super) fn new() -> FrameBytes {
        FrameBytes { unread: Unread::nothing(), needed: 0 }
    }

    /// Takes the first `count` bytes away, and drops them.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        self.unread.consume(count);
    }

    /// Takes the first `count` bytes away as a chunk: without a copy if they came in one.
    ///
    /// # Panics
    /// If there are fewer, or if they are more than 8 MiB.
    pub fn split_to(&mut self, count: usize) -> Chunk {
        if let Unread::Chunk(chunk) = &mut self.unread {
            return chunk.split_to(count);
        }
        let chunk = Chunk::copied(&self.unread.bytes()[..count]);
        self.unread.consume(count);
        chunk
    }

    /// Says how many bytes there must be before the decoder is called again, so that a long frame
    /// gets its memory at once.
    pub fn need(&mut self, count: usize) {
        self.needed = count;
    }

    /// Is it worth calling the decoder?
    pub(super) fn suffice(&self) -> bool {
        self.len() >= self.needed && !self.is_empty()
    }

    pub(super) fn begin_frame(&mut self) {
        self.needed = 0;
    }

    /// Puts what has come behind the rest.
    pub(super) fn append(&mut self, chunk: Chunk) {
        if self.unread.is_empty() {
            self.unread = Unread::Chunk(chunk);
        } else {
            self.unread.append(&chunk, self.needed.min(MOST_BYTES));
        }
    }
}

impl std::ops::Deref for FrameBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.unread.bytes()
    }
}
