//! The choices that a runtime offers.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Runtime;
use super::hooks::Hooks;
use crate::buf::ChunkPoolConfig;
use crate::ring::{Config, MinWait, RingKind, Sqpoll};

/// Submission entries by default: a tick that starts more flushes in between, and an ordinary
/// user's locked memory still holds a hundred such rings.
const DEFAULT_ENTRIES: u32 = 256;
/// Completion entries per submission entry, so that an overflow of the completion queue stays rare.
const COMPLETIONS_PER_ENTRY: u32 = 4;
/// What the kernel accepts at most, io_uring_setup(2).
const MOST_ENTRIES: u32 = 32768;
const MOST_COMPLETION_ENTRIES: u32 = 2 * MOST_ENTRIES;

/// Makes a [`Runtime`] with other than default settings.
///
/// ```
/// let runtime = annulus::Builder::new().entries(1024).build()?;
/// assert_eq!(runtime.ring().entries(), 1024);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    kind: Option<RingKind>,
    entries: u32,
    completion_entries: Option<u32>,
    workers: Option<u32>,
    spin: Duration,
    chunks: ChunkPoolConfig,
    min_wait: Option<MinWait>,
    sqpoll: Option<Sqpoll>,
    iopoll: bool,
    registered_files: bool,
    hooks: Hooks,
}

impl Builder {
    /// The default settings.
    pub fn new() -> Builder {
        Builder {
            kind: None,
            entries: DEFAULT_ENTRIES,
            completion_entries: None,
            workers: None,
            spin: Duration::ZERO,
            min_wait: None,
            sqpoll: None,
            iopoll: false,
            registered_files: false,
            chunks: ChunkPoolConfig::default(),
            hooks: Hooks::default(),
        }
    }

    /// The kind of ring. Without this, it is what the environment variable `ANNULUS_RING` says
    /// (`kernel` or `software`); without that, the kernel's ring, or the software ring where the
    /// machine refuses io_uring. [`Runtime::ring`] tells which it became, and why.
    ///
    /// ```
    /// use annulus::{Builder, RingKind};
    /// let runtime = Builder::new().ring(RingKind::Software).build()?;
    /// assert_eq!(runtime.ring().kind(), RingKind::Software);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ring(mut self, kind: RingKind) -> Builder {
        self.kind = Some(kind);
        self
    }

    /// Places in the submission queue: how many operations one system call can submit. The kernel
    /// rounds up to a power of two, at most
    /// 32768. 256 by default. It is no limit on operations in flight.
    pub fn entries(mut self, entries: u32) -> Builder {
        self.entries = entries;
        self
    }

    /// Places in the completion queue, four times the submission queue's by default, rounded up to
    /// a power of two, at most 65536. More completions than that at once are kept by the kernel,
    /// none is lost, but it costs.
    pub fn completion_entries(mut self, entries: u32) -> Builder {
        self.completion_entries = Some(entries);
        self
    }

    /// Most kernel worker threads for the work that blocks (buffered writes, fsync, opening,
    /// metadata), see `IORING_REGISTER_IOWQ_MAX_WORKERS` in io_uring_register(2). The bound is this
    /// thread's: all its runtimes share it. At least 1.
    pub fn max_workers(mut self, workers: u32) -> Builder {
        self.workers = Some(workers);
        self
    }

    /// Bytes of a buffer for chunks, 16 KiB by default, 64 bytes to 8 MiB: the most that one
    /// receive brings, and what a [`Chunk`](crate::buf::Chunk) of a single byte keeps, too.
    ///
    /// Memory is taken when a buffer is first filled, and only as far as it is.
    ///
    /// A message that is longer comes in pieces, and each piece takes its own turn of the loop. So
    /// a size far below that of the messages is expensive: an echo of 16 KiB by buffers of 4 KiB
    /// costs 2.5 times as much. [`Metrics::chunk_fills`](crate::Metrics) counts the receives that
    /// filled a buffer, and [`diagnose`](crate::diagnose), called within the runtime, says when
    /// they are many.
    pub fn chunk_size(mut self, bytes: usize) -> Builder {
        self.chunks.size = bytes;
        self
    }

    /// How many buffers for chunks there are at first, and at most: 256 to 1024 by default, never
    /// more than 32768. All streams of the runtime share them. None is made before the first is
    /// asked for.
    ///
    /// Their number doubles when less than a quarter of them is left for receives, and halves when
    /// half of them was not needed by so many receives in a row as 16 times their number: an idle
    /// runtime keeps what it has. At the upper bound what comes is copied to the heap instead, so
    /// no stream waits for a buffer.
    ///
    /// ```
    /// let runtime = annulus::Builder::new().chunk_size(4096).chunks(64..=4096).build()?;
    /// assert_eq!(runtime.metrics().chunk_buffers, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn chunks(mut self, buffers: RangeInclusive<usize>) -> Builder {
        (self.chunks.first, self.chunks.most) = buffers.into_inner();
        self
    }

    /// Most time that the loop looks at shared memory before it waits in the kernel, 0 by default,
    /// which is never.
    ///
    /// Whatever comes meanwhile (a completion, a wake from another thread) is served without the
    /// sleep and its wake-up, which is most of the latency of a request to a server that has little
    /// to do: 9 against 13 µs in the median at 60,000 requests a second, for 2.6 times the
    /// processor time. It pays only on a core that nobody else needs. It adapts: when several spins
    /// in a row were in vain, waits begin without, and a spin is tried again now and then, so an
    /// idle runtime burns next to nothing. What it waits for must come from another core, so on a
    /// machine whose cores are all busy spins are in vain. The software ring does not spin.
    /// [`Metrics::spins_paid`](crate::Metrics::spins_paid) and
    /// [`spins_unpaid`](crate::Metrics::spins_unpaid) tell.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = annulus::Builder::new().spin(Duration::from_micros(50)).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spin(mut self, longest: Duration) -> Builder {
        self.spin = longest;
        self
    }

    /// Lets a wait go on until that many completions are there, or as many as operations are in
    /// flight if these are fewer, for at most `longest`; after that it ends with the first. Off by
    /// default.
    ///
    /// Fewer and larger ticks cost less processor time per operation, and all of it is paid for
    /// with latency: whatever comes alone, a timer or the wake of another thread included, waits up
    /// to `longest` for company. Choose it for a server that always has far more operations in
    /// flight than `completions`. For an echo over 50 connections at a fixed rate
    /// `min_wait(16, 50 µs)` took 0.84 of the time without it at 60,000 requests a second and 0.77
    /// at 100,000, but 1.19 at 20,000, and the median latency was three to five times as long.
    /// Microseconds count, up to 71 minutes. An idle runtime is not woken by it.
    ///
    /// It needs Linux 6.12, and the software ring has none of it. On older kernels waits end with
    /// the first completion as ever, and [`RingReport::refused`](crate::RingReport::refused) lists
    /// `MIN_TIMEOUT`. See `min_wait_usec` in io_uring_enter(2).
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = annulus::Builder::new().min_wait(16, Duration::from_micros(50)).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn min_wait(mut self, completions: u32, longest: Duration) -> Builder {
        let microseconds = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        self.min_wait =
            (completions > 1 && microseconds > 0).then_some(MinWait { completions, microseconds });
        self
    }

    /// Lets a thread of the kernel take the entries out of the submission queue (`SQPOLL`), so that
    /// starting operations costs no system call while that thread is awake. It goes to sleep when
    /// there was nothing to submit for `idle` (milliseconds count; 0 is the kernel's choice, one
    /// second), and the next operation wakes it with a call.
    ///
    /// The thread keeps a processor busy as long as it is awake, and passes each operation from one
    /// processor to another. That pays where processors are idle and system calls are dear, and
    /// costs elsewhere: measure. `DEFER_TASKRUN`, which a ring has by default, excludes it, so that
    /// goes. The software ring has no such thread, and ignores this.
    ///
    /// # Errors
    /// [`build`](Builder::build) fails with a [`SetupError`](crate::SetupError) if the machine
    /// grants rings, but none with such a thread: it takes `CAP_SYS_NICE` before Linux 5.11, and a
    /// security module can forbid it by itself.
    ///
    /// See io_uring_sqpoll(7).
    ///
    /// ```
    /// use std::time::Duration;
    /// let kernel = annulus::RingKind::Kernel;
    /// let runtime = annulus::Builder::new().ring(kernel).sqpoll(Duration::from_millis(10)).build()?;
    /// assert!(runtime.ring().granted().contains(&"SQPOLL"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn sqpoll(mut self, idle: Duration) -> Builder {
        let idle_ms = u32::try_from(idle.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        self.sqpoll = Some(Sqpoll { idle_ms, cpu: None });
        self
    }

    /// As [`sqpoll`](Builder::sqpoll), and the thread stays on one processor.
    ///
    /// # Errors
    /// As there; and if there is no such processor, or this process may not use it.
    pub fn sqpoll_on(self, idle: Duration, cpu: u32) -> Builder {
        let mut builder = self.sqpoll(idle);
        builder.sqpoll = builder.sqpoll.map(|sqpoll| Sqpoll { cpu: Some(cpu), ..sqpoll });
        builder
    }

    /// Asks the device whether a read or write is done, instead of waiting for its interrupt
    /// (`IOPOLL`): of files that were opened with `O_DIRECT`, on devices that can be asked. Off by
    /// default.
    ///
    /// It saves the interrupt and the wake-up, which is much of the latency of a fast NVMe disk.
    /// While such a transfer is under way the loop does not wait, so the thread is busy; files in
    /// the page cache, sockets and timers are served beside it as ever. A transfer that is dropped
    /// or timed out goes on to its end, since a device that is asked takes no cancel; its memory is
    /// kept until then.
    ///
    /// A device can be asked if its driver was given queues for it: `nvme.poll_queues=1` or
    /// `virtio_blk.poll_queues=1`, for example, on the kernel's command line;
    /// [`Diagnosis::polling_devices`](crate::Diagnosis::polling_devices) lists those that can.
    /// Files of others, and of file systems that do not pass the question on, say so at their first
    /// transfer (`EOPNOTSUPP`), which then takes the ordinary way, as do the later ones.
    /// [`Metrics::polled`](crate::Metrics::polled) counts the transfers that were polled and
    /// [`Metrics::poll_refusals`](crate::Metrics::poll_refusals) the files that refused. Where
    /// there is no such device at all, or no ring for it (on the software ring, or for want of
    /// memory), [`RingReport::refused`](crate::RingReport::refused) lists `IOPOLL`.
    ///
    /// A second ring of the same size stands beside the first for it, and buffers of a
    /// [`BufferPool`](crate::buf::BufferPool) are registered with both, so both kinds of locked
    /// memory count twice. See `IORING_SETUP_IOPOLL` in io_uring_setup(2).
    ///
    /// ```
    /// let runtime = annulus::Builder::new().iopoll(true).build()?;
    /// println!("{}", runtime.ring());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn iopoll(mut self, poll: bool) -> Builder {
        self.iopoll = poll;
        self
    }

    /// Gives files that are read or written often a place in the ring's table beside their
    /// descriptor (registered files), with the sixteenth transfer, on Linux 6.13 and later. Off by
    /// default.
    ///
    /// The kernel then looks no descriptor up, and counts no user of the file: 2.5 % of the
    /// processor time of a cached read with 32 in flight. The place is emptied before the file is
    /// closed. But a process that is killed, or that exits without dropping its files, cannot do
    /// that: the kernel takes the table down after the process has gone, and locks of such files
    /// (flock(2)) were seen for up to 49 ms after its end.
    /// [`Metrics::registered_files`](crate::Metrics::registered_files) counts them, up to 1024 a
    /// runtime.
    ///
    /// ```
    /// let runtime = annulus::Builder::new().registered_files(true).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn registered_files(mut self, register: bool) -> Builder {
        self.registered_files = register;
        self
    }

    /// Called on the runtime's thread before each wait of its loop that may sleep, and
    /// [`on_unpark`](Builder::on_unpark) after it. A second call replaces the first hook.
    ///
    /// It is for what must not be held while the thread sleeps, as the lock of an interpreter, and
    /// for work that is put off until there is nothing else to do. No task is ready at that moment,
    /// and the timers, operations and wakes of other threads that end the wait are known. Turns
    /// that do not wait call no hook: while tasks are ready, at [`spin`](Builder::spin), and at the
    /// end of the runtime. A wait may end at once, since something has come meanwhile.
    ///
    /// A hook may do what a task may do between two polls: wake, spawn, send to channels, start and
    /// drop futures. If it makes a task ready, the wait is none. It cannot call
    /// [`block_on`](crate::block_on), and while it runs nothing else does.
    ///
    /// Without hooks this costs nothing, with them two calls for each wait.
    ///
    /// # Panics
    /// A panic in a hook comes out of [`Runtime::block_on`]. If it was this one, the thread has not
    /// waited, and `on_unpark` is not called. Nothing is lost, and `block_on` may be called again.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    ///
    /// let calls = Arc::new(Mutex::new(String::new()));
    /// let (park, unpark) = (Arc::clone(&calls), Arc::clone(&calls));
    /// let runtime = annulus::Builder::new()
    ///     .on_park(move || park.lock().unwrap().push('('))
    ///     .on_unpark(move || unpark.lock().unwrap().push(')'))
    ///     .build()?;
    /// runtime.block_on(async {
    ///     assert_eq!(*calls.lock().unwrap(), "");
    ///     annulus::time::sleep(Duration::from_millis(1)).await;
    ///     assert!(calls.lock().unwrap().starts_with("()"));
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_park(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.hooks.on_park(hook);
        self
    }

    /// Called on the runtime's thread after each wait of its loop that may have slept, before any
    /// task, waker or destructor runs that it has brought. See [`on_park`](Builder::on_park).
    ///
    /// It is called once for each `on_park` that has returned, also when the ring fails. After a
    /// panic in it, what the wait has brought is delivered all the same.
    pub fn on_unpark(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.hooks.on_unpark(hook);
        self
    }

    /// Opens the ring. The calling thread owns it from then on.
    ///
    /// The best set-up that the kernel grants is taken; [`Runtime::ring`] tells which. Where locked
    /// memory is short, smaller queues are tried down to 64 entries.
    ///
    /// # Errors
    /// `InvalidInput` for queues without a place, completion queues smaller than the submission
    /// queue, no workers, or chunks out of bounds. If the machine refuses the ring, a
    /// [`SetupError`](crate::SetupError) with the errno, the likely cause and the remedy: io_uring
    /// forbidden by seccomp or `kernel.io_uring_disabled`, too little locked memory, no descriptor
    /// left, or a kernel older than 5.10. An error without an errno if 4096 runtimes are alive in
    /// the process.
    pub fn build(self) -> io::Result<Runtime> {
        if !self.chunks.is_valid() {
            let sentence = "a chunk has 64 bytes to 8 MiB, and the numbers of buffers are 1 <= first <= most <= 32768";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        Runtime::open(&self.config()?, self.chunks, self.hooks)
    }

    /// What to ask of the ring.
    pub(crate) fn config(&self) -> io::Result<Config> {
        let entries = self.entries.min(MOST_ENTRIES);
        let completion_entries = self
            .completion_entries
            .unwrap_or(entries * COMPLETIONS_PER_ENTRY)
            .min(MOST_COMPLETION_ENTRIES);
        if entries == 0 || completion_entries < entries {
            let sentence =
                "a ring needs at least one submission entry and as many completion entries";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        if self.workers.is_some_and(|workers| workers == 0 || i32::try_from(workers).is_err()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the bound on kernel workers is between 1 and 2147483647",
            ));
        }
        Ok(Config {
            kind: self.kind,
            workers: self.workers,
            spin: self.spin,
            min_wait: self.min_wait,
            sqpoll: self.sqpoll,
            iopoll: self.iopoll,
            registered_files: self.registered_files,
            ..Config::new(entries, completion_entries)
        })
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}
