//! The timers of a runtime: its wheel in terms of `Instant` and `Waker`, and the timers in it.
//!
//! The wheel counts ticks of about half a millisecond from the runtime's start. A deadline is
//! rounded up to a tick, so nothing fires early.

use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{Core, current};
use crate::driver::Deliveries;
use crate::exec;
use crate::sys;
use crate::wheel::{Key, Wheel};

/// One tick of the wheel: 2^19 ns, 0.52 ms. Finer ticks would wake the loop more often for the same
/// timers.
const TICK_NANOSECONDS: u64 = 1 << 19;

/// "Never", for durations that reach beyond what an `Instant` can hold.
const FAR: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

pub(super) struct Timers {
    /// `None` of a timer that wakes nobody any more, since the runtime ends.
    wheel: Wheel<Option<Waker>>,
    /// Tick 0.
    start: Time,
    /// Memory for what fires.
    fired: Vec<Option<Waker>>,
}

impl Timers {
    pub(super) fn new(start: Instant) -> Timers {
        Timers { wheel: Wheel::new(), start: Time::of(start), fired: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wheel.pending() == 0
    }

    /// When there is something to do next: no later than the earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        let nanoseconds = self.wheel.next()?.saturating_mul(TICK_NANOSECONDS);
        Some(Time(self.start.0.saturating_add(nanoseconds)).instant())
    }

    /// Hands over the wakers of all that is due.
    pub(super) fn fire(&mut self, now: Instant, deliveries: &mut Deliveries) {
        let ticks = Time::of(now).since(self.start) / TICK_NANOSECONDS;
        self.wheel.advance(ticks, &mut self.fired);
        deliveries.wake_all(self.fired.drain(..).flatten());
    }

    #[inline]
    fn insert(&mut self, deadline: Time, waker: Waker) -> Key {
        let ticks = deadline.since(self.start).div_ceil(TICK_NANOSECONDS);
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

/// A time as the timers count: nanoseconds of the clock that [`Instant`] reads. To calculate with
/// instants costs many times as much.
#[derive(Debug, Clone, Copy)]
struct Time(u64);

impl Time {
    #[inline]
    fn after(duration: Duration) -> Time {
        Time(sys::monotonic_nanoseconds().saturating_add(nanoseconds(duration)))
    }

    fn of(instant: Instant) -> Time {
        let (time, known) = ONE_TIME.get_or_init(one_time);
        Time(match instant.checked_duration_since(*known) {
            Some(later) => time.0.saturating_add(nanoseconds(later)),
            None => time.0.saturating_sub(nanoseconds(*known - instant)),
        })
    }

    /// Exactly the instant that it was made of, unless that lies before the start of the machine.
    fn instant(self) -> Instant {
        let (time, known) = ONE_TIME.get_or_init(one_time);
        match self.0.checked_sub(time.0) {
            Some(later) => *known + Duration::from_nanos(later),
            None => *known - Duration::from_nanos(time.0 - self.0),
        }
    }

    /// In nanoseconds, none if it is earlier.
    #[inline]
    fn since(self, start: Time) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

/// One time as a number and as an instant, from which all others follow.
static ONE_TIME: OnceLock<(Time, Instant)> = OnceLock::new();

/// Of some attempts the one with the least time between the two looks at the clock, since this
/// thread may be interrupted there. The number is the earlier one: so an instant becomes too small
/// a number, if anything, and no timer of a duration fires early.
fn one_time() -> (Time, Instant) {
    let attempt = |_| {
        let (before, instant) = (sys::monotonic_nanoseconds(), sys::now());
        (sys::monotonic_nanoseconds() - before, before, instant)
    };
    let (_, time, instant) = (0..8).map(attempt).min().expect("there are eight");
    (Time(time), instant)
}

/// The instant that lies `duration` from now, or one so far away that nobody sees it.
#[inline]
pub(crate) fn deadline_after(duration: Duration) -> Instant {
    let now = sys::now();
    now.checked_add(duration).unwrap_or_else(|| now + FAR)
}

/// A deadline to wait for. It stands in the wheel from its first poll until it fires or is dropped,
/// and fires in a tick after the poll that put it there: waiting for a deadline that has passed
/// lets the others have their turn.
#[derive(Debug)]
pub(crate) struct Timer {
    deadline: Time,
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
        Timer { deadline: Time::of(deadline), at_once: false, registration: None }
    }

    /// A deadline that lies `duration` from now.
    #[inline]
    pub(crate) fn after(duration: Duration) -> Timer {
        Timer { deadline: Time::after(duration), at_once: false, registration: None }
    }

    /// As [`after`](Timer::after). With a duration of zero it is over after one turn of the loop.
    #[inline]
    pub(crate) fn sleep(duration: Duration) -> Timer {
        Timer { deadline: Time::after(duration), at_once: duration.is_zero(), registration: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.instant()
    }

    /// Moves the deadline. Whoever waits for it is woken at the new one, without a poll in between.
    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.deadline = Time::of(deadline);
        self.at_once = false;
        if let Some(Registration { core, key }) = self.registration.take() {
            let mut timers = core.timers.borrow_mut();
            let waker = timers.wheel.remove(key).flatten();
            if let Some(waker) = waker {
                let key = timers.insert(self.deadline, waker);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_exactly_the_instant_that_it_was_made_of() {
        let now = Instant::now();
        assert_eq!(Time::of(now).instant(), now);
        for nanoseconds in [1, 999_999_999, 1_000_000_000] {
            let distance = Duration::from_nanos(nanoseconds);
            assert_eq!(Time::of(now + distance).instant(), now + distance);
            assert_eq!(Time::of(now + distance).since(Time::of(now)), nanoseconds);
            assert_eq!(Time::of(now - distance).instant(), now - distance);
        }
    }

    #[test]
    fn a_deadline_after_a_duration_is_not_before_it_as_instants_tell() {
        for _ in 0..1000 {
            let before = Instant::now();
            let deadline = Timer::after(Duration::from_secs(1)).deadline();
            assert!(deadline >= before + Duration::from_secs(1));
            assert!(deadline < Instant::now() + Duration::from_millis(1100));
        }
        assert!(Timer::after(Duration::MAX).deadline() > Instant::now() + Duration::from_secs(1 << 32));
    }
}
