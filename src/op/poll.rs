//! Waiting until a descriptor is ready: one look that ends with the first event. poll(2).
//!
//! # Safety
//! The entry names no memory.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::{opcode, squeue};

use crate::inflight::{Handle, Op, Operation, Resource, Step, Turns};
use crate::ring::Completion;
use crate::sys;

const INPUT: u32 = libc::POLLIN as u32;
const OUTPUT: u32 = libc::POLLOUT as u32;
const URGENT: u32 = libc::POLLPRI as u32;
const ERROR: u32 = libc::POLLERR as u32;
const HANG_UP: u32 = libc::POLLHUP as u32;
/// The other side will write no more.
const READ_HANG_UP: u32 = libc::POLLRDHUP as u32;

/// What to wait for on a descriptor; several are joined by `|`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u32);

impl Interest {
    /// A read would not wait: there is something to read, or the end, or an error.
    pub const READABLE: Interest = Interest(INPUT | READ_HANG_UP);
    /// A write would not wait.
    pub const WRITABLE: Interest = Interest(OUTPUT);
    /// There is something urgent: out-of-band data of a socket, a change of a file in `/sys` or
    /// `/proc` that announces it, or what else poll(2) calls `POLLPRI`.
    pub const PRIORITY: Interest = Interest(URGENT);

    /// From the `events` of poll(2), for a library that has such a mask.
    pub const fn from_events(events: i16) -> Interest {
        Interest(events as u16 as u32)
    }

    /// The mask as poll(2) has it.
    pub const fn events(self) -> i16 {
        self.0 as i16
    }

    pub(super) fn mask(self) -> u32 {
        self.0
    }

    /// What a poll for this has brought, if anybody has asked for it. io_uring tells everybody that
    /// the other side writes no more.
    pub(super) fn answered_by(self, events: u32) -> Option<Ready> {
        (events & (self.0 | ERROR | HANG_UP) != 0).then_some(Ready(events))
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, "Interest", self.0)
    }
}

/// What a descriptor was ready for, when a wait for it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ready(u32);

impl Ready {
    /// Would a read not wait? It brings bytes, the end or an error.
    pub const fn is_readable(self) -> bool {
        self.0 & (INPUT | READ_HANG_UP | HANG_UP | ERROR) != 0
    }

    /// Would a write not wait? It takes bytes, or fails.
    pub const fn is_writable(self) -> bool {
        self.0 & (OUTPUT | HANG_UP | ERROR) != 0
    }

    /// Is there something urgent?
    pub const fn is_priority(self) -> bool {
        self.0 & URGENT != 0
    }

    /// Will the other side write no more? What it wrote before may still wait to be read.
    pub const fn is_read_closed(self) -> bool {
        self.0 & (READ_HANG_UP | HANG_UP) != 0
    }

    /// Is it in error, or is the reader of a pipe gone?
    pub const fn is_error(self) -> bool {
        self.0 & ERROR != 0
    }

    /// The `revents` of poll(2).
    pub const fn events(self) -> i16 {
        self.0 as i16
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, "Ready", self.0)
    }
}

/// The names of poll(2) of the events in a mask.
fn names(f: &mut fmt::Formatter<'_>, what: &str, mask: u32) -> fmt::Result {
    let all = [
        (INPUT, "POLLIN"),
        (URGENT, "POLLPRI"),
        (OUTPUT, "POLLOUT"),
        (ERROR, "POLLERR"),
        (HANG_UP, "POLLHUP"),
        (READ_HANG_UP, "POLLRDHUP"),
    ];
    let mut tuple = f.debug_tuple(what);
    for (_, name) in all.iter().filter(|(event, _)| mask & event != 0) {
        tuple.field(&format_args!("{name}"));
    }
    tuple.finish()
}

/// Waits for events on a descriptor, and yields those that have come.
///
/// io_uring ends every poll of a socket whose other side writes no more (`POLLRDHUP`), whatever was
/// asked for, and one that begins after that at once. Who waits for room to write would turn round
/// without a pause. So where that is all that has come, and nobody has asked for it, the wait goes
/// on in an epoll instance, which tells only what was asked for, and the ring waits for that.
pub struct Poll {
    handle: Handle,
    interest: Interest,
    /// The epoll instance, if one is needed.
    exact: Option<Resource>,
}

impl Poll {
    pub(crate) fn op<'h>(handle: &Handle, interest: Interest) -> Op<'h, Poll> {
        Op::new(Poll { handle: handle.clone(), interest, exact: None })
    }

    /// Goes on to wait in an epoll instance.
    fn wait_exactly(mut self) -> Step<Self> {
        let epoll = sys::epoll().and_then(|epoll| {
            let add = libc::EPOLL_CTL_ADD;
            sys::epoll_control(epoll.as_fd(), add, self.handle.as_raw_fd(), self.interest.0, 0)?;
            Ok(epoll)
        });
        match epoll {
            Ok(epoll) => {
                self.exact = Some(Resource::of_file(epoll.into()));
                Step::Again(self)
            }
            Err(error) => Step::Done(Err(error)),
        }
    }
}

// SAFETY: the entry names no memory; the handle, and the resource of the epoll instance, which
// belongs to the operation, keep their descriptors open.
unsafe impl Operation for Poll {
    type Output = io::Result<Ready>;

    // Nobody wants to know, and the descriptor may be closed by then.
    const TURNS: Option<Turns<Self>> = Some(Turns { leave: |_, _| (), ..Turns::of(|_| None) });

    fn entry(&mut self) -> squeue::Entry {
        match &self.exact {
            None => opcode::PollAdd::new(self.handle.target(), self.interest.0).build(),
            Some(epoll) => opcode::PollAdd::new(epoll.target(), INPUT).build(),
        }
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let events = match completion.result() {
            Ok(events) => events as u32,
            Err(error) => return Step::Done(Err(error)),
        };
        let Some(epoll) = &self.exact else {
            return match self.interest.answered_by(events) {
                Some(ready) => Step::Done(Ok(ready)),
                None => self.wait_exactly(),
            };
        };
        let mut event = [libc::epoll_event { events: 0, u64: 0 }];
        match sys::epoll_wait(epoll.as_fd(), &mut event, Some(Duration::ZERO)) {
            // Somebody was faster.
            Ok(0) => Step::Again(self),
            Ok(_) => Step::Done(Ok(Ready(event[0].events))),
            Err(error) => Step::Done(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_that_of_poll_and_prints_the_names_of_its_events() {
        let both = Interest::READABLE | Interest::WRITABLE;
        assert_eq!(both.events(), libc::POLLIN | libc::POLLRDHUP | libc::POLLOUT);
        assert_eq!(Interest::from_events(both.events()), both);
        assert_eq!(format!("{both:?}"), "Interest(POLLIN, POLLOUT, POLLRDHUP)");
        let hung_up = Ready(HANG_UP);
        assert!(hung_up.is_readable() && hung_up.is_writable() && hung_up.is_read_closed());
        assert!(!hung_up.is_error() && !hung_up.is_priority());
    }
}
