//! The ring as the public API shows it: tiny queues, overflow, what set-up reports and refuses,
//! limits, signals.
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
mod filters;

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::fs::File;
use annulus::net::UnixStream;
use annulus::{Builder, RingKind, Runtime, SetupError, spawn, time};
use common::{
    Pool, become_ordinary, build_runtime, forbid, in_own_process, is_on_software_ring,
    let_the_machine_choose, open_descriptors, poll_in_task, quiet, scratch_dir, turns, watchdog,
};
use futures_util::future::{join, join_all, poll_fn};

/// What is to be found out here concerns the kernel's ring, also where other tests use the software
/// ring.
fn kernel() -> Builder {
    Builder::new().ring(RingKind::Kernel)
}

/// A file with 64 KiB, each block of 16 bytes of which holds its number.
fn numbered_file() -> (File, tempfile::TempDir) {
    let directory = scratch_dir();
    let path = directory.path().join("numbered");
    let content: Vec<u8> = (0..4096u128).flat_map(u128::to_le_bytes).collect();
    std::fs::write(&path, content).expect("written");
    (File::from(std::fs::File::open(&path).expect("open")), directory)
}

/// Reads `count` numbered blocks at once and checks each.
async fn read_all_at_once(file: &File, pool: &Pool, count: usize) {
    let reads = (0..count).map(|index| {
        let number = index % 4096;
        async move {
            let (read, buffer) =
                file.read_at(pool.empty(16), 16 * number as u64).await.expect("a read");
            assert_eq!((read, &buffer[..]), (16, &(number as u128).to_le_bytes()[..]));
        }
    });
    join_all(reads).await;
}

fn tiny_queue(entries: u32, completion_entries: u32) {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = build_runtime(kernel().entries(entries).completion_entries(completion_entries));
    assert_eq!(runtime.ring().entries(), entries);
    assert_eq!(runtime.ring().completion_entries(), completion_entries);
    runtime.block_on(async {
        let (file, _path) = numbered_file();
        for _ in 0..3 {
            read_all_at_once(&file, &pool, 3000).await;
        }
        // And thousands that wait at once.
        let pairs: Vec<_> = (0..200).map(|_| UnixStream::pair().expect("a pair")).collect();
        let reads = join_all(
            pairs.iter().map(|(ours, _)| async { ours.read(pool.empty(8)).await.expect("data").0 }),
        );
        let writes = async {
            turns(2).await;
            for (_, theirs) in &pairs {
                theirs.write_all("12345678").await.expect("room");
            }
        };
        let (counts, ()) = join(reads, writes).await;
        assert_eq!(counts, vec![8; 200]);
    });
    // The streams are being closed.
    runtime.block_on(quiet());
    let metrics = runtime.metrics();
    assert_eq!((metrics.stale_completions, metrics.operations_in_flight), (0, 0));
    assert!(metrics.operations >= 9000 && metrics.completions >= 9000);
    drop(runtime);
    pool.assert_all_back();
}

#[test]
fn one_submission_entry_is_enough_for_thousands_of_operations() {
    tiny_queue(1, 4);
}

#[test]
fn one_entry_in_each_queue_is_enough() {
    tiny_queue(1, 1);
}

#[test]
fn two_submission_entries_are_enough_for_thousands_of_operations() {
    tiny_queue(2, 8);
}

#[test]
fn the_queues_of_the_default_ring_wrap_around_many_times() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = common::runtime();
    runtime.block_on(async {
        let (file, _path) = numbered_file();
        for count in [255, 256, 257, 1023, 1024, 1025, 5000] {
            read_all_at_once(&file, &pool, count).await;
        }
    });
    assert_eq!(runtime.metrics().stale_completions, 0);
    pool.assert_all_back();
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = build_runtime(kernel().entries(64).completion_entries(64));
    runtime.block_on(async {
        let pairs: Vec<_> = (0..400).map(|_| UnixStream::pair().expect("a pair")).collect();
        let mut reads: Vec<_> = pairs.iter().map(|(ours, _)| ours.read(pool.empty(8))).collect();
        for read in &mut reads {
            assert!(poll_in_task(read).await.is_pending());
        }
        turns(2).await;
        for (_, theirs) in &pairs {
            // Without the ring, so that nobody reaps in between.
            io::Write::write_all(
                &mut &std::fs::File::from(
                    std::os::fd::AsFd::as_fd(theirs).try_clone_to_owned().expect("a descriptor"),
                ),
                b"x",
            )
            .expect("room");
        }
        for read in reads {
            assert_eq!(read.await.expect("data").0, 1);
        }
        // A flood of cancels overflows as well.
        let mut reads: Vec<_> = pairs.iter().map(|(ours, _)| ours.read(pool.empty(8))).collect();
        for read in &mut reads {
            assert!(poll_in_task(read).await.is_pending());
        }
        turns(2).await;
        drop(reads);
        quiet().await;
    });
    runtime.block_on(quiet());
    let metrics = runtime.metrics();
    assert!(metrics.completion_overflows > 0, "the test means to overflow: {metrics:?}");
    assert_eq!((metrics.stale_completions, metrics.operations_in_flight), (0, 0));
    pool.assert_all_back();
}

#[test]
fn a_runtime_ends_with_an_overflowing_completion_queue() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = build_runtime(kernel().entries(1).completion_entries(1));
    runtime.block_on(async {
        for _ in 0..500 {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let buffer = pool.empty(8);
            drop(spawn(async move {
                drop(ours.read(buffer).await);
                drop(theirs);
            }));
        }
        turns(10).await;
    });
    let start = Instant::now();
    drop(runtime);
    assert!(start.elapsed() < Duration::from_secs(5));
    pool.assert_all_back();
}

#[test]
fn sizes_that_make_no_ring_are_refused_as_invalid_input() {
    for builder in [
        kernel().entries(0),
        kernel().completion_entries(0),
        kernel().entries(64).completion_entries(32),
        kernel().entries(100).completion_entries(99),
        kernel().max_workers(0),
        kernel().max_workers(u32::MAX),
    ] {
        let error = builder.build().expect_err("no such ring");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(
            error.raw_os_error().is_none() && !error.to_string().is_empty(),
            "a sentence, not an errno"
        );
    }
}

#[test]
fn sizes_are_rounded_up_to_powers_of_two() {
    for (asked, got) in [(1, 1), (3, 4), (100, 128), (256, 256)] {
        let runtime = build_runtime(kernel().entries(asked));
        assert!(runtime.ring().entries() == got, "{}", runtime.ring());
        assert!(runtime.ring().completion_entries() >= 4 * asked);
    }
}

#[test]
fn sizes_beyond_the_kernels_are_cut_down_where_memory_allows() {
    in_own_process(|| {
        for builder in
            [kernel().entries(u32::MAX), kernel().entries(1).completion_entries(u32::MAX)]
        {
            match builder.build() {
                Ok(runtime) => {
                    assert!(
                        runtime.ring().entries() <= 32768
                            && runtime.ring().completion_entries() <= 65536
                    );
                    runtime.block_on(turns(1));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory),
            }
        }
    });
}

#[test]
fn the_report_tells_what_was_granted_and_refused() {
    let runtime = build_runtime(kernel().entries(16));
    let report = runtime.ring();
    assert_eq!(
        (report.kind(), report.entries(), report.completion_entries()),
        (RingKind::Kernel, 16, 64)
    );
    let text = report.to_string();
    assert!(
        text.starts_with(
            "kernel ring (as the program asks), 16 submission and 64 completion entries; granted: "
        ),
        "{text}"
    );
    for granted in report.granted() {
        assert!(text.contains(granted));
    }
    assert_eq!(text.lines().count(), 1 + report.refused().len());
    for (refusal, line) in report.refused().iter().zip(text.lines().skip(1)) {
        assert!(
            line.starts_with("refused: ") && line.contains(refusal.what()) && refusal.errno() > 0,
            "{line}"
        );
    }
    assert!(report.granted().contains(&"CQSIZE"));
}

#[test]
fn the_bound_on_workers_is_granted() {
    let runtime = build_runtime(kernel().max_workers(2));
    assert!(runtime.ring().granted().contains(&"REGISTER_IOWQ_MAX_WORKERS"));
    runtime.block_on(async {
        let directory = scratch_dir();
        let file = File::create(directory.path().join("written")).await.expect("a file");
        let writes = join_all(
            (0..64u64).map(|index| file.write_all_at(vec![index as u8; 512], index * 512)),
        )
        .await;
        assert!(writes.iter().all(Result::is_ok));
        file.sync_all().await.expect("synced");
    });
}

#[test]
fn a_program_that_is_executed_gets_no_descriptor_of_the_ring() {
    let _watchdog = watchdog();
    common::runtime().block_on(async {
        let (_ours, _theirs) = UnixStream::pair().expect("a pair");
        let _listener = annulus::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let _file = File::open("Cargo.toml").await.expect("open");
        let output = std::process::Command::new("ls")
            .args(["-l", "/proc/self/fd"])
            .output()
            .expect("ls runs");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(listing.contains(" 0 -> "), "{listing}");
        for ours in ["io_uring", "eventfd", "socket:", "Cargo.toml"] {
            assert!(!listing.contains(ours), "{listing}");
        }
    });
}

#[test]
fn more_runtimes_than_a_thread_can_register_work_all_the_same() {
    let _watchdog = watchdog();
    let runtimes: Vec<Runtime> = (0..20).map(|_| build_runtime(kernel().entries(8))).collect();
    let refused: Vec<_> = runtimes
        .iter()
        .map(|runtime| {
            runtime.ring().refused().iter().find(|refusal| refusal.what() == "REGISTER_RING_FDS")
        })
        .collect();
    if refused[0].is_none() {
        assert_eq!(refused.iter().filter(|refusal| refusal.is_none()).count(), 16);
        assert!(
            refused[16..]
                .iter()
                .all(|refusal| refusal.is_some_and(|refusal| refusal.errno() == libc::EBUSY))
        );
    }
    for runtime in &runtimes {
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let (sent, received) = join(theirs.write("x"), ours.read(vec![0; 8])).await;
            assert!(sent.is_ok() && received.is_ok());
            time::sleep(Duration::from_micros(100)).await;
        });
    }
    let granted = refused[0].is_none();
    drop(runtimes);
    // Each gave its place back.
    for _ in 0..40 {
        let runtime = build_runtime(kernel().entries(8));
        assert_eq!(runtime.ring().granted().contains(&"REGISTER_RING_FDS"), granted);
    }
}

/// What a refused set-up says of itself.
fn setup_error(error: &io::Error) -> &SetupError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("the inner error is a SetupError")
}

#[test]
fn sixty_four_runtimes_at_once_fit_into_an_ordinary_users_memory() {
    in_own_process(|| {
        become_ordinary(8 << 20);
        let runtimes: Vec<Runtime> =
            (0..64).map(|_| kernel().build().expect("memory for a ring")).collect();
        for runtime in &runtimes {
            runtime.block_on(turns(2));
            assert_eq!(runtime.ring().entries(), 256, "none had to be smaller");
        }
    });
}

#[test]
fn want_of_locked_memory_makes_smaller_rings_and_then_an_error_that_explains_itself() {
    in_own_process(|| {
        become_ordinary(256 << 10);
        // The first that fits into a limit that grows slowly is a small one, if the kernel counts
        // the memory of rings at all.
        let first = (1..64).map(|pages| pages * 4096).find_map(|limit| {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: 256 << 10 };
            // SAFETY: `limit` outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
            kernel().build().ok()
        });
        let first = first.expect("a ring needs no 256 KiB");
        let refused =
            first.ring().refused().iter().filter(|refusal| refusal.errno() == libc::ENOMEM).count();
        assert_eq!(
            (refused > 0, first.ring().entries() < 256),
            (first.ring().entries() < 256, refused > 0)
        );
        first.block_on(turns(2));

        let mut runtimes = vec![first];
        let error = loop {
            match kernel().build() {
                Ok(runtime) if runtimes.len() < 64 => runtimes.push(runtime),
                // This kernel does not count it.
                Ok(_) => return,
                Err(error) => break error,
            }
        };
        assert!(runtimes[0].ring().entries() < 256, "smaller ones were tried first");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        let setup = setup_error(&error);
        assert_eq!(setup.raw_os_error(), Some(libc::ENOMEM));
        assert!(setup.cause().contains("RLIMIT_MEMLOCK"), "{error}");
        assert!(setup.remedy().contains("ulimit -l"), "{error}");
        for runtime in &runtimes {
            runtime.block_on(turns(2));
        }
        // The memory comes back.
        drop(runtimes);
        build_runtime(kernel()).block_on(turns(2));
    });
}

#[test]
fn a_runtime_without_a_descriptor_left_explains_itself_and_leaks_none() {
    in_own_process(|| {
        // What set-up and its explanation open the first time stays open in neither case.
        drop(kernel().build().expect("a ring"));
        let before = open_descriptors();
        let mut hoard = Vec::new();
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: `limit` outlives the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let error = kernel().build().expect_err("no descriptor");
        assert_eq!(setup_error(&error).raw_os_error(), Some(libc::EMFILE));
        assert!(error.to_string().contains("RLIMIT_NOFILE is 64"), "{error}");
        hoard.clear();
        assert_eq!(open_descriptors(), before);
        drop(kernel().build().expect("there is room again"));
    });
}

/// Wakes from other threads, completions and timers, as any program mixes them.
async fn mixed_work(rounds: usize) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    for round in 0..rounds {
        let flag = std::sync::Arc::new((
            AtomicBool::new(false),
            std::sync::Mutex::new(None::<std::task::Waker>),
        ));
        let setter = flag.clone();
        let thread = thread::spawn(move || {
            setter.0.store(true, Ordering::SeqCst);
            if let Some(waker) = setter.1.lock().expect("no panic").take() {
                waker.wake();
            }
        });
        poll_fn(|context| {
            *flag.1.lock().expect("no panic") = Some(context.waker().clone());
            if flag.0.load(Ordering::SeqCst) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        thread.join().expect("no panic");
        let (sent, received) =
            join(theirs.write_all(vec![round as u8; 100]), ours.read_exact(vec![0; 100])).await;
        assert!(sent.is_ok());
        assert_eq!(received.expect("data"), vec![round as u8; 100]);
        let limit = Duration::from_micros(500);
        let start = Instant::now();
        time::sleep(limit).await;
        assert!(start.elapsed() >= limit);
    }
}

#[test]
fn without_messages_to_the_ring_other_threads_wake_through_an_eventfd() {
    in_own_process(|| {
        const REGISTER_SEND_MSG_RING: u32 = 31;
        forbid(libc::SYS_io_uring_register, Some((1, REGISTER_SEND_MSG_RING)), libc::EINVAL);
        let before = open_descriptors();
        let runtime = kernel().entries(1).build().expect("as on an older kernel");
        let refusal = runtime
            .ring()
            .refused()
            .iter()
            .find(|refusal| refusal.what() == "SEND_MSG_RING")
            .expect("refused");
        assert_eq!(refusal.errno(), libc::EINVAL);
        runtime.block_on(mixed_work(300));
        assert_eq!(runtime.metrics().stale_completions, 0);
        drop(runtime);
        assert_eq!(open_descriptors(), before, "the eventfd is closed");
    });
}

#[test]
fn without_a_registered_descriptor_and_idle_waits_everything_works() {
    in_own_process(|| {
        const REGISTER_RING_FDS: u32 = 20;
        const GETEVENTS_NO_IOWAIT: u32 = 1 | 1 << 7;
        forbid(libc::SYS_io_uring_register, Some((1, REGISTER_RING_FDS)), libc::EINVAL);
        forbid(libc::SYS_io_uring_enter, Some((3, GETEVENTS_NO_IOWAIT)), libc::EINVAL);
        let runtime = kernel().build().expect("as on an older kernel");
        let refused: Vec<_> =
            runtime.ring().refused().iter().map(|refusal| refusal.what()).collect();
        assert_eq!(refused, ["REGISTER_RING_FDS", "NO_IOWAIT"]);
        runtime.block_on(mixed_work(50));
    });
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn signals_that_interrupt_waits_do_no_harm() {
    in_own_process(|| {
        // SAFETY: the handler only counts; the structures are zeroed as their man page allows and
        // outlive the calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count_signal as *const () as usize;
            for signal in [libc::SIGALRM, libc::SIGUSR1] {
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
            let period = libc::timeval { tv_sec: 0, tv_usec: 500 };
            let timer = libc::itimerval { it_interval: period, it_value: period };
            assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()), 0);
        }
        // SAFETY: the call takes nothing.
        let owner = unsafe { libc::pthread_self() };
        static STOP: AtomicBool = AtomicBool::new(false);
        let runtime = kernel().build().expect("a ring");
        let sender = thread::spawn(move || {
            while !STOP.load(Ordering::Relaxed) {
                // SAFETY: the owner joins this thread before it ends.
                unsafe { libc::pthread_kill(owner, libc::SIGUSR1) };
                thread::sleep(Duration::from_micros(50));
            }
        });
        runtime.block_on(async {
            mixed_work(100).await;
            let (file, _path) = numbered_file();
            read_all_at_once(&file, &Pool::default(), 2000).await;
            let directory = scratch_dir();
            for index in 0..50 {
                let path = directory.path().join(index.to_string());
                annulus::fs::write(&path, vec![1; 10_000]).await.expect("written");
                assert_eq!(annulus::fs::read(&path).await.expect("read").len(), 10_000);
            }
        });
        assert_eq!(runtime.metrics().stale_completions, 0);
        // The end of a runtime is interrupted as well.
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        drop(runtime.spawn(async move { drop(ours.read(vec![0; 8]).await) }));
        runtime.block_on(turns(2));
        drop(runtime);
        STOP.store(true, Ordering::Relaxed);
        sender.join().expect("no panic");
        assert!(SIGNALS.load(Ordering::Relaxed) > 50, "the test means to interrupt");
    });
}
