//! The two completions of a zero-copy send, which become one: the slot keeps the first until the
//! second comes.
//!
//! Such a send has a result, and then a notification that nothing reads its memory any more. Only
//! both together are its last completion, of which the rest of the driver speaks.

use std::mem;
use std::task::Waker;

use super::deliveries::Deliveries;
use super::{Driver, SlotState, Token};
use crate::ring::{COMPLETION_COPIED, COMPLETION_MORE, COMPLETION_NOTIFICATION, Completion};

/// Which completion of a zero-copy send has come, with its result? All other operations never leave
/// the first state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroCopySend {
    Neither,
    /// The result. The operation is over but for its memory, so there is nothing left to cancel.
    Result(i32),
    /// The notification, which the kernel is not known to send first.
    Notification(i32),
}

impl Driver {
    /// Keeps the first completion, or ends the slot with both. One that has come already is stale,
    /// as is any for a slot that has finished.
    #[cold]
    pub(super) fn complete_zero_copy(
        &mut self,
        token: Token,
        completion: Completion,
        deliveries: &mut Deliveries,
    ) {
        let came = match completion.flags & COMPLETION_NOTIFICATION {
            0 => ZeroCopySend::Result(completion.result),
            _ => ZeroCopySend::Notification(completion.result),
        };
        let slot = self.slot(token);
        let before = mem::replace(&mut slot.zero_copy, came);
        let (result, report) = match (&slot.state, before, came) {
            (SlotState::Finished { .. }, ..) => {
                self.counters.stale_completions.add(1);
                return;
            }
            (_, ZeroCopySend::Result(result), ZeroCopySend::Notification(report))
            | (_, ZeroCopySend::Notification(report), ZeroCopySend::Result(result)) => {
                (result, report)
            }
            (_, ZeroCopySend::Neither, _) => return self.came_early(token, completion, deliveries),
            _ => {
                slot.zero_copy = before;
                self.counters.stale_completions.add(1);
                return;
            }
        };
        // The whole is not a further completion.
        self.counters.completions.remove_one();
        self.complete(
            Completion { token: token.0, result, flags: report as u32 & COMPLETION_COPIED },
            deliveries,
        );
    }

    /// With the result, others may have their turn, and the descriptor may be closed.
    fn came_early(&mut self, token: Token, completion: Completion, deliveries: &mut Deliveries) {
        let slot = self.slot(token);
        match &mut slot.state {
            SlotState::Waiting(waker) if matches!(slot.zero_copy, ZeroCopySend::Result(_)) => {
                deliveries.wakers.push(mem::replace(waker, Waker::noop().clone()));
            }
            SlotState::Orphaned(orphan) if matches!(slot.zero_copy, ZeroCopySend::Result(_)) => {
                deliveries.let_go.extend(orphan.let_go(completion))
            }
            _ => {}
        }
    }

    /// The result of a zero-copy send whose notification is still to come.
    pub(crate) fn early_result(&self, token: Token) -> Option<Completion> {
        match self.slots.get(token)?.zero_copy {
            ZeroCopySend::Result(result) => {
                Some(Completion { token: token.0, result, flags: COMPLETION_MORE })
            }
            ZeroCopySend::Neither | ZeroCopySend::Notification(_) => None,
        }
    }
}
