//! The header of a task: what the executor and the handles share of it, whatever its future is.
//!
//! # States of a task
//! `ENDED`, `VALUE` and `ERROR` say what the body behind the header holds, and so who may touch it:
//!
//! | | Body | Who may touch it |
//! |---|---|---|
//! | not `ENDED` | the future | who polls or ends it: the loop, and the end of the runtime |
//! | `EMPTY`, not `ENDED` | nothing any more | whoever ends the task, who puts the result there |
//! | `ENDED` and `VALUE` | the output | the `JoinHandle`, or after its drop the loop |
//! | `ENDED` and `ERROR` | a `JoinError` | the same |
//! | `ENDED` alone | nothing | nobody |
//!
//! The other bits say who needs the cell: the run queue (`QUEUED`), the code that ends the task
//! (`ENDING`), the `JoinHandle` (`JOINABLE`), and a count of `AbortHandle`s. A task that has ended
//! and that nobody needs goes back to the arena: whoever clears the last of these gives it back.

use std::cell::Cell;
use std::ptr::NonNull;
use std::task::Waker;

use super::join_error::JoinError;
use super::waker::TaskId;

/// It stands in the run queue.
pub(super) const QUEUED: u32 = 1 << 0;
/// It is being ended. User code that runs meanwhile must not free it.
pub(super) const ENDING: u32 = 1 << 1;
/// Its `JoinHandle` exists.
pub(super) const JOINABLE: u32 = 1 << 2;
pub(super) const VALUE: u32 = 1 << 3;
pub(super) const ERROR: u32 = 1 << 4;
pub(super) const ENDED: u32 = 1 << 5;
/// It ends at its next turn.
pub(super) const ABORTED: u32 = 1 << 6;
/// It is the future of `block_on`, which has no body.
pub(super) const ROOT: u32 = 1 << 7;
/// The future is being dropped, or has gone.
pub(super) const EMPTY: u32 = 1 << 8;
/// One `AbortHandle`; the bits from here on count them.
pub(super) const ABORT_HANDLE: u32 = 1 << 9;

/// The part of a task that does not depend on its future.
#[repr(C)]
pub(super) struct Header {
    /// The word of its wakers.
    pub(super) id: Cell<TaskId>,
    pub(super) table: Cell<&'static Table>,
    /// The next in the run queue, or the next vacant cell.
    pub(super) next: Cell<Option<NonNull<Header>>>,
    /// Who awaits the `JoinHandle`.
    pub(super) joiner: Cell<Option<Waker>>,
    pub(super) state: Cell<u32>,
}

/// What depends on the type of the future. All of it needs a cell that `place` has made for that
/// type.
pub(super) struct Table {
    /// Polls the future. `true`: it is gone, and the body holds the result.
    pub(super) poll: unsafe fn(NonNull<Header>) -> bool,
    /// Drops the future and leaves the error in the body.
    pub(super) end: unsafe fn(NonNull<Header>, JoinError),
    /// Drops the output.
    pub(super) drop_value: unsafe fn(NonNull<Header>),
}

/// Of the future of `block_on` and of vacant cells, which have no body.
static BODILESS: Table = Table { poll: |_| false, end: |_, _| {}, drop_value: |_| {} };

impl Header {
    /// A cell without a task, as one whose task has ended and is needed no more.
    pub(super) fn vacant(id: TaskId) -> Header {
        Header {
            id: Cell::new(id),
            table: Cell::new(&BODILESS),
            next: Cell::new(None),
            joiner: Cell::new(None),
            state: Cell::new(ENDED),
        }
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
    pub(super) fn has(&self, bits: u32) -> bool {
        self.state.get() & bits != 0
    }

    /// Sets bits that are not set. It adds them: of an `or` with such bits the compiler makes an
    /// access to one byte, and the processor stalls when a wider one follows at once.
    #[inline]
    pub(super) fn set(&self, bits: u32) {
        debug_assert!(!self.has(bits), "they are set");
        self.state.set(self.state.get().wrapping_add(bits));
    }

    /// As [`set`](Header::set). `false`: they are set already.
    #[inline]
    pub(super) fn set_if_clear(&self, bits: u32) -> bool {
        let is_clear = !self.has(bits);
        if is_clear {
            self.set(bits);
        }
        is_clear
    }

    #[inline]
    pub(super) fn clear(&self, bits: u32) {
        self.state.set(self.state.get() & !bits);
    }

    pub(super) fn abort(&self) {
        if !self.is_ended() {
            self.state.set(self.state.get() | ABORTED);
            self.id().waker().wake();
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
