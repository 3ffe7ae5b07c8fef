//! The turns of operations in one direction of a descriptor, and what dropped futures left there.
//!
//! The kernel runs two receives of one socket in no particular order, and finishes a cancelled one
//! whenever it likes. So the operations of a direction take turns, a dropped one keeps its turn
//! until its last completion, and what it brought waits here for the next. Nothing of this costs
//! more than a flag as long as nobody is dropped and nobody waits.

use std::cell::{Cell, RefMut};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::handle::Handle;
use super::kept::{Direction, Kept, Left, Manner};
use crate::driver::Token;
use crate::exec::yield_once;
use crate::ring::Completion;
use crate::runtime::Core;
use crate::unwind::FirstPanic;

/// Most results of dropped operations that wait to be asked for; the oldest go first.
const RESULTS_KEPT: usize = 1024;

/// Of what keeps others out of a lane: one operation whose future is there. The other bits count
/// those whose futures are gone.
const ALONE: u32 = 1 << 31;

/// One direction of a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'h> {
    handle: &'h Handle,
    direction: Direction,
}

impl Handle {
    /// Where operations of one direction take turns.
    #[inline]
    pub(crate) fn lane(&self, direction: Direction) -> Lane<'_> {
        Lane { handle: self, direction }
    }

    /// Waits for the end of operations whose futures were dropped, and says how the writes among
    /// them ended.
    pub(crate) async fn quiesce(&self) -> Vec<io::Result<usize>> {
        for direction in [Direction::Inbound, Direction::Outbound] {
            poll_fn(|context| self.lane(direction).poll_quiet(context)).await;
        }
        self.lane(Direction::Outbound).take_results()
    }
}

impl<'h> Lane<'h> {
    #[inline]
    fn held(self) -> &'h Cell<u32> {
        self.handle.held(self.direction)
    }

    /// Operations in flight whose futures are gone.
    fn dropped(self) -> u32 {
        self.held().get() & !ALONE
    }

    fn kept_mut(self) -> RefMut<'h, Kept> {
        self.handle.kept_or_new(self.direction).borrow_mut()
    }

    /// Something of what is there seldom, if it is there at all.
    #[inline]
    fn kept<R>(self, look: impl FnOnce(&mut Kept) -> R) -> Option<R> {
        self.handle.kept(self.direction).map(|kept| look(&mut kept.borrow_mut()))
    }

    /// Is nobody here, does nobody wait, and is nothing left?
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.held().get() == 0
            && self.kept(|kept| kept.queue.is_empty() && kept.left.is_empty()).unwrap_or(true)
    }

    /// Enters a lane that is quiet. `false`: it takes a [`Turn`].
    #[inline]
    pub(crate) fn enter_quietly(&self, manner: Manner) -> bool {
        let quiet = self.is_quiet();
        if quiet && manner == Manner::Alone {
            self.held().set(ALONE);
        }
        quiet
    }

    /// Leaves it again. `false`: somebody has come meanwhile, so it takes a [`Turn`] to leave.
    #[inline]
    pub(crate) fn leave_quietly(&self) -> bool {
        let quiet = self.kept(|kept| kept.queue.is_empty()).unwrap_or(true);
        if quiet {
            // Operations that it let in beside it may have been dropped, and hold the lane on.
            self.held().set(self.held().get() & !ALONE);
        }
        quiet
    }

    /// Puts what a dropped operation brought behind what others left.
    pub(crate) fn leave(&self, left: Left) {
        self.kept_mut().left.push_back(left);
    }

    /// To be asked before something that is left is claimed.
    pub(crate) fn poll_budget(&self, context: &Context<'_>) -> Poll<()> {
        let is_left = self.kept_mut().budget.take();
        if is_left { Poll::Ready(()) } else { yield_once(context) }
    }

    /// What was left longest ago.
    pub(crate) fn take_left(&self) -> Option<Left> {
        self.kept(|kept| kept.left.pop_front())?
    }

    /// Looks at what was left longest ago, and leaves it there.
    pub(crate) fn look_at_left<R>(&self, look: impl FnOnce(&Left) -> R) -> Option<R> {
        self.kept(|kept| kept.left.front().map(look)).flatten()
    }

    /// Puts back the rest of what was taken.
    pub(crate) fn put_back(&self, left: Left) {
        self.kept_mut().left.push_front(left);
    }

    /// Keeps an error that the kernel reports only once. A cancelled operation has nothing to
    /// report.
    pub(crate) fn leave_error(&self, error: &io::Error) {
        match error.raw_os_error() {
            None | Some(libc::ECANCELED | libc::EINTR) => {}
            Some(errno) => self.leave(Left::Failed(errno)),
        }
    }

    /// Takes as many bytes as there is room for in `room`, or the error that comes next. `None`:
    /// nothing is left.
    pub(crate) fn take_bytes(
        &self,
        room: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Option<io::Result<usize>> {
        let left = match self.take_left()? {
            // A read without room for what came along closes that, as the kernel does.
            Left::Message { bytes, .. } => Left::Bytes { bytes, start: 0 },
            left => left,
        };
        match left {
            Left::Failed(errno) => Some(Err(io::Error::from_raw_os_error(errno))),
            Left::Bytes { bytes, start } => {
                let count = room.min(bytes.len() - start);
                put(&bytes[start..start + count]);
                if start + count < bytes.len() {
                    self.put_back(Left::Bytes { bytes, start: start + count });
                }
                Some(Ok(count))
            }
            Left::Chunk(mut chunk) => {
                let count = room.min(chunk.len());
                put(&chunk[..count]);
                chunk.advance(count);
                if !chunk.is_empty() {
                    self.put_back(Left::Chunk(chunk));
                }
                Some(Ok(count))
            }
            Left::Datagram { .. } | Left::Message { .. } | Left::Connection(_) => None,
        }
    }

    #[inline]
    pub(crate) fn has_left(&self) -> bool {
        self.kept(|kept| !kept.left.is_empty()).unwrap_or(false)
    }

    /// Remembers a dropped operation that was not cancelled.
    pub(crate) fn park(&self, core: &Rc<Core>, token: Token) {
        self.kept_mut().parked = Some((Rc::downgrade(core), token));
    }

    /// Asks for the end of the operation that is parked here, if it still is.
    pub(crate) fn cancel_parked(&self) {
        let parked = self.kept(|kept| kept.parked.take()).flatten();
        if let Some((core, token)) = parked
            && let Some(core) = core.upgrade()
        {
            core.cancel(token);
        }
    }

    /// Waits until no dropped operation is in flight here.
    pub(crate) fn poll_quiet(&self, context: &Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        if self.dropped() == 0 {
            return Poll::Ready(());
        }
        let mut kept = self.kept_mut();
        let unused = if kept.quiescing.iter().any(|other| other.will_wake(&waker)) {
            Some(waker)
        } else {
            kept.quiescing.push(waker);
            None
        };
        drop(kept);
        drop(unused);
        Poll::Pending
    }

    /// How the dropped operations ended that nobody has asked about.
    pub(crate) fn take_results(&self) -> Vec<io::Result<usize>> {
        let results = self.kept(|kept| mem::take(&mut kept.results)).unwrap_or_default();
        let to_result = |result: isize| {
            usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result as i32))
        };
        results.into_iter().map(to_result).collect()
    }

    fn keep_result(&self, result: isize) {
        let results = &mut self.kept_mut().results;
        if results.len() == RESULTS_KEPT {
            results.pop_front();
        }
        results.push_back(result);
    }

    /// Wakes who waits for the end of dropped operations, if there are none any more.
    fn wake_quiescing(&self) {
        if self.dropped() == 0 {
            let quiescing = self.kept(|kept| mem::take(&mut kept.quiescing));
            let mut panic = FirstPanic::default();
            quiescing.into_iter().flatten().for_each(|waker| panic.run(|| waker.wake()));
            panic.resume();
        }
    }

    fn is_first(&self, ticket: Option<u64>) -> bool {
        self.kept(|kept| kept.queue.front().is_none_or(|(first, _)| Some(*first) == ticket))
            .unwrap_or(true)
    }

    /// Takes a place in the queue, or brings its waker up to date.
    fn wait(&self, ticket: Option<u64>, waker: Waker) -> u64 {
        let mut guard = self.kept_mut();
        let kept = &mut *guard;
        let place =
            ticket.and_then(|ticket| kept.queue.iter_mut().find(|(other, _)| *other == ticket));
        let (ticket, before) = match place {
            Some((ticket, place)) => (*ticket, Some(mem::replace(place, waker))),
            None => {
                kept.last_ticket += 1;
                kept.queue.push_back((kept.last_ticket, waker));
                (kept.last_ticket, None)
            }
        };
        drop(guard);
        drop(before);
        ticket
    }

    /// Gives up a place in the queue.
    fn stop_waiting(&self, ticket: u64) {
        let gone = self.kept(|kept| {
            let place = kept.queue.iter().position(|(other, _)| *other == ticket)?;
            kept.queue.remove(place)
        });
        drop(gone);
    }

    /// Wakes the first in the queue if the lane is free for it.
    fn wake_first(&self) {
        if self.held().get() != 0 {
            return;
        }
        let first = self.kept(|kept| {
            kept.queue.front_mut().map(|(_, waker)| mem::replace(waker, Waker::noop().clone()))
        });
        if let Some(waker) = first.flatten() {
            waker.wake();
        }
    }
}

/// One operation's turn in its lane. Dropping it lets the next one in.
pub(crate) struct Turn {
    handle: Handle,
    direction: Direction,
    manner: Manner,
    state: TurnState,
}

/// Where an operation stands.
enum TurnState {
    /// It has not asked.
    New,
    /// In the queue, under this ticket.
    Waiting(u64),
    /// In the lane, where it keeps nobody out.
    Beside,
    /// In the lane, and it keeps the others out.
    Holding,
    /// Likewise, and its future is gone.
    Dropped,
}

impl Turn {
    pub(crate) fn new(handle: &Handle, direction: Direction, manner: Manner) -> Turn {
        Turn { handle: handle.clone(), direction, manner, state: TurnState::New }
    }

    /// The turn of an operation that is in the lane already.
    pub(crate) fn inside(handle: &Handle, direction: Direction, manner: Manner) -> Turn {
        let state = match manner {
            Manner::Alone => TurnState::Holding,
            Manner::AfterDropped => TurnState::Beside,
        };
        Turn { handle: handle.clone(), direction, manner, state }
    }

    #[inline]
    pub(crate) fn lane(&self) -> Lane<'_> {
        self.handle.lane(self.direction)
    }

    /// Waits for the turn. Ready from then on.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let ticket = match self.state {
            TurnState::Beside | TurnState::Holding | TurnState::Dropped => return Poll::Ready(()),
            TurnState::New => None,
            TurnState::Waiting(ticket) => Some(ticket),
        };
        // Before the look at the lane, since it is user code, which may change what there is to
        // see.
        let waker = context.waker().clone();
        let lane = self.handle.lane(self.direction);
        if lane.held().get() != 0 || !lane.is_first(ticket) {
            self.state = TurnState::Waiting(lane.wait(ticket, waker));
            return Poll::Pending;
        }
        if let Some(ticket) = ticket {
            lane.stop_waiting(ticket);
        }
        match self.manner {
            Manner::Alone => {
                lane.held().set(ALONE);
                self.state = TurnState::Holding;
            }
            Manner::AfterDropped => {
                self.state = TurnState::Beside;
                lane.wake_first();
            }
        }
        Poll::Ready(())
    }

    /// The operation's future is gone, and the operation is in flight: from now on it keeps the
    /// others out.
    pub(crate) fn hold(&mut self) {
        let lane = self.handle.lane(self.direction);
        let others = match self.state {
            TurnState::Holding => lane.dropped(),
            _ => lane.held().get(),
        };
        lane.held().set(others + 1);
        self.state = TurnState::Dropped;
    }

    /// The dropped operation has ended, after it had moved `earlier` bytes in parts that went well.
    /// What a dropped write did is kept for whoever asks; what a dropped read brought goes to the
    /// next read.
    pub(crate) fn ended(&self, earlier: usize, completion: Completion) {
        if self.direction == Direction::Outbound {
            let result = match completion.result {
                errno @ ..0 if earlier == 0 => errno as isize,
                ..0 => earlier as isize,
                count => earlier as isize + count as isize,
            };
            self.lane().keep_result(result);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let lane = self.handle.lane(self.direction);
        match self.state {
            TurnState::New | TurnState::Beside => {}
            TurnState::Waiting(ticket) => {
                lane.stop_waiting(ticket);
                lane.wake_first();
            }
            TurnState::Holding => {
                lane.held().set(lane.dropped());
                lane.wake_first();
            }
            TurnState::Dropped => {
                lane.held().set(lane.held().get() - 1);
                let mut panic = FirstPanic::default();
                panic.run(|| lane.wake_first());
                panic.run(|| lane.wake_quiescing());
                panic.resume();
            }
        }
    }
}
