//! A counter that others add to, and that the ring waits for. eventfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::inflight::{Op, Resource};
use crate::op::event::ReadEvent;
use crate::op::file::WriteAt;
use crate::sys;

/// A counter of 64 bits behind a descriptor: one side adds to it, and the other waits until it is
/// not 0.
///
/// It is how other threads, other processes and C libraries tell a runtime that there is something
/// to do: they write eight bytes to a duplicate of its descriptor. Within one program a channel is
/// simpler.
///
/// ```
/// use annulus::io::EventFd;
/// use std::{fs::File, io::Write, os::fd::AsFd, thread};
///
/// # annulus::block_on(async {
/// let event = EventFd::new(0)?;
/// let mut adder = File::from(event.as_fd().try_clone_to_owned()?);
/// let thread = thread::spawn(move || adder.write_all(&3u64.to_ne_bytes()));
/// assert_eq!(event.read().await?, 3);
/// thread.join().unwrap()
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct EventFd {
    resource: Resource,
}

impl EventFd {
    /// A counter of which a read takes all.
    ///
    /// # Errors
    /// `EMFILE` if the process may have no further descriptor.
    pub fn new(initial: u32) -> io::Result<EventFd> {
        Ok(EventFd { resource: Resource::of_file(sys::event_counter(initial, false)?) })
    }

    /// A counter of which each read takes one, as of a semaphore.
    ///
    /// # Errors
    /// As [`new`](EventFd::new).
    pub fn semaphore(initial: u32) -> io::Result<EventFd> {
        Ok(EventFd { resource: Resource::of_file(sys::event_counter(initial, true)?) })
    }

    /// Waits until the counter is not 0, takes it, and yields what it was; of a
    /// [`semaphore`](EventFd::semaphore), one. The ring waits, on every kernel.
    ///
    /// Nothing is lost if it is dropped: what it took goes to the next read of this `EventFd`.
    ///
    /// Yields `io::Result<u64>`.
    ///
    /// # Errors
    /// None that the kernel is known to have.
    pub fn read(&self) -> Op<'_, ReadEvent> {
        ReadEvent::op(&self.resource)
    }

    /// Adds to the counter. It waits while that would make it more than `u64::MAX - 1`.
    ///
    /// If it is dropped it may have added all the same. Reads do not wait for it.
    ///
    /// # Errors
    /// `InvalidInput` for `u64::MAX`.
    pub async fn write(&self, value: u64) -> io::Result<()> {
        WriteAt::op(&self.resource, Box::new(value.to_ne_bytes()), 0).await?;
        Ok(())
    }

    /// Waits for the end of reads and writes whose futures were dropped, and gives the descriptor
    /// back. What a dropped read took is lost with it.
    pub async fn into_fd(self) -> OwnedFd {
        self.resource.into_descriptor().await.into()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.resource.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.resource.as_raw_fd()
    }
}
