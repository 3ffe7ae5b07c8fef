//! The future of one operation: it starts with the first poll, waits, and gives the operation to
//! its slot when it is dropped.
//!
//! # Safety
//! While an operation is in flight it lies in `MaybeUninit`: bytes that nobody reads, writes or
//! asserts anything about, since the kernel works on the memory that it owns. It belongs to the
//! `Op`, and to its slot once the `Op` is dropped; both keep it until the last completion.
#![allow(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use io_uring::squeue;

use super::kept::Manner;
use super::operation::{Notification, Operation, Step, lane, leave, moved, tell_end};
use super::orphan::Orphaned;
use super::stage::{Packed, Stage};
use super::turns::Turn;
use crate::driver::{Orphan, Token};
use crate::exec::share;
use crate::ring::Completion;
use crate::runtime::{Core, current};

/// How often an operation is started again for which the kernel could not start a worker thread.
/// Each time the kernel itself tries three times within 15 ms.
const MOST_RESTARTS: u8 = 16;

/// The future of one operation on the ring.
///
/// It is submitted with its task's first poll of it, in the tick's one batch. A read of a cached
/// file may end with that poll, if the program reads one by one. `'h` is the borrow of the handle
/// that it works on.
///
/// # Cancelling
/// Dropping it before its end cancels the operation, except for an accept: that goes on, and the
/// next accept gets its connection. The kernel may finish it all the same; the buffer stays alive
/// until then, and is freed. Bytes that a socket had received wait in it for the next call: [the
/// guide to cancelling](crate::docs::cancellation) says what that means for each operation. To have
/// the outcome and the buffer in every case, use [`cancel`](Op::cancel) or
/// [`timeout`](Op::timeout), or keep the future and poll it again later; meanwhile it keeps its
/// turn, for which later operations of the same direction wait. Forgetting it (`mem::forget`) keeps
/// that turn for ever, and leaks the buffer, one slot of the runtime, and its share in the
/// descriptor, which stays open.
///
/// # Panics
/// When first polled outside a runtime, or polled again after it has yielded its output.
#[must_use = "an operation does nothing until it is awaited"]
// This order keeps the fields that begin as zero beside each other.
#[repr(C)]
pub struct Op<'h, O: Operation> {
    /// The runtime that it was started on.
    core: Option<Rc<Core>>,
    /// Its turn in its lane, if others wait there or were dropped. That is rare, so it is boxed:
    /// every future pays for the space.
    turn: Option<Box<Turn>>,
    stage: Packed,
    flags: Flags,
    /// Initialised in every stage but `Stage::Done`.
    operation: MaybeUninit<O>,
    handle: PhantomData<&'h ()>,
}

/// The flags and counts of an operation.
#[derive(Clone, Copy, Default)]
#[repr(align(8))]
struct Flags {
    /// The user wants it to end: no further parts are started.
    cancelled: bool,
    /// It is alone in its lane and nobody waits, so it needs no turn.
    alone: bool,
    /// How often it was started again since the kernel had no thread for it.
    restarts: u8,
    /// It is in its lane by the turn of a member before it in its chain.
    follows: bool,
    /// Padding that is written, so that all eight bytes begin as zero.
    _unused: [u8; 4],
}

impl<'h, O: Operation> Op<'h, O> {
    #[inline(always)]
    pub(crate) fn new(operation: O) -> Op<'h, O> {
        Op::settled(operation, None)
    }

    /// An operation that may be settled before it is submitted: refused with a negative errno, or
    /// with nothing to do and a result of 0.
    #[inline(always)]
    pub(crate) fn settled(operation: O, result: Option<i32>) -> Op<'h, O> {
        let stage = result.map_or(Packed::IDLE, |result| Stage::Settled(result).into());
        Op {
            core: None,
            turn: None,
            stage,
            flags: Flags::default(),
            operation: MaybeUninit::new(operation),
            handle: PhantomData,
        }
    }

    /// Asks for a cancel. The operation ends with its own completion, and not here.
    pub(super) fn request_cancel(&mut self) {
        self.flags.cancelled = true;
        match self.stage.unpack() {
            Stage::Idle => self.stage = Stage::Settled(-libc::ECANCELED).into(),
            Stage::InFlight(token) => self.core().cancel(token),
            Stage::Settled(_) | Stage::Done => {}
        }
    }

    /// The runtime that it was started on.
    #[inline]
    fn core(&self) -> &Rc<Core> {
        self.core.as_ref().expect("an operation in flight was started on a runtime")
    }

    /// Enters the operation's lane, if it is empty: nobody is there, nobody waits, and nothing is
    /// left. `true` also if it has no lane. `false`: it takes a [`Turn`].
    #[inline]
    fn enter_quietly(&mut self) -> bool {
        if self.flags.alone {
            // It was interrupted, and has never left.
            return true;
        }
        if self.turn.is_some() {
            return false;
        }
        // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know it.
        match lane(unsafe { self.operation.assume_init_ref() }) {
            None => true,
            Some((handle, direction, manner)) => {
                let quiet = handle.lane(direction).enter_quietly(manner);
                self.flags.alone = quiet && manner == Manner::Alone;
                quiet
            }
        }
    }

    /// Waits for the operation's turn, and takes what is left in its lane. `None`: it is to be
    /// submitted.
    #[cold]
    fn queue_up(&mut self, context: &Context<'_>) -> Poll<Option<O::Output>> {
        if self.turn.is_none() {
            // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know
            // it.
            let lane = lane(unsafe { self.operation.assume_init_ref() });
            self.turn = lane
                .map(|(handle, direction, manner)| Box::new(Turn::new(handle, direction, manner)));
        }
        let Some(turn) = &mut self.turn else { return Poll::Ready(None) };
        ready!(turn.poll(context));
        if !turn.lane().has_left() {
            return Poll::Ready(None);
        }
        ready!(turn.lane().poll_budget(context));
        let Some(turns) = O::TURNS else { return Poll::Ready(None) };
        // SAFETY: as above.
        let operation = unsafe { self.take() };
        Poll::Ready(self.proceed((turns.claim)(operation)))
    }

    /// Queues the entry for this tick's batch, or settles what the ring cannot take. Not
    /// inlined: there is one copy for each kind of operation, and not one at each await.
    #[inline(never)]
    fn start(&mut self, context: &Context<'_>) {
        let core = current();
        // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know it.
        let operation = unsafe { self.operation.assume_init_mut() };
        if let Some(try_past_the_ring) = O::HABITS.past_the_ring
            && core.driver.borrow().is_idle()
            && let Some(result) = try_past_the_ring(operation, &core)
        {
            self.stage = Stage::Settled(result).into();
            return;
        }
        let entry = operation.entry();
        let waker = share(context.waker());
        // SAFETY: `Operation` promises that what the entry names belongs to the operation. That
        // stays in `self.operation`, or goes to the slot in `drop`, until the last completion.
        let started = unsafe { core.driver.borrow_mut().start(entry, waker) };
        self.core = Some(core);
        self.stage = match started {
            Ok(token) => Stage::InFlight(token),
            Err((errno, _waker)) => Stage::Settled(-errno),
        }
        .into();
    }

    /// Has it ended although nobody asked for that? Then it is started again. A signal can
    /// interrupt it. A signal can also keep the kernel from starting the worker thread that it
    /// needs: the result is `ECANCELED` then, although nobody has cancelled it. If the runtime has
    /// ended since, the runtime has cancelled it. On the software ring the errno means that the
    /// number names another file by now, which must not be touched.
    #[cold]
    fn is_interrupted(&mut self, result: i32) -> bool {
        // SAFETY: this was the last completion of its part, so the kernel has let go of it.
        let operation = unsafe { self.operation.assume_init_ref() };
        if self.flags.cancelled || !(O::HABITS.restarts)(operation) {
            return false;
        }
        let without_thread = result == -libc::ECANCELED
            && self.flags.restarts < MOST_RESTARTS
            && self.core.as_ref().is_some_and(|core| core.is_on_kernel());
        self.flags.restarts += u8::from(without_thread);
        without_thread || result == -libc::EINTR
    }

    /// Takes the operation out, which leaves `Stage::Done`.
    ///
    /// # Safety
    /// It is initialised, and the kernel has let go of it.
    unsafe fn take(&mut self) -> O {
        self.stage = Stage::Done.into();
        // SAFETY: the caller's promise. `Stage::Done` keeps it from being read again.
        unsafe { self.operation.assume_init_read() }
    }

    /// Leaves the lane. If others wait there by now, it makes a [`Turn`], which wakes the next when
    /// it is dropped.
    ///
    /// # Safety
    /// The operation is initialised, and the kernel has let go of it.
    #[inline]
    unsafe fn leave_quietly(&mut self) {
        if !std::mem::take(&mut self.flags.alone) {
            return;
        }
        // SAFETY: the caller's promise.
        if let Some((handle, direction, manner)) = lane(unsafe { self.operation.assume_init_ref() })
            && !handle.lane(direction).leave_quietly()
        {
            self.turn = Some(Box::new(Turn::inside(handle, direction, manner)));
        }
    }

    /// Gives up the turn and the share in the descriptor, when only the notification is still to
    /// come.
    #[cold]
    fn leave_early(&mut self, notification: Notification<O>, token: Token) {
        let Some(early) = self.core().early_result(token) else { return };
        // SAFETY: it is initialised. The kernel works on what it points to and not on the
        // operation's own bytes, and only its handle and its counts are looked at.
        let operation = unsafe { self.operation.assume_init_mut() };
        if !(notification.is_over)(operation, early.result) {
            return;
        }
        if std::mem::take(&mut self.flags.alone)
            && let Some((handle, direction, manner)) = lane(operation)
            && !handle.lane(direction).leave_quietly()
        {
            self.turn = Some(Box::new(Turn::inside(handle, direction, manner)));
        }
        let handle = (notification.release)(operation);
        self.turn = None;
        drop(handle);
    }

    /// The turn of an operation whose future goes away while it is in its lane.
    fn turn_of_dropped(&mut self, operation: &O) -> Option<Turn> {
        self.flags.alone = false;
        let manner = std::mem::take(&mut self.flags.follows).then_some(Manner::AfterDropped);
        self.turn.take().map(|turn| *turn).or_else(|| {
            let (handle, direction, own_manner) = lane(operation)?;
            Some(Turn::inside(handle, direction, manner.unwrap_or(own_manner)))
        })
    }

    /// Ends and lets the next one have its turn, or makes ready for the next part.
    #[inline]
    fn proceed(&mut self, step: Step<O>) -> Option<O::Output> {
        match step {
            Step::Done(output) => {
                // Asked first: there is seldom a turn, and to assign `None` would call its drop.
                if self.turn.is_some() {
                    self.turn = None;
                }
                Some(output)
            }
            Step::Again(operation) => {
                self.operation = MaybeUninit::new(operation);
                self.stage = if self.flags.cancelled {
                    Stage::Settled(-libc::ECANCELED).into()
                } else {
                    Packed::IDLE
                };
                None
            }
        }
    }
}

impl<O: Operation> Future for Op<'_, O> {
    type Output = O::Output;

    // Inlined, so that the output is written where the caller wants it. A place in between would be
    // written word by word and read at once in wider steps, for which a processor stalls.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        loop {
            let completion = match self.stage.unpack() {
                Stage::Idle => {
                    if !self.enter_quietly()
                        && let Some(output) = ready!(self.queue_up(context))
                    {
                        return Poll::Ready(output);
                    }
                    self.start(context);
                    match self.stage.unpack() {
                        Stage::InFlight(_) => return Poll::Pending,
                        _ => continue,
                    }
                }
                Stage::InFlight(token) => {
                    match self.core().poll_operation(token, context.waker()) {
                        Poll::Ready(completion)
                            if completion.result < 0 && self.is_interrupted(completion.result) =>
                        {
                            self.stage = Packed::IDLE;
                            continue;
                        }
                        Poll::Ready(completion) => completion,
                        Poll::Pending => {
                            if let Some(notification) = O::HABITS.notification {
                                self.leave_early(notification, token);
                            }
                            return Poll::Pending;
                        }
                    }
                }
                Stage::Settled(result) => Completion::without_submission(result),
                Stage::Done => {
                    panic!("an operation was polled again after it had yielded its output")
                }
            };
            // SAFETY: the operation was settled before submission, or this is its last completion.
            let operation = unsafe {
                self.leave_quietly();
                self.take()
            };
            let step = operation.complete(completion);
            if let Some(output) = self.proceed(step) {
                return Poll::Ready(output);
            }
        }
    }
}

/// The steps of [`poll`](Op::poll), one by one, for a chain, which makes each with all its members.
impl<O: Operation> Op<'_, O> {
    /// Waits for the turn of an operation that is not in flight. `Some`: it has ended without being
    /// submitted.
    pub(super) fn poll_turn(&mut self, context: &Context<'_>) -> Poll<Option<O::Output>> {
        loop {
            match self.stage.unpack() {
                Stage::Settled(result) => {
                    // SAFETY: nothing of it is in flight.
                    let output = unsafe { self.end(Completion::without_submission(result)) };
                    if output.is_some() {
                        return Poll::Ready(output);
                    }
                }
                Stage::Idle if self.enter_quietly() => return Poll::Ready(None),
                Stage::Idle => return self.queue_up(context),
                Stage::InFlight(_) | Stage::Done => return Poll::Pending,
            }
        }
    }

    /// Its next entry, if it is to be submitted.
    pub(super) fn next_entry(&mut self) -> Option<squeue::Entry> {
        // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know it.
        (self.stage.unpack() == Stage::Idle)
            .then(|| unsafe { self.operation.assume_init_mut() }.entry())
    }

    /// Enters its lane, unless it would have to wait or there is something left to claim.
    pub(super) fn enters_quietly(&mut self) -> bool {
        self.turn.is_none() && self.enter_quietly()
    }

    /// Its entry has been queued on this runtime, under this token. `follows`: in the turn of a
    /// member before it.
    pub(super) fn is_started(&mut self, core: &Rc<Core>, token: Token, follows: bool) {
        self.core = Some(Rc::clone(core));
        self.flags.follows = follows;
        self.stage = Stage::InFlight(token).into();
    }

    /// Waits for the completion of what is in flight, and leaves it where it is.
    pub(super) fn poll_result(&self, context: &Context<'_>) -> Poll<i32> {
        match self.stage.unpack() {
            Stage::InFlight(token) => self.core().poll_result(token, context.waker()),
            _ => Poll::Ready(-libc::ECANCELED),
        }
    }

    /// Takes the completion that [`poll_result`](Op::poll_result) has found. `None`: the operation
    /// has a further part, or is to run again, if it may.
    pub(super) fn take_part(&mut self, may_run_again: bool) -> Option<O::Output> {
        let completion = self.take_completion()?;
        if may_run_again && completion.result < 0 && self.is_interrupted(completion.result) {
            self.stage = Packed::IDLE;
            return None;
        }
        // SAFETY: this was its last completion.
        unsafe { self.end(completion) }
    }

    /// Takes the completion of an entry that did nothing, leaves the lane, and is as before.
    pub(super) fn start_over(&mut self) {
        if self.take_completion().is_some() {
            // SAFETY: this was its last completion.
            unsafe { self.leave_quietly() };
            self.turn = None;
            self.flags.follows = false;
            self.stage = Packed::IDLE;
        }
    }

    fn take_completion(&mut self) -> Option<Completion> {
        match self.stage.unpack() {
            Stage::InFlight(token) => self.core().abandon_operation(token),
            _ => None,
        }
    }

    /// It will end with this errno, without being submitted.
    pub(super) fn refuse(&mut self, errno: i32) {
        if let Stage::Idle | Stage::Settled(_) = self.stage.unpack() {
            self.stage = Stage::Settled(-errno).into();
        }
    }

    /// The operation, as far as it is known: its handle and its counts.
    pub(super) fn look(&self) -> Option<&O> {
        match self.stage.unpack() {
            Stage::Done => None,
            // SAFETY: it is initialised. The kernel works on what it points to and not on the
            // operation's own bytes, and only its handle and its counts are looked at.
            _ => Some(unsafe { self.operation.assume_init_ref() }),
        }
    }

    /// Gives up what keeps others out of its lane, for another member that is in flight there.
    pub(super) fn give_turn(&mut self) -> Option<Box<Turn>> {
        let turn = if std::mem::take(&mut self.flags.alone) {
            let (handle, direction, manner) = lane(self.look()?)?;
            Some(Box::new(Turn::inside(handle, direction, manner)))
        } else {
            self.turn.take()
        };
        self.flags.follows = turn.is_some();
        turn
    }

    /// Gets that from another.
    pub(super) fn get_turn(&mut self, turn: Box<Turn>) {
        self.flags.follows = false;
        self.turn = Some(turn);
    }

    /// # Safety
    /// Nothing of it is in flight.
    unsafe fn end(&mut self, completion: Completion) -> Option<O::Output> {
        // SAFETY: the caller's promise.
        let operation = unsafe {
            self.leave_quietly();
            self.take()
        };
        let step = operation.complete(completion);
        self.proceed(step)
    }
}

impl<O: Operation> Unpin for Op<'_, O> {}

impl<O: Operation> Drop for Op<'_, O> {
    #[inline]
    fn drop(&mut self) {
        match self.stage.unpack() {
            Stage::Done => {}
            Stage::Idle | Stage::Settled(_) => self.drop_at_rest(),
            Stage::InFlight(token) => self.drop_in_flight(token),
        }
    }
}

impl<O: Operation> Op<'_, O> {
    #[cold]
    fn drop_at_rest(&mut self) {
        // SAFETY: nothing of it is in flight: it was never submitted, or every part that was has
        // ended. So the future is its sole owner.
        let operation = unsafe {
            self.leave_quietly();
            self.take()
        };
        // What earlier parts have moved is recorded, as if the next part had been cancelled.
        let cancelled = Completion::without_submission(-libc::ECANCELED);
        if let Some(turn) = &self.turn
            && moved(&operation) > 0
        {
            tell_end(turn, &operation, cancelled);
        }
        leave(operation, cancelled);
    }

    #[cold]
    fn drop_in_flight(&mut self, token: Token) {
        let Some(core) = self.core.take() else { return };
        if let Some(completion) = core.abandon_operation(token) {
            // SAFETY: this was its last completion.
            let operation = unsafe { self.take() };
            let turn = self.turn_of_dropped(&operation);
            if let Some(turn) = &turn {
                tell_end(turn, &operation, completion);
            }
            leave(operation, completion);
            drop(turn);
            return;
        }
        self.stage = Stage::Done.into();
        let operation = std::mem::replace(&mut self.operation, MaybeUninit::uninit());
        // SAFETY: it is initialised. The kernel works on what it points to and not on the
        // operation's own bytes, and only its handle is looked at.
        let mut turn = self.turn_of_dropped(unsafe { operation.assume_init_ref() });
        if let Some(turn) = &mut turn {
            turn.hold();
            if O::HABITS.parks {
                turn.lane().park(&core, token);
            }
        }
        let mut orphaned = Box::new(Orphaned { operation, turn });
        if O::HABITS.notification.is_some()
            && let Some(early) = core.early_result(token)
        {
            drop(orphaned.let_go(early));
        }
        core.adopt(token, orphaned, !O::HABITS.parks);
    }
}

impl<O: Operation> fmt::Debug for Op<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage.unpack() {
            Stage::Idle => "idle",
            Stage::Settled(_) => "settled",
            Stage::InFlight(_) => "in flight",
            Stage::Done => "done",
        };
        f.debug_struct("Op").field("stage", &stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
