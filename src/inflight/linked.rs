//! What may stand in a chain, and an operation that does: what the chain does with each of its
//! members, whatever they are.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::squeue;

use super::future::Op;
use super::handle::Handle;
use super::kept::{Direction, Manner};
use super::operation::{Operation, lane};
use super::turns::Turn;
use crate::driver::Token;
use crate::ring::request;
use crate::runtime::Core;

/// An operation that may stand in a chain. It has one completion for each entry, and its outcome
/// says whether the next may start. Zero-copy sends and multishot operations are none.
pub trait Link: Operation {
    /// Must its transfers on a stream socket ask the kernel to fail if they are short?
    const IN_WHOLE: bool = false;

    /// Its share in the descriptor that its entry names, unless entries name that for a worker.
    fn named(&self) -> Option<&Handle> {
        None
    }

    /// May another stand behind its next entry: does the ring see all that must keep that from
    /// starting? Not if a further entry is needed, since the ring looks at one only. And not if a
    /// failure does not break a chain: of syncs, `set_len`, calls on names and `shutdown` the
    /// kernel does not mark it (`req_set_fail` is missing since Linux 5.19; `breaks_chain` in
    /// `ring/request/` has the rule of each).
    fn may_be_followed(&self) -> bool {
        false
    }

    /// Has it done all that was asked of it, so that the next one starts?
    fn is_whole(output: &Self::Output) -> bool;

    /// The stream that it takes bytes from which do not come again.
    fn source(&self) -> Option<&Handle> {
        None
    }

    /// It has done all, and its chain was dropped before that was handed out: what came from the
    /// stream is left for the next read.
    fn leave_output(_source: &Handle, _output: Self::Output) {}
}

/// How far a member has come with its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It has a further part, or runs again.
    Again,
    /// It has ended, and the next one may start.
    Whole,
    /// It has ended with an error, or short: what stands behind it does not run.
    Short,
}

/// The lane of an operation, as something to compare.
pub(super) type Place = (usize, Direction, Manner);

/// A member of a chain, of whatever type.
pub(super) trait Member {
    fn has_ended(&self) -> bool;

    /// Waits for its turn. Anything but [`Part::Again`]: it has ended without being submitted.
    fn poll_turn(&mut self, context: &Context<'_>) -> Poll<Part>;

    /// Its next entry. `None`: it has ended, or will without an entry.
    fn next_entry(&mut self) -> Option<squeue::Entry>;

    fn place(&self) -> Option<Place>;

    fn enters_quietly(&mut self) -> bool;

    fn may_be_followed(&self) -> bool;

    /// Its entry, as it is if others stand behind it.
    fn followed(&self, entry: squeue::Entry) -> squeue::Entry;

    /// Its entry stands behind others.
    fn expect_late_look_up(&self);

    fn is_started(&mut self, core: &Rc<Core>, token: Token, follows: bool);

    fn poll_result(&self, context: &Context<'_>) -> Poll<i32>;

    fn take_part(&mut self, may_run_again: bool) -> Part;

    fn start_over(&mut self);

    fn refuse(&mut self, errno: i32);

    fn request_cancel(&mut self);

    fn give_turn(&mut self) -> Option<Box<Turn>>;

    fn get_turn(&mut self, turn: Box<Turn>);

    /// Drops it. What it has received is left for the next read.
    fn abandon(&mut self);
}

/// One member of a chain.
pub enum Linked<'h, O: Link> {
    /// It has not ended.
    Running(Op<'h, O>),
    /// It waits for the others, to be handed out with them: with the stream that gets it back if
    /// they are dropped.
    Ended(O::Output, Option<Handle>),
    /// It was handed out, or dropped.
    HandedOut,
}

impl<O: Link> Linked<'_, O> {
    fn running(&self) -> Option<&Op<'_, O>> {
        match self {
            Linked::Running(operation) => Some(operation),
            Linked::Ended(..) | Linked::HandedOut => None,
        }
    }

    /// The share of [`Link::source`], asked for while the operation is there.
    fn source(&self) -> Option<Handle> {
        self.running()?.look()?.source().cloned()
    }

    fn end(&mut self, output: Option<O::Output>, source: Option<Handle>) -> Part {
        let Some(output) = output else { return Part::Again };
        let is_whole = O::is_whole(&output);
        // What ends the chain is handed out before anybody can drop it.
        *self = Linked::Ended(output, source.filter(|_| is_whole));
        if is_whole { Part::Whole } else { Part::Short }
    }

    pub(super) fn hand_out(&mut self) -> O::Output {
        match std::mem::replace(self, Linked::HandedOut) {
            Linked::Ended(output, _) => output,
            Linked::Running(_) | Linked::HandedOut => {
                panic!("a chain was polled again after it had yielded its output")
            }
        }
    }
}

impl<O: Link> Member for Linked<'_, O> {
    fn has_ended(&self) -> bool {
        self.running().is_none()
    }

    fn poll_turn(&mut self, context: &Context<'_>) -> Poll<Part> {
        let source = self.source();
        let Linked::Running(operation) = self else { return Poll::Ready(Part::Whole) };
        operation.poll_turn(context).map(|output| self.end(output, source))
    }

    fn next_entry(&mut self) -> Option<squeue::Entry> {
        match self {
            Linked::Running(operation) => operation.next_entry(),
            Linked::Ended(..) | Linked::HandedOut => None,
        }
    }

    fn place(&self) -> Option<Place> {
        let (handle, direction, manner) = lane(self.running()?.look()?)?;
        Some((handle.identity(), direction, manner))
    }

    fn enters_quietly(&mut self) -> bool {
        match self {
            Linked::Running(operation) => operation.enters_quietly(),
            Linked::Ended(..) | Linked::HandedOut => false,
        }
    }

    fn may_be_followed(&self) -> bool {
        self.running().and_then(Op::look).is_some_and(Link::may_be_followed)
    }

    fn followed(&self, entry: squeue::Entry) -> squeue::Entry {
        if O::IN_WHOLE { request::in_whole(&entry) } else { entry }
    }

    fn expect_late_look_up(&self) {
        let operation = self.running().and_then(Op::look);
        operation.and_then(Link::named).into_iter().for_each(Handle::expect_late_look_up);
    }

    fn is_started(&mut self, core: &Rc<Core>, token: Token, follows: bool) {
        if let Linked::Running(operation) = self {
            operation.is_started(core, token, follows);
        }
    }

    fn poll_result(&self, context: &Context<'_>) -> Poll<i32> {
        self.running().map_or(Poll::Ready(0), |operation| operation.poll_result(context))
    }

    fn take_part(&mut self, may_run_again: bool) -> Part {
        let source = self.source();
        let Linked::Running(operation) = self else { return Part::Whole };
        let output = operation.take_part(may_run_again);
        self.end(output, source)
    }

    fn start_over(&mut self) {
        if let Linked::Running(operation) = self {
            operation.start_over();
        }
    }

    fn refuse(&mut self, errno: i32) {
        if let Linked::Running(operation) = self {
            operation.refuse(errno);
        }
    }

    fn request_cancel(&mut self) {
        if let Linked::Running(operation) = self {
            operation.request_cancel();
        }
    }

    fn give_turn(&mut self) -> Option<Box<Turn>> {
        match self {
            Linked::Running(operation) => operation.give_turn(),
            Linked::Ended(..) | Linked::HandedOut => None,
        }
    }

    fn get_turn(&mut self, turn: Box<Turn>) {
        if let Linked::Running(operation) = self {
            operation.get_turn(turn);
        }
    }

    fn abandon(&mut self) {
        if let Linked::Ended(output, Some(source)) = std::mem::replace(self, Linked::HandedOut) {
            O::leave_output(&source, output);
        }
    }
}

impl<O: Link> fmt::Debug for Linked<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Linked::Running(operation) => operation.fmt(f),
            Linked::Ended(..) => f.write_str("Ended"),
            Linked::HandedOut => f.write_str("HandedOut"),
        }
    }
}
