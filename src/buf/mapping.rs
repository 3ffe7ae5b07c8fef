//! Where does memory come from that is shared with the kernel for long? Pages of its own, which cost nothing until they are touched. mmap(2).
//!
//! # Safety
//! A mapping owns its pages until it is dropped, and hands out their address only. Who reads and writes them is its owner's business.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// The smallest page of any machine. Where pages are larger the kernel refuses to give back a part of one, which does no harm.
const PAGE: usize = 4096;

/// Zeroed memory of its own pages, which takes no physical memory until it is touched.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    pub(crate) fn new(length: usize) -> io::Result<Mapping> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping where the kernel likes it touches nothing that is there.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Mapping { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Gives the physical memory of all whole pages of a part back. They read as zeroes then, and can be used on.
    ///
    /// # Safety
    /// Nobody wants the bytes of the part, and nobody reads or writes them meanwhile.
    pub(crate) unsafe fn discard(&self, from: usize, to: usize) {
        assert!(from <= to && to <= self.length, "a part of the mapping");
        let first = from.next_multiple_of(PAGE);
        let end = to / PAGE * PAGE;
        if first < end {
            // SAFETY: the pages lie in the mapping, and the caller vouches for what is in them. A refusal leaves them as they are.
            unsafe { libc::madvise(self.start.as_ptr().add(first).cast(), end - first, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and its owner is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
