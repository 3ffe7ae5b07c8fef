//! A timer: a deadline to wait for, in the wheel of the runtime that it was first polled on.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::core::Core;
use super::current::current;
use super::timers::Time;
use crate::exec;
use crate::sys;
use crate::wheel::WheelKey;

/// "Never", for durations that reach beyond what an `Instant` can hold.
const FAR: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

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
    wheel_entry: Option<WheelEntry>,
}

struct WheelEntry {
    core: Rc<Core>,
    key: WheelKey,
}

impl Timer {
    pub(crate) fn new(deadline: Instant) -> Timer {
        Timer { deadline: Time::of(deadline), at_once: false, wheel_entry: None }
    }

    /// A deadline that lies `duration` from now.
    #[inline]
    pub(crate) fn after(duration: Duration) -> Timer {
        Timer { deadline: Time::after(duration), at_once: false, wheel_entry: None }
    }

    /// As [`after`](Timer::after). With a duration of zero it is over after one turn of the loop.
    #[inline]
    pub(crate) fn sleep(duration: Duration) -> Timer {
        Timer { deadline: Time::after(duration), at_once: duration.is_zero(), wheel_entry: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.instant()
    }

    /// Moves the deadline. Whoever waits for it is woken at the new one, without a poll in between.
    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.deadline = Time::of(deadline);
        self.at_once = false;
        if let Some(WheelEntry { core, key }) = self.wheel_entry.take() {
            let mut timers = core.timers.borrow_mut();
            let waker = timers.wheel.remove(key).flatten();
            if let Some(waker) = waker {
                let key = timers.insert(self.deadline, waker);
                drop(timers);
                self.wheel_entry = Some(WheelEntry { core, key });
            }
        }
    }

    /// Has the deadline passed and been noticed?
    #[inline]
    pub(crate) fn has_fired(&self) -> bool {
        self.wheel_entry
            .as_ref()
            .is_some_and(|WheelEntry { core, key }| core.timers.borrow().wheel.has_fired(key))
    }

    #[inline]
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.wheel_entry.is_some() {
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
        match &self.wheel_entry {
            Some(wheel_entry) if Rc::ptr_eq(&wheel_entry.core, &core) => {
                let before = core.timers.borrow_mut().replace(&wheel_entry.key, waker);
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
        self.wheel_entry = Some(WheelEntry { core, key });
    }

    #[inline]
    fn unregister(&mut self) {
        if let Some(WheelEntry { core, key }) = self.wheel_entry.take() {
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

impl std::fmt::Debug for WheelEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WheelEntry")
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
        assert!(
            Timer::after(Duration::MAX).deadline() > Instant::now() + Duration::from_secs(1 << 32)
        );
    }
}
