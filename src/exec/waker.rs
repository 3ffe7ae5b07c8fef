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

const INDEX_BITS: u32 = 28;
const GENERATION_BITS: u32 = 24;

/// Most inbox cells, so most runtimes at one time in a process.
pub(super) const CELLS: usize = 1 << (u64::BITS - INDEX_BITS - GENERATION_BITS);
/// The index of the future that `block_on` drives; those below it are spawned tasks.
const ROOT_INDEX: u32 = (1 << INDEX_BITS) - 1;

/// Names one task of one runtime, packed into a word: 12 bits cell, 28 bits index, 24 bits generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

impl TaskId {
    pub(super) fn new(cell: u16, index: usize, generation: u32) -> TaskId {
        assert!(index < ROOT_INDEX as usize, "more than {ROOT_INDEX} tasks in one runtime");
        TaskId::pack(cell, index as u32, generation)
    }

    pub(super) fn root(cell: u16) -> TaskId {
        TaskId::pack(cell, ROOT_INDEX, 0)
    }

    fn pack(cell: u16, index: u32, generation: u32) -> TaskId {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        TaskId(u64::from(cell) << (INDEX_BITS + GENERATION_BITS) | u64::from(index) << GENERATION_BITS | generation)
    }

    pub(super) fn cell(self) -> u16 {
        (self.0 >> (INDEX_BITS + GENERATION_BITS)) as u16
    }

    pub(super) fn is_root(self) -> bool {
        self.index() == ROOT_INDEX as usize
    }

    pub(super) fn index(self) -> usize {
        (self.0 >> GENERATION_BITS) as usize & ((1 << INDEX_BITS) - 1)
    }

    pub(super) fn waker(self) -> Waker {
        let data = ptr::without_provenance(self.0 as usize);
        // SAFETY: the table below keeps the contract of `RawWakerVTable` for any number and from any thread: clone copies the word,
        // waking only reads it, dropping does nothing.
        unsafe { Waker::new(data, &TABLE) }
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
        for (cell, index, generation) in [(0, 0, 0), (4095, ROOT_INDEX as usize - 1, 0xff_ffff), (7, 1 << 20, 3)] {
            let id = TaskId::new(cell, index, generation);
            assert_eq!((id.cell(), id.index(), id.is_root()), (cell, index, false));
        }
        assert!(TaskId::root(4095).is_root());
        assert_eq!(TaskId::new(1, 2, 1 << GENERATION_BITS), TaskId::new(1, 2, 0), "generations wrap");
    }
}
