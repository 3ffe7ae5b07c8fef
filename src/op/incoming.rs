//! The stream of a listener's connections: multishot accept while somebody polls it. accept(2), io_uring_multishot(7).
//!
//! A multishot accept takes every connection that the kernel has, so it is stopped when a number of them are unclaimed, and started again
//! when they are claimed: then back-pressure is the kernel's backlog. Connections that come after the stream was dropped wait in the
//! listener's lane, like those of a dropped accept.
//!
//! # Safety
//! The entry names no memory. The listener's handle is kept by the stream, and by the heir once the stream is dropped. A descriptor in a
//! completion belongs to whoever takes the completion, which happens once.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::Stream;
use io_uring::{opcode, squeue};
use socket2::{SockAddr, SockRef};

use super::lane::{Direction, Left, Manner, Turn};
use super::{Accepted, Handle};
use crate::driver::{Heir, Token};
use crate::ring::Completion;
use crate::runtime::{Core, Timer, current};

/// Unclaimed connections at which the accept is stopped, by default.
const DEFAULT_LIMIT: usize = 64;
/// How long to leave the kernel alone when no descriptor or memory is left: the connection waits, and asking at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// The stream of `incoming()`: connections as they come, for ever.
///
/// One accept stays armed in the ring and brings connection after connection, until [`limit`](Incoming::limit) of them are unclaimed; then
/// the rest waits in the kernel's backlog until some are claimed.
///
/// Dropping the stream loses no connection: what the kernel had accepted waits in the listener for the next `accept` or `incoming`. From
/// its first poll until it is dropped, `accept`s of the same listener wait.
///
/// An error does not end it. `EMFILE` and `ENFILE` (no descriptor left) are yielded at most every 50 milliseconds, and the connections wait.
#[must_use = "a stream does nothing until it is polled"]
pub struct Incoming<'h, S: Accepted> {
    listener: Handle,
    limit: usize,
    /// Its turn among the accepts of the listener.
    turn: Option<Turn>,
    armed: Option<(Rc<Core>, Token)>,
    /// Set while the kernel is left alone.
    pause: Option<Timer>,
    handle: PhantomData<&'h ()>,
    stream: PhantomData<fn() -> S>,
}

impl<S: Accepted> Incoming<'_, S> {
    pub(crate) fn new(listener: &Handle) -> Self {
        Incoming {
            listener: listener.clone(),
            limit: DEFAULT_LIMIT,
            turn: None,
            armed: None,
            pause: None,
            handle: PhantomData,
            stream: PhantomData,
        }
    }

    /// Stops accepting while that many connections are unclaimed, 64 by default, at least 1. A few more can come before the stop takes
    /// effect: those that the kernel accepts in one system call.
    pub fn limit(mut self, connections: usize) -> Self {
        self.limit = connections.max(1);
        self
    }

    /// Arms the accept, or takes the next of its completions.
    fn poll_completion(&mut self, context: &Context<'_>) -> Poll<Result<Completion, i32>> {
        if self.armed.is_none() {
            let core = current();
            let entry = self.entry();
            if let Err(errno) = core.check(entry.get_opcode() as u8) {
                return Poll::Ready(Err(errno));
            }
            let waker = context.waker().clone();
            // SAFETY: the entry names no memory. `self.listener` keeps the descriptor open, and the heir after it.
            let token = unsafe { core.driver.borrow_mut().start_several(entry, waker, self.limit) };
            self.armed = Some((core, token));
        }
        let Some((core, token)) = &self.armed else { return Poll::Pending };
        let completion = ready!(core.poll_operation(*token, context.waker()));
        if completion.is_last() {
            self.armed = None;
        }
        Poll::Ready(Ok(completion))
    }

    fn entry(&self) -> squeue::Entry {
        opcode::AcceptMulti::new(self.listener.target()).flags(libc::SOCK_CLOEXEC).build()
    }

    /// The next connection, or an error; `Pending` is never lost time, since something is armed.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<S>> {
        let turn = self.turn.get_or_insert_with(|| Turn::new(&self.listener, Direction::Inbound, Manner::Alone));
        ready!(turn.poll(context));
        if let Some(Left::Connection(connection)) = turn.lane().take_left()
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
                Ok(completion) if completion.result >= 0 => return Poll::Ready(accepted(completion).map(|(stream, _)| stream)),
                Ok(completion) => -completion.result,
                Err(errno) => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            };
            match errno {
                // Stopped at the limit: it is armed again.
                libc::ECANCELED | libc::EINTR => {}
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                    self.pause = Some(Timer::new(Instant::now() + PAUSE));
                    return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
                }
                _ => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            }
        }
    }
}

/// Makes a stream of a completion's descriptor. The address is asked for afterwards, since one accept has one place for it; a peer that has
/// gone by then counts as nowhere, and reading says the rest.
fn accepted<S: Accepted>(completion: Completion) -> io::Result<(S, S::Address)> {
    // SAFETY: the kernel has made this descriptor for this completion, which is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(completion.result) };
    let peer = SockRef::from(&socket).peer_addr();
    let nowhere = || SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    S::accepted(socket, &peer.unwrap_or_else(|_| nowhere()))
}

impl<S: Accepted> Stream for Incoming<'_, S> {
    type Item = io::Result<S>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        self.poll_accept(context).map(Some)
    }
}

impl<S: Accepted> Unpin for Incoming<'_, S> {}

impl<S: Accepted> Drop for Incoming<'_, S> {
    fn drop(&mut self) {
        let Some((core, token)) = self.armed.take() else { return };
        let mut turn = self.turn.take();
        if let Some(turn) = &mut turn {
            turn.hold();
        }
        let heir: Rc<dyn Heir> = Rc::new(Latecomers::<S> { listener: self.listener.clone(), _turn: turn, stream: PhantomData });
        for completion in core.bequeath(token, Rc::clone(&heir)) {
            heir.inherit(completion);
        }
    }
}

/// Puts the connections of a dropped stream into the listener's lane, and keeps the lane until the last.
struct Latecomers<S> {
    listener: Handle,
    _turn: Option<Turn>,
    stream: PhantomData<fn() -> S>,
}

impl<S: Accepted> Heir for Latecomers<S> {
    fn inherit(&self, completion: Completion) {
        if completion.result >= 0
            && let Ok(connection) = accepted::<S>(completion)
        {
            self.listener.lane(Direction::Inbound).leave(Left::Connection(Box::new(connection)));
        }
    }
}

impl<S: Accepted> fmt::Debug for Incoming<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", &self.listener).field("limit", &self.limit).finish_non_exhaustive()
    }
}
