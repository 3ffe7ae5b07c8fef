//! The position of a file that is read and written where it stands.
//!
//! A file that has positions has its own here, and not in the kernel. So only who hands a result
//! over moves it: a read whose future is dropped has moved nothing. The kernel's position is taken
//! over with the first use, and is set when the descriptor is given up. Who may move it when is not
//! known here: see `standing.rs`.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use crate::sys::{self, Whence};

/// Where a file stands.
#[derive(Default)]
pub(super) struct Position(Cell<Stand>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// Here. A file that `appends` is written at its end all the same.
    Here { at: u64, appends: bool },
    /// Where the kernel's position is, since it has moved that to the end of what was appended.
    Appended,
    /// It has no positions.
    Nowhere,
}

impl Position {
    /// As far as it is known.
    #[inline]
    pub(super) fn get(&self) -> Stand {
        self.0.get()
    }

    #[inline]
    pub(super) fn set(&self, stand: Stand) {
        self.0.set(stand);
    }

    /// Asks the kernel; lseek(2).
    #[cold]
    pub(super) fn find_out(&self, descriptor: BorrowedFd<'_>) -> Stand {
        let appends = self.0.get() == Stand::Appended || sys::appends(descriptor);
        let stand = match sys::seek(descriptor, 0, Whence::Current) {
            Ok(at) => Stand::Here { at, appends },
            Err(_) => Stand::Nowhere,
        };
        self.0.set(stand);
        stand
    }

    /// Tells the kernel, for whoever has the descriptor next.
    pub(super) fn give_back(&self, descriptor: BorrowedFd<'_>) {
        if let Stand::Here { at, .. } = self.0.get() {
            self.0.set(Stand::Unasked);
            // Only a device that has another idea of positions refuses what it has told.
            let _ = sys::seek(descriptor, at as i64, Whence::Start);
        }
    }
}
