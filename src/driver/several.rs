//! What has a multishot operation brought that its future has not taken? One table for all of them, and one of what waits.
//!
//! A multishot operation waits for most of its life, so it takes a few words, and what it brings lies in places that all share. A completion
//! that took a buffer is a chunk from the moment on at which it is seen, so wherever it is dropped its buffer goes back.

use std::mem;
use std::task::Waker;

use slab::Slab;

use crate::buf::Chunk;
use crate::ring::Completion;

/// The end of a list.
const NOTHING: u32 = u32::MAX;

/// One completion of a multishot operation.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) completion: Completion,
    /// The buffer that it took.
    pub(crate) chunk: Option<Chunk>,
}

/// A multishot operation between its start and its last completion, and until the last has been taken.
struct Several {
    waker: Waker,
    first: u32,
    last: u32,
    waiting: u32,
    /// With that many waiting, the operation is to be stopped.
    limit: u32,
}

struct Waiting {
    arrival: Arrival,
    next: u32,
}

/// All multishot operations of a driver whose futures are there.
#[derive(Default)]
pub(super) struct Multishots {
    several: Slab<Several>,
    waiting: Slab<Waiting>,
}

impl Multishots {
    pub(super) fn start(&mut self, waker: Waker, limit: u32) -> u32 {
        self.several.insert(Several { waker, first: NOTHING, last: NOTHING, waiting: 0, limit }) as u32
    }

    /// Keeps an arrival. Returns who is to be woken, if this is the first that waits, and whether the operation is to be stopped: its own limit
    /// is reached, or that of all.
    pub(super) fn put(&mut self, at: u32, arrival: Arrival, limit_of_all: u32) -> (Option<Waker>, bool) {
        let place = self.waiting.insert(Waiting { arrival, next: NOTHING }) as u32;
        let several = &mut self.several[at as usize];
        let waker = if several.first == NOTHING {
            several.first = place;
            Some(mem::replace(&mut several.waker, Waker::noop().clone()))
        } else {
            self.waiting[several.last as usize].next = place;
            None
        };
        several.last = place;
        several.waiting += 1;
        (waker, several.waiting >= several.limit.min(limit_of_all))
    }

    /// What came first, if anything waits.
    pub(super) fn take(&mut self, at: u32) -> Option<Arrival> {
        let several = &mut self.several[at as usize];
        if several.first == NOTHING {
            return None;
        }
        let Waiting { arrival, next } = self.waiting.remove(several.first as usize);
        several.first = next;
        several.waiting -= 1;
        Some(arrival)
    }

    pub(super) fn waits_for(&self, at: u32) -> &Waker {
        &self.several[at as usize].waker
    }

    /// Replaces the waker of one for which nothing waits; else the given one comes back.
    pub(super) fn set_waker(&mut self, at: u32, waker: Waker) -> (Waker, bool) {
        let several = &mut self.several[at as usize];
        match several.first {
            NOTHING => (mem::replace(&mut several.waker, waker), true),
            _ => (waker, false),
        }
    }

    /// Frees the place of an operation, and returns all that waited, and the waker, to be dropped where user code may run.
    pub(super) fn remove(&mut self, at: u32) -> (Vec<Arrival>, Waker) {
        let mut arrivals = Vec::new();
        while let Some(arrival) = self.take(at) {
            arrivals.push(arrival);
        }
        (arrivals, self.several.remove(at as usize).waker)
    }
}
