//! How do the driver, the executor and the timers make one loop? The runtime, its tick, and its end.
//!
//! A tick polls woken tasks, submits all that they started with one enter, waits there if nobody is ready, and delivers what came. It
//! knows no operation type.

mod builder;
mod metrics;
#[cfg(test)]
mod older_kernels;
mod spin;
mod timer;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::pin;
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use metrics::{Metrics, metrics};
pub(crate) use timer::{Timer, deadline_after};

use crate::buf::{AlignedBuffer, Chunk, ChunkPool, ChunkPoolConfig, IoBufMut};
use crate::driver::{Arrival, Deliveries, Driver, Heir, Orphan, Token};
use crate::exec::{self, Entered, Executor, JoinHandle};
use crate::ring::{Completion, Config, Ring, RingKind, RingReport, Wait};
use crate::sys;
use crate::unwind::{self, FirstPanic};
use spin::{Spin, SpinCounts};
use timer::Timers;

/// Most polls before the loop looks for wakes of other threads again, which costs it two loads. That many short polls take about as long as a
/// wake needs to cross from one core to another.
const POLLS_PER_LOOK: usize = 8;
/// Most looks, so 128 polls, before the loop looks at the completion queue and the timers again.
const LOOKS_PER_TICK: usize = 16;

/// Looks at shared memory between two looks at the clock, while the loop looks instead of waiting.
const LOOKS_PER_CLOCK: usize = 16;

/// Most turns at the end of `block_on`: a dropped read is cancelled in the first, its stream closed in the second.
const SETTLING_TURNS: usize = 4;

/// How long the end of a runtime waits for operations that it has cancelled. What the kernel holds even then is leaked, never freed.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);
/// How often shutdown cancels again.
const SHUTDOWN_STEP: Duration = Duration::from_millis(1);

thread_local! {
    /// The runtime that is entered on this thread. It has no destructor, so it can be asked at any time of a thread's life.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Core>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// Its number, or 0: what operations ask for more often than for the runtime itself.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    /// The runtimes of this thread that have not ended. No destructor, as above; it holds no memory
    /// once they have.
    static HERE: ManuallyDrop<RefCell<Vec<Weak<Core>>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Runs a future to its end on a new runtime with default settings, and returns its output.
///
/// What the future spawned and did not wait for is cancelled when it ends.
///
/// ```
/// let three = annulus::block_on(async { 1 + 2 });
/// assert_eq!(three, 3);
/// ```
///
/// # Panics
/// If no ring can be opened, with the cause and the remedy; [`Builder::build`] gives that as an error instead. If called from within a
/// runtime, since it would stop that runtime's loop.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    refuse_nesting();
    match Builder::new().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("annulus::block_on: {error}"),
    }
}

/// Starts a task on the current runtime: the future runs concurrently with its spawner, on the same thread.
///
/// The task starts to run when its spawner next waits. Dropping the handle detaches it. Tasks that still run when their runtime is dropped are
/// cancelled.
///
/// ```
/// annulus::block_on(async {
///     let task = annulus::spawn(async { "done" });
///     assert_eq!(task.await?, "done");
///     Ok::<(), annulus::JoinError>(())
/// }).unwrap();
/// ```
///
/// # Panics
/// Outside a runtime.
#[track_caller]
#[inline]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    match exec::with_local(|executor| executor.spawn(future)) {
        Some(handle) => handle,
        None => outside(),
    }
}

/// Lets the other ready tasks have their turn, then goes on.
///
/// One yield need not submit anything. The ring turns within ten yields of a task: what can be done
/// at once has then been done, and what has completed has woken its task. However many tasks yield
/// all the time, timers have their turn every 128 polls, and the wakes of other threads every 8.
///
/// ```
/// # annulus::block_on(async {
/// for chunk in [[0u8; 4096]; 4].iter() {
///     let _sum: u64 = chunk.iter().map(|byte| u64::from(*byte)).sum();
///     annulus::yield_now().await;
/// }
/// # });
/// ```
#[inline]
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        exec::wake_by_ref(context.waker());
        Poll::Pending
    })
}

/// One ring, its tasks and its timers, on one thread.
///
/// It is made, used and dropped on one thread (`!Send`); runtimes on several threads are independent of each other. [`block_on`] is the
/// short form for a program that needs one.
///
/// Dropping it cancels all tasks and all operations, waits until the kernel has let go of their memory (up to 5 seconds, then that memory
/// is leaked and a line on standard error says so), and closes the ring.
///
/// After fork(2) the child may only exec: the ring's memory is not there, and the ring belongs to the parent's thread.
///
/// ```
/// let runtime = annulus::Builder::new().build()?;
/// let sum = runtime.block_on(async { 1 + 2 });
/// assert_eq!(sum, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    core: Rc<Core>,
}

impl Runtime {
    /// A runtime with default settings.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    fn open(config: &Config, pool_config: ChunkPoolConfig) -> io::Result<Runtime> {
        Runtime::on(Ring::open(config)?, config, pool_config)
    }

    pub(crate) fn on(ring: Ring, config: &Config, pool_config: ChunkPoolConfig) -> io::Result<Runtime> {
        let report = ring.report();
        report.log();
        let executor = Executor::new(ring.unparker())?;
        let core = Core {
            executor,
            timers: RefCell::new(Timers::new(ring.now())),
            driver: RefCell::new(Driver::new(ring)),
            deliveries: RefCell::new(Deliveries::default()),
            // The software ring has no memory in which completions would show.
            spin: (!config.spin.is_zero() && report.kind() == RingKind::Kernel).then(|| RefCell::new(Spin::new(config.spin))),
            report,
            report_with_chunks: OnceCell::new(),
            pool_config,
            registers_files: config.registered_files,
            id: RUNTIMES.fetch_add(1, Ordering::Relaxed),
        };
        let core = Rc::new(core);
        HERE.with(|here| here.borrow_mut().push(Rc::downgrade(&core)));
        Ok(Runtime { core })
    }

    /// Runs a future to its end and returns its output. Tasks run meanwhile.
    ///
    /// Tasks that have not ended by then stay, and go on at the next call. Between calls nothing moves: an operation that is dropped then is
    /// cancelled when the runtime runs again, or ends.
    ///
    /// # Panics
    /// If called from within a runtime. If the future panics, with its panic. If the kernel refuses further use of the ring.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        refuse_nesting();
        let _entered = self.core.enter();
        // Behind the future: what that owned is dropped first, also by a panic.
        let _settling = Settling(&self.core);
        let mut future = pin!(future);
        let executor = &self.core.executor;
        let waker = executor.root_waker();
        let mut context = Context::from_waker(&waker);
        executor.start_root();
        loop {
            for look in 0..LOOKS_PER_TICK {
                executor.collect_foreign_wakes();
                if let Some(output) = executor.run(POLLS_PER_LOOK, || future.as_mut().poll(&mut context)) {
                    return output;
                }
                if !executor.has_ready() || executor.all_yield(look + 1) && self.core.driver.borrow_mut().wants_turn() {
                    break;
                }
            }
            self.core.finish_tick();
        }
    }

    /// Starts a task from outside; it runs during [`block_on`](Runtime::block_on). See [`spawn`].
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.core.executor.spawn(future)
    }

    /// What ring this is, and what the machine refused on the way to it. What it said to the buffers for chunks is there when the first have
    /// been asked for: a report from before is out of date then.
    pub fn ring(&self) -> &RingReport {
        self.core.report_with_chunks.get().unwrap_or(&self.core.report)
    }

    /// Counts of what the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.core.shut_down();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("ring", self.ring()).finish_non_exhaustive()
    }
}

/// The parts of a runtime, shared with the operations and timers that it started.
pub struct Core {
    pub(crate) driver: RefCell<Driver>,
    executor: Rc<Executor>,
    timers: RefCell<Timers>,
    deliveries: RefCell<Deliveries>,
    /// `None` unless the user wants it.
    spin: Option<RefCell<Spin>>,
    report: RingReport,
    /// As it is since the ring has buffers for chunks.
    report_with_chunks: OnceCell<RingReport>,
    pool_config: ChunkPoolConfig,
    /// Files that are used often get a place in the ring's table.
    registers_files: bool,
    /// No other runtime of the process has it, before or after.
    id: u64,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The number of the next runtime. None has 0.
static RUNTIMES: AtomicU64 = AtomicU64::new(1);

impl Core {
    /// Makes this the thread's runtime until the guard is dropped.
    fn enter(self: &Rc<Self>) -> EnteredRuntime {
        let before = CURRENT.with(|current| current.replace(Some(Rc::clone(self))));
        CURRENT_ID.set(self.id);
        EnteredRuntime { before, _executor: self.executor.enter() }
    }

    /// The second half of a tick, after the polls: submits, waits if nobody is ready, delivers, and fires timers.
    fn finish_tick(&self) {
        let wait = self.longest_wait();
        let parks = wait != Wait::No && !self.comes_soon(wait) && self.executor.park();
        self.turn(if parks { wait } else { Wait::No });
        if parks {
            self.executor.unpark();
        }
        self.fire_timers();
    }

    /// Looks for what ends a wait before there is one, if the user wants that and it has paid lately. Has something come?
    #[inline]
    fn comes_soon(&self, wait: Wait) -> bool {
        self.spin.as_ref().is_some_and(|spin| self.spin(spin, wait))
    }

    fn spin(&self, spin: &RefCell<Spin>, wait: Wait) -> bool {
        let Some(longest) = spin.borrow_mut().before_wait() else { return false };
        // What it waits for must be under way.
        self.driver.borrow_mut().submit();
        if self.has_work() {
            return true;
        }
        let end = deadline_after(longest);
        let end = if let Wait::Until(deadline) = wait { end.min(deadline) } else { end };
        let mut paid = false;
        while !paid && self.now() < end {
            for _ in 0..LOOKS_PER_CLOCK {
                std::hint::spin_loop();
                paid |= self.has_work();
            }
        }
        spin.borrow_mut().record(paid);
        paid
    }

    /// Does shared memory show that the loop has something to do?
    fn has_work(&self) -> bool {
        self.executor.has_foreign_wakes() || self.driver.borrow_mut().has_work()
    }

    /// Sends what the last polls dropped or closed, so that it takes effect now and not at some later call.
    fn settle(&self) {
        for _ in 0..SETTLING_TURNS {
            self.turn(Wait::No);
            if !self.driver.borrow_mut().has_queued() {
                return;
            }
        }
    }

    fn longest_wait(&self) -> Wait {
        if self.executor.has_ready() {
            return Wait::No;
        }
        let deadline = match (self.timers.borrow().next(), self.driver.borrow().deadline()) {
            (None, None) => return Wait::Forever,
            (Some(deadline), None) | (None, Some(deadline)) => deadline,
            (Some(first), Some(second)) => first.min(second),
        };
        if deadline <= self.now() { Wait::No } else { Wait::Until(deadline) }
    }

    /// Lets the driver submit, wait and reap, then delivers with the driver free, since that runs user code. Nothing that user code can
    /// reach comes back here while it runs: only the loop and the end of the runtime do.
    ///
    /// It is inlined with all that it calls on the way to the enter: after that, little of the loop's code is still in the processor's caches, and
    /// each return counts.
    #[inline(always)]
    fn try_turn(&self, wait: Wait) -> io::Result<()> {
        let mut deliveries = self.deliveries.borrow_mut();
        let turned = self.driver.borrow_mut().turn(wait, &mut deliveries);
        deliveries.deliver(|waker| self.executor.wake_by(waker));
        turned
    }

    #[inline(always)]
    fn turn(&self, wait: Wait) {
        if let Err(error) = self.try_turn(wait) {
            panic!("annulus: the ring failed beyond repair: {error}");
        }
    }

    fn fire_timers(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = self.now();
        let mut deliveries = self.deliveries.borrow_mut();
        self.timers.borrow_mut().fire(now, &mut deliveries);
        deliveries.deliver(|waker| self.executor.wake_by(waker));
    }

    fn now(&self) -> Instant {
        self.driver.borrow().ring().map_or_else(sys::now, Ring::now)
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

    /// Takes the completion of an operation whose future goes away. `None`: it is in flight, so hand it over with
    /// [`adopt`](Core::adopt).
    pub(crate) fn abandon_operation(&self, token: Token) -> Option<Completion> {
        self.driver.borrow_mut().take(token)
    }

    /// The result of a zero-copy send whose notification is still to come.
    pub(crate) fn early_result(&self, token: Token) -> Option<Completion> {
        self.driver.borrow().early_result(token)
    }

    /// Keeps an operation without a future until the kernel is done with it, and asks for its end unless somebody will want it.
    pub(crate) fn adopt(&self, token: Token, orphan: Box<dyn Orphan>, cancel: bool) {
        let waker = self.driver.borrow_mut().orphan(token, orphan);
        if cancel {
            self.cancel(token);
        }
        drop(waker);
    }

    /// Leaves what still comes of a multishot operation to an heir, and returns what has come.
    pub(crate) fn bequeath(&self, token: Token, heir: Rc<dyn Heir>) -> Vec<Arrival> {
        let (arrived, waker) = self.driver.borrow_mut().bequeath(token, heir);
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
        self.report_with_chunks.get_or_init(|| driver.ring().map_or_else(|| self.report.clone(), Ring::report));
        Ok(pool)
    }

    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Makes buffers known to the ring, and returns the number of the first.
    pub(crate) fn register_buffers(&self, buffers: &mut [AlignedBuffer]) -> io::Result<u16> {
        let vector = |buffer: &mut AlignedBuffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.capacity() };
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

    /// Makes a file known to the ring, and returns its place there. `None`: there is none free, or no table.
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

    /// Sends all that is queued, so that a descriptor can be closed of which operations without
    /// futures are in flight. `false`: its number is still needed, here or by another runtime of
    /// this thread.
    pub(crate) fn let_go(&self, fd: RawFd) -> bool {
        let is_alone = HERE.with(|here| here.borrow().len() == 1);
        is_alone && self.driver.borrow_mut().let_go(fd)
    }

    pub(crate) fn ring_kind(&self) -> RingKind {
        self.report.kind()
    }

    /// Is the ring the kernel's, and has the runtime not ended?
    pub(crate) fn is_on_kernel(&self) -> bool {
        self.report.kind() == RingKind::Kernel && self.driver.borrow().ring().is_some()
    }

    /// Can the ring execute this opcode? `EOPNOTSUPP` if it does not know it, `ECANCELED` once the runtime has ended.
    pub(crate) fn check(&self, opcode: u8) -> Result<(), i32> {
        self.driver.borrow().check(opcode)
    }

    /// How the buffers for chunks are configured.
    pub(crate) fn pool_config(&self) -> ChunkPoolConfig {
        self.pool_config
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let driver = self.driver.borrow();
        let (pool, spins) = (driver.pool_counts(), self.spin.as_ref().map_or_else(SpinCounts::default, |spin| spin.borrow().counts));
        Metrics::new(driver.traffic(), driver.counters(), spins, pool, driver.in_flight(), self.executor.task_count())
    }

    /// Ends everything: tasks and the wakers of timers first, since dropping them orphans their
    /// operations, then the operations, then the inbox and the ring. What a destructor starts on the
    /// way is ended too. A panic in what is dropped ends none of it early, and has nobody to go to.
    fn shut_down(self: &Rc<Self>) {
        let _entered = self.enter();
        let _closing = Closing(self);
        let mut step = sys::now();
        let bound = step + SHUTDOWN_BOUND;
        loop {
            let dropped = self.drop_tasks_and_wakers();
            let now = sys::now();
            match self.driver.borrow().in_flight() {
                _ if now >= bound => break,
                0 if dropped > 0 => continue,
                0 => break,
                _ => {}
            }
            if now >= step {
                step = now + SHUTDOWN_STEP;
                let mut driver = self.driver.borrow_mut();
                if !driver.is_behind() {
                    driver.cancel_all();
                }
            }
            match unwind::catch(|| self.try_turn(Wait::Until(step))) {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(payload) => unwind::forget(payload),
            }
        }
    }

    /// Drops the tasks and the wakers of the timers, and says how many. Their destructors may have
    /// started operations, spawned tasks and set timers.
    fn drop_tasks_and_wakers(&self) -> usize {
        let tasks = self.executor.task_count();
        self.executor.cancel_all();
        let wakers = self.timers.borrow_mut().take_wakers();
        let count = wakers.len();
        // Each by itself: two destructors that panic at a time would end the process.
        wakers.into_iter().for_each(unwind::discard);
        tasks + count
    }
}

/// The end of `block_on`: what the last polls and the drop of the future left takes effect.
struct Settling<'a>(&'a Core);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let mut panic = FirstPanic::default();
        panic.run(|| self.0.settle());
        panic.resume();
    }
}

/// Closes the inbox, then the ring, whatever happens before.
struct Closing<'a>(&'a Core);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.executor.close_inbox();
        let leaked = self.0.driver.borrow().in_flight();
        self.0.driver.borrow_mut().close_ring();
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            if leaked == 0 {
                here.retain(|core| !ptr::eq(core.as_ptr(), self.0));
            }
            // Else it stays, so that no other runtime of this thread takes a number for its own
            // that those operations name.
            if here.is_empty() {
                *here = Vec::new();
            }
        });
        if leaked > 0 {
            // Standard error may be a pipe that nobody reads any more, which is no reason to panic.
            let _ = writeln!(
                io::stderr(),
                "annulus: {leaked} operations were still in flight when their runtime ended; their memory is leaked"
            );
        }
    }
}

struct EnteredRuntime {
    before: Option<Rc<Core>>,
    _executor: Entered,
}

impl Drop for EnteredRuntime {
    fn drop(&mut self) {
        let before = self.before.take();
        CURRENT_ID.set(before.as_ref().map_or(0, |core| core.id));
        let after = CURRENT.with(|current| current.replace(before));
        drop(after);
    }
}

/// The runtime that is entered on this thread.
#[inline]
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Do files that are used often get a place in the ring's table, on the runtime that is entered?
pub(crate) fn registers_files() -> bool {
    CURRENT.with(|current| current.borrow().as_ref().is_some_and(|core| core.registers_files))
}

/// A descriptor that no operation uses is about to be closed or given away. The runtimes of this
/// thread forget what they know of its number.
pub(crate) fn forget_descriptor(fd: RawFd) {
    HERE.with(|here| {
        for core in here.borrow().iter().filter_map(Weak::upgrade) {
            core.driver.borrow_mut().forget(fd);
        }
    });
}

/// Is this the number of the runtime that is entered on this thread?
#[inline]
pub(crate) fn is_current(id: u64) -> bool {
    CURRENT_ID.get() == id
}

/// The runtime that is entered on this thread.
///
/// # Panics
/// If there is none.
#[inline]
#[track_caller]
pub(crate) fn current() -> Rc<Core> {
    try_current().unwrap_or_else(|| outside())
}

#[cold]
#[track_caller]
fn outside() -> ! {
    panic!("there is no annulus runtime on this thread: call this from within `annulus::block_on`, `Runtime::block_on` or a spawned task")
}

#[track_caller]
fn refuse_nesting() {
    assert!(
        try_current().is_none(),
        "block_on inside a runtime would stop its loop: await the future, or `annulus::spawn` it and await the handle"
    );
}
