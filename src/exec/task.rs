//! A task in its cell: a header that the executor and the handles share, and behind it a body,
//! which holds first the future and then the result.
//!
//! # States of a task
//! `ENDED`, `VALUE` and `ERROR` say what the body behind the header holds, and so who may touch it:
//!
//! | | Body | Who may touch it |
//! |---|---|---|
//! | not `ENDED` | the future | whoever polls or ends the task: the loop, and the end of the runtime |
//! | `EMPTY`, not `ENDED` | nothing any more | whoever ends the task, who puts the result there |
//! | `ENDED` and `VALUE` | the output | the `JoinHandle`, or after its drop the loop |
//! | `ENDED` and `ERROR` | a `JoinError` | the same |
//! | `ENDED` alone | nothing | nobody |
//!
//! The other bits say who needs the cell: the run queue (`QUEUED`), the code that ends the task
//! (`ENDING`), the `JoinHandle` (`JOINABLE`), and a count of `AbortHandle`s. A task that has ended
//! and that nobody needs goes back to the arena: whoever clears the last of these gives it back.
//!
//! # Safety
//! A pointer to a cell is good until [`release_if_unused`] frees the cell, which each holder calls
//! once, after it has cleared its bit and as its last use. The future is pinned: it is written into
//! the cell's body once, and dropped there. The types in the body are those of the `Table` in the
//! header, since `place` writes both. No user code runs while a reference into the body exists, but
//! the future's own poll and drop, in which nobody else touches the body (see the table).
#![allow(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::mem::{self, ManuallyDrop, needs_drop};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::arena::{self, CELL_ALIGN, class_of};
use super::join::JoinError;
use super::wake;
use super::waker::TaskId;
use crate::unwind::{self, FirstPanic, discard};

/// It stands in the run queue.
const QUEUED: u32 = 1 << 0;
/// It is being ended. User code that runs meanwhile must not free it.
const ENDING: u32 = 1 << 1;
/// Its `JoinHandle` exists.
const JOINABLE: u32 = 1 << 2;
const VALUE: u32 = 1 << 3;
const ERROR: u32 = 1 << 4;
const ENDED: u32 = 1 << 5;
/// It ends at its next turn.
const ABORTED: u32 = 1 << 6;
/// It is the future of `block_on`, which has no body.
const ROOT: u32 = 1 << 7;
/// The future is being dropped, or has gone.
const EMPTY: u32 = 1 << 8;
/// One `AbortHandle`; the bits from here on count them.
const ABORT_HANDLE: u32 = 1 << 9;

/// Where the body begins.
const BODY: usize = size_of::<Header>();
const _: () = assert!(BODY == 48 && BODY.is_multiple_of(CELL_ALIGN));

/// The part of a task that does not depend on its future.
#[repr(C)]
pub(super) struct Header {
    /// The word of its wakers.
    id: Cell<TaskId>,
    table: Cell<&'static Table>,
    /// The next in the run queue, or the next vacant cell.
    pub(super) next: Cell<Option<NonNull<Header>>>,
    /// Who awaits the `JoinHandle`.
    joiner: Cell<Option<Waker>>,
    state: Cell<u32>,
}

/// What depends on the type of the future. All of it needs a cell that `place` has made for that
/// type.
pub(super) struct Table {
    /// Polls the future. `true`: it is gone, and the body holds the result.
    poll: unsafe fn(NonNull<Header>) -> bool,
    /// Drops the future and leaves the error in the body.
    end: unsafe fn(NonNull<Header>, JoinError),
    /// Drops the output.
    drop_value: unsafe fn(NonNull<Header>),
}

/// Of the future of `block_on` and of vacant cells, which have no body.
static BODILESS: Table = Table { poll: |_| false, end: |_, _| {}, drop_value: |_| {} };

impl Header {
    /// A cell without a task, as one whose task has ended and is needed no more.
    pub(super) fn vacant(id: TaskId) -> Header {
        Header { id: Cell::new(id), table: Cell::new(&BODILESS), next: Cell::new(None), joiner: Cell::new(None), state: Cell::new(ENDED) }
    }

    /// The future of `block_on`, as the run queue sees it.
    pub(super) fn root(id: TaskId) -> Header {
        Header { state: Cell::new(ROOT), ..Header::vacant(id) }
    }

    #[inline]
    pub(super) fn id(&self) -> TaskId {
        self.id.get()
    }

    /// Marks it as being in the run queue. `false`: it is there already, or has ended.
    #[inline]
    pub(super) fn enqueue(&self) -> bool {
        let state = self.state.get();
        if state & (QUEUED | ENDED) != 0 {
            return false;
        }
        self.state.set(state | QUEUED);
        true
    }

    /// Marks it as being no longer in the run queue. `true`: it is a task that is to be polled.
    #[inline]
    pub(super) fn dequeue(&self) -> bool {
        let state = self.state.get();
        self.state.set(state & !QUEUED);
        state & (ENDED | ABORTED | ROOT) == 0
    }

    #[inline]
    pub(super) fn is_root(&self) -> bool {
        self.has(ROOT)
    }

    #[inline]
    pub(super) fn is_ended(&self) -> bool {
        self.has(ENDED)
    }

    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.state.get() & bits != 0
    }

    /// Sets bits that are not set. It adds them: of an `or` with such bits the compiler makes an
    /// access to one byte, and the processor stalls when a wider one follows at once.
    #[inline]
    fn set(&self, bits: u32) {
        debug_assert!(!self.has(bits), "they are set");
        self.state.set(self.state.get().wrapping_add(bits));
    }

    /// As [`set`](Header::set). `false`: they are set already.
    #[inline]
    fn set_if_clear(&self, bits: u32) -> bool {
        let is_clear = !self.has(bits);
        if is_clear {
            self.set(bits);
        }
        is_clear
    }

    #[inline]
    fn clear(&self, bits: u32) {
        self.state.set(self.state.get() & !bits);
    }

    pub(super) fn abort(&self) {
        if !self.is_ended() {
            self.state.set(self.state.get() | ABORTED);
            wake(self.id());
        }
    }

    /// As [`abort`](Header::abort), of a task that is about to be put into the run queue.
    pub(super) fn abort_unqueued(&self) {
        self.set(ABORTED);
    }

    /// Leaks the future of a task that has never been polled.
    pub(super) fn forget_future(&self) {
        self.set(EMPTY);
    }

    /// Counts one more `AbortHandle`.
    pub(super) fn add_abort_handle(&self) {
        let counted = self.state.get().checked_add(ABORT_HANDLE);
        self.state.set(counted.expect("handles that abort one task are counted in 23 bits"));
    }

    /// Keeps who awaits the result. Returns who did before, or the waker itself if the task has
    /// ended.
    #[inline]
    pub(super) fn join(&self, joiner: Waker) -> Option<Waker> {
        if self.is_ended() {
            return Some(joiner);
        }
        self.joiner.replace(Some(joiner))
    }
}

/// Does an output lie in the body itself?
const fn is_inline<T>() -> bool {
    class_of(BODY + size_of::<T>()).is_some() && align_of::<T>() <= CELL_ALIGN
}

/// The size of the cell for a future of this type, `None` if it needs an allocation of its own.
pub(super) const fn class<F: Future>() -> Option<usize> {
    if align_of::<F>() > CELL_ALIGN {
        return None;
    }
    let sizes = [size_of::<F>(), size_of::<JoinError>(), if is_inline::<F::Output>() { size_of::<F::Output>() } else { 0 }];
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
