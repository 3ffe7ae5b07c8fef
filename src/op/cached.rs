//! Reads of what the page cache has, made at once and without an entry; preadv2(2) with
//! `RWF_NOWAIT`.
//!
//! # Safety
//! The buffer belongs to the caller of the function until it returns, and the kernel uses its
//! memory during the call only.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use crate::buf::IoBufMut;
use crate::inflight::{Handle, clamp};
use crate::runtime::current;
use crate::sys;

/// May reads of this file be tried by [`read_cached`]? Not on the software ring, where a read is no
/// dearer.
pub(crate) fn has_cached_reads(file: &Handle) -> bool {
    file.has_cache() && current().driver.borrow().may_read_past_the_ring()
}

/// Submits what was begun, though the loop does not turn yet.
pub(crate) fn submit_early() {
    current().driver.borrow_mut().submit_early();
}

/// Fills the buffer from an offset on, up to its capacity or the end of the file, and returns the
/// count. `Err`: some of it would have to be waited for, and the buffer is as it was.
pub(crate) fn read_cached<B: IoBufMut>(
    file: &Handle,
    mut buffer: B,
    offset: u64,
) -> Result<(usize, B), B> {
    let length = clamp(buffer.capacity()) as usize;
    // SAFETY: the buffer belongs to this function, and `length` is not above its capacity.
    let count = unsafe { sys::read_cached(file.as_fd(), buffer.as_mut_ptr(), length, offset) };
    let Some(count) = count else { return Err(buffer) };
    assert!(count <= length, "the kernel reports more bytes than the buffer holds");
    // SAFETY: the call has written that many bytes, and has returned.
    unsafe { buffer.set_init_len(count) };
    current().driver.borrow_mut().went_past_the_ring(true);
    Ok((count, buffer))
}
