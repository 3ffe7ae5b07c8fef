//! A timer made of numbers, which may be moved to other threads, polled and dropped there.
//!
//! It names its runtime and its place in that runtime's wheel, and never touches them from another
//! thread. What it left on a runtime that is not entered now is taken out by that runtime itself,
//! which gets a closure for it.

use std::task::{Context, Poll};
use std::time::Instant;

use super::core::Core;
use super::current::{current, is_current, try_current};
use super::timers::Time;
use crate::exec::{self, Mailbox};
use crate::wheel::WheelKey;

/// A deadline to wait for, on the runtime that polls it. It is `Send` and `Sync` without a promise
/// of anybody, and otherwise as a [`Timer`](super::Timer).
#[derive(Debug)]
pub(crate) struct SendTimer {
    deadline: Instant,
    registration: Option<Registration>,
}

/// A place in a runtime's wheel. Only its owner can name it, so it needs no generation.
#[derive(Debug)]
struct Registration {
    /// The number of the runtime.
    runtime: u64,
    /// Where that runtime is reached if it is not entered here.
    mailbox: Mailbox,
    /// `None` only while it is taken apart.
    key: Option<WheelKey>,
}

impl SendTimer {
    pub(crate) fn new(deadline: Instant) -> SendTimer {
        SendTimer { deadline, registration: None }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline. On the runtime that waits for it, its place in the wheel moves along,
    /// and who waits is woken at the new one. From elsewhere who waits is woken at once, and waits
    /// for the new one with its next poll.
    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        let Some(mut registration) = self.registration.take() else { return };
        let Some((core, key)) = registration.take_here() else { return };
        let mut timers = core.timers.borrow_mut();
        if let Some(waker) = timers.wheel.remove(key).flatten() {
            let key = timers.insert(Time::of(deadline), waker);
            self.registration = Some(Registration { key: Some(key), ..registration });
        }
    }

    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let core = current();
        let waker = exec::share(context.waker());
        let mut timers = core.timers.borrow_mut();
        match &self.registration {
            Some(Registration { runtime, key: Some(key), .. }) if *runtime == core.id() => {
                if timers.wheel.has_fired(key) {
                    return Poll::Ready(());
                }
                let before = timers.replace(key, waker);
                drop(timers);
                drop(before);
            }
            _ => {
                let key = Some(timers.insert(Time::of(self.deadline), waker));
                drop(timers);
                let mailbox = core.executor.mailbox();
                self.registration = Some(Registration { runtime: core.id(), mailbox, key });
            }
        }
        Poll::Pending
    }
}

impl Registration {
    /// Its place, if its runtime is the one that is entered on this thread.
    fn take_here(&mut self) -> Option<(std::rc::Rc<Core>, WheelKey)> {
        if !is_current(self.runtime) {
            return None;
        }
        Some((current(), self.key.take()?))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some((core, key)) = self.take_here() {
            let waker = core.timers.borrow_mut().wheel.remove(key);
            drop(waker);
        } else if let Some(key) = self.key.take() {
            leave(self.runtime, self.mailbox, key);
        }
    }
}

/// Has another runtime take a timer out. Whoever waited is woken, since it may still wait for the
/// timer, and find that somebody has moved the deadline.
#[cold]
fn leave(runtime: u64, mailbox: Mailbox, key: WheelKey) {
    let job = move || {
        let Some(core) = try_current().filter(|core| core.id() == runtime) else { return };
        let waker = core.timers.borrow_mut().wheel.remove(key).flatten();
        waker.into_iter().for_each(std::task::Waker::wake);
    };
    // A runtime that has ended has no wheel.
    drop(mailbox.post(Box::new(job)));
}
