//! Waiting for a number in memory.

#![allow(unsafe_code, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use annulus::futex::{wait, wait_shared, wake, wake_shared};
use annulus::time::timeout;
use common::{Random, in_flight, poll_in_task, run, seed, turns};

fn word() -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(0))
}

/// Has this ring the operation? Else it says so.
async fn is_there() -> bool {
    match timeout(Duration::ZERO, wait(word(), 1)).await.unwrap() {
        Ok(woken) => {
            assert!(!woken, "the number is another");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            println!("skipped: this ring has no FUTEX_WAIT");
            false
        }
    }
}

#[test]
fn a_wake_ends_a_wait_and_another_number_does_not_begin_one() {
    run(async || {
        if !is_there().await {
            return;
        }
        let word = word();
        assert_eq!(wake(&word, 1).unwrap(), 0, "nobody waits");
        let mut first = wait(Arc::clone(&word), 0);
        assert!(poll_in_task(&mut first).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut first).await.is_pending());
        assert_eq!(wake(&word, 1).unwrap(), 1);
        assert!(first.await.unwrap());
        word.store(7, Ordering::Release);
        assert!(!wait(Arc::clone(&word), 0).await.unwrap());
    });
}

#[test]
fn a_wake_is_for_as_many_as_it_says_threads_among_them() {
    run(async || {
        if !is_there().await {
            return;
        }
        let word = word();
        let mut waits: Vec<_> = (0..3).map(|_| wait(Arc::clone(&word), 0)).collect();
        for wait in &mut waits {
            assert!(poll_in_task(wait).await.is_pending());
        }
        turns(2).await;
        assert_eq!(wake(&word, 2).unwrap(), 2);
        turns(2).await;
        let mut ended = 0;
        for wait in &mut waits {
            ended += usize::from(poll_in_task(wait).await.is_ready());
        }
        assert_eq!(ended, 2);
        assert_eq!(wake(&word, u32::MAX).unwrap(), 1);
        waits.clear();
        in_flight(0).await;
    });
}

#[test]
fn another_thread_wakes() {
    run(async || {
        if !is_there().await {
            return;
        }
        for _ in 0..50 {
            let word = word();
            let other = Arc::clone(&word);
            let thread = thread::spawn(move || {
                other.store(1, Ordering::Release);
                wake(&other, 1).unwrap()
            });
            while word.load(Ordering::Acquire) == 0 {
                wait(Arc::clone(&word), 0).await.unwrap();
            }
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_wake_that_a_dropped_wait_took_goes_to_the_next() {
    let random = Random::new(seed());
    run(async || {
        if !is_there().await {
            return;
        }
        for _ in 0..100 {
            let word = word();
            let mut dropped = wait(Arc::clone(&word), 0);
            assert!(poll_in_task(&mut dropped).await.is_pending());
            turns(random.below(2)).await;
            let mut kept = wait(Arc::clone(&word), 0);
            assert!(poll_in_task(&mut kept).await.is_pending());
            turns(2).await;
            // The first in the kernel's queue is the one that is dropped, before it has heard of
            // it.
            assert_eq!(wake(&word, 1).unwrap(), 1);
            turns(random.below(2)).await;
            drop(dropped);
            assert!(kept.await.unwrap());
        }
        in_flight(0).await;
    });
}

#[test]
fn a_dropped_wait_lets_go_of_its_number_when_the_kernel_has() {
    run(async || {
        if !is_there().await {
            return;
        }
        let word = word();
        let mut dropped = wait(Arc::clone(&word), 0);
        assert!(poll_in_task(&mut dropped).await.is_pending());
        turns(1).await;
        drop(dropped);
        in_flight(0).await;
        assert_eq!(Arc::strong_count(&word), 1);
        assert_eq!(wake(&word, 1).unwrap(), 0, "nobody waits");
    });
}

#[test]
fn waits_have_deadlines_and_a_static_number_will_do() {
    static WORD: AtomicU32 = AtomicU32::new(3);
    run(async || {
        if !is_there().await {
            return;
        }
        let late = wait(&WORD, 3).timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn shared_waits_are_woken_by_shared_wakes_alone() {
    run(async || {
        if !is_there().await {
            return;
        }
        let word = word();
        let mut shared = wait_shared(Arc::clone(&word), 0);
        assert!(poll_in_task(&mut shared).await.is_pending());
        turns(2).await;
        assert_eq!(wake(&word, 1).unwrap(), 0);
        assert_eq!(wake_shared(&word, 1).unwrap(), 1);
        assert!(shared.await.unwrap());
    });
}
