//! Where does a task live? In a cell of a chunk: cells of one size side by side, handed out again in the reverse order of their return.
//!
//! So a task costs no call of the allocator, lies where the processor has just been, and is found by its id: the number of the chunk and the place
//! in it. Each size class fills chunks that double from 4 KiB to 2 MiB. A chunk that becomes empty goes back to the allocator, except the one
//! whose cells are handed out. The arena knows no future: a vacant cell is the header of a task that has ended.
//!
//! # Safety
//! A chunk is one block from the allocator: its description, then cells, of which those before `end` hold an initialised header. The
//! block goes back only when none of its cells is handed out (`live == 0`), and its number is taken out of the table before. A number
//! belongs to one class for ever, also in the arenas of later runtimes with the same inbox cell, whose ids begin alike ([`Numbers`]). So the place
//! in an id is always that of a header, or behind `end`, however old the id is. All pointers to cells are made from the block's own pointer, so they may reach the whole block. References to descriptions and headers are shared and
//! short: what changes in them lies in `Cell`s, and no method here runs code of the user. One thread owns all of it; nothing here is `Send`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::task::Header;
use super::waker::{CHUNK_BOUND, CHUNKS, STEP, TaskId};
use crate::sys;

/// The sizes of cells: small ones as close as their alignment allows, for these are the many, others four to a doubling, so that at most a fifth
/// of a cell is wasted. The table ends where a copy of a future begins to cost more than the allocation that a cell saves.
const STRIDES: [u32; 25] =
    [64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048];
/// What the strides and the first cell's place are a multiple of.
pub(super) const CELL_ALIGN: usize = STEP as usize;

/// The first chunk of a class is a page; each further one is twice as large.
const SMALLEST_CHUNK: usize = 4096;
/// The largest is as large as a huge page, which costs one page fault in place of 512, and takes all its memory at once: so only the further ones
/// of a class ask to be one.
const LARGEST_CHUNK: usize = 2 << 20;
/// Where the cells of a chunk begin: on a line of the cache.
const FIRST_CELL: usize = 128;

/// By how much the first generations of two chunks differ: so a waker of a chunk that has gone hardly ever fits one in its place.
const GENERATIONS_APART: u32 = 0x9e37_79b1;

/// A free of a cell in a chunk with no more live ones than this is looked at: it gives the current chunk no room and no reason to go,
const OF_CURRENT: i32 = -1;
/// a listed chunk goes when it becomes empty,
const OF_LISTED: i32 = 0;
/// and a full one has room again.
const OF_FULL: i32 = i32::MAX;

const _: () = assert!(size_of::<Chunk>() <= FIRST_CELL && FIRST_CELL.is_multiple_of(CELL_ALIGN));
const _: () = assert!(LARGEST_CHUNK <= CHUNK_BOUND as usize);
const _: () = assert!((SMALLEST_CHUNK - FIRST_CELL) / (STRIDES[STRIDES.len() - 1] as usize) > 0);

/// The class of cells with room for `size` bytes, `None` if that needs an allocation of its own.
pub(super) const fn class_of(size: usize) -> Option<usize> {
    let mut class = 0;
    while class < STRIDES.len() {
        if size <= STRIDES[class] as usize {
            return Some(class);
        }
        class += 1;
    }
    None
}

/// The size of a chunk of a class that has so many.
const fn size_of_chunk(before: u32) -> usize {
    if before < LARGEST_CHUNK.ilog2() - SMALLEST_CHUNK.ilog2() { SMALLEST_CHUNK << before } else { LARGEST_CHUNK }
}

/// What has been numbered for one inbox cell, by all the runtimes that have had it.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The class of each number.
    classes: Vec<u8>,
    /// Chunks there have been.
    made: u32,
}

/// All chunks of one runtime. It lives as long as one of them: a `JoinHandle` may outlive its runtime.
pub(super) struct Arena {
    /// The first part of the word of all ids here.
    cell: u16,
    classes: [Class; STRIDES.len()],
    /// By number. `None`: given back, and the number stands in `unused`.
    chunks: UnsafeCell<Vec<Option<NonNull<Chunk>>>>,
    /// Numbers of chunks that were given back, each with its class.
    unused: UnsafeCell<Vec<(usize, usize)>>,
    /// Chunks there have been.
    made: Cell<u32>,
    /// The runtime has ended: nothing is kept for a next task.
    closed: Cell<bool>,
}

/// Chunks with cells of one size.
struct Class {
    /// Whose cells are handed out now. It is kept when it is empty.
    current: Cell<Option<NonNull<Chunk>>>,
    /// A list of others with vacant cells, by `previous` and `next`.
    partial: Cell<Option<NonNull<Chunk>>>,
    chunks: Cell<u32>,
}

/// The description of a chunk, at its start.
struct Chunk {
    /// Each chunk keeps the arena.
    arena: Rc<Arena>,
    layout: Layout,
    number: usize,
    class: usize,
    stride: u32,
    first_generation: u32,
    /// Behind the last cell that has ever been handed out. What follows holds nothing yet.
    end: Cell<u32>,
    /// Cells that are handed out now.
    live: Cell<i32>,
    /// `OF_CURRENT`, `OF_LISTED`, or `OF_FULL`: in no list, since it has no vacant cell.
    place: Cell<i32>,
    /// The last cell that came back, and through its `next` all others.
    vacant: Cell<Option<NonNull<Header>>>,
    previous: Cell<Option<NonNull<Chunk>>>,
    next: Cell<Option<NonNull<Chunk>>>,
}

impl Arena {
    /// An arena of the runtime that has this inbox cell, and all that was ever numbered for that.
    pub(super) fn new(cell: u16, numbers: &Numbers) -> Rc<Arena> {
        let class = || Class { current: Cell::new(None), partial: Cell::new(None), chunks: Cell::new(0) };
        Rc::new(Arena {
            cell,
            classes: std::array::from_fn(|_| class()),
            chunks: UnsafeCell::new(vec![None; numbers.classes.len()]),
            unused: UnsafeCell::new(numbers.classes.iter().map(|class| usize::from(*class)).enumerate().collect()),
            made: Cell::new(numbers.made),
            closed: Cell::new(false),
        })
    }

    /// Hands out a cell of a class, until [`free`] takes it back. Its header is that of a vacant one.
    #[inline]
    pub(super) fn allocate(self: &Rc<Self>, class: usize) -> NonNull<Header> {
        if let Some(chunk) = self.classes[class].current.get()
            // SAFETY: the current chunk is in the table, so its block is there.
            && let Some(cell) = unsafe { chunk.as_ref() }.reuse()
        {
            return cell;
        }
        self.allocate_unused(class)
    }

    /// A cell that was never used, or of another chunk.
    #[cold]
    fn allocate_unused(self: &Rc<Self>, class: usize) -> NonNull<Header> {
        let mut chunk = self.classes[class].current.get().unwrap_or_else(|| self.next_chunk(class));
        loop {
            // SAFETY: the current chunk is in the table, so its block is there.
            let description = unsafe { chunk.as_ref() };
            if let Some(cell) = description.reuse() {
                return cell;
            }
            if description.has_unused() {
                // SAFETY: as above.
                return unsafe { self.use_next(chunk) };
            }
            chunk = self.next_chunk(class);
        }
    }

    /// # Safety
    /// The chunk is in the table and `has_unused` cells.
    unsafe fn use_next(&self, chunk: NonNull<Chunk>) -> NonNull<Header> {
        // SAFETY: the caller's promise.
        let description = unsafe { chunk.as_ref() };
        let offset = description.end.get();
        let id = TaskId::new(self.cell, description.number, offset, description.first_generation);
        // SAFETY: a cell from here on ends within the block, and is aligned since the block and all strides are.
        let cell = unsafe { chunk.cast::<u8>().add(offset as usize).cast::<Header>() };
        // SAFETY: the cell has room for a header, and nobody has used it yet.
        unsafe { cell.write(Header::vacant(id)) };
        description.end.set(offset + description.stride);
        description.live.set(description.live.get() + 1);
        cell
    }

    /// Makes a chunk with room the current one; the one before has none.
    fn next_chunk(self: &Rc<Self>, class: usize) -> NonNull<Chunk> {
        let next = match self.classes[class].partial.get() {
            Some(chunk) => {
                // SAFETY: it is in the list.
                unsafe { self.unlist(chunk) };
                chunk
            }
            None => self.add_chunk(class),
        };
        // SAFETY: listed chunks are in the table, and `add_chunk` has just put its chunk there, so the blocks are there.
        unsafe { next.as_ref() }.place.set(OF_CURRENT);
        if let Some(before) = self.classes[class].current.replace(Some(next)) {
            // SAFETY: as above.
            unsafe { before.as_ref() }.place.set(OF_FULL);
        }
        next
    }

    fn add_chunk(self: &Rc<Self>, class: usize) -> NonNull<Chunk> {
        let before = self.classes[class].chunks.get();
        let size = size_of_chunk(before);
        let layout = Layout::from_size_align(size, if size == LARGEST_CHUNK { size } else { 64 }).expect("both are powers of two");
        // SAFETY: only this function and `release` reach into the two lists, neither calls the other, and neither runs foreign code
        // but the allocator's, which does not come back here.
        let (chunks, unused) = unsafe { (&mut *self.chunks.get(), &mut *self.unused.get()) };
        let number = match unused.iter().rposition(|(_, of)| *of == class) {
            Some(index) => unused.swap_remove(index).0,
            None => chunks.len(),
        };
        assert!(number < CHUNKS, "more tasks in one runtime than its wakers can number");
        // SAFETY: the size is not zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        if before > 0 && size_of_chunk(before - 1) == LARGEST_CHUNK {
            sys::advise_huge_pages(block, size);
        }
        let chunk = block.cast::<Chunk>();
        let made = self.made.replace(self.made.get().wrapping_add(1));
        let description = Chunk {
            arena: Rc::clone(self),
            layout,
            number,
            class,
            stride: STRIDES[class],
            first_generation: made.wrapping_mul(GENERATIONS_APART),
            end: Cell::new(FIRST_CELL as u32),
            live: Cell::new(0),
            place: Cell::new(OF_FULL),
            vacant: Cell::new(None),
            previous: Cell::new(None),
            next: Cell::new(None),
        };
        // SAFETY: the block is new, aligned to more than the description needs, and has room for it.
        unsafe { chunk.write(description) };
        if number == chunks.len() {
            chunks.push(None);
        }
        chunks[number] = Some(chunk);
        self.classes[class].chunks.set(before + 1);
        chunk
    }

    /// The cell in which the task of an id is or was. `None`: it has gone.
    #[inline]
    pub(super) fn find(&self, id: TaskId) -> Option<NonNull<Header>> {
        self.cell_at(id.chunk(), id.offset())
    }

    /// A cell that has been handed out, by the number of its chunk and the place of a cell there.
    #[inline]
    fn cell_at(&self, number: usize, offset: u32) -> Option<NonNull<Header>> {
        // SAFETY: nothing reaches into the list meanwhile, see `add_chunk`.
        let chunk = (*unsafe { &*self.chunks.get() }.get(number)?)?;
        // SAFETY: a chunk in the table has its block, and what lies before `end` is within it.
        unsafe { (offset < chunk.as_ref().end.get()).then(|| chunk.cast::<u8>().add(offset as usize).cast::<Header>()) }
    }

    /// Calls `each` with every cell that has ever been handed out, those that are handed out meanwhile perhaps included. `each` may do
    /// anything, so each cell is looked up by itself.
    pub(super) fn each(&self, mut each: impl FnMut(NonNull<Header>)) {
        let mut number = 0;
        // SAFETY: as in `cell_at`; the borrow ends with the condition.
        while number < unsafe { &*self.chunks.get() }.len() {
            let mut offset = FIRST_CELL as u32;
            while let Some(cell) = self.cell_at(number, offset) {
                // SAFETY: the cell was found, so its chunk has its block.
                offset += unsafe { chunk_of(cell).as_ref() }.stride;
                each(cell);
            }
            number += 1;
        }
    }

    /// All that was ever numbered for the inbox cell, for the next runtime that has it.
    pub(super) fn numbers(&self) -> Numbers {
        // SAFETY: as in `add_chunk`.
        let (chunks, unused) = unsafe { (&*self.chunks.get(), &*self.unused.get()) };
        let mut classes = vec![0; chunks.len()];
        for (number, class) in unused {
            classes[*number] = *class as u8;
        }
        for chunk in chunks.iter().flatten() {
            // SAFETY: a chunk in the table has its block.
            let description = unsafe { chunk.as_ref() };
            classes[description.number] = description.class as u8;
        }
        Numbers { classes, made: self.made.get() }
    }

    /// Keeps nothing for tasks to come: chunks go back when they are empty, at once or with the last handle.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for class in &self.classes {
            if let Some(chunk) = class.current.take() {
                // SAFETY: it was the current one, so its block is there.
                let description = unsafe { chunk.as_ref() };
                description.place.set(OF_FULL);
                if description.live.get() == 0 {
                    // SAFETY: none of its cells is handed out, and it is in no list.
                    unsafe { self.release(chunk) };
                }
            }
        }
    }

    /// # Safety
    /// The chunk is in the table and in no list.
    unsafe fn list(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise; listed chunks are in the table, so their blocks are there.
        unsafe {
            let description = chunk.as_ref();
            let head = self.classes[description.class].partial.replace(Some(chunk));
            if let Some(head) = head {
                head.as_ref().previous.set(Some(chunk));
            }
            description.next.set(head);
            description.place.set(OF_LISTED);
        }
    }

    /// # Safety
    /// The chunk is in the list of its class.
    unsafe fn unlist(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise; its neighbours are listed too, so their blocks are there.
        unsafe {
            let description = chunk.as_ref();
            let (previous, next) = (description.previous.take(), description.next.take());
            match previous {
                Some(previous) => previous.as_ref().next.set(next),
                None => self.classes[description.class].partial.set(next),
            }
            if let Some(next) = next {
                next.as_ref().previous.set(previous);
            }
            description.place.set(OF_FULL);
        }
    }

    /// A cell has come back to a chunk that is not the current one, so the chunk has room, or must go.
    ///
    /// # Safety
    /// The chunk is in the table, and not the current one of its class.
    #[cold]
    unsafe fn moved(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise, for all that follows.
        unsafe {
            let description = chunk.as_ref();
            match (description.live.get(), description.place.get()) {
                (0, OF_LISTED) => {
                    self.unlist(chunk);
                    self.release(chunk);
                }
                (0, _) => self.release(chunk),
                (_, OF_FULL) => self.list(chunk),
                _ => {}
            }
        }
    }

    /// # Safety
    /// The chunk is in the table, none of its cells is handed out, and it is in no list.
    unsafe fn release(&self, chunk: NonNull<Chunk>) {
        // SAFETY: the caller's promise. The description is moved out, and with it the reference that keeps the arena until the end of this
        // function.
        let description = unsafe { chunk.read() };
        // SAFETY: as in `add_chunk`.
        let (chunks, unused) = unsafe { (&mut *self.chunks.get(), &mut *self.unused.get()) };
        chunks[description.number] = None;
        unused.push((description.number, description.class));
        let class = &self.classes[description.class];
        class.chunks.set(class.chunks.get() - 1);
        // SAFETY: the block came from `alloc` with this layout. Nobody has a cell of it, and the table does not lead there any more.
        unsafe { dealloc(chunk.as_ptr().cast(), description.layout) };
    }
}

impl Chunk {
    /// The cell that came back last.
    #[inline]
    fn reuse(&self) -> Option<NonNull<Header>> {
        let cell = self.vacant.get()?;
        // SAFETY: a vacant cell of this block, with its header.
        self.vacant.set(unsafe { cell.as_ref() }.next.get());
        self.live.set(self.live.get() + 1);
        Some(cell)
    }

    /// Is there room for a cell behind the last?
    fn has_unused(&self) -> bool {
        (self.end.get() + self.stride) as usize <= self.layout.size()
    }
}

/// The chunk of a cell.
///
/// # Safety
/// The chunk has its block.
#[inline]
unsafe fn chunk_of(cell: NonNull<Header>) -> NonNull<Chunk> {
    // SAFETY: the cell has its header, and its id says how far into the block it lies.
    unsafe { cell.cast::<u8>().sub(cell.as_ref().id().offset() as usize).cast::<Chunk>() }
}

/// Takes a cell back.
///
/// # Safety
/// The cell was handed out by [`Arena::allocate`], its body holds nothing that must be dropped, and nobody uses it from here on.
#[inline]
pub(super) unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: the caller's promise: the cell is handed out, so its block is there.
    unsafe {
        let chunk = chunk_of(cell);
        let description = chunk.as_ref();
        cell.as_ref().next.set(description.vacant.replace(Some(cell)));
        let live = description.live.get() - 1;
        description.live.set(live);
        if live <= description.place.get() {
            // The chunk may go, and with it the last reference but this one.
            Rc::clone(&description.arena).moved(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(cell: NonNull<Header>) -> TaskId {
        // SAFETY: cells that the tests hold are handed out.
        unsafe { cell.as_ref() }.id()
    }

    fn give_back(cell: NonNull<Header>) {
        // SAFETY: the tests give each cell back once, and have written no body.
        unsafe { free(cell) };
    }

    fn chunks(arena: &Arena) -> usize {
        // SAFETY: no other method of the arena runs.
        unsafe { &*arena.chunks.get() }.iter().flatten().count()
    }

    #[test]
    fn the_cell_that_came_back_last_is_handed_out_first() {
        let arena = Arena::new(7, &Numbers::default());
        let cells: Vec<_> = (0..10).map(|_| arena.allocate(0)).collect();
        cells.iter().copied().for_each(give_back);
        for cell in cells.iter().rev() {
            assert_eq!(arena.allocate(0), *cell);
        }
        cells.into_iter().for_each(give_back);
        arena.close();
    }

    #[test]
    fn cells_are_apart_aligned_and_found_by_their_index_whatever_their_size() {
        let arena = Arena::new(4095, &Numbers::default());
        let mut cells: Vec<(NonNull<Header>, usize)> = Vec::new();
        for (class, stride) in STRIDES.iter().enumerate() {
            assert_eq!((class_of(*stride as usize), *stride as usize % CELL_ALIGN), (Some(class), 0));
            cells.extend((0..150).map(|_| (arena.allocate(class), *stride as usize)));
        }
        assert_eq!((class_of(0), class_of(2048), class_of(2049)), (Some(0), Some(STRIDES.len() - 1), None));
        for (cell, stride) in &cells {
            assert!(cell.addr().get().is_multiple_of(CELL_ALIGN));
            assert_eq!(arena.find(id(*cell)), Some(*cell));
            // SAFETY: the cell is handed out, and this is what lies behind its header.
            unsafe { cell.cast::<u8>().add(size_of::<Header>()).write_bytes(0xa5, stride - size_of::<Header>()) };
        }
        let mut places: Vec<_> = cells.iter().map(|(cell, stride)| (cell.addr().get(), *stride)).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        cells.into_iter().for_each(|(cell, _)| give_back(cell));
        assert_eq!(chunks(&arena), STRIDES.len(), "each class keeps the chunk that it hands out");
        arena.close();
        assert_eq!(chunks(&arena), 0);
    }

    #[test]
    fn empty_chunks_go_and_their_numbers_and_cells_are_not_found_any_more() {
        let arena = Arena::new(0, &Numbers::default());
        for _ in 0..3 {
            let cells: Vec<_> = (0..1000).map(|_| arena.allocate(3)).collect();
            let ids: Vec<_> = cells.iter().map(|cell| id(*cell)).collect();
            assert!(chunks(&arena) > 3);
            // Some from everywhere first, so that chunks are listed, and taken off the list in the middle.
            let (some, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(|cell| id(*cell).offset().is_multiple_of(3));
            let some_count = some.len();
            some.into_iter().for_each(give_back);
            let before = chunks(&arena);
            let reused: Vec<_> = (0..some_count).map(|_| arena.allocate(3)).collect();
            assert_eq!(chunks(&arena), before, "room is used before there is more");
            reused.into_iter().chain(others).for_each(give_back);
            assert_eq!(chunks(&arena), 1);
            assert!(ids.iter().filter(|id| arena.find(**id).is_some()).count() < 1000);
        }
        assert_eq!((arena.find(TaskId::root(0)), arena.find(TaskId::new(0, CHUNKS - 1, CHUNK_BOUND - STEP, 0))), (None, None));
        arena.close();
    }

    #[test]
    fn a_number_keeps_its_class_in_later_arenas_so_every_old_id_finds_a_header_or_nothing() {
        let mut numbers = Numbers::default();
        let mut old: Vec<TaskId> = Vec::new();
        for classes in [[0, 3, 24], [24, 0, 7], [3, 7, 0], [24, 24, 24]] {
            let arena = Arena::new(1, &numbers);
            let mut cells: Vec<_> = classes.iter().flat_map(|class| (0..300).map(|_| arena.allocate(*class))).collect();
            for id in &old {
                assert!(arena.find(*id).is_none_or(|found| cells.contains(&found)), "{id:?} leads into a cell");
            }
            old.extend(cells.iter().map(|cell| id(*cell)));
            // Some handles outlive their runtime, and its numbers are known all the same.
            let late = cells.split_off(850);
            cells.into_iter().for_each(give_back);
            numbers = arena.numbers();
            arena.close();
            late.into_iter().for_each(give_back);
        }
        let words: std::collections::BTreeSet<_> = old.iter().map(|id| id.number()).collect();
        assert_eq!(words.len(), old.len(), "and none of them is the first id of another task");
    }

    #[test]
    fn a_closed_arena_stays_until_the_last_cell_has_come_back() {
        let arena = Arena::new(0, &Numbers::default());
        let observer = Rc::downgrade(&arena);
        let (first, second) = (arena.allocate(0), arena.allocate(20));
        arena.close();
        let late = arena.allocate(0);
        assert_eq!(chunks(&arena), 3);
        arena.close();
        drop(arena);
        give_back(first);
        give_back(late);
        assert!(observer.upgrade().is_some());
        give_back(second);
        assert!(observer.upgrade().is_none());
    }
}
