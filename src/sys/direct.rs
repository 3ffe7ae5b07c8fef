//! Transfers around the page cache: in which units an open file takes them, and the flag itself.
//!
//! # Safety
//! The calls take a descriptor, which is borrowed, and one fills in a local structure.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The alignment of direct transfers where the kernel does not tell: enough for every usual disk.
const USUAL_ALIGNMENT: u32 = 4096;

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

/// What the offset and the length of a direct transfer of this file are multiples of; statx(2),
/// `stx_dio_offset_align`, since Linux 6.1.
pub(crate) fn direct_alignment(file: BorrowedFd<'_>) -> usize {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is static, and the structure a local variable; all zeroes is a value of it.
    let (result, status) = unsafe {
        let result = libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            flags,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        );
        (result, status.assume_init())
    };
    let told = if result == 0 { status.stx_dio_offset_align } else { 0 };
    let alignment = if told.is_power_of_two() { told } else { USUAL_ALIGNMENT };
    alignment as usize
}
