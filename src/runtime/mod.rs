//! A runtime: one loop made of a driver, an executor and timers, on one thread.
//!
//! Here are the names, and the functions that ask for the runtime of their thread.

mod block_on;
mod builder;
mod core;
mod current;
mod ending;
mod handle;
mod hooks;
#[cfg(test)]
mod older_kernels;
#[cfg(feature = "hyper")]
mod send_timer;
mod spin;
mod tick;
mod timer;
mod timers;

use std::future::{Future, poll_fn};
use std::task::Poll;

pub(crate) use self::core::Core;
pub use crate::counters::Metrics;
pub use block_on::Runtime;
pub use builder::Builder;
pub(crate) use current::{current, forget_descriptor, is_current, registers_files, try_current};
pub use handle::{Handle, RemoteHandle};
#[cfg(feature = "hyper")]
pub(crate) use send_timer::SendTimer;
pub(crate) use timer::{Timer, deadline_after};

use crate::exec::{self, JoinHandle};
use current::{outside, refuse_nesting};

/// Runs a future to its end on a new runtime with default settings, and returns its output.
///
/// What the future spawned and did not wait for is cancelled when it ends.
///
/// ```
/// let three = annulus::block_on(async { 1 + 2 });
/// assert_eq!(three, 3);
/// ```
///
/// # Panics
/// If no ring can be opened, with the cause and the remedy; [`Builder::build`] gives that as an
/// error instead. If called from within a runtime, since it would stop that runtime's loop.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    refuse_nesting();
    match Builder::new().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("annulus::block_on: {error}"),
    }
}

/// Starts a task on the current runtime: the future runs concurrently with its spawner, on the same
/// thread.
///
/// The task starts to run when its spawner next waits. Dropping the handle detaches it. Tasks that
/// still run when their runtime is dropped are cancelled.
///
/// ```
/// annulus::block_on(async {
///     let task = annulus::spawn(async { "done" });
///     assert_eq!(task.await?, "done");
///     Ok::<(), annulus::JoinError>(())
/// }).unwrap();
/// ```
///
/// # Panics
/// Outside a runtime.
#[track_caller]
#[inline]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    match exec::with_local(|executor| executor.spawn(future)) {
        Some(handle) => handle,
        None => outside(),
    }
}

/// Lets the other ready tasks have their turn, then goes on.
///
/// One yield need not submit anything. The ring turns within ten yields of a task: what can be done
/// at once has then been done, and what has completed has woken its task. However many tasks yield
/// all the time, timers have their turn every 128 polls, and the wakes of other threads every 8.
///
/// ```
/// # annulus::block_on(async {
/// for chunk in [[0u8; 4096]; 4].iter() {
///     let _sum: u64 = chunk.iter().map(|byte| u64::from(*byte)).sum();
///     annulus::yield_now().await;
/// }
/// # });
/// ```
#[inline]
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        exec::wake_by_ref(context.waker());
        Poll::Pending
    })
}

/// The counts of the current runtime.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn metrics() -> Metrics {
    current().metrics()
}
