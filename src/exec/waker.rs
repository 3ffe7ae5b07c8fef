//! What is a waker? One word of data: which inbox cell, which task, which generation of it.
//!
//! There is nothing to count and nothing to free, so cloning and dropping cost nothing, and a wake after the task or its runtime has gone
//! finds the cell closed or the generation passed. A stale word can at worst wake a task once too often, which every future allows for.
//!
//! # Safety
//! The data pointer of each waker is a number and is never dereferenced; all functions of the table accept any number from any thread.
#![allow(unsafe_code)]

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

const GENERATION_BITS: u32 = 24;
const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

/// Most inbox cells, so most runtimes at one time in a process.
pub(super) const CELLS: usize = 1 << (u64::BITS - TaskId::INDEX_BITS - GENERATION_BITS);
/// The index of the future that `block_on` drives; those below it are spawned tasks.
const ROOT_INDEX: u32 = (1 << TaskId::INDEX_BITS) - 1;

/// Names one task of one runtime, packed into a word: 12 bits cell, 28 bits index, 24 bits generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

impl TaskId {
    pub(super) const INDEX_BITS: u32 = 28;

    /// A place for tasks, which has no generation.
    pub(super) fn vacant(cell: u16, index: usize) -> TaskId {
        assert!(index < ROOT_INDEX as usize, "the arena numbers its cells below that");
        TaskId::pack(cell, index as u32)
    }

    pub(super) fn root(cell: u16) -> TaskId {
        TaskId::pack(cell, ROOT_INDEX)
    }

    fn pack(cell: u16, index: u32) -> TaskId {
        TaskId(u64::from(cell) << (TaskId::INDEX_BITS + GENERATION_BITS) | u64::from(index) << GENERATION_BITS)
    }

    /// The next task in the place of this one. Generations wrap, and none is zero, which is that of the root and of places without a task.
    #[inline]
    pub(super) fn with_generation(self, generation: u32) -> TaskId {
        TaskId(self.0 & !GENERATION | (u64::from(generation) & GENERATION).max(1))
    }

    #[inline]
    pub(super) fn cell(self) -> u16 {
        (self.0 >> (TaskId::INDEX_BITS + GENERATION_BITS)) as u16
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        (self.0 >> GENERATION_BITS) as usize & ((1 << TaskId::INDEX_BITS) - 1)
    }

    #[inline]
    pub(super) fn waker(self) -> Waker {
        let data = ptr::without_provenance(self.0 as usize);
        // SAFETY: the table below keeps the contract of `RawWakerVTable` for any number and from any thread: clone copies the word,
        // waking only reads it, dropping does nothing.
        unsafe { Waker::new(data, &TABLE) }
    }

    /// The task that a waker wakes, if it is one of ours.
    #[inline]
    pub(super) fn of(waker: &Waker) -> Option<TaskId> {
        ptr::eq(waker.vtable(), &TABLE).then(|| TaskId(waker.data().addr() as u64))
    }
}

/// A clone of a waker, which is foreign code only if the waker is foreign.
#[inline]
pub(crate) fn share(waker: &Waker) -> Waker {
    match TaskId::of(waker) {
        Some(id) => id.waker(),
        None => waker.clone(),
    }
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
    fn the_word_holds_all_three_parts_at_their_bounds() {
        for (cell, index, generation) in [(0, 0, 1), (4095, ROOT_INDEX as usize - 1, 0xff_ffff), (7, 1 << 20, 3)] {
            let place = TaskId::vacant(cell, index);
            let id = place.with_generation(generation);
            assert_eq!((id.cell(), id.index()), (cell, index));
            assert_eq!(id.with_generation(9), place.with_generation(9));
            assert!(id != place && id != TaskId::root(cell));
        }
        let place = TaskId::vacant(1, 2);
        assert_eq!(place.with_generation(1 << GENERATION_BITS | 5), place.with_generation(5), "generations wrap");
        assert_ne!(place.with_generation(1 << GENERATION_BITS), place, "and leave zero out");
    }

    #[test]
    fn a_waker_of_ours_is_known_and_shared_without_a_call() {
        let id = TaskId::vacant(4095, 7).with_generation(9);
        let waker = id.waker();
        assert_eq!(TaskId::of(&waker), Some(id));
        assert!(share(&waker).will_wake(&waker));
        assert_eq!(TaskId::of(Waker::noop()), None);
    }
}
