//! A chunk of a received buffer: a view of bytes that gives the buffer back when it goes.
//!
//! A chunk knows where its bytes are and who keeps them. It knows no ring and no stream.
//!
//! # Safety
//! The bytes of the buffer from `offset` on, `length` of them, are initialised, and are written by
//! nobody as long as a chunk of them lives. The arena, in which the buffer and its place are, lives
//! as long as a chunk of it.
#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use super::IoBuf;
use super::chunk_arena::{BufferPlace, ChunkArena};

/// Received bytes in a buffer that belongs to the runtime's pool, and goes back there when the last
/// chunk of it is dropped.
///
/// It can be read as a slice, sent or written as it is, divided ([`split_to`](Chunk::split_to),
/// [`split_off`](Chunk::split_off)) and cloned without copying, kept beyond its stream and its
/// runtime, and given to other threads.
///
/// A chunk is meant to be used and dropped: a single received byte may keep a whole buffer. When
/// three quarters of a pool that cannot grow any more are in chunks, what comes is copied to the
/// heap instead, so that a program which keeps its chunks, or forgets them (`mem::forget`), never
/// starves its streams. With the crate `bytes`, `Bytes::from_owner(chunk)` makes it a `Bytes`
/// without a copy.
///
/// ```
/// use annulus::net::UnixStream;
///
/// # annulus::block_on(async {
/// let (ours, theirs) = UnixStream::pair()?;
/// theirs.write_all("key=value").await?;
/// let mut value = ours.read_chunk().await?;
/// let key = value.split_to(4);
/// assert_eq!((&key[..], &value[..]), (&b"key="[..], &b"value"[..]));
/// ours.write_all(value).await?; // no copy
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct Chunk {
    /// The buffer, of which this is one chunk.
    place: NonNull<BufferPlace>,
    length: u32,
    /// Where in the buffer the bytes begin, least byte first. Three of them, for a task that waits
    /// may have room for several chunks.
    offset: [u8; 3],
    /// A byte of which all other values are free to mean that there is no chunk: so an item of a
    /// stream is no larger than a chunk.
    present: Present,
}

/// Longest buffer. An offset in it takes less than three bytes.
pub(crate) const MOST_BYTES: usize = 8 << 20;

#[derive(Clone, Copy)]
#[repr(u8)]
enum Present {
    Yes,
}

const _: () = assert!(
    size_of::<Chunk>() == 16 && size_of::<Option<io::Result<Chunk>>>() == size_of::<Chunk>()
);

impl Chunk {
    /// The only chunk of a buffer, so far.
    ///
    /// # Safety
    /// The first `length` bytes of the buffer are initialised, the kernel has let go of it, and the
    /// arena is told that it is in a chunk.
    #[inline]
    pub(super) unsafe fn lent(place: NonNull<BufferPlace>, length: u32) -> Chunk {
        Chunk { place, length, offset: [0; 3], present: Present::Yes }
    }

    /// A chunk with a copy of these bytes, at most [`MOST_BYTES`].
    pub(crate) fn copied(bytes: &[u8]) -> Chunk {
        Chunk::of_bytes(bytes.to_vec())
    }

    /// A chunk of these bytes, at most [`MOST_BYTES`], without a copy.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Chunk {
        assert!(bytes.len() <= MOST_BYTES, "{} bytes are too many for one chunk", bytes.len());
        Chunk {
            length: bytes.len() as u32,
            place: ChunkArena::of_bytes(bytes),
            offset: [0; 3],
            present: Present::Yes,
        }
    }

    #[inline]
    fn place(&self) -> &BufferPlace {
        // SAFETY: this chunk keeps the arena, in whose table the place is.
        unsafe { self.place.as_ref() }
    }

    #[inline]
    fn offset(&self) -> usize {
        let [first, second, third] = self.offset;
        u32::from_le_bytes([first, second, third, 0]) as usize
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Are there none?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the first `at` bytes away, as a chunk of their own that shares the buffer.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use = "to drop the first bytes, use `advance`"]
    pub fn split_to(&mut self, at: usize) -> Chunk {
        let mut first = self.clone();
        first.truncate_to(at);
        self.advance(at);
        first
    }

    /// Takes the bytes from `at` on away, as a chunk of their own that shares the buffer.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use = "to drop the last bytes, use `truncate`"]
    pub fn split_off(&mut self, at: usize) -> Chunk {
        let mut last = self.clone();
        last.advance(at);
        self.truncate_to(at);
        last
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "a chunk of {} bytes cannot advance by {count}", self.length);
        let [first, second, third, _] = (self.offset() as u32 + count as u32).to_le_bytes();
        self.offset = [first, second, third];
        self.length -= count as u32;
    }

    /// Drops all but the first `length` bytes, if there are more.
    pub fn truncate(&mut self, length: usize) {
        self.truncate_to(length.min(self.len()));
    }

    fn truncate_to(&mut self, length: usize) {
        assert!(length <= self.len(), "a chunk of {} bytes has no {length} first", self.length);
        self.length = length as u32;
    }
}

/// Shares the buffer; the bytes are not copied.
impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        self.place().share();
        Chunk { place: self.place, length: self.length, offset: self.offset, present: self.present }
    }
}

impl Drop for Chunk {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the end of a chunk of that buffer.
        unsafe { ChunkArena::release(self.place) };
    }
}

// SAFETY: the bytes are only read; an arena takes buffers back from any thread.
unsafe impl Send for Chunk {}

// SAFETY: through a shared reference the bytes can be read and the chunk cloned, which is an atomic
// count.
unsafe impl Sync for Chunk {}

// SAFETY: the arena keeps the bytes where they are until the last chunk of them is dropped, and
// nobody writes them until then.
unsafe impl IoBuf for Chunk {
    #[inline]
    fn as_init_ptr(&self) -> *const u8 {
        // SAFETY: the offset is within the buffer, or at its end.
        unsafe { self.place().start().add(self.offset()) }.as_ptr()
    }

    #[inline]
    fn init_len(&self) -> usize {
        self.len()
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_init()
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Chunk {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// No bytes.
impl Default for Chunk {
    fn default() -> Chunk {
        Chunk::copied(&[])
    }
}

/// Compares the bytes, here and below.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Chunk {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Chunk {}

impl PartialOrd for Chunk {
    fn partial_cmp(&self, other: &Chunk) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Chunk {
    fn cmp(&self, other: &Chunk) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// As the bytes, which [`Borrow`] demands.
impl Hash for Chunk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// Leaves the bytes out: they may be many, and may be secret.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.length).finish_non_exhaustive()
    }
}

/// Without a copy: the buffer goes back to its pool with the last of the `Bytes`.
#[cfg(feature = "bytes")]
impl From<Chunk> for bytes::Bytes {
    fn from(chunk: Chunk) -> bytes::Bytes {
        bytes::Bytes::from_owner(chunk)
    }
}
