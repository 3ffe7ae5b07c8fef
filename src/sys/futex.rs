//! Waking those who wait for a number in memory. futex(2).
//!
//! # Safety
//! The one block is a system call with the address of a number that is borrowed during the call.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicU32;

/// Wakes so many that wait for this number, and says how many did. It does not wait.
pub(crate) fn wake_waiters(word: &AtomicU32, count: u32, is_shared: bool) -> io::Result<usize> {
    let private = if is_shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: the number is borrowed, and the kernel neither reads nor writes it.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | private, count) };
    if woken < 0 { Err(io::Error::last_os_error()) } else { Ok(woken as usize) }
}
