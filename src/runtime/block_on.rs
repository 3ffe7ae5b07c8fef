//! The type `Runtime`: it owns a loop, and its `block_on` goes round it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;

use super::builder::Builder;
use super::core::Core;
use super::current::{self, refuse_nesting};
use super::ending::Ending;
use super::handle::Handle;
use super::hooks::Hooks;
use crate::buf::ChunkPoolConfig;
use crate::counters::Metrics;
use crate::exec::JoinHandle;
use crate::ring::{Config, Ring, RingReport, Wait};
use crate::unwind::FirstPanic;

/// One ring, its tasks and its timers, on one thread.
///
/// It is made, used and dropped on one thread (`!Send`); runtimes on several threads are
/// independent of each other. [`block_on`](crate::block_on) is the short form for a program that
/// needs one.
///
/// Dropping it cancels all tasks and all operations, waits until the kernel has let go of their
/// memory (up to 5 seconds, then that memory is leaked and a line on standard error says so), and
/// closes the ring.
///
/// After fork(2) the child may only exec: the ring's memory is not there, and the ring belongs to
/// the parent's thread.
///
/// ```
/// let runtime = annulus::Builder::new().build()?;
/// let sum = runtime.block_on(async { 1 + 2 });
/// assert_eq!(sum, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    core: Rc<Core>,
}

impl Runtime {
    /// A runtime with default settings.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    pub(super) fn open(
        config: &Config,
        pool_config: ChunkPoolConfig,
        hooks: Hooks,
    ) -> io::Result<Runtime> {
        Runtime::with_hooks(Ring::open(config)?, config, pool_config, hooks)
    }

    /// On a ring that a test has made.
    #[cfg(test)]
    pub(crate) fn on(
        ring: Ring,
        config: &Config,
        pool_config: ChunkPoolConfig,
    ) -> io::Result<Runtime> {
        Runtime::with_hooks(ring, config, pool_config, Hooks::default())
    }

    fn with_hooks(
        ring: Ring,
        config: &Config,
        pool_config: ChunkPoolConfig,
        hooks: Hooks,
    ) -> io::Result<Runtime> {
        Ok(Runtime { core: current::begin(Core::new(ring, config, pool_config, hooks)?) })
    }

    /// Runs a future to its end and returns its output. Tasks run meanwhile.
    ///
    /// Tasks that have not ended by then stay, and go on at the next call. Between calls nothing
    /// moves: an operation that is dropped then is cancelled when the runtime runs again, or ends.
    ///
    /// # Panics
    /// If called from within a runtime. If the future panics, with its panic. If the kernel refuses
    /// further use of the ring.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        refuse_nesting();
        let _entered = self.core.enter();
        // Behind the future: what that owned is dropped first, also by a panic.
        let _settling = Settling(&self.core);
        let mut future = pin!(future);
        let executor = &self.core.executor;
        let waker = executor.root_waker();
        let mut context = Context::from_waker(&waker);
        executor.start_root();
        let mut output = None;
        loop {
            self.core.tick(Wait::Forever, || {
                future.as_mut().poll(&mut context).map(|value| output = Some(value))
            });
            if let Some(output) = output {
                return output;
            }
        }
    }

    /// Starts a task from outside; it runs during [`block_on`](Runtime::block_on). See
    /// [`spawn`](crate::spawn).
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.core.executor.spawn(future)
    }

    /// A handle by which other threads start tasks here and read the counters.
    pub fn handle(&self) -> Handle {
        Handle::of(&self.core)
    }

    /// What ring this is, and what the machine refused on the way to it. What it said to the
    /// buffers for chunks is there when the first have been asked for: a report from before is out
    /// of date then.
    pub fn ring(&self) -> &RingReport {
        self.core.report()
    }

    /// Counts of what the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        Ending::begin(Rc::clone(&self.core)).run();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("ring", self.ring()).finish_non_exhaustive()
    }
}

/// The end of `block_on`: what the last polls and the drop of the future left takes effect.
struct Settling<'a>(&'a Core);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let mut panic = FirstPanic::default();
        panic.run(|| self.0.settle());
        panic.resume();
    }
}
