//! The body of a response: bytes that are there, and parts of files that are read as the client
//! takes them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use annulus::buf::{PoolBuffer, Slice};
use annulus::fs::{File, FileStream};
use bytes::{Buf, Bytes};
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};

/// What is read of a file at a time, and how often at once where the page cache does not have it.
const CHUNK: usize = 128 * 1024;
const DEPTH: usize = 4;

/// The body of a response, of a known length.
#[derive(Default)]
pub(crate) struct Content {
    parts: VecDeque<Part>,
    left: u64,
}

enum Part {
    Bytes(Bytes),
    File { stream: FileStream<'static>, left: u64 },
}

impl Content {
    pub(crate) fn add_bytes(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.left += bytes.len() as u64;
        self.parts.push_back(Part::Bytes(bytes));
    }

    /// A part of a file. Reading begins when the client is to have it.
    pub(crate) fn add_file(&mut self, file: File, range: Range<u64>) {
        let left = range.end - range.start;
        self.left += left;
        let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let stream = file.into_stream(range).chunk_size(chunk).depth(DEPTH);
        self.parts.push_back(Part::File { stream, left });
    }

    pub(crate) fn len(&self) -> u64 {
        self.left
    }
}

impl Body for Content {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let piece = loop {
            match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(Part::File { stream, left }) if *left > 0 => {
                    let next = ready!(Pin::new(stream).poll_next(context));
                    // The client sees that something is missing, since the length was promised.
                    let next = next.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
                    let buffer = next.inspect_err(|error| eprintln!("a file: {error}"))?;
                    *left -= buffer.len() as u64;
                    break Piece::Read { buffer, sent: 0 };
                }
                Some(_) => {}
            }
            if let Some(Part::Bytes(bytes)) = self.parts.pop_front() {
                break Piece::Bytes(bytes);
            }
        };
        self.left -= piece.remaining() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Bytes on their way: a buffer goes back to its stream when they are sent.
pub(crate) enum Piece {
    Bytes(Bytes),
    Read { buffer: Slice<PoolBuffer>, sent: usize },
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Read { buffer, sent } => &buffer[*sent..],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Piece::Bytes(bytes) => bytes.advance(count),
            Piece::Read { buffer, sent } => {
                assert!(*sent + count <= buffer.len(), "there are no more bytes");
                *sent += count;
            }
        }
    }
}
