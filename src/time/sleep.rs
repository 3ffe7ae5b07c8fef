//! Waiting for an instant.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::runtime::Timer;

/// Waits for `duration`, counted from this call.
///
/// With a duration of zero it lets the other tasks have their turn.
///
/// ```
/// # use std::time::Duration;
/// # annulus::block_on(async {
/// annulus::time::sleep(Duration::from_millis(1)).await;
/// # });
/// ```
#[inline]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { timer: Timer::sleep(duration) }
}

/// Waits until `deadline`. One that has passed lets the other tasks have their turn.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { timer: Timer::new(deadline) }
}

/// The future of [`sleep`] and [`sleep_until`].
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    timer: Timer,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.timer.deadline()
    }

    /// Has it ended, so that awaiting it returns at once? One that was never polled has not.
    pub fn is_elapsed(&self) -> bool {
        self.timer.has_fired()
    }

    /// Moves the end to `deadline`, whether it had come or not. A task that waits goes on waiting,
    /// for the new end.
    pub fn reset(&mut self, deadline: Instant) {
        self.timer.reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(context)
    }
}
