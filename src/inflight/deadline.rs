//! The end of an operation, or of a chain, before its time: `op.cancel()`, and a deadline that
//! cancels it.
//!
//! Both wait for the operation's own completion, which alone decides what is reported. Linked
//! timeouts are not used: the kernel can lose one when the operation polls again
//! (io_uring_linked_requests(7) says otherwise).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::future::Op;
use super::operation::Operation;
use crate::buf::Error;
use crate::runtime::Timer;

impl<'h, O: Operation> Op<'h, O> {
    /// Cancels the operation and waits for its end.
    ///
    /// The output is the operation's own: if it won the race, that is success as if nobody had
    /// cancelled; else it is an error with `ECANCELED`, or with `EINTR` if a worker thread of the
    /// kernel was interrupted at it. Either way the buffer comes back. One that was never polled is
    /// not started any more.
    ///
    /// ```
    /// # use annulus::net::UdpSocket;
    /// # annulus::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let mut receive = socket.recv(vec![0; 64]);
    /// assert!(futures_util::poll!(&mut receive).is_pending());
    /// let error = receive.cancel().await.unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(125)); // ECANCELED: nothing had come
    /// let buffer = error.into_buffer();
    /// assert_eq!(buffer.len(), 64);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn cancel(self) -> Cancel<Op<'h, O>> {
        Cancel::new(self)
    }

    /// Gives the operation `duration` from now to end, then cancels it.
    ///
    /// Whether it was in time is decided by its own completion alone: a read that got bytes is
    /// never reported as a time-out. If it was not, the error is of kind
    /// [`TimedOut`](io::ErrorKind::TimedOut) and carries the buffer. Operations that repeat
    /// (`read_exact`, `write_all`) may have moved some bytes by then:
    /// [`transferred`](crate::Error::transferred) counts them.
    ///
    /// ```
    /// # use annulus::net::UdpSocket;
    /// # use std::{io::ErrorKind, time::Duration};
    /// # annulus::block_on(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let late = socket.recv(vec![0; 64]).timeout(Duration::from_millis(5)).await.unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::TimedOut);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn timeout(self, duration: Duration) -> Deadline<Op<'h, O>>
    where
        O::Output: Expire,
    {
        Deadline::new(self, Timer::after(duration))
    }

    /// As [`timeout`](Op::timeout), with the instant at which the operation is cancelled.
    pub fn deadline(self, deadline: std::time::Instant) -> Deadline<Op<'h, O>>
    where
        O::Output: Expire,
    {
        Deadline::new(self, Timer::new(deadline))
    }
}

/// A future whose operations can be asked to end: [`Op`] and [`Chain`](crate::Chain).
pub trait Cancellable: Future + Unpin {
    /// Asks for it. The future ends with the completions of its operations, and not here.
    fn request_cancel(&mut self);
}

impl<O: Operation> Cancellable for Op<'_, O> {
    fn request_cancel(&mut self) {
        Op::request_cancel(self);
    }
}

/// The future of [`Op::cancel`] and [`Chain::cancel`](crate::Chain::cancel).
#[must_use = "an operation is not cancelled until this is awaited"]
pub struct Cancel<F> {
    operation: F,
    requested: bool,
}

impl<F: Cancellable> Cancel<F> {
    pub(super) fn new(operation: F) -> Cancel<F> {
        Cancel { operation, requested: false }
    }
}

impl<F: Cancellable> Future for Cancel<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.requested {
            self.requested = true;
            self.operation.request_cancel();
        }
        Pin::new(&mut self.operation).poll(context)
    }
}

/// The future of [`Op::timeout`] and [`Op::deadline`], and of those of a [`Chain`](crate::Chain).
#[must_use = "an operation does nothing until it is awaited"]
pub struct Deadline<F> {
    operation: F,
    timer: Timer,
    expired: bool,
}

impl<F: Cancellable> Deadline<F> {
    pub(super) fn new(operation: F, timer: Timer) -> Deadline<F> {
        Deadline { operation, timer, expired: false }
    }

    /// Cancels the operation now and waits for its end, as [`Op::cancel`] does.
    pub fn cancel(self) -> Cancel<F> {
        Cancel::new(self.operation)
    }
}

impl<F: Cancellable> Future for Deadline<F>
where
    F::Output: Expire,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Poll::Ready(output) = Pin::new(&mut self.operation).poll(context) {
            return Poll::Ready(if self.expired { output.expire() } else { output });
        }
        if self.expired || self.timer.poll(context).is_pending() {
            return Poll::Pending;
        }
        self.expired = true;
        self.operation.request_cancel();
        // One that still waited for its turn ends here, without a completion that would wake
        // anybody.
        Pin::new(&mut self.operation).poll(context).map(Expire::expire)
    }
}

/// Outputs that can say "timed out": results with an [`io::Error`] or an [`Error`] that carries a
/// buffer.
pub trait Expire {
    /// Turns the error of a cancelled operation into [`TimedOut`](io::ErrorKind::TimedOut) and
    /// leaves everything else.
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

impl<F: fmt::Debug> fmt::Debug for Cancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl<F: fmt::Debug> fmt::Debug for Deadline<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("operation", &self.operation)
            .field("deadline", &self.timer.deadline())
            .finish()
    }
}
