//! Ticks at a fixed period.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::runtime::{Timer, deadline_after};
use crate::sys;

/// A tick that comes less than this late has not been missed.
const TOLERATED_LATENESS: Duration = Duration::from_millis(5);

/// Ticks every `period`, for the first time at once.
///
/// ```
/// # use std::time::Duration;
/// # annulus::block_on(async {
/// let mut interval = annulus::time::interval(Duration::from_millis(2));
/// interval.tick().await; // at once
/// interval.tick().await; // 2 ms later
/// # });
/// ```
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(sys::now(), period)
}

/// Ticks every `period`, for the first time at `start`.
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(period > Duration::ZERO, "the period of an interval must not be zero");
    Interval { timer: Timer::new(start), period, missed_tick_behavior: MissedTickBehavior::Burst }
}

/// What happens after a tick was missed, that is, asked for more than 5 ms late.
///
/// The names and the meaning are tokio's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// The missed ticks come at once, until the interval has caught up.
    #[default]
    Burst,
    /// The next tick comes one period after the late one; all later ones move with it.
    Delay,
    /// The missed ticks are left out; the next comes at a multiple of the period from the start.
    Skip,
}

impl MissedTickBehavior {
    fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        let late = now.saturating_duration_since(due);
        let next = match self {
            _ if late <= TOLERATED_LATENESS => due.checked_add(period),
            MissedTickBehavior::Burst => due.checked_add(period),
            MissedTickBehavior::Delay => now.checked_add(period),
            MissedTickBehavior::Skip => now.checked_add(period - remainder(late, period)),
        };
        next.unwrap_or_else(|| deadline_after(Duration::MAX))
    }
}

fn remainder(dividend: Duration, divisor: Duration) -> Duration {
    let nanoseconds = dividend.as_nanos() % divisor.as_nanos();
    Duration::new((nanoseconds / 1_000_000_000) as u64, (nanoseconds % 1_000_000_000) as u32)
}

/// What [`interval`] and [`interval_at`] return.
#[derive(Debug)]
pub struct Interval {
    /// The next tick.
    timer: Timer,
    period: Duration,
    missed_tick_behavior: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick and returns the instant for which it was due.
    ///
    /// Dropping the future before it is ready loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|context| self.poll_tick(context)).await
    }

    /// Polls for the next tick.
    pub fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<Instant> {
        ready!(self.timer.poll(context));
        let due = self.timer.deadline();
        self.timer.reset(self.missed_tick_behavior.next(due, sys::now(), self.period));
        Poll::Ready(due)
    }

    /// The next tick comes one period from now.
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// The next tick comes at once.
    pub fn reset_immediately(&mut self) {
        self.reset_at(sys::now());
    }

    /// The next tick comes after this time, and all later ones one period after each other.
    pub fn reset_after(&mut self, after: Duration) {
        self.reset_at(deadline_after(after));
    }

    /// The next tick comes at this instant, and all later ones one period after each other.
    pub fn reset_at(&mut self, deadline: Instant) {
        self.timer.reset(deadline);
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens after a missed tick.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed_tick_behavior
    }

    /// Sets what happens after a missed tick.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed_tick_behavior = behavior;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_behavior_places_the_tick_after_a_missed_one() {
        let due = Instant::now();
        let period = Duration::from_millis(50);
        let now = due + Duration::from_millis(120);
        let next = |behavior: MissedTickBehavior| behavior.next(due, now, period) - due;
        assert_eq!(next(MissedTickBehavior::Burst), Duration::from_millis(50));
        assert_eq!(next(MissedTickBehavior::Delay), Duration::from_millis(170));
        assert_eq!(next(MissedTickBehavior::Skip), Duration::from_millis(150));
    }

    #[test]
    fn a_little_late_is_not_missed() {
        let due = Instant::now();
        let now = due + TOLERATED_LATENESS;
        for behavior in
            [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
        {
            assert_eq!(
                behavior.next(due, now, Duration::from_millis(1)),
                due + Duration::from_millis(1)
            );
        }
    }

    #[test]
    fn a_period_of_centuries_has_a_next_tick() {
        let due = Instant::now();
        assert!(MissedTickBehavior::Burst.next(due, due, Duration::MAX) > due);
    }
}
