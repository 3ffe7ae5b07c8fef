//! An operation: how it becomes a submission queue entry, and how its completion becomes a value.
//!
//! Each operation is written once, as that pair on one screen, in its family's file in `op/`. What
//! only some need (turns, a notification, a way past the ring) is a constant of the trait, which
//! names the functions of the family.
//!
//! # Safety
//! The trait is unsafe to implement: an operation owns the memory that its entry names, until its
//! last completion.
#![allow(unsafe_code)]
// Users see operations only inside `Op`, `Cancel` and `Deadline`, which have their own.
#![allow(missing_debug_implementations)]

use std::io;

use io_uring::squeue;

use super::handle::Handle;
use super::kept::{Direction, Manner};
use super::turns::Turn;
use crate::ring::Completion;
use crate::runtime::Core;

/// The most bytes that one read or write moves: what Linux clamps to, read(2).
pub(crate) const MOST_BYTES: usize = 0x7fff_f000;

/// One kind of operation.
///
/// # Safety
/// Every address in `entry()` that the kernel uses after submission lies in memory owned by `self`
/// on the heap, or is `'static`; moving `self` does not change it; and until the last completion
/// nobody, safe code included, frees it, writes it, or (where the kernel writes) reads it. Memory
/// that is only read during submission lives until the enter that consumes the entry, so it is
/// owned in the same way. The descriptor in `entry()` stays open until then: operations hold a
/// [`Handle`].
pub unsafe trait Operation: Sized + 'static {
    /// What the future yields.
    type Output;

    /// How it becomes an SQE. Called again for each part of a repeated operation.
    fn entry(&mut self) -> squeue::Entry;

    /// How its last completion becomes a value, or the start of the next part. A completion with
    /// `ECANCELED` ends it. If nobody waits for the value, the descriptor may have been given up by
    /// then ([`Handle::is_given_up`]), and is not asked for anything; the same holds for
    /// [`Turns::leave`].
    fn complete(self, completion: Completion) -> Step<Self>;

    /// How it takes turns with others of its descriptor, if it does.
    const TURNS: Option<Turns<Self>> = None;

    /// What sets it apart from most others.
    const HABITS: Habits<Self> = Habits::USUAL;
}

/// What a completion means.
pub enum Step<O: Operation> {
    /// The operation has ended.
    Done(O::Output),
    /// It goes on with another entry, as `write_all` does after a short write.
    Again(O),
}

/// How an operation takes turns.
#[derive(Clone, Copy)]
pub struct Turns<O: Operation> {
    /// Where, and with whom: `None` for one that takes no turn after all.
    pub(crate) lane: fn(&O) -> Option<(&Handle, Direction, Manner)>,
    /// Takes what a dropped one has left in its lane, before it is submitted.
    pub(crate) claim: fn(O) -> Step<O>,
    /// What becomes of its last completion when its future is gone: it goes into the lane for the
    /// next one, or nobody misses it.
    pub(crate) leave: fn(O, Completion),
    /// How much its earlier parts have moved, where it has several.
    pub(crate) moved: fn(&O) -> usize,
    /// Is it one of the writes whose ends are kept for whoever asks? Not a read that takes turns
    /// with them.
    pub(crate) is_told: bool,
}

impl<O: Operation> Turns<O> {
    /// Of one that leaves nothing, takes nothing, and has no parts.
    pub(crate) const fn of(lane: fn(&O) -> Option<(&Handle, Direction, Manner)>) -> Turns<O> {
        Turns { lane, claim: Step::Again, leave: drop_result, moved: |_| 0, is_told: true }
    }
}

/// The habits of an operation.
#[derive(Clone, Copy)]
pub struct Habits<O: Operation> {
    /// May it run again after `EINTR`, and after an `ECANCELED` that nobody asked for? Not if a
    /// second run would find what the first has done: a file system may answer so after it has done
    /// it.
    pub(crate) restarts: fn(&O) -> bool,
    /// Does it go on when its future is dropped, for the next one's sake? Else it is cancelled.
    pub(crate) parks: bool,
    /// Does its result come before its last completion, which is the notification that the kernel
    /// has let go of its memory?
    pub(crate) notification: Option<Notification<O>>,
    /// Its result without the ring and without a wait, if that can be had while nothing else is in
    /// flight.
    pub(crate) past_the_ring: Option<fn(&mut O, &Core) -> Option<i32>>,
}

impl<O: Operation> Habits<O> {
    /// It restarts, is cancelled with its future, and has one completion, from the ring.
    pub(crate) const USUAL: Habits<O> =
        Habits { restarts: |_| true, parks: false, notification: None, past_the_ring: None };
    /// The same, but that it does not restart.
    pub(crate) const RUNS_ONCE: Habits<O> = Habits { restarts: |_| false, ..Habits::USUAL };
}

/// What is done between the result of an operation and its notification.
#[derive(Clone, Copy)]
pub(crate) struct Notification<O: Operation> {
    /// With this result, is there nothing left to do but to wait for the notification?
    pub(crate) is_over: fn(&O, i32) -> bool,
    /// Gives up the descriptor of an operation that only waits for its notification. It has no lane
    /// from then on.
    pub(crate) release: fn(&mut O) -> Option<Handle>,
}

/// The lane that it takes turns in.
#[inline]
pub(super) fn lane<O: Operation>(operation: &O) -> Option<(&Handle, Direction, Manner)> {
    (O::TURNS?.lane)(operation)
}

/// How much its earlier parts have moved.
#[inline]
pub(super) fn moved<O: Operation>(operation: &O) -> usize {
    O::TURNS.map_or(0, |turns| (turns.moved)(operation))
}

/// Its future is gone, and this is its last completion.
pub(super) fn tell_end<O: Operation>(turn: &Turn, operation: &O, completion: Completion) {
    if O::TURNS.is_none_or(|turns| turns.is_told) {
        turn.ended(moved(operation), completion);
    }
}

/// Leaves what its last completion brought, since its future is gone.
pub(super) fn leave<O: Operation>(operation: O, completion: Completion) {
    match O::TURNS {
        Some(turns) => (turns.leave)(operation, completion),
        None => drop_result(operation, completion),
    }
}

/// A result that is a descriptor is closed with it.
fn drop_result<O: Operation>(operation: O, completion: Completion) {
    drop(operation.complete(completion));
}

impl Completion {
    /// The result in the way of system calls: a count or descriptor, or an error with the kernel's
    /// errno.
    pub(crate) fn result(&self) -> io::Result<usize> {
        if self.result < 0 {
            return Err(io::Error::from_raw_os_error(-self.result));
        }
        Ok(self.result as usize)
    }

    /// The bytes that were moved: none after an error.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.result.max(0) as usize
    }

    /// Of an operation that the ring never saw.
    pub(crate) fn without_submission(result: i32) -> Completion {
        Completion { token: 0, result, flags: 0 }
    }
}
