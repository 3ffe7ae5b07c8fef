//! Which task runs next? The run queue of one thread, the tasks in it, and how a wake finds them.
//!
//! It knows nothing of rings and operations beyond the unparker that an inbox needs. Futures run without any borrow of the executor, so
//! whatever they do (spawn, wake, abort, drop handles) finds it free.

mod inbox;
mod task;
mod waker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

pub use task::{AbortHandle, JoinError, JoinHandle};

use crate::ring::Unparker;
use inbox::Inbox;
use task::Runnable;
use waker::TaskId;

thread_local! {
    /// The executor whose runtime is entered on this thread. It has no destructor, so it can be asked at any time of a thread's life.
    static LOCAL: ManuallyDrop<RefCell<Option<Rc<Executor>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// The tasks of one runtime.
pub(crate) struct Executor {
    cell: u16,
    inbox: &'static Inbox,
    inbox_closed: Cell<bool>,
    tasks: RefCell<Slab<Entry>>,
    /// Indexes of tasks that were woken, each at most once; one that outlived its task costs the next task there a poll too many.
    ready: RefCell<VecDeque<usize>>,
    /// Was the future of `block_on` woken?
    root_ready: Cell<bool>,
    generation: Cell<u32>,
    /// The runtime is ending: nothing new is taken.
    closing: Cell<bool>,
    /// Memory for what comes out of the inbox.
    letters: RefCell<Vec<TaskId>>,
}

struct Entry {
    id: TaskId,
    queued: bool,
    task: Rc<dyn Runnable>,
}

impl Executor {
    pub(crate) fn new(unparker: Unparker) -> io::Result<Rc<Executor>> {
        let (cell, inbox) = inbox::open(unparker)?;
        Ok(Rc::new(Executor {
            cell,
            inbox,
            inbox_closed: Cell::new(false),
            tasks: RefCell::new(Slab::new()),
            ready: RefCell::new(VecDeque::new()),
            root_ready: Cell::new(false),
            generation: Cell::new(0),
            closing: Cell::new(false),
            letters: RefCell::new(Vec::new()),
        }))
    }

    /// Makes wakes on this thread go straight to this executor's queue until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { before: LOCAL.with(|local| local.replace(Some(Rc::clone(self)))) }
    }

    pub(crate) fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let (task, handle) = task::new(future);
        if self.closing.get() {
            task.cancel();
            return handle.handle(TaskId::root(self.cell));
        }
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.vacant_entry();
        let id = TaskId::new(self.cell, place.key(), generation);
        self.ready.borrow_mut().push_back(place.key());
        place.insert(Entry { id, queued: true, task });
        handle.handle(id)
    }

    /// Runs the tasks that are in the queue now, at most `limit` of them, and returns how many polls that took. Tasks that they wake wait
    /// for the next call.
    pub(crate) fn run(&self, limit: usize) -> usize {
        let polls = limit.min(self.ready.borrow().len());
        for _ in 0..polls {
            let Some(index) = self.ready.borrow_mut().pop_front() else { break };
            let Some((task, id)) = self.next(index) else { continue };
            if task.run(id).is_ready() {
                let entry = self.tasks.borrow_mut().try_remove(index);
                discard(entry);
            }
            discard(task);
        }
        polls
    }

    fn next(&self, index: usize) -> Option<(Rc<dyn Runnable>, TaskId)> {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.get_mut(index)?;
        entry.queued = false;
        Some((Rc::clone(&entry.task), entry.id))
    }

    /// Puts a task into the run queue, unless it is there or has gone.
    fn schedule(&self, id: TaskId) {
        if id.is_root() {
            self.root_ready.set(true);
            return;
        }
        let mut tasks = self.tasks.borrow_mut();
        if let Some(entry) = tasks.get_mut(id.index())
            && entry.id == id
            && !entry.queued
        {
            entry.queued = true;
            self.ready.borrow_mut().push_back(id.index());
        }
    }

    /// Schedules what other threads have woken.
    pub(crate) fn collect_foreign_wakes(&self) {
        let mut letters = self.letters.borrow_mut();
        self.inbox.take(&mut letters);
        for id in letters.drain(..) {
            self.schedule(id);
        }
    }

    /// Have other threads woken anybody since the last look?
    pub(crate) fn has_foreign_wakes(&self) -> bool {
        self.inbox.has_letters()
    }

    /// Is there anything to poll?
    pub(crate) fn has_ready(&self) -> bool {
        self.root_ready.get() || !self.ready.borrow().is_empty()
    }

    /// The waker of the future that `block_on` drives.
    pub(crate) fn root_waker(&self) -> Waker {
        TaskId::root(self.cell).waker()
    }

    pub(crate) fn wake_root(&self) {
        self.root_ready.set(true);
    }

    /// Was the root woken since the last call?
    pub(crate) fn take_root_ready(&self) -> bool {
        self.root_ready.replace(false)
    }

    /// Announces that the thread is about to wait. `false`: a wake has come, so do not.
    pub(crate) fn park(&self) -> bool {
        self.inbox.park()
    }

    /// The wait is over.
    pub(crate) fn unpark(&self) {
        self.inbox.unpark();
    }

    /// Tasks that have not ended.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Ends every task, those spawned meanwhile included, and takes no more.
    pub(crate) fn cancel_all(&self) {
        self.closing.set(true);
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        self.ready.borrow_mut().clear();
        for (_, entry) in tasks {
            entry.task.cancel();
            discard(entry);
        }
    }

    /// Wakes from other threads go nowhere from here on. Must come before the ring closes.
    pub(crate) fn close_inbox(&self) {
        if !self.inbox_closed.replace(true) {
            self.inbox.close(self.cell);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.close_inbox();
    }
}

/// Drops what a user made, a task with its result for example. A panic in that drop has nobody left to go to.
pub(crate) fn discard<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// Restores the executor that this thread was in before.
pub(crate) struct Entered {
    before: Option<Rc<Executor>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let after = LOCAL.with(|local| local.replace(before));
        drop(after);
    }
}

/// Wakes a task from any thread: a queue push on the thread that is in its runtime, else a letter to its inbox.
fn wake(id: TaskId) {
    let is_local = LOCAL.with(|local| match &*local.borrow() {
        Some(executor) if executor.cell == id.cell() => {
            executor.schedule(id);
            true
        }
        _ => false,
    });
    if !is_local {
        inbox::deliver(id);
    }
}
