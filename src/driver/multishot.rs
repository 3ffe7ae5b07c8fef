//! The completions of multishot operations that their futures have not taken: one table for all.
//!
//! A multishot operation waits for most of its life, so it takes no more than its slot, and what it
//! brings lies in places that all share: as numbers, since each arrival becomes a chunk in the
//! hands of its future. The pool is told at once that the buffer has left the ring, and where
//! buffers are scarce the bytes are copied then, so an arrival that waits never keeps a buffer that
//! others need.
//!
//! # Safety
//! Multishot operations name no memory, but buffers of the pool, which the driver keeps until the
//! ring is gone. The descriptor is kept by the stream, then by its successor. Each completion comes
//! here once, and no other ring takes buffers of the pool.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::iter;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use io_uring::squeue;
use slab::Slab;

use super::deliveries::{Arrival, Deliveries, Successor};
use super::slots::Slots;
use super::{Driver, Slot, SlotState, Token};
use crate::buf::{Chunk, ChunkPool, ChunkPoolConfig};
use crate::ring::Completion;

/// The group of the runtime's buffers, for entries that take one: there is only one.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// When what comes has to be copied, a multishot operation is stopped with that many completions
/// waiting: its future does not keep up.
const LIMIT_WHEN_SCARCE: u32 = 4;

/// A multishot operation between its start and its last completion, and until the last has been
/// taken.
pub(super) struct Multishot {
    /// `None` while something waits.
    waker: Option<Waker>,
    /// The place of the last that waits, which is followed by the first, or `NOWHERE`.
    last: u32,
    /// How many more may wait until the operation is to be stopped. Once it is being stopped,
    /// nobody asks any more.
    room: u16,
    /// The last completion has come.
    pub(super) ended: bool,
}

/// There are never that many places: each would hold a completion.
const NOWHERE: u32 = u32::MAX;

const _: () =
    assert!(size_of::<SlotState>() <= 24, "an idle connection takes a slot, and little else");

/// What the first that waits is.
enum Front {
    /// Nothing waits.
    Nothing,
    /// Bytes in a buffer of the pool.
    Bytes { id: u16, length: usize },
    /// An end, an error, a copy, or the last completion.
    Other,
}

/// A completion that waits to be taken. A buffer that it names is in no chunk yet, and is not in
/// the ring.
#[derive(Clone, Copy)]
struct Waiting {
    result: i32,
    flags: u32,
    /// The next in the ring of those that wait for the same.
    next: u32,
}

/// What multishot operations have brought and their futures have not taken.
#[derive(Default)]
pub(super) struct Unclaimed {
    waiting: Slab<Waiting>,
    /// The chunks that were made at once since buffers were scarce, by their places.
    early_chunks: HashMap<u32, Chunk>,
}

impl Multishot {
    fn new(waker: Waker, limit: u16) -> Multishot {
        Multishot { waker: Some(waker), last: NOWHERE, room: limit, ended: false }
    }

    pub(super) fn will_wake(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|waiting| waiting.will_wake(waker))
    }

    /// Replaces the waker of one for which nothing waits; else the given one comes back.
    #[inline]
    pub(super) fn set_waker(&mut self, waker: Waker) -> (Option<Waker>, bool) {
        match self.last {
            NOWHERE => (self.waker.replace(waker), true),
            _ => (Some(waker), false),
        }
    }
}

impl Unclaimed {
    /// Keeps a completion. Returns who is to be woken, if this is the first that waits.
    #[inline]
    fn put(
        &mut self,
        multishot: &mut Multishot,
        completion: Completion,
        early_chunk: Option<Chunk>,
    ) -> Option<Waker> {
        let Completion { result, flags, .. } = completion;
        let entry = self.waiting.vacant_entry();
        let place = entry.key() as u32;
        entry.insert(Waiting { result, flags, next: place });
        if let Some(chunk) = early_chunk {
            self.early_chunks.insert(place, chunk);
        }
        multishot.room = multishot.room.saturating_sub(1);
        let last = mem::replace(&mut multishot.last, place);
        if last == NOWHERE {
            return multishot.waker.take();
        }
        let first = mem::replace(&mut self.waiting[last as usize].next, place);
        self.waiting[place as usize].next = first;
        None
    }

    /// Do at least so many wait?
    fn holds(&self, multishot: &Multishot, count: u32) -> bool {
        let next = |place: &u32| {
            Some(self.waiting[*place as usize].next).filter(|next| *next != multishot.last)
        };
        multishot.last != NOWHERE
            && iter::successors(Some(multishot.last), next).take(count as usize).count()
                == count as usize
    }

    /// Takes what came first, if that is bytes in a buffer and more will come.
    #[inline]
    fn take_bytes(&mut self, multishot: &mut Multishot) -> Front {
        if multishot.last == NOWHERE {
            return Front::Nothing;
        }
        let place = self.waiting[multishot.last as usize].next;
        let Waiting { result, flags, next } = self.waiting[place as usize];
        let completion = Completion { token: 0, result, flags };
        match completion.buffer() {
            Some(id) if result > 0 && !completion.is_last() && self.early_chunks.is_empty() => {
                multishot.room = multishot.room.saturating_add(1);
                self.unlink(multishot, place, next);
                Front::Bytes { id, length: result as usize }
            }
            _ => Front::Other,
        }
    }

    /// Takes the first out of the ring of those that wait.
    #[inline]
    fn unlink(&mut self, multishot: &mut Multishot, place: u32, next: u32) {
        self.waiting.remove(place as usize);
        if place == multishot.last {
            multishot.last = NOWHERE;
        } else {
            self.waiting[multishot.last as usize].next = next;
        }
    }

    /// What came first, if anything waits.
    #[inline]
    fn take(
        &mut self,
        multishot: &mut Multishot,
        token: Token,
        pool: Option<&Rc<ChunkPool>>,
    ) -> Option<Arrival> {
        if multishot.last == NOWHERE {
            return None;
        }
        multishot.room = multishot.room.saturating_add(1);
        let place = self.waiting[multishot.last as usize].next;
        let Waiting { result, flags, next } = self.waiting[place as usize];
        self.unlink(multishot, place, next);
        let completion = Completion { token: token.0, result, flags };
        let early_chunk =
            if self.early_chunks.is_empty() { None } else { self.early_chunks.remove(&place) };
        let chunk = early_chunk.or_else(|| {
            let (id, pool) = completion.buffer().zip(pool)?;
            // SAFETY: the pool was told when the completion came, and it is taken out of its place
            // once.
            Some(unsafe { pool.chunk_of(id, length(completion)) })
        });
        Some(Arrival { completion, chunk })
    }
}

/// A multishot operation, in its slot.
#[inline]
fn multishot(slots: &mut Slots<Slot>, token: Token) -> &mut Multishot {
    match slots.get_mut(token).map(|slot| &mut slot.state) {
        Some(SlotState::Multishot(multishot)) => multishot,
        _ => unreachable!(
            "its future has not given the token back, nor has its last completion been taken"
        ),
    }
}

/// How many bytes a completion has brought.
#[inline]
fn length(completion: Completion) -> usize {
    usize::try_from(completion.result).unwrap_or(0)
}

impl Driver {
    /// As [`start`](Driver::start), for a multishot operation that names no memory. When `limit`
    /// completions wait, it is cancelled.
    ///
    /// # Safety
    /// The descriptor in the entry stays open until the last completion: the future keeps it, and
    /// then the successor.
    pub(crate) unsafe fn start_multishot(
        &mut self,
        entry: squeue::Entry,
        waker: Waker,
        limit: u16,
    ) -> Token {
        let token = self.occupy(|| SlotState::Multishot(Multishot::new(waker, limit)));
        self.queue(entry.user_data(token.0));
        token
    }

    /// The future of a multishot operation goes away. Returns what has arrived, and the waker that
    /// waited. What still comes goes to the successor.
    pub(crate) fn hand_over(
        &mut self,
        token: Token,
        successor: Rc<dyn Successor>,
    ) -> (Vec<Arrival>, Option<Waker>) {
        let arrivals = iter::from_fn(|| self.take_any(token)).collect();
        let multishot = multishot(&mut self.slots, token);
        let (waker, ended) = (multishot.waker.take(), multishot.ended);
        if ended {
            self.slots.remove(token);
        } else {
            self.counters.orphaned.add(1);
            self.cancel(token);
            self.slot(token).state = SlotState::HandedOver(successor);
        }
        (arrivals, waker)
    }

    /// The short way to what [`take_arrival`](Driver::take_arrival) takes: bytes in a buffer of the
    /// pool, as a chunk, with more to come. `Pending`: nothing waits, and `own`, which is the
    /// `waker` if that is one of ours, is woken when something comes. `None`: it takes the long
    /// way.
    #[inline]
    pub(crate) fn poll_bytes(
        &mut self,
        token: Token,
        waker: &Waker,
        own: Option<Waker>,
    ) -> Poll<Option<Chunk>> {
        let multishot = multishot(&mut self.slots, token);
        match self.unclaimed.take_bytes(multishot) {
            Front::Bytes { id, length } => {
                // SAFETY: the pool was told when the completion came, and it has been taken once.
                Poll::Ready(self.pool.as_ref().map(|pool| unsafe { pool.chunk_of(id, length) }))
            }
            Front::Nothing if multishot.will_wake(waker) => Poll::Pending,
            Front::Nothing if multishot.waker.is_none() && own.is_some() => {
                multishot.waker = own;
                Poll::Pending
            }
            Front::Nothing | Front::Other => Poll::Ready(None),
        }
    }

    /// Takes the next completion of a multishot operation, with whose last the slot is freed.
    #[inline]
    pub(crate) fn take_arrival(&mut self, token: Token) -> Option<Arrival> {
        let arrival = self.take_any(token)?;
        if arrival.completion.is_last() {
            self.slots.remove(token);
        }
        Some(arrival)
    }

    #[inline]
    fn take_any(&mut self, token: Token) -> Option<Arrival> {
        self.unclaimed.take(multishot(&mut self.slots, token), token, self.pool.as_ref())
    }

    /// Keeps a completion of a multishot operation for its future.
    #[inline]
    pub(super) fn complete_multishot(
        &mut self,
        token: Token,
        completion: Completion,
        deliveries: &mut Deliveries,
    ) {
        let mut is_scarce = false;
        let mut early_chunk = None;
        if let Some((id, pool)) = completion.buffer().zip(self.pool.as_ref()) {
            if !pool.count_taken(length(completion)) {
                // SAFETY: the pool has been told, and the chunk takes the place of what the
                // completion says.
                early_chunk =
                    Some(pool.grow_or_copy(unsafe { pool.chunk_of(id, length(completion)) }));
            }
            is_scarce = pool.is_scarce();
        } else if completion.result == -libc::ENOBUFS
            && let Some(pool) = &self.pool
        {
            // Its future starts it anew, when there are some again.
            pool.exhausted();
        }
        let multishot = multishot(&mut self.slots, token);
        if let Some(waker) = self.unclaimed.put(multishot, completion, early_chunk) {
            deliveries.wakers.push(waker);
        }
        let is_full =
            multishot.room == 0 || is_scarce && self.unclaimed.holds(multishot, LIMIT_WHEN_SCARCE);
        if completion.is_last() {
            multishot.ended = true;
            self.in_flight -= 1;
        } else if is_full {
            self.cancel(token);
        }
    }

    /// Hands a completion of a multishot operation whose future is gone to the successor.
    pub(super) fn complete_handed_over(
        &mut self,
        token: Token,
        successor: Rc<dyn Successor>,
        completion: Completion,
        deliveries: &mut Deliveries,
    ) {
        deliveries.handed_over.push_back((successor, self.arrival(completion)));
        if completion.is_last() {
            // The successor lives on among the deliveries, so no user code runs here.
            self.slots.remove(token);
            self.in_flight -= 1;
        }
    }

    /// A completion together with the buffer that it took, which goes back when this is dropped.
    pub(super) fn arrival(&self, completion: Completion) -> Arrival {
        // SAFETY: the ring takes buffers of no other pool, and a completion comes here once.
        let chunk = completion
            .buffer()
            .zip(self.pool.as_ref())
            .map(|(id, pool)| unsafe { pool.chunk(id, length(completion)) });
        Arrival { completion, chunk }
    }

    /// The runtime's pool of buffers, which is made when it is asked for first.
    ///
    /// # Errors
    /// `ECANCELED` once the ring is closed; want of memory.
    pub(crate) fn pool(&mut self, config: ChunkPoolConfig) -> io::Result<&Rc<ChunkPool>> {
        let Some(ring) = &mut self.ring else {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        };
        match &mut self.pool {
            Some(pool) => Ok(pool),
            none => {
                let pool = ChunkPool::new(config, Arc::clone(&self.counters))?;
                // SAFETY: the pool keeps the memory until `close_ring` has dropped the ring, or
                // forgotten it; then the pool is leaked.
                unsafe { ring.provide(BUFFER_GROUP, pool.ring()) };
                Ok(none.insert(pool))
            }
        }
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
            let mut unclaimed = Unclaimed::default();
            let mut multishots: [Multishot; 3] = std::array::from_fn(|_| Multishot::new(Waker::noop().clone(), 5));
            let mut model = [const { VecDeque::new() }; 3];
            let mut is_stopped = [false; 3];
            for (number, (which, action)) in (0..).zip(steps) {
                let (multishot, expected) = (&mut multishots[which as usize], &mut model[which as usize]);
                if action == 0 {
                    let taken = unclaimed.take(multishot, Token(0), None);
                    prop_assert_eq!(taken.map(|arrival| arrival.completion.result), expected.pop_front());
                } else {
                    // Every third comes as from a pool that is short of buffers.
                    let early_chunk = (action == 1).then(|| Chunk::copied(&[number as u8]));
                    drop(multishot.set_waker(Waker::noop().clone()));
                    let waker = unclaimed.put(multishot, Completion { token: 0, result: number, flags: 0 }, early_chunk);
                    prop_assert_eq!(waker.is_some(), expected.is_empty());
                    expected.push_back(number);
                    prop_assert!(is_stopped[which as usize] || multishot.room as usize == 5 - expected.len());
                    is_stopped[which as usize] |= expected.len() >= 5;
                }
                for count in 1..7 {
                    prop_assert_eq!(unclaimed.holds(multishot, count), expected.len() >= count as usize);
                }
            }
            for (mut multishot, expected) in multishots.into_iter().zip(model) {
                let rest: Vec<i32> = iter::from_fn(|| unclaimed.take(&mut multishot, Token(0), None)).map(|arrival| arrival.completion.result).collect();
                prop_assert_eq!(rest, Vec::from(expected));
            }
            prop_assert!(unclaimed.waiting.is_empty() && unclaimed.early_chunks.is_empty());
        }
    }

    #[test]
    fn a_chunk_that_was_made_at_once_comes_with_its_completion() {
        let mut unclaimed = Unclaimed::default();
        let mut multishot = Multishot::new(Waker::noop().clone(), u16::MAX);
        let completion = |result| Completion { token: 0, result, flags: 0 };
        unclaimed.put(&mut multishot, completion(1), None);
        unclaimed.put(&mut multishot, completion(2), Some(Chunk::copied(b"two")));
        unclaimed.put(&mut multishot, completion(3), None);
        let mut take =
            || unclaimed.take(&mut multishot, Token(0), None).and_then(|arrival| arrival.chunk);
        assert_eq!((take(), take(), take()), (None, Some(Chunk::copied(b"two")), None));
    }
}
