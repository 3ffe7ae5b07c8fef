//! Memory that is shared with the kernel for long: pages of its own, which cost nothing until they
//! are touched. mmap(2).
//!
//! # Safety
//! A mapping owns its pages until it is dropped, and hands out their address only. Who reads and
//! writes them is its owner's business.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::aligned::page_size;

/// Zeroed memory of its own pages, which takes no physical memory until it is touched.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    pub(crate) fn new(length: usize) -> io::Result<Mapping> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new mapping where the kernel likes it touches nothing that is there.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Mapping { start, length })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Gives the physical memory of all whole pages of a part back. They read as zeroes then, and
    /// can be used on.
    ///
    /// # Safety
    /// Nobody wants the bytes of the part, and nobody reads or writes them meanwhile.
    pub(crate) unsafe fn discard(&self, from: usize, to: usize) {
        assert!(from <= to && to <= self.length, "a part of the mapping");
        let Range { start, end } = whole_pages(from..to, page_size());
        if start < end {
            // SAFETY: the pages lie in the mapping, and the caller vouches for what is in them. A
            // refusal leaves them as they are.
            unsafe {
                libc::madvise(
                    self.start.as_ptr().add(start).cast(),
                    end - start,
                    libc::MADV_DONTNEED,
                )
            };
        }
    }
}

/// The pages that lie in a part of a mapping from end to end, none if the range is empty or its end
/// lies before its start. The kernel rounds lengths up to its own pages, which are larger on some
/// machines, and so would take what lies behind.
fn whole_pages(part: Range<usize>, page: usize) -> Range<usize> {
    part.start.next_multiple_of(page)..part.end / page * page
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and its owner is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_lie_in_a_part_from_end_to_end_are_given_back_however_large_they_are() {
        for page in [4096, 16 << 10, 64 << 10] {
            for (from, to) in [
                (0, page),
                (1, 3 * page - 1),
                (page, page + 4096),
                (64 << 10, (80 << 10) + 64),
                (page - 1, page + 1),
            ] {
                let Range { start, end } = whole_pages(from..to, page);
                assert!(start % page == 0 && end % page == 0, "{from}..{to} in pages of {page}");
                assert!(
                    start >= end || from <= start && end <= to,
                    "{from}..{to} in pages of {page}"
                );
            }
        }
        assert_eq!(whole_pages(4095..3 * 4096 + 1, 4096), 4096..3 * 4096);
    }
}
