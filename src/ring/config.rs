//! The choices that a ring is opened with.

use std::fmt;
use std::time::Duration;

/// Who executes operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingKind {
    /// The kernel's io_uring.
    Kernel,
    /// This crate: the same operations by way of epoll and a pool of threads. It needs no io_uring
    /// at all.
    Software,
}

impl fmt::Display for RingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingKind::Kernel => "kernel",
            RingKind::Software => "software",
        })
    }
}

/// What the user asked of the ring.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The kind of ring, `None` for the best that there is.
    pub(crate) kind: Option<RingKind>,
    /// FreeIndices in the submission queue; the kernel rounds up to a power of two.
    pub(crate) entries: u32,
    /// FreeIndices in the completion queue.
    pub(crate) completion_entries: u32,
    /// Most worker threads for blocking file work, `None` for the source's own bound.
    pub(crate) workers: Option<u32>,
    /// Most time that a wait looks at shared memory before it enters the kernel.
    pub(crate) spin: Duration,
    /// For how many completions a wait waits, and how long before it is content with one.
    pub(crate) min_wait: Option<MinWait>,
    /// Let a thread of the kernel submit.
    pub(crate) sqpoll: Option<Sqpoll>,
    /// Ask devices whether they are done instead of waiting for their interrupts, where that can
    /// be.
    pub(crate) iopoll: bool,
    /// Give files that are used often a place in the ring's table.
    pub(crate) registered_files: bool,
}

/// A wait for several completions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinWait {
    pub(crate) completions: u32,
    pub(crate) microseconds: u32,
}

/// The kernel's submission thread, io_uring_sqpoll(7).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sqpoll {
    /// How long it goes on looking when there is nothing to submit; 0 for the kernel's choice.
    pub(crate) idle_ms: u32,
    /// The processor that it stays on.
    pub(crate) cpu: Option<u32>,
}

impl Config {
    /// Queues of these lengths, and nothing further.
    pub(crate) const fn new(entries: u32, completion_entries: u32) -> Config {
        Config {
            kind: None,
            entries,
            completion_entries,
            workers: None,
            spin: Duration::ZERO,
            min_wait: None,
            sqpoll: None,
            iopoll: false,
            registered_files: false,
        }
    }
}
