//! Aligned memory: its address suits the device as it is.
//!
//! A buffer for files opened with `O_DIRECT`: address, length and file offset of such a read or
//! write must be multiples of what the device and file system ask for (`statx` tells, as
//! `stx_dio_mem_align` and `stx_dio_offset_align`). This file cares for the address only, and knows
//! no file.
//!
//! # Safety
//! The buffer is the only owner of one block from the global allocator: `new` allocates it, `Drop`
//! frees it with the same layout, and between the two it neither grows nor moves. A part of a
//! buffer is never dropped, and the whole is kept longer. Of its bytes, the first `len` are
//! initialised and `len <= capacity`; every method keeps that.
#![allow(unsafe_code)]

use super::{IoBuf, IoBufMut};
use std::alloc::{self, Layout};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// A buffer with a chosen alignment and a fixed capacity, for `O_DIRECT`.
///
/// It has a length like a `Vec`, but never grows. A new one is empty; a read may use its whole
/// capacity.
///
/// ```
/// use annulus::buf::AlignedBuffer;
///
/// let mut block = AlignedBuffer::new(4096, 512);
/// block.extend_from_slice(b"record");
/// block.resize(512, 0);                       // direct writes come in whole blocks
/// assert_eq!(block.as_ptr() as usize % 512, 0);
/// assert_eq!((block.len(), block.capacity()), (512, 4096));
/// ```
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

impl AlignedBuffer {
    /// An empty buffer for `capacity` bytes whose address is a multiple of `alignment`.
    ///
    /// # Panics
    /// If `alignment` is not a power of two, or the capacity does not fit into the address space.
    pub fn new(capacity: usize, alignment: usize) -> Self {
        assert!(
            alignment.is_power_of_two(),
            "the alignment of a buffer must be a power of two, and {alignment} is not"
        );
        let Ok(layout) = Layout::from_size_align(capacity, alignment) else {
            panic!(
                "a buffer of {capacity} bytes aligned to {alignment} does not fit into the address space"
            );
        };
        AlignedBuffer { start: allocate(layout), len: 0, layout }
    }

    /// An empty buffer for `capacity` bytes aligned to a memory page, which is enough for nearly
    /// every device and file system.
    ///
    /// # Panics
    /// If the capacity does not fit into the address space.
    pub fn with_page_alignment(capacity: usize) -> Self {
        Self::new(capacity, page_size())
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.layout.size()
    }

    /// What the address is a multiple of.
    pub fn alignment(&self) -> usize {
        self.layout.align()
    }

    /// How many bytes hold data.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes hold data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the length to zero.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Shortens to `len`; does nothing if the buffer is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Shortens or lengthens to `len`, with `value` in new bytes.
    ///
    /// # Panics
    /// If `len` is above the capacity: the buffer does not grow.
    pub fn resize(&mut self, len: usize, value: u8) {
        let Some(added) = len.checked_sub(self.len) else { return self.truncate(len) };
        self.assert_room_for(added);
        // SAFETY: this buffer owns the block, and `added` bytes after `len` lie in it, as just
        // asserted; `&mut self` keeps others off until the end of this method.
        unsafe { self.start.add(self.len).write_bytes(value, added) };
        self.len = len;
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit: the buffer does not grow.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.assert_room_for(bytes.len());
        // SAFETY: this buffer owns the block, and as many bytes after `len` lie in it, as just
        // asserted; `&mut self` keeps others off until the end of this method, and so `bytes`
        // cannot overlap.
        unsafe {
            self.start
                .add(self.len)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len())
        };
        self.len += bytes.len();
    }

    /// An empty buffer in the memory of this one, which frees nothing.
    ///
    /// # Panics
    /// If that memory does not reach so far.
    ///
    /// # Safety
    /// This one is not dropped as long as the part is used. Nobody uses the same memory in another
    /// way meanwhile: neither through this buffer, nor through a part that overlaps.
    pub(super) unsafe fn part(
        &self,
        offset: usize,
        capacity: usize,
    ) -> ManuallyDrop<AlignedBuffer> {
        assert!(
            offset <= self.capacity() && capacity <= self.capacity() - offset,
            "a part lies within the whole"
        );
        let Ok(layout) = Layout::from_size_align(capacity, self.alignment()) else {
            unreachable!("the whole is larger and has a layout")
        };
        // SAFETY: the offset is within the block, which this buffer owns and which outlives the
        // part, as the caller promises.
        let start = unsafe { self.start.add(offset) };
        ManuallyDrop::new(AlignedBuffer { start, len: 0, layout })
    }

    fn assert_room_for(&self, added: usize) {
        let (len, capacity) = (self.len, self.capacity());
        assert!(
            added <= capacity - len,
            "an aligned buffer does not grow: it holds {len} of {capacity} bytes and has no room for {added} more"
        );
    }
}

/// A block for `layout`, or just an aligned address if it is of size zero, which the allocator does
/// not take.
fn allocate(layout: Layout) -> NonNull<u8> {
    if layout.size() == 0 {
        return NonNull::new(ptr::without_provenance_mut(layout.align()))
            .expect("an alignment is a power of two, so not zero");
    }
    // SAFETY: the size is not zero. The caller becomes the owner of the block, until it is freed in
    // `Drop`.
    let start = unsafe { alloc::alloc(layout) };
    NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

pub(super) fn page_size() -> usize {
    // SAFETY: the call takes a number and gives one; no memory is involved.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every Linux knows its page size")
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: this buffer owns the block, which came from `alloc` with this same layout,
            // and nobody uses it after its owner is dropped: an operation that still needs it holds
            // the owner.
            unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

// SAFETY: the buffer is the only owner of its block, and the global allocator frees from any
// thread; so it may move to another, as a `Vec` may.
unsafe impl Send for AlignedBuffer {}

// SAFETY: through a shared reference the bytes can only be read; there is no interior mutability.
unsafe impl Sync for AlignedBuffer {}

// SAFETY: this value owns the block, which stays where it is until the value is dropped; a move
// copies only the pointer. The first `len` bytes are initialised.
unsafe impl IoBuf for AlignedBuffer {
    fn as_init_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above; the pointer is the allocator's own and good for the whole block, and nobody
// else has one.
unsafe impl IoBufMut for AlignedBuffer {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn capacity(&self) -> usize {
        self.layout.size()
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        debug_assert!(len <= self.layout.size());
        self.len = len;
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_init()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: this buffer owns the bytes, the first `len` are initialised, and it is borrowed
        // mutably for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Leaves the bytes out: they may be many, and may be secret.
impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("address", &self.start)
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .field("alignment", &self.alignment())
            .finish()
    }
}
