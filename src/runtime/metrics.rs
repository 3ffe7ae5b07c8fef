//! What has a runtime done so far? Counters to read, print and subtract.

use super::spin::SpinCounts;
use crate::buf::ChunkPoolCounts;
use crate::driver::Counters;
use crate::ring::Traffic;

/// Counts since the start of a runtime. They only grow, but for those that say how many there are now.
///
/// ```
/// annulus::block_on(async {
///     let before = annulus::metrics();
///     annulus::time::sleep(std::time::Duration::from_millis(1)).await;
///     assert!(annulus::metrics().enters > before.enters);
/// });
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls of io_uring_enter(2) since set-up. On the software ring: how often it asked epoll for events, without its other system calls.
    pub enters: u64,
    /// Entries that the kernel has taken.
    pub submissions: u64,
    /// Completions of operations.
    pub completions: u64,
    /// Operations started, each part of a repeated one (`write_all`) counted, and each descriptor closed by drop.
    pub operations: u64,
    /// Reads of files that were made past the ring: the program read one by one, with nothing else in
    /// flight, and the page cache had what was asked for. They count as operations and completions.
    pub past_the_ring: u64,
    /// Operations whose future was dropped before they ended.
    pub orphaned: u64,
    /// Cancels sent, repetitions included: of dropped, cancelled and late operations, and of streams (`chunks`, `datagrams`, `incoming`) that
    /// were stopped since too much of theirs was unclaimed.
    pub cancels: u64,
    /// Completions that belonged to no operation. Anything but 0 is a bug in annulus or in the kernel.
    pub stale_completions: u64,
    /// How often the kernel had more completions than the completion queue could hold.
    pub completion_overflows: u64,
    /// Spins before a wait ([`Builder::spin`](crate::Builder::spin)) in which something came.
    pub spins_paid: u64,
    /// Spins in which nothing came, so that the wait followed.
    pub spins_unpaid: u64,
    /// Operations that have not ended now: in the kernel's hands, or queued for it.
    pub operations_in_flight: u64,
    /// Files that stand in the ring's table now, since they are read or written often. At most 1024, and no more than `RLIMIT_NOFILE` was when
    /// the runtime began; further files are used by their descriptors, at a little more cost.
    pub registered_files: u64,
    /// Reads and writes that ended by asking the device ([`Builder::iopoll`](crate::Builder::iopoll)).
    pub polled: u64,
    /// Files whose reads and writes were to be polled and could not be, since the device or the file system does not do it (`EOPNOTSUPP`). They
    /// wait for interrupts as ever.
    pub poll_refusals: u64,
    /// Tasks that have not ended now.
    pub tasks: u64,
    /// Buffers for [`Chunk`](crate::buf::Chunk)s now: in chunks, or kept for the ring. 0 until the first is asked for.
    pub chunk_buffers: u64,
    /// Those of them that are in chunks now. What another thread dropped counts until the loop's next turn.
    pub chunk_buffers_lent: u64,
    /// Most that were in chunks at one time.
    pub chunk_buffers_most_lent: u64,
    /// Receives that took such a buffer.
    pub chunk_receives: u64,
    /// Those of them that filled it. If they are many, messages come in pieces, each with its own
    /// turn of the loop: a larger [`chunk_size`](crate::Builder::chunk_size) saves these.
    pub chunk_fills: u64,
    /// How often their number was doubled since they ran short.
    pub chunk_growths: u64,
    /// How often their number was halved since they were not needed.
    pub chunk_shrinkings: u64,
    /// How often a receive found no buffer and had to be started again, which loses nothing. Some are usual when much comes at once: the ring
    /// has only about as many buffers as the last turns needed, so that it goes on with the same few.
    pub chunk_exhaustions: u64,
    /// Chunks that were copied to the heap since buffers were scarce and could not be made more.
    pub chunk_copies: u64,
}

impl Metrics {
    pub(super) fn new(
        traffic: Traffic,
        counters: Counters,
        spins: SpinCounts,
        pool: ChunkPoolCounts,
        in_flight: usize,
        tasks: usize,
    ) -> Metrics {
        Metrics {
            enters: traffic.enters,
            submissions: traffic.submissions,
            completions: counters.completions,
            operations: counters.started,
            past_the_ring: counters.past_the_ring,
            orphaned: counters.orphaned,
            cancels: counters.cancels,
            stale_completions: counters.stale,
            completion_overflows: traffic.overflows,
            spins_paid: spins.paid,
            spins_unpaid: spins.unpaid,
            operations_in_flight: in_flight as u64,
            registered_files: traffic.registered_files,
            polled: traffic.polled,
            poll_refusals: traffic.poll_refusals,
            tasks: tasks as u64,
            chunk_buffers: pool.buffers as u64,
            chunk_buffers_lent: pool.lent as u64,
            chunk_buffers_most_lent: pool.most_lent as u64,
            chunk_receives: pool.receives,
            chunk_fills: pool.fills,
            chunk_growths: pool.growths,
            chunk_shrinkings: pool.shrinkings,
            chunk_exhaustions: pool.exhaustions,
            chunk_copies: pool.copied,
        }
    }
}

/// The counts of the current runtime.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn metrics() -> Metrics {
    super::current().metrics()
}
