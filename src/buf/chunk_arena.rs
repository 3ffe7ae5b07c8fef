//! The memory of chunks, which outlives its pool, and the way back from other threads.
//!
//! A pool belongs to a thread, its chunks go anywhere and may live longer. So the memory is neither
//! the pool's nor the chunks': it goes with the last of them. On the pool's thread a buffer goes
//! straight back; elsewhere it goes onto a list which the pool takes as a whole.
//!
//! # Safety
//! An arena is allocated by [`ChunkArena::allocate`] and freed in [`ChunkArena::count_down`], by
//! whoever brings `outstanding` to zero after the pool has closed it: then no chunk is left and no
//! pool, and so nobody has a pointer to it. The kernel writes to a buffer only between its lending
//! and its completion, when no chunk of it exists; from then on its bytes are only read, until the
//! last chunk of it is gone and it is lent anew. The cell with the pool's address is touched by the
//! home thread only.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicU64, Ordering};

use super::chunk_pool::ChunkPool;
use super::mapping::Mapping;

/// The list of returned buffers is empty.
const NOTHING: u32 = u32::MAX;
/// The pool has gone, and nobody looks at the list any more.
const CLOSED: u32 = u32::MAX - 1;

/// Chunks that share one buffer: with more, as in `Arc`, somebody forgets clones in a loop, and the
/// count must not wrap.
const MOST_SHARES: u32 = u32::MAX / 2;

/// The first bytes of all buffers would fall into few sets of the processor's caches if they were
/// as far apart as buffers are long, which mostly is a power of two. One line more spreads them
/// over all sets.
const STAGGER: usize = 64;

/// The memory of a pool, or of one copy.
pub(super) struct ChunkArena {
    memory: Memory,
    /// Bytes of a buffer.
    size: usize,
    /// By number. Written once, before anybody else knows the arena.
    places: Box<[BufferPlace]>,
    /// Buffers given back elsewhere: the first of a list, or one of the two words above.
    returned: AtomicU32,
    /// Chunks that were left when the pool closed; below zero while it has not counted them.
    outstanding: AtomicIsize,
    /// The thread of the pool.
    home: u64,
    /// Null once the pool has closed.
    pool: Cell<*const ChunkPool>,
}

enum Memory {
    /// Of the buffers of a pool.
    Pages(Mapping),
    /// Of bytes that never were in the ring.
    Heap(#[expect(dead_code, reason = "kept for its bytes, to which there are pointers")] Vec<u8>),
}

/// What there is to know about one buffer. It lies in the arena's table, so whoever keeps the arena
/// may look at it.
pub(super) struct BufferPlace {
    /// Where the buffer begins.
    start: NonNull<u8>,
    arena: NonNull<ChunkArena>,
    /// Chunks that share it, less one. Also zero at rest, so that lending touches nothing.
    others: AtomicU32,
    /// The next in the list of returned buffers.
    next: AtomicU32,
}

impl ChunkArena {
    /// Memory for `count` buffers of `size` bytes, on this thread. But for 24 bytes a buffer it
    /// costs address space only until it is used.
    pub(super) fn new(count: usize, size: usize) -> io::Result<NonNull<ChunkArena>> {
        let memory = Mapping::new(count * (size + STAGGER))?;
        let start = memory.start();
        Ok(ChunkArena::allocate(Memory::Pages(memory), start, size, count))
    }

    /// The place of these bytes: the memory of a pool that has closed and left one chunk.
    pub(super) fn of_bytes(mut bytes: Vec<u8>) -> NonNull<BufferPlace> {
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector's pointer is never null");
        let length = bytes.len();
        let arena = ChunkArena::allocate(Memory::Heap(bytes), start, length, 1);
        // SAFETY: nobody else knows the arena yet, and the caller gets the one chunk that keeps it.
        unsafe {
            ChunkArena::close(arena, 1);
            NonNull::from(arena.as_ref().place(0))
        }
    }

    fn allocate(
        memory: Memory,
        start: NonNull<u8>,
        size: usize,
        count: usize,
    ) -> NonNull<ChunkArena> {
        let arena = ChunkArena {
            memory,
            size,
            places: Box::default(),
            returned: AtomicU32::new(NOTHING),
            outstanding: AtomicIsize::new(0),
            home: this_thread(),
            pool: Cell::new(ptr::null()),
        };
        let mut arena = NonNull::from(Box::leak(Box::new(arena)));
        let place = |id| BufferPlace {
            // SAFETY: the caller says that the memory has room for so many buffers.
            start: unsafe { start.add(id * (size + STAGGER)) },
            arena,
            others: AtomicU32::new(0),
            next: AtomicU32::new(NOTHING),
        };
        let places = (0..count).map(place).collect();
        // SAFETY: nobody else knows the arena yet.
        unsafe { arena.as_mut() }.places = places;
        arena
    }

    /// Says who takes buffers back on the home thread.
    pub(super) fn set_pool(&self, pool: *const ChunkPool) {
        self.pool.set(pool);
    }

    /// # Panics
    /// If the arena has no such buffer.
    #[inline]
    pub(super) fn place(&self, id: u16) -> &BufferPlace {
        &self.places[usize::from(id)]
    }

    /// Gives the physical memory of a buffer back that nobody uses.
    ///
    /// # Safety
    /// No chunk of it exists, and it is not lent to a ring.
    pub(super) unsafe fn discard(&self, id: u16) {
        let offset = usize::from(id) * (self.size + STAGGER);
        if let Memory::Pages(pages) = &self.memory {
            // SAFETY: the caller's promise.
            unsafe { pages.discard(offset, offset + self.size) };
        }
    }

    /// A chunk of the buffer goes.
    ///
    /// # Safety
    /// The caller gives up a chunk of this buffer, and touches neither after.
    #[inline]
    pub(super) unsafe fn release(place: NonNull<BufferPlace>) {
        // SAFETY: the caller's chunk keeps the arena, and in it the place, until it is given back
        // below.
        let (this, others) = unsafe { (place.as_ref().arena.as_ref(), &place.as_ref().others) };
        // Acquire and release, as in `Arc::drop`: what others read of the bytes comes before they
        // are written anew.
        if others.load(Ordering::Acquire) != 0 && others.fetch_sub(1, Ordering::AcqRel) != 0 {
            return;
        }
        // The last of several has counted down to one below zero.
        others.store(0, Ordering::Relaxed);
        if this.home == this_thread() && !this.pool.get().is_null() {
            // SAFETY: this is the home thread, and the pool takes its address out of the cell
            // before it goes.
            return unsafe { (*this.pool.get()).take_back(this.id_of(place)) };
        }
        // SAFETY: the chunk was the last of its buffer, and the caller gives it up.
        unsafe { ChunkArena::return_from_elsewhere(place) };
    }

    /// # Safety
    /// As [`release`](ChunkArena::release), and it was the last chunk of the buffer.
    #[cold]
    unsafe fn return_from_elsewhere(place: NonNull<BufferPlace>) {
        // SAFETY: the caller's buffer counts as outstanding, which keeps the arena, until it is in
        // the list or counted down.
        let (place, arena) = unsafe { (place.as_ref(), place.as_ref().arena) };
        // SAFETY: as above.
        let this = unsafe { arena.as_ref() };
        let id = this.id_of(NonNull::from(place));
        let mut first = this.returned.load(Ordering::Relaxed);
        while first != CLOSED {
            place.next.store(first, Ordering::Relaxed);
            match this.returned.compare_exchange_weak(
                first,
                u32::from(id),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                // From now on it is the pool's, which may free the arena at any time.
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
        // SAFETY: the buffer is one of those that the closed pool counts as outstanding.
        unsafe { ChunkArena::count_down(arena) };
    }

    /// # Safety
    /// The caller has a share in `outstanding` and gives it up.
    unsafe fn count_down(arena: NonNull<ChunkArena>) {
        // SAFETY: the caller's share keeps the arena.
        if unsafe { arena.as_ref() }.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: the pool has closed it and the last chunk has gone, which happens once; it
            // was allocated as a box.
            drop(unsafe { Box::from_raw(arena.as_ptr()) });
        }
    }

    /// The number of one of its own places.
    #[inline]
    fn id_of(&self, place: NonNull<BufferPlace>) -> u16 {
        ((place.addr().get() - self.places.as_ptr().addr()) / size_of::<BufferPlace>()) as u16
    }

    /// Hands over the buffers that came back from elsewhere.
    #[inline]
    pub(super) fn collect(&self, take: impl FnMut(u16)) {
        if self.returned.load(Ordering::Relaxed) != NOTHING {
            self.empty(NOTHING, take);
        }
    }

    #[cold]
    fn empty(&self, leave: u32, mut take: impl FnMut(u16)) {
        let mut id = self.returned.swap(leave, Ordering::Acquire);
        while id != NOTHING && id != CLOSED {
            let next = self.places[id as usize].next.load(Ordering::Relaxed);
            take(id as u16);
            id = next;
        }
    }

    /// The pool goes, with `lent` buffers in chunks, those in the list included. The memory goes
    /// with the last of them.
    ///
    /// # Safety
    /// Called once, on the home thread, by the pool or in its place; it touches the arena no more.
    pub(super) unsafe fn close(arena: NonNull<ChunkArena>, lent: usize) {
        // SAFETY: whoever calls keeps the arena until it is counted down here.
        let this = unsafe { arena.as_ref() };
        this.pool.set(ptr::null());
        let mut returned = 0;
        this.empty(CLOSED, |_| returned += 1);
        // One for this function, so that the count cannot reach zero before.
        this.outstanding.fetch_add(1 + lent as isize - returned, Ordering::AcqRel);
        // SAFETY: that one is given up.
        unsafe { ChunkArena::count_down(arena) };
    }

    /// As [`close`](ChunkArena::close), but the memory stays for ever, since the kernel may still
    /// write to it.
    pub(super) fn leak(&self) {
        self.pool.set(ptr::null());
        self.outstanding.fetch_add(isize::MAX / 2, Ordering::Relaxed);
        self.empty(CLOSED, |_| {});
    }
}

impl BufferPlace {
    /// Where the buffer begins.
    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Another chunk shares the buffer.
    pub(super) fn share(&self) {
        // Relaxed, as in `Arc::clone`: whoever shares has a chunk already.
        if self.others.fetch_add(1, Ordering::Relaxed) > MOST_SHARES {
            std::process::abort();
        }
    }
}

/// A number for the calling thread that no other has had.
fn this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static THIS: Cell<u64> = const { Cell::new(0) };
    }
    let known = THIS.get();
    if known != 0 {
        return known;
    }
    THIS.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    THIS.get()
}
