//! The handle of a runtime: what other threads may do with it.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::core::Core;
use super::current::current;
use crate::counters::{Counters, Metrics};
use crate::exec::{JoinError, Mailbox, share};

/// A runtime, as other threads know it: they start tasks there and read its counters.
///
/// A handle keeps nothing alive, and may outlive its runtime.
///
/// ```
/// use annulus::{Handle, block_on};
///
/// let (send, receive) = std::sync::mpsc::channel();
/// let server = std::thread::spawn(move || {
///     block_on(async {
///         let (stop, stopped) = futures_channel::oneshot::channel::<()>();
///         send.send((Handle::current(), stop)).unwrap();
///         let _ = stopped.await;
///     });
/// });
/// let (handle, stop) = receive.recv().unwrap();
/// // The closure goes to the other thread, and what it makes stays there.
/// let sum = block_on(handle.spawn(|| async {
///     let one = std::rc::Rc::new(1);
///     annulus::yield_now().await;
///     *one + 1
/// }))?;
/// assert_eq!(sum, 2);
/// drop(stop);
/// server.join().unwrap();
/// assert!(block_on(handle.spawn(|| async {})).unwrap_err().is_cancelled());
/// # Ok::<(), annulus::JoinError>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    mailbox: Mailbox,
    counters: Arc<Counters>,
}

impl Handle {
    pub(super) fn of(core: &Core) -> Handle {
        Handle { mailbox: core.executor.mailbox(), counters: Arc::clone(&core.counters) }
    }

    /// The handle of the runtime that runs this task.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn current() -> Handle {
        Handle::of(&current())
    }

    /// Starts a task there, from any thread, and returns a handle for its result.
    ///
    /// The closure runs on the thread of the runtime, in a turn of its loop, and makes the future
    /// there. So the closure must be `Send`, and the future need not be. The loop's wait ends for
    /// it. Tasks start in the order in which one thread asked for them. Between two calls of
    /// [`block_on`](crate::Runtime::block_on) none starts.
    ///
    /// If the runtime has ended, the closure is dropped at once, here. If it ends before the task
    /// does, the closure or the future is dropped there. Either way the handle yields a
    /// [`JoinError`] for which [`is_cancelled`](JoinError::is_cancelled) holds.
    ///
    /// There is no bound on how many closures wait. A runtime that gets more than it can run takes
    /// more and more memory, so wait for the results of some before you start others.
    pub fn spawn<C, F>(&self, make: C) -> RemoteHandle<F::Output>
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let outcome = Arc::new(Outcome(Mutex::new(State::Waiting(None))));
        let report = Report(Arc::clone(&outcome));
        let job = move || {
            // The inner task's own handle knows how it ended, by a panic too. The outer one, which
            // only waits, reports that.
            let core = current();
            let reported =
                async move { report.end(current().executor.spawn(async { make().await }).await) };
            drop(core.executor.spawn(reported));
        };
        drop(self.mailbox.post(Box::new(job)));
        RemoteHandle(outcome)
    }

    /// The counts of that runtime, from any thread. What says how many there are *now* was written
    /// down in the loop's last turn.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}

/// Waits for a task of another runtime and yields its result; from [`Handle::spawn`].
///
/// It may be awaited on any thread, by any executor. Dropping it *detaches*: the task goes on, and
/// its result is dropped. A panic in the closure or in the task comes out as a [`JoinError`].
///
/// # Panics
/// When polled again after it has yielded the result.
pub struct RemoteHandle<T>(Arc<Outcome<T>>);

impl<T> RemoteHandle<T> {
    /// Has the task ended, by returning, by a panic, or with its runtime?
    pub fn is_finished(&self) -> bool {
        !matches!(*self.0.lock(), State::Waiting(_))
    }
}

impl<T> Future for RemoteHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Foreign code, as is dropping a waker, so the lock is not held meanwhile.
        let waker = share(context.waker());
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Taken) {
            State::Waiting(before) => {
                *state = State::Waiting(Some(waker));
                drop(state);
                drop(before);
                Poll::Pending
            }
            State::Ended(result) => Poll::Ready(result),
            State::Taken => panic!("RemoteHandle polled after it returned the result"),
        }
    }
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").field("finished", &self.is_finished()).finish()
    }
}

/// What both sides of a remote task share.
struct Outcome<T>(Mutex<State<T>>);

enum State<T> {
    /// It has not ended. The waker of who waits for it.
    Waiting(Option<Waker>),
    Ended(Result<T, JoinError>),
    /// The result has been handed over.
    Taken,
}

impl<T> Outcome<T> {
    /// Nothing that can panic runs under the lock, but for the panic of a handle that is polled
    /// once too often, which leaves the state as it was.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the result, unless there is one, and wakes who waits for it.
    fn end(&self, result: Result<T, JoinError>) {
        let mut state = self.lock();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Ended(result);
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// The side of the task. Dropped without a result, it reports that the task was cancelled.
struct Report<T>(Arc<Outcome<T>>);

impl<T> Report<T> {
    fn end(self, result: Result<T, JoinError>) {
        self.0.end(result);
    }
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        self.0.end(Err(JoinError::cancelled()));
    }
}
