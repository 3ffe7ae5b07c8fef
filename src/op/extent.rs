//! Operations on a part of a file that move no bytes of the program: its blocks on the disk, and
//! what of it is to be written there. fallocate(2), sync_file_range(2).
//!
//! # Safety
//! The entries name no memory.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, squeue};

use super::place::check_offset;
use crate::inflight::{Direction, Habits, Handle, Link, Manner, Op, Operation, Step, Turns};
use crate::ring::Completion;

/// Gives, takes or moves blocks of a file.
pub struct Fallocate {
    file: Handle,
    mode: i32,
    offset: u64,
    length: u64,
}

impl Fallocate {
    pub(crate) fn op(file: &Handle, mode: i32, offset: u64, length: u64) -> Op<'_, Fallocate> {
        let refused = check_offset(offset).or(check_offset(length));
        Op::settled(Fallocate { file: file.clone(), mode, offset, length }, refused)
    }
}

// SAFETY: the entry names no memory; the handle keeps the descriptor open.
unsafe impl Operation for Fallocate {
    type Output = io::Result<()>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));
    const HABITS: Habits<Self> = Habits { restarts: Self::restarts, ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        opcode::Fallocate::new(self.file.target_for_worker(), self.length)
            .offset(self.offset)
            .mode(self.mode)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Link for Fallocate {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

impl Fallocate {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, Manner::AfterDropped))
    }

    /// A second run would move what the first has moved.
    fn restarts(&self) -> bool {
        self.mode & (libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE) == 0
    }
}

/// Begins to write back a part of a file, or waits for that.
pub struct SyncRange {
    file: Handle,
    offset: u64,
    length: u32,
    flags: u32,
}

impl SyncRange {
    pub(crate) fn op(file: &Handle, offset: u64, length: u32, flags: u32) -> Op<'_, SyncRange> {
        let operation = SyncRange { file: file.clone(), offset, length, flags };
        Op::settled(operation, check_offset(offset))
    }
}

// SAFETY: as for `Fallocate`.
unsafe impl Operation for SyncRange {
    type Output = io::Result<()>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        opcode::SyncFileRange::new(self.file.target_for_worker(), self.length)
            .offset(self.offset)
            .flags(self.flags)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Link for SyncRange {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

impl SyncRange {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, Manner::AfterDropped))
    }
}
