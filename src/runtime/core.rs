//! The parts of a runtime, and how operations reach them.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use super::hooks::Hooks;
use super::spin::Spin;
use super::timers::Timers;
use crate::buf::{AlignedBuffer, Chunk, ChunkPool, ChunkPoolConfig, IoBufMut};
use crate::counters::{Counters, Metrics};
use crate::driver::{Arrival, Deliveries, Driver, Orphan, Successor, Token};
use crate::exec::{self, Executor};
use crate::ring::{Completion, Config, Ring, RingKind, RingReport};

/// The parts of a runtime, shared with the operations and timers that it started.
pub(crate) struct Core {
    pub(crate) driver: RefCell<Driver>,
    pub(super) executor: Rc<Executor>,
    pub(super) timers: RefCell<Timers>,
    pub(super) deliveries: RefCell<Deliveries>,
    /// `None` unless the user wants it.
    pub(super) spin: Option<RefCell<Spin>>,
    /// `None` unless the user has some.
    pub(super) hooks: Option<Box<Hooks>>,
    pub(super) counters: Arc<Counters>,
    report: RingReport,
    /// As it is since the ring has buffers for chunks.
    report_with_chunks: OnceCell<RingReport>,
    pool_config: ChunkPoolConfig,
    /// Files that are used often get a place in the ring's table.
    pub(super) registers_files: bool,
    /// No other runtime of the process has it, before or after.
    pub(super) id: u64,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The number of the next runtime. None has 0.
static RUNTIMES: AtomicU64 = AtomicU64::new(1);

impl Core {
    pub(super) fn new(
        ring: Ring,
        config: &Config,
        pool_config: ChunkPoolConfig,
        hooks: Hooks,
    ) -> io::Result<Rc<Core>> {
        let report = ring.report();
        report.log();
        let executor = Executor::new(ring.unparker())?;
        let core = Rc::new(Core {
            executor,
            counters: Arc::clone(ring.counters()),
            timers: RefCell::new(Timers::new(ring.now())),
            driver: RefCell::new(Driver::new(ring)),
            deliveries: RefCell::new(Deliveries::default()),
            // The software ring has no memory in which completions would show.
            spin: (!config.spin.is_zero() && report.kind() == RingKind::Kernel)
                .then(|| RefCell::new(Spin::new(config.spin))),
            hooks: hooks.some().map(Box::new),
            report,
            report_with_chunks: OnceCell::new(),
            pool_config,
            registers_files: config.registered_files,
            id: RUNTIMES.fetch_add(1, Ordering::Relaxed),
        });
        Ok(core)
    }

    /// What ring this is. What it said to the buffers for chunks is there once they have been asked
    /// for.
    pub(super) fn report(&self) -> &RingReport {
        self.report_with_chunks.get().unwrap_or(&self.report)
    }

    /// Takes the last completion of an operation, or keeps the waker for it.
    #[inline(always)]
    pub(crate) fn poll_operation(&self, token: Token, waker: &Waker) -> Poll<Completion> {
        loop {
            let completion = self.driver.borrow_mut().take(token);
            match completion {
                Some(completion) => return Poll::Ready(completion),
                None if self.waits_with(token, waker) => return Poll::Pending,
                None => {}
            }
        }
    }

    /// Waits for the last completion of an operation, and leaves it to be taken.
    pub(crate) fn poll_result(&self, token: Token, waker: &Waker) -> Poll<i32> {
        loop {
            let result = self.driver.borrow().result(token);
            match result {
                Some(result) => return Poll::Ready(result),
                None if self.waits_with(token, waker) => return Poll::Pending,
                None => {}
            }
        }
    }

    /// Has an operation's next completion wake this waker. `false`: one has come meanwhile.
    #[inline(never)]
    fn waits_with(&self, token: Token, waker: &Waker) -> bool {
        if self.driver.borrow_mut().waits_with(token, waker) {
            return true;
        }
        // User code, which may run the loop.
        let waker = waker.clone();
        let (unused, in_flight) = self.driver.borrow_mut().set_waker(token, waker);
        drop(unused);
        in_flight
    }

    /// Takes the completion of an operation whose future goes away. `None`: it is in flight, so
    /// hand it over with [`adopt`](Core::adopt).
    pub(crate) fn abandon_operation(&self, token: Token) -> Option<Completion> {
        self.driver.borrow_mut().take(token)
    }

    /// The result of a zero-copy send whose notification is still to come.
    pub(crate) fn early_result(&self, token: Token) -> Option<Completion> {
        self.driver.borrow().early_result(token)
    }

    /// Keeps an operation without a future until the kernel is done with it, and asks for its end
    /// unless somebody will want it.
    pub(crate) fn adopt(&self, token: Token, orphan: Box<dyn Orphan>, cancel: bool) {
        let waker = self.driver.borrow_mut().orphan(token, orphan);
        if cancel {
            self.cancel(token);
        }
        drop(waker);
    }

    /// Leaves what still comes of a multishot operation to a successor, and returns what has come.
    pub(crate) fn hand_over(&self, token: Token, successor: Rc<dyn Successor>) -> Vec<Arrival> {
        let (arrived, waker) = self.driver.borrow_mut().hand_over(token, successor);
        drop(waker);
        arrived
    }

    /// Takes the next completion of a multishot operation, or keeps the waker for it.
    #[inline]
    pub(crate) fn poll_arrival(&self, token: Token, waker: &Waker) -> Poll<Arrival> {
        loop {
            let arrival = self.driver.borrow_mut().take_arrival(token);
            match arrival {
                Some(arrival) => return Poll::Ready(arrival),
                None if self.waits_with(token, waker) => return Poll::Pending,
                None => {}
            }
        }
    }

    /// The short way for bytes: see [`Driver::poll_bytes`].
    #[inline]
    pub(crate) fn poll_bytes(&self, token: Token, waker: &Waker) -> Poll<Option<Chunk>> {
        self.driver.borrow_mut().poll_bytes(token, waker, exec::own(waker))
    }

    /// The buffers that receives take by themselves.
    pub(crate) fn pool(&self) -> io::Result<Rc<ChunkPool>> {
        let mut driver = self.driver.borrow_mut();
        let pool = driver.pool(self.pool_config).cloned()?;
        self.report_with_chunks
            .get_or_init(|| driver.ring().map_or_else(|| self.report.clone(), Ring::report));
        Ok(pool)
    }

    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Makes buffers known to the ring, and returns the number of the first.
    pub(crate) fn register_buffers(&self, buffers: &mut [AlignedBuffer]) -> io::Result<u16> {
        let vector = |buffer: &mut AlignedBuffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.capacity(),
        };
        let vectors: Vec<_> = buffers.iter_mut().map(vector).collect();
        let ended = || io::Error::new(io::ErrorKind::Unsupported, "the runtime has ended");
        self.driver.borrow_mut().ring_mut().ok_or_else(ended)?.register_buffers(&vectors)
    }

    /// Takes that back, unless the ring is gone, and all it knew with it.
    pub(crate) fn forget_buffers(&self, first: u16, count: usize) {
        if let Some(ring) = self.driver.borrow_mut().ring_mut() {
            ring.forget_buffers(first, count);
        }
    }

    /// Makes a file known to the ring, and returns its place there. `None`: there is none free, or
    /// no table.
    pub(crate) fn register_file(&self, file: BorrowedFd<'_>) -> Option<i32> {
        self.driver.borrow_mut().ring_mut()?.register_file(file)
    }

    /// Empties a place, unless the ring is gone, and its table with it.
    pub(crate) fn forget_file(&self, place: i32) {
        if let Some(ring) = self.driver.borrow_mut().ring_mut() {
            ring.forget_file(place);
        }
    }

    /// Asks for the end of an operation.
    pub(crate) fn cancel(&self, token: Token) {
        self.driver.borrow_mut().cancel(token);
    }

    pub(crate) fn ring_kind(&self) -> RingKind {
        self.report.kind()
    }

    /// Is the ring the kernel's, and has the runtime not ended?
    pub(crate) fn is_on_kernel(&self) -> bool {
        self.report.kind() == RingKind::Kernel && self.driver.borrow().ring().is_some()
    }

    /// Can the ring execute this opcode? `EOPNOTSUPP` if it does not know it, `ECANCELED` once the
    /// runtime has ended.
    pub(crate) fn check(&self, opcode: u8) -> Result<(), i32> {
        self.driver.borrow().check(opcode)
    }

    /// How the buffers for chunks are configured.
    pub(crate) fn pool_config(&self) -> ChunkPoolConfig {
        self.pool_config
    }

    pub(crate) fn metrics(&self) -> Metrics {
        // What there is now is written down once in a turn only.
        self.counters.tasks.set(self.executor.task_count() as u64);
        self.driver.borrow().publish();
        self.counters.snapshot()
    }
}
