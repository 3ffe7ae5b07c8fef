//! Waiting for a number in memory, as locks are made of. futex(2).
//!
//! Whoever wants to wait looks at the number, and waits while it is what was seen. Whoever changes
//! it wakes those who wait. The kernel compares the number and begins to wait in one step, so no
//! wake falls in between. This is for numbers that threads without a runtime, C code or other
//! processes wait for, too. Within a program of futures, a channel or a lock is simpler.
//!
//! ```
//! use annulus::futex;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! # annulus::block_on(async {
//! let word = Arc::new(AtomicU32::new(0));
//! let other = Arc::clone(&word);
//! let thread = std::thread::spawn(move || {
//!     other.store(1, Ordering::Release);
//!     futex::wake(&other, 1)
//! });
//! while word.load(Ordering::Acquire) == 0 {
//!     match futex::wait(Arc::clone(&word), 0).await {
//!         // Before Linux 6.7.
//!         Err(error) if error.kind() == std::io::ErrorKind::Unsupported => break,
//!         waited => waited?,
//!     };
//! }
//! thread.join().unwrap()?;
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

use std::io;
use std::sync::atomic::AtomicU32;

use crate::inflight::Op;
use crate::op::futex::FutexWait;
pub use crate::op::futex::FutexWord;
use crate::sys;

/// Waits for a wake, if the number is `expected`. Waiters and wakers are of this process.
///
/// Yields `io::Result<bool>`: `true` for a wake, and `false` at once if the number was another.
/// Look at the number again after either, since wakes may come for other reasons.
///
/// The ring waits (FUTEX_WAIT). If it is dropped, a wake that had come to it goes on to the next
/// waiter. The owner of the number is kept until the kernel has let go of it.
///
/// # Errors
/// `Unsupported` before Linux 6.7 and on the software ring: no thread is sent to wait, since nobody
/// could end its wait but by a wake that others would see.
pub fn wait<W: FutexWord>(word: W, expected: u32) -> Op<'static, FutexWait<W>> {
    FutexWait::op(word, expected, false)
}

/// As [`wait`], for a number in memory that processes share: wakes come by [`wake_shared`].
///
/// # Errors
/// As [`wait`].
pub fn wait_shared<W: FutexWord>(word: W, expected: u32) -> Op<'static, FutexWait<W>> {
    FutexWait::op(word, expected, true)
}

/// Wakes at most `count` of those who wait for the number in this process, futures and threads, and
/// says how many it were. A system call that does not wait, from any thread: it costs less than an
/// entry of the ring, and takes effect at once.
///
/// # Errors
/// None that the kernel is known to have.
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<usize> {
    sys::wake_waiters(word, count, false)
}

/// As [`wake`], for those who wait by [`wait_shared`], in whatever process.
///
/// # Errors
/// As [`wake`].
pub fn wake_shared(word: &AtomicU32, count: u32) -> io::Result<usize> {
    sys::wake_waiters(word, count, true)
}
