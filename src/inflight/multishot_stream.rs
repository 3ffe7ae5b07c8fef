//! The stream of a multishot operation: a turn in its lane, one entry armed at a time, and a
//! successor. io_uring_multishot(7).
//!
//! The entry is armed when its stream is polled and nothing is armed, so a stream that nobody polls
//! stops by itself: the driver cancels it when too much waits. What still comes after the stream
//! was dropped goes into the lane for the next operation, like what a dropped one-shot operation
//! brought.
//!
//! # Safety
//! The entries name no memory of ours, but buffers of the pool. The handle keeps the descriptor
//! open: in the stream, then in the successor.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use io_uring::squeue;

use super::handle::Handle;
use super::kept::{Direction, Manner};
use super::turns::{Lane, Turn};
use crate::buf::Chunk;
use crate::driver::{Arrival, Successor, Token};
use crate::exec::Budget;
use crate::runtime::{Core, current};

/// What is received, and how far its stream is.
pub(crate) trait Received: 'static {
    /// What is done with an arrival of which the stream is gone: it goes into the lane, or nobody
    /// misses it.
    fn leave(lane: Lane<'_>, arrival: Arrival);
}

/// One direction of a descriptor, as a stream of arrivals.
pub(crate) struct MultishotStream<K: Received> {
    handle: Handle,
    armed: Option<(Rc<Core>, Token)>,
    /// Its turn in its lane, where others wait or were dropped.
    turn: Option<Box<Turn>>,
    /// It has a quiet lane to itself, which needs no turn.
    alone: bool,
    /// How many arrivals it may still hand over in one go.
    pub(crate) budget: Budget,
    /// The stream's own few bytes, which lie here in what would be a gap.
    pub(crate) kind: K,
}

impl<K: Received> MultishotStream<K> {
    pub(crate) fn new(handle: &Handle, kind: K) -> MultishotStream<K> {
        MultishotStream {
            handle: handle.clone(),
            armed: None,
            turn: None,
            alone: false,
            budget: Budget::default(),
            kind,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn lane(&self) -> Lane<'_> {
        self.handle.lane(Direction::Inbound)
    }

    /// Waits for the turn, which lasts until this is dropped. Ready from then on.
    pub(crate) fn poll_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.alone {
            return Poll::Ready(());
        }
        if self.turn.is_none() {
            self.alone = self.lane().enter_quietly(Manner::Alone);
            if self.alone {
                return Poll::Ready(());
            }
        }
        let handle = &self.handle;
        self.turn
            .get_or_insert_with(|| Box::new(Turn::new(handle, Direction::Inbound, Manner::Alone)))
            .poll(context)
    }

    /// Lets others have their turn. Nothing must be armed.
    pub(crate) fn end_turn(&mut self) {
        if std::mem::take(&mut self.alone) && !self.lane().leave_quietly() {
            self.turn =
                Some(Box::new(Turn::inside(&self.handle, Direction::Inbound, Manner::Alone)));
        }
        self.turn = None;
    }

    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Takes the next arrival of what is armed, if it is bytes in a buffer and more will come.
    /// `None`: ask for it with [`poll_arrival`](MultishotStream::poll_arrival).
    #[inline]
    pub(crate) fn poll_bytes(&mut self, context: &Context<'_>) -> Poll<Option<Chunk>> {
        let Some((core, token)) = &self.armed else { return Poll::Ready(None) };
        if self.budget.is_spent() {
            return Poll::Ready(None);
        }
        let bytes = core.poll_bytes(*token, context.waker());
        match bytes {
            Poll::Ready(Some(_)) => _ = self.budget.take(),
            Poll::Ready(None) => {}
            Poll::Pending => self.budget.refill(),
        }
        bytes
    }

    /// Takes the next arrival of what is armed; if nothing is, it waits for ever.
    #[inline]
    pub(crate) fn poll_arrival(&mut self, context: &Context<'_>) -> Poll<Arrival> {
        let Some((core, token)) = &self.armed else { return Poll::Pending };
        ready!(self.budget.spend(context));
        let Poll::Ready(arrival) = core.poll_arrival(*token, context.waker()) else {
            self.budget.refill();
            return Poll::Pending;
        };
        if arrival.completion.is_last() {
            self.armed = None;
        }
        Poll::Ready(arrival)
    }

    /// Queues an entry for this tick's batch, to be stopped when `limit` arrivals wait.
    ///
    /// # Errors
    /// The errno of a ring that does not know the operation, or has been closed.
    ///
    /// # Safety
    /// The entry names no memory, but perhaps the group of the runtime's pool, and no descriptor
    /// but that of the handle.
    pub(crate) unsafe fn arm(
        &mut self,
        entry: squeue::Entry,
        limit: u16,
        context: &Context<'_>,
    ) -> Result<(), i32> {
        let core = current();
        core.check(entry.get_opcode() as u8)?;
        let waker = context.waker().clone();
        // SAFETY: the caller says that it names no memory; `self.handle` keeps the descriptor open,
        // and the successor after it.
        let token = unsafe { core.driver.borrow_mut().start_multishot(entry, waker, limit) };
        self.armed = Some((core, token));
        Ok(())
    }
}

impl<K: Received> Drop for MultishotStream<K> {
    fn drop(&mut self) {
        let Some((core, token)) = self.armed.take() else { return self.end_turn() };
        let turn = if std::mem::take(&mut self.alone) {
            Some(Turn::inside(&self.handle, Direction::Inbound, Manner::Alone))
        } else {
            self.turn.take().map(|turn| *turn)
        };
        let mut successor =
            DroppedStream::<K> { handle: self.handle.clone(), turn, kind: PhantomData };
        successor.turn.iter_mut().for_each(|turn| turn.hold());
        let successor = Rc::new(successor);
        for arrival in core.hand_over(token, Rc::clone(&successor) as Rc<dyn Successor>) {
            successor.take_over(arrival);
        }
    }
}

/// Leaves the arrivals of a dropped stream in its lane, and keeps the lane until the last.
struct DroppedStream<K> {
    handle: Handle,
    turn: Option<Turn>,
    kind: PhantomData<K>,
}

impl<K: Received> Successor for DroppedStream<K> {
    fn take_over(&self, arrival: Arrival) {
        K::leave(self.handle.lane(Direction::Inbound), arrival);
    }
}
