//! The budget of a stream that always has an item: after so many it lets the others run.

use std::task::{Context, Poll};

/// Most items that one future hands over without a wait. Then its task lets the others run, and the
/// loop turn.
const ITEMS: u8 = 128;

/// What is left of the items that a future may hand over one after the other.
#[derive(Debug)]
pub(crate) struct Budget(u8);

/// A full one.
impl Default for Budget {
    fn default() -> Budget {
        Budget(ITEMS)
    }
}

impl Budget {
    /// To be asked before an item is taken. `Pending`: nothing is left. The task is woken, and has
    /// a full budget then.
    #[inline]
    pub(crate) fn spend(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.take() { Poll::Ready(()) } else { yield_once(context) }
    }

    /// As [`spend`](Budget::spend), for those who may not run user code now. `false`: nothing was
    /// left; [`yield_once`] is to be called.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => {
                self.refill();
                false
            }
        }
    }

    /// Is nothing left?
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// The future waits anyway.
    #[inline]
    pub(crate) fn refill(&mut self) {
        self.0 = ITEMS;
    }
}

/// Wakes the task, which lets others run first.
#[cold]
pub(crate) fn yield_once(context: &Context<'_>) -> Poll<()> {
    super::wake_by_ref(context.waker());
    Poll::Pending
}
