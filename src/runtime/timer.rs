//! When is a deadline due? The wheel of one runtime in terms of `Instant` and `Waker`, and the timers in it.
//!
//! The wheel counts ticks of about half a millisecond from the runtime's start. A deadline is rounded up to a tick, so nothing fires early.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Core, current};
use crate::driver::Deliveries;
use crate::exec;
use crate::wheel::{Key, Wheel};

/// One tick of the wheel: 2^19 ns, 0.52 ms. Finer ticks would wake the loop more often for the same timers.
const TICK_NANOSECONDS: u64 = 1 << 19;

/// "Never", for durations that reach beyond what an `Instant` can hold.
const FAR: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

pub(super) struct Timers {
    /// `None` of a timer that wakes nobody any more, since the runtime ends.
    wheel: Wheel<Option<Waker>>,
    /// Tick 0.
    start: Instant,
    /// Memory for what fires.
    fired: Vec<Option<Waker>>,
}

impl Timers {
    pub(super) fn new(start: Instant) -> Timers {
        Timers { wheel: Wheel::new(), start, fired: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wheel.pending() == 0
    }

    /// When there is something to do next: no later than the earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        let nanoseconds = self.wheel.next()?.saturating_mul(TICK_NANOSECONDS);
        self.start.checked_add(Duration::from_nanos(nanoseconds))
    }

    /// Hands over the wakers of all that is due.
    pub(super) fn fire(&mut self, now: Instant, deliveries: &mut Deliveries) {
        let ticks = nanoseconds(now.saturating_duration_since(self.start)) / TICK_NANOSECONDS;
        self.wheel.advance(ticks, &mut self.fired);
        deliveries.wake_all(self.fired.drain(..).flatten());
    }

    #[inline]
    fn insert(&mut self, deadline: Instant, waker: Waker) -> Key {
        let ticks = nanoseconds(deadline.saturating_duration_since(self.start)).div_ceil(TICK_NANOSECONDS);
        self.wheel.insert(ticks, Some(waker))
    }

    /// Takes out all wakers, which may own futures with timers in them. The timers themselves stay
    /// with their owners, and wake nobody.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.wheel.values_mut().filter_map(Option::take).collect()
    }

    /// Sets who is woken, and returns who was before: dropping that one runs user code.
    fn replace(&mut self, key: &Key, waker: Waker) -> Option<Waker> {
        self.wheel.value_mut(key).and_then(|place| place.replace(waker))
    }
}

/// In 64 bits, which hold 584 years. What is later never comes.
#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

/// The instant that lies `duration` from now, or one so far away that nobody sees it.
#[inline]
pub(crate) fn deadline_after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + FAR)
}

/// A deadline to wait for. It stands in the wheel from its first poll until it fires or is dropped, and fires in a tick after the poll
/// that put it there: waiting for a deadline that has passed lets the others have their turn.
#[derive(Debug)]
pub(crate) struct Timer {
    deadline: Instant,
    /// There is nothing to wait for but one turn of the loop, so the wheel's tick does not count.
    at_once: bool,
    registration: Option<Registration>,
}

struct Registration {
    core: Rc<Core>,
    key: Key,
}

impl Timer {
    pub(crate) fn new(deadline: Instant) -> Timer {
        Timer { deadline, at_once: false, registration: None }
    }

    /// A deadline that lies `duration` from now.
    #[inline]
    pub(crate) fn after(duration: Duration) -> Timer {
        Timer { deadline: deadline_after(duration), at_once: duration.is_zero(), registration: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline. Whoever waits for it is woken at the new one, without a poll in between.
    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.at_once = false;
        if let Some(Registration { core, key }) = self.registration.take() {
            let mut timers = core.timers.borrow_mut();
            let waker = timers.wheel.remove(key).flatten();
            if let Some(waker) = waker {
                let key = timers.insert(deadline, waker);
                drop(timers);
                self.registration = Some(Registration { core, key });
            }
        }
    }

    /// Has the deadline passed and been noticed?
    #[inline]
    pub(crate) fn has_fired(&self) -> bool {
        self.registration.as_ref().is_some_and(|Registration { core, key }| core.timers.borrow().wheel.has_fired(key))
    }

    #[inline]
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.registration.is_some() {
            return self.poll_again(context);
        }
        self.register(current(), exec::share(context.waker()));
        Poll::Pending
    }

    fn poll_again(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.has_fired() {
            return Poll::Ready(());
        }
        let core = current();
        let waker = exec::share(context.waker());
        match &self.registration {
            Some(registration) if Rc::ptr_eq(&registration.core, &core) => {
                let before = core.timers.borrow_mut().replace(&registration.key, waker);
                drop(before);
            }
            // With another runtime of this thread, whose loop does not run now.
            _ => {
                self.unregister();
                self.register(core, waker);
            }
        }
        Poll::Pending
    }

    #[inline]
    fn register(&mut self, core: Rc<Core>, waker: Waker) {
        let mut timers = core.timers.borrow_mut();
        // The start lies before every tick: such a timer fires at the next look.
        let deadline = if self.at_once { timers.start } else { self.deadline };
        let key = timers.insert(deadline, waker);
        drop(timers);
        self.registration = Some(Registration { core, key });
    }

    #[inline]
    fn unregister(&mut self) {
        if let Some(Registration { core, key }) = self.registration.take() {
            let waker = core.timers.borrow_mut().wheel.remove(key);
            drop(waker);
        }
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        self.unregister();
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration")
    }
}
