//! Operations on names: rename, unlink, mkdir, link, symlink, statx. renameat2(2), unlinkat(2),
//! mkdirat(2), linkat(2), symlinkat(2), statx(2).
//!
//! # Safety
//! Paths and the status structure belong to the operations, on the heap. The handle of a directory
//! keeps its descriptor open.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem;

use io_uring::{opcode, squeue, types};

use crate::inflight::{Habits, Handle, Link, Op, Operation, Step};
use crate::ring::Completion;

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

/// A path, and the directory in which it begins unless it is absolute: an open one, or the
/// process's current directory.
pub(crate) struct Place<'d> {
    directory: Option<&'d Handle>,
    path: CString,
    /// Why it is none: its operation says so when its turn has come.
    error: Option<io::Error>,
}

impl Place<'_> {
    pub(crate) fn here(path: CString) -> Place<'static> {
        Place { directory: None, path, error: None }
    }

    /// Of a path that may be none.
    pub(crate) fn checked(path: io::Result<CString>) -> Place<'static> {
        match path {
            Ok(path) => Place::here(path),
            Err(error) => Place { error: Some(error), ..Place::here(CString::default()) },
        }
    }

    pub(crate) fn within(directory: &Handle, path: CString) -> Place<'_> {
        Place { directory: Some(directory), path, error: None }
    }

    pub(super) fn held(self) -> HeldPlace {
        HeldPlace { directory: self.directory.cloned(), path: self.path, error: self.error }
    }
}

/// What an operation has of a place.
pub(super) struct HeldPlace {
    directory: Option<Handle>,
    path: CString,
    error: Option<io::Error>,
}

impl HeldPlace {
    /// A worker looks the directory up when it begins.
    pub(super) fn directory(&self) -> types::Fd {
        self.directory.as_ref().map_or(HERE, Handle::target_for_worker)
    }

    pub(super) fn path(&self) -> *const libc::c_char {
        self.path.as_ptr()
    }

    /// The result of an operation that is not submitted, since it is none.
    fn refused(&self) -> Option<i32> {
        self.error.as_ref().map(|_| -libc::EINVAL)
    }
}

/// How a call on these places has ended.
fn ended<const N: usize>(completion: Completion, places: [HeldPlace; N]) -> io::Result<()> {
    let error = places.into_iter().find_map(|place| place.error);
    match error {
        Some(error) if completion.result == -libc::EINVAL => Err(error),
        _ => completion.result().map(drop),
    }
}

/// Gives a file another name.
pub struct Rename {
    from: HeldPlace,
    to: HeldPlace,
    /// `RENAME_*`.
    flags: u32,
}

impl Rename {
    pub(crate) fn op<'d>(from: Place<'d>, to: Place<'d>, flags: u32) -> Op<'d, Rename> {
        let operation = Rename { from: from.held(), to: to.held(), flags };
        let refused = operation.from.refused().or(operation.to.refused());
        Op::settled(operation, refused)
    }
}

// SAFETY: the paths belong to the operation, on the heap; the handles keep the directories open.
unsafe impl Operation for Rename {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let (from, to) = (&self.from, &self.to);
        opcode::RenameAt::new(from.directory(), from.path(), to.directory(), to.path())
            .flags(self.flags)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(ended(completion, [self.from, self.to]))
    }
}

impl Link for Rename {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

/// Removes a name: of a file, or of an empty directory.
pub struct Unlink {
    name: HeldPlace,
    is_directory: bool,
}

impl Unlink {
    pub(crate) fn op(name: Place<'_>, is_directory: bool) -> Op<'_, Unlink> {
        let operation = Unlink { name: name.held(), is_directory };
        let refused = operation.name.refused();
        Op::settled(operation, refused)
    }
}

// SAFETY: the path belongs to the operation, on the heap; the handle keeps the directory open.
unsafe impl Operation for Unlink {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let flags = if self.is_directory { libc::AT_REMOVEDIR } else { 0 };
        opcode::UnlinkAt::new(self.name.directory(), self.name.path()).flags(flags).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(ended(completion, [self.name]))
    }
}

impl Link for Unlink {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

/// Makes a directory.
pub struct MakeDirectory {
    name: HeldPlace,
    mode: libc::mode_t,
}

impl MakeDirectory {
    pub(crate) fn op(name: Place<'_>, mode: libc::mode_t) -> Op<'_, MakeDirectory> {
        let operation = MakeDirectory { name: name.held(), mode };
        let refused = operation.name.refused();
        Op::settled(operation, refused)
    }
}

// SAFETY: the path belongs to the operation, on the heap; the handle keeps the directory open.
unsafe impl Operation for MakeDirectory {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        opcode::MkDirAt::new(self.name.directory(), self.name.path()).mode(self.mode).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(ended(completion, [self.name]))
    }
}

impl Link for MakeDirectory {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

/// Gives a file one more name.
pub struct HardLink {
    from: HeldPlace,
    to: HeldPlace,
    /// `AT_*`.
    flags: i32,
}

impl HardLink {
    pub(crate) fn op<'d>(from: Place<'d>, to: Place<'d>, flags: i32) -> Op<'d, HardLink> {
        let operation = HardLink { from: from.held(), to: to.held(), flags };
        let refused = operation.from.refused().or(operation.to.refused());
        Op::settled(operation, refused)
    }
}

// SAFETY: the paths belong to the operation, on the heap; the handles keep the directories open.
unsafe impl Operation for HardLink {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let (from, to) = (&self.from, &self.to);
        opcode::LinkAt::new(from.directory(), from.path(), to.directory(), to.path())
            .flags(self.flags)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(ended(completion, [self.from, self.to]))
    }
}

impl Link for HardLink {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

/// Makes a symbolic link, which is a path as its text.
pub struct MakeSymlink {
    text: CString,
    name: HeldPlace,
}

impl MakeSymlink {
    pub(crate) fn op(text: CString, name: Place<'_>) -> Op<'_, MakeSymlink> {
        let operation = MakeSymlink { text, name: name.held() };
        let refused = operation.name.refused();
        Op::settled(operation, refused)
    }
}

// SAFETY: text and path belong to the operation, on the heap; the handle keeps the directory open.
unsafe impl Operation for MakeSymlink {
    type Output = io::Result<()>;

    // A second run would find what the first has done.
    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        let text = self.text.as_ptr();
        opcode::SymlinkAt::new(self.name.directory(), text, self.name.path()).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(ended(completion, [self.name]))
    }
}

impl Link for MakeSymlink {
    fn is_whole(output: &io::Result<()>) -> bool {
        output.is_ok()
    }
}

/// What statx(2) says.
pub(crate) type Status = libc::statx;

/// Asks for the metadata of a name or of an open file.
pub(crate) struct Statx {
    /// The open file is the directory of an empty path.
    name: HeldPlace,
    /// `AT_*`.
    flags: i32,
    status: Box<Status>,
}

impl Statx {
    /// Of what the path leads to.
    pub(crate) fn of_target(name: Place<'_>) -> Op<'_, Statx> {
        Statx::op(name, 0)
    }

    /// Of the name itself, which may be a symbolic link.
    pub(crate) fn of_name(name: Place<'_>) -> Op<'_, Statx> {
        Statx::op(name, libc::AT_SYMLINK_NOFOLLOW)
    }

    pub(crate) fn of_file(file: &Handle) -> Op<'_, Statx> {
        Statx::op(Place::within(file, CString::default()), libc::AT_EMPTY_PATH)
    }

    fn op(name: Place<'_>, flags: i32) -> Op<'_, Statx> {
        // SAFETY: all zeroes is a value of this C structure.
        Op::new(Statx { name: name.held(), flags, status: Box::new(unsafe { mem::zeroed() }) })
    }
}

// SAFETY: the path and the status belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl Operation for Statx {
    type Output = io::Result<Box<Status>>;

    fn entry(&mut self) -> squeue::Entry {
        let status: *mut Status = &mut *self.status;
        opcode::Statx::new(self.name.directory(), self.name.path(), status.cast())
            .flags(self.flags | libc::AT_STATX_SYNC_AS_STAT)
            .mask(libc::STATX_BASIC_STATS | libc::STATX_BTIME)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(|_| self.status))
    }
}
