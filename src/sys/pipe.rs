//! Pipes, with a name or without. pipe2(2), mkfifo(3).
//!
//! # Safety
//! The one call of libc reads a path that its caller keeps until it has returned.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Descriptor, Status};

/// A pipe, close-on-exec and blocking: its reading and its writing end.
pub(crate) fn open_pipe() -> io::Result<[Descriptor; 2]> {
    let (reader, writer) = io::pipe()?;
    Ok([OwnedFd::from(reader).into(), OwnedFd::from(writer).into()])
}

/// Makes a named pipe. Waits for the disk.
pub(crate) fn make_fifo(path: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: the caller keeps the path, which the call only reads.
    match unsafe { libc::mkfifo(path.as_ptr(), mode) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Is it a pipe, named or not?
pub(crate) fn is_pipe(descriptor: BorrowedFd<'_>) -> bool {
    Status::of(descriptor).is_some_and(|status| status.file_type == libc::S_IFIFO)
}
