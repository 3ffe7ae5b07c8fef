//! Descriptors of events: the counter of eventfd(2), and the watches of inotify(7).
//!
//! # Safety
//! Every block is a system call on descriptors that the caller holds open and on memory that
//! outlives the call, or takes over a descriptor that the kernel has just made.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::calls::Status;
use super::descriptor::Descriptor;

/// eventfd(2), close-on-exec; its reads and writes wait. `is_semaphore`: a read takes one, and not
/// all.
pub(crate) fn event_counter(initial: u32, is_semaphore: bool) -> io::Result<Descriptor> {
    let semaphore = if is_semaphore { libc::EFD_SEMAPHORE } else { 0 };
    // SAFETY: the call takes no pointer.
    new_descriptor(unsafe { libc::eventfd(initial, libc::EFD_CLOEXEC | semaphore) })
}

/// inotify_init1(2), close-on-exec; its reads do not wait.
pub(crate) fn inotify() -> io::Result<Descriptor> {
    // SAFETY: the call takes no pointer.
    new_descriptor(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })
}

/// inotify_add_watch(2). The path is looked up in the call.
pub(crate) fn add_watch(inotify: BorrowedFd<'_>, path: &CStr, mask: u32) -> io::Result<i32> {
    // SAFETY: the path is a string that ends with a zero, and is read during the call.
    match unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) } {
        watch @ 0.. => Ok(watch),
        _ => Err(io::Error::last_os_error()),
    }
}

/// read(2) from what [`inotify`] has made: whole events, or `EAGAIN`.
pub(crate) fn read_events(inotify: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the memory is exclusively borrowed for the call, and as long as it is told.
    match unsafe { libc::read(inotify.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) } {
        count @ 0.. => Ok(count as usize),
        _ => Err(io::Error::last_os_error()),
    }
}

/// inotify_rm_watch(2).
pub(crate) fn remove_watch(inotify: BorrowedFd<'_>, watch: i32) -> io::Result<()> {
    // SAFETY: the call takes no pointer.
    match unsafe { libc::inotify_rm_watch(inotify.as_raw_fd(), watch) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Is it, of what has no positions, an eventfd, an inotify or the like, which have no type, and no
/// pipe, terminal or socket?
pub(crate) fn is_of_events(descriptor: BorrowedFd<'_>) -> bool {
    let known = [libc::S_IFIFO, libc::S_IFCHR, libc::S_IFSOCK];
    Status::of(descriptor).is_some_and(|status| !known.contains(&status.file_type))
}

fn new_descriptor(number: RawFd) -> io::Result<Descriptor> {
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows its number.
    Ok(unsafe { Descriptor::of_number(number) })
}
