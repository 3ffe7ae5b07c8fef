//! The inbox of a runtime, through which wakes, closures and values come from other threads.
//!
//! The cells of inboxes are never freed, so a waker may use one at any time. A cell is open while
//! its runtime lives. A wake costs a system call only if the runtime is parked. That call is made
//! under the cell's lock. So it never meets a ring or an eventfd that has been closed, and whose
//! number somebody else has.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::arena::Numbers;
use super::waker::{CELLS, TaskId};
use crate::ring::Unparker;

/// From this many waiting wakes on, doubles are thrown out before more memory is taken: a stuck
/// runtime cannot be flooded.
const DOUBLES_ALLOWED: usize = 1024;

/// Most closures that run at one look. A closure may start a task, which starts another and waits
/// for it: three polls. A look is followed by eight, so such tasks do not pile up in front of
/// others, however many closures come.
const MOST_JOBS: usize = 2;

/// A closure for the thread of a runtime. What it starts there has to report its own end: a panic
/// in the closure itself ends only the closure, and nobody is told.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A value that other threads had, and that only the owner's thread may drop.
pub(super) type Returned = Box<dyn Send>;

/// No task and no root has this number.
const NONE: u64 = 0;

static INBOXES: [OnceLock<Inbox>; CELLS] = [const { OnceLock::new() }; CELLS];
static UNUSED: Mutex<Unused> = Mutex::new(Unused { returned: Vec::new(), never_used: 0 });

/// Which cells no runtime has now, and what was numbered for them.
struct Unused {
    returned: Vec<(u16, Numbers)>,
    never_used: usize,
}

/// One runtime's mailbox for wakes. It is aligned so that what a single wake of a busy runtime
/// touches lies on one line of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Inbox {
    /// The first letter since the owner's last look as a number, `NONE` if there is none. It is
    /// usually the only one, and needs no lock.
    first: AtomicU64,
    /// Whether `letters` may hold more, readable without the lock.
    pending: AtomicBool,
    /// Whether the owner is in a wait, or about to be, from which only the unparker brings it back.
    parked: AtomicBool,
    letters: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    /// `None`: closed, nobody reads here.
    unparker: Option<Unparker>,
    woken: Vec<TaskId>,
    /// Closures in the order in which they were posted.
    jobs: VecDeque<Job>,
    /// Values to be dropped, in the order in which they came back.
    returned: Vec<Returned>,
    /// How often the cell was opened. Who posts names the opening that he means.
    openings: u64,
    /// The runtime takes closures. Not any more once it ends.
    takes_jobs: bool,
    /// The runtime takes values back, until it has nothing left to wait for.
    takes_values: bool,
    /// The length at which doubles are thrown out next, if that is more than `DOUBLES_ALLOWED`.
    tidy_at: usize,
}

/// Takes an unused cell and opens it. What was numbered for it before comes with it, since wakers
/// of then may still come.
pub(super) fn open(unparker: Unparker) -> io::Result<(u16, Numbers, &'static Inbox)> {
    let mut unused = lock(&UNUSED);
    let (cell, numbers) = match unused.returned.pop() {
        Some(returned) => returned,
        None if unused.never_used < CELLS => {
            unused.never_used += 1;
            ((unused.never_used - 1) as u16, Numbers::default())
        }
        None => {
            return Err(io::Error::other(format!(
                "{CELLS} runtimes are alive in this process, which is the most"
            )));
        }
    };
    drop(unused);
    let inbox = INBOXES[cell as usize].get_or_init(Inbox::default);
    let mut letters = lock(&inbox.letters);
    letters.unparker = Some(unparker);
    letters.openings += 1;
    letters.takes_jobs = true;
    letters.takes_values = true;
    drop(letters);
    Ok((cell, numbers, inbox))
}

/// Puts a wake into its runtime's inbox, and ends that runtime's wait if it is in one. Does nothing
/// once the runtime has gone.
pub(super) fn deliver(id: TaskId) {
    if let Some(inbox) = INBOXES[id.cell() as usize].get() {
        inbox.deliver(id);
    }
}

impl Inbox {
    fn deliver(&self, id: TaskId) {
        if self.first.compare_exchange(NONE, id.number(), SeqCst, Relaxed).is_ok() {
            if self.parked.load(SeqCst) {
                self.kick(&lock(&self.letters));
            }
            return;
        }
        let mut letters = lock(&self.letters);
        if letters.unparker.is_some() {
            letters.add(id);
            self.pending.store(true, SeqCst);
            self.kick(&letters);
        }
    }

    /// Ends the owner's wait, if it is in one.
    fn kick(&self, letters: &Letters) {
        if let Some(unparker) = &letters.unparker
            && self.parked.swap(false, SeqCst)
            && !unparker.unpark()
        {
            // Nobody has ended the wait, so the next wake must try.
            self.parked.store(true, SeqCst);
        }
    }

    /// May there be something to take?
    #[inline]
    pub(super) fn has_letters(&self) -> bool {
        self.first.load(SeqCst) != NONE || self.pending.load(SeqCst)
    }

    /// How often the cell has been opened.
    pub(super) fn opening(&self) -> u64 {
        lock(&self.letters).openings
    }

    /// Adds a closure for the owner of that opening, and ends its wait if it is in one.
    ///
    /// # Errors
    /// The closure, if that owner takes none any more.
    pub(super) fn post(&self, opening: u64, job: Job) -> Result<(), Job> {
        let mut letters = lock(&self.letters);
        if letters.openings != opening || !letters.takes_jobs {
            return Err(job);
        }
        letters.jobs.push_back(job);
        self.pending.store(true, SeqCst);
        self.kick(&letters);
        Ok(())
    }

    /// Adds a value for the owner of that opening to drop, and ends its wait if it is in one.
    ///
    /// # Errors
    /// The value, if that owner drops none any more.
    pub(super) fn give_back(&self, opening: u64, value: Returned) -> Result<(), Returned> {
        let mut letters = lock(&self.letters);
        if letters.openings != opening || !letters.takes_values {
            return Err(value);
        }
        letters.returned.push(value);
        self.pending.store(true, SeqCst);
        self.kick(&letters);
        Ok(())
    }

    /// Takes the values that have come back, outside of the loop.
    pub(super) fn take_returned(&self) -> Vec<Returned> {
        mem::take(&mut lock(&self.letters).returned)
    }

    /// Refuses values from here on, and returns those that have come back.
    pub(super) fn refuse_values(&self) -> Vec<Returned> {
        let mut letters = lock(&self.letters);
        letters.takes_values = false;
        mem::take(&mut letters.returned)
    }

    /// Refuses closures from here on, and returns those that have not run.
    pub(super) fn refuse_jobs(&self) -> VecDeque<Job> {
        let mut letters = lock(&self.letters);
        letters.takes_jobs = false;
        mem::take(&mut letters.jobs)
    }

    /// Moves the wakes that have come into `into`, and returns the closures that are to run now,
    /// and the values that have come back.
    pub(super) fn take(&self, into: &mut Vec<TaskId>) -> (Vec<Job>, Vec<Returned>) {
        let first = self.first.load(Acquire);
        if first != NONE {
            // While there is a letter nobody else writes here, so this need not be one step with
            // the look.
            self.first.store(NONE, Release);
            into.push(TaskId::from_number(first));
        }
        if self.pending.load(SeqCst) {
            let mut letters = lock(&self.letters);
            into.append(&mut letters.woken);
            letters.tidy_at = 0;
            let count = letters.jobs.len().min(MOST_JOBS);
            let jobs = letters.jobs.drain(..count).collect();
            self.pending.store(!letters.jobs.is_empty(), SeqCst);
            return (jobs, mem::take(&mut letters.returned));
        }
        (Vec::new(), Vec::new())
    }

    /// Announces a wait. `false`: something has come, so do not wait.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, SeqCst);
        if self.has_letters() {
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
    pub(super) fn close(&self, cell: u16, numbers: Numbers) {
        let mut letters = lock(&self.letters);
        letters.unparker = None;
        letters.woken = Vec::new();
        self.pending.store(false, SeqCst);
        // A late letter may still come. The next owner of the cell finds the task that it fits, if
        // there is one, and wakes that once too often.
        self.first.store(NONE, SeqCst);
        drop(letters);
        lock(&UNUSED).returned.push((cell, numbers));
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters")
            .field("woken", &self.woken)
            .field("jobs", &self.jobs.len())
            .field("returned", &self.returned.len())
            .finish_non_exhaustive()
    }
}

impl Letters {
    fn add(&mut self, id: TaskId) {
        if self.woken.last() == Some(&id) {
            return;
        }
        if self.woken.len() >= self.tidy_at.max(DOUBLES_ALLOWED) {
            self.woken.sort_unstable();
            self.woken.dedup();
            self.tidy_at = 2 * self.woken.len();
        }
        self.woken.push(id);
    }
}

/// A panic while one of these locks is held is a bug of this file and leaves consistent data behind
/// all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::exec::mailbox::Mailbox;

    const THREADS: u32 = 3;
    /// An interpreter that checks every access takes its time.
    #[cfg(miri)]
    const LETTERS: u32 = 50;
    #[cfg(not(miri))]
    const LETTERS: u32 = 20_000;

    fn open_here() -> (u16, &'static Inbox) {
        let null = File::options().write(true).open("/dev/null").expect("it is always there");
        let (cell, _, inbox) = open(Unparker::Event(Arc::new(null))).expect("a cell");
        (cell, inbox)
    }

    fn id(cell: u16, number: u32) -> TaskId {
        TaskId::new(cell, 0, 128, number)
    }

    fn take(inbox: &Inbox) -> Vec<TaskId> {
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        taken
    }

    #[test]
    fn letters_come_in_order_and_none_comes_to_a_closed_cell() {
        let (cell, inbox) = open_here();
        assert!(!inbox.has_letters());
        for number in [5, 6, 6, 7] {
            deliver(id(cell, number));
        }
        assert!(inbox.has_letters());
        assert_eq!(take(inbox), [5, 6, 7].map(|number| id(cell, number)));
        assert!(!inbox.has_letters());
        assert_eq!(take(inbox), []);
        deliver(id(cell, 8));
        assert!(!inbox.park(), "a letter keeps the owner from parking");
        deliver(id(cell, 9));
        inbox.close(cell, Numbers::default());
        assert!(!inbox.has_letters());
    }

    #[test]
    fn closures_come_in_order_and_a_bounded_number_at_a_time_and_only_to_the_opening_that_was_meant()
     {
        let (cell, inbox) = open_here();
        let mailbox = Mailbox::of(inbox);
        let ran = Arc::new(Mutex::new(Vec::new()));
        let posted = 2 * MOST_JOBS + 1;
        for number in 0..posted {
            let ran = Arc::clone(&ran);
            assert!(mailbox.post(Box::new(move || lock(&ran).push(number))).is_ok());
        }
        while inbox.has_letters() {
            assert!(!inbox.park(), "a closure keeps the owner from parking");
            let (jobs, _) = inbox.take(&mut Vec::new());
            assert!((1..=MOST_JOBS).contains(&jobs.len()));
            jobs.into_iter().for_each(|job| job());
        }
        assert_eq!(*lock(&ran), Vec::from_iter(0..posted));
        assert!(mailbox.post(Box::new(|| {})).is_ok());
        assert_eq!(inbox.refuse_jobs().len(), 1);
        assert!(mailbox.post(Box::new(|| {})).is_err());
        inbox.close(cell, Numbers::default());
        // Another thread may have opened it meanwhile, but that makes no difference.
        let (cell, again) = open_here();
        assert!(mailbox.post(Box::new(|| {})).is_err(), "that owner has gone");
        again.close(cell, Numbers::default());
    }

    #[test]
    fn of_letters_from_many_threads_none_is_lost() {
        let (cell, inbox) = open_here();
        let mut seen = BTreeSet::new();
        thread::scope(|scope| {
            for first in 0..THREADS {
                scope.spawn(move || {
                    (0..LETTERS).for_each(|number| deliver(id(cell, number * THREADS + first)))
                });
            }
            while seen.len() < (THREADS * LETTERS) as usize {
                seen.extend(take(inbox));
            }
        });
        assert!(!inbox.has_letters());
        inbox.close(cell, Numbers::default());
    }
}
