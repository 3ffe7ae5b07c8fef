//! The end of a runtime, as a state with steps.

use std::io::{self, Write};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::core::Core;
use super::current;
use crate::ring::Wait;
use crate::unwind;

/// How long the end of a runtime waits for operations that it has cancelled. What the kernel holds
/// even then is leaked, never freed.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);
/// How often shutdown cancels again.
const SHUTDOWN_STEP: Duration = Duration::from_millis(1);

/// A runtime that ends: first its tasks and the wakers of its timers, since dropping them orphans
/// their operations, then the operations, then the inbox and the ring. What a destructor starts on
/// the way is ended too. A panic in what is dropped ends none of it early, and has nobody to go to.
///
/// Dropping it closes the inbox, then the ring, whatever has happened before.
pub(super) struct Ending {
    core: Rc<Core>,
    /// When to cancel again.
    next_cancel: Instant,
    /// When to give up.
    bound: Instant,
}

impl Ending {
    pub(super) fn begin(core: Rc<Core>) -> Ending {
        let now = core.now();
        Ending { core, next_cancel: now, bound: now + SHUTDOWN_BOUND }
    }

    /// Takes all steps, and waits in between.
    pub(super) fn run(mut self) {
        while self.step(self.core.now(), Wait::Forever).is_pending() {}
    }

    /// Drops, cancels, and takes what has completed; it waits for that no longer than `limit`, and
    /// not beyond the next step's time. Ready if nothing is left to wait for, or the time is up.
    fn step(&mut self, now: Instant, limit: Wait) -> Poll<()> {
        let _entered = self.core.enter();
        let dropped = self.core.drop_tasks_and_wakers();
        let in_flight = self.core.driver.borrow().in_flight();
        match in_flight {
            _ if now >= self.bound => return Poll::Ready(()),
            0 if dropped > 0 || self.core.executor.refuse_values() > 0 => return Poll::Pending,
            0 => return Poll::Ready(()),
            _ => {}
        }
        if now >= self.next_cancel {
            self.next_cancel = now + SHUTDOWN_STEP;
            let mut driver = self.core.driver.borrow_mut();
            if !driver.is_behind() {
                driver.cancel_all();
            }
        }
        match unwind::catch(|| {
            self.core.try_turn(limit.no_later_than(Some(self.next_cancel)), false)
        }) {
            Ok(Ok(())) => Poll::Pending,
            // The ring is beyond use.
            Ok(Err(_)) => Poll::Ready(()),
            Err(payload) => {
                unwind::forget(payload);
                Poll::Pending
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _entered = self.core.enter();
        let leaked = self.core.close();
        current::end(&self.core, leaked > 0);
        if leaked > 0 {
            // Standard error may be a pipe that nobody reads any more, which is no reason to panic.
            let _ = writeln!(
                io::stderr(),
                "annulus: {leaked} operations were still in flight when their runtime ended; their memory is leaked"
            );
        }
    }
}

impl Core {
    /// Drops the tasks, the wakers of the timers and what other threads have given back, and says
    /// how many. Their destructors may have started operations, spawned tasks and set timers.
    fn drop_tasks_and_wakers(&self) -> usize {
        let tasks = self.executor.task_count();
        self.executor.cancel_all();
        let wakers = self.timers.borrow_mut().take_wakers();
        let count = wakers.len();
        // Each by itself: two destructors that panic at a time would end the process.
        wakers.into_iter().for_each(unwind::discard);
        tasks + count + self.executor.drop_returned()
    }

    /// Closes the inbox, then the ring. Returns how many operations the kernel still holds.
    fn close(&self) -> usize {
        self.executor.close_inbox();
        let leaked = self.driver.borrow().in_flight();
        self.driver.borrow_mut().close_ring();
        leaked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::ChunkPoolConfig;
    use crate::net::UnixStream;
    use crate::ring::{Config, Ring};
    use crate::runtime::hooks::Hooks;

    #[test]
    fn an_end_in_steps_that_do_not_wait_drops_cancels_and_is_ready_when_nothing_is_in_flight() {
        let config = Config::new(8, 32);
        let ring = Ring::open(&config).expect("a ring");
        let core = Core::new(ring, &config, ChunkPoolConfig::default(), Hooks::default())
            .expect("a runtime");
        let entered = core.enter();
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let read = core.executor.spawn(async move { ours.read(vec![0; 8]).await.map(drop) });
        core.tick(Wait::No, || Poll::Pending);
        assert_eq!(core.driver.borrow().in_flight(), 1);
        drop(entered);
        let mut ending = Ending::begin(Rc::clone(&core));
        while ending.step(core.now(), Wait::No).is_pending() {}
        assert!(read.is_finished());
        assert_eq!(core.driver.borrow().in_flight(), 0);
        assert!(core.driver.borrow().ring().is_some(), "it closes when it is dropped");
        drop(ending);
        assert!(core.driver.borrow().ring().is_none());
    }
}
