//! Readiness of any descriptor, for libraries that read and write by themselves. poll(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::inflight::{Op, Resource};
use crate::op::Changes;
use crate::op::poll::{Interest, Poll};
use crate::sys;

/// A descriptor that can be waited for until it is ready.
///
/// Operations of the ring wait by themselves; nobody needs this to read a socket. It is for what
/// somebody else reads and writes: a C library that hands out its descriptor, a pidfd, a timerfd, a
/// device. The kernel does the waiting, by the ring, without a thread.
///
/// A wait looks first, and then waits for the first event. So one that begins after the event is
/// ready at once, and no event falls in between: wait, make the call, and wait again if that says
/// `EAGAIN`. The descriptor should be non-blocking for this, since somebody else may take what was
/// announced. Regular files are always ready.
///
/// A wait costs one entry. [`changes`](PollFd::changes) is the wait that goes on after its first
/// event, with one entry for all. It tells of new events and not of what is there.
///
/// # Which descriptor
/// A `PollFd` has a descriptor of its own: that which was given to it, or a
/// [duplicate](PollFd::duplicate) of a borrowed one. It is closed when the `PollFd` has been
/// dropped and all its waits have ended, which are cancelled then. So the borrowed one may be
/// closed at any time, and a wait never sees another file that got its number. The open file lives
/// as long as the duplicate: drop the `PollFd` first where a close is to tell the other side.
///
/// ```
/// use annulus::io::PollFd;
/// use std::io::{Read, Write};
///
/// # annulus::block_on(async {
/// let (mut reader, mut writer) = std::io::pipe()?;
/// let ready = PollFd::duplicate(&reader)?;
/// writer.write_all(b"x")?;
/// assert!(ready.readable().await?.is_readable());
/// reader.read_exact(&mut [0])?; // which does not wait now
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct PollFd {
    resource: Resource,
}

impl PollFd {
    /// Takes a descriptor over.
    pub fn new(descriptor: impl Into<OwnedFd>) -> PollFd {
        PollFd { resource: Resource::of_file(descriptor.into().into()) }
    }

    /// Waits for the file of a borrowed descriptor, by a duplicate of it; fcntl(2).
    ///
    /// # Errors
    /// `EMFILE` if the process may have no further descriptor.
    pub fn duplicate(descriptor: &impl AsFd) -> io::Result<PollFd> {
        sys::duplicate(descriptor.as_fd()).map(PollFd::new)
    }

    /// Waits until a read would not wait: something came, the stream has ended, or there is an
    /// error.
    ///
    /// If it is dropped it is cancelled, and nothing is lost: the next wait looks anew.
    ///
    /// Yields `io::Result<Ready>`.
    ///
    /// # Errors
    /// As [`ready`](PollFd::ready).
    pub fn readable(&self) -> Op<'_, Poll> {
        self.ready(Interest::READABLE)
    }

    /// Waits until a write would not wait: there is room, or it would fail.
    ///
    /// A socket whose other side has shut down its writing is no more writable for that.
    ///
    /// Dropping it is as with [`readable`](PollFd::readable). Yields `io::Result<Ready>`.
    ///
    /// # Errors
    /// As [`ready`](PollFd::ready).
    pub fn writable(&self) -> Op<'_, Poll> {
        self.ready(Interest::WRITABLE)
    }

    /// Waits until the descriptor is ready for something of `interest`, in error, or hung up.
    ///
    /// Any number of waits may be in flight, and each ends by itself. The ring does it on every
    /// kernel. Dropping it is as with [`readable`](PollFd::readable). Yields `io::Result<Ready>`.
    ///
    /// # Errors
    /// The kernel's. `EMFILE` if the process may have no further descriptor, which a wait without
    /// [`READABLE`](Interest::READABLE) needs on a socket whose other side writes no more.
    pub fn ready(&self, interest: Interest) -> Op<'_, Poll> {
        Poll::op(&self.resource, interest)
    }

    /// What makes the descriptor ready for something of `interest`, sets it in error or hangs it
    /// up, as a stream by one entry (multishot).
    ///
    /// An item says that something may have changed since the item before. The first is told at
    /// once if the descriptor is ready already, and after that only what is new (edge-triggered):
    /// nobody tells again of a byte that was left unread. So take an item, make the call until it
    /// says `EAGAIN`, and only then take the next item. Then no event is lost, and an item may come
    /// for nothing: what it tells may have been taken already. Events that came since the last item
    /// are one item. A stream that nobody polls is stopped after some events, and looks anew when
    /// it is polled.
    ///
    /// A hang-up or an error is an item as often as the kernel tells of it, at least once, and does
    /// not end the stream. That the other side of a socket writes no more is an item only with
    /// [`READABLE`](Interest::READABLE). Regular files are always ready, and so is each item.
    ///
    /// Any number of streams and waits may be beside each other. Dropping the stream cancels it,
    /// and nothing is lost: the next wait or stream looks anew.
    ///
    /// The ring does it. Before Linux 5.13 it is one wait after the other, and what is left unread
    /// is told again.
    ///
    /// # Errors
    /// As [`ready`](PollFd::ready). The stream ends (`None`) after an error.
    ///
    /// ```
    /// use annulus::io::{Interest, PollFd};
    /// use futures_util::StreamExt;
    /// use std::io::{ErrorKind, Read, Write};
    ///
    /// # annulus::block_on(async {
    /// let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
    /// ours.set_nonblocking(true)?;
    /// let descriptor = PollFd::duplicate(&ours)?;
    /// theirs.write_all(b"all of it")?;
    /// drop(theirs);
    /// let mut changes = descriptor.changes(Interest::READABLE);
    /// let mut buffer = [0; 4];
    /// 'open: while let Some(ready) = changes.next().await {
    ///     ready?;
    ///     loop {
    ///         match ours.read(&mut buffer) {
    ///             Ok(0) => break 'open,
    ///             Ok(_) => {}
    ///             Err(error) if error.kind() == ErrorKind::WouldBlock => break,
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// }
    /// # Ok(()) }).unwrap();
    /// ```
    pub fn changes(&self, interest: Interest) -> Changes<'_> {
        Changes::new(&self.resource, interest)
    }

    /// Waits for the end of waits whose futures were dropped, and gives the descriptor back.
    pub async fn into_fd(self) -> OwnedFd {
        self.resource.into_descriptor().await.into()
    }
}

impl From<OwnedFd> for PollFd {
    fn from(descriptor: OwnedFd) -> PollFd {
        PollFd::new(descriptor)
    }
}

impl AsFd for PollFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.resource.as_fd()
    }
}

impl AsRawFd for PollFd {
    fn as_raw_fd(&self) -> RawFd {
        self.resource.as_raw_fd()
    }
}
