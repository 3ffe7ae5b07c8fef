//! The seam: submission queue entries (SQEs) go in, completions come out. Everything above speaks
//! these, and does not know which source answers.
//!
//! A [`Source`] takes SQEs, gives back completions, and is the only place where time passes. It
//! knows no task, no future and no operation. The kernel is one, and an engine of our own another,
//! which executes the same entries where io_uring is not to be had. The others combine these two.
//!
//! # Safety
//! A source hands on, or keeps, what entries and buffers name; whoever calls vouches for the
//! memory.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use io_uring::squeue;

use super::report::RingReport;
use super::unpark::Unparker;
use crate::buf::BufferRing;
use crate::counters::Counters;

/// Bits of [`Completion::flags`], io_uring_enter(2).
pub(crate) const COMPLETION_MORE: u32 = 1 << 1;
/// The second completion of a zero-copy send: the kernel has let go of the memory.
pub(crate) const COMPLETION_NOTIFICATION: u32 = 1 << 3;
/// Set by the driver where it joins both completions of a zero-copy send: the bytes were copied
/// after all (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub(crate) const COMPLETION_COPIED: u32 = 1 << 31;

/// The completion took a buffer, which the upper 16 bits name, whatever its result.
pub(super) const COMPLETION_BUFFER: u32 = 1 << 0;

/// Tokens from here on belong to the ring itself (alarm, kick, buffers): no completion with one of
/// them leaves [`Source::reap`].
pub(crate) const FIRST_PRIVATE_TOKEN: u64 = u64::MAX - 15;
/// The answer to a buffer that was handed over.
pub(super) const PROVIDED: u64 = FIRST_PRIVATE_TOKEN + 3;
/// What another ring, whose descriptor is polled in this one, has to say.
pub(super) const GUEST: u64 = FIRST_PRIVATE_TOKEN + 4;

/// One completion queue entry. Ours, since the crate's has no constructor and other sources must
/// make them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub(crate) token: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// Is this the operation's last completion? Only then does the kernel let go of its memory.
    pub(crate) fn is_last(&self) -> bool {
        self.flags & COMPLETION_MORE == 0
    }

    /// The buffer that it took from the group that the entry names.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.flags & COMPLETION_BUFFER != 0).then_some((self.flags >> 16) as u16)
    }
}

/// How long may [`Source::enter`] wait for a completion?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Until(Instant),
    Forever,
}

impl Wait {
    /// The same, but not beyond a deadline.
    pub(crate) fn no_later_than(self, deadline: Option<Instant>) -> Wait {
        match (self, deadline) {
            (Wait::Until(other), Some(deadline)) => Wait::Until(other.min(deadline)),
            (Wait::Forever, Some(deadline)) => Wait::Until(deadline),
            (wait, _) => wait,
        }
    }
}

/// Why a chain was not taken. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// No room now: enter, then try again.
    Full,
    /// Longer than the submission queue: it never fits, since a chain that a flush splits is two
    /// chains.
    TooLong,
}

/// A source of completions. The thread that opened it is its owner: all calls come from it.
pub(crate) trait Source: fmt::Debug {
    /// Can this source execute `opcode`? A `true` is no promise for every argument: look at the
    /// first result too.
    fn supports(&self, opcode: u8) -> bool;

    /// Queues a chain (one entry is a chain of one) behind everything queued before, whole or not
    /// at all.
    ///
    /// # Safety
    /// Every address in `chain` and every descriptor must stay valid as `inflight::Operation`
    /// demands.
    unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError>;

    /// Most entries of a chain whose links hold. 1: links do not hold on this source, so that what
    /// follows must be pushed when what comes before it has ended.
    fn longest_chain(&self) -> usize;

    /// Lets entries with [`BUFFER_SELECT`](squeue::Flags::BUFFER_SELECT) and this group take their
    /// buffers from `ring`, first in first out, each when it has something to put there and not
    /// before. The completion [names the buffer](Completion::buffer), also one that reports an
    /// error or 0; from then on it is the caller's, who may append it again. An entry that finds
    /// none ends with `ENOBUFS`.
    ///
    /// A source reads the queue from its own head to [`BufferRing::tail`] and keeps the `Rc` until
    /// it is dropped. It refuses nothing: where the kernel does not take the queue as it is, its
    /// buffers are handed over one by one. Called once.
    ///
    /// # Safety
    /// All buffers that are ever appended to `ring` stay valid until they were taken or this is
    /// dropped; if this is forgotten, for ever.
    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>);

    /// Submits what is queued, and waits; for several completions if the user wants that, but not
    /// for more than are in flight. May return early for any reason, so callers look at what they
    /// wait for themselves.
    fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()>;

    /// Submits what is queued and does nothing else, so that the next enter receives less at a
    /// time. Only a kernel's ring gains by that.
    fn submit_alone(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Submits what is queued, and returns when the source has taken it.
    fn flush(&mut self) -> io::Result<()>;

    /// Takes the next completion out of the queue.
    fn reap(&mut self) -> Option<Completion>;

    /// Does anything wait for the next enter?
    fn has_queued(&mut self) -> bool;

    /// Are there completions that have not been reaped, in the queue or beyond it?
    fn has_completions(&mut self) -> bool;

    /// Would an enter that does not wait bring completions? Seen in memory, without a call.
    fn has_work(&mut self) -> bool;

    /// As [`has_work`](Source::has_work), but `true` also where only a call would tell.
    fn may_have_work(&mut self) -> bool {
        self.has_work()
    }

    /// Does our own engine execute the entries, and no kernel?
    fn is_software(&self) -> bool {
        false
    }

    /// The time by which this source's waits end.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A handle that ends a wait from another thread.
    fn unparker(&self) -> Unparker;

    /// Registers memory for reads and writes by number, and returns the number of the first.
    ///
    /// # Errors
    /// `OutOfMemory` for want of locked memory, `InvalidInput` for want of indices or for a size
    /// that cannot be, `Unsupported` for want of a table.
    fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16>;

    /// Takes a registration back.
    fn forget_buffers(&mut self, first: u16, count: usize);

    /// Puts a file into the ring's table, and returns its index. It is open as long as it stands
    /// there. `None`: no index is free, or there is no table.
    fn register_file(&mut self, _file: BorrowedFd<'_>) -> Option<i32> {
        None
    }

    /// Takes a file out of the table.
    fn forget_file(&mut self, _index: i32) {}

    /// A descriptor that no operation uses is about to be closed or given away: what is known of
    /// its number is forgotten.
    fn forget(&mut self, _fd: RawFd) {}

    /// As [`forget`](Source::forget), of a descriptor that operations in flight may use. The kernel
    /// looks a number up when it takes the entry. Workers look some up later, which the caller must
    /// know. `false`: the number is still needed.
    fn let_go(&mut self, fd: RawFd) -> bool;

    /// What was granted and what was refused.
    fn report(&self) -> RingReport;

    /// The page on which this source counts what happens at the seam.
    fn counters(&self) -> &Arc<Counters>;

    /// The number by which `MSG_RING` names this ring.
    #[cfg(test)]
    fn descriptor(&self) -> RawFd;
}
