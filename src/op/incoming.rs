//! The stream of a listener's connections: multishot accept while somebody polls it. accept(2),
//! io_uring_multishot(7).
//!
//! A multishot accept takes every connection that the kernel has, so it is stopped when a number of
//! them are unclaimed, and started again when they are claimed: then back-pressure is the kernel's
//! backlog. Connections that come after the stream was dropped wait in the listener's lane, like
//! those of a dropped accept.
//!
//! # Safety
//! The entry names no memory. A descriptor in a completion belongs to whoever takes the completion,
//! which happens once.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FusedStream;
use io_uring::opcode;

use super::accept::Accepted;
use crate::driver::Arrival;
use crate::inflight::{Handle, Lane, Left, MultishotStream, Received};
use crate::ring::Completion;
use crate::runtime::Timer;
use crate::sys::{self, Descriptor, SockAddr};

/// Unclaimed connections at which the accept is stopped, by default.
const DEFAULT_LIMIT: u16 = 64;
/// How long to leave the kernel alone when no descriptor or memory is left: the connection waits,
/// and asking at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// The stream of `incoming()`: connections as they come, for ever.
///
/// One accept stays armed in the ring and brings connection after connection, until
/// [`limit`](Incoming::limit) of them are unclaimed; then the rest waits in the kernel's backlog
/// until some are claimed.
///
/// Dropping the stream loses no connection: what the kernel had accepted waits in the listener for
/// the next `accept` or `incoming`. From its first poll until it is dropped, `accept`s of the same
/// listener wait.
///
/// An error does not end it. `EMFILE` and `ENFILE` (no descriptor left) are yielded at most every
/// 50 milliseconds, and the connections wait.
#[must_use = "a stream does nothing until it is polled"]
pub struct Incoming<'h, S: Accepted> {
    accept: MultishotStream<Connections<S>>,
    limit: u16,
    /// Set while the kernel is left alone.
    pause: Option<Timer>,
    handle: PhantomData<&'h ()>,
}

impl<S: Accepted> Incoming<'_, S> {
    pub(crate) fn new(listener: &Handle) -> Self {
        Incoming {
            accept: MultishotStream::new(listener, Connections(PhantomData)),
            limit: DEFAULT_LIMIT,
            pause: None,
            handle: PhantomData,
        }
    }

    /// Stops accepting while that many connections are unclaimed, 64 by default, 1 to 65535. A few
    /// more can come before the stop takes effect: those that the kernel accepts in one system
    /// call.
    pub fn limit(mut self, connections: usize) -> Self {
        self.limit = u16::try_from(connections).unwrap_or(u16::MAX).max(1);
        self
    }

    /// Arms the accept, or takes the next of its completions.
    fn poll_completion(&mut self, context: &Context<'_>) -> Poll<Result<Completion, i32>> {
        if !self.accept.is_armed() {
            let target = self.accept.handle().target();
            let entry = opcode::AcceptMulti::new(target).flags(libc::SOCK_CLOEXEC).build();
            // SAFETY: the entry names no memory, and the listener's descriptor.
            if let Err(errno) = unsafe { self.accept.arm(entry, self.limit, context) } {
                return Poll::Ready(Err(errno));
            }
        }
        self.accept.poll_arrival(context).map(|arrival| Ok(arrival.completion))
    }

    /// The next connection, or an error; `Pending` is never lost time, since something is armed.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<S>> {
        ready!(self.accept.poll_turn(context));
        ready!(self.accept.budget.spend(context));
        if self.accept.lane().has_left()
            && let Some(Left::Connection(connection)) = self.accept.lane().take_left()
            && let Ok(connection) = connection.downcast::<(S, S::Address)>()
        {
            return Poll::Ready(Ok(connection.0));
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.poll(context));
                self.pause = None;
            }
            let errno = match ready!(self.poll_completion(context)) {
                Ok(completion) if completion.result >= 0 => {
                    return Poll::Ready(accepted(completion).map(|(stream, _)| stream));
                }
                Ok(completion) => -completion.result,
                Err(errno) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            };
            match errno {
                // Stopped at the limit: it is armed again.
                libc::ECANCELED | libc::EINTR => {}
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                    self.pause = Some(Timer::after(PAUSE));
                    return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
                }
                _ => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            }
        }
    }
}

/// Makes a stream of a completion's descriptor. The address is asked for afterwards, since one
/// accept has one place for it; a peer that has gone by then counts as nowhere, and reading says
/// the rest.
fn accepted<S: Accepted>(completion: Completion) -> io::Result<(S, S::Address)> {
    // SAFETY: the kernel has made this descriptor for this completion, which is taken once.
    let socket = unsafe { Descriptor::of_number(completion.result) };
    let peer = sys::peer_address(&socket);
    let nowhere = || SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    S::accepted(socket, &peer.unwrap_or_else(|_| nowhere()))
}

impl<S: Accepted> Stream for Incoming<'_, S> {
    type Item = io::Result<S>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<S>>> {
        self.poll_accept(context).map(Some)
    }
}

/// It never ends.
impl<S: Accepted> FusedStream for Incoming<'_, S> {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl<S: Accepted> Unpin for Incoming<'_, S> {}

/// The connections of a listener.
struct Connections<S>(PhantomData<fn() -> S>);

impl<S: Accepted> Received for Connections<S> {
    /// Puts a connection of a dropped stream into the listener's lane.
    fn leave(lane: Lane<'_>, arrival: Arrival) {
        if arrival.completion.result >= 0
            && let Ok(connection) = accepted::<S>(arrival.completion)
        {
            lane.leave(Left::Connection(Box::new(connection)));
        }
    }
}

impl<S: Accepted> fmt::Debug for Incoming<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", self.accept.handle())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
