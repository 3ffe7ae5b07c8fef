//! What is a task? A future, its result, and who waits for it, in one allocation that the executor and the `JoinHandle` share.
//!
//! # Safety
//! One unsafe block: the pin on the future inside the task's cell. The cell belongs to the `Rc` allocation, which never moves, and the
//! future is only ever dropped in place.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::waker::TaskId;

/// A task as the executor sees it, whatever its future.
pub(super) trait Runnable {
    /// Polls once, or ends the task if it was aborted. `Ready`: it has ended and need not be kept.
    fn run(&self, id: TaskId) -> Poll<()>;
    /// Ends the task now, dropping its future. Must not be called from within the task's own poll.
    fn cancel(&self);
}

/// A task as an `AbortHandle` sees it, whatever its future and its result.
trait Abortable {
    fn is_finished(&self) -> bool;
    fn abort(&self);
}

/// A task as its handle sees it, whatever its future.
trait Joinable<T>: Abortable {
    fn poll_join(&self, context: &mut Context<'_>) -> Poll<Result<T, JoinError>>;
    fn forget_joiner(&self);
}

struct Task<F: Future> {
    finished: Cell<bool>,
    aborted: Cell<bool>,
    joiner: Cell<Option<Waker>>,
    /// Borrowed only while the future is polled or dropped, and once `finished` to take the result.
    stage: RefCell<Stage<F>>,
}

enum Stage<F: Future> {
    Running(F),
    Finished(Result<F::Output, JoinError>),
    Joined,
}

/// Makes a task and its handle; the id is how the handle asks the executor to run it.
pub(super) fn new<F: Future + 'static>(future: F) -> (Rc<dyn Runnable>, Unscheduled<F::Output>) {
    let task = Rc::new(Task {
        finished: Cell::new(false),
        aborted: Cell::new(false),
        joiner: Cell::new(None),
        stage: RefCell::new(Stage::Running(future)),
    });
    (Rc::clone(&task) as _, Unscheduled(task))
}

/// A handle whose task has no id yet.
pub(super) struct Unscheduled<T>(Rc<dyn Joinable<T>>);

impl<T> Unscheduled<T> {
    pub(super) fn handle(self, id: TaskId) -> JoinHandle<T> {
        JoinHandle { task: self.0, id }
    }
}

impl<F: Future> Task<F> {
    fn finish(&self, result: Result<F::Output, JoinError>) {
        let mut stage = self.stage.borrow_mut();
        // The assignment drops the future in place. A panic in that drop ends the task as a panic in its body would, and drops the result,
        // which may panic in turn. Each assignment takes place all the same.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| *stage = Stage::Finished(result))) {
            let panicked = Stage::Finished(Err(JoinError::panic(payload)));
            let _ = catch_unwind(AssertUnwindSafe(|| *stage = panicked));
        }
        drop(stage);
        self.finished.set(true);
        if let Some(joiner) = self.joiner.take() {
            // A waker that panics must not keep the executor from taking the task out.
            let _ = catch_unwind(AssertUnwindSafe(|| joiner.wake()));
        }
    }
}

impl<F: Future> Runnable for Task<F> {
    fn run(&self, id: TaskId) -> Poll<()> {
        if self.finished.get() {
            return Poll::Ready(());
        }
        if self.aborted.get() {
            self.cancel();
            return Poll::Ready(());
        }
        let mut stage = self.stage.borrow_mut();
        let Stage::Running(future) = &mut *stage else { return Poll::Ready(()) };
        // SAFETY: the future belongs to this task's `Rc` allocation and never leaves it: `finish` drops it in place, and a leaked `Rc`
        // leaks it in place.
        let future = unsafe { Pin::new_unchecked(future) };
        let waker = id.waker();
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(&waker))));
        drop(stage);
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => self.finish(Ok(output)),
            Err(payload) => self.finish(Err(JoinError::panic(payload))),
        }
        Poll::Ready(())
    }

    fn cancel(&self) {
        if !self.finished.get() {
            self.finish(Err(JoinError::cancelled()));
        }
    }
}

impl<F: Future> Abortable for Task<F> {
    fn is_finished(&self) -> bool {
        self.finished.get()
    }

    fn abort(&self) {
        self.aborted.set(true);
    }
}

impl<F: Future> Joinable<F::Output> for Task<F> {
    fn poll_join(&self, context: &mut Context<'_>) -> Poll<Result<F::Output, JoinError>> {
        if !self.finished.get() {
            self.joiner.set(Some(context.waker().clone()));
            return Poll::Pending;
        }
        let stage = std::mem::replace(&mut *self.stage.borrow_mut(), Stage::Joined);
        match stage {
            Stage::Finished(result) => Poll::Ready(result),
            Stage::Running(_) | Stage::Joined => panic!("JoinHandle polled after it returned the result"),
        }
    }

    fn forget_joiner(&self) {
        self.joiner.take();
    }
}

/// Waits for a spawned task and returns its result.
///
/// Await it, or drop it: dropping *detaches*, the task goes on by itself. A panic in the task is caught and comes out here as a
/// [`JoinError`]. A handle outlives its runtime; what the runtime's end interrupted counts as cancelled.
///
/// ```
/// # annulus::block_on(async {
/// let two = annulus::spawn(async { 1 + 1 });
/// assert_eq!(two.await?, 2);
/// # Ok::<(), annulus::JoinError>(()) }).unwrap();
/// ```
///
/// # Panics
/// When polled again after it has yielded the result.
pub struct JoinHandle<T> {
    task: Rc<dyn Joinable<T>>,
    id: TaskId,
}

impl<T> JoinHandle<T> {
    /// Cancels the task: its future is dropped when the executor reaches it, and the handle yields a [`JoinError`] for which
    /// [`is_cancelled`](JoinError::is_cancelled) holds. A task that has finished keeps its result.
    pub fn abort(&self) {
        abort(&*self.task, self.id);
    }

    /// Something that can abort the task and neither waits for it nor keeps its result.
    pub fn abort_handle(&self) -> AbortHandle {
        let task: Rc<dyn Abortable> = Rc::clone(&self.task) as _;
        AbortHandle { task: Rc::downgrade(&task), id: self.id }
    }

    /// Has the task ended, by returning, by a panic, or by being cancelled?
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

/// Has the executor end a task, unless it has ended. The future is not dropped here: this may be called from within it.
fn abort(task: &dyn Abortable, id: TaskId) {
    if !task.is_finished() {
        task.abort();
        super::wake(id);
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.task.poll_join(context)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.task.forget_joiner();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).field("finished", &self.is_finished()).finish()
    }
}

/// Aborts a spawned task; from [`JoinHandle::abort_handle`] or [`JoinSet::spawn`](crate::JoinSet::spawn).
///
/// Dropping it does nothing to the task. While one exists, a task that has ended keeps its memory, but neither its future nor, once nobody can
/// ask for it, its result.
///
/// ```
/// # annulus::block_on(async {
/// let task = annulus::spawn(std::future::pending::<()>());
/// let abort = task.abort_handle();
/// annulus::spawn(async move { abort.abort() });
/// assert!(task.await.unwrap_err().is_cancelled());
/// # });
/// ```
#[derive(Clone)]
pub struct AbortHandle {
    /// Weak, so that the result goes when the executor and the `JoinHandle` have let go of it.
    task: Weak<dyn Abortable>,
    id: TaskId,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        if let Some(task) = self.task.upgrade() {
            abort(&*task, self.id);
        }
    }

    /// Has the task ended, by returning, by a panic, or by being cancelled?
    pub fn is_finished(&self) -> bool {
        self.task.upgrade().is_none_or(|task| task.is_finished())
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("id", &self.id).field("finished", &self.is_finished()).finish()
    }
}

/// Why a task has no result: it panicked, or it was cancelled by [`JoinHandle::abort`] or the end of its runtime.
pub struct JoinError {
    /// `None`: cancelled.
    panic: Option<Box<Panic>>,
}

struct Panic {
    /// In a mutex, which nobody locks, so that the error can be shared between threads as most error types demand.
    payload: Mutex<Box<dyn Any + Send>>,
    message: String,
}

impl JoinError {
    fn cancelled() -> JoinError {
        JoinError { panic: None }
    }

    fn panic(payload: Box<dyn Any + Send>) -> JoinError {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "with a value that is no text".to_owned());
        JoinError { panic: Some(Box::new(Panic { payload: Mutex::new(payload), message })) }
    }

    /// Was the task cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Did the task panic?
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The value with which the task panicked, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    /// Gives the error back if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.panic {
            Some(panic) => Ok(panic.payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(self),
        }
    }

    /// The value with which the task panicked.
    ///
    /// # Panics
    /// If the task did not panic; see [`try_into_panic`](JoinError::try_into_panic).
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("into_panic is for a task that panicked; ask is_panic first")
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            None => f.write_str("task was cancelled"),
            Some(panic) => write!(f, "task panicked: {}", panic.message),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    /// So that `task.await??` works in functions that return [`io::Result`].
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error.to_string())
    }
}
