//! A task in its cell: a header that the executor and the handles share, and behind it a body,
//! which holds first the future and then the result.
//!
//! The states of a task are those of its header (`header.rs`).
//!
//! # Safety
//! A pointer to a cell is good until [`release_if_unused`] frees the cell, which each holder calls
//! once, after it has cleared its bit and as its last use. The future is pinned: it is written into
//! the cell's body once, and dropped there. The types in the body are those of the `Table` in the
//! header, since `place` writes both. No user code runs while a reference into the body exists, but
//! the future's own poll and drop, in which nobody else touches the body (see the table).
#![allow(unsafe_code)]

use std::future::Future;
use std::mem::{self, ManuallyDrop, needs_drop};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::arena::{self, CELL_ALIGN, class_of};
use super::header::{
    ABORT_HANDLE, ABORTED, EMPTY, ENDED, ENDING, ERROR, Header, JOINABLE, Table, VALUE,
};
use super::join_error::JoinError;
use super::waker::TaskId;
use crate::unwind::{self, FirstPanic, discard};

/// Where the body begins.
const BODY: usize = size_of::<Header>();
const _: () = assert!(BODY == 48 && BODY.is_multiple_of(CELL_ALIGN));

/// Does an output lie in the body itself?
const fn is_inline<T>() -> bool {
    class_of(BODY + size_of::<T>()).is_some() && align_of::<T>() <= CELL_ALIGN
}

/// The size of the cell for a future of this type, `None` if it needs an allocation of its own.
pub(super) const fn class<F: Future>() -> Option<usize> {
    if align_of::<F>() > CELL_ALIGN {
        return None;
    }
    let sizes = [
        size_of::<F>(),
        size_of::<JoinError>(),
        if is_inline::<F::Output>() { size_of::<F::Output>() } else { 0 },
    ];
    let mut most = 0;
    let mut index = 0;
    while index < sizes.len() {
        if sizes[index] > most {
            most = sizes[index];
        }
        index += 1;
    }
    class_of(BODY + most)
}

/// The body of a cell, as a place for a `T`.
#[inline]
fn body<T>(cell: NonNull<Header>) -> NonNull<T> {
    // SAFETY: a cell is larger than its header.
    unsafe { cell.cast::<u8>().add(BODY).cast() }
}

/// Makes a task of a cell that was just allocated, joinable by one handle that the caller makes.
///
/// # Safety
/// The cell is of `class::<F>()`, vacant, and the caller's own.
#[inline]
pub(super) unsafe fn place<F: Future>(cell: NonNull<Header>, future: F) {
    // SAFETY: the caller's promise; the class has room for the future.
    unsafe {
        let header = cell.as_ref();
        header.id.set(header.id().next());
        header.table.set(const { &Table { poll: poll::<F>, end: end::<F>, drop_value: drop_value::<F::Output> } });
        header.state.set(JOINABLE);
        body::<F>(cell).write(future);
    }
}

/// Polls a task once. `true`: it has a result, and [`finish`] must follow.
///
/// # Safety
/// The task has not ended, and is not being polled.
#[inline]
pub(super) unsafe fn run(cell: NonNull<Header>) -> bool {
    // SAFETY: a task that has not ended has its cell, and its table fits.
    unsafe { (cell.as_ref().table.get().poll)(cell) }
}

/// Ends a task with an error: drops its future where it lies. [`finish`] must follow.
///
/// # Safety
/// The task has not ended, and is not in its poll.
pub(super) unsafe fn cancel(cell: NonNull<Header>, error: JoinError) {
    // SAFETY: a task that has not ended has its cell, and its table fits.
    unsafe { (cell.as_ref().table.get().end)(cell, error) };
}

/// Ends a task that has a result. Returns the task that awaits it and is to be woken. Tells others
/// who do, and drops the result if nobody can.
///
/// # Safety
/// The body holds the result that [`run`] or [`cancel`] has left, and the caller does not use the
/// cell after.
#[inline]
pub(super) unsafe fn finish(cell: NonNull<Header>) -> Option<TaskId> {
    // SAFETY: the task has just ended, and nobody has had a turn to give its cell back; from here
    // on its `JoinHandle` keeps it, or `ENDING` in `notify`.
    unsafe {
        let header = cell.as_ref();
        let joiner = header.joiner.take();
        match joiner.as_ref().map(TaskId::of) {
            // To wake a task of ours runs no user code, there is nothing to drop, and who joins
            // keeps the cell.
            Some(Some(id)) => {
                mem::forget(joiner);
                Some(id)
            }
            None if header.has(JOINABLE) => None,
            _ => {
                notify(cell, joiner);
                None
            }
        }
    }
}

/// The rest of [`finish`], if that is user code.
///
/// # Safety
/// As [`finish`]. The task has just ended.
#[inline(never)]
unsafe fn notify(cell: NonNull<Header>, joiner: Option<Waker>) {
    // SAFETY: whoever gives the cell back finds it `ENDING` until the end of this function,
    // whatever the user code does.
    unsafe {
        let header = cell.as_ref();
        header.set(ENDING);
        if let Some(joiner) = joiner {
            // A waker that panics must not keep the executor from its work.
            unwind::quietly(|| joiner.wake());
        }
        if !header.has(JOINABLE) {
            drop_result(cell);
        }
        header.clear(ENDING);
        release_if_unused(cell);
    }
}

/// Drops a result that nobody can take. A panic in that has nobody left to go to.
///
/// # Safety
/// The task has ended, and is `ENDING`.
#[inline(never)]
unsafe fn drop_result(cell: NonNull<Header>) {
    // SAFETY: the bits say what the body holds; they are cleared first, so that nobody takes it
    // again.
    unsafe {
        let header = cell.as_ref();
        let state = header.state.get();
        header.clear(VALUE | ERROR);
        if state & VALUE != 0 {
            (header.table.get().drop_value)(cell);
        } else if state & ERROR != 0 {
            discard(body::<JoinError>(cell).read());
        }
    }
}

/// Takes the result out of a task that has ended. `None`: it was taken.
///
/// # Safety
/// The task's output is a `T`.
#[inline]
pub(super) unsafe fn take_result<T>(cell: NonNull<Header>) -> Option<Result<T, JoinError>> {
    // SAFETY: the bits say what the body holds; they are cleared, so that nobody takes it again.
    // The caller vouches for the type.
    unsafe {
        let header = cell.as_ref();
        let state = header.state.get();
        header.clear(VALUE | ERROR);
        if state & VALUE != 0 {
            Some(Ok(read_value(cell)))
        } else if state & ERROR != 0 {
            Some(Err(body::<JoinError>(cell).read()))
        } else {
            None
        }
    }
}

/// The `JoinHandle` goes.
///
/// # Safety
/// The task's output is a `T`, and the caller is its `JoinHandle`, which does not use the cell
/// after.
#[inline]
pub(super) unsafe fn detach<T>(cell: NonNull<Header>) {
    // SAFETY: the handle needs the cell until its bit is cleared. With no other bit nobody else
    // does, the body is empty, and nobody waits for a task that has ended.
    unsafe {
        let header = cell.as_ref();
        if header.state.get() & !EMPTY == ENDED | JOINABLE {
            header.state.set(ENDED);
            arena::free(cell);
        } else {
            detach_early::<T>(cell);
        }
    }
}

/// The `JoinHandle` goes before the task has ended, or with its result, or while others need the
/// cell. What it leaves is user code to drop, and goes last.
///
/// # Safety
/// As [`detach`].
#[cold]
unsafe fn detach_early<T>(cell: NonNull<Header>) {
    // SAFETY: the handle needs the cell until its bit is cleared here.
    unsafe {
        let header = cell.as_ref();
        let joiner = header.joiner.take();
        let result = if header.is_ended() { take_result::<T>(cell) } else { None };
        header.clear(JOINABLE);
        release_if_unused(cell);
        let mut panic = FirstPanic::default();
        panic.run(|| drop(joiner));
        panic.run(|| drop(result));
        panic.resume();
    }
}

/// An `AbortHandle` goes.
///
/// # Safety
/// The caller is one of those that were counted, and does not use the cell after.
pub(super) unsafe fn remove_abort_handle(cell: NonNull<Header>) {
    // SAFETY: the count keeps the cell until here.
    unsafe {
        let header = cell.as_ref();
        header.state.set(header.state.get() - ABORT_HANDLE);
        release_if_unused(cell);
    }
}

/// Gives the cell back if the task has ended and nobody needs it any more.
///
/// # Safety
/// The caller needed the cell until now, has cleared its bit, and does not use it after.
#[inline]
pub(super) unsafe fn release_if_unused(cell: NonNull<Header>) {
    // SAFETY: `ENDED` without any other bit: nobody else has the cell, and the body holds nothing.
    unsafe {
        if cell.as_ref().state.get() & !(ABORTED | EMPTY) == ENDED {
            arena::free(cell);
        }
    }
}

/// # Safety
/// As `Table::poll`.
unsafe fn poll<F: Future>(cell: NonNull<Header>) -> bool {
    // SAFETY: the body holds the future, which nobody else touches while the task runs; it stays
    // there until `settle` drops it, so it is pinned. The waker owns nothing and needs no drop.
    unsafe {
        let waker = ManuallyDrop::new(cell.as_ref().id().waker());
        let future = Pin::new_unchecked(body::<F>(cell).as_mut());
        match future.poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => false,
            Poll::Ready(output) => {
                settle::<F>(cell, Ok(output));
                true
            }
        }
    }
}

/// # Safety
/// As `Table::end`.
unsafe fn end<F: Future>(cell: NonNull<Header>, error: JoinError) {
    // SAFETY: the caller's promise.
    unsafe { settle::<F>(cell, Err(error)) };
}

/// Drops the future where it lies, and puts the result there. A panic in the drop ends the task as
/// a panic in its body would, and drops the result, which may panic in turn.
///
/// # Safety
/// The body holds a future of type `F` or is `EMPTY`, and nobody is in the future's poll.
#[inline]
unsafe fn settle<F: Future>(cell: NonNull<Header>, result: Result<F::Output, JoinError>) {
    // SAFETY: the task has not ended, so its cell is there.
    let header = unsafe { cell.as_ref() };
    let mut result = result;
    // Before any user code runs: whatever becomes of that, the future is not touched again. The bit
    // stays until the cell has its next task.
    if needs_drop::<F>() && header.set_if_clear(EMPTY) {
        // SAFETY: the future is dropped once, here; what it calls finds a task that has not ended,
        // and leaves the body alone.
        if let Err(payload) = unwind::catch(|| unsafe { body::<F>(cell).drop_in_place() }) {
            discard(result);
            result = Err(JoinError::panic(payload));
        }
    }
    let what = match &result {
        Ok(_) => VALUE,
        Err(_) => ERROR,
    };
    // SAFETY: the body is empty, and the class has room for either.
    unsafe {
        match result {
            Ok(output) => write_value(cell, output),
            Err(error) => body::<JoinError>(cell).write(error),
        }
    }
    header.set(ENDED | what);
}

/// # Safety
/// As `Table::drop_value`.
unsafe fn drop_value<T>(cell: NonNull<Header>) {
    // SAFETY: the caller's promise.
    let value = unsafe { read_value::<T>(cell) };
    if needs_drop::<T>() {
        discard(value);
    }
}

/// # Safety
/// The body is empty, and of the class of a future with this output.
#[inline]
unsafe fn write_value<T>(cell: NonNull<Header>, value: T) {
    // SAFETY: the class has room for what `is_inline` decides on.
    unsafe {
        match const { is_inline::<T>() } {
            true => body::<T>(cell).write(value),
            false => body::<Box<T>>(cell).write(Box::new(value)),
        }
    }
}

/// # Safety
/// The body holds a value of this type, and is empty after.
#[inline]
unsafe fn read_value<T>(cell: NonNull<Header>) -> T {
    // SAFETY: as `write_value` wrote it.
    unsafe {
        match const { is_inline::<T>() } {
            true => body::<T>(cell).read(),
            false => *body::<Box<T>>(cell).read(),
        }
    }
}
