//! How does a wake reach a runtime from another thread? Through the runtime's inbox cell.
//!
//! Cells are never freed, so a waker may come at any time from anywhere. A cell is open while its runtime lives. Only a parked runtime
//! costs the waker a system call, and that call is made under the cell's lock, so it never meets a ring or eventfd number that has been
//! closed and given to somebody else.

use std::io;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::waker::{CELLS, TaskId};
use crate::ring::Unparker;

/// From this many waiting wakes on, doubles are thrown out before more memory is taken: a stuck runtime cannot be flooded.
const DOUBLES_ALLOWED: usize = 1024;

static INBOXES: [OnceLock<Inbox>; CELLS] = [const { OnceLock::new() }; CELLS];
static UNUSED: Mutex<Unused> = Mutex::new(Unused { returned: Vec::new(), never_used: 0 });

/// Which cells no runtime has now.
struct Unused {
    returned: Vec<u16>,
    never_used: usize,
}

/// One runtime's mailbox for wakes.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Whether `letters` may hold something, readable without the lock.
    pending: AtomicBool,
    /// Whether the owner is in a wait, or about to be, from which only the unparker brings it back.
    parked: AtomicBool,
    letters: Mutex<Letters>,
}

#[derive(Debug)]
struct Letters {
    /// `None`: closed, nobody reads here.
    unparker: Option<Unparker>,
    woken: Vec<TaskId>,
    /// The length at which doubles are thrown out next.
    tidy_at: usize,
}

/// Takes an unused cell and opens it.
pub(crate) fn open(unparker: Unparker) -> io::Result<(u16, &'static Inbox)> {
    let mut unused = lock(&UNUSED);
    let cell = match unused.returned.pop() {
        Some(cell) => cell,
        None if unused.never_used < CELLS => {
            unused.never_used += 1;
            (unused.never_used - 1) as u16
        }
        None => return Err(io::Error::other(format!("{CELLS} runtimes are alive in this process, which is the most"))),
    };
    drop(unused);
    let inbox = INBOXES[cell as usize].get_or_init(|| Inbox {
        pending: AtomicBool::new(false),
        parked: AtomicBool::new(false),
        letters: Mutex::new(Letters { unparker: None, woken: Vec::new(), tidy_at: DOUBLES_ALLOWED }),
    });
    lock(&inbox.letters).unparker = Some(unparker);
    Ok((cell, inbox))
}

/// Puts a wake into its runtime's inbox, and ends that runtime's wait if it is in one. Does nothing once the runtime has gone.
pub(super) fn deliver(id: TaskId) {
    if let Some(inbox) = INBOXES[id.cell() as usize].get() {
        inbox.deliver(id);
    }
}

impl Inbox {
    fn deliver(&self, id: TaskId) {
        let mut letters = lock(&self.letters);
        if letters.unparker.is_none() {
            return;
        }
        letters.add(id);
        self.pending.store(true, SeqCst);
        if self.parked.swap(false, SeqCst)
            && let Some(unparker) = &letters.unparker
            && !unparker.unpark()
        {
            // Nobody has ended the wait, so the next wake must try.
            self.parked.store(true, SeqCst);
        }
    }

    /// May there be something to take?
    #[inline]
    pub(super) fn has_letters(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Moves what has come into `into`.
    pub(super) fn take(&self, into: &mut Vec<TaskId>) {
        let mut letters = lock(&self.letters);
        self.pending.store(false, SeqCst);
        into.append(&mut letters.woken);
        letters.tidy_at = DOUBLES_ALLOWED;
    }

    /// Announces a wait. `false`: something has come, so do not wait.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, SeqCst);
        if self.pending.load(SeqCst) {
            self.parked.store(false, SeqCst);
            return false;
        }
        true
    }

    /// The wait is over.
    pub(crate) fn unpark(&self) {
        // Whoever sees this late sends a kick for nothing; nobody rests on seeing it early.
        self.parked.store(false, Relaxed);
    }

    /// Closes the cell: from here on wakes are dropped, and nobody kicks the ring any more.
    pub(super) fn close(&self, cell: u16) {
        let mut letters = lock(&self.letters);
        letters.unparker = None;
        letters.woken = Vec::new();
        self.pending.store(false, SeqCst);
        drop(letters);
        lock(&UNUSED).returned.push(cell);
    }
}

impl Letters {
    fn add(&mut self, id: TaskId) {
        if self.woken.last() == Some(&id) {
            return;
        }
        if self.woken.len() >= self.tidy_at {
            self.woken.sort_unstable();
            self.woken.dedup();
            self.tidy_at = (2 * self.woken.len()).max(DOUBLES_ALLOWED);
        }
        self.woken.push(id);
    }
}

/// A panic while one of these locks is held is a bug of this file and leaves consistent data behind all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
