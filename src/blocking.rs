//! Calls that block: they go to a pool of threads, and their results come back to the loop.

use crate::exec::JoinHandle;
use crate::runtime::spawn;
use crate::sys;

/// Runs a blocking function on a thread of a pool that all runtimes of the process share (the
/// `blocking` crate's, up to 500 threads that end after half a second without work), and returns a
/// handle for its result.
///
/// A panic in the function comes out of the handle as a [`JoinError`](crate::JoinError). Dropping
/// the handle detaches the function. After [`abort`](JoinHandle::abort), or when the runtime ends,
/// a function that has not begun never runs, and one that has runs to its end with nobody to take
/// its result. The end does not wait for it.
///
/// Where the system grants the process no thread at all, the function runs on the loop's own
/// thread, which does nothing else meanwhile.
///
/// ```
/// # annulus::block_on(async {
/// let sum = annulus::spawn_blocking(|| (1..=1000u64).sum::<u64>()).await?;
/// assert_eq!(sum, 500_500);
/// # Ok::<(), annulus::JoinError>(()) }).unwrap();
/// ```
///
/// # Panics
/// Outside a runtime, and so within another blocking function: that may call the function by
/// itself.
#[track_caller]
pub fn spawn_blocking<F, T>(function: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // The pool hands a panic to whoever awaits, and the task that awaits here catches it.
    match sys::run_blocking(function) {
        Ok(outcome) => spawn(outcome),
        Err(function) => spawn(async { function() }),
    }
}
