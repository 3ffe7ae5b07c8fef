//! The mailbox of a runtime: closures that any thread posts and the runtime's thread runs, and
//! values that any thread gives back and the runtime's thread drops.
//!
//! They lie in the inbox beside the wakes. A mailbox belongs to one runtime. A later runtime in the
//! same cell of the inbox has another one, so no closure runs where it was not meant to.

use super::inbox::{Inbox, Job, Returned};

/// Where to post closures for one runtime.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mailbox {
    inbox: &'static Inbox,
    /// How often the cell had been opened when this runtime had opened it.
    opening: u64,
}

impl Mailbox {
    /// The mailbox of the runtime that has the inbox now.
    pub(super) fn of(inbox: &'static Inbox) -> Mailbox {
        Mailbox { inbox, opening: inbox.opening() }
    }

    /// Has the closure run in a turn of the runtime's loop, and ends the loop's wait. Closures run
    /// in the order in which they were posted.
    ///
    /// # Errors
    /// The closure, if the runtime ends or has ended. One that was posted before and has not run by
    /// then is dropped on the runtime's thread.
    pub(crate) fn post(&self, job: Job) -> Result<(), Job> {
        self.inbox.post(self.opening, job)
    }

    /// Has the runtime's thread drop a value, in its next turn or at the end of the runtime, and
    /// ends the loop's wait.
    ///
    /// # Errors
    /// The value, if the runtime has ended.
    pub(super) fn give_back(&self, value: Returned) -> Result<(), Returned> {
        self.inbox.give_back(self.opening, value)
    }
}
