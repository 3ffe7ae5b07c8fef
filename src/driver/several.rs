//! What has a multishot operation brought that its future has not taken? One table for all of them, and one of what waits.
//!
//! A multishot operation waits for most of its life, so it takes a few words, and what it brings lies in places that all share: as numbers,
//! since each arrival becomes a chunk in the hands of its future. The pool is told at once that the buffer has left the ring, and where
//! buffers are scarce the bytes are copied then, so an arrival that waits never keeps a buffer that others need.
//!
//! # Safety
//! Multishot operations name no memory, but buffers of the pool, which the driver keeps until the ring is gone. The descriptor is kept by the
//! stream, then by its heir. Each completion comes here once, and no other ring takes buffers of the pool.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::iter;
use std::mem;
use std::rc::Rc;
use std::task::Waker;

use io_uring::squeue;
use slab::Slab;

use super::{Deliveries, Driver, Heir, State, Token};
use crate::buf::{Chunk, ChunkPool, ChunkPoolConfig, ChunkPoolCounts};
use crate::ring::Completion;

/// The group of the runtime's buffers, for entries that take one: there is only one.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// When what comes has to be copied, a multishot operation is stopped with that many completions waiting: its future does not keep up.
const LIMIT_WHEN_SCARCE: u32 = 4;

/// One completion of a multishot operation.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) completion: Completion,
    /// The buffer that it took, which goes back when this is dropped.
    pub(crate) chunk: Option<Chunk>,
}

/// A multishot operation between its start and its last completion, and until the last has been taken.
struct Several {
    waker: Waker,
    /// The last that waits, which is followed by the first.
    last: u32,
    waiting: u32,
    /// With that many waiting, the operation is to be stopped.
    limit: u32,
}

/// A completion that waits to be taken. A buffer that it names is in no chunk yet, and is not in the ring.
struct Waiting {
    result: i32,
    flags: u32,
    /// The next in the ring of those that wait for the same.
    next: u32,
}

/// All multishot operations of a driver whose futures are there.
#[derive(Default)]
pub(super) struct Multishots {
    several: Slab<Several>,
    waiting: Slab<Waiting>,
    /// The chunks of those that came when buffers were scarce, by their places.
    spared: HashMap<u32, Chunk>,
}

impl Multishots {
    fn start(&mut self, waker: Waker, limit: u32) -> u32 {
        self.several.insert(Several { waker, last: 0, waiting: 0, limit }) as u32
    }

    /// Keeps a completion. Returns who is to be woken, if this is the first that waits, and whether the operation is to be stopped: its own
    /// limit is reached, or that of all.
    #[inline]
    fn put(&mut self, at: u32, completion: Completion, spared: Option<Chunk>, limit_of_all: u32) -> (Option<Waker>, bool) {
        let Completion { result, flags, .. } = completion;
        let several = &mut self.several[at as usize];
        let entry = self.waiting.vacant_entry();
        let place = entry.key() as u32;
        entry.insert(Waiting { result, flags, next: place });
        let waker = if several.waiting == 0 {
            Some(mem::replace(&mut several.waker, Waker::noop().clone()))
        } else {
            let last = &mut self.waiting[several.last as usize];
            let first = mem::replace(&mut last.next, place);
            self.waiting[place as usize].next = first;
            None
        };
        if let Some(chunk) = spared {
            self.spared.insert(place, chunk);
        }
        several.last = place;
        several.waiting += 1;
        (waker, several.waiting >= several.limit.min(limit_of_all))
    }

    /// What came first, if anything waits.
    #[inline]
    fn take(&mut self, at: u32, token: Token, pool: Option<&Rc<ChunkPool>>) -> Option<Arrival> {
        let several = &mut self.several[at as usize];
        if several.waiting == 0 {
            return None;
        }
        several.waiting -= 1;
        let mut place = several.last;
        if several.waiting > 0 {
            place = self.waiting[several.last as usize].next;
            self.waiting[several.last as usize].next = self.waiting[place as usize].next;
        }
        let Waiting { result, flags, .. } = self.waiting.remove(place as usize);
        let completion = Completion { token: token.0, result, flags };
        let spared = if self.spared.is_empty() { None } else { self.spared.remove(&place) };
        // SAFETY: the pool was told when the completion came, and it is taken out of its place once.
        let chunk = spared.or_else(|| completion.buffer().zip(pool).map(|(id, pool)| unsafe { pool.chunk_of(id, length(completion)) }));
        Some(Arrival { completion, chunk })
    }

    #[inline]
    fn waits_for(&self, at: u32) -> &Waker {
        &self.several[at as usize].waker
    }

    /// Replaces the waker of one for which nothing waits; else the given one comes back.
    #[inline]
    pub(super) fn set_waker(&mut self, at: u32, waker: Waker) -> (Waker, bool) {
        let several = &mut self.several[at as usize];
        match several.waiting {
            0 => (mem::replace(&mut several.waker, waker), true),
            _ => (waker, false),
        }
    }

    /// Frees the place of an operation, and returns all that waited, and the waker, to be dropped where user code may run.
    fn remove(&mut self, at: u32, token: Token, pool: Option<&Rc<ChunkPool>>) -> (Vec<Arrival>, Waker) {
        let arrivals = iter::from_fn(|| self.take(at, token, pool)).collect();
        (arrivals, self.several.remove(at as usize).waker)
    }
}

/// How many bytes a completion has brought.
#[inline]
fn length(completion: Completion) -> usize {
    usize::try_from(completion.result).unwrap_or(0)
}

impl Driver {
    /// As [`start`](Driver::start), for a multishot operation that names no memory. When `limit` completions wait, it is cancelled.
    ///
    /// # Safety
    /// The descriptor in the entry stays open until the last completion: the future keeps it, and then the heir.
    pub(crate) unsafe fn start_several(&mut self, entry: squeue::Entry, waker: Waker, limit: u32) -> Token {
        let at = self.multishots.start(waker, limit);
        let token = self.occupy(|| State::Several { at, ended: false });
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
        self.multishots.remove(at, token, self.pool.as_ref())
    }

    /// Takes the next completion of a multishot operation, with whose last the slot is freed.
    #[inline]
    pub(crate) fn take_arrival(&mut self, token: Token) -> Option<Arrival> {
        let State::Several { at, .. } = self.slot(token).state else { unreachable!("its future is here and asks") };
        let arrival = self.multishots.take(at, token, self.pool.as_ref())?;
        if arrival.completion.is_last() {
            self.slots.remove(token);
            self.multishots.several.remove(at as usize);
        }
        Some(arrival)
    }

    /// Is this the waker that the next completion of a multishot operation wakes?
    #[inline]
    pub(crate) fn awaits_arrival_with(&mut self, token: Token, waker: &Waker) -> bool {
        match self.slot(token).state {
            State::Several { at, .. } => self.multishots.waits_for(at).will_wake(waker),
            _ => false,
        }
    }

    /// Keeps a completion of a multishot operation for its future.
    #[inline]
    pub(super) fn complete_several(&mut self, token: Token, at: u32, completion: Completion, deliveries: &mut Deliveries) {
        let mut limit = u32::MAX;
        let mut spared = None;
        if let Some((id, pool)) = completion.buffer().zip(self.pool.as_ref()) {
            if !pool.count_taken(length(completion)) {
                // SAFETY: the pool has been told, and the chunk takes the place of what the completion says.
                spared = Some(pool.spare(unsafe { pool.chunk_of(id, length(completion)) }));
            }
            if pool.is_scarce() {
                limit = LIMIT_WHEN_SCARCE;
            }
        }
        let (waker, is_full) = self.multishots.put(at, completion, spared, limit);
        if let Some(waker) = waker {
            deliveries.wakers.push(waker);
        }
        if completion.is_last() {
            self.in_flight -= 1;
        } else if is_full {
            self.cancel(token);
        }
    }

    /// Hands a completion of a multishot operation whose future is gone to the heir.
    pub(super) fn complete_inherited(&mut self, token: Token, heir: Rc<dyn Heir>, completion: Completion, deliveries: &mut Deliveries) {
        deliveries.inherited.push_back((heir, self.arrival(completion)));
        if completion.is_last() {
            // The heir lives on among the deliveries, so no user code runs here.
            self.slots.remove(token);
            self.in_flight -= 1;
        }
    }

    /// A completion together with the buffer that it took, which goes back when this is dropped.
    pub(super) fn arrival(&self, completion: Completion) -> Arrival {
        // SAFETY: the ring takes buffers of no other pool, and a completion comes here once.
        let chunk = completion.buffer().zip(self.pool.as_ref()).map(|(id, pool)| unsafe { pool.chunk(id, length(completion)) });
        Arrival { completion, chunk }
    }

    /// The runtime's pool of buffers, which is made when it is asked for first.
    ///
    /// # Errors
    /// `ECANCELED` once the ring is closed; want of memory.
    pub(crate) fn pool(&mut self, config: ChunkPoolConfig) -> io::Result<&Rc<ChunkPool>> {
        let Some(ring) = &mut self.ring else { return Err(io::Error::from_raw_os_error(libc::ECANCELED)) };
        match &mut self.pool {
            Some(pool) => Ok(pool),
            none => {
                let pool = ChunkPool::new(config)?;
                // SAFETY: the pool keeps the memory until `close_ring` has dropped the ring, or forgotten it; then the pool is leaked.
                unsafe { ring.provide(BUFFER_GROUP, pool.ring()) };
                Ok(none.insert(pool))
            }
        }
    }

    pub(crate) fn pool_counts(&self) -> ChunkPoolCounts {
        self.pool.as_ref().map_or_else(ChunkPoolCounts::default, |pool| pool.counts())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_operation_gets_its_own_completions_in_order_however_they_share_places(
            steps in proptest::collection::vec((0..3u32, 0..4u8), 0..200),
        ) {
            let mut multishots = Multishots::default();
            let tokens: Vec<u32> = (0..3).map(|_| multishots.start(Waker::noop().clone(), 5)).collect();
            let mut model = [const { VecDeque::new() }; 3];
            for (number, (which, action)) in (0..).zip(steps) {
                let (at, expected) = (tokens[which as usize], &mut model[which as usize]);
                if action == 0 {
                    let taken = multishots.take(at, Token(0), None);
                    prop_assert_eq!(taken.map(|arrival| arrival.completion.result), expected.pop_front());
                } else {
                    // Every third comes as from a pool that is short of buffers.
                    let spared = (action == 1).then(|| Chunk::copied(&[number as u8]));
                    let (waker, is_full) = multishots.put(at, Completion { token: 0, result: number, flags: 0 }, spared, u32::MAX);
                    prop_assert_eq!(waker.is_some(), expected.is_empty());
                    expected.push_back(number);
                    prop_assert_eq!(is_full, expected.len() >= 5);
                }
            }
            for (at, expected) in tokens.into_iter().zip(model) {
                let (rest, _) = multishots.remove(at, Token(0), None);
                let rest: Vec<i32> = rest.iter().map(|arrival| arrival.completion.result).collect();
                prop_assert_eq!(rest, Vec::from(expected));
            }
            prop_assert!(multishots.waiting.is_empty() && multishots.several.is_empty() && multishots.spared.is_empty());
        }
    }

    #[test]
    fn a_chunk_that_was_spared_comes_with_its_completion() {
        let mut multishots = Multishots::default();
        let at = multishots.start(Waker::noop().clone(), u32::MAX);
        let completion = |result| Completion { token: 0, result, flags: 0 };
        multishots.put(at, completion(1), None, u32::MAX);
        multishots.put(at, completion(2), Some(Chunk::copied(b"two")), u32::MAX);
        multishots.put(at, completion(3), None, u32::MAX);
        let mut take = || multishots.take(at, Token(0), None).and_then(|arrival| arrival.chunk);
        assert_eq!((take(), take(), take()), (None, Some(Chunk::copied(b"two")), None));
    }
}
