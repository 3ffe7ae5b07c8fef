//! A stream of one signal, and the kinds of signals. signal(7).

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::FusedStream;

use crate::inflight::{Op, Resource};
use crate::op::event::ReadEvent;
use crate::sys::{self, SignalCounter};

/// Which signal; signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalKind(i32);

impl SignalKind {
    /// A signal by its number, for example one of the real-time signals.
    pub const fn from_raw(signal: i32) -> SignalKind {
        SignalKind(signal)
    }

    /// Its number.
    pub const fn as_raw_value(&self) -> i32 {
        self.0
    }

    /// `SIGALRM`: a timer of alarm(2) has run out.
    pub const fn alarm() -> SignalKind {
        SignalKind(libc::SIGALRM)
    }

    /// `SIGCHLD`: a child has changed its state.
    pub const fn child() -> SignalKind {
        SignalKind(libc::SIGCHLD)
    }

    /// `SIGHUP`: the terminal has gone; servers read their settings again.
    pub const fn hangup() -> SignalKind {
        SignalKind(libc::SIGHUP)
    }

    /// `SIGINT`: Ctrl-C.
    pub const fn interrupt() -> SignalKind {
        SignalKind(libc::SIGINT)
    }

    /// `SIGIO`: a descriptor with `O_ASYNC` is ready.
    pub const fn io() -> SignalKind {
        SignalKind(libc::SIGIO)
    }

    /// `SIGPIPE`: a write to a pipe or socket that nobody reads.
    pub const fn pipe() -> SignalKind {
        SignalKind(libc::SIGPIPE)
    }

    /// `SIGQUIT`: Ctrl-\.
    pub const fn quit() -> SignalKind {
        SignalKind(libc::SIGQUIT)
    }

    /// `SIGTERM`: the polite request to end, which kill(1) and service managers send.
    pub const fn terminate() -> SignalKind {
        SignalKind(libc::SIGTERM)
    }

    /// `SIGUSR1`.
    pub const fn user_defined1() -> SignalKind {
        SignalKind(libc::SIGUSR1)
    }

    /// `SIGUSR2`.
    pub const fn user_defined2() -> SignalKind {
        SignalKind(libc::SIGUSR2)
    }

    /// `SIGWINCH`: the terminal has another size.
    pub const fn window_change() -> SignalKind {
        SignalKind(libc::SIGWINCH)
    }
}

impl From<i32> for SignalKind {
    fn from(signal: i32) -> SignalKind {
        SignalKind(signal)
    }
}

impl From<SignalKind> for i32 {
    fn from(kind: SignalKind) -> i32 {
        kind.0
    }
}

/// A stream of one signal: an item for one or more signals that have come since the last.
///
/// Signals are *coalesced*: several that come before the stream is polled make one item. None is
/// lost: whatever comes after [`signal`] has returned makes an item, polled or not. Dropping the
/// future of [`recv`](Signal::recv) loses nothing either.
///
/// A read of the ring is in flight from the first poll on until the signal comes or this is
/// dropped. It may be polled on any runtime of its thread, one after the other.
pub struct Signal {
    kind: SignalKind,
    /// The read in flight. It goes before the descriptor.
    read: Option<Op<'static, ReadEvent>>,
    /// Before the descriptor, for order only: the handler has one of its own.
    _counter: SignalCounter,
    event: Resource,
}

/// Begins to listen for a signal.
///
/// It needs no runtime yet. From now on the signal's default action does not happen any more, also
/// after the stream has been dropped; see the [module page](crate::signal). It takes two
/// descriptors.
///
/// # Errors
/// `InvalidInput` for a signal that nobody can handle (`SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`,
/// `SIGSEGV`) or that there is not; `EMFILE` if the process may have no further descriptors.
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let event = Resource::of_file(sys::event_counter(0, false)?);
    let counter = SignalCounter::new(kind.0, sys::duplicate(event.as_fd())?.into())?;
    Ok(Signal { kind, read: None, _counter: counter, event })
}

impl Signal {
    /// Waits for the signal, or for nothing if it has come since the last time.
    ///
    /// It yields `Some(())`; `None` only when its runtime is about to end. Dropping it loses
    /// nothing.
    ///
    /// ```
    /// use annulus::signal::unix::{SignalKind, signal};
    ///
    /// # annulus::block_on(async {
    /// let mut hangups = signal(SignalKind::hangup())?;
    /// let reload = annulus::spawn(async move {
    ///     while let Some(()) = hangups.recv().await {
    ///         // read the settings again
    ///     }
    /// });
    /// # drop(reload);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn recv(&mut self) -> Option<()> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Signal::recv), for code that polls.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        // A read that was begun on a runtime that has ended fails, and is begun again here, once.
        for _ in 0..2 {
            let read = self.read.get_or_insert_with(|| ReadEvent::op(&self.event));
            match Pin::new(read).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(count) => {
                    self.read = None;
                    if count.is_ok() {
                        return Poll::Ready(Some(()));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for Signal {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.poll_recv(context)
    }
}

/// It never ends.
impl FusedStream for Signal {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("kind", &self.kind).finish_non_exhaustive()
    }
}
