//! The timers of a runtime: the wheel in terms of `Instant` and `Waker`.
//!
//! The wheel counts ticks of about half a millisecond from the runtime's start. A deadline is
//! rounded up to a tick, so nothing fires early.

use std::sync::OnceLock;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::Deliveries;
use crate::sys;
use crate::wheel::{Wheel, WheelKey};

/// One tick of the wheel: 2^19 ns, 0.52 ms. Finer ticks would wake the loop more often for the same
/// timers.
const TICK_NANOSECONDS: u64 = 1 << 19;

pub(super) struct Timers {
    /// `None` of a timer that wakes nobody any more, since the runtime ends.
    pub(super) wheel: Wheel<Option<Waker>>,
    /// Tick 0.
    pub(super) start: Time,
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
    pub(super) fn insert(&mut self, deadline: Time, waker: Waker) -> WheelKey {
        let ticks = deadline.since(self.start).div_ceil(TICK_NANOSECONDS);
        self.wheel.insert(ticks, Some(waker))
    }

    /// Takes out all wakers, which may own futures with timers in them. The timers themselves stay
    /// with their owners, and wake nobody.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.wheel.values_mut().filter_map(Option::take).collect()
    }

    /// Sets who is woken, and returns who was before: dropping that one runs user code.
    pub(super) fn replace(&mut self, key: &WheelKey, waker: Waker) -> Option<Waker> {
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
pub(super) struct Time(pub(super) u64);

impl Time {
    #[inline]
    pub(super) fn after(duration: Duration) -> Time {
        Time(sys::monotonic_nanoseconds().saturating_add(nanoseconds(duration)))
    }

    pub(super) fn of(instant: Instant) -> Time {
        let (time, known) = ONE_TIME.get_or_init(one_time);
        Time(match instant.checked_duration_since(*known) {
            Some(later) => time.0.saturating_add(nanoseconds(later)),
            None => time.0.saturating_sub(nanoseconds(*known - instant)),
        })
    }

    /// Exactly the instant that it was made of, unless that lies before the start of the machine.
    pub(super) fn instant(self) -> Instant {
        let (time, known) = ONE_TIME.get_or_init(one_time);
        match self.0.checked_sub(time.0) {
            Some(later) => *known + Duration::from_nanos(later),
            None => *known - Duration::from_nanos(time.0 - self.0),
        }
    }

    /// In nanoseconds, none if it is earlier.
    #[inline]
    pub(super) fn since(self, start: Time) -> u64 {
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
