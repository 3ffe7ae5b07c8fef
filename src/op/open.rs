//! Operations that open files: by a path, and by a path that is held to a directory. openat(2),
//! openat2(2).
//!
//! # Safety
//! Paths and the structure of openat2 belong to the operations, on the heap. The handle of a
//! directory keeps its descriptor open. A descriptor that the kernel returns belongs to the output
//! from then on.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, squeue, types};

use super::path::{HeldPlace, Place};
use crate::inflight::{Habits, Op, Operation, Resource, Step};
use crate::ring::Completion;
use crate::sys::Descriptor;

/// Without `O_LARGEFILE` some targets refuse files over 2 GiB; on those with a 64-bit offset it is
/// 0.
const ALWAYS: i32 = libc::O_CLOEXEC | libc::O_LARGEFILE;

/// A second run would find the file that the first has made.
fn restarts(flags: i32) -> bool {
    flags & libc::O_EXCL == 0
}

fn opened(completion: Completion) -> io::Result<Resource> {
    completion.result().map(|_| {
        // SAFETY: the kernel has made this descriptor for this operation, and nobody else knows its
        // number.
        Resource::of_file(unsafe { Descriptor::of_number(completion.result) })
    })
}

/// Opens a file.
pub(crate) struct Open {
    path: HeldPlace,
    flags: i32,
    mode: libc::mode_t,
}

impl Open {
    pub(crate) fn op(path: Place<'_>, flags: i32, mode: libc::mode_t) -> Op<'_, Open> {
        Op::new(Open { path: path.held(), flags: flags | ALWAYS, mode })
    }
}

// SAFETY: the path belongs to the operation, on the heap; the handle keeps the directory open.
unsafe impl Operation for Open {
    type Output = io::Result<Resource>;

    const HABITS: Habits<Self> = Habits { restarts: |open| restarts(open.flags), ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        opcode::OpenAt::new(self.path.directory(), self.path.path())
            .flags(self.flags)
            .mode(self.mode)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(opened(completion))
    }
}

/// Opens a file by a path that is held to its directory.
pub(crate) struct OpenHeld {
    path: HeldPlace,
    flags: i32,
    how: Box<types::OpenHow>,
}

impl OpenHeld {
    /// `resolve`: `RESOLVE_*`. The mode is for a file that is made, and else 0.
    pub(crate) fn op(
        path: Place<'_>,
        flags: i32,
        mode: libc::mode_t,
        resolve: u64,
    ) -> Op<'_, OpenHeld> {
        let flags = flags | ALWAYS;
        let how = types::OpenHow::new().flags(flags as u32 as u64).mode(mode.into());
        Op::new(OpenHeld { path: path.held(), flags, how: Box::new(how.resolve(resolve)) })
    }
}

// SAFETY: path and structure belong to the operation, on the heap; the handle keeps the directory
// open.
unsafe impl Operation for OpenHeld {
    type Output = io::Result<Resource>;

    const HABITS: Habits<Self> = Habits { restarts: |open| restarts(open.flags), ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        opcode::OpenAt2::new(self.path.directory(), self.path.path(), &*self.how).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(opened(completion))
    }
}
