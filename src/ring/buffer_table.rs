//! The table of registered buffers of an io_uring: filling and emptying it, io_uring_register(2).
//!
//! Which indices are free is for the caller to know.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys;

/// The length of the table: the most that the kernel gives. Eight bytes each, from the first that
/// is registered on.
pub(super) const PLACES: u32 = 1 << 14;

/// Makes an empty table.
pub(super) fn make(ring: BorrowedFd<'_>) -> io::Result<()> {
    sys::make_buffer_table(ring, PLACES).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no table for registered buffers",
        ),
        _ => error,
    })
}

/// Puts buffers into the places from `first` on: all of them, or none.
pub(super) fn fill(ring: BorrowedFd<'_>, first: u16, buffers: &[libc::iovec]) -> io::Result<()> {
    let mut done = 0;
    while done < buffers.len() {
        // The kernel says that it took fewer before it says why.
        let taken = match sys::update_buffer_table(
            ring,
            u32::from(first) + done as u32,
            &buffers[done..],
        ) {
            Ok(0) => Err(io::ErrorKind::Other.into()),
            taken => taken,
        };
        match taken {
            Ok(taken) => done += taken,
            Err(error) => {
                empty(ring, first, buffers.len());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Empties places. Operations under way keep the memory pinned.
pub(super) fn empty(ring: BorrowedFd<'_>, first: u16, count: usize) {
    let nothing = vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count];
    // This fails only where there is no table.
    let _ = sys::update_buffer_table(ring, first.into(), &nothing);
}
