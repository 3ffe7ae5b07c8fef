//! What the machine does with files at once, without a ring.
//!
//! # Safety
//! Every block is a system call on descriptors that the caller holds open, and on memory that
//! outlives the call.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

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

/// What is done to the lock of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Exclusive,
    Shared,
    None,
}

/// Takes a lock if it is free, else says `EWOULDBLOCK`, or gives it back; flock(2). A file system
/// that is elsewhere may have to be asked, which waits.
pub(crate) fn lock(file: BorrowedFd<'_>, lock: Lock) -> io::Result<()> {
    let operation = match lock {
        Lock::Exclusive => libc::LOCK_EX | libc::LOCK_NB,
        Lock::Shared => libc::LOCK_SH | libc::LOCK_NB,
        Lock::None => libc::LOCK_UN,
    };
    // SAFETY: the call takes no memory.
    again(|| unsafe { libc::flock(file.as_raw_fd(), operation) }.into()).map(drop)
}

/// Makes a call again that a signal has interrupted.
fn again(mut call: impl FnMut() -> i64) -> io::Result<u64> {
    loop {
        match u64::try_from(call()) {
            Ok(result) => return Ok(result),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// A file, open or by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    Open(BorrowedFd<'a>),
    Named(&'a CStr),
}

/// The size of a file system, and what is free of it.
pub(crate) type FileSystemStatus = libc::statfs64;

/// Asks the file system of a file; statfs(2). Waits for one that is elsewhere.
pub(crate) fn file_system_status(of: Which<'_>) -> io::Result<FileSystemStatus> {
    let mut status = MaybeUninit::<libc::statfs64>::uninit();
    // SAFETY: the path ends with a NUL byte, and the structure is a local variable.
    again(|| unsafe {
        match of {
            Which::Open(file) => libc::fstatfs64(file.as_raw_fd(), status.as_mut_ptr()),
            Which::Named(path) => libc::statfs64(path.as_ptr(), status.as_mut_ptr()),
        }
        .into()
    })?;
    // SAFETY: the call has filled it in.
    Ok(unsafe { status.assume_init() })
}

/// What an open file is, how large, and when it changed; statx(2). Waits for a file system that is
/// elsewhere.
pub(crate) fn status(file: BorrowedFd<'_>) -> io::Result<libc::statx> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    let mut status = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is static, and the structure is a local variable.
    again(|| unsafe {
        let (number, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
        libc::statx(number, c"".as_ptr(), flags, mask, status.as_mut_ptr()).into()
    })?;
    // SAFETY: the call has filled it in.
    Ok(unsafe { status.assume_init() })
}

/// The longest list of names that the kernel gives (`XATTR_LIST_MAX`).
const LONGEST_LIST: usize = 64 * 1024;

/// The names of a file's extended attributes, each with a NUL byte behind it; listxattr(2). Waits
/// for the disk.
pub(crate) fn list_attributes(of: Which<'_>) -> io::Result<Vec<u8>> {
    let mut names = Vec::with_capacity(LONGEST_LIST);
    let room = names.spare_capacity_mut();
    let (address, length) = (room.as_mut_ptr().cast(), room.len());
    // SAFETY: the path ends with a NUL byte, and so many bytes may be written at the address.
    let count = again(|| unsafe {
        let result = match of {
            Which::Open(file) => libc::flistxattr(file.as_raw_fd(), address, length),
            Which::Named(path) => libc::listxattr(path.as_ptr(), address, length),
        };
        result as i64
    })?;
    // SAFETY: the call has filled in so many bytes, which is no more than there was room for.
    unsafe { names.set_len(count as usize) };
    Ok(names)
}

/// Removes an extended attribute; removexattr(2). Waits for the disk.
pub(crate) fn remove_attribute(of: Which<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: path and name end with a NUL byte.
    again(|| unsafe {
        match of {
            Which::Open(file) => libc::fremovexattr(file.as_raw_fd(), name.as_ptr()),
            Which::Named(path) => libc::removexattr(path.as_ptr(), name.as_ptr()),
        }
        .into()
    })
    .map(drop)
}

/// The most that the kernel is asked to copy in one call.
const COPIED_AT_A_TIME: u64 = 1 << 30;

/// Copies a part of a file to another, as far as it goes, and says how much that was;
/// copy_file_range(2). Waits for the disk.
pub(crate) fn copy_range(
    from: (BorrowedFd<'_>, u64),
    to: (BorrowedFd<'_>, u64),
    length: u64,
) -> io::Result<u64> {
    let _off = super::NoSignalOfLargeFiles::here();
    let out_of_range = || io::Error::from_raw_os_error(libc::EINVAL);
    let mut from_offset = i64::try_from(from.1).map_err(|_| out_of_range())?;
    let mut to_offset = i64::try_from(to.1).map_err(|_| out_of_range())?;
    let mut done = 0;
    while done < length {
        let part = (length - done).min(COPIED_AT_A_TIME) as usize;
        // SAFETY: both offsets are local variables, which the call moves on.
        let copied = again(|| unsafe {
            libc::copy_file_range(
                from.0.as_raw_fd(),
                &mut from_offset,
                to.0.as_raw_fd(),
                &mut to_offset,
                part,
                0,
            ) as i64
        });
        match copied {
            Ok(0) => break,
            Ok(count) => done += count,
            // What came through is told, and the next call tells the error.
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// `FICLONE`.
const CLONE: libc::Ioctl = 0x4004_9409;

/// Makes a file share the blocks of another, which become its content; ioctl_ficlone(2). Waits for
/// the disk.
pub(crate) fn share_blocks(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this call takes a number, and no memory.
    again(|| unsafe { libc::ioctl(to.as_raw_fd(), CLONE, from.as_raw_fd()) }.into()).map(drop)
}

/// Gives a file other permissions; fchmod(2). Waits for the disk.
pub(crate) fn set_permissions(file: OwnedFd, permissions: fs::Permissions) -> io::Result<()> {
    fs::File::from(file).set_permissions(permissions)
}

/// Sets the times of a file; futimens(2). Waits for the disk.
pub(crate) fn set_times(file: OwnedFd, times: fs::FileTimes) -> io::Result<()> {
    fs::File::from(file).set_times(times)
}

/// What buffers' addresses, and offsets and lengths, of transfers around the page cache must be
/// multiples of; statx(2). `None`: the kernel does not say (before Linux 6.1, or this file system).
pub(crate) fn alignment_of_direct_transfers(file: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut status = MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let (file, mask) = (file.as_raw_fd(), libc::STATX_DIOALIGN);
    // SAFETY: the path is static, and the structure a local variable, which is read only if the
    // call has filled it in.
    let status = unsafe {
        if libc::statx(file, c"".as_ptr(), flags, mask, status.as_mut_ptr()) < 0 {
            return None;
        }
        status.assume_init()
    };
    let known = status.stx_mask & libc::STATX_DIOALIGN != 0;
    let alignment = (status.stx_dio_mem_align, status.stx_dio_offset_align);
    (known && alignment.0 > 0 && alignment.1 > 0).then_some(alignment)
}
