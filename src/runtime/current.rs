//! The runtimes of a thread: which one is entered, and which have not ended.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::{Rc, Weak};

use super::core::Core;
use crate::exec::Entered;

thread_local! {
    /// The runtime that is entered on this thread. It has no destructor, so it can be asked at any
    /// time of a thread's life.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Core>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// Its number, or 0: what operations ask for more often than for the runtime itself.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    /// The runtimes of this thread that have not ended. No destructor, as above; it holds no memory
    /// once they have.
    static HERE: ManuallyDrop<RefCell<Vec<Weak<Core>>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

impl Core {
    /// Makes this the thread's runtime until the guard is dropped.
    pub(super) fn enter(self: &Rc<Self>) -> EnteredRuntime {
        let before = CURRENT.with(|current| current.replace(Some(Rc::clone(self))));
        CURRENT_ID.set(self.id);
        EnteredRuntime { before, _executor: self.executor.enter() }
    }

    /// Sends all that is queued, so that a descriptor can be closed of which operations without
    /// futures are in flight. `false`: its number is still needed, here or by another runtime of
    /// this thread.
    pub(crate) fn let_go(&self, fd: RawFd) -> bool {
        is_alone() && self.driver.borrow_mut().let_go(fd)
    }
}

/// Restores the runtime that was entered before.
pub(super) struct EnteredRuntime {
    before: Option<Rc<Core>>,
    _executor: Entered,
}

impl Drop for EnteredRuntime {
    fn drop(&mut self) {
        let before = self.before.take();
        CURRENT_ID.set(before.as_ref().map_or(0, |core| core.id));
        let after = CURRENT.with(|current| current.replace(before));
        drop(after);
    }
}

/// A runtime of this thread begins.
pub(super) fn begin(core: Rc<Core>) -> Rc<Core> {
    HERE.with(|here| here.borrow_mut().push(Rc::downgrade(&core)));
    core
}

/// A runtime of this thread has ended. One that leaked operations still counts, so that no other of
/// this thread takes a number for its own that those operations name.
pub(super) fn end(core: &Core, has_leaked: bool) {
    HERE.with(|here| {
        let mut here = here.borrow_mut();
        if !has_leaked {
            here.retain(|other| !ptr::eq(other.as_ptr(), core));
        }
        if here.is_empty() {
            *here = Vec::new();
        }
    });
}

/// Has this thread only one runtime?
fn is_alone() -> bool {
    HERE.with(|here| here.borrow().len() == 1)
}

/// The runtime that is entered on this thread.
#[inline]
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Do files that are used often get a place in the ring's table, on the runtime that is entered?
pub(crate) fn registers_files() -> bool {
    CURRENT.with(|current| current.borrow().as_ref().is_some_and(|core| core.registers_files))
}

/// A descriptor that no operation uses is about to be closed or given away. The runtimes of this
/// thread forget what they know of its number.
pub(crate) fn forget_descriptor(fd: RawFd) {
    HERE.with(|here| {
        for core in here.borrow().iter().filter_map(Weak::upgrade) {
            core.driver.borrow_mut().forget(fd);
        }
    });
}

/// Is this the number of the runtime that is entered on this thread?
#[inline]
pub(crate) fn is_current(id: u64) -> bool {
    CURRENT_ID.get() == id
}

/// The runtime that is entered on this thread.
///
/// # Panics
/// If there is none.
#[inline]
#[track_caller]
pub(crate) fn current() -> Rc<Core> {
    try_current().unwrap_or_else(|| outside())
}

#[cold]
#[track_caller]
pub(super) fn outside() -> ! {
    panic!(
        "there is no annulus runtime on this thread: call this from within `annulus::block_on`, `Runtime::block_on` or a spawned task"
    )
}

#[track_caller]
pub(super) fn refuse_nesting() {
    assert!(
        try_current().is_none(),
        "block_on inside a runtime would stop its loop: await the future, or `annulus::spawn` it and await the handle"
    );
}
