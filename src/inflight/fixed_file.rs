//! By what entries name a file: by its descriptor, or by its place in the ring's table of fixed
//! files.
//!
//! A file that is read or written often gets a place, and keeps its descriptor beside it. For an
//! operation that names the place the kernel neither looks the descriptor up nor counts one more
//! user of the file. But a file in the table is open, whatever becomes of its descriptor: the place
//! is emptied before that is closed or given up.

use std::cell::{Cell, OnceCell};
use std::os::fd::BorrowedFd;
use std::rc::{Rc, Weak};

use io_uring::{squeue, types};

use crate::runtime::{self, Core};

/// Transfers until a file gets a place. Filling and emptying one are two system calls, which cost
/// about as much as they save in so many.
const TRANSFERS_BEFORE: u8 = 16;
/// Transfers until it asks again, where there was no place.
const TRANSFERS_BETWEEN: u8 = u8::MAX;

/// How an entry names a file. The flags go into the entry, too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) number: types::Fd,
    pub(crate) flags: squeue::Flags,
}

/// The place of one file with the first runtime on which it was used often. Whoever gives the
/// descriptor up gives it back.
pub(super) struct FixedFile {
    /// Transfers until it asks for one.
    until: Cell<u8>,
    /// The runtime in whose table it is, or 0 for none.
    ring: Cell<u64>,
    number: Cell<i32>,
    core: OnceCell<Weak<Core>>,
}

impl Default for FixedFile {
    fn default() -> FixedFile {
        FixedFile {
            until: Cell::new(TRANSFERS_BEFORE),
            ring: Cell::new(NO_RING),
            number: Cell::new(0),
            core: OnceCell::new(),
        }
    }
}

/// No runtime has this number.
const NO_RING: u64 = 0;

impl FixedFile {
    /// The place on the current runtime.
    #[inline]
    pub(super) fn here(&self) -> Option<Target> {
        let ring = self.ring.get();
        let is_here = ring != NO_RING && runtime::is_current(ring);
        is_here.then_some(Target {
            number: types::Fd(self.number.get()),
            flags: squeue::Flags::FIXED_FILE,
        })
    }

    /// Counts a transfer that could not name the place.
    pub(super) fn count(&self, descriptor: BorrowedFd<'_>) {
        let until = self.until.get() - 1;
        self.until.set(until);
        if until == 0 {
            self.take(descriptor);
        }
    }

    #[cold]
    fn take(&self, descriptor: BorrowedFd<'_>) {
        self.until.set(TRANSFERS_BETWEEN);
        if self.core.get().is_none()
            && let Some(core) = runtime::try_current()
            && let Some(number) = core.register_file(descriptor)
        {
            self.core.get_or_init(|| Rc::downgrade(&core));
            self.number.set(number);
            self.ring.set(core.id());
        }
    }

    /// Empties the place.
    pub(super) fn give_back(&self) {
        if self.ring.replace(NO_RING) != NO_RING
            && let Some(core) = self.core.get().and_then(Weak::upgrade)
        {
            core.forget_file(self.number.get());
        }
    }
}
