//! Children whose `Child` was dropped while they ran: somebody takes their status when they end.
//!
//! A task of the runtime waits for each. If the runtime ends before, or there is none, a thread
//! does.

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::op::process::child_has_ended;
use crate::runtime;
use crate::sys;

/// Children that wait for a thread to wait for them.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn left() -> MutexGuard<'static, Vec<Child>> {
    // Nothing under the lock panics.
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the status of a child when it ends.
pub(super) fn adopt(child: Child) {
    let mut orphan = Orphan(Some(child));
    if orphan.has_gone() || runtime::try_current().is_none() {
        return;
    }
    drop(runtime::spawn(async move {
        if let Some(child) = &orphan.0 {
            // Whatever it says, the child itself is asked.
            let _ = child_has_ended(child.id()).await;
        }
        orphan.has_gone();
    }));
}

/// Takes the status of those that had no thread to wait for them, where they have ended.
pub(super) fn sweep() {
    left().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// A child that nobody else waits for. Dropped before its end, it goes to a thread.
struct Orphan(Option<Child>);

impl Orphan {
    /// Takes the status if there is one, or finds that somebody else has taken it.
    fn has_gone(&mut self) -> bool {
        if self.0.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.0 = None;
        }
        self.0.is_none()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if self.has_gone() {
            return;
        }
        left().extend(self.0.take());
        // Without a thread it stays in the list, until somebody sweeps.
        sys::run_on_own_thread("annulus-reap", || {
            let child = left().pop();
            if let Some(mut child) = child {
                let _ = child.wait();
            }
        });
    }
}
