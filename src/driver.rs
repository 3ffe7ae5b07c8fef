//! The driver: the slots between tokens and futures, by which a completion finds its operation and
//! its waker.
//!
//! The driver starts entries, cancels them, and finds the slot of each completion. It knows no
//! operation type: what a completion means is its operation's business. No user code runs here;
//! what a turn brings is collected in [`Deliveries`] and delivered after the borrow.
//!
//! # States of a slot
//! ```text
//!            start                    last completion              future polled
//!   (free) ────────▶ Waiting ───────────────────────────▶ Finished ──────────────▶ (free)
//!                       │ future dropped                      │ future dropped
//!                       ▼             last completion         ▼
//!                    Orphaned ──────────────────────────▶ (free)
//!      start_multishot               last completion taken
//!   (free) ────────▶ Multishot ─────────────────────────▶ (free)
//!                       │ future dropped
//!                       ▼             last completion
//!                   HandedOver ────────────────────────▶ (free)
//! ```
//! A slot is free only after its own last completion, whatever a cancel answered: a cancel may say
//! "not found" and leave its target running. So slots being cancelled stand in a list, and the
//! cancel is repeated until the slot is free. (The two completions of a zero-copy send count as
//! one: `notification.rs`.)
//!
//! # Safety
//! Entries are pushed under the contract of `inflight::Operation`: the operation's memory belongs
//! to its future while Waiting and to the slot while Orphaned, and goes only after the last
//! completion. A Multishot or HandedOver slot names no memory but buffers of the pool, which is
//! kept until the ring is gone; the stream or its successor keeps the descriptor open.
#![allow(unsafe_code)]

mod chains;
mod deliveries;
mod multishot;
mod notification;
mod one_by_one;
mod slots;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue};

pub(crate) use deliveries::{Arrival, Deliveries, Orphan, Successor};
pub(crate) use multishot::BUFFER_GROUP;
pub(crate) use slots::Token;

use crate::buf::ChunkPool;
use crate::counters::Counters;
use crate::ring::{
    COMPLETION_MORE, COMPLETION_NOTIFICATION, Completion, FIRST_PRIVATE_TOKEN, PushError, Ring,
    Wait,
};
use multishot::{Multishot, Unclaimed};
use notification::ZeroCopySend;
use one_by_one::OneByOne;
use slots::Slots;

/// The token of every cancel. Its answer is a hint that nothing rests on, so it has no slot.
const CANCEL: u64 = FIRST_PRIVATE_TOKEN - 1;

/// The pause after the first repetition of a cancel; it doubles from one to the next.
const FIRST_CANCEL_PAUSE: Duration = Duration::from_millis(1);
/// Most completions that one turn takes: bounds how long the tasks wait for it.
const MOST_COMPLETIONS: usize = 4096;

/// Longest pause between two cancels of one slot.
const LONGEST_CANCEL_PAUSE: Duration = Duration::from_millis(512);

struct Slot {
    state: SlotState,
    /// In the list of slots being cancelled.
    cancelling: bool,
    /// Which completion of a zero-copy send has come.
    zero_copy: ZeroCopySend,
}

/// Who may touch an operation's memory now?
enum SlotState {
    /// The kernel. The future owns the operation and is woken at the end.
    Waiting(Waker),
    /// The future again: it takes the completion at its next poll.
    Finished { result: i32, flags: u32 },
    /// The kernel. The slot owns the operation.
    Orphaned(Box<dyn Orphan>),
    /// A multishot operation, which names no memory. Its future takes the completions one by one;
    /// the last one may have come.
    Multishot(Multishot),
    /// A multishot operation whose future is gone.
    HandedOver(Rc<dyn Successor>),
}

pub(crate) struct Driver {
    /// `None` once shut down.
    ring: Option<Ring>,
    slots: Slots<Slot>,
    unclaimed: Unclaimed,
    /// The buffers that multishots take, once somebody has asked for them.
    pool: Option<Rc<ChunkPool>>,
    /// Slots whose last completion has not come.
    in_flight: usize,
    /// Entries that found the submission queue full, in order. Each has a slot or is the cancel of
    /// one, so slots bound it.
    backlog: VecDeque<squeue::Entry>,
    /// Slots to cancel in the next turn.
    to_cancel: Vec<Token>,
    /// Slots whose cancel is out, by the time at which it is repeated.
    cancelled: BinaryHeap<Reverse<Cancelled>>,
    one_by_one: OneByOne,
    /// Most entries that the ring links.
    longest_chain: usize,
    counters: Arc<Counters>,
}

/// When to cancel a slot again, should it still be in flight.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cancelled {
    again_at: Instant,
    token: Token,
    next_pause: Duration,
}

impl Driver {
    pub(crate) fn new(ring: Ring) -> Driver {
        let counters = Arc::clone(ring.counters());
        Driver {
            longest_chain: ring.longest_chain(),
            ring: Some(ring),
            slots: Slots::default(),
            unclaimed: Unclaimed::default(),
            pool: None,
            in_flight: 0,
            backlog: VecDeque::new(),
            to_cancel: Vec::new(),
            cancelled: BinaryHeap::new(),
            one_by_one: OneByOne::default(),
            counters,
        }
    }

    /// Can the ring execute this opcode? `EOPNOTSUPP` if it does not know it, `ECANCELED` once the
    /// ring is closed.
    #[inline]
    pub(crate) fn check(&self, opcode: u8) -> Result<(), i32> {
        match &self.ring {
            None => Err(libc::ECANCELED),
            Some(ring) if !ring.supports(opcode) => Err(libc::EOPNOTSUPP),
            Some(_) => Ok(()),
        }
    }

    /// Queues an entry for the next turn; `waker` is woken at its end.
    ///
    /// # Errors
    /// That of [`check`](Driver::check), with the waker: dropping it is user code.
    ///
    /// # Safety
    /// What the entry names stays valid until the token's last completion, as `inflight::Operation`
    /// demands. The caller keeps it until [`take`](Driver::take) gives that completion, or hands it
    /// over with [`orphan`](Driver::orphan).
    #[inline(always)]
    pub(crate) unsafe fn start(
        &mut self,
        mut entry: squeue::Entry,
        waker: Waker,
    ) -> Result<Token, (i32, Waker)> {
        if let Err(errno) = self.check(entry.get_opcode() as u8) {
            return Err((errno, waker));
        }
        let token = self.occupy(|| SlotState::Waiting(waker));
        entry.set_user_data(token.0);
        self.queue(entry);
        Ok(token)
    }

    /// Is nothing in flight?
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// There is a read of a file, and nothing is in flight. May it be made past the ring?
    pub(crate) fn allows_read_past_the_ring(&mut self, length: u32) -> bool {
        self.one_by_one.allows(length) && self.may_read_past_the_ring()
    }

    /// Does a read without the ring cost less than one by it, if it need not wait? Not on the
    /// software ring, where it is the same.
    pub(crate) fn may_read_past_the_ring(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.is_software())
    }

    /// A read was tried past the ring. `false`: it would have had to wait.
    pub(crate) fn went_past_the_ring(&mut self, has_ended: bool) {
        if has_ended {
            self.counters.operations.add(1);
            self.counters.completions.add(1);
            self.counters.past_the_ring.add(1);
        } else {
            self.one_by_one.end();
        }
    }

    /// Takes the completion of an operation that has ended, and frees its slot.
    #[inline(always)]
    pub(crate) fn take(&mut self, token: Token) -> Option<Completion> {
        self.slots.remove_if(token, |slot| match slot.state {
            SlotState::Finished { result, flags } => {
                Some(Completion { token: token.0, result, flags })
            }
            _ => None,
        })
    }

    /// Is this the waker that the next completion of the operation wakes?
    pub(crate) fn waits_with(&mut self, token: Token, waker: &Waker) -> bool {
        match &self.slot(token).state {
            SlotState::Waiting(waiting) => waiting.will_wake(waker),
            SlotState::Multishot(multishot) => multishot.will_wake(waker),
            _ => false,
        }
    }

    /// Replaces the waker of an operation in flight. Returns the one to drop, and whether the
    /// operation is still in flight: making the new waker was user code, which may have run the
    /// loop.
    pub(crate) fn set_waker(&mut self, token: Token, waker: Waker) -> (Option<Waker>, bool) {
        match &mut self.slot(token).state {
            SlotState::Waiting(waiting) => (Some(mem::replace(waiting, waker)), true),
            SlotState::Multishot(multishot) => multishot.set_waker(waker),
            _ => (Some(waker), false),
        }
    }

    /// Gives an operation in flight to its slot, which finishes it after its last completion.
    /// Returns the waker that waited.
    pub(crate) fn orphan(&mut self, token: Token, orphan: Box<dyn Orphan>) -> Waker {
        self.counters.orphaned.add(1);
        match mem::replace(&mut self.slot(token).state, SlotState::Orphaned(orphan)) {
            SlotState::Waiting(waker) => waker,
            _ => unreachable!("whoever hands over has found the operation in flight"),
        }
    }

    /// The slot of a token that its future still holds.
    fn slot(&mut self, token: Token) -> &mut Slot {
        self.slots
            .get_mut(token)
            .expect("a slot is not freed before its future has given the token back")
    }

    /// Asks for the end of an operation. Its own completion decides how it ended.
    pub(crate) fn cancel(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token)
            && slot.is_cancellable()
        {
            slot.cancelling = true;
            self.to_cancel.push(token);
        }
    }

    /// Asks for the end of everything. Asks again for what was asked before.
    pub(crate) fn cancel_all(&mut self) {
        self.cancelled.clear();
        self.to_cancel.clear();
        for (token, slot) in self.slots.iter_mut() {
            if slot.can_be_cancelled() {
                slot.cancelling = true;
                self.to_cancel.push(token);
            }
        }
    }

    /// Submits what is queued now, without looking at completions.
    pub(crate) fn submit(&mut self) {
        self.push_backlog();
        if let Some(ring) = &mut self.ring {
            // A failure shows again in the turn, which reports it.
            let _ = ring.enter(Wait::No, 0);
        }
    }

    /// As [`submit`](Driver::submit), and the kernel has taken it all when this returns.
    fn flush(&mut self) {
        self.push_backlog();
        if let Some(ring) = &mut self.ring {
            let _ = ring.flush();
        }
    }

    /// Do entries or completions wait for their turn? The first cancels, or the ends that they
    /// brought, may be among them, so repeating them now would only lengthen the queues.
    pub(crate) fn is_behind(&mut self) -> bool {
        !self.backlog.is_empty() || self.ring.as_mut().is_some_and(Ring::has_completions)
    }

    /// Does shared memory show that the kernel has something for the next turn?
    pub(crate) fn has_work(&mut self) -> bool {
        self.ring.as_mut().is_some_and(Ring::has_work)
    }

    /// Would a turn now bring operations on, without a wait? Cheap to ask where nothing is in
    /// flight.
    #[inline]
    pub(crate) fn wants_turn(&mut self) -> bool {
        self.in_flight > 0
            && (self.has_queued() || self.ring.as_mut().is_some_and(Ring::may_have_work))
    }

    /// Is there anything to send?
    pub(crate) fn has_queued(&mut self) -> bool {
        !self.to_cancel.is_empty()
            || !self.backlog.is_empty()
            || self.ring.as_mut().is_some_and(Ring::has_queued)
    }

    /// A descriptor that no operation uses is about to be closed or given away.
    pub(crate) fn forget(&mut self, fd: RawFd) {
        if let Some(ring) = &mut self.ring {
            ring.forget(fd);
        }
    }

    /// Sends cancels and all else that is queued, so that a descriptor can be closed of which
    /// operations without futures are in flight. `false`: its number is still needed.
    pub(crate) fn let_go(&mut self, fd: RawFd) -> bool {
        self.send_cancels();
        self.flush();
        self.backlog.is_empty() && self.ring.as_mut().is_some_and(|ring| ring.let_go(fd))
    }

    /// Takes a slot. Its state is made where it is to lie.
    #[inline(always)]
    fn occupy(&mut self, state: impl FnOnce() -> SlotState) -> Token {
        self.in_flight += 1;
        self.counters.operations.add(1);
        self.slots.insert_with(|| Slot {
            state: state(),
            cancelling: false,
            zero_copy: ZeroCopySend::Neither,
        })
    }

    /// Pushes in order: once an entry waits, all later ones wait behind it.
    #[inline(always)]
    fn queue(&mut self, entry: squeue::Entry) {
        let pushed = match &mut self.ring {
            // SAFETY: as in `try_push`.
            Some(ring) if self.backlog.is_empty() => unsafe { ring.push_at_once(&entry) },
            _ => false,
        };
        if !pushed {
            self.queue_otherwise(entry);
        }
    }

    /// As [`queue`](Driver::queue), of all that does not go straight into the kernel's queue. It
    /// takes the entry by value: one that nobody has an address of is made where the kernel reads
    /// it.
    #[inline(never)]
    fn queue_otherwise(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(std::slice::from_ref(&entry)) {
            self.backlog.push_back(entry);
        }
    }

    /// Pushes a chain whole, submitting once to make room. `false`: still no room.
    fn try_push(&mut self, chain: &[squeue::Entry]) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        // SAFETY: a slot stands for each entry and keeps what it names until the last completion:
        // see `start` and `orphan`. Cancels name nothing.
        let pushed = unsafe { ring.push(chain) };
        match pushed {
            Ok(()) => true,
            Err(PushError::Full) => self.push_after_entering(chain),
            Err(PushError::TooLong) => false,
        }
    }

    #[cold]
    fn push_after_entering(&mut self, chain: &[squeue::Entry]) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        // A failed submission shows again in the turn, which reports it.
        let _ = ring.enter(Wait::No, 0);
        // SAFETY: as in `try_push`.
        unsafe { ring.push(chain) }.is_ok()
    }

    /// Sends cancels, submits, waits, and sorts what came. The one place where the program waits.
    ///
    /// # Errors
    /// What io_uring_enter(2) says of a ring that is beyond use. Signals and want of memory are
    /// dealt with below.
    #[inline(always)]
    pub(crate) fn turn(&mut self, wait: Wait, deliveries: &mut Deliveries) -> io::Result<()> {
        let is_much = self.pool.as_ref().is_some_and(|pool| pool.begin_turn());
        self.send_cancels();
        self.push_backlog();
        if self.in_flight > 1 {
            self.one_by_one.end();
        }
        self.publish();
        let wait = if self.backlog.is_empty() { wait } else { Wait::No };
        let Some(ring) = &mut self.ring else { return Ok(()) };
        if is_much {
            ring.submit_alone()?;
        }
        ring.enter(wait, self.in_flight)?;
        for _ in 0..MOST_COMPLETIONS {
            // What the completion queue could not hold comes with the next turn, which does not
            // wait then.
            let Some(completion) = self.ring.as_mut().and_then(Ring::reap) else { break };
            self.complete(completion, deliveries);
        }
        Ok(())
    }

    /// Submits what is queued now, and waits for nothing: what a user computes until the next turn
    /// then does not hold it up. An error of the ring comes again with the turn.
    pub(crate) fn submit_early(&mut self) {
        self.push_backlog();
        if let Some(ring) = &mut self.ring {
            let _ = ring.submit_alone();
        }
    }

    #[inline]
    fn push_backlog(&mut self) {
        if !self.backlog.is_empty() {
            self.push_some_of_backlog();
        }
    }

    /// Finds the slot that a completion belongs to and moves it on.
    #[inline(always)]
    fn complete(&mut self, completion: Completion, deliveries: &mut Deliveries) {
        let Completion { token, result, flags } = completion;
        if let Some(slot) = self.slots.get_mut(Token(token))
            && let SlotState::Waiting(waker) = &slot.state
            && flags & (COMPLETION_MORE | COMPLETION_NOTIFICATION) == 0
        {
            // SAFETY: the slot owns the waker, and gives it up in the next line, where its state is
            // overwritten and not dropped.
            let waker = unsafe { ptr::read(waker) };
            // SAFETY: the reference is to a slot, whose state holds nothing now.
            unsafe { ptr::write(&mut slot.state, SlotState::finished(completion)) };
            self.counters.completions.add(1);
            self.in_flight -= 1;
            deliveries.wakers.push(waker);
        } else {
            self.complete_other(token, result, flags, deliveries);
        }
    }

    /// As [`complete`](Driver::complete), of anything but an operation whose future waits for it.
    #[inline(never)]
    fn complete_other(&mut self, token: u64, result: i32, flags: u32, deliveries: &mut Deliveries) {
        let completion = Completion { token, result, flags };
        if completion.token == CANCEL {
            return;
        }
        self.counters.completions.add(1);
        let token = Token(completion.token);
        let Some(slot) = self.slots.get_mut(token) else {
            self.counters.stale_completions.add(1);
            // The buffer goes back, should it have taken one.
            return drop(self.arrival(completion));
        };
        match &mut slot.state {
            SlotState::Multishot(multishot) if !multishot.ended => {
                return self.complete_multishot(token, completion, deliveries);
            }
            SlotState::Multishot(_) => {
                self.counters.stale_completions.add(1);
                return drop(self.arrival(completion));
            }
            SlotState::HandedOver(successor) => {
                let successor = Rc::clone(successor);
                return self.complete_handed_over(token, successor, completion, deliveries);
            }
            _ => {}
        }
        if completion.flags & (COMPLETION_MORE | COMPLETION_NOTIFICATION) != 0 {
            return self.complete_zero_copy(token, completion, deliveries);
        }
        if let SlotState::Finished { .. } = slot.state {
            self.counters.stale_completions.add(1);
            return drop(self.arrival(completion));
        }
        self.in_flight -= 1;
        match mem::replace(&mut slot.state, SlotState::finished(completion)) {
            SlotState::Orphaned(orphan) => deliveries.orphans.push_back((orphan, completion)),
            _ => unreachable!("sorted out above"),
        }
        self.slots.remove(token);
    }

    /// When the driver itself wants a turn: for cancels and their repetitions.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ring = self.ring.as_ref()?;
        if !self.to_cancel.is_empty() {
            return Some(ring.now());
        }
        self.cancelled.peek().map(|Reverse(cancelled)| cancelled.again_at)
    }

    /// Cancels go out behind their targets: in front of them they would find nothing and the
    /// targets would live.
    #[inline]
    fn send_cancels(&mut self) {
        if !self.to_cancel.is_empty() || !self.cancelled.is_empty() {
            self.send_cancels_now();
        }
    }

    #[inline(never)]
    fn send_cancels_now(&mut self) {
        let Some(now) = self.ring.as_ref().map(Ring::now) else { return };
        let may_repeat = !self.is_behind();
        while may_repeat
            && self.cancelled.peek().is_some_and(|Reverse(cancelled)| cancelled.again_at <= now)
        {
            let Some(Reverse(Cancelled { token, next_pause, .. })) = self.cancelled.pop() else {
                return;
            };
            self.send_cancel(token, now + next_pause, (2 * next_pause).min(LONGEST_CANCEL_PAUSE));
        }
        let mut tokens = mem::take(&mut self.to_cancel);
        for token in tokens.drain(..) {
            // The first repetition comes with the next turn.
            self.send_cancel(token, now, FIRST_CANCEL_PAUSE);
        }
        self.to_cancel = tokens;
    }

    fn send_cancel(&mut self, token: Token, again_at: Instant, next_pause: Duration) {
        if self.slots.get(token).is_none_or(|slot| !slot.can_be_cancelled()) {
            return;
        }
        self.counters.cancels.add(1);
        self.queue(opcode::AsyncCancel::new(token.0).build().user_data(CANCEL));
        self.cancelled.push(Reverse(Cancelled { again_at, token, next_pause }));
    }

    /// Operations that the kernel still holds.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Closes the ring. What is in flight now is leaked with its memory, since the kernel may still
    /// write there.
    pub(crate) fn close_ring(&mut self) {
        match self.ring.take() {
            Some(ring) if self.in_flight > 0 => {
                mem::forget(ring);
                self.pool.iter().for_each(|pool| pool.leak());
            }
            ring => drop(ring),
        }
    }

    pub(crate) fn ring_mut(&mut self) -> Option<&mut Ring> {
        self.ring.as_mut()
    }

    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Writes down how many there are now.
    #[inline]
    pub(crate) fn publish(&self) {
        self.counters.operations_in_flight.set(self.in_flight as u64);
        self.pool.iter().for_each(|pool| pool.publish());
    }
}

impl SlotState {
    #[inline]
    fn finished(completion: Completion) -> SlotState {
        SlotState::Finished { result: completion.result, flags: completion.flags }
    }
}

impl Slot {
    fn is_cancellable(&self) -> bool {
        !self.cancelling && self.can_be_cancelled()
    }

    /// Is it in flight?
    fn can_be_cancelled(&self) -> bool {
        match &self.state {
            SlotState::Waiting(_) | SlotState::Orphaned(_) => {
                !matches!(self.zero_copy, ZeroCopySend::Result(_))
            }
            SlotState::HandedOver(_) => true,
            SlotState::Multishot(multishot) => !multishot.ended,
            SlotState::Finished { .. } => false,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            self.close_ring();
            mem::forget(mem::take(&mut self.slots));
        }
    }
}

/// What the tests need that only unsafe code can do.
#[cfg(test)]
impl Driver {
    fn start_nop(&mut self) -> Token {
        // SAFETY: a NOP names no memory and no descriptor.
        unsafe { self.start(opcode::Nop::new().build(), Waker::noop().clone()) }
            .expect("the ring is open")
    }

    /// Waits for something to read.
    fn start_poll(&mut self, target: &impl std::os::fd::AsRawFd) -> Token {
        let poll =
            opcode::PollAdd::new(io_uring::types::Fd(target.as_raw_fd()), libc::POLLIN as u32)
                .build();
        // SAFETY: the entry names no memory. Tests keep the descriptor until the operation has
        // ended, or the ring, which holds the file.
        unsafe { self.start(poll, Waker::noop().clone()) }.expect("the ring is open")
    }
}

#[cfg(test)]
mod against_a_model;
#[cfg(test)]
mod every_kernel;
#[cfg(test)]
mod tests;
