//! Bytes that were read and that nobody has consumed: a chunk of the runtime, or memory of the
//! heap.

use std::mem;

use crate::buf::Chunk;

#[derive(Debug)]
pub(super) enum Unread {
    /// Lent by the reader.
    Chunk(Chunk),
    /// Read into, or put together. Those before `start` are consumed.
    Heap { bytes: Vec<u8>, start: usize },
}

impl Unread {
    pub(super) fn nothing() -> Unread {
        Unread::of(Vec::new())
    }

    pub(super) fn of(bytes: Vec<u8>) -> Unread {
        Unread::Heap { bytes, start: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Unread::Chunk(chunk) => chunk,
            Unread::Heap { bytes, start } => &bytes[*start..],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The first `count` bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.bytes().len(), "no more can be consumed than there is");
        match self {
            Unread::Chunk(chunk) => chunk.advance(count),
            Unread::Heap { start, .. } => *start += count,
        }
    }

    /// Takes all of it, without a copy where it is a chunk.
    pub(super) fn take_chunk(&mut self) -> Chunk {
        match mem::replace(self, Unread::nothing()) {
            Unread::Chunk(chunk) => chunk,
            Unread::Heap { bytes, start } => {
                let end = bytes.len().min(start + crate::buf::MOST_BYTES);
                let chunk = Chunk::copied(&bytes[start..end]);
                if end < bytes.len() {
                    *self = Unread::Heap { bytes, start: end };
                }
                chunk
            }
        }
    }

    /// Memory to read into, once all is consumed: what there is, if it is large enough.
    pub(super) fn take_memory(&mut self, capacity: usize) -> Vec<u8> {
        match mem::replace(self, Unread::nothing()) {
            Unread::Heap { mut bytes, .. } if bytes.capacity() >= capacity => {
                bytes.clear();
                bytes
            }
            _ => Vec::with_capacity(capacity),
        }
    }

    /// Puts bytes behind the rest, in memory for `whole` bytes if that is more.
    pub(super) fn append(&mut self, more: &[u8], whole: usize) {
        let room = whole.max(self.bytes().len() + more.len());
        match self {
            Unread::Heap { bytes, start } => {
                // What is consumed goes before it would make the memory grow.
                if *start > 0 && bytes.capacity() < bytes.len() + more.len() {
                    bytes.drain(..*start);
                    *start = 0;
                }
                bytes.reserve((*start + room).saturating_sub(bytes.len()));
                bytes.extend_from_slice(more);
            }
            Unread::Chunk(chunk) => {
                let mut bytes = Vec::with_capacity(room);
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(more);
                *self = Unread::of(bytes);
            }
        }
    }

    /// Puts bytes in front of the rest.
    pub(super) fn put_back(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(self.bytes());
        *self = Unread::of(bytes);
    }
}
