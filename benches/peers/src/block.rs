//! The buffer into which peers read a block of a file: memory at an address that direct reads
//! accept, as every runtime's kind of buffer.
//!
//! # Safety
//! The pages lie on the heap: moving a block does not move them, and they are freed with it. All
//! their bytes are always written ones.
#![allow(unsafe_code)] // The traits of buffers are unsafe to implement.

use std::mem::MaybeUninit;
use std::ops::Deref;

use crate::harness::data_file::BLOCK_SIZE;

#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[expect(dead_code, reason = "it is named by its address")] [u8; BLOCK_SIZE]);

/// A buffer of whole pages.
pub(crate) struct Block {
    pages: Vec<Page>,
    /// How many bytes the last read has given.
    length: usize,
}

impl Block {
    pub(crate) fn new(size: usize) -> Block {
        Block { pages: vec![Page([0; BLOCK_SIZE]); size.div_ceil(BLOCK_SIZE)], length: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// All of it, for a call that fills it.
    pub(crate) fn fill(&mut self) -> &mut [u8] {
        self.length = self.size();
        let start = self.start();
        // SAFETY: the pages are this long, and borrowed from the block as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(start, self.length) }
    }

    fn size(&self) -> usize {
        self.pages.len() * BLOCK_SIZE
    }

    fn start(&mut self) -> *mut u8 {
        self.pages.as_mut_ptr().cast()
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole = self.pages.as_ptr().cast::<u8>();
        // SAFETY: the length is never set beyond the pages, which are borrowed from the block as
        // long as the slice is.
        unsafe { std::slice::from_raw_parts(whole, self.length) }
    }
}

// SAFETY: as the head of this file says; what is spare begins where the last read ended.
unsafe impl a10::io::BufMut for Block {
    unsafe fn parts_mut(&mut self) -> (*mut u8, u32) {
        let spare = self.spare_capacity();
        // SAFETY: the length is never set beyond the pages.
        (unsafe { self.start().add(self.length) }, spare)
    }

    unsafe fn set_init(&mut self, count: usize) {
        self.length += count;
    }

    fn spare_capacity(&self) -> u32 {
        (self.size() - self.length) as u32
    }
}

// SAFETY: as the head of this file says.
unsafe impl monoio::buf::IoBufMut for Block {
    fn write_ptr(&mut self) -> *mut u8 {
        self.start()
    }

    fn bytes_total(&mut self) -> usize {
        self.size()
    }

    unsafe fn set_init(&mut self, length: usize) {
        self.length = length;
    }
}

// SAFETY: as the head of this file says.
unsafe impl tokio_uring::buf::IoBuf for Block {
    fn stable_ptr(&self) -> *const u8 {
        self.pages.as_ptr().cast()
    }

    fn bytes_init(&self) -> usize {
        self.length
    }

    fn bytes_total(&self) -> usize {
        self.size()
    }
}

// SAFETY: as the head of this file says.
unsafe impl tokio_uring::buf::IoBufMut for Block {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start()
    }

    unsafe fn set_init(&mut self, length: usize) {
        self.length = length;
    }
}

impl compio::buf::IoBuf for Block {
    fn as_init(&self) -> &[u8] {
        self
    }
}

impl compio::buf::SetLen for Block {
    unsafe fn set_len(&mut self, length: usize) {
        self.length = length;
    }
}

impl compio::buf::IoBufMut for Block {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let (start, size) = (self.start(), self.size());
        // SAFETY: the pages are this long, and borrowed from the block as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), size) }
    }
}
