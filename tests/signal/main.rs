//! Signals, as streams.
//!
//! Signals and their handlers belong to a process, and a handler writes to a descriptor of
//! whichever thread it interrupts. So each test has a process of its own, whose threads share one
//! table.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use annulus::signal::ctrl_c;
use annulus::signal::unix::{Signal, SignalKind, signal};
use annulus::time::timeout;
use futures_util::{FutureExt, StreamExt};

use common::{
    Random, in_flight, in_own_process, open_descriptors, poll_once, run_here, runtime, seed, turns,
};

fn send(kind: SignalKind) {
    // SAFETY: the call takes no memory; the process has a handler for it.
    assert_eq!(unsafe { libc::kill(libc::getpid(), kind.as_raw_value()) }, 0);
}

/// Has the signal come to the stream?
async fn has_come(stream: &mut Signal) -> bool {
    for _ in 0..3 {
        if stream.recv().now_or_never().is_some() {
            return true;
        }
        turns(1).await;
    }
    false
}

#[test]
fn a_signal_before_the_first_poll_and_one_while_it_waits_are_both_heard() {
    in_own_process(|| {
        run_here(async {
            let mut stream = signal(SignalKind::user_defined1()).unwrap();
            send(SignalKind::user_defined1());
            assert_eq!(stream.recv().await, Some(()));
            assert!(!has_come(&mut stream).await);
            let mut wait = Box::pin(stream.recv());
            assert!(poll_once(wait.as_mut()).is_pending());
            turns(1).await;
            send(SignalKind::user_defined1());
            assert_eq!(wait.await, Some(()));
        });
    });
}

#[test]
fn several_signals_between_two_polls_are_one_item() {
    in_own_process(|| {
        run_here(async {
            let mut stream = signal(SignalKind::hangup()).unwrap();
            for _ in 0..10 {
                send(SignalKind::hangup());
            }
            assert_eq!(stream.next().await, Some(()));
            assert!(!has_come(&mut stream).await);
            send(SignalKind::hangup());
            assert_eq!(stream.next().await, Some(()));
        });
    });
}

#[test]
fn each_listener_hears_its_own_signal_and_all_listeners_of_one_hear_it() {
    in_own_process(|| {
        run_here(async {
            let mut ones = [(); 3].map(|()| signal(SignalKind::user_defined1()).unwrap());
            let mut two = signal(SignalKind::user_defined2()).unwrap();
            send(SignalKind::user_defined1());
            for one in &mut ones {
                assert_eq!(one.recv().await, Some(()));
            }
            assert!(!has_come(&mut two).await);
            let [first, ..] = ones;
            drop(first);
            send(SignalKind::user_defined2());
            assert_eq!(two.recv().await, Some(()));
        });
    });
}

#[test]
fn waits_that_are_dropped_at_random_lose_no_signal() {
    in_own_process(|| {
        let random = Random::new(seed());
        run_here(async {
            let mut stream = signal(SignalKind::user_defined1()).unwrap();
            for _ in 0..200 {
                if random.chance(2) {
                    let _ = stream.recv().now_or_never();
                    turns(random.below(2)).await;
                }
                send(SignalKind::user_defined1());
                if random.chance(3) {
                    let _ = timeout(Duration::ZERO, std::future::pending::<()>()).await;
                }
                assert_eq!(stream.recv().await, Some(()));
            }
            drop(stream);
            in_flight(0).await;
        });
    });
}

#[test]
fn runtimes_on_several_threads_all_hear_each_signal() {
    in_own_process(|| {
        const THREADS: usize = 4;
        let (ready, is_ready) = mpsc::channel();
        let listen = |_| {
            let ready = ready.clone();
            thread::spawn(move || {
                runtime().block_on(async {
                    let mut stream = signal(SignalKind::user_defined2()).unwrap();
                    for _ in 0..10 {
                        ready.send(()).unwrap();
                        assert_eq!(stream.recv().await, Some(()));
                    }
                });
            })
        };
        let threads: Vec<_> = (0..THREADS).map(listen).collect();
        for _ in 0..10 {
            (0..THREADS).for_each(|_| is_ready.recv().unwrap());
            send(SignalKind::user_defined2());
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_stream_goes_on_with_the_next_runtime_of_its_thread() {
    in_own_process(|| {
        let mut stream = signal(SignalKind::user_defined1()).unwrap();
        let first = runtime();
        first.block_on(async { assert!(!has_come(&mut stream).await) });
        drop(first);
        send(SignalKind::user_defined1());
        let second = runtime();
        second.block_on(async { assert_eq!(stream.recv().await, Some(())) });
    });
}

#[test]
fn ctrl_c_is_heard_and_after_that_it_kills_nobody() {
    in_own_process(|| {
        run_here(async {
            let before = open_descriptors();
            let mut wait = Box::pin(ctrl_c());
            assert!(poll_once(wait.as_mut()).is_pending());
            send(SignalKind::interrupt());
            wait.await.unwrap();
            in_flight(0).await;
            assert_eq!(open_descriptors(), before);
            // Nobody listens, and the default action does not come back.
            send(SignalKind::interrupt());
        });
    });
}

#[test]
fn signals_that_nobody_can_handle_are_refused_with_the_reason() {
    in_own_process(|| {
        for number in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE] {
            let error = signal(SignalKind::from_raw(number)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("signal {number} ")), "{error}");
        }
        for number in [-1, 0, 1000] {
            let error = signal(SignalKind::from(number)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
            assert!(error.to_string().contains(&format!("no signal {number} ")), "{error}");
        }
        let before = open_descriptors();
        assert!(signal(SignalKind::from_raw(libc::SIGKILL)).is_err());
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn without_a_descriptor_left_it_is_refused_and_nothing_stays_open() {
    in_own_process(|| {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: the limit outlives the call. This process has no other test.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| file.try_clone().ok()).collect();
        for _ in 0..2 {
            let error = signal(SignalKind::hangup()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            // The second time there is one, and two are needed.
            taken.pop();
        }
        taken.pop();
        signal(SignalKind::hangup()).unwrap();
    });
}

#[test]
fn a_child_is_born_with_no_signal_blocked_and_the_usual_actions() {
    in_own_process(|| {
        run_here(async {
            let mut stream = signal(SignalKind::user_defined1()).unwrap();
            assert!(!has_come(&mut stream).await);
            let mut cat = annulus::process::Command::new("cat");
            let output = cat.arg("/proc/self/status").output().await.unwrap();
            let status = String::from_utf8(output.stdout).unwrap();
            let mask = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            assert_eq!((mask("SigBlk:"), mask("SigCgt:")), (0, 0), "{status}");
        });
    });
}
