//! What has a multishot operation brought that its future has not taken? One table for all of them, and one of what waits.
//!
//! A multishot operation waits for most of its life, so it takes a few words, and what it brings lies in places that all share. A completion
//! that took a buffer is a chunk from the moment on at which it is seen, so wherever it is dropped its buffer goes back.
//!
//! # Safety
//! Multishot operations name no memory, but buffers of the pool, which the driver keeps until the ring is gone. The descriptor is kept by the
//! stream, then by its heir. Each completion comes here once, and no other ring takes buffers of the pool.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::rc::Rc;
use std::task::Waker;

use io_uring::squeue;
use slab::Slab;

use super::{Deliveries, Driver, Found, Heir, State, Token};
use crate::buf::{Chunk, Pool, PoolConfig, PoolCounts};
use crate::ring::Completion;

/// The group of the runtime's buffers, for entries that take one: there is only one.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// When what comes has to be copied, a multishot operation is stopped with that many completions waiting: its future does not keep up.
const LIMIT_WHEN_SCARCE: u32 = 4;

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

impl Driver {
    /// As [`start`](Driver::start), for a multishot operation that names no memory. When `limit` completions wait, it is cancelled.
    ///
    /// # Safety
    /// The descriptor in the entry stays open until the last completion: the future keeps it, and then the heir.
    pub(crate) unsafe fn start_several(&mut self, entry: squeue::Entry, waker: Waker, limit: u32) -> Token {
        let at = self.multishots.start(waker, limit);
        let token = self.occupy(State::Several { at, ended: false });
        self.queue(&entry.user_data(token.0));
        token
    }

    /// The future of a multishot operation goes away. Returns what has arrived, and the waker that waited; what still comes goes to the heir.
    pub(crate) fn bequeath(&mut self, token: Token, heir: Rc<dyn Heir>) -> (Vec<Arrival>, Waker) {
        let State::Several { at, ended } = self.slot(token).state else {
            unreachable!("only the future of a multishot operation bequeaths")
        };
        if ended {
            self.slots.remove(token);
        } else {
            self.counters.orphaned += 1;
            self.cancel(token);
            self.slot(token).state = State::Inherited(heir);
        }
        self.multishots.remove(at)
    }

    /// Takes the next completion of a multishot operation, with whose last the slot is freed.
    #[inline]
    pub(crate) fn take_arrival(&mut self, token: Token, waker: &Waker) -> Found<Arrival> {
        let State::Several { at, .. } = self.slot(token).state else { unreachable!("its future is here and asks") };
        match self.multishots.take(at) {
            Some(arrival) => {
                if arrival.completion.is_last() {
                    self.slots.remove(token);
                    self.multishots.remove(at);
                }
                Found::Completion(arrival)
            }
            None if self.multishots.waits_for(at).will_wake(waker) => Found::Nothing,
            None => Found::OtherWaker,
        }
    }

    /// Keeps a completion of a multishot operation for its future, or hands it to the heir.
    pub(super) fn complete_several(&mut self, token: Token, completion: Completion, deliveries: &mut Deliveries) {
        let arrival = self.arrival(completion);
        let last = completion.is_last();
        match &mut self.slot(token).state {
            State::Several { ended: true, .. } => {
                self.counters.stale += 1;
                return;
            }
            State::Several { at, ended } => {
                *ended = last;
                let at = *at;
                let limit = if self.pool.as_ref().is_some_and(|pool| pool.is_scarce()) { LIMIT_WHEN_SCARCE } else { u32::MAX };
                let (waker, full) = self.multishots.put(at, arrival, limit);
                if let Some(waker) = waker {
                    deliveries.wakers.push(waker);
                }
                if full && !last {
                    self.cancel(token);
                }
            }
            State::Inherited(heir) => {
                deliveries.inherited.push_back((Rc::clone(heir), arrival));
                if last {
                    // The heir lives on among the deliveries, so no user code runs here.
                    self.slots.remove(token);
                }
            }
            _ => unreachable!("whoever calls has looked"),
        }
        if last {
            self.in_flight -= 1;
        }
    }

    /// A completion together with the buffer that it took, which goes back when this is dropped.
    pub(super) fn arrival(&self, completion: Completion) -> Arrival {
        let pool = self.pool.as_ref();
        let length = usize::try_from(completion.result).unwrap_or(0);
        // SAFETY: the ring takes buffers of no other pool, and a completion comes here once.
        let chunk = completion.buffer().zip(pool).map(|(id, pool)| unsafe { pool.chunk(id, length) });
        Arrival { completion, chunk }
    }

    /// The runtime's pool of buffers, which is made when it is asked for first.
    ///
    /// # Errors
    /// `ECANCELED` once the ring is closed; want of memory.
    pub(crate) fn pool(&mut self, config: PoolConfig) -> io::Result<&Rc<Pool>> {
        let Some(ring) = &mut self.ring else { return Err(io::Error::from_raw_os_error(libc::ECANCELED)) };
        match &mut self.pool {
            Some(pool) => Ok(pool),
            none => {
                let pool = Pool::new(config)?;
                // SAFETY: the pool keeps the memory until `close_ring` has dropped the ring, or forgotten it; then the pool is leaked.
                unsafe { ring.provide(BUFFER_GROUP, pool.ring()) };
                Ok(none.insert(pool))
            }
        }
    }

    pub(crate) fn pool_counts(&self) -> PoolCounts {
        self.pool.as_ref().map_or_else(PoolCounts::default, |pool| pool.counts())
    }
}
