//! The waker of a task: one word that names the inbox cell, the place of the task, and its
//! generation.
//!
//! There is nothing to count and nothing to free, so cloning and dropping cost nothing. A wake
//! after the task has gone finds another generation, and one after its runtime has gone a closed
//! inbox. At worst an old word wakes another task once too often, which every future allows for.
//!
//! # Safety
//! The data pointer of each waker is a number and is never dereferenced; all functions of the table
//! accept the number of any [`TaskId`] that there ever was, from any thread.
#![allow(unsafe_code)]

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

const CELL_BITS: u32 = 12;
const SLAB_BITS: u32 = 13;
const STEP_BITS: u32 = 17;
const GENERATION_SHIFT: u32 = CELL_BITS + STEP_BITS + SLAB_BITS;

/// Most inbox cells, so most runtimes at one time in a process.
pub(super) const CELLS: usize = 1 << CELL_BITS;
/// Most slabs of tasks in a runtime. The last number is that of the future of `block_on`, which
/// lies in none.
pub(super) const SLABS: usize = (1 << SLAB_BITS) - 1;
/// What the places of tasks in their slab are a multiple of, in bytes.
pub(super) const STEP: u32 = 16;
/// The bound of those places.
pub(super) const SLAB_BOUND: u32 = STEP << STEP_BITS;

/// Names one task of one runtime, packed into a word. From the lowest bit on: 12 bits inbox cell,
/// 17 bits place in the slab, 13 bits number of the slab, 22 bits generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

impl TaskId {
    /// A place for tasks.
    pub(super) fn new(cell: u16, slab: usize, offset: u32, generation: u32) -> TaskId {
        assert!(
            slab < SLABS && offset < SLAB_BOUND && offset.is_multiple_of(STEP),
            "the arena numbers its cells so"
        );
        let place =
            u64::from(offset / STEP) << CELL_BITS | (slab as u64) << (CELL_BITS + STEP_BITS);
        TaskId(u64::from(cell) | place | u64::from(generation) << GENERATION_SHIFT)
    }

    pub(super) fn root(cell: u16) -> TaskId {
        TaskId(u64::from(cell) | (SLABS as u64) << (CELL_BITS + STEP_BITS))
    }

    /// The next task in the same place. Generations wrap.
    #[inline]
    pub(super) fn next(self) -> TaskId {
        TaskId(self.0.wrapping_add(1 << GENERATION_SHIFT))
    }

    #[inline]
    pub(super) fn cell(self) -> u16 {
        self.0 as u16 & (CELLS as u16 - 1)
    }

    /// The number of its slab.
    #[inline]
    pub(super) fn slab(self) -> usize {
        (self.0 >> (CELL_BITS + STEP_BITS)) as usize & SLABS
    }

    /// How far from the start of the slab it lies, in bytes.
    #[inline]
    pub(super) fn offset(self) -> u32 {
        (self.0 >> (CELL_BITS - STEP.ilog2())) as u32 & (SLAB_BOUND - STEP)
    }

    /// The whole word. It is never zero, since no cell lies at the start of its slab.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn from_number(number: u64) -> TaskId {
        TaskId(number)
    }

    #[inline]
    pub(super) fn waker(self) -> Waker {
        let data = ptr::without_provenance(self.0 as usize);
        // SAFETY: the table below keeps the contract of `RawWakerVTable` for any id and from any
        // thread: clone copies the word, waking only reads it, dropping does nothing.
        unsafe { Waker::new(data, &TABLE) }
    }

    /// The task that a waker wakes, if it is one of ours.
    #[inline]
    pub(super) fn of(waker: &Waker) -> Option<TaskId> {
        ptr::eq(waker.vtable(), &TABLE).then(|| TaskId(waker.data().addr() as u64))
    }
}

/// A clone of a waker, if it is one of ours.
#[inline]
pub(crate) fn own(waker: &Waker) -> Option<Waker> {
    TaskId::of(waker).map(TaskId::waker)
}

/// A clone of a waker, which is foreign code only if the waker is foreign.
#[inline]
pub(crate) fn share(waker: &Waker) -> Waker {
    own(waker).unwrap_or_else(|| waker.clone())
}

const _: () = assert!(usize::BITS == 64, "a waker of annulus needs 64 bits");

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &TABLE),
    |data| super::wake(TaskId(data.addr() as u64)),
    |data| super::wake(TaskId(data.addr() as u64)),
    |_| {},
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_holds_all_parts_at_their_bounds() {
        let last = SLAB_BOUND - STEP;
        for (cell, slab, offset, generation) in [
            (0, 0, 0, 0),
            (4095, SLABS - 1, last, (1 << 22) - 1),
            (7, 1 << 9, 48, 3),
            (0, 0, last, 1),
        ] {
            let id = TaskId::new(cell, slab, offset, generation);
            assert_eq!((id.cell(), id.slab(), id.offset()), (cell, slab, offset));
            let next = id.next();
            assert_eq!(
                (next.cell(), next.slab(), next.offset()),
                (cell, slab, offset),
                "also when generations wrap"
            );
            assert_ne!(next, id);
            assert_ne!(id, TaskId::root(cell));
        }
        assert_eq!(TaskId::new(1, 2, 48, (1 << 22) - 1).next(), TaskId::new(1, 2, 48, 0));
        assert_eq!((TaskId::root(9).cell(), TaskId::root(9).slab()), (9, SLABS));
    }

    #[test]
    fn a_waker_of_ours_is_known_and_shared_without_a_call() {
        let id = TaskId::new(4095, 7, 64, 9);
        let waker = id.waker();
        assert_eq!(TaskId::of(&waker), Some(id));
        assert!(share(&waker).will_wake(&waker));
        assert_eq!(TaskId::of(Waker::noop()), None);
    }
}
