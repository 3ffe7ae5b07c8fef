//! What the connections of one server share: its options, its counts, and whether it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::options::Options;

/// What a server has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests whose heads were complete.
    pub requests: u64,
    /// Panics of services and of the bodies of responses.
    pub panics: u64,
    /// Connections that were closed since a head was not complete in time, or a response not taken.
    pub timed_out: u64,
    /// Accepts that failed, for example for want of descriptors.
    pub failed_accepts: u64,
    /// Connections that were under way when the time for a graceful shutdown was up.
    pub cut: u64,
}

/// The state of a server.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) served: Cell<Served>,
    /// Connections.
    open: Cell<usize>,
    /// Who waits for a place among them.
    entrance: Cell<Option<Waker>>,
    is_ending: Cell<bool>,
    /// The tasks of connections, which are told of the end.
    told: RefCell<Slab<Waker>>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Rc<Shared> {
        Rc::new(Shared {
            options,
            served: Cell::default(),
            open: Cell::new(0),
            entrance: Cell::default(),
            is_ending: Cell::new(false),
            told: RefCell::default(),
        })
    }

    /// Counts something.
    pub(super) fn count(&self, what: impl FnOnce(&mut Served)) {
        let mut served = self.served.get();
        what(&mut served);
        self.served.set(served);
    }

    /// Waits for a place among the connections.
    pub(super) fn poll_permit(self: &Rc<Shared>, context: &mut Context<'_>) -> Poll<Permit> {
        if self.open.get() >= self.options.max_connections {
            self.entrance.set(Some(context.waker().clone()));
            return Poll::Pending;
        }
        self.open.set(self.open.get() + 1);
        Poll::Ready(Permit { shared: Rc::clone(self) })
    }

    /// The server ends: tells all connections.
    pub(super) fn end(&self) {
        self.is_ending.set(true);
        let told: Vec<Waker> = self.told.borrow_mut().drain().collect();
        told.into_iter().for_each(Waker::wake);
    }
}

/// A place among the connections.
pub(super) struct Permit {
    shared: Rc<Shared>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get() - 1);
        if let Some(waiter) = self.shared.entrance.take() {
            waiter.wake();
        }
    }
}

/// A connection's wait for the end of its server.
pub(super) struct Ending {
    shared: Rc<Shared>,
    key: Option<usize>,
}

impl Ending {
    pub(super) fn of(shared: &Rc<Shared>) -> Ending {
        Ending { shared: Rc::clone(shared), key: None }
    }

    /// Does the server end? If not, the task is woken when it does. Always polled by one task.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.is_ending.get() {
            self.key = None;
            return Poll::Ready(());
        }
        if self.key.is_none() {
            self.key = Some(self.shared.told.borrow_mut().insert(context.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // At the end the table was emptied.
        if let Some(key) = self.key
            && !self.shared.is_ending.get()
        {
            self.shared.told.borrow_mut().remove(key);
        }
    }
}
