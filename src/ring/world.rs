//! The software ring's hardware, as a trait: descriptors that become ready, workers that call, and
//! a clock.
//!
//! The engine knows none of them: it is written once, for the real machine
//! ([`Host`](super::host::Host)) and for any other.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::request::Call;
use super::seam::Wait;
use super::unpark::Unparker;

/// Names a request in flight to the world. No two that are in flight have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestKey(pub(crate) u64);

/// Events of poll(2) to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest(pub(crate) u32);

impl Interest {
    pub(crate) const INPUT: Interest = Interest(libc::POLLIN as u32);
    pub(crate) const OUTPUT: Interest = Interest(libc::POLLOUT as u32);
    /// Whatever happens: the request looks for itself.
    pub(crate) const ANYTHING: Interest = Interest(u32::MAX);
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is done, with the result of a completion.
    Done(i32),
    /// The same, and another like it would wait for this.
    Last(i32, Interest),
    /// So many bytes are through, and the rest is to be tried as well.
    Part(u32),
    /// It would wait for this.
    Blocked(Interest),
    /// It would wait for something that no event announces.
    Blocking,
    /// It is to be tried again after a while.
    Busy,
}

/// What came of asking for the events of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// A [`Ready::Descriptor`] will come with the next event.
    Watching,
    /// The same, and it comes for what is ready now, too.
    Beginning,
    /// This kind of file announces nothing.
    Never,
    /// There is no such descriptor, or no memory: a negative errno.
    Failed(i32),
}

/// What came of stopping a worker's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// It had not begun, and never will: no [`Ready::Worked`] comes.
    Stopped,
    /// It runs to its end.
    Running,
}

/// What happened in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// What a request waits for may have come.
    Descriptor(RequestKey),
    /// A worker's call has ended.
    Worked(RequestKey, i32),
    /// The descriptor that a request waits for was closed without a word, and its number means
    /// another file now.
    Gone(RequestKey),
}

/// A clock that timeouts may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Monotonic,
    SinceBoot,
    TimeOfDay,
}

/// What the engine's hardware is.
pub(crate) trait World: std::fmt::Debug {
    /// Tries a call without waiting. It may write down in the call how far it has come.
    fn attempt(&mut self, call: &mut Call) -> Attempt;

    /// Announces what happens on a descriptor, each event once, until [`unwatch`](World::unwatch).
    fn watch(&mut self, fd: RawFd, interest: Interest, key: RequestKey) -> Watch;

    fn unwatch(&mut self, fd: RawFd, key: RequestKey);

    /// Has a worker make the call, however long it takes.
    fn offload(&mut self, call: &Call, key: RequestKey);

    /// Stops a worker's call if that is possible.
    fn abort(&mut self, key: RequestKey) -> Abort;

    /// A descriptor is about to be closed. Names those who wait for it, which they do no longer.
    fn forget(&mut self, fd: RawFd, waiting: &mut Vec<RequestKey>);

    /// Waits until something happens, and adds it to `ready`. May return early for any reason.
    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> io::Result<()>;

    /// Becomes readable when a wait would bring something.
    fn descriptor(&self) -> RawFd;

    /// Somebody waits for the [descriptor](World::descriptor) in this world's place. Returns how
    /// long that may take at most; until [`end_wait_elsewhere`](World::end_wait_elsewhere) what
    /// workers bring shows there as well.
    fn begin_wait_elsewhere(&mut self, wait: Wait) -> Wait;

    fn end_wait_elsewhere(&mut self);

    fn now(&self) -> Instant;

    /// The time on a clock.
    fn clock(&self, clock: Clock) -> Duration;

    /// A handle that ends a wait from another thread.
    fn unparker(&self) -> Unparker;

    /// What a world of tests chooses where io_uring leaves a choice; see `engine/leeway.rs`.
    #[cfg(test)]
    fn leeway(&mut self) -> Option<&mut dyn Leeway> {
        None
    }
}

/// What io_uring leaves open, as a world of tests has it.
#[cfg(test)]
pub(crate) trait Leeway {
    fn lets_arrivals_win(&mut self) -> bool;

    fn tells_answers_first(&mut self) -> bool;

    /// Does it end the turn of a multishot request that might go on?
    fn stops_shooting(&mut self) -> bool;
}
