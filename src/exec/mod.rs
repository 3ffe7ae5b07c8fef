//! The executor of a runtime: the run queue of one thread, the tasks in it, and how a wake finds
//! them.
//!
//! It knows nothing of rings and operations, except for the unparker that an inbox needs. While a
//! future runs, the executor is not borrowed. So a future may spawn, wake, abort and drop handles.
//!
//! # Safety
//! The cells in the run queue are there: a task that is `QUEUED` keeps its cell, and the root's
//! header belongs to the executor, which never moves. Other pointers to cells are used only where
//! the task has not ended, and lead through the arena. The pointer to the thread's executor is set
//! while an [`Entered`] exists, which keeps that executor.
#![allow(unsafe_code)]

mod anchored;
mod arena;
mod budget;
mod header;
mod inbox;
mod join;
mod join_error;
mod mailbox;
mod task;
mod waker;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::{Poll, Waker};

pub use anchored::Anchored;
pub(crate) use budget::{Budget, yield_once};
pub use join::{AbortHandle, JoinHandle};
pub use join_error::JoinError;
pub(crate) use mailbox::Mailbox;

use crate::ring::Unparker;
use crate::unwind;
use arena::Arena;
use header::Header;
use inbox::Inbox;
use waker::TaskId;
pub(crate) use waker::{own, share};

thread_local! {
    /// The executor whose runtime is entered on this thread, or null. It has no destructor, so it
    /// can be asked at any time of a thread's life.
    static LOCAL: Cell<*const Executor> = const { Cell::new(ptr::null()) };
}

/// How many tasks destructors may spawn while a runtime ends. A destructor that spawns a task with
/// the same destructor would keep the runtime from ending.
const MOST_SPAWNED_AT_THE_END: usize = 1 << 16;

/// How deep destructors that spawn may cancel each other's tasks, each on the stack of the one
/// before.
const DEEPEST_END: u32 = 16;

/// The tasks of one runtime.
pub(crate) struct Executor {
    /// The future of `block_on`, which stands in the run queue as a task does.
    root: Header,
    /// The run queue: each task and the root at most once.
    head: Cell<Option<NonNull<Header>>>,
    /// Its last, if it has any.
    tail: Cell<NonNull<Header>>,
    /// The task that was polled last, or the root if that task has ended since: the likeliest to be
    /// woken.
    running: Cell<NonNull<Header>>,
    arena: Rc<Arena>,
    /// Tasks that have not ended.
    tasks: Cell<usize>,
    /// Set once the runtime is ending: how many more tasks may be spawned, only to be cancelled.
    closing: Cell<Option<usize>>,
    /// How many tasks are being cancelled by the destructors of others.
    depth: Cell<u32>,
    inbox: &'static Inbox,
    /// The address of the inbox for others.
    mailbox: Mailbox,
    inbox_closed: Cell<bool>,
    /// Memory for what comes out of the inbox.
    letters: RefCell<Vec<TaskId>>,
}

impl Executor {
    pub(crate) fn new(unparker: Unparker) -> io::Result<Rc<Executor>> {
        let (cell, numbers, inbox) = inbox::open(unparker)?;
        let executor = Rc::new(Executor {
            root: Header::root(TaskId::root(cell)),
            head: Cell::new(None),
            tail: Cell::new(NonNull::dangling()),
            running: Cell::new(NonNull::dangling()),
            arena: Arena::new(cell, &numbers),
            tasks: Cell::new(0),
            closing: Cell::new(None),
            depth: Cell::new(0),
            inbox,
            mailbox: Mailbox::of(inbox),
            inbox_closed: Cell::new(false),
            letters: RefCell::new(Vec::new()),
        });
        executor.running.set(executor.root());
        Ok(executor)
    }

    #[inline]
    fn root(&self) -> NonNull<Header> {
        NonNull::from(&self.root)
    }

    /// Makes wakes on this thread go straight to this executor's queue until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { before: LOCAL.replace(Rc::as_ptr(self)), _executor: Rc::clone(self) }
    }

    #[inline]
    pub(crate) fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        match const { task::class::<F>() } {
            Some(class) => self.spawn_in(class, future),
            // Too large for a cell, or too strictly aligned. The pinned box is neither.
            None => self.spawn_in(
                const { task::class::<Pin<Box<F>>>().expect("a pointer fits") },
                Box::pin(future),
            ),
        }
    }

    #[inline]
    fn spawn_in<F: Future + 'static>(&self, class: usize, future: F) -> JoinHandle<F::Output> {
        let cell = self.arena.allocate(class);
        self.tasks.set(self.tasks.get() + 1);
        // SAFETY: the cell is new and of the class of `F`, `T` is its output, and this is its
        // handle. The handle keeps the cell.
        unsafe {
            task::place(cell, future);
            let handle = JoinHandle::new(cell);
            match self.closing.get() {
                None => self.schedule(cell),
                Some(left) => self.spawn_at_the_end(cell, left),
            }
            handle
        }
    }

    /// A destructor spawns a task while the runtime ends: it is cancelled at once. Its destructor
    /// may spawn the next one, and so on, so beyond some depth the loop of [`cancel_all`] does it,
    /// and beyond some number the future is leaked.
    ///
    /// [`cancel_all`]: Executor::cancel_all
    ///
    /// # Safety
    /// The task has just been placed.
    #[cold]
    unsafe fn spawn_at_the_end(&self, cell: NonNull<Header>, left: usize) {
        // SAFETY: the caller's promise.
        let header = unsafe { cell.as_ref() };
        match left.checked_sub(1) {
            Some(left) => self.closing.set(Some(left)),
            None => header.forget_future(),
        }
        let depth = self.depth.get();
        if depth < DEEPEST_END {
            self.depth.set(depth + 1);
            // SAFETY: the task has not ended, and was never polled.
            unsafe { self.end(cell, JoinError::cancelled()) };
            self.depth.set(depth);
        } else {
            header.abort_unqueued();
            // SAFETY: its cell is there.
            unsafe { self.schedule(cell) };
        }
    }

    /// Polls what is in the queue, the root too, until it is empty or `limit` polls are through.
    /// What is woken meanwhile waits behind the others. Returns what the root yields, when it does.
    #[inline]
    pub(crate) fn run<T>(&self, limit: usize, mut root: impl FnMut() -> Poll<T>) -> Option<T> {
        let mut polls = 0;
        loop {
            // One net for many polls. The only user code in here that may panic is a poll: all that
            // ends a task has a net of its own.
            match unwind::catch(|| self.run_each(limit, &mut polls, &mut root)) {
                Ok(output) => return output,
                Err(payload) if self.running.get() == self.root() => resume_unwind(payload),
                // SAFETY: the task was being polled, so it has not ended; and its poll is over.
                Err(payload) => unsafe { self.end(self.running.get(), JoinError::panic(payload)) },
            }
        }
    }

    #[inline]
    fn run_each<T>(
        &self,
        limit: usize,
        polls: &mut usize,
        root: &mut impl FnMut() -> Poll<T>,
    ) -> Option<T> {
        while *polls < limit {
            let cell = self.pop()?;
            *polls += 1;
            // SAFETY: what was in the queue is there, and the cell of its task stays there until
            // the end of `finish` or of `release_if_unused`.
            unsafe {
                if cell.as_ref().dequeue() {
                    self.running.set(cell);
                    if task::run(cell) {
                        self.finish(cell);
                    }
                } else if cell.as_ref().is_root() {
                    self.running.set(cell);
                    if let Poll::Ready(output) = root() {
                        return Some(output);
                    }
                } else {
                    self.reap(cell);
                }
            }
        }
        None
    }

    /// # Safety
    /// As [`task::finish`].
    #[inline]
    unsafe fn finish(&self, cell: NonNull<Header>) {
        self.running.set(self.root());
        self.tasks.set(self.tasks.get() - 1);
        // SAFETY: the caller's promise.
        if let Some(joiner) = unsafe { task::finish(cell) } {
            self.wake_joiner(joiner);
        }
    }

    #[inline(never)]
    fn wake_joiner(&self, id: TaskId) {
        if !self.wake(id) {
            inbox::deliver(id);
        }
    }

    /// Deals with a task that was taken from the queue and must not be polled: it was aborted, or
    /// has ended.
    ///
    /// # Safety
    /// It has just left the queue, which kept its cell.
    #[cold]
    unsafe fn reap(&self, cell: NonNull<Header>) {
        // SAFETY: the caller's promise. The queue has let go of it, so a task that has ended may
        // not be needed any more.
        unsafe {
            match cell.as_ref().is_ended() {
                false => self.end(cell, JoinError::cancelled()),
                true => task::release_if_unused(cell),
            }
        }
    }

    /// # Safety
    /// The task has not ended, and is not in its poll.
    #[cold]
    unsafe fn end(&self, cell: NonNull<Header>, error: JoinError) {
        // SAFETY: the caller's promise.
        unsafe {
            task::cancel(cell, error);
            self.finish(cell);
        }
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<Header>> {
        let cell = self.head.get()?;
        // SAFETY: what is in the queue is there.
        self.head.set(unsafe { cell.as_ref() }.next.get());
        Some(cell)
    }

    /// Puts a task or the root into the run queue, unless it is there or has ended.
    ///
    /// # Safety
    /// The cell is there.
    #[inline]
    unsafe fn schedule(&self, cell: NonNull<Header>) {
        // SAFETY: the caller's promise, and what is in the queue is there.
        unsafe {
            if cell.as_ref().enqueue() {
                cell.as_ref().next.set(None);
                let tail = self.tail.replace(cell);
                match self.head.get() {
                    Some(_) => tail.as_ref().next.set(Some(cell)),
                    None => self.head.set(Some(cell)),
                }
            }
        }
    }

    /// Schedules the task of a waker, unless it has gone. `false`: it is one of another runtime.
    #[inline]
    fn wake(&self, id: TaskId) -> bool {
        let running = self.running.get();
        // SAFETY: it is the root, or a task that has not ended, so its cell is there.
        let cell = if unsafe { running.as_ref() }.id() == id {
            running
        } else if id.cell() != self.root.id().cell() {
            return false;
        } else {
            match self.arena.find(id) {
                // SAFETY: a cell that was found has its header; if it has the id, the task has it.
                Some(cell) if unsafe { cell.as_ref() }.id() == id => cell,
                // No slab has the root's number.
                _ if id == self.root.id() => self.root(),
                _ => return true,
            }
        };
        // SAFETY: it is there, see above.
        unsafe { self.schedule(cell) };
        true
    }

    /// As [`Waker::wake`], with a short way to the tasks of this executor.
    #[inline]
    pub(crate) fn wake_by(&self, waker: Waker) {
        match TaskId::of(&waker) {
            // Wakers of tasks own nothing, so there is nothing to drop, which would be a call.
            Some(id) if self.wake(id) => mem::forget(waker),
            _ => waker.wake(),
        }
    }

    /// Schedules what other threads have woken, drops the values that they have given back, and
    /// runs some of the closures that they have posted. Costs two loads when that is nothing.
    #[inline]
    pub(crate) fn collect_foreign_wakes(&self) {
        if self.inbox.has_letters() {
            self.open_letters();
        }
    }

    #[cold]
    fn open_letters(&self) {
        let mut letters = self.letters.borrow_mut();
        let (jobs, returned) = self.inbox.take(&mut letters);
        for id in letters.drain(..) {
            self.wake(id);
        }
        drop(letters);
        returned.into_iter().for_each(unwind::discard);
        jobs.into_iter().for_each(unwind::quietly);
    }

    /// Where other threads post closures and give values back.
    pub(crate) fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    /// Have other threads woken anybody since the last look, posted closures or given values back?
    pub(crate) fn has_mail(&self) -> bool {
        self.inbox.has_letters()
    }

    /// Whether there is anything to poll.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        self.head.get().is_some()
    }

    /// Has the task that ran last woken itself, and are there no more ready tasks than `most`?
    /// After some polls of each, they yield to each other, and to nobody else.
    #[inline]
    pub(crate) fn all_yield(&self, most: usize) -> bool {
        let running = self.running.get();
        running == self.tail.get() && self.has_at_most(most)
    }

    fn has_at_most(&self, most: usize) -> bool {
        let mut cell = self.head.get();
        for _ in 0..most {
            match cell {
                // SAFETY: what is in the queue is there.
                Some(ready) => cell = unsafe { ready.as_ref() }.next.get(),
                None => return true,
            }
        }
        cell.is_none()
    }

    /// The waker of the future that `block_on` drives.
    pub(crate) fn root_waker(&self) -> Waker {
        self.root.id().waker()
    }

    /// Lets the root run next, whoever else is ready, unless it was woken already.
    pub(crate) fn start_root(&self) {
        if self.root.enqueue() {
            let first = self.head.replace(Some(self.root()));
            self.root.next.set(first);
            if first.is_none() {
                self.tail.set(self.root());
            }
        }
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
        self.tasks.get()
    }

    /// Ends every task, those spawned meanwhile included. Called again for those that are spawned
    /// later. Beyond [`MOST_SPAWNED_AT_THE_END`] their futures are leaked.
    pub(crate) fn cancel_all(&self) {
        if self.closing.get().is_none() {
            self.closing.set(Some(MOST_SPAWNED_AT_THE_END));
            self.inbox.refuse_jobs().into_iter().for_each(unwind::discard);
            self.arena.each(|cell| {
                // SAFETY: the cell is handed out, and no poll is running: this is the end of the
                // runtime.
                unsafe {
                    if !cell.as_ref().is_ended() {
                        self.end(cell, JoinError::cancelled());
                    }
                }
            });
        }
        while let Some(cell) = self.pop() {
            // SAFETY: what was in the queue is there. The root has no body, and is in no arena.
            unsafe {
                cell.as_ref().dequeue();
                if !cell.as_ref().is_root() {
                    self.reap(cell);
                }
            }
        }
    }

    /// Drops the values that other threads have given back, and says how many. Their destructors
    /// are user code, as those of tasks.
    pub(crate) fn drop_returned(&self) -> usize {
        discard_each(self.inbox.take_returned())
    }

    /// As [`drop_returned`](Executor::drop_returned), for the last time: what other threads drop
    /// from here on is leaked.
    pub(crate) fn refuse_values(&self) -> usize {
        discard_each(self.inbox.refuse_values())
    }

    /// Wakes from other threads go nowhere from here on. Must come before the ring closes.
    pub(crate) fn close_inbox(&self) {
        if !self.inbox_closed.replace(true) {
            self.inbox.refuse_jobs().into_iter().for_each(unwind::discard);
            self.refuse_values();
            self.inbox.close(self.root.id().cell(), self.arena.numbers());
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.close_inbox();
        self.arena.close();
    }
}

fn discard_each<T>(values: Vec<T>) -> usize {
    let count = values.len();
    // Each by itself: two destructors that panic at a time would end the process.
    values.into_iter().for_each(unwind::discard);
    count
}

/// Restores the executor that this thread was in before.
pub(crate) struct Entered {
    before: *const Executor,
    /// Keeps what `LOCAL` points to.
    _executor: Rc<Executor>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        LOCAL.set(self.before);
    }
}

/// Gives the executor that this thread is in to a function. `None`: it is in none.
#[inline(always)]
pub(crate) fn with_local<T>(function: impl FnOnce(&Executor) -> T) -> Option<T> {
    let local = LOCAL.get();
    // SAFETY: the `Entered` that set the pointer keeps the executor. Those guards are dropped in
    // the reverse order of their making, at the ends of `block_on` and of a runtime's shutdown,
    // neither of which `function` outlives.
    unsafe { local.as_ref() }.map(function)
}

/// Wakes a task from any thread: a queue push on the thread that is in its runtime, else a letter
/// to its inbox.
fn wake(id: TaskId) {
    if with_local(|executor| executor.wake(id)) != Some(true) {
        inbox::deliver(id);
    }
}

/// Wakes, without a detour through the waker's table if the waker is one of ours.
#[inline]
pub(crate) fn wake_by_ref(waker: &Waker) {
    match TaskId::of(waker) {
        Some(id) => wake(id),
        None => waker.wake_by_ref(),
    }
}

#[cfg(test)]
mod tests;
