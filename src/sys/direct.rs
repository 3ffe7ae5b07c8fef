//! The flag of an open file that its transfers go around the page cache.
//!
//! # Safety
//! The calls take a descriptor, which is borrowed, and no memory.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets or clears `O_DIRECT` for all who share the open file; fcntl(2).
pub(crate) fn set_direct(file: BorrowedFd<'_>, direct: bool) -> io::Result<()> {
    // SAFETY: the call takes no pointer, and changes nothing.
    let before = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if before < 0 {
        return Err(io::Error::last_os_error());
    }
    let after = if direct { before | libc::O_DIRECT } else { before & !libc::O_DIRECT };
    // SAFETY: the call takes no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, after) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
