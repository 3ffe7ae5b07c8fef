//! How does an operation become a future? The `Operation` pair, and `Op`, the future of one operation.
//!
//! Each operation is written once, as a pair of functions on one screen: how it becomes a submission queue entry, and how its completion
//! becomes a value. `Op` does the rest: start at the first poll, wait, give the operation to its slot when the future is dropped.
//!
//! # Safety
//! While an operation is in flight it lies in `MaybeUninit`: bytes that nobody reads, writes or asserts anything about, since the kernel
//! works on the memory that it owns. It belongs to the `Op`, and to its slot once the `Op` is dropped; both keep it until the last
//! completion.
#![allow(unsafe_code)]
// Users see operations only inside `Op`, `Cancel` and `Deadline`, which have their own.
#![allow(missing_debug_implementations)]

mod accept;
mod chunks;
mod closing;
mod datagram;
mod datagrams;
mod deadline;
pub(crate) mod file;
mod handle;
mod header;
mod incoming;
mod lane;
mod multishot;
mod no_op;
mod path;
mod place;
mod registration;
mod socket;
mod stage;
mod vectored;
mod zero_copy;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use io_uring::squeue;

pub(crate) use accept::{Accept, Accepted, Listening};
pub(crate) use chunks::{ReadChunk, Source};
pub(crate) use datagram::{ReceiveDatagram, ReceiveFrom, SendTo};
pub(crate) use handle::{Handle, Resource};
pub(crate) use path::{MakeDirectory, Open, Rename, Status, Statx, Unlink};
pub(crate) use socket::{Connect, Receive, ReceiveExact, Send, SendAll, Shutdown};
pub(crate) use vectored::{ReadVectoredAt, ReceiveVectored, SendAllVectored, SendVectored, WriteVectoredAt};
pub(crate) use zero_copy::{SendVectoredZeroCopy, SendZeroCopy};

pub use chunks::Chunks;
pub use datagrams::{Datagram, Datagrams};
pub use deadline::{Cancel, Deadline, Expire};
pub use incoming::Incoming;
pub use no_op::no_op;
pub use zero_copy::Sent;

use lane::{Direction, Manner, Turn};
use stage::{Packed, Stage};

use crate::driver::{Orphan, Token};
use crate::exec::share;
use crate::ring::Completion;
use crate::runtime::{Core, Timer, current};

/// The most bytes that one read or write moves: what Linux clamps to, read(2).
const MOST_BYTES: usize = 0x7fff_f000;

/// How often an operation is started again for which the kernel has no worker thread. Each time it tries three times within 15 ms.
const MOST_RESTARTS: u8 = 16;

/// One kind of operation: how it becomes an SQE, and how its completion becomes a value.
///
/// # Safety
/// Every address in `entry()` that the kernel uses after submission lies in memory owned by `self` on the heap, or is `'static`; moving
/// `self` does not change it; and until the last completion nobody, safe code included, frees it, writes it, or (where the kernel writes)
/// reads it. Memory that is only read during submission lives until the enter that consumes the entry, so it is owned in the same way. The
/// descriptor in `entry()` stays open until then: operations hold a [`Handle`].
pub unsafe trait Operation: Sized + 'static {
    /// What the future yields.
    type Output;

    /// How it becomes an SQE. Called again for each part of a repeated operation.
    fn entry(&mut self) -> squeue::Entry;

    /// Is there a way past the ring, for when nothing else is in flight?
    const HAS_WAY_PAST_THE_RING: bool = false;

    /// Its result, if it can be had past the ring, without a wait.
    fn try_past_the_ring(&mut self, _core: &Core) -> Option<i32> {
        None
    }

    /// How its last completion becomes a value, or the start of the next part. A completion with `ECANCELED` ends it.
    fn complete(self, completion: Completion) -> Step<Self>;

    /// Where and how it takes turns with others of its descriptor, if it does.
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        None
    }

    /// May it run again after `EINTR`, and after an `ECANCELED` that nobody asked for? Not if a second
    /// run would find what the first has done: a file system may answer so after it has done it.
    fn restarts(&self) -> bool {
        true
    }

    /// Takes what a dropped one has left in its lane, before it is submitted.
    fn claim(self) -> Step<Self> {
        Step::Again(self)
    }

    /// What becomes of its last completion when its future is gone: it goes into the lane for the next one, or nobody misses it.
    fn leave(self, completion: Completion) {
        drop(self.complete(completion));
    }

    /// How much its earlier parts have moved, where it has several.
    fn moved(&self) -> usize {
        0
    }

    /// Does it go on when its future is dropped, for the next one's sake? Else it is cancelled.
    const PARKS: bool = false;

    /// Does its result come before its last completion, which is the notification that the kernel has let go of its memory?
    const NOTIFIES: bool = false;

    /// With this early result, is there nothing left to do but to wait for the notification?
    fn is_over(&self, _result: i32) -> bool {
        false
    }

    /// Gives up the descriptor of an operation that only waits for its notification. It has no lane from then on.
    fn release(&mut self) -> Option<Handle> {
        None
    }
}

/// What a completion means.
pub enum Step<O: Operation> {
    /// The operation has ended.
    Done(O::Output),
    /// It goes on with another entry, as `write_all` does after a short write.
    Again(O),
}

impl Completion {
    /// The result in the way of system calls: a count or descriptor, or an error with the kernel's errno.
    fn result(&self) -> io::Result<usize> {
        if self.result < 0 {
            return Err(io::Error::from_raw_os_error(-self.result));
        }
        Ok(self.result as usize)
    }

    /// Of an operation that the ring never saw.
    fn without_submission(result: i32) -> Completion {
        Completion { token: 0, result, flags: 0 }
    }
}

/// The future of one operation on the ring.
///
/// It is submitted with its task's first poll of it, in the tick's one batch. A read of a cached file
/// may end with that poll, if the program reads one by one. `'h` is the borrow of the handle that it works on.
///
/// # Cancelling
/// Dropping it before its end cancels the operation, except that an accept goes on for the next one's sake. The kernel may finish it all the
/// same; the buffer stays alive until then, and is freed. What a socket had received waits in it for the next call: [the guide to
/// cancelling](crate::docs::cancellation) says what that means for each operation. To have the outcome and the buffer in every case, use
/// [`cancel`](Op::cancel) or [`timeout`](Op::timeout), or keep the future and poll it again later; meanwhile it keeps its turn, for which
/// later operations of the same direction wait. Forgetting it (`mem::forget`) keeps that turn for ever, and leaks the buffer, one slot of the
/// runtime, and its share in the descriptor, which stays open.
///
/// # Panics
/// When first polled outside a runtime, or polled again after it has yielded its output.
#[must_use = "an operation does nothing until it is awaited"]
// In this order what is zero at first lies together.
#[repr(C)]
pub struct Op<'h, O: Operation> {
    /// The runtime that it was started on.
    core: Option<Rc<Core>>,
    /// Its turn in its lane, where others wait or were dropped: seldom there, and there is room for it in every future.
    turn: Option<Box<Turn>>,
    stage: Packed,
    flags: Flags,
    /// Initialised but in `Stage::Done`.
    operation: MaybeUninit<O>,
    handle: PhantomData<&'h ()>,
}

/// What is set of an operation.
#[derive(Clone, Copy, Default)]
#[repr(align(8))]
struct Flags {
    /// The user wants it to end: no further parts are started.
    cancelled: bool,
    /// It has a quiet lane to itself, which needs no turn.
    alone: bool,
    /// How often it was started again since the kernel had no thread for it.
    restarts: u8,
    /// So that the whole is zero at first.
    _unused: [u8; 5],
}

impl<'h, O: Operation> Op<'h, O> {
    #[inline(always)]
    pub(crate) fn new(operation: O) -> Op<'h, O> {
        Op::settled(operation, None)
    }

    /// An operation that may be settled before it is submitted: refused with a negative errno, or with nothing to do and a result of 0.
    #[inline(always)]
    pub(crate) fn settled(operation: O, result: Option<i32>) -> Op<'h, O> {
        let stage = result.map_or(Packed::IDLE, |result| Stage::Settled(result).into());
        Op { core: None, turn: None, stage, flags: Flags::default(), operation: MaybeUninit::new(operation), handle: PhantomData }
    }

    /// Cancels the operation and waits for its end.
    ///
    /// The output is the operation's own: if it won the race, that is success as if nobody had cancelled; else it is an error with
    /// `ECANCELED`, or with `EINTR` if a worker thread of the kernel was interrupted at it. Either way the buffer comes back. One that was
    /// never polled is not started any more.
    ///
    /// ```
    /// # use annulus::net::UdpSocket;
    /// # annulus::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let mut receive = socket.recv(vec![0; 64]);
    /// assert!(futures_util::poll!(&mut receive).is_pending());
    /// let error = receive.cancel().await.unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(125)); // ECANCELED: nothing had come
    /// let buffer = error.into_buffer();
    /// assert_eq!(buffer.len(), 64);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn cancel(self) -> Cancel<'h, O> {
        Cancel::new(self)
    }

    /// Gives the operation `duration` from now to end, then cancels it.
    ///
    /// Whether it was in time is decided by its own completion alone: a read that got bytes is never reported as a time-out. If it was
    /// not, the error is of kind [`TimedOut`](io::ErrorKind::TimedOut) and carries the buffer. Operations that repeat (`read_exact`,
    /// `write_all`) may have moved some bytes by then: [`transferred`](crate::Error::transferred) counts them.
    ///
    /// ```
    /// # use annulus::net::UdpSocket;
    /// # use std::{io::ErrorKind, time::Duration};
    /// # annulus::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let late = socket.recv(vec![0; 64]).timeout(Duration::from_millis(5)).await.unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::TimedOut);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn timeout(self, duration: Duration) -> Deadline<'h, O>
    where
        O::Output: Expire,
    {
        Deadline::new(self, Timer::after(duration))
    }

    /// As [`timeout`](Op::timeout), with the instant at which the operation is cancelled.
    pub fn deadline(self, deadline: std::time::Instant) -> Deadline<'h, O>
    where
        O::Output: Expire,
    {
        Deadline::new(self, Timer::new(deadline))
    }

    /// Asks for the end, which comes with the operation's own completion.
    fn request_cancel(&mut self) {
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

    /// Enters the operation's lane if it has none, or if nobody is or waits there and nothing is left. `false`: it takes a [`Turn`].
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
        match unsafe { self.operation.assume_init_ref() }.lane() {
            None => true,
            Some((handle, direction, manner)) => {
                let quiet = handle.lane(direction).enter_quietly(manner);
                self.flags.alone = quiet && manner == Manner::Alone;
                quiet
            }
        }
    }

    /// Waits for the operation's turn, and takes what is left in its lane. `None`: it is to be submitted.
    #[cold]
    fn queue_up(&mut self, context: &Context<'_>) -> Poll<Option<O::Output>> {
        if self.turn.is_none() {
            // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know it.
            let lane = unsafe { self.operation.assume_init_ref() }.lane();
            self.turn = lane.map(|(handle, direction, manner)| Box::new(Turn::new(handle, direction, manner)));
        }
        let Some(turn) = &mut self.turn else { return Poll::Ready(None) };
        ready!(turn.poll(context));
        if !turn.lane().has_left() {
            return Poll::Ready(None);
        }
        ready!(turn.lane().poll_budget(context));
        // SAFETY: as above.
        let operation = unsafe { self.take() };
        let step = operation.claim();
        Poll::Ready(self.proceed(step))
    }

    /// Queues the entry for this tick's batch, or settles what the ring cannot take. One function for each kind of operation, whoever awaits it: the
    /// rest of `poll` is small.
    #[inline(never)]
    fn start(&mut self, context: &Context<'_>) {
        let core = current();
        // SAFETY: in `Stage::Idle` the operation is initialised and the kernel does not know it.
        let operation = unsafe { self.operation.assume_init_mut() };
        if O::HAS_WAY_PAST_THE_RING
            && core.driver.borrow().is_idle()
            && let Some(result) = operation.try_past_the_ring(&core)
        {
            self.stage = Stage::Settled(result).into();
            return;
        }
        let entry = operation.entry();
        let waker = share(context.waker());
        // SAFETY: `Operation` promises that what the entry names belongs to the operation. That stays in `self.operation`, or goes to the
        // slot in `drop`, until the last completion.
        let started = unsafe { core.driver.borrow_mut().start(entry, waker) };
        self.core = Some(core);
        self.stage = match started {
            Ok(token) => Stage::InFlight(token),
            Err((errno, _waker)) => Stage::Settled(-errno),
        }
        .into();
    }

    /// Has it ended without anybody's will, so that it is to be started again? A signal can interrupt it, and can keep the kernel from starting
    /// the worker thread that it needs: that comes as `ECANCELED`, though nobody has cancelled it. If the runtime has ended since, that has. From
    /// the software ring the errno means that the descriptor is another file's by now, which must not be touched.
    #[cold]
    fn is_interrupted(&mut self, result: i32) -> bool {
        // SAFETY: this was the last completion of its part, so the kernel has let go of it.
        if self.flags.cancelled || !unsafe { self.operation.assume_init_ref() }.restarts() {
            return false;
        }
        let without_thread =
            result == -libc::ECANCELED && self.flags.restarts < MOST_RESTARTS && self.core.as_ref().is_some_and(|core| core.is_on_kernel());
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

    /// Leaves a quiet lane, or makes a turn of it if others have come meanwhile.
    ///
    /// # Safety
    /// The operation is initialised, and the kernel has let go of it.
    #[inline]
    unsafe fn leave_quietly(&mut self) {
        if !std::mem::take(&mut self.flags.alone) {
            return;
        }
        // SAFETY: the caller's promise.
        if let Some((handle, direction, manner)) = unsafe { self.operation.assume_init_ref() }.lane()
            && !handle.lane(direction).leave_quietly()
        {
            self.turn = Some(Box::new(Turn::inside(handle, direction, manner)));
        }
    }

    /// Lets the next one have its turn, and the descriptor be closed, when only the notification is still to come.
    #[cold]
    fn leave_early(&mut self, token: Token) {
        let Some(early) = self.core().early_result(token) else { return };
        // SAFETY: it is initialised. The kernel works on what it points to and not on the operation's own bytes, and only its handle and its
        // counts are looked at.
        let operation = unsafe { self.operation.assume_init_mut() };
        if !operation.is_over(early.result) {
            return;
        }
        if std::mem::take(&mut self.flags.alone)
            && let Some((handle, direction, manner)) = operation.lane()
            && !handle.lane(direction).leave_quietly()
        {
            self.turn = Some(Box::new(Turn::inside(handle, direction, manner)));
        }
        let handle = operation.release();
        self.turn = None;
        drop(handle);
    }

    /// The turn of an operation whose future goes away while it is in its lane.
    fn turn_of_dropped(&mut self, operation: &O) -> Option<Turn> {
        self.flags.alone = false;
        self.turn.take().map(|turn| *turn).or_else(|| {
            let (handle, direction, manner) = operation.lane()?;
            Some(Turn::inside(handle, direction, manner))
        })
    }

    /// Ends and lets the next one have its turn, or makes ready for the next part.
    #[inline]
    fn proceed(&mut self, step: Step<O>) -> Option<O::Output> {
        match step {
            Step::Done(output) => {
                // Asked first, since there is hardly ever one, and dropping it is a call.
                if self.turn.is_some() {
                    self.turn = None;
                }
                Some(output)
            }
            Step::Again(operation) => {
                self.operation = MaybeUninit::new(operation);
                self.stage = if self.flags.cancelled { Stage::Settled(-libc::ECANCELED).into() } else { Packed::IDLE };
                None
            }
        }
    }
}

impl<O: Operation> Future for Op<'_, O> {
    type Output = O::Output;

    // Inlined, so that the output goes from the operation to where the caller wants it: in between it would be written in single words and read in
    // wider steps at once, for which a processor stalls.
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
                Stage::InFlight(token) => match self.core().poll_operation(token, context.waker()) {
                    Poll::Ready(completion) if completion.result < 0 && self.is_interrupted(completion.result) => {
                        self.stage = Packed::IDLE;
                        continue;
                    }
                    Poll::Ready(completion) => completion,
                    Poll::Pending => {
                        if O::NOTIFIES {
                            self.leave_early(token);
                        }
                        return Poll::Pending;
                    }
                },
                Stage::Settled(result) => Completion::without_submission(result),
                Stage::Done => panic!("an operation was polled again after it had yielded its output"),
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
        // SAFETY: it was never submitted, or only parts of it that have ended, so the future is its sole owner.
        let operation = unsafe {
            self.leave_quietly();
            self.take()
        };
        // What its earlier parts have moved is accounted for as if the next had been cancelled.
        let cancelled = Completion::without_submission(-libc::ECANCELED);
        if let Some(turn) = &self.turn
            && operation.moved() > 0
        {
            turn.ended(operation.moved(), cancelled);
        }
        operation.leave(cancelled);
    }

    #[cold]
    fn drop_in_flight(&mut self, token: Token) {
        let Some(core) = self.core.take() else { return };
        if let Some(completion) = core.abandon_operation(token) {
            // SAFETY: this was its last completion.
            let operation = unsafe { self.take() };
            let turn = self.turn_of_dropped(&operation);
            if let Some(turn) = &turn {
                turn.ended(operation.moved(), completion);
            }
            operation.leave(completion);
            drop(turn);
            return;
        }
        self.stage = Stage::Done.into();
        let operation = std::mem::replace(&mut self.operation, MaybeUninit::uninit());
        // SAFETY: it is initialised. The kernel works on what it points to and not on the operation's own bytes, and only its handle is
        // looked at.
        let mut turn = self.turn_of_dropped(unsafe { operation.assume_init_ref() });
        if let Some(turn) = &mut turn {
            turn.hold();
            if O::PARKS {
                turn.lane().park(&core, token);
            }
        }
        let mut orphaned = Box::new(Orphaned { operation, turn });
        if O::NOTIFIES
            && let Some(early) = core.early_result(token)
        {
            drop(orphaned.let_go(early));
        }
        core.adopt(token, orphaned, !O::PARKS);
    }
}

/// An operation whose future is gone, kept as bytes until its last completion, with its turn.
struct Orphaned<O: Operation> {
    operation: MaybeUninit<O>,
    turn: Option<Turn>,
}

impl<O: Operation> Orphan for Orphaned<O> {
    fn finish(self: Box<Self>, completion: Completion) {
        // SAFETY: `Op::drop` put it in initialised, and the driver calls this once, after the last completion.
        let operation = unsafe { self.operation.assume_init() };
        if let Some(turn) = &self.turn {
            turn.ended(operation.moved(), completion);
        }
        operation.leave(completion);
    }

    fn let_go(&mut self, completion: Completion) -> Option<Box<dyn Any>> {
        // SAFETY: it is initialised. The kernel works on what it points to and not on the operation's own bytes, and only its handle and its
        // counts are looked at.
        let operation = unsafe { self.operation.assume_init_mut() };
        let turn = self.turn.take();
        if let Some(turn) = &turn {
            turn.ended(operation.moved(), completion);
        }
        Some(Box::new((turn, operation.release())))
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
