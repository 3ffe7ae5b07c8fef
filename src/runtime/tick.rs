//! The tick of the loop: polls, one enter that submits and may wait, deliveries, timers.

use std::cell::RefCell;
use std::io;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::core::Core;
use super::deadline_after;
use super::hooks::Hooks;
use super::spin::Spin;
use crate::driver::Deliveries;
use crate::ring::{Ring, Wait};
use crate::sys;
use crate::unwind::FirstPanic;

/// Most polls before the loop looks for wakes of other threads again, which costs it two loads.
/// That many short polls take about as long as a wake needs to cross from one core to another.
const POLLS_PER_LOOK: usize = 8;
/// Most looks, so 128 polls, before the loop looks at the completion queue and the timers again.
const LOOKS_PER_TICK: usize = 16;

/// Looks at shared memory between two looks at the clock, while the loop looks instead of waiting.
const LOOKS_PER_CLOCK: usize = 16;

/// Most turns at the end of `block_on`: a dropped read is cancelled in the first, its stream closed
/// in the second.
const SETTLING_TURNS: usize = 4;

impl Core {
    /// One tick: runs closures of other threads, polls, submits, takes what has completed, and
    /// fires timers. It waits only where it submits, no longer than `limit`, and not at all while a
    /// task is ready. It ends at once when the root is ready.
    #[inline]
    pub(super) fn tick(&self, limit: Wait, mut root: impl FnMut() -> Poll<()>) {
        let executor = &self.executor;
        for look in 0..LOOKS_PER_TICK {
            executor.collect_foreign_wakes();
            if executor.run(POLLS_PER_LOOK, &mut root).is_some() {
                return;
            }
            if !executor.has_ready()
                || executor.all_yield(look + 1) && self.driver.borrow_mut().wants_turn()
            {
                break;
            }
        }
        self.finish_tick(limit);
    }

    /// The second half of a tick, after the polls.
    fn finish_tick(&self, limit: Wait) {
        let wait = self.longest_wait(limit);
        let parks = wait != Wait::No && !self.comes_soon(wait) && self.executor.park();
        self.counters.tasks.set(self.executor.task_count() as u64);
        let wait = match &self.hooks {
            _ if !parks => Wait::No,
            None => wait,
            Some(hooks) => self.call_before(hooks, limit),
        };
        self.turn(wait, parks);
        if parks {
            self.executor.unpark();
        }
        self.fire_timers();
    }

    /// Calls the user's hook before a wait, and says how long the loop may wait then: the hook may
    /// have woken a task or set a timer.
    #[cold]
    fn call_before(&self, hooks: &Hooks, limit: Wait) -> Wait {
        hooks.before_wait();
        self.longest_wait(limit)
    }

    /// Calls the user's hook after a wait, before any other code of the user. Its panic keeps
    /// nothing back that the wait has brought.
    #[cold]
    fn call_after(hooks: &Hooks, deliveries: &mut Deliveries) {
        let mut panic = FirstPanic::default();
        panic.run(|| hooks.after_wait());
        panic.run(|| deliveries.deliver(Waker::wake));
        panic.resume();
    }

    /// Looks for what ends a wait before there is one, if the user wants that and it has paid
    /// lately. Has something come?
    #[inline]
    fn comes_soon(&self, wait: Wait) -> bool {
        self.spin.as_ref().is_some_and(|spin| self.spin(spin, wait))
    }

    fn spin(&self, spin: &RefCell<Spin>, wait: Wait) -> bool {
        let Some(longest) = spin.borrow_mut().before_wait() else { return false };
        // What it waits for must be under way.
        self.driver.borrow_mut().submit();
        if self.has_work() {
            return true;
        }
        let end = deadline_after(longest);
        let end = if let Wait::Until(deadline) = wait { end.min(deadline) } else { end };
        let mut paid = false;
        while !paid && self.now() < end {
            for _ in 0..LOOKS_PER_CLOCK {
                std::hint::spin_loop();
                paid |= self.has_work();
            }
        }
        spin.borrow_mut().record(paid);
        let counter = if paid { &self.counters.spins_paid } else { &self.counters.spins_unpaid };
        counter.add(1);
        paid
    }

    /// Does shared memory show that the loop has something to do?
    fn has_work(&self) -> bool {
        self.executor.has_mail() || self.driver.borrow_mut().has_work()
    }

    /// Sends what the last polls dropped or closed, so that it takes effect now and not at some
    /// later call.
    pub(super) fn settle(&self) {
        for _ in 0..SETTLING_TURNS {
            self.turn(Wait::No, false);
            if !self.driver.borrow_mut().has_queued() {
                return;
            }
        }
    }

    /// How long the loop may wait now, if it may wait as long as `limit`.
    #[inline(always)]
    fn longest_wait(&self, limit: Wait) -> Wait {
        if limit == Wait::No || self.executor.has_ready() {
            return Wait::No;
        }
        let deadline = match (self.timers.borrow().next(), self.driver.borrow().deadline()) {
            (None, None) => return limit,
            (Some(deadline), None) | (None, Some(deadline)) => deadline,
            (Some(first), Some(second)) => first.min(second),
        };
        if deadline <= self.now() { Wait::No } else { limit.no_later_than(Some(deadline)) }
    }

    /// Lets the driver submit, wait and reap, then delivers with the driver free, since that runs
    /// user code. Nothing that user code can reach comes back here while it runs: only the loop and
    /// the end of the runtime do. If the turn `parks`, the user's hook comes first.
    ///
    /// It is inlined with all that it calls on the way to the enter: after that, little of the
    /// loop's code is still in the processor's caches, and each return counts.
    #[inline(always)]
    pub(super) fn try_turn(&self, wait: Wait, parks: bool) -> io::Result<()> {
        let mut deliveries = self.deliveries.borrow_mut();
        let turned = self.driver.borrow_mut().turn(wait, &mut deliveries);
        if parks && let Some(hooks) = &self.hooks {
            Core::call_after(hooks, &mut deliveries);
        }
        deliveries.deliver(|waker| self.executor.wake_by(waker));
        turned
    }

    #[inline(always)]
    fn turn(&self, wait: Wait, parks: bool) {
        if let Err(error) = self.try_turn(wait, parks) {
            panic!("annulus: the ring failed beyond repair: {error}");
        }
    }

    fn fire_timers(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = self.now();
        let mut deliveries = self.deliveries.borrow_mut();
        self.timers.borrow_mut().fire(now, &mut deliveries);
        deliveries.deliver(|waker| self.executor.wake_by(waker));
    }

    pub(super) fn now(&self) -> Instant {
        self.driver.borrow().ring().map_or_else(sys::now, Ring::now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buf::ChunkPoolConfig;
    use crate::ring::Config;
    use crate::time;

    #[test]
    fn ticks_that_may_not_wait_bring_a_sleep_to_its_end_and_not_too_early() {
        const LENGTH: Duration = Duration::from_millis(20);
        let config = Config::new(8, 32);
        let ring = Ring::open(&config).expect("a ring");
        let core = Core::new(ring, &config, ChunkPoolConfig::default(), Hooks::default())
            .expect("a runtime");
        let _entered = core.enter();
        let begun = Instant::now();
        let task = core.executor.spawn(time::sleep(LENGTH));
        let mut ticks = 0;
        while !task.is_finished() {
            core.tick(Wait::No, || Poll::Pending);
            ticks += 1;
        }
        assert!(begun.elapsed() >= LENGTH);
        assert!(ticks > 2, "{ticks} ticks, so one of them has waited");
    }
}
