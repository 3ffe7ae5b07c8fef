//! The counters of one runtime: a page that the runtime's own thread writes and any thread reads.
//!
//! Each part of the runtime holds the page and counts there. So there is nothing to add up, and a
//! new counter is one line in the table below and a line where it counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What [`Metrics::anchored_leaked`] says.
static ANCHORED_LEAKED: AtomicU64 = AtomicU64::new(0);

/// A value of `Anchored` is leaked, on any thread.
pub(crate) fn count_leak() {
    ANCHORED_LEAKED.fetch_add(1, Ordering::Relaxed);
}

/// A number that one thread writes and any thread may read. Since nobody else writes, adding is a
/// load and a store, which costs no more than adding to a plain number.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Takes one away.
    pub(crate) fn remove_one(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the page and its snapshot of one table.
macro_rules! counters {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// The page.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// What the page says now.
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics {
                    $($name: self.$name.get(),)*
                    anchored_leaked: ANCHORED_LEAKED.load(Ordering::Relaxed),
                }
            }
        }

        /// Counts since the start of a runtime. They only grow, but for those that say how many
        /// there are now.
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
            $($(#[$documentation])* pub $name: u64,)*
            /// Values of [`Anchored`](crate::Anchored) that were dropped away from home after
            /// their runtime had ended, and so are leaked: in the whole process, since such a
            /// runtime has nobody left to ask for its own.
            pub anchored_leaked: u64,
        }
    };
}

counters! {
    /// Calls of io_uring_enter(2) since set-up. On the software ring: how often it asked epoll for
    /// events, without its other system calls.
    enters,
    /// Entries that the kernel has taken.
    submissions,
    /// Completions of operations.
    completions,
    /// Operations started, each part of a repeated one (`write_all`) counted, and each descriptor
    /// closed by drop.
    operations,
    /// Reads of files that were made past the ring: the program read one by one, with nothing else
    /// in flight, and the page cache had what was asked for. They count as operations and
    /// completions.
    past_the_ring,
    /// Operations whose future was dropped before they ended.
    orphaned,
    /// Cancels sent, repetitions included: of dropped, cancelled and late operations, and of
    /// streams (`chunks`, `datagrams`, `incoming`) that were stopped since too much of theirs was
    /// unclaimed.
    cancels,
    /// Completions that belonged to no operation. Anything but 0 is a bug in annulus or in the
    /// kernel.
    stale_completions,
    /// How often the kernel had more completions than the completion queue could hold.
    completion_overflows,
    /// Spins before a wait ([`Builder::spin`](crate::Builder::spin)) in which something came.
    spins_paid,
    /// Spins in which nothing came, so that the wait followed.
    spins_unpaid,
    /// Operations that have not ended now: in the kernel's hands, or queued for it.
    operations_in_flight,
    /// Files that stand in the ring's table now, since they are read or written often. At most
    /// 1024, and no more than `RLIMIT_NOFILE` was when the runtime began; further files are used by
    /// their descriptors, at a little more cost.
    registered_files,
    /// Reads and writes that ended by asking the device
    /// ([`Builder::iopoll`](crate::Builder::iopoll)).
    polled,
    /// Files whose reads and writes were to be polled and could not be, since the device or the
    /// file system does not do it (`EOPNOTSUPP`). They wait for interrupts as ever.
    poll_refusals,
    /// Tasks that have not ended now.
    tasks,
    /// Buffers for [`Chunk`](crate::buf::Chunk)s now: in chunks, or kept for the ring. 0 until the
    /// first is asked for.
    chunk_buffers,
    /// Those of them that are in chunks now. What another thread dropped counts until the loop's
    /// next turn.
    chunk_buffers_lent,
    /// Most that were in chunks at one time.
    chunk_buffers_most_lent,
    /// Receives that took such a buffer.
    chunk_receives,
    /// Those of them that filled it. If they are many, messages come in pieces, each with its own
    /// turn of the loop: a larger [`chunk_size`](crate::Builder::chunk_size) saves these.
    chunk_fills,
    /// How often their number was doubled since they ran short.
    chunk_growths,
    /// How often their number was halved since they were not needed.
    chunk_shrinkings,
    /// How often a receive found no buffer and had to be started again, which loses nothing. Some
    /// are usual when much comes at once: the ring has only about as many buffers as the last turns
    /// needed, so that it goes on with the same few.
    chunk_exhaustions,
    /// Chunks that were copied to the heap since buffers were scarce and could not be made more.
    chunk_copies,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn another_thread_reads_what_the_owner_has_counted() {
        let page = Arc::new(Counters::default());
        let shared = Arc::clone(&page);
        let reader = thread::spawn(move || {
            let mut seen = 0;
            while seen < 10_000 {
                let now = shared.snapshot().enters;
                assert!(now >= seen, "it only grows");
                seen = now;
            }
            shared.snapshot()
        });
        page.tasks.set(7);
        for _ in 0..10_000 {
            page.enters.add(1);
        }
        page.tasks.remove_one();
        assert_eq!(reader.join().expect("no panic").enters, 10_000);
        assert_eq!(page.snapshot(), Metrics { enters: 10_000, tasks: 6, ..Metrics::default() });
    }
}
