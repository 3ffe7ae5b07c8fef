//! Pipes, with a name or without. pipe2(2), mkfifo(3).
//!
//! # Safety
//! The calls of libc read a path that their caller keeps until they have returned, or a local
//! variable.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

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

/// Does a write come with `SIGPIPE` when nobody reads any more? That of a pipe and of a socket does.
pub(crate) fn signals_a_reader_gone(descriptor: BorrowedFd<'_>) -> bool {
    Status::of(descriptor)
        .is_some_and(|status| matches!(status.file_type, libc::S_IFIFO | libc::S_IFSOCK))
}

/// `RWF_NOSIGNAL`, since Linux 6.18.
const NO_SIGNAL: i32 = 0x100;

/// The flag of a write that sends no `SIGPIPE` with its `EPIPE`; 0 where the kernel has none.
pub(crate) fn without_signal() -> i32 {
    static FLAG: OnceLock<i32> = OnceLock::new();
    FLAG.get().copied().unwrap_or_else(|| {
        // Without descriptors it is asked again next time.
        let Ok((_reader, writer)) = io::pipe() else { return 0 };
        let mut byte = 0u8;
        let byte = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: the vector and its byte are local variables, and are read during the call only.
        let written = unsafe { libc::pwritev2(writer.as_raw_fd(), &byte, 1, -1, NO_SIGNAL) };
        *FLAG.get_or_init(|| if written == 1 { NO_SIGNAL } else { 0 })
    })
}
