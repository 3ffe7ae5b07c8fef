//! Which buffers are lent to the ring, which are in chunks, and how many are there to be? The buffers of one runtime.
//!
//! ```text
//!              lend                 a receive takes it              last chunk dropped
//!  (reserve) ────────▶ (in the ring) ─────────────────▶ (in a chunk) ─────────────────▶ (in the ring), or the reserve
//! ```
//! The pool counts the buffers in the ring itself, so it knows without asking when they run short: with less than a quarter of those in
//! circulation left it doubles them, up to a bound, and at the bound it copies what comes and takes the buffer back at once. So at least a
//! quarter is always there for the next receive, whatever becomes of the chunks, and nobody ever waits for a buffer. When at least half of
//! them have not been needed for a while, half of those beyond the first go back into the reserve, and their memory to the system.
//!
//! The pool belongs to one thread. It knows no operation and no task, and runs no user code.
//!
//! # Safety
//! The pool owns its arena, together with the chunks that are left when it goes. A buffer is in one of the three places above, and which one
//! is counted here: it is lent only when no chunk of it exists, and a chunk of it is made only by the completion that says it was taken.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::Chunk;
use super::buffer_ring::{BufferRing, MOST_ENTRIES};
use super::chunk_arena::Arena;

/// Bytes of a buffer by default. One receive fills one buffer at the most, so this is the largest piece in which a stream comes. Buffers that
/// are only partly filled cost no more than the lines that are touched.
const DEFAULT_SIZE: usize = 16 * 1024;
/// Buffers by default, at first and at most. The ring uses them in turn, so the first are what a busy loop has in the caches.
const DEFAULT_COUNTS: (usize, usize) = (256, 1024);
/// Smallest buffer: that of a datagram begins with its address. And the largest.
const FEWEST_BYTES: usize = 64;
const MOST_BYTES: usize = 1 << 30;

/// The part of the buffers in circulation that must stay in the ring.
const SCARCE_PART: usize = 4;
/// When at least half of the buffers were in the ring at so many returns in a row, for each buffer, they are more than needed.
const QUIET_ROUNDS: usize = 16;

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
        (FEWEST_BYTES..=MOST_BYTES).contains(&self.size) && 1 <= self.first && self.first <= self.most && self.most <= MOST_ENTRIES
    }
}

impl Default for ChunkPoolConfig {
    fn default() -> ChunkPoolConfig {
        ChunkPoolConfig { size: DEFAULT_SIZE, first: DEFAULT_COUNTS.0, most: DEFAULT_COUNTS.1 }
    }
}

/// Counts for `Metrics`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChunkPoolCounts {
    /// In circulation now: in the ring or in chunks.
    pub(crate) buffers: usize,
    /// In chunks now.
    pub(crate) lent: usize,
    /// Most that were in chunks at one time.
    pub(crate) most_lent: usize,
    /// How often the number of buffers was doubled, and halved.
    pub(crate) growths: u64,
    pub(crate) shrinkings: u64,
    /// How often a receive found no buffer.
    pub(crate) exhaustions: u64,
    /// Chunks that were copied since buffers were scarce.
    pub(crate) copied: u64,
}

/// The buffers of one runtime.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    config: ChunkPoolConfig,
    ring: Rc<BufferRing>,
    arena: NonNull<Arena>,
    /// In circulation.
    buffers: Cell<usize>,
    /// In the ring, as far as is known: a completion that nobody has looked at may have taken one.
    free: Cell<usize>,
    /// With fewer in the ring, they are scarce.
    low: Cell<usize>,
    /// Not in circulation. The last goes first.
    reserve: RefCell<Vec<u16>>,
    /// How many are to go into the reserve when they come back.
    surplus: Cell<usize>,
    /// Returns in a row that found at least half of the buffers in the ring.
    quiet: Cell<usize>,
    most_lent: Cell<usize>,
    growths: Cell<u64>,
    shrinkings: Cell<u64>,
    exhaustions: Cell<u64>,
    copied: Cell<u64>,
    /// The kernel may write to the buffers for ever.
    leaked: Cell<bool>,
}

impl ChunkPool {
    /// A pool whose first buffers are in the ring.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn new(config: ChunkPoolConfig) -> io::Result<Rc<ChunkPool>> {
        assert!(config.is_valid(), "whoever configures has checked");
        let pool = Rc::new(ChunkPool {
            config,
            ring: Rc::new(BufferRing::new(config.most)?),
            arena: Arena::new(config.most, config.size)?,
            buffers: Cell::new(0),
            free: Cell::new(0),
            low: Cell::new(0),
            reserve: RefCell::new((0..config.most as u32).rev().map(|id| id as u16).collect()),
            surplus: Cell::new(0),
            quiet: Cell::new(0),
            most_lent: Cell::new(0),
            growths: Cell::new(0),
            shrinkings: Cell::new(0),
            exhaustions: Cell::new(0),
            copied: Cell::new(0),
            leaked: Cell::new(false),
        });
        pool.arena().set_pool(Rc::as_ptr(&pool));
        pool.circulate(config.first);
        Ok(pool)
    }

    #[inline]
    fn arena(&self) -> &Arena {
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

    pub(crate) fn counts(&self) -> ChunkPoolCounts {
        ChunkPoolCounts {
            buffers: self.buffers.get(),
            lent: self.buffers.get() - self.free.get(),
            most_lent: self.most_lent.get(),
            growths: self.growths.get(),
            shrinkings: self.shrinkings.get(),
            exhaustions: self.exhaustions.get(),
            copied: self.copied.get(),
        }
    }

    /// Makes the chunk that a completion has brought. With 0 bytes, it only brings the buffer back when it is dropped.
    ///
    /// # Safety
    /// The completion says that it took buffer `id` of this pool's ring, and is turned into a chunk once.
    #[inline]
    pub(crate) unsafe fn chunk(&self, id: u16, length: usize) -> Chunk {
        let is_plenty = self.count_taken();
        // SAFETY: the caller's promise, and it has been counted.
        let chunk = unsafe { self.chunk_of(id, length) };
        if is_plenty { chunk } else { self.spare(chunk) }
    }

    /// A completion has taken a buffer out of the ring. `false`: they are scarce, so its chunk is to be [spared](ChunkPool::spare) now.
    #[inline]
    pub(crate) fn count_taken(&self) -> bool {
        let free = self.free.get().checked_sub(1).expect("the ring takes only what it was given");
        self.free.set(free);
        let lent = self.buffers.get() - free;
        if lent > self.most_lent.get() {
            self.most_lent.set(lent);
        }
        free >= self.low.get()
    }

    /// The chunk of a buffer that has been counted, now or later.
    ///
    /// # Safety
    /// As of [`chunk`](ChunkPool::chunk), and [`count_taken`](ChunkPool::count_taken) was called for it.
    #[inline]
    pub(crate) unsafe fn chunk_of(&self, id: u16, length: usize) -> Chunk {
        assert!(length <= self.config.size, "a completion reports more bytes than a buffer holds");
        let start = self.arena().buffer(id);
        // SAFETY: the kernel has written that many bytes to the buffer and let go of it, and this is its only chunk.
        unsafe { Chunk::lent(self.arena, start, length as u32, id) }
    }

    /// Buffers are scarce: makes more of them, or keeps this one.
    #[cold]
    pub(crate) fn spare(&self, chunk: Chunk) -> Chunk {
        self.collect();
        if self.free.get() >= self.low.get() || self.grow() || chunk.is_empty() {
            return chunk;
        }
        self.copied.set(self.copied.get() + 1);
        Chunk::copied(&chunk)
    }

    /// Is what comes copied now?
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.get() <= self.low.get() && self.buffers.get() == self.config.most
    }

    /// A receive has found no buffer: so many were taken in one turn.
    pub(crate) fn exhausted(&self) {
        self.exhaustions.set(self.exhaustions.get() + 1);
        self.collect();
        self.grow();
    }

    /// Doubles the buffers, if the bound allows for more.
    fn grow(&self) -> bool {
        let buffers = self.buffers.get();
        let more = buffers.min(self.config.most - buffers);
        if more == 0 {
            return false;
        }
        self.growths.set(self.growths.get() + 1);
        self.surplus.set(0);
        self.circulate(more);
        true
    }

    /// Takes buffers out of the reserve and lends them.
    fn circulate(&self, count: usize) {
        for _ in 0..count {
            let id = self.reserve.borrow_mut().pop().expect("what is not in circulation is in the reserve");
            self.lend(id);
        }
        self.set_buffers(self.buffers.get() + count);
    }

    fn set_buffers(&self, buffers: usize) {
        self.buffers.set(buffers);
        self.low.set((buffers / SCARCE_PART).max(1));
        self.quiet.set(0);
    }

    #[inline]
    fn lend(&self, id: u16) {
        self.ring.append(self.arena().buffer(id), self.config.size as u32, id);
        self.free.set(self.free.get() + 1);
    }

    /// Takes back what was dropped on other threads.
    #[inline]
    pub(crate) fn collect(&self) {
        // SAFETY: what is in the list has no chunk any more.
        self.arena().collect(|id| unsafe { self.take_back(id) });
    }

    /// The last chunk of a buffer has gone.
    ///
    /// # Safety
    /// There is no other, and this thread is the pool's.
    #[inline]
    pub(super) unsafe fn take_back(&self, id: u16) {
        if self.buffers.get() > self.config.first && self.is_surplus() {
            return self.retire(id);
        }
        self.lend(id);
    }

    /// Is this buffer to go out of circulation? Looks from time to time whether so many are needed.
    #[cold]
    fn is_surplus(&self) -> bool {
        let buffers = self.buffers.get();
        if self.surplus.get() == 0 {
            let is_quiet = self.free.get() + 1 >= buffers / 2;
            self.quiet.set(if is_quiet { self.quiet.get() + 1 } else { 0 });
            if self.quiet.get() >= QUIET_ROUNDS * buffers {
                self.shrinkings.set(self.shrinkings.get() + 1);
                self.surplus.set(buffers - (buffers / 2).max(self.config.first));
            }
        }
        self.surplus.get() > 0
    }

    fn retire(&self, id: u16) {
        self.surplus.set(self.surplus.get() - 1);
        // SAFETY: the buffer is neither in a chunk nor in the ring.
        unsafe { self.arena().discard(id) };
        self.reserve.borrow_mut().push(id);
        self.set_buffers(self.buffers.get() - 1);
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
        let lent = self.buffers.get() - self.free.get();
        // SAFETY: this is the pool's end, on its thread, since it is neither `Send` nor in a global.
        unsafe { Arena::close(self.arena, lent) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::ptr;
    use std::sync::Mutex;

    /// Takes buffers from the head of a pool's ring, as a source of completions does.
    struct Taker {
        pool: Rc<ChunkPool>,
        head: u16,
    }

    impl Taker {
        fn new(size: usize, first: usize, most: usize) -> Taker {
            let pool = ChunkPool::new(ChunkPoolConfig { size, first, most }).expect("memory");
            Taker { pool, head: 0 }
        }

        /// Fills the next buffer with these bytes. `None`: there is none.
        fn receive(&mut self, bytes: &[u8]) -> Option<Chunk> {
            let ring = self.pool.ring();
            if self.head == ring.tail() {
                return None;
            }
            let entry = ring.entry(self.head);
            self.head = self.head.wrapping_add(1);
            let target: *mut u8 = ptr::with_exposed_provenance_mut(entry.address as usize);
            assert!(bytes.len() <= entry.length as usize);
            // SAFETY: the entry says that so many bytes are there, and nobody has a chunk of the buffer while it is in the ring.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
            // SAFETY: the buffer was taken from this pool's ring just now.
            Some(unsafe { self.pool.chunk(entry.id, bytes.len()) })
        }

        fn in_ring(&self) -> usize {
            usize::from(self.pool.ring().tail().wrapping_sub(self.head))
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
        assert_eq!(taker.pool.counts().lent, 1);
        drop(last.clone());
        assert_eq!((taker.pool.counts().lent, taker.in_ring()), (1, 7));
        drop(last);
        assert_eq!((taker.pool.counts().lent, taker.in_ring()), (0, 8));
    }

    #[test]
    fn buffers_double_while_chunks_are_kept_and_then_what_comes_is_copied_and_no_receive_finds_none() {
        let mut taker = Taker::new(64, 8, 50);
        let mut kept = Vec::new();
        for round in 0..1000u32 {
            kept.push(taker.receive(&round.to_le_bytes()).expect("a quarter is always left"));
            assert!(taker.in_ring() >= taker.pool.counts().buffers / 4);
        }
        let counts = taker.pool.counts();
        println!("{counts:?}");
        assert_eq!((counts.buffers, counts.growths), (50, 3));
        assert_eq!(counts.lent + counts.copied as usize, 1000);
        assert_eq!(counts.most_lent, 50 - 50 / SCARCE_PART + 1, "the one that is copied is lent for a moment");
        assert!(kept.iter().zip(0u32..).all(|(chunk, round)| *chunk == round.to_le_bytes()));
        drop(kept);
        assert_eq!((taker.pool.counts().lent, taker.in_ring()), (0, 50));
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
        assert_eq!(taker.pool.counts().lent, 12);
    }

    #[test]
    fn buffers_that_are_not_needed_for_a_while_go_back_into_the_reserve_and_come_again() {
        let mut taker = Taker::new(64, 8, 64);
        for _ in 0..3 {
            let kept: Vec<_> = (0..48).map(|_| taker.receive(b"kept").expect("a buffer")).collect();
            assert_eq!(taker.pool.counts().buffers, 64);
            drop(kept);
            let mut rounds = 0;
            while taker.pool.counts().buffers > 8 {
                drop(taker.receive(b"one by one"));
                rounds += 1;
                assert!(rounds < 10_000);
            }
            assert_eq!(taker.in_ring(), 8);
        }
        let counts = taker.pool.counts();
        assert_eq!((counts.growths, counts.shrinkings), (9, 9));
        // Busy with half of them, it does not shrink.
        let mut kept: VecDeque<_> = (0..40).map(|_| taker.receive(b"kept").expect("a buffer")).collect();
        for _ in 0..10_000 {
            kept.push_back(taker.receive(b"kept").expect("a buffer"));
            kept.pop_front();
        }
        assert_eq!(taker.pool.counts().buffers, 64);
    }

    #[test]
    fn chunks_come_back_from_other_threads() {
        let mut taker = Taker::new(64, 64, 64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let chunks: Vec<_> = (0..10).map(|_| taker.receive(b"far").expect("a buffer")).collect();
                let shared = chunks[0].clone();
                scope.spawn(move || {
                    assert!(chunks.iter().all(|chunk| *chunk == b"far"));
                    drop(chunks);
                });
                drop(shared);
            }
        });
        taker.pool.collect();
        assert_eq!((taker.pool.counts().lent, taker.in_ring()), (0, 64));
    }

    #[test]
    fn chunks_outlive_their_pool_on_any_thread() {
        for _ in 0..200 {
            let mut taker = Taker::new(64, 16, 16);
            let here = taker.receive(b"here").expect("a buffer");
            let returned = taker.receive(b"returned").expect("a buffer");
            let there: Vec<_> = (0..4).map(|_| taker.receive(b"there").expect("a buffer")).collect();
            std::thread::scope(|scope| {
                scope.spawn(move || drop(returned)).join().expect("no panic");
                let racing = scope.spawn(move || there.into_iter().for_each(|chunk| assert_eq!(chunk, b"there")));
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
        let chunks: Vec<_> = (0..6u8).map(|byte| taker.receive(&[byte; 100]).expect("a buffer")).collect();
        assert!(chunks.iter().zip(0..).all(|(chunk, byte)| *chunk == [byte; 100]));
    }
}
