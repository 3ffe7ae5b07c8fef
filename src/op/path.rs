//! Operations on paths: open, rename, unlink, mkdir, statx. openat(2), renameat2(2), unlinkat(2),
//! mkdirat(2), statx(2).
//!
//! # Safety
//! Paths and the status structure belong to the operations, on the heap. A descriptor that the
//! kernel returns belongs to the output from then on.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;

use io_uring::{opcode, squeue, types};

use crate::inflight::{Habits, Handle, Op, Operation, Resource, Step};
use crate::ring::Completion;
use crate::sys::Descriptor;

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

/// Opens a file.
pub(crate) struct Open {
    path: CString,
    flags: i32,
    mode: libc::mode_t,
}

impl Open {
    pub(crate) fn op(path: CString, flags: i32, mode: libc::mode_t) -> Op<'static, Open> {
        // Without O_LARGEFILE some targets refuse files over 2 GiB; on those with a 64-bit offset
        // it is 0.
        Op::new(Open { path, flags: flags | libc::O_CLOEXEC | libc::O_LARGEFILE, mode })
    }
}

// SAFETY: the path belongs to the operation, on the heap.
unsafe impl Operation for Open {
    type Output = io::Result<Resource>;

    const HABITS: Habits<Self> = Habits { restarts: Self::restarts, ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        opcode::OpenAt::new(HERE, self.path.as_ptr()).flags(self.flags).mode(self.mode).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(|_| {
            // SAFETY: the kernel has made this descriptor for this operation, and nobody else knows
            // its number.
            Resource::of_file(unsafe { Descriptor::of_number(completion.result) })
        }))
    }
}

impl Open {
    /// A second run would find the file that the first has made.
    fn restarts(&self) -> bool {
        self.flags & libc::O_EXCL == 0
    }
}

/// Gives a file another name.
pub(crate) struct Rename {
    from: CString,
    to: CString,
}

impl Rename {
    pub(crate) fn op(from: CString, to: CString) -> Op<'static, Rename> {
        Op::new(Rename { from, to })
    }
}

// SAFETY: the paths belong to the operation, on the heap.
unsafe impl Operation for Rename {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        opcode::RenameAt::new(HERE, self.from.as_ptr(), HERE, self.to.as_ptr()).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

/// Removes a name: of a file, or of an empty directory.
pub(crate) struct Unlink {
    path: CString,
    directory: bool,
}

impl Unlink {
    pub(crate) fn op(path: CString, directory: bool) -> Op<'static, Unlink> {
        Op::new(Unlink { path, directory })
    }
}

// SAFETY: the path belongs to the operation, on the heap.
unsafe impl Operation for Unlink {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let flags = if self.directory { libc::AT_REMOVEDIR } else { 0 };
        opcode::UnlinkAt::new(HERE, self.path.as_ptr()).flags(flags).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

/// Makes a directory.
pub(crate) struct MakeDirectory {
    path: CString,
    mode: libc::mode_t,
}

impl MakeDirectory {
    pub(crate) fn op(path: CString, mode: libc::mode_t) -> Op<'static, MakeDirectory> {
        Op::new(MakeDirectory { path, mode })
    }
}

// SAFETY: the path belongs to the operation, on the heap.
unsafe impl Operation for MakeDirectory {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        opcode::MkDirAt::new(HERE, self.path.as_ptr()).mode(self.mode).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

/// What statx(2) says.
pub(crate) type Status = libc::statx;

/// Asks for the metadata of a path or of an open file.
pub(crate) struct Statx {
    /// The open file, or `None` for a path.
    file: Option<Handle>,
    path: CString,
    status: Box<Status>,
}

impl Statx {
    pub(crate) fn of_path(path: CString) -> Op<'static, Statx> {
        Op::new(Statx::new(None, path))
    }

    pub(crate) fn of_file(file: &Handle) -> Op<'_, Statx> {
        Op::new(Statx::new(Some(file.clone()), CString::default()))
    }

    fn new(file: Option<Handle>, path: CString) -> Statx {
        // SAFETY: all zeroes is a value of this C structure.
        Statx { file, path, status: Box::new(unsafe { mem::zeroed() }) }
    }
}

// SAFETY: the path and the status belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl Operation for Statx {
    type Output = io::Result<Box<Status>>;

    fn entry(&mut self) -> squeue::Entry {
        let (descriptor, flags) = match &self.file {
            Some(file) => (file.target_for_worker(), libc::AT_EMPTY_PATH),
            None => (HERE, 0),
        };
        let status: *mut Status = &mut *self.status;
        opcode::Statx::new(descriptor, self.path.as_ptr(), status.cast())
            .flags(flags | libc::AT_STATX_SYNC_AS_STAT)
            .mask(libc::STATX_BASIC_STATS | libc::STATX_BTIME)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(|_| self.status))
    }
}
