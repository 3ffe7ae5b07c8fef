//! How does an operation end before its time? `op.cancel()`, and a deadline that cancels it.
//!
//! Both wait for the operation's own completion, which alone decides what is reported. Linked timeouts are not used: the kernel can lose
//! one when the operation polls again (io_uring_linked_requests(7) says otherwise).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Op, Operation};
use crate::buf::Error;
use crate::runtime::Timer;

/// The future of [`Op::cancel`].
#[must_use = "an operation is not cancelled until this is awaited"]
pub struct Cancel<'h, O: Operation> {
    operation: Op<'h, O>,
    requested: bool,
}

impl<'h, O: Operation> Cancel<'h, O> {
    pub(super) fn new(operation: Op<'h, O>) -> Cancel<'h, O> {
        Cancel { operation, requested: false }
    }
}

impl<O: Operation> Future for Cancel<'_, O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        if !self.requested {
            self.requested = true;
            self.operation.request_cancel();
        }
        Pin::new(&mut self.operation).poll(context)
    }
}

/// The future of [`Op::timeout`] and [`Op::deadline`].
#[must_use = "an operation does nothing until it is awaited"]
pub struct Deadline<'h, O: Operation> {
    operation: Op<'h, O>,
    timer: Timer,
    expired: bool,
}

impl<'h, O: Operation> Deadline<'h, O> {
    pub(super) fn new(operation: Op<'h, O>, timer: Timer) -> Deadline<'h, O> {
        Deadline { operation, timer, expired: false }
    }

    /// Cancels the operation now and waits for its end, as [`Op::cancel`] does.
    pub fn cancel(self) -> Cancel<'h, O> {
        self.operation.cancel()
    }
}

impl<O: Operation> Future for Deadline<'_, O>
where
    O::Output: Expire,
{
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        if let Poll::Ready(output) = Pin::new(&mut self.operation).poll(context) {
            return Poll::Ready(if self.expired { output.expire() } else { output });
        }
        if self.expired || self.timer.poll(context).is_pending() {
            return Poll::Pending;
        }
        self.expired = true;
        self.operation.request_cancel();
        // One that still waited for its turn ends here, without a completion that would wake anybody.
        Pin::new(&mut self.operation).poll(context).map(Expire::expire)
    }
}

/// Outputs that can say "timed out": results with an [`io::Error`] or an [`Error`] that carries a buffer.
pub trait Expire {
    /// Turns the error of a cancelled operation into [`TimedOut`](io::ErrorKind::TimedOut) and leaves everything else.
    fn expire(self) -> Self;
}

impl<T> Expire for io::Result<T> {
    fn expire(self) -> Self {
        self.map_err(|error| if was_cancelled(&error) { timed_out() } else { error })
    }
}

impl<T, B> Expire for Result<T, Error<B>> {
    fn expire(self) -> Self {
        self.map_err(|error| {
            if !was_cancelled(error.get_ref()) {
                return error;
            }
            let transferred = error.transferred();
            Error::new(timed_out(), error.into_buffer()).with_transferred(transferred)
        })
    }
}

/// A worker thread of the kernel that was interrupted says EINTR.
fn was_cancelled(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the operation's deadline passed")
}

impl<O: Operation> fmt::Debug for Cancel<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl<O: Operation> fmt::Debug for Deadline<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("operation", &self.operation).field("deadline", &self.timer.deadline()).finish()
    }
}
