//! The memory of tasks: cells of a few sizes, in slabs.
//!
//! The cells of a slab have one size and lie side by side. The cell that came back last is handed
//! out first. So a task costs no call of the allocator, and lies where the processor has just been.
//! A task is found by its id, which holds the number of its slab and its place there. Each class
//! of cells fills slabs that double from 4 KiB to 2 MiB. A slab that becomes empty goes back to
//! the allocator, except the one whose cells are handed out. The arena knows no future: a vacant
//! cell holds the header of a task that has ended.
//!
//! # Safety
//! A slab is one block from the allocator: its description, then cells. Those before `end` hold an
//! initialised header. A [`Block`] is the way to the description; it says where one may be.
//! The block goes back only when none of its cells is handed out (`live == 0`).
//!
//! A number belongs to one class for ever. That holds also in the arenas of later runtimes with the
//! same inbox cell, whose ids begin alike ([`Numbers`]). So the place in an id is always that of a
//! header, or behind `end`, however old the id is.
//!
//! All pointers to cells are made from the block's own pointer, so they may reach the whole block.
//! References to descriptions and headers are shared and short: what changes in them lies in
//! `Cell`s, and no method here runs code of the user. One thread owns all of it; nothing here is
//! `Send`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use super::header::Header;
use super::waker::{SLAB_BOUND, SLABS, STEP, TaskId};
use crate::sys;

/// The sizes of cells. Most futures are small, so small cells differ by no more than the alignment.
/// Of the others there are four to a doubling, so that at most a fifth of a cell is wasted. The
/// table ends where a copy of a future begins to cost more than the allocation that a cell saves.
const STRIDES: [u32; 25] = [
    64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 320, 384, 448, 512, 640, 768,
    896, 1024, 1280, 1536, 1792, 2048,
];
/// What the strides and the first cell's place are a multiple of.
pub(super) const CELL_ALIGN: usize = STEP as usize;

/// The first slab of a class is a page; each further one is twice as large.
const SMALLEST_SLAB: usize = 4096;
/// The largest is as large as a huge page, which costs one page fault in place of 512, and takes
/// all its memory at once: so only the further ones of a class ask to be one.
const LARGEST_SLAB: usize = 2 << 20;
/// Where the cells of a slab begin: on a line of the cache.
const FIRST_CELL: usize = 128;

/// By how much the first generations of two slabs differ: so a waker of a slab that has gone
/// hardly ever fits one in its place.
const GENERATIONS_APART: u32 = 0x9e37_79b1;

/// Whether a cell that comes back changes anything for its slab: it does if no more cells than this
/// are live then. It never does in the current slab,
const OF_CURRENT: i32 = -1;
/// in a listed slab it does when the slab becomes empty, which then goes,
const OF_LISTED: i32 = 0;
/// and in a full one always, since that has room again.
const OF_FULL: i32 = i32::MAX;

const _: () = assert!(size_of::<Slab>() <= FIRST_CELL && FIRST_CELL.is_multiple_of(CELL_ALIGN));
const _: () = assert!(LARGEST_SLAB <= SLAB_BOUND as usize);
const _: () = assert!((SMALLEST_SLAB - FIRST_CELL) / (STRIDES[STRIDES.len() - 1] as usize) > 0);

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

/// The size of a slab of a class that has so many.
const fn size_of_slab(before: u32) -> usize {
    if before < LARGEST_SLAB.ilog2() - SMALLEST_SLAB.ilog2() {
        SMALLEST_SLAB << before
    } else {
        LARGEST_SLAB
    }
}

/// What has been numbered for one inbox cell, by all the runtimes that have had it.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The class of each number.
    classes: Vec<u8>,
    /// Slabs there have been.
    made: u32,
}

/// All slabs of one runtime. It lives as long as one of them: a `JoinHandle` may outlive its
/// runtime.
pub(super) struct Arena {
    /// The first part of the word of all ids here.
    cell: u16,
    classes: [Class; STRIDES.len()],
    /// By number. `None`: given back, and the number stands in `unused`.
    slabs: UnsafeCell<Vec<Option<Block>>>,
    /// Numbers of slabs that were given back, each with its class.
    unused: RefCell<Vec<(usize, usize)>>,
    /// Slabs there have been.
    made: Cell<u32>,
}

/// Slabs with cells of one size.
struct Class {
    /// Whose cells are handed out now. It is kept when it is empty.
    current: Cell<Option<Block>>,
    /// A list of others with vacant cells, by `previous` and `next`.
    partial: Cell<Option<Block>>,
    slabs: Cell<u32>,
}

/// The description of a slab, at its start.
struct Slab {
    /// Each slab keeps the arena.
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
    previous: Cell<Option<Block>>,
    next: Cell<Option<Block>>,
}

/// The block of a slab. One exists only where the block does: in the table, in the lists of a
/// class, and in a function of this file that has just taken it from there. [`Arena::release`]
/// gives the block back when all these have forgotten it.
#[derive(Clone, Copy)]
struct Block(NonNull<Slab>);

impl Deref for Block {
    type Target = Slab;

    #[inline]
    fn deref(&self) -> &Slab {
        // SAFETY: the block is there, see above, and begins with its description.
        unsafe { self.0.as_ref() }
    }
}

impl Block {
    /// The place of a cell, so many bytes behind the start.
    #[inline]
    fn cell(self, offset: u32) -> NonNull<Header> {
        debug_assert!(
            offset as usize + size_of::<Header>() <= self.layout.size(),
            "it lies in the block"
        );
        // SAFETY: the callers' offsets lie within the block.
        unsafe { self.0.cast::<u8>().add(offset as usize).cast() }
    }
}

impl Arena {
    /// An arena of the runtime that has this inbox cell, and all that was ever numbered for that.
    pub(super) fn new(cell: u16, numbers: &Numbers) -> Rc<Arena> {
        let class =
            || Class { current: Cell::new(None), partial: Cell::new(None), slabs: Cell::new(0) };
        Rc::new(Arena {
            cell,
            classes: std::array::from_fn(|_| class()),
            slabs: UnsafeCell::new(vec![None; numbers.classes.len()]),
            unused: RefCell::new(
                numbers.classes.iter().map(|class| usize::from(*class)).enumerate().collect(),
            ),
            made: Cell::new(numbers.made),
        })
    }

    #[inline]
    fn slabs(&self) -> &[Option<Block>] {
        // SAFETY: only `set_slab` changes the list, and no caller keeps the reference until then.
        unsafe { &*self.slabs.get() }
    }

    fn set_slab(&self, number: usize, slab: Option<Block>) {
        // SAFETY: the only other function that reaches into the list is `slabs`, of which nobody
        // keeps a reference while this one runs. It runs no foreign code but the allocator's, which
        // does not come back here.
        let slabs = unsafe { &mut *self.slabs.get() };
        if number == slabs.len() {
            slabs.push(None);
        }
        slabs[number] = slab;
    }

    /// Hands out a cell of a class, until [`free`] takes it back. Its header is that of a vacant
    /// one.
    #[inline]
    pub(super) fn allocate(self: &Rc<Self>, class: usize) -> NonNull<Header> {
        match self.classes[class].current.get().and_then(|slab| slab.reuse()) {
            Some(cell) => cell,
            None => self.allocate_unused(class),
        }
    }

    /// A cell that was never used, or one of another slab.
    #[cold]
    fn allocate_unused(self: &Rc<Self>, class: usize) -> NonNull<Header> {
        let mut slab = self.classes[class].current.get().unwrap_or_else(|| self.next_slab(class));
        loop {
            if let Some(cell) = slab.reuse().or_else(|| self.use_next(slab)) {
                return cell;
            }
            slab = self.next_slab(class);
        }
    }

    /// The cell behind the last that was ever handed out, if there is room for one.
    fn use_next(&self, slab: Block) -> Option<NonNull<Header>> {
        let offset = slab.end.get();
        if (offset + slab.stride) as usize > slab.layout.size() {
            return None;
        }
        let id = TaskId::new(self.cell, slab.number, offset, slab.first_generation);
        let cell = slab.cell(offset);
        // SAFETY: the cell has room for a header, is aligned since the block and all strides are,
        // and nobody has used it yet.
        unsafe { cell.write(Header::vacant(id)) };
        slab.end.set(offset + slab.stride);
        slab.live.set(slab.live.get() + 1);
        Some(cell)
    }

    /// Makes a slab with room the current one. The one before has none.
    fn next_slab(self: &Rc<Self>, class: usize) -> Block {
        let next = match self.classes[class].partial.get() {
            Some(slab) => {
                self.unlist(slab);
                slab
            }
            None => self.add_slab(class),
        };
        next.place.set(OF_CURRENT);
        if let Some(before) = self.classes[class].current.replace(Some(next)) {
            before.place.set(OF_FULL);
        }
        next
    }

    fn add_slab(self: &Rc<Self>, class: usize) -> Block {
        let before = self.classes[class].slabs.get();
        let size = size_of_slab(before);
        let align = if size == LARGEST_SLAB { size } else { 64 };
        let layout = Layout::from_size_align(size, align).expect("both are powers of two");
        let mut unused = self.unused.borrow_mut();
        let number = match unused.iter().rposition(|(_, of)| *of == class) {
            Some(index) => unused.swap_remove(index).0,
            None => self.slabs().len(),
        };
        assert!(number < SLABS, "more tasks in one runtime than its wakers can number");
        // SAFETY: the size is not zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        if before > 0 && size_of_slab(before - 1) == LARGEST_SLAB {
            sys::advise_huge_pages(block, size);
        }
        let made = self.made.replace(self.made.get().wrapping_add(1));
        let description = Slab {
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
        let slab = block.cast::<Slab>();
        // SAFETY: the block is new, aligned to more than the description needs, and has room for
        // it.
        unsafe { slab.write(description) };
        self.set_slab(number, Some(Block(slab)));
        self.classes[class].slabs.set(before + 1);
        Block(slab)
    }

    /// The cell in which the task of an id is or was. `None`: it has gone.
    #[inline]
    pub(super) fn find(&self, id: TaskId) -> Option<NonNull<Header>> {
        self.cell_at(id.slab(), id.offset())
    }

    /// A cell that has been handed out, by the number of its slab and the place of a cell there.
    #[inline]
    fn cell_at(&self, number: usize, offset: u32) -> Option<NonNull<Header>> {
        let slab = (*self.slabs().get(number)?)?;
        (offset < slab.end.get()).then(|| slab.cell(offset))
    }

    /// Calls `each` with every cell that has ever been handed out, perhaps also with those that are
    /// handed out meanwhile. `each` may do anything, so each cell is looked up by itself.
    pub(super) fn each(&self, mut each: impl FnMut(NonNull<Header>)) {
        let mut number = 0;
        while number < self.slabs().len() {
            let mut offset = FIRST_CELL as u32;
            while let Some(slab) = self.slabs()[number]
                && let Some(cell) = self.cell_at(number, offset)
            {
                offset += slab.stride;
                each(cell);
            }
            number += 1;
        }
    }

    /// All that was ever numbered for the inbox cell, for the next runtime that has it.
    pub(super) fn numbers(&self) -> Numbers {
        let mut classes = vec![0; self.slabs().len()];
        for (number, class) in self.unused.borrow().iter() {
            classes[*number] = *class as u8;
        }
        for slab in self.slabs().iter().flatten() {
            classes[slab.number] = slab.class as u8;
        }
        Numbers { classes, made: self.made.get() }
    }

    /// Keeps no empty slab for tasks to come: each goes back at once, or with the last handle.
    pub(super) fn close(&self) {
        for class in &self.classes {
            if let Some(slab) = class.current.take() {
                slab.place.set(OF_FULL);
                if slab.live.get() == 0 {
                    self.release(slab);
                }
            }
        }
    }

    /// Puts a slab into the list of its class. It is in no list.
    fn list(&self, slab: Block) {
        let head = self.classes[slab.class].partial.replace(Some(slab));
        if let Some(head) = head {
            head.previous.set(Some(slab));
        }
        slab.next.set(head);
        slab.place.set(OF_LISTED);
    }

    /// Takes a slab out of the list of its class.
    fn unlist(&self, slab: Block) {
        let (previous, next) = (slab.previous.take(), slab.next.take());
        match previous {
            Some(previous) => previous.next.set(next),
            None => self.classes[slab.class].partial.set(next),
        }
        if let Some(next) = next {
            next.previous.set(previous);
        }
        slab.place.set(OF_FULL);
    }

    /// A cell has come back to a slab that is not the current one. So the slab has room, or must
    /// go.
    #[cold]
    fn moved(&self, slab: Block) {
        match (slab.live.get(), slab.place.get()) {
            (0, OF_LISTED) => {
                self.unlist(slab);
                self.release(slab);
            }
            (0, _) => self.release(slab),
            (_, OF_FULL) => self.list(slab),
            _ => {}
        }
    }

    /// Gives a block back. None of its cells is handed out, it is in no list of its class, and the
    /// caller forgets it.
    fn release(&self, slab: Block) {
        let Block(block) = slab;
        self.set_slab(slab.number, None);
        self.unused.borrow_mut().push((slab.number, slab.class));
        let class = &self.classes[slab.class];
        class.slabs.set(class.slabs.get() - 1);
        // SAFETY: no other `Block` of it is left. The description is moved out, and with it the
        // reference that keeps the arena until the end of this function.
        let description = unsafe { block.read() };
        // SAFETY: the block came from `alloc` with this layout, and nobody has a cell of it.
        unsafe { dealloc(block.as_ptr().cast(), description.layout) };
    }
}

impl Slab {
    /// The cell that came back last.
    #[inline]
    fn reuse(&self) -> Option<NonNull<Header>> {
        let cell = self.vacant.get()?;
        // SAFETY: a vacant cell of this block, with its header.
        self.vacant.set(unsafe { cell.as_ref() }.next.get());
        self.live.set(self.live.get() + 1);
        Some(cell)
    }
}

/// Takes a cell back.
///
/// # Safety
/// The cell was handed out by [`Arena::allocate`], its body holds nothing that must be dropped, and
/// nobody uses it from here on.
#[inline]
pub(super) unsafe fn free(cell: NonNull<Header>) {
    // SAFETY: the caller's promise: the cell has its header, whose id says how far into the block
    // it lies. The block is there, since the cell is handed out until here.
    let (header, slab) = unsafe {
        let header = cell.as_ref();
        (header, Block(cell.cast::<u8>().sub(header.id().offset() as usize).cast()))
    };
    header.next.set(slab.vacant.replace(Some(cell)));
    let live = slab.live.get() - 1;
    slab.live.set(live);
    if live <= slab.place.get() {
        // The slab may go, and with it the last reference but this one.
        Rc::clone(&slab.arena).moved(slab);
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

    fn slabs(arena: &Arena) -> usize {
        arena.slabs().iter().flatten().count()
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
            assert_eq!(
                (class_of(*stride as usize), *stride as usize % CELL_ALIGN),
                (Some(class), 0)
            );
            cells.extend((0..150).map(|_| (arena.allocate(class), *stride as usize)));
        }
        assert_eq!(
            (class_of(0), class_of(2048), class_of(2049)),
            (Some(0), Some(STRIDES.len() - 1), None)
        );
        for (cell, stride) in &cells {
            assert!(cell.addr().get().is_multiple_of(CELL_ALIGN));
            assert_eq!(arena.find(id(*cell)), Some(*cell));
            // SAFETY: the cell is handed out, and this is what lies behind its header.
            unsafe {
                cell.cast::<u8>()
                    .add(size_of::<Header>())
                    .write_bytes(0xa5, stride - size_of::<Header>())
            };
        }
        let mut places: Vec<_> =
            cells.iter().map(|(cell, stride)| (cell.addr().get(), *stride)).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        cells.into_iter().for_each(|(cell, _)| give_back(cell));
        assert_eq!(slabs(&arena), STRIDES.len(), "each class keeps the slab that it hands out");
        arena.close();
        assert_eq!(slabs(&arena), 0);
    }

    #[test]
    fn empty_slabs_go_and_their_numbers_and_cells_are_not_found_any_more() {
        let arena = Arena::new(0, &Numbers::default());
        for _ in 0..3 {
            let cells: Vec<_> = (0..1000).map(|_| arena.allocate(3)).collect();
            let ids: Vec<_> = cells.iter().map(|cell| id(*cell)).collect();
            assert!(slabs(&arena) > 3);
            // Some from everywhere first, so that slabs are listed, and taken off the list in the
            // middle.
            let (some, others): (Vec<_>, Vec<_>) =
                cells.into_iter().partition(|cell| id(*cell).offset().is_multiple_of(3));
            let some_count = some.len();
            some.into_iter().for_each(give_back);
            let before = slabs(&arena);
            let reused: Vec<_> = (0..some_count).map(|_| arena.allocate(3)).collect();
            assert_eq!(slabs(&arena), before, "room is used before there is more");
            reused.into_iter().chain(others).for_each(give_back);
            assert_eq!(slabs(&arena), 1);
            assert!(ids.iter().filter(|id| arena.find(**id).is_some()).count() < 1000);
        }
        assert_eq!(
            (
                arena.find(TaskId::root(0)),
                arena.find(TaskId::new(0, SLABS - 1, SLAB_BOUND - STEP, 0))
            ),
            (None, None)
        );
        arena.close();
    }

    #[test]
    fn a_number_keeps_its_class_in_later_arenas_so_every_old_id_finds_a_header_or_nothing() {
        let mut numbers = Numbers::default();
        let mut old: Vec<TaskId> = Vec::new();
        for classes in [[0, 3, 24], [24, 0, 7], [3, 7, 0], [24, 24, 24]] {
            let arena = Arena::new(1, &numbers);
            let mut cells: Vec<_> =
                classes.iter().flat_map(|class| (0..300).map(|_| arena.allocate(*class))).collect();
            for id in &old {
                assert!(
                    arena.find(*id).is_none_or(|found| cells.contains(&found)),
                    "{id:?} leads into a cell"
                );
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
        assert_eq!(slabs(&arena), 3);
        arena.close();
        drop(arena);
        give_back(first);
        give_back(late);
        assert!(observer.upgrade().is_some());
        give_back(second);
        assert!(observer.upgrade().is_none());
    }
}
