//! A deadline around any future.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::runtime::Timer;

/// Gives a future `duration` from this call to end, then drops it.
///
/// Dropping is all that can be done to a future in general. What its operation in flight had
/// received waits in the socket for the next call ([the guide to
/// cancelling](crate::docs::cancellation) has the details); its buffers, and what earlier
/// operations had yielded to it, go with it. For one operation whose buffer should come back, use
/// [`Op::timeout`](crate::Op::timeout).
///
/// ```
/// # use std::time::Duration;
/// # annulus::block_on(async {
/// let never = std::future::pending::<()>();
/// assert!(annulus::time::timeout(Duration::from_millis(1), never).await.is_err());
/// # });
/// ```
///
/// # Errors
/// [`Elapsed`] if the time was up first. A future that is ready at its first poll always wins.
pub fn timeout<F: IntoFuture>(
    duration: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    unless(Timer::after(duration), future)
}

/// As [`timeout`], with the instant at which the future is dropped.
///
/// # Errors
/// As [`timeout`].
pub fn timeout_at<F: IntoFuture>(
    deadline: Instant,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    unless(Timer::new(deadline), future)
}

/// A future, unless a timer fires first. An `async fn` would have room for its arguments twice.
#[allow(clippy::manual_async_fn)]
fn unless<F: IntoFuture>(
    mut timer: Timer,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    async move {
        let mut future = pin!(future.into_future());
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => timer.poll(context).map(|()| Err(Elapsed { private: () })),
        })
        .await
    }
}

/// The time was up before the future had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed {
    private: (),
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
