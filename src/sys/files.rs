//! What the machine does with files at once, without a ring.
//!
//! # Safety
//! Every block is a system call on descriptors that the caller holds open, and on memory that
//! outlives the call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// From where an offset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whence {
    Start,
    Current,
    End,
}

/// Moves the kernel's position, and says where it is; lseek(2). From the end of a file that is
/// elsewhere it waits.
pub(crate) fn seek(file: BorrowedFd<'_>, offset: i64, whence: Whence) -> io::Result<u64> {
    let whence = match whence {
        Whence::Start => libc::SEEK_SET,
        Whence::Current => libc::SEEK_CUR,
        Whence::End => libc::SEEK_END,
    };
    // SAFETY: the call takes no memory.
    let result = unsafe { libc::lseek64(file.as_raw_fd(), offset, whence) };
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Do writes go to the end, wherever that is? fcntl(2).
pub(crate) fn appends(file: BorrowedFd<'_>) -> bool {
    // SAFETY: the call takes no pointer, and changes nothing.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_APPEND != 0
}
