//! A set of tasks of which the next to end is waited for: their handles, and a queue of those that
//! have ended.
//!
//! It knows a task only by its `JoinHandle`. Each handle is polled twice: once with a waker of its
//! own that puts the member's key into the queue, and once when the key is there. A task first
//! records its end and then wakes whoever joins it, also after a panic, an abort, or the end of the
//! runtime. So a key in the queue means that the result can be taken.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use slab::Slab;

use crate::blocking::spawn_blocking;
use crate::exec::{AbortHandle, Budget, JoinError, JoinHandle};
use crate::runtime::spawn;
use crate::unwind::FirstPanic;

/// Tasks with results of one type, which are waited for in the order in which they end, and which
/// are aborted when the set is dropped.
///
/// ```
/// use std::time::Duration;
/// use annulus::{JoinSet, time};
///
/// # annulus::block_on(async {
/// let mut set = JoinSet::new();
/// for number in [3, 1, 2] {
///     set.spawn(async move {
///         time::sleep(Duration::from_millis(20 * number)).await;
///         number
///     });
/// }
/// let mut seen = Vec::new();
/// while let Some(result) = set.join_next().await {
///     seen.push(result?);
/// }
/// assert_eq!(seen, [1, 2, 3]);
/// # Ok::<(), annulus::JoinError>(()) }).unwrap();
/// ```
///
/// # Drop
/// Dropping the set aborts all its tasks, wherever the drop comes from: the end of a scope, `?`, a
/// [`timeout`](crate::time::timeout), a panic. It does not wait. Each task's future is dropped when
/// the executor reaches it, which is before the runtime next goes to sleep, and no later than the
/// end of the runtime; the code after the drop may run first, and with many tasks a few ticks of
/// the loop. None of them is polled again, except that a member that drops its own set goes on to
/// where it next waits. Where it matters that the futures have gone, call
/// [`shutdown`](JoinSet::shutdown) and await it.
///
/// A future that is dropped may leave an operation in the kernel, which the runtime then cancels by
/// itself. A function of [`spawn_blocking`](JoinSet::spawn_blocking) that has begun runs to its end
/// on its thread, and nothing here waits for that.
///
/// # Panics
/// A panic in a task ends that task alone, and comes out of [`join_next`](JoinSet::join_next) as a
/// [`JoinError`].
///
/// # Runtimes
/// Tasks are spawned on the runtime that is entered. A set may be made outside a runtime and may
/// outlive it; what the runtime's end interrupted counts as cancelled.
pub struct JoinSet<T> {
    /// The tasks whose results were not taken, ended or not.
    members: Slab<JoinHandle<T>>,
    /// The keys of those that have ended.
    ended: Arc<Ended>,
    /// How many results it may still hand over in one go.
    budget: Budget,
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> JoinSet<T> {
        JoinSet { members: Slab::new(), ended: Arc::default(), budget: Budget::default() }
    }

    /// The number of tasks in the set: those that run, and those that have ended and whose results
    /// were not taken.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Is there no task in the set?
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<T: 'static> JoinSet<T> {
    /// Starts a task on the current runtime and puts it into the set. It runs whether or not
    /// somebody waits for the set.
    ///
    /// A task that is aborted through the handle stays in the set until
    /// [`join_next`](JoinSet::join_next) reports it.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn spawn<F: Future<Output = T> + 'static>(&mut self, future: F) -> AbortHandle {
        self.insert(spawn(future))
    }

    /// Runs a blocking function on a thread of the pool, as
    /// [`spawn_blocking`](crate::spawn_blocking) does, and puts the task that waits for it into the
    /// set. Aborting keeps a function that has not begun from running; one that has begun runs to
    /// its end, and its result is lost.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn spawn_blocking<F>(&mut self, function: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.insert(spawn_blocking(function))
    }

    fn insert(&mut self, mut handle: JoinHandle<T>) -> AbortHandle {
        let abort = handle.abort_handle();
        let place = self.members.vacant_entry();
        let key = place.key();
        // A runtime that is ending cancels what is spawned before it gives the handle out.
        if handle.is_finished() {
            self.ended.push(key);
        } else {
            let waker = Waker::from(Arc::new(Member { key, ended: Arc::clone(&self.ended) }));
            let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
            debug_assert!(polled.is_pending(), "the task has not finished");
        }
        place.insert(handle);
        abort
    }

    /// Waits until a task of the set ends, takes it out and returns its result; results come in the
    /// order in which the tasks end. `None`: the set is empty.
    ///
    /// Cancel safe: dropping this future loses no result, the next call finds it.
    ///
    /// # Errors
    /// [`JoinError`] if the task panicked, or was aborted, or its runtime has ended.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|context| self.poll_join_next(context)).await
    }

    /// The result of a task that has ended, as [`join_next`](JoinSet::join_next) gives it, without
    /// waiting. `None`: the set is empty, or no task in it has ended.
    ///
    /// # Errors
    /// As [`join_next`](JoinSet::join_next).
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let key = self.ended.pop()?;
        Some(self.take(key))
    }

    /// [`join_next`](JoinSet::join_next) for futures that are written by hand. `Ready(None)`: the
    /// set is empty.
    ///
    /// Of several tasks that poll one set in turn, the one that polled last is woken, once; it need
    /// not be the same each time.
    ///
    /// # Errors
    /// As [`join_next`](JoinSet::join_next).
    pub fn poll_join_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, JoinError>>> {
        if self.members.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.budget.spend(context));
        let Poll::Ready(key) = self.ended.poll_pop(context) else {
            self.budget.refill();
            return Poll::Pending;
        };
        Poll::Ready(Some(self.take(key)))
    }

    /// Takes out a member whose key was in the queue.
    fn take(&mut self, key: usize) -> Result<T, JoinError> {
        let mut handle = self.members.remove(key);
        match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("a task was reported as ended, and has not"),
        }
    }

    /// Waits for all tasks and returns their results in the order in which the tasks ended.
    ///
    /// Dropping this future drops the set and the results that have come, and so aborts the tasks
    /// that are left.
    ///
    /// # Panics
    /// If a task panicked, with its panic, and if a task was cancelled. The tasks that are left are
    /// aborted. To look at each result use [`join_next`](JoinSet::join_next).
    pub async fn join_all(mut self) -> Vec<T> {
        let mut results = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            match result {
                Ok(value) => results.push(value),
                Err(error) => match error.try_into_panic() {
                    Ok(payload) => resume_unwind(payload),
                    Err(cancelled) => panic!("{cancelled}"),
                },
            }
        }
        results
    }

    /// Aborts all tasks and waits until they have ended: the futures have been dropped, and the set
    /// is empty. Results, and the panics of tasks that had panicked, are dropped.
    ///
    /// Dropping this future leaves the tasks aborted and those in the set that were not seen to
    /// end; call it again to wait for them.
    ///
    /// ```
    /// # use std::rc::Rc;
    /// # annulus::block_on(async {
    /// let shared = Rc::new("used by a task");
    /// let mut set = annulus::JoinSet::new();
    /// let of_the_task = Rc::clone(&shared);
    /// set.spawn(async move {
    ///     std::future::pending::<()>().await;
    ///     drop(of_the_task);
    /// });
    /// set.shutdown().await;
    /// assert_eq!(Rc::strong_count(&shared), 1);
    /// # });
    /// ```
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }
}

impl<T> JoinSet<T> {
    /// Aborts all tasks. They stay in the set: [`join_next`](JoinSet::join_next) reports each as
    /// cancelled, except those that had ended before or that end by themselves in the poll that
    /// aborts them, which keep their results.
    pub fn abort_all(&mut self) {
        for (_, handle) in &self.members {
            handle.abort();
        }
    }

    /// Takes all tasks out of the set without aborting them: they go on by themselves, as after
    /// dropping a [`JoinHandle`]. Results that were not taken are dropped.
    pub fn detach_all(&mut self) {
        let members = mem::take(&mut self.members);
        // A new queue, so that no key of the old members can be taken for one of a new member.
        let ended = mem::take(&mut self.ended);
        let waiter = ended.lock().waiter.take();
        // Whoever polled the set would wait for ever otherwise: it is empty now.
        let mut first = FirstPanic::default();
        first.run(|| {
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        });
        first.run(|| drop_all(members));
        first.resume();
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.abort_all();
        drop_all(mem::take(&mut self.members));
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

/// Spawns each future of an iterator.
///
/// ```
/// # annulus::block_on(async {
/// let set: annulus::JoinSet<u32> = (1..=4).map(|number| async move { number * number }).collect();
/// assert_eq!(set.join_all().await.iter().sum::<u32>(), 30);
/// # });
/// ```
///
/// # Panics
/// Outside a runtime, unless the iterator is empty.
impl<T: 'static, F: Future<Output = T> + 'static> FromIterator<F> for JoinSet<T> {
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        set.extend(futures);
        set
    }
}

/// Spawns each future of an iterator, as [`spawn`](JoinSet::spawn) does.
///
/// # Panics
/// Outside a runtime, unless the iterator is empty.
impl<T: 'static, F: Future<Output = T> + 'static> Extend<F> for JoinSet<T> {
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
    }
}

/// Drops handles, and with them the results that nobody has taken. If the destructors of several
/// panic, the first panic goes on when all are dropped: two at a time would end the process.
fn drop_all<T>(members: Slab<JoinHandle<T>>) {
    let mut panic = FirstPanic::default();
    members.into_iter().for_each(|(_, member)| panic.run(|| drop(member)));
    panic.resume();
}

/// The members that have ended, and who waits for the next. In a mutex because wakers are `Sync`;
/// all of it happens on one thread, so nobody ever waits for the lock. Only pushes, pops and moves
/// take place under it: wakers are cloned, woken and dropped outside.
#[derive(Default)]
struct Ended {
    queue: Mutex<EndedQueue>,
}

#[derive(Default)]
struct EndedQueue {
    /// Each key once; never more than there are members, so it needs no bound of its own.
    keys: VecDeque<usize>,
    waiter: Option<Waker>,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, EndedQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: usize) {
        let mut queue = self.lock();
        queue.keys.push_back(key);
        let waiter = queue.waiter.take();
        drop(queue);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn pop(&self) -> Option<usize> {
        self.lock().keys.pop_front()
    }

    /// Pops a key, or keeps the waker for the next one.
    fn poll_pop(&self, context: &mut Context<'_>) -> Poll<usize> {
        if let Some(key) = self.pop() {
            return Poll::Ready(key);
        }
        let waiter = context.waker().clone();
        let before = self.lock().waiter.replace(waiter);
        drop(before);
        // Cloning and dropping a waker is foreign code, which may have ended a member, so look
        // again.
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The waker in a member's handle. The task drops it with its end, the handle when it is dropped,
/// so it wakes at most once.
struct Member {
    key: usize,
    ended: Arc<Ended>,
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.ended.push(self.key);
    }
}
