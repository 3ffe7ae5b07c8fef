//! The buffers of one runtime: which are lent to the ring, which are in chunks, which are idle, and
//! how many there are.
//!
//! ```text
//!         lend                 a receive takes it              last chunk dropped
//!  (idle) ────▶ (in the ring) ────────────────▶ (in a chunk) ───────────────▶ (in the ring), or idle
//! ```
//! The ring takes buffers in turn, so all that it has pass through the processor's caches. It gets
//! a few more than one turn takes, and they come from the end of the idle list, where those stand
//! that were used last: so a loop goes on with the same few, however many there are.
//!
//! The pool counts the buffers that are in no chunk itself, so it knows without asking when they
//! run short: with less than a quarter of those in circulation left it doubles them, up to a bound,
//! and at the bound it copies what comes and takes the buffer back at once. So at least a quarter
//! is always there for the next receive, whatever becomes of the chunks, and nobody ever waits for
//! a buffer. When half of them have not been needed for a while, half of those beyond the first go
//! out of circulation, and their memory goes back to the system: they are the first of the idle
//! list.
//!
//! The pool belongs to one thread. It knows no operation and no task, and runs no user code.
//!
//! # Safety
//! The pool owns its arena, together with the chunks that are left when it goes. A buffer is in one
//! of the three places above, and which one is counted here: it is lent only when no chunk of it
//! exists, and a chunk of it is made only by the completion that says it was taken.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use super::Chunk;
use super::buffer_ring::{BufferRing, MOST_ENTRIES};
use super::chunk::MOST_BYTES;
use super::chunk_arena::ChunkArena;
use crate::counters::Counters;

/// Bytes of a buffer by default. One receive fills one buffer at the most, so this is the largest
/// piece in which a stream comes. Buffers that are only partly filled cost no more than the lines
/// that are touched.
const DEFAULT_SIZE: usize = 16 * 1024;
/// Buffers by default, at first and at most.
const DEFAULT_COUNTS: (usize, usize) = (256, 1024);
/// Smallest buffer: that of a datagram begins with its address.
const FEWEST_BYTES: usize = 64;

/// The part of the buffers in circulation that must stay in the ring.
const SCARCE_PART: usize = 4;
/// When at least half of the buffers were in the ring at so many returns in a row, for each buffer,
/// they are more than needed.
const QUIET_ROUNDS: usize = 16;

/// Buffers in the ring at first, and at least: a turn of the kernel's ring receives from at most 40
/// sockets that were waiting.
const WINDOW: usize = 64;
/// After so many turns in a row that left half of the buffers in the ring, they are more than
/// needed there.
const CALM_TURNS: u32 = 1000;
/// A turn that receives so many bytes fills a good part of the caches that a core has to itself.
const MUCH: usize = 256 * 1024;

/// How a pool is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkPoolConfig {
    /// Bytes of a buffer.
    pub(crate) size: usize,
    /// Buffers at first.
    pub(crate) first: usize,
    /// Buffers at most.
    pub(crate) most: usize,
}

impl ChunkPoolConfig {
    /// Is it possible?
    pub(crate) fn is_valid(&self) -> bool {
        (FEWEST_BYTES..=MOST_BYTES).contains(&self.size)
            && 1 <= self.first
            && self.first <= self.most
            && self.most <= MOST_ENTRIES
    }
}

impl Default for ChunkPoolConfig {
    fn default() -> ChunkPoolConfig {
        ChunkPoolConfig { size: DEFAULT_SIZE, first: DEFAULT_COUNTS.0, most: DEFAULT_COUNTS.1 }
    }
}

/// The buffers of one runtime.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    config: ChunkPoolConfig,
    ring: Rc<BufferRing>,
    arena: NonNull<ChunkArena>,
    /// In circulation.
    buffers: Cell<usize>,
    /// Of those in circulation, the ones that are in no chunk, as far as is known: a completion
    /// that nobody has looked at may have taken one.
    free: Cell<usize>,
    /// With fewer of them, they are scarce.
    low: Cell<usize>,
    /// Neither in the ring nor in a chunk. Those that were used last are the last, those that are
    /// not in circulation the first.
    idle: RefCell<Vec<u16>>,
    /// In the ring, as far as is known.
    in_ring: Cell<usize>,
    /// How many are to be in the ring when a turn begins.
    window: Cell<usize>,
    /// Fewest that were in the ring since then.
    fewest: Cell<usize>,
    /// Turns in a row that left half of the window in the ring.
    calm: Cell<u32>,
    /// Bytes that the last turn has received.
    received: Cell<usize>,
    /// Returns in a row that found at least half of the buffers idle.
    quiet: Cell<usize>,
    counters: Arc<Counters>,
    /// The kernel may write to the buffers for ever.
    leaked: Cell<bool>,
}

impl ChunkPool {
    /// A pool whose first buffers are in circulation, some of them in the ring.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn new(
        config: ChunkPoolConfig,
        counters: Arc<Counters>,
    ) -> io::Result<Rc<ChunkPool>> {
        assert!(config.is_valid(), "whoever configures has checked");
        let pool = Rc::new(ChunkPool {
            config,
            ring: Rc::new(BufferRing::new(config.most)?),
            arena: ChunkArena::new(config.most, config.size)?,
            buffers: Cell::new(0),
            free: Cell::new(0),
            low: Cell::new(0),
            idle: RefCell::new((0..config.most as u32).rev().map(|id| id as u16).collect()),
            in_ring: Cell::new(0),
            window: Cell::new(config.first.min(WINDOW)),
            fewest: Cell::new(0),
            calm: Cell::new(0),
            received: Cell::new(0),
            quiet: Cell::new(0),
            counters,
            leaked: Cell::new(false),
        });
        pool.arena().set_pool(Rc::as_ptr(&pool));
        pool.circulate(config.first);
        pool.lend();
        Ok(pool)
    }

    #[inline]
    fn arena(&self) -> &ChunkArena {
        // SAFETY: the pool keeps the arena until it is dropped.
        unsafe { self.arena.as_ref() }
    }

    /// What receives take buffers from.
    pub(crate) fn ring(&self) -> &Rc<BufferRing> {
        &self.ring
    }

    pub(crate) fn buffer_size(&self) -> u32 {
        self.config.size as u32
    }

    /// Buffers in chunks.
    fn lent(&self) -> usize {
        self.buffers.get() - self.free.get()
    }

    /// Writes down how many there are now.
    #[inline]
    pub(crate) fn publish(&self) {
        self.counters.chunk_buffers_lent.set(self.lent() as u64);
    }

    /// Makes the chunk that a completion has brought. With 0 bytes, it only brings the buffer back
    /// when it is dropped.
    ///
    /// # Safety
    /// The completion says that it took buffer `id` of this pool's ring, and is turned into a chunk
    /// once.
    #[inline]
    pub(crate) unsafe fn chunk(&self, id: u16, length: usize) -> Chunk {
        let is_plenty = self.count_taken(length);
        // SAFETY: the caller's promise, and it has been counted.
        let chunk = unsafe { self.chunk_of(id, length) };
        if is_plenty { chunk } else { self.grow_or_copy(chunk) }
    }

    /// A completion has taken a buffer out of the ring. `false`: they are scarce, so its chunk goes
    /// through [`grow_or_copy`](ChunkPool::grow_or_copy) now.
    #[inline]
    pub(crate) fn count_taken(&self, length: usize) -> bool {
        let in_ring =
            self.in_ring.get().checked_sub(1).expect("the ring takes only what it was given");
        self.in_ring.set(in_ring);
        self.fewest.set(self.fewest.get().min(in_ring));
        self.received.set(self.received.get() + length);
        self.counters.chunk_receives.add(1);
        if length == self.config.size {
            self.counters.chunk_fills.add(1);
        }
        let free = self.free.get() - 1;
        self.free.set(free);
        let most = &self.counters.chunk_buffers_most_lent;
        most.set(most.get().max(self.lent() as u64));
        free >= self.low.get()
    }

    /// The chunk of a buffer that has been counted, now or later.
    ///
    /// # Safety
    /// As of [`chunk`](ChunkPool::chunk), and [`count_taken`](ChunkPool::count_taken) was called
    /// for it.
    #[inline]
    pub(crate) unsafe fn chunk_of(&self, id: u16, length: usize) -> Chunk {
        assert!(length <= self.config.size, "a completion reports more bytes than a buffer holds");
        let place = NonNull::from(self.arena().place(id));
        // SAFETY: the kernel has written that many bytes to the buffer and let go of it, and this
        // is its only chunk.
        unsafe { Chunk::lent(place, length as u32) }
    }

    /// Buffers are scarce: makes more of them, or copies the bytes and keeps this one.
    #[cold]
    pub(crate) fn grow_or_copy(&self, chunk: Chunk) -> Chunk {
        self.collect();
        if self.free.get() >= self.low.get() || self.grow() || chunk.is_empty() {
            return chunk;
        }
        self.counters.chunk_copies.add(1);
        Chunk::copied(&chunk)
    }

    /// Is what comes copied now?
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.get() <= self.low.get() && self.buffers.get() == self.config.most
    }

    /// A receive has found no buffer: so many were taken in one turn. If more are idle, the next
    /// turn has them.
    pub(crate) fn exhausted(&self) {
        self.counters.chunk_exhaustions.add(1);
        self.collect();
        if self.free.get() == self.in_ring.get() {
            self.grow();
        }
    }

    /// Doubles the buffers, if the bound allows for more.
    fn grow(&self) -> bool {
        let buffers = self.buffers.get();
        let more = buffers.min(self.config.most - buffers);
        if more == 0 {
            return false;
        }
        self.counters.chunk_growths.add(1);
        self.circulate(buffers + more);
        true
    }

    /// From now on so many buffers are in circulation. Those that are not any more are idle.
    fn circulate(&self, buffers: usize) {
        self.free.set(self.free.get() + buffers - self.buffers.get());
        self.buffers.set(buffers);
        self.counters.chunk_buffers.set(buffers as u64);
        self.low.set((buffers / SCARCE_PART).max(1));
        self.quiet.set(0);
    }

    /// A turn begins: takes back what was dropped on other threads, and lends the ring as many
    /// buffers as it is likely to need. Has the last turn received so much that the caches are full
    /// of it?
    #[inline]
    pub(crate) fn begin_turn(&self) -> bool {
        self.collect();
        self.fit_window();
        self.lend();
        self.received.replace(0) >= MUCH
    }

    /// The ring gets twice as many buffers when it has used all, and half as many when it has not
    /// needed them for a while.
    #[inline]
    fn fit_window(&self) {
        let (window, fewest) = (self.window.get(), self.fewest.get());
        if fewest == 0 {
            self.window.set((window * 2).min(self.config.most));
        }
        self.calm.set(if fewest > window / 2 { self.calm.get() + 1 } else { 0 });
        if self.calm.get() >= CALM_TURNS {
            self.calm.set(0);
            self.window.set((window / 2).max(self.config.first.min(WINDOW)));
        }
    }

    #[inline]
    fn lend(&self) {
        let wanted = self.window.get().min(self.free.get());
        if self.in_ring.get() < wanted {
            let mut idle = self.idle.borrow_mut();
            let start = idle.len() - (wanted - self.in_ring.get());
            idle.drain(start..).rev().for_each(|id| self.append(id));
        }
        self.fewest.set(self.in_ring.get());
    }

    #[inline]
    fn append(&self, id: u16) {
        self.ring.append(self.arena().place(id).start(), self.config.size as u32, id);
        self.in_ring.set(self.in_ring.get() + 1);
    }

    /// Takes back what was dropped on other threads.
    #[inline]
    fn collect(&self) {
        // SAFETY: what is in the list has no chunk any more.
        self.arena().collect(|id| unsafe { self.take_back(id) });
    }

    /// The last chunk of a buffer has gone.
    ///
    /// # Safety
    /// There is no other, and this thread is the pool's.
    #[inline]
    pub(super) unsafe fn take_back(&self, id: u16) {
        self.free.set(self.free.get() + 1);
        if self.in_ring.get() < self.window.get() {
            self.append(id);
        } else {
            self.idle.borrow_mut().push(id);
        }
        if self.buffers.get() > self.config.first {
            self.look_for_surplus();
        }
    }

    /// Takes buffers out of circulation that have not been needed for a while.
    #[cold]
    fn look_for_surplus(&self) {
        let buffers = self.buffers.get();
        let fewer = (buffers / 2).max(self.config.first);
        // All that would go must be idle, which with an odd number is more than half.
        let is_quiet = self.free.get() - self.in_ring.get() >= buffers.div_ceil(2);
        self.quiet.set(if is_quiet { self.quiet.get() + 1 } else { 0 });
        if self.quiet.get() >= QUIET_ROUNDS * buffers {
            self.counters.chunk_shrinkings.add(1);
            let bottom = self.config.most - buffers..self.config.most - fewer;
            // SAFETY: what is idle is neither in a chunk nor in the ring.
            self.idle.borrow()[bottom].iter().for_each(|&id| unsafe { self.arena().discard(id) });
            self.circulate(fewer);
        }
    }

    /// The kernel could not be made to let go: its memory stays for ever.
    pub(crate) fn leak(&self) {
        self.leaked.set(true);
        std::mem::forget(Rc::clone(&self.ring));
    }
}

impl Drop for ChunkPool {
    fn drop(&mut self) {
        if self.leaked.get() {
            return self.arena().leak();
        }
        // SAFETY: this is the pool's end, on its thread, since it is neither `Send` nor in a
        // global.
        unsafe { ChunkArena::close(self.arena, self.lent()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashSet, VecDeque};
    use std::iter;
    use std::ptr;
    use std::sync::Mutex;

    /// Takes buffers from the head of a pool's ring, as a source of completions does.
    struct Taker {
        pool: Rc<ChunkPool>,
        head: u16,
    }

    impl Taker {
        fn new(size: usize, first: usize, most: usize) -> Taker {
            let pool = ChunkPool::new(ChunkPoolConfig { size, first, most }, Arc::default())
                .expect("memory");
            Taker { pool, head: 0 }
        }

        /// Fills the next buffer with these bytes, in a turn of its own. `None`: there is none.
        fn receive(&mut self, bytes: &[u8]) -> Option<Chunk> {
            self.pool.begin_turn();
            self.take(bytes)
        }

        /// Fills the next buffer with these bytes. `None`: there is none left in this turn.
        fn take(&mut self, bytes: &[u8]) -> Option<Chunk> {
            let ring = self.pool.ring();
            if self.head == ring.tail() {
                return None;
            }
            let entry = ring.entry(self.head);
            self.head = self.head.wrapping_add(1);
            let target: *mut u8 = ptr::with_exposed_provenance_mut(entry.address as usize);
            assert!(bytes.len() <= entry.length as usize);
            // SAFETY: the entry says that so many bytes are there, and nobody has a chunk of the
            // buffer while it is in the ring.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
            // SAFETY: the buffer was taken from this pool's ring just now.
            Some(unsafe { self.pool.chunk(entry.id, bytes.len()) })
        }

        fn in_ring(&self) -> usize {
            usize::from(self.pool.ring().tail().wrapping_sub(self.head))
        }

        /// Those in circulation that are in no chunk.
        fn free(&self) -> usize {
            self.pool.free.get()
        }
    }

    #[test]
    fn a_dropped_chunk_gives_its_buffer_back_and_the_last_part_of_a_divided_one_does() {
        let mut taker = Taker::new(64, 8, 8);
        for round in 0..100_000u32 {
            let chunk = taker.receive(&round.to_le_bytes()).expect("a buffer");
            assert_eq!(chunk, round.to_le_bytes());
        }
        let mut chunk = taker.receive(b"0123456789").expect("a buffer");
        let first = chunk.split_to(4);
        let last = chunk.split_off(3);
        assert_eq!((&first[..], &chunk[..], &last[..]), (&b"0123"[..], &b"456"[..], &b"789"[..]));
        drop(chunk);
        drop(first);
        assert_eq!(taker.pool.lent(), 1);
        drop(last.clone());
        assert_eq!((taker.pool.lent(), taker.in_ring()), (1, 7));
        drop(last);
        assert_eq!((taker.pool.lent(), taker.in_ring()), (0, 8));
    }

    #[test]
    fn buffers_double_while_chunks_are_kept_and_then_what_comes_is_copied_and_no_receive_finds_none()
     {
        let mut taker = Taker::new(64, 8, 50);
        let mut kept = Vec::new();
        for round in 0..1000u32 {
            kept.push(taker.receive(&round.to_le_bytes()).expect("a quarter is always left"));
            assert!(taker.free() >= taker.pool.buffers.get() / 4);
        }
        taker.pool.publish();
        let counts = taker.pool.counters.snapshot();
        println!("{counts:?}");
        assert_eq!((counts.chunk_buffers, counts.chunk_growths), (50, 3));
        assert_eq!(counts.chunk_buffers_lent + counts.chunk_copies, 1000);
        assert_eq!(
            counts.chunk_buffers_most_lent as usize,
            50 - 50 / SCARCE_PART + 1,
            "the one that is copied is lent for a moment"
        );
        assert!(kept.iter().zip(0u32..).all(|(chunk, round)| *chunk == round.to_le_bytes()));
        drop(kept);
        assert_eq!(taker.free(), 50);
    }

    #[test]
    fn forgotten_chunks_cost_their_buffers_and_stop_nobody() {
        // Nobody ever looks at them again, but a leak detector sees them here.
        static FORGOTTEN: Mutex<Vec<Chunk>> = Mutex::new(Vec::new());
        let mut taker = Taker::new(64, 4, 16);
        for round in 0..100u32 {
            let forgotten = taker.receive(&round.to_le_bytes()).expect("a buffer");
            FORGOTTEN.lock().expect("no panic").push(forgotten);
            assert!(taker.receive(b"next").is_some_and(|chunk| chunk == b"next"));
        }
        assert_eq!(taker.pool.lent(), 12);
    }

    #[test]
    fn buffers_that_are_not_needed_for_a_while_go_out_of_circulation_and_come_again() {
        let mut taker = Taker::new(64, 8, 64);
        for _ in 0..3 {
            let kept: Vec<_> = (0..48).map(|_| taker.receive(b"kept").expect("a buffer")).collect();
            assert_eq!(taker.pool.buffers.get(), 64);
            drop(kept);
            let mut rounds = 0;
            while taker.pool.buffers.get() > 8 {
                drop(taker.receive(b"one by one"));
                rounds += 1;
                assert!(rounds < 10_000);
            }
            assert_eq!(taker.free(), 8);
        }
        let counts = taker.pool.counters.snapshot();
        assert_eq!((counts.chunk_growths, counts.chunk_shrinkings), (9, 9));
        // Busy with half of them, it does not shrink.
        let mut kept: VecDeque<_> =
            (0..40).map(|_| taker.receive(b"kept").expect("a buffer")).collect();
        for _ in 0..10_000 {
            kept.push_back(taker.receive(b"kept").expect("a buffer"));
            kept.pop_front();
        }
        assert_eq!(taker.pool.buffers.get(), 64);
    }

    proptest::proptest! {
        #[test]
        fn any_bounds_grow_and_shrink_and_lose_no_buffer(first in 1usize..140, more in 0usize..140, bursts in proptest::collection::vec(0usize..300, 1..4)) {
            let mut taker = Taker::new(64, first, first + more);
            for burst in bursts {
                let kept: Vec<_> = (0..burst).map(|_| taker.receive(b"kept").expect("a quarter is always left")).collect();
                drop(kept);
                for _ in 0..QUIET_ROUNDS * (first + more) * 2 {
                    drop(taker.receive(b"one by one"));
                }
                proptest::prop_assert_eq!(taker.pool.lent(), 0);
            }
            let buffers = taker.pool.buffers.get();
            proptest::prop_assert!(first <= buffers && buffers <= first + more);
        }
    }

    #[test]
    fn the_buffers_that_were_used_last_are_used_next() {
        let mut taker = Taker::new(64, 1024, 1024);
        let mut used = HashSet::new();
        let mut sending = Vec::new();
        for _ in 0..1000 {
            taker.pool.begin_turn();
            let received: Vec<_> =
                (0..40).map(|_| taker.take(b"echo").expect("a window of buffers")).collect();
            used.extend(received.iter().map(|chunk| chunk.as_ptr()));
            sending = received;
        }
        drop(sending);
        println!("{} buffers", used.len());
        assert!(
            used.len() <= WINDOW + 2 * 40,
            "those in the ring, those received, and those being sent"
        );
    }

    #[test]
    fn the_ring_gets_as_many_buffers_as_turns_take_and_fewer_when_they_take_fewer() {
        let mut taker = Taker::new(64, 1024, 1024);
        let mut in_one_turn = |limit: usize| {
            taker.pool.begin_turn();
            let kept: Vec<_> = iter::from_fn(|| taker.take(b"burst")).take(limit).collect();
            kept.len()
        };
        assert_eq!((in_one_turn(1000), in_one_turn(1000), in_one_turn(1000)), (64, 128, 256));
        assert_eq!(in_one_turn(1000), 512);
        for _ in 0..10 * CALM_TURNS {
            assert_eq!(in_one_turn(20), 20);
        }
        assert_eq!(in_one_turn(1000), 64);
    }

    #[test]
    fn a_turn_that_needs_more_than_the_ring_had_gets_idle_buffers_first() {
        let mut taker = Taker::new(64, 256, 1024);
        taker.pool.begin_turn();
        let mut kept: Vec<_> = iter::from_fn(|| taker.take(b"burst")).collect();
        taker.pool.exhausted();
        assert_eq!((kept.len(), taker.pool.buffers.get()), (64, 256));
        taker.pool.begin_turn();
        kept.extend(iter::from_fn(|| taker.take(b"burst")));
        assert_eq!(kept.len(), 64 + 128);
    }

    #[test]
    fn a_turn_that_has_received_much_is_told_once() {
        let mut taker = Taker::new(16 * 1024, 64, 64);
        let bytes = [0; 16 * 1024];
        drop((0..MUCH / bytes.len()).map(|_| taker.take(&bytes)).collect::<Vec<_>>());
        assert!(taker.pool.begin_turn());
        assert!(!taker.pool.begin_turn());
        drop((0..40).map(|_| taker.take(b"little")).collect::<Vec<_>>());
        assert!(!taker.pool.begin_turn());
    }

    #[test]
    fn chunks_come_back_from_other_threads() {
        let mut taker = Taker::new(64, 64, 64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let chunks: Vec<_> =
                    (0..10).map(|_| taker.receive(b"far").expect("a buffer")).collect();
                let shared = chunks[0].clone();
                scope.spawn(move || {
                    assert!(chunks.iter().all(|chunk| *chunk == b"far"));
                    drop(chunks);
                });
                drop(shared);
            }
        });
        taker.pool.begin_turn();
        assert_eq!((taker.pool.lent(), taker.in_ring()), (0, 64));
    }

    #[test]
    fn chunks_outlive_their_pool_on_any_thread() {
        for _ in 0..200 {
            let mut taker = Taker::new(64, 16, 16);
            let here = taker.receive(b"here").expect("a buffer");
            let returned = taker.receive(b"returned").expect("a buffer");
            let there: Vec<_> =
                (0..4).map(|_| taker.receive(b"there").expect("a buffer")).collect();
            std::thread::scope(|scope| {
                scope.spawn(move || drop(returned)).join().expect("no panic");
                let racing = scope
                    .spawn(move || there.into_iter().for_each(|chunk| assert_eq!(chunk, b"there")));
                drop(taker);
                assert_eq!(here, b"here");
                drop(here);
                racing.join().expect("no panic");
            });
        }
    }

    #[test]
    fn buffers_do_not_overlap() {
        let mut taker = Taker::new(100, 9, 9);
        let chunks: Vec<_> =
            (0..6u8).map(|byte| taker.receive(&[byte; 100]).expect("a buffer")).collect();
        assert!(chunks.iter().zip(0..).all(|(chunk, byte)| *chunk == [byte; 100]));
    }
}
