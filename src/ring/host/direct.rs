//! Who makes transfers that go around the page cache? The kernel by itself: io_submit(2), which hands them to the device and does not wait.
//!
//! They are collected until the next wait, or until there are several, and handed over in one call; an eventfd says when some have ended. The
//! kernel is asked not to wait for anything but the device; what it cannot do so comes back, and is for a worker. Nothing here can be stopped
//! once it has been handed over.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use slab::Slab;

use crate::ring::sqe::Request;
use crate::ring::user::{self, ControlBlock, Transfers};
use crate::ring::world::{Abort, Key};
use crate::threads;

/// Most transfers at a time; more are for workers. What a context has room for counts against a limit of the machine's, fs.aio-max-nr.
const CAPACITY: usize = 256;

/// So many are handed over before the next wait, so that the device need not stand still until all are collected.
const BATCH: usize = 8;

#[derive(Debug)]
pub(super) struct Direct {
    context: Context,
    event: Arc<File>,
    /// Those that have not ended, by the number that they are known under.
    calls: Slab<(Key, Request)>,
    /// Those of them that have not been handed over.
    collected: Vec<ControlBlock>,
}

#[derive(Debug)]
enum Context {
    /// Nobody has needed one yet.
    Unasked,
    /// The kernel has no such calls, a filter forbids them, or there are too many contexts.
    Refused,
    Open(Transfers),
}

/// What the kernel did not do.
pub(super) struct Returned {
    pub(super) key: Key,
    pub(super) request: Request,
    /// It never does so with such a file.
    pub(super) for_good: bool,
}

impl Direct {
    /// `event` is written to whenever a transfer has ended.
    pub(super) fn new(event: Arc<File>) -> Direct {
        Direct { context: Context::Unasked, event, calls: Slab::new(), collected: Vec::new() }
    }

    /// Takes on a transfer. `false`: it is for a worker.
    pub(super) fn take_on(&mut self, key: Key, request: &Request) -> bool {
        let Some(block) = user::control_block(request, self.event.as_raw_fd(), self.calls.vacant_key()) else { return false };
        if let Context::Unasked = self.context {
            self.context = Transfers::open(CAPACITY).map_or(Context::Refused, Context::Open);
        }
        if matches!(self.context, Context::Refused) || self.calls.len() >= CAPACITY {
            return false;
        }
        self.calls.insert((key, request.clone()));
        self.collected.push(block);
        true
    }

    /// Has enough been collected to hand it over already?
    pub(super) fn is_a_batch(&self) -> bool {
        self.collected.len() >= BATCH
    }

    /// Hands over what has been collected.
    #[inline]
    pub(super) fn submit(&mut self, give_back: impl FnMut(Returned)) {
        if !self.collected.is_empty() {
            self.submit_each(give_back);
        }
    }

    fn submit_each(&mut self, mut give_back: impl FnMut(Returned)) {
        let Context::Open(context) = &mut self.context else { return };
        let mut blocks = &mut self.collected[..];
        while !blocks.is_empty() {
            let taken = match context.submit(blocks) {
                // The first of them is refused, and the others have not been looked at.
                Err(errno) => {
                    let (key, request) = self.calls.remove(blocks[0].number());
                    give_back(Returned { key, request, for_good: errno == libc::EOPNOTSUPP });
                    1
                }
                Ok(taken) => taken,
            };
            blocks = &mut blocks[taken..];
        }
        self.collected.clear();
    }

    /// Hands the result of each transfer that has ended to `take`, unless the kernel has not done it.
    #[inline]
    pub(super) fn collect(&mut self, take: impl FnMut(Key, i32), give_back: impl FnMut(Returned)) {
        if self.calls.len() > self.collected.len() {
            self.collect_each(take, give_back);
        }
    }

    fn collect_each(&mut self, mut take: impl FnMut(Key, i32), mut give_back: impl FnMut(Returned)) {
        let Context::Open(context) = &mut self.context else { return };
        context.ended(|number, result| {
            let (key, request) = self.calls.remove(number);
            match -result {
                libc::EAGAIN | libc::EOPNOTSUPP => give_back(Returned { key, request, for_good: result == -libc::EOPNOTSUPP }),
                _ => take(key, result),
            }
        });
    }

    /// `None`: it is none of these transfers.
    pub(super) fn abort(&mut self, key: Key) -> Option<Abort> {
        let number = self.calls.iter().find(|(_, (other, _))| *other == key)?.0;
        let Some(place) = self.collected.iter().position(|block| block.number() == number) else { return Some(Abort::Running) };
        self.collected.remove(place);
        self.calls.remove(number);
        Some(Abort::Stopped)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // On a thread, since it takes long. What is in flight the owner of the ring has waited for, or has given up and keeps its memory.
        if let Context::Open(context) = std::mem::replace(&mut self.context, Context::Refused)
            && threads::are_granted()
        {
            blocking::unblock(move || drop(context)).detach();
        }
    }
}
