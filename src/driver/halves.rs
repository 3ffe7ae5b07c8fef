//! How do the two completions of a zero-copy send become one? The slot keeps the first until the second comes.
//!
//! Such a send has a result, and then a notification that nothing reads its memory any more. Only both together are its last completion, of
//! which the rest of the driver speaks.

use std::mem;
use std::task::Waker;

use super::{Deliveries, Driver, State, Token};
use crate::ring::{COMPLETION_COPIED, COMPLETION_MORE, COMPLETION_NOTIFICATION, Completion};

/// Which completion of a zero-copy send has come, with its result? All other operations never leave the first state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Neither,
    /// The result. The operation is over but for its memory, so there is nothing left to cancel.
    Result(i32),
    /// The notification, which the kernel is not known to send first.
    Notification(i32),
}

impl Driver {
    /// Keeps one half, or completes the slot with both. A half that is there already is extra, as is any for a slot that has finished.
    #[cold]
    pub(super) fn complete_half(&mut self, token: Token, completion: Completion, deliveries: &mut Deliveries) {
        let came = match completion.flags & COMPLETION_NOTIFICATION {
            0 => Half::Result(completion.result),
            _ => Half::Notification(completion.result),
        };
        let slot = self.slot(token);
        let before = mem::replace(&mut slot.half, came);
        let (result, report) = match (&slot.state, before, came) {
            (State::Finished { .. }, ..) => {
                self.counters.stale_completions.add(1);
                return;
            }
            (_, Half::Result(result), Half::Notification(report)) | (_, Half::Notification(report), Half::Result(result)) => {
                (result, report)
            }
            (_, Half::Neither, _) => return self.came_early(token, completion, deliveries),
            _ => {
                slot.half = before;
                self.counters.stale_completions.add(1);
                return;
            }
        };
        // The whole is not a further completion.
        self.counters.completions.remove_one();
        self.complete(Completion { token: token.0, result, flags: report as u32 & COMPLETION_COPIED }, deliveries);
    }

    /// With the result, others may have their turn, and the descriptor may be closed.
    fn came_early(&mut self, token: Token, completion: Completion, deliveries: &mut Deliveries) {
        let slot = self.slot(token);
        match &mut slot.state {
            State::Waiting(waker) if matches!(slot.half, Half::Result(_)) => {
                deliveries.wakers.push(mem::replace(waker, Waker::noop().clone()));
            }
            State::Orphaned(orphan) if matches!(slot.half, Half::Result(_)) => deliveries.let_go.extend(orphan.let_go(completion)),
            _ => {}
        }
    }

    /// The result of a zero-copy send whose notification is still to come.
    pub(crate) fn early_result(&self, token: Token) -> Option<Completion> {
        match self.slots.get(token)?.half {
            Half::Result(result) => Some(Completion { token: token.0, result, flags: COMPLETION_MORE }),
            Half::Neither | Half::Notification(_) => None,
        }
    }
}
