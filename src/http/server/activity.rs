//! What a connection is doing, as its requests, its responses and its transport tell.

use std::cell::Cell;
use std::rc::Rc;

/// Whom a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the head of a request: the first, or one of which bytes have come.
    Head,
    /// For the next request.
    Idle,
    /// For a service, or for the stream behind a response. It may take as long as it likes.
    Working,
    /// For the peer to take a response.
    Replying,
    /// For the peer to see that the connection has ended.
    Ending,
}

/// The notes of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// Exchanges that wait for the program.
    working: Cell<u32>,
    /// Exchanges that wait for the peer.
    replying: Cell<u32>,
    /// Requests so far.
    requests: Cell<u64>,
    /// Bytes have come that belong to no exchange yet.
    has_head: Cell<bool>,
    /// Heads have no beginning that can be seen: HTTP/2.
    is_multiplexed: Cell<bool>,
    /// Something moved since the last look.
    has_moved: Cell<bool>,
    /// All that was written has been taken from the transport.
    is_flushed: Cell<bool>,
    /// The latest request had a body, so its rest may still come.
    has_body: Cell<bool>,
    is_ending: Cell<bool>,
}

impl Activity {
    pub(super) fn new() -> Activity {
        Activity {
            working: Cell::new(0),
            replying: Cell::new(0),
            requests: Cell::new(0),
            has_head: Cell::new(false),
            is_multiplexed: Cell::new(false),
            has_moved: Cell::new(true),
            is_flushed: Cell::new(true),
            has_body: Cell::new(false),
            is_ending: Cell::new(false),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        if self.is_ending.get() {
            Phase::Ending
        } else if self.working.get() > 0 {
            Phase::Working
        } else if self.replying.get() > 0 {
            Phase::Replying
        } else if self.has_head.get() || (self.requests.get() == 0 && !self.is_multiplexed.get()) {
            Phase::Head
        } else if !self.is_flushed.get() {
            Phase::Replying
        } else {
            Phase::Idle
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Did bytes of a head come that has no end yet?
    pub(super) fn has_head(&self) -> bool {
        self.has_head.get()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.get()
    }

    /// May more come that nobody will read?
    pub(super) fn has_unread(&self) -> bool {
        self.has_head.get() || self.has_body.get()
    }

    /// Has something moved since the last call?
    pub(super) fn take_moved(&self) -> bool {
        self.has_moved.take()
    }

    pub(super) fn multiplex(&self) {
        self.is_multiplexed.set(true);
    }

    pub(super) fn end(&self) {
        self.is_ending.set(true);
    }

    /// The transport was read.
    pub(super) fn received(&self) {
        self.has_moved.set(true);
        if !self.is_multiplexed.get() && self.working.get() == 0 && self.replying.get() == 0 {
            self.has_head.set(true);
        }
    }

    /// The transport took bytes, or had no room for them.
    pub(super) fn wrote(&self, some: bool) {
        self.is_flushed.set(false);
        if some {
            self.has_moved.set(true);
        }
    }

    /// The transport has passed everything on, or not yet.
    pub(super) fn flushed(&self, all: bool) {
        self.is_flushed.set(all);
    }
}

/// A request with its response, from the end of its head to the end of its response.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Rc<Activity>,
    /// It waits for the peer, and not for the program.
    is_replying: bool,
}

impl Exchange {
    pub(super) fn begin(activity: &Rc<Activity>, has_body: bool) -> Exchange {
        activity.has_head.set(false);
        activity.has_moved.set(true);
        activity.has_body.set(has_body);
        activity.requests.set(activity.requests.get() + 1);
        activity.working.set(activity.working.get() + 1);
        Exchange { activity: Rc::clone(activity), is_replying: false }
    }

    /// It waits for the peer from now on, or for the program.
    pub(super) fn waits_for_peer(&mut self, is_replying: bool) {
        self.activity.has_moved.set(true);
        if self.is_replying != is_replying {
            self.counter().set(self.counter().get() - 1);
            self.is_replying = is_replying;
            self.counter().set(self.counter().get() + 1);
        }
    }

    fn counter(&self) -> &Cell<u32> {
        if self.is_replying { &self.activity.replying } else { &self.activity.working }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.has_moved.set(true);
        self.counter().set(self.counter().get() - 1);
    }
}
