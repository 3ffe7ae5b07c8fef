//! How long may a stream that always has an item keep the others waiting?

use std::task::{Context, Poll};

/// Most items that one future hands over without a wait. Then its task lets the others run, and the loop turn.
const ITEMS: u8 = 128;

/// What is left of the items that a future may hand over one after the other.
#[derive(Debug)]
pub(crate) struct Budget(u8);

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

impl Budget {
    /// A full one.
    pub(crate) const fn new() -> Budget {
        Budget(ITEMS)
    }

    /// To be asked before an item is taken. `Pending`: nothing is left. The task is woken, and has a full budget then.
    #[inline]
    pub(crate) fn spend(&mut self, context: &Context<'_>) -> Poll<()> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Poll::Ready(())
            }
            None => self.yield_once(context),
        }
    }

    /// The future waits anyway.
    #[inline]
    pub(crate) fn refill(&mut self) {
        self.0 = ITEMS;
    }

    #[cold]
    fn yield_once(&mut self, context: &Context<'_>) -> Poll<()> {
        self.refill();
        super::wake_by_ref(context.waker());
        Poll::Pending
    }
}
