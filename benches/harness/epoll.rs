//! An epoll set and its events; used by the load generator and by the epoll contender.
#![allow(unsafe_code)] // epoll has no safe form in the standard library.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Edge-triggered: cheaper than level-triggered, since the kernel need not look again at what it
/// has reported. Being writable is asked for only by who has found a full socket, for a Unix socket
/// would report it after every message.
pub(crate) const READABLE: libc::c_int = libc::EPOLLIN | libc::EPOLLET;
pub(crate) const WRITABLE: libc::c_int = libc::EPOLLOUT | libc::EPOLLET;

/// Events taken from the kernel by one `epoll_wait`; more wait for the next.
const EVENT_BATCH: usize = 256;

/// An epoll set.
#[derive(Debug)]
pub(crate) struct Epoll {
    descriptor: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes an integer and answers a new descriptor that nobody else owns, or
        // -1.
        let descriptor = unsafe {
            let number = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            checked(number)?;
            OwnedFd::from_raw_fd(number)
        };
        Ok(Epoll { descriptor })
    }

    /// The token of a descriptor is its number.
    pub(crate) fn add(&self, source: &impl AsRawFd, interest: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), interest)
    }

    /// Reports at once what is ready already.
    pub(crate) fn modify(&self, source: &impl AsRawFd, interest: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source.as_raw_fd(), interest)
    }

    fn control(
        &self,
        operation: libc::c_int,
        source: RawFd,
        interest: libc::c_int,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: source as u64 };
        // SAFETY: `event` is a local; the kernel copies it during the call.
        checked(unsafe {
            libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, source, &mut event)
        })
    }

    /// Waits until something is ready or `timeout_ms` have passed (-1: for ever). Begins again
    /// after a signal.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        let room = events.list.len() as libc::c_int;
        loop {
            // SAFETY: the list is owned by `events`, which is borrowed mutably for the whole call,
            // and has `room` entries.
            let count = unsafe {
                libc::epoll_wait(
                    self.descriptor.as_raw_fd(),
                    events.list.as_mut_ptr(),
                    room,
                    timeout_ms,
                )
            };
            events.count = usize::try_from(count).unwrap_or(0);
            match checked(count) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for the answer of one `epoll_wait`.
pub(crate) struct Events {
    list: Vec<libc::epoll_event>,
    count: usize,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { list: vec![libc::epoll_event { events: 0, u64: 0 }; EVENT_BATCH], count: 0 }
    }

    /// The descriptors that are ready.
    pub(crate) fn ready(&self) -> impl Iterator<Item = RawFd> {
        self.list[..self.count].iter().map(|event| event.u64 as RawFd)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}
