//! The knowledge of descriptors: what is ready, who waits, and what a file can do.
//!
//! It only saves calls, and nothing may rest on it: programs close numbers and use them again
//! without a word.

use crate::ring::world::{Interest, RequestKey};

/// What every registration listens for.
pub(super) const LISTEN: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET) as u32;
/// Events with which input may be had, if only an end or an error.
const INPUT: u32 =
    (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const OUTPUT: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;
/// Events after which a short transfer does not mean that the next would wait.
const REMARKABLE: u32 =
    (libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// What is known of a descriptor.
#[derive(Debug, Default)]
pub(super) struct DescriptorState {
    /// Which of the files that have had the number an event is about.
    pub(super) life: u32,
    pub(super) registered: bool,
    /// Events since the last attempt that would have waited.
    pub(super) ready: u32,
    /// Directions in which an attempt would have waited, so the file has them.
    pub(super) tried: u32,
    /// It is a socket: a call for sockets would have waited on it.
    pub(super) is_socket: bool,
    /// A short transfer means that the next would wait.
    pub(super) is_tcp: bool,
    /// A Unix socket. No event says that the peer has stopped reading, so output that waits is
    /// tried again.
    pub(super) is_unix: bool,
    /// Directions in which calls cannot be asked not to wait.
    pub(super) always_waits: u32,
    /// Whether that was asked of the file's kind.
    pub(super) is_kind_known: bool,
    /// A file of a process in user space, which may take its time even to say what is ready.
    pub(super) is_fuse: bool,
    /// It has positions, so a limit on the size of files holds for it.
    pub(super) is_limited: bool,
    /// Whether transfers go around the page cache, once somebody asked.
    pub(super) is_direct: Option<bool>,
    pub(super) waiters: Vec<(RequestKey, Interest)>,
    /// It is in the list of those to look after; the round in which its last wait began.
    pub(super) listed: bool,
    pub(super) round: u32,
}

impl DescriptorState {
    /// The number means nothing now, or another file. Those who wait for the old one are `gone`.
    pub(super) fn forget(&mut self, gone: &mut Vec<RequestKey>) {
        gone.extend(self.waiters.drain(..).map(|(key, _)| key));
        let life = self.life.wrapping_add(1);
        let waiters = std::mem::take(&mut self.waiters);
        *self = DescriptorState {
            life,
            waiters,
            listed: self.listed,
            round: self.round,
            ..DescriptorState::default()
        };
    }

    pub(super) fn would_wait(&self, interest: Interest) -> bool {
        self.registered
            && self.tried & interest.0 == interest.0
            && self.ready & interest.events() == 0
    }

    /// No event tells whether output may be had.
    pub(super) fn tries_output_again(&self) -> bool {
        self.is_unix && self.waiters.iter().any(|(_, interest)| *interest == Interest::OUTPUT)
    }

    /// The next event is news.
    pub(super) fn blocked(&mut self, interest: Interest) {
        self.ready &= !interest.events();
        self.tried |= interest.0;
    }

    /// Is the next transfer known to wait?
    pub(super) fn transferred_short(&mut self, interest: Interest) -> bool {
        let is_last = self.is_tcp && self.ready & REMARKABLE == 0;
        if is_last {
            self.blocked(interest);
        }
        is_last && self.registered
    }
}

impl Interest {
    pub(super) fn events(self) -> u32 {
        match self {
            Interest::INPUT => INPUT,
            Interest::OUTPUT => OUTPUT,
            Interest(mask) => mask | (libc::EPOLLHUP | libc::EPOLLERR) as u32,
        }
    }
}
