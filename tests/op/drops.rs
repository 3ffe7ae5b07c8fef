//! Operations that are dropped, at whatever point: nothing is left of them.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{
    Pool, forget, in_flight, in_own_process, open_descriptors, poll_once, quiet, run_here, runtime,
    scratch_dir, turns, watchdog,
};
use crate::kinds::{ALL, Case, Make};

/// How far an operation gets before its future is dropped.
#[derive(Debug, Clone, Copy)]
enum DropPoint {
    /// Nobody has polled it.
    New,
    /// Its entry is in the submission queue.
    Queued,
    /// The kernel has it.
    Submitted,
    /// It has ended, and its future does not know.
    Ended,
    /// Its end and its cancelling meet in one submission.
    EndingUnseen,
    /// Its future has seen the end of the first operation, and may be in a later one.
    Underway,
}

const DROP_POINTS: [DropPoint; 6] = [
    DropPoint::New,
    DropPoint::Queued,
    DropPoint::Submitted,
    DropPoint::Ended,
    DropPoint::EndingUnseen,
    DropPoint::Underway,
];

/// Brings a new case to a point, and drops it there.
async fn drop_at(point: DropPoint, case: Case) {
    let Case { mut future, trigger, on_ring } = case;
    if matches!(point, DropPoint::New) {
        return;
    }
    let before = annulus::metrics();
    assert!(poll_once(future.as_mut()).is_pending(), "no operation ends at its first poll");
    let started = annulus::metrics();
    assert_eq!(started.operations > before.operations, on_ring);
    match point {
        DropPoint::New | DropPoint::Queued => {}
        DropPoint::Submitted => turns(1).await,
        DropPoint::Ended => {
            turns(1).await;
            trigger();
            in_flight(before.operations_in_flight).await;
        }
        DropPoint::EndingUnseen => {
            turns(1).await;
            trigger();
        }
        DropPoint::Underway => {
            turns(1).await;
            trigger();
            in_flight(before.operations_in_flight).await;
            let _ = poll_once(future.as_mut());
        }
    }
}

fn drop_at_every_stage(name: &str) {
    let directory = scratch_dir();
    let (_, make) = ALL.iter().find(|(kind, _)| *kind == name).expect("a kind of operation");
    run_here(async {
        for point in DROP_POINTS {
            let pool = Pool::default();
            for _ in 0..3 {
                drop_at(point, make(&pool, directory.path())).await;
            }
            let metrics = quiet().await;
            assert_eq!(
                (metrics.operations_in_flight, metrics.stale_completions),
                (0, 0),
                "{name} dropped when {point:?}"
            );
            pool.assert_all_back();
        }
    });
}

macro_rules! tests_of_kinds {
    ($($kind:ident)*) => {
        /// The table of this macro is the table of kinds.
        #[test]
        fn every_kind_of_operation_has_its_test() {
            assert_eq!(ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [$(stringify!($kind)),*]);
        }

        mod nothing_is_left_of_a_dropped {
            $(
                #[test]
                fn $kind() {
                    super::drop_at_every_stage(stringify!($kind));
                }
            )*
        }
    };
}

tests_of_kinds! {
    no_op
    read_at read_exact_at read_vectored_at write_at write_all_at write_vectored_at sync_all sync_data set_len file_metadata file_close
    metadata open create fs_write fs_read rename unlink mkdir
    hard_link symlink try_exists dir_open dir_create dir_metadata dir_rename dir_mkdir dir_unlink dir_link dir_symlink tempfile persist
    tcp_accept unix_accept tcp_connect tcp_read unix_read read_append tcp_read_exact read_vectored
    write write_that_waits write_all_that_waits write_vectored
    send_with_fds send_with_fds_that_waits recv_with_fds unix_recv_from unix_send_to chain_of_a_file chain_of_a_stream custom_receive shutdown stream_close
    send_to recv_from udp_send udp_recv read_with_a_timeout poll_fd_readable event_fd_read child_wait sleep long_sleep timeout
}

#[test]
fn no_descriptor_is_left_of_a_dropped_operation() {
    in_own_process(|| {
        let directory = scratch_dir();
        let before = open_descriptors();
        let runtime = runtime();
        let with_ring = open_descriptors();
        for (name, make) in ALL {
            for point in DROP_POINTS {
                runtime.block_on(async {
                    drop_at(point, make(&Pool::default(), directory.path())).await;
                    quiet().await;
                });
                assert_eq!(open_descriptors(), with_ring, "{name} dropped when {point:?}");
            }
        }
        drop(runtime);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn all_kinds_in_flight_at_once_are_dropped_at_once() {
    let directory = scratch_dir();
    let pool = Pool::default();
    run_here(async {
        for _ in 0..5 {
            let mut cases: Vec<Case> =
                ALL.iter().map(|(_, make)| make(&pool, directory.path())).collect();
            for case in &mut cases {
                assert!(poll_once(case.future.as_mut()).is_pending());
            }
            turns(1).await;
            drop(cases);
            quiet().await;
        }
        pool.assert_all_back();
    });
}

/// Begins one case of a kind on a new runtime, does something with it, and ends the runtime.
fn end_the_runtime_with(
    make: Make,
    directory: &Path,
    pool: &Pool,
    submit: bool,
    then: impl FnOnce(Case),
) {
    let runtime = runtime();
    runtime.block_on(async {
        let mut case = make(pool, directory);
        assert!(poll_once(case.future.as_mut()).is_pending());
        if submit {
            turns(1).await;
        }
        then(case);
    });
    let start = Instant::now();
    drop(runtime);
    assert!(start.elapsed() < Duration::from_secs(5), "the end of a runtime is not held up");
}

#[test]
fn a_forgotten_operation_does_not_hold_up_the_end_of_its_runtime() {
    let _watchdog = watchdog();
    let directory = scratch_dir();
    for (_, make) in ALL {
        for submit in [false, true] {
            let pool = Pool::default();
            end_the_runtime_with(*make, directory.path(), &pool, submit, |case| {
                forget(case.future)
            });
            pool.assert_untouched();
        }
    }
}

#[test]
fn an_operation_may_be_dropped_after_the_end_of_its_runtime() {
    let _watchdog = watchdog();
    let directory = scratch_dir();
    for (_, make) in ALL {
        for submit in [false, true] {
            let pool = Pool::default();
            let mut kept = None;
            end_the_runtime_with(*make, directory.path(), &pool, submit, |case| kept = Some(case));
            drop(kept);
            pool.assert_all_back();
        }
    }
}

#[test]
fn an_operation_that_outlives_its_runtime_ends_in_another() {
    let _watchdog = watchdog();
    let directory = scratch_dir();
    for (name, make) in ALL.iter().filter(|(name, _)| *name != "long_sleep") {
        let pool = Pool::default();
        let mut kept = None;
        end_the_runtime_with(*make, directory.path(), &pool, true, |case| kept = Some(case));
        let Case { future, trigger, .. } = kept.expect("just kept");
        println!("{name}");
        runtime().block_on(async {
            // Without it a restarted operation would wait for ever.
            trigger();
            future.await;
        });
        pool.assert_all_back();
    }
}

#[test]
fn an_operation_that_its_runtime_has_cancelled_says_so_wherever_it_is_polled_and_is_not_started_again()
 {
    let _watchdog = watchdog();
    for in_another in [false, true] {
        let first = runtime();
        let socket =
            first.block_on(annulus::net::UdpSocket::bind("127.0.0.1:0")).expect("a socket");
        let mut receive = Box::pin(socket.recv(vec![0; 8]));
        first.block_on(async { assert!(poll_once(receive.as_mut()).is_pending()) });
        drop(first);
        let error = match in_another {
            true => runtime().block_on(receive).expect_err("cancelled"),
            false => futures_util::FutureExt::now_or_never(receive)
                .expect("it has ended")
                .expect_err("cancelled"),
        };
        assert_eq!((error.raw_os_error(), error.into_buffer().len()), (Some(libc::ECANCELED), 8));
    }
}

#[test]
fn a_dropped_write_reads_its_buffer_before_the_buffer_goes() {
    // The pool overwrites each buffer at its drop, so a write that came later would bring that
    // pattern into the file.
    let directory = scratch_dir();
    let pool = Pool::default();
    run_here(async {
        for round in 0..50 {
            let path = directory.path().join(format!("{round}"));
            let std_file = std::fs::File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .expect("a file");
            let file = annulus::fs::File::from(std_file);
            let mut write = file.write_all_at(pool.filled(vec![1; 100_000]), 0);
            assert!(poll_once(std::pin::Pin::new(&mut write)).is_pending());
            turns(round % 3).await;
            drop(write);
            quiet().await;
            let written = std::fs::read(&path).expect("the file");
            assert!(written.iter().all(|&byte| byte == 1), "another byte in round {round}");
        }
        pool.assert_all_back();
    });
}

#[test]
fn a_dropped_read_writes_nothing_into_memory_that_is_used_again() {
    let pool = Pool::default();
    run_here(async {
        for round in 0..200 {
            let (ours, theirs) = annulus::net::UnixStream::pair().expect("a pair");
            let mut read = ours.read(pool.empty(512));
            assert!(poll_once(std::pin::Pin::new(&mut read)).is_pending());
            turns(round % 3).await;
            let write = theirs.write(vec![3; 512]);
            if round % 2 == 0 {
                drop(read);
                write.await.expect("room");
            } else {
                write.await.expect("room");
                drop(read);
            }
            quiet().await;
        }
        pool.assert_all_back();
    });
}
