//! The clocks of the machine.
//!
//! # Safety
//! The kernel fills in a local variable, and is done with it when the call returns.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// The time, for deadlines and for what was waited. Everything above the rings asks here.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock that [`now`] reads, in nanoseconds.
#[inline]
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local variable, which the kernel fills in before the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// clock_gettime(2): the time since the clock's zero.
pub(crate) fn clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local variable.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    debug_assert_eq!(result, 0, "every Linux has the clocks that are asked for");
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), time.tv_nsec as u32)
}
