//! The threads that the system grants this process, or does not.
//!
//! A filter may refuse clone3(2), and a limit of processes may be reached. The pool for calls that
//! block does not say so: it waits for a thread as long as that takes. So whoever has such a call
//! asks here first, and makes it itself where there is no thread: late is better than never.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// There has been one, and there will be others: a limit that is reached later finds threads in the pool.
static GRANTED: AtomicBool = AtomicBool::new(false);

/// Is a thread to be had? Tried with one that does nothing, until it is.
pub(crate) fn are_granted() -> bool {
    if !GRANTED.load(Ordering::Relaxed)
        && let Ok(probe) = thread::Builder::new().spawn(|| ())
    {
        GRANTED.store(probe.join().is_ok(), Ordering::Relaxed);
    }
    GRANTED.load(Ordering::Relaxed)
}
