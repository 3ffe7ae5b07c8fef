//! What hyper wants of a runtime: an executor and a timer.
//!
//! The third is a stream, and that is what [`into_poll`](crate::net::TcpStream::into_poll) makes.
//! With these hyper runs on the ring as it is, for clients and servers: its connections want no
//! `Send`. [`Anchored`](crate::Anchored) helps where something beside them does, as upgrades do.
//!
//! ```
//! use annulus::hyper::{Executor, Timer};
//! use std::time::Duration;
//!
//! # #[cfg(feature = "http")]
//! # fn builders() {
//! let mut http1 = hyper::server::conn::http1::Builder::new();
//! http1.timer(Timer).header_read_timeout(Duration::from_secs(30));
//!
//! let mut http2 = hyper::server::conn::http2::Builder::new(Executor);
//! http2.timer(Timer).keep_alive_interval(Duration::from_secs(20));
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::runtime::{SendTimer, deadline_after, spawn};
use crate::sys;

/// Starts futures as tasks of the current runtime, whether they are `Send` or not.
///
/// Nobody waits for such a task. It ends with its runtime, if not before.
///
/// # Panics
/// [`execute`](hyper::rt::Executor::execute) outside a runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Executor;

impl<F: Future + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        drop(spawn(future));
    }
}

/// Makes hyper's time-outs deadlines in the timer wheel of the runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(deadline_after(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep { timer: SendTimer::new(deadline) })
    }

    fn now(&self) -> Instant {
        sys::now()
    }

    /// Moves the deadline in place, as hyper does for each request. A sleep of another timer is
    /// replaced by one of this.
    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

/// Waits for an instant, on whatever runtime polls it. What [`Timer`] makes, in a box.
///
/// It consists of numbers, so it is `Send` and `Sync`, and may move from runtime to runtime. It
/// stands in the timer wheel of the runtime that polled it last. Dropping it takes it out there; on
/// another thread it leaves that to the runtime, which does it in its next turn.
///
/// # Panics
/// When polled outside a runtime.
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    timer: SendTimer,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.timer.deadline()
    }

    /// Moves the end to `deadline`, whether it had come or not. A task of this runtime that waits
    /// goes on waiting, for the new end. One of another runtime is woken.
    pub fn reset(&mut self, deadline: Instant) {
        self.timer.reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(context)
    }
}

impl hyper::rt::Sleep for Sleep {}
