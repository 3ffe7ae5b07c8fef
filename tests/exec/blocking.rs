//! Jobs on threads.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use annulus::spawn_blocking;

use crate::Signal;
use crate::common::{run_here, turns};

#[test]
fn a_blocking_job_returns_its_result_while_the_loop_goes_on() {
    run_here(async {
        let (sender, receiver) = mpsc::channel();
        let job = spawn_blocking(move || receiver.recv().expect("a number") + 1);
        turns(3).await;
        assert!(!job.is_finished());
        sender.send(1).expect("the job listens");
        assert_eq!(job.await.expect("no panic"), 2);
    });
}

#[test]
fn a_panic_in_a_blocking_job_comes_out_of_its_handle() {
    run_here(async {
        let error = spawn_blocking(|| panic!("off the loop")).await.expect_err("a panic");
        assert_eq!(error.to_string(), "task panicked: off the loop");
    });
}

#[test]
fn a_blocking_job_whose_handle_is_dropped_runs_all_the_same() {
    run_here(async {
        let signal = Signal::default();
        let setter = signal.clone();
        drop(spawn_blocking(move || setter.set()));
        signal.wait().await;
    });
}

#[test]
fn an_aborted_blocking_job_that_has_begun_runs_to_its_end_and_nobody_waits_for_it() {
    run_here(async {
        let (begun, is_begun) = (Signal::default(), Signal::default());
        let (sender, receiver) = mpsc::channel::<()>();
        let ended = Signal::default();
        let (begin, end) = (begun.clone(), ended.clone());
        let job = spawn_blocking(move || {
            begin.set();
            receiver.recv().expect("a word");
            end.set();
        });
        begun.wait().await;
        job.abort();
        assert!(job.await.expect_err("aborted").is_cancelled());
        sender.send(()).expect("the job still runs");
        ended.wait().await;
        drop(is_begun);
    });
}

#[test]
fn many_blocking_jobs_run_side_by_side() {
    run_here(async {
        let (arrive, arrived) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let jobs: Vec<_> = (0..4)
            .map(|number| {
                let (arrive, released) = (arrive.clone(), Arc::clone(&released));
                spawn_blocking(move || {
                    arrive.send(()).expect("the test listens");
                    released.lock().expect("no panic").recv().expect("a word");
                    number
                })
            })
            .collect();
        turns(1).await;
        // All have begun before one has ended.
        for _ in 0..4 {
            arrived.recv().expect("they run side by side");
        }
        for _ in 0..4 {
            release.send(()).expect("they listen");
        }
        for (number, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.expect("no panic"), number);
        }
    });
}
