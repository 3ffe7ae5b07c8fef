//! The handles of a task, to wait for it and to end it.
//!
//! # Safety
//! A handle's pointer is good as long as the handle: the task counts a `JoinHandle` and each
//! `AbortHandle`, and keeps its cell until they have gone. The type of a `JoinHandle` is that of
//! its task's output, since only `JoinHandle::new` makes one, beside the task.
#![allow(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::header::Header;
use super::join_error::JoinError;
use super::task;
use super::waker;

/// Waits for a spawned task and returns its result.
///
/// Await it, or drop it: dropping *detaches*, the task goes on by itself. A panic in the task is
/// caught and comes out here as a [`JoinError`]. A handle outlives its runtime; what the runtime's
/// end interrupted counts as cancelled.
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
    task: NonNull<Header>,
    /// Of one thread, as the task.
    output: PhantomData<Rc<T>>,
}

impl<T> JoinHandle<T> {
    /// # Safety
    /// The task is joinable, its output is a `T`, and it has no other `JoinHandle`.
    #[inline]
    pub(super) unsafe fn new(task: NonNull<Header>) -> JoinHandle<T> {
        JoinHandle { task, output: PhantomData }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the task keeps its cell while this handle exists.
        unsafe { self.task.as_ref() }
    }

    /// Cancels the task: its future is dropped when the executor reaches it, and the handle yields
    /// a [`JoinError`] for which [`is_cancelled`](JoinError::is_cancelled) holds. A task that has
    /// finished keeps its result.
    pub fn abort(&self) {
        self.header().abort();
    }

    /// Something that can abort the task and neither waits for it nor keeps its result.
    pub fn abort_handle(&self) -> AbortHandle {
        self.header().add_abort_handle();
        AbortHandle { task: self.task }
    }

    /// Has the task ended, by returning, by a panic, or by being cancelled?
    pub fn is_finished(&self) -> bool {
        self.header().is_ended()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.header().is_ended() {
            let joiner = waker::share(context.waker());
            let before = self.header().join(joiner);
            drop(before);
            // Cloning and dropping a waker is foreign code, which may have ended the task.
            if !self.header().is_ended() {
                return Poll::Pending;
            }
        }
        // SAFETY: this is the task's handle, so `T` is its output.
        let result = unsafe { task::take_result(self.task) };
        Poll::Ready(result.expect("JoinHandle polled after it returned the result"))
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the task's handle, and it does not use the task again.
        unsafe { task::detach::<T>(self.task) };
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.header().id())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Aborts a spawned task; from [`JoinHandle::abort_handle`] or
/// [`JoinSet::spawn`](crate::JoinSet::spawn).
///
/// Dropping it does nothing to the task. While one exists, a task that has ended keeps its memory,
/// but neither its future nor, once nobody can ask for it, its result.
///
/// ```
/// # annulus::block_on(async {
/// let task = annulus::spawn(std::future::pending::<()>());
/// let abort = task.abort_handle();
/// annulus::spawn(async move { abort.abort() });
/// assert!(task.await.unwrap_err().is_cancelled());
/// # });
/// ```
pub struct AbortHandle {
    task: NonNull<Header>,
}

impl AbortHandle {
    fn header(&self) -> &Header {
        // SAFETY: the task keeps its cell while this handle is counted.
        unsafe { self.task.as_ref() }
    }

    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.header().abort();
    }

    /// Has the task ended, by returning, by a panic, or by being cancelled?
    pub fn is_finished(&self) -> bool {
        self.header().is_ended()
    }
}

impl Clone for AbortHandle {
    fn clone(&self) -> AbortHandle {
        self.header().add_abort_handle();
        AbortHandle { task: self.task }
    }
}

impl Drop for AbortHandle {
    fn drop(&mut self) {
        // SAFETY: it was counted when it was made, and does not use the task again.
        unsafe { task::remove_abort_handle(self.task) };
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("id", &self.header().id())
            .field("finished", &self.is_finished())
            .finish()
    }
}
