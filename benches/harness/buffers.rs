//! Buffers that a ring receives into, as a program written by hand has them; used by the load
//! generator and by the raw contender.
#![allow(unsafe_code)] // The kernel is told of memory by its address.

use std::alloc::{self, Layout};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::data_file::BLOCK_SIZE;

/// As many as one turn's completions need, and few enough to stay in the processor's cache; a power
/// of two.
pub(crate) const BUFFERS: u16 = 256;
/// Their group.
pub(crate) const GROUP: u16 = 0;

/// Memory at an address that direct reads and buffer rings accept. It is zeroed, and lives until it
/// is dropped.
pub(crate) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    pub(crate) fn new(size: usize) -> Pages {
        let layout = Layout::from_size_align(size, BLOCK_SIZE).expect("a size that memory has");
        // SAFETY: the layout is not empty: all callers ask for at least a buffer.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).expect("memory");
        Pages { start, layout }
    }

    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size());
        // SAFETY: the offset lies within the allocation, as has just been asserted.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the allocation that `new` made with this layout, and it is given back
        // once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The buffers that the kernel receives into, and the ring through which it gets them.
pub(crate) struct Buffers {
    entries: ManuallyDrop<Pages>,
    bytes: ManuallyDrop<Pages>,
    size: usize,
    tail: u16,
    /// How many the kernel has.
    pub(crate) free: usize,
}

impl Buffers {
    /// Their memory is never given back, since the end of a ring does not wait for the receives
    /// that are armed on it.
    pub(crate) fn register(submitter: &Submitter<'_>, size: usize) -> io::Result<Buffers> {
        let entries =
            ManuallyDrop::new(Pages::new(usize::from(BUFFERS) * size_of::<BufRingEntry>()));
        let bytes = ManuallyDrop::new(Pages::new(usize::from(BUFFERS) * size));
        // SAFETY: the pages stay as long as the process.
        unsafe { submitter.register_buf_ring_with_flags(entries.at(0) as u64, BUFFERS, GROUP, 0)? };
        let mut buffers = Buffers { entries, bytes, size, tail: 0, free: 0 };
        (0..BUFFERS).for_each(|number| buffers.give(number));
        buffers.publish();
        Ok(buffers)
    }

    pub(crate) fn address(&self, number: u16) -> *mut u8 {
        self.bytes.at(usize::from(number) * self.size)
    }

    /// Puts a buffer behind the tail; the kernel sees it when the tail is published.
    pub(crate) fn give(&mut self, number: u16) {
        let place = usize::from(self.tail & (BUFFERS - 1));
        let address = self.address(number) as u64;
        let entry = self.entries.at(place * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: the entry lies in the pages of the ring, and the kernel does not look at it
        // before the tail has passed it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.size as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    pub(crate) fn publish(&self) {
        // SAFETY: the tail is a 16-bit word within the ring's first entry, which only this thread
        // writes.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.at(0).cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
