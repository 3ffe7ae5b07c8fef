//! An open descriptor that belongs to the crate.
//!
//! # Safety
//! A number becomes a [`Descriptor`] once, by whoever got it from the kernel and keeps no other
//! owner of it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::calls;

/// An open descriptor, which is closed when this is dropped. Errors go nowhere then, as in std.
///
/// The rooms above hold this and not std's type, so that one file decides what a descriptor is and
/// how it is closed. std's is in it: it knows that -1 is no number, so an `Option` is no larger,
/// and in a debug build it notices that somebody else has closed the number.
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

const _: () = assert!(size_of::<Option<Descriptor>>() == 4);

impl Descriptor {
    /// # Safety
    /// The number is that of an open descriptor, which belongs to nobody else.
    #[inline]
    pub(crate) unsafe fn of_number(number: RawFd) -> Descriptor {
        // SAFETY: the caller hands over the number, and it is open until this is dropped.
        Descriptor(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Closes it, and says how that went; close(2). The number is given up whatever the outcome: an
    /// error is that of the file's flush.
    pub(crate) fn close(self) -> io::Result<()> {
        calls::close(self.0)
    }
}

/// Another number for the same open file, close-on-exec; fcntl(2).
pub(crate) fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    descriptor.try_clone_to_owned()
}

impl From<OwnedFd> for Descriptor {
    fn from(descriptor: OwnedFd) -> Descriptor {
        Descriptor(descriptor)
    }
}

impl From<Descriptor> for OwnedFd {
    fn from(descriptor: Descriptor) -> OwnedFd {
        descriptor.0
    }
}

impl AsFd for Descriptor {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
