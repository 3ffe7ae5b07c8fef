//! The hooks around a wait: when they are called and when not, what they may do, and their panics.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use annulus::{Builder, Runtime, block_on, no_op, spawn, time, yield_now};
use common::{bounded, build_runtime, turn_on_software_ring};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;

/// How often each hook was called.
#[derive(Clone, Default)]
struct Calls(Arc<(AtomicUsize, AtomicUsize)>);

impl Calls {
    fn builder(&self) -> Builder {
        let (park, unpark) = (self.clone(), self.clone());
        Builder::new()
            .on_park(move || _ = park.0.0.fetch_add(1, SeqCst))
            .on_unpark(move || _ = unpark.0.1.fetch_add(1, SeqCst))
    }

    fn now(&self) -> (usize, usize) {
        (self.0.0.load(SeqCst), self.0.1.load(SeqCst))
    }
}

fn on(builder: Builder, test: impl FnOnce(&Runtime)) {
    let _turn = turn_on_software_ring();
    bounded(|| test(&build_runtime(builder)));
}

#[test]
fn a_loop_that_never_waits_calls_no_hook() {
    let calls = Calls::default();
    on(calls.builder(), |runtime| {
        runtime.block_on(async {
            for _ in 0..1000 {
                yield_now().await;
            }
            assert_eq!(spawn(async { 7 }).await.unwrap(), 7);
        });
    });
    assert_eq!(calls.now(), (0, 0), "nor does the end of the runtime");
}

#[test]
fn each_wait_is_one_call_of_each_hook() {
    let calls = Calls::default();
    on(calls.builder(), |runtime| {
        runtime.block_on(async {
            for round in 1..=10 {
                no_op().await.unwrap();
                assert_eq!(calls.now(), (round, round), "one wait for one completion");
            }
        });
    });
}

#[test]
fn a_hook_that_makes_a_task_ready_ends_the_wait_before_it_begins() {
    thread_local! {
        /// The hook runs on the thread of the loop.
        static ANSWER: RefCell<Option<oneshot::Sender<usize>>> = const { RefCell::new(None) };
    }
    let calls = Calls::default();
    let count = calls.clone();
    let answering = calls.builder().on_park(move || {
        let number = count.0.0.fetch_add(1, SeqCst) + 1;
        if let Some(answer) = ANSWER.take() {
            answer.send(number).unwrap();
        }
    });
    on(answering, |runtime| {
        runtime.block_on(async {
            for round in 1..=1000 {
                let (answer, question) = oneshot::channel();
                ANSWER.set(Some(answer));
                // Nothing else would ever end this wait.
                assert_eq!(question.await, Ok(round));
                assert_eq!(calls.now(), (round, round));
            }
        });
    });
}

#[test]
fn a_hook_may_spawn_tasks_and_start_timers_and_operations() {
    let spawned = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let (spawns, ends) = (Arc::clone(&spawned), Arc::clone(&ended));
    let spawning = Builder::new().on_park(move || {
        if spawns.fetch_add(1, SeqCst) < 10 {
            let ends = Arc::clone(&ends);
            drop(spawn(async move {
                no_op().await.unwrap();
                time::sleep(Duration::from_micros(100)).await;
                ends.fetch_add(1, SeqCst);
            }));
        }
    });
    on(spawning, |runtime| {
        runtime.block_on(async {
            while ended.load(SeqCst) < 10 {
                time::sleep(Duration::from_micros(200)).await;
            }
        });
    });
    assert!(spawned.load(SeqCst) >= 10);
}

/// A lock that is not tied to a guard, as that of an interpreter.
#[derive(Default)]
struct Lock(Mutex<bool>, Condvar);

impl Lock {
    fn acquire(&self) {
        let mut held = self.0.lock().unwrap();
        while *held {
            held = self.1.wait(held).unwrap();
        }
        *held = true;
    }

    fn release(&self) {
        assert!(std::mem::replace(&mut *self.0.lock().unwrap(), false), "it was held");
        self.1.notify_one();
    }

    fn is_held(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

#[test]
fn a_lock_that_is_released_while_the_thread_sleeps_is_held_whenever_user_code_runs() {
    const ROUNDS: usize = 500;
    let lock = Arc::new(Lock::default());
    let in_loop = Arc::new(AtomicBool::new(false));
    let (park, unpark) = (Arc::clone(&lock), Arc::clone(&lock));
    let (leaves, comes) = (Arc::clone(&in_loop), Arc::clone(&in_loop));
    let builder = Builder::new()
        .on_park(move || {
            leaves.store(false, SeqCst);
            park.release();
        })
        .on_unpark(move || {
            unpark.acquire();
            comes.store(true, SeqCst);
        });
    on(builder, |runtime| {
        let (mut send, mut receive) = mpsc::channel(1);
        lock.acquire();
        in_loop.store(true, SeqCst);
        let (theirs, is_theirs) = (Arc::clone(&lock), Arc::clone(&in_loop));
        // It only comes forward while the loop sleeps, and wakes it with the lock held.
        let other = thread::spawn(move || {
            for round in 0..ROUNDS {
                theirs.acquire();
                assert!(!is_theirs.load(SeqCst), "the loop sleeps");
                while send.try_send(round).is_err() {
                    theirs.release();
                    thread::yield_now();
                    theirs.acquire();
                }
                theirs.release();
            }
        });
        runtime.block_on(async {
            for round in 0..ROUNDS {
                assert_eq!(receive.next().await, Some(round));
                assert!(lock.is_held() && in_loop.load(SeqCst), "a task runs with the lock");
                if round % 3 == 0 {
                    time::sleep(Duration::from_micros(50)).await;
                    assert!(lock.is_held() && in_loop.load(SeqCst));
                }
            }
            assert_eq!(receive.next().await, None);
        });
        assert!(lock.is_held(), "the loop has it back");
        lock.release();
        other.join().unwrap();
    });
}

#[test]
fn the_second_hook_comes_before_the_wakers_of_what_the_wait_has_brought() {
    /// The waker of another executor.
    struct Asks(Calls, Mutex<Option<(usize, usize)>>);

    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            *self.1.lock().unwrap() = Some(self.0.now());
        }
    }

    let calls = Calls::default();
    on(calls.builder(), |runtime| {
        let asks = Arc::new(Asks(calls.clone(), Mutex::new(None)));
        runtime.block_on(async {
            let mut operation = no_op();
            let waker = Waker::from(Arc::clone(&asks));
            let context = &mut Context::from_waker(&waker);
            assert!(Pin::new(&mut operation).poll(context).is_pending());
            while asks.1.lock().unwrap().is_none() {
                time::sleep(Duration::from_micros(100)).await;
            }
        });
        let (parks, unparks) = asks.1.lock().unwrap().take().unwrap();
        assert!(parks > 0 && parks == unparks, "{parks} and {unparks}");
    });
}

/// A panic that prints nothing.
fn fail() {
    std::panic::resume_unwind(Box::new("as the test wants it"));
}

#[test]
fn a_panic_before_the_wait_comes_out_of_block_on_and_the_runtime_goes_on() {
    let unparks = Arc::new(AtomicUsize::new(0));
    let armed = Arc::new(AtomicBool::new(true));
    let (disarm, counts) = (Arc::clone(&armed), Arc::clone(&unparks));
    let builder = Builder::new()
        .on_park(move || {
            if disarm.swap(false, SeqCst) {
                fail();
            }
        })
        .on_unpark(move || _ = counts.fetch_add(1, SeqCst));
    on(builder, |runtime| {
        let sleeper = runtime.spawn(time::sleep(Duration::from_millis(1)));
        let forever = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(std::future::pending::<()>());
        }));
        let payload = forever.expect_err("nothing else could end it");
        assert_eq!(payload.downcast_ref(), Some(&"as the test wants it"));
        assert_eq!(unparks.load(SeqCst), 0, "the thread has not waited");
        runtime.block_on(sleeper).unwrap();
        assert!(unparks.load(SeqCst) > 0);
    });
}

#[test]
fn a_panic_after_the_wait_comes_out_of_block_on_and_what_came_is_delivered() {
    let armed = Arc::new(AtomicBool::new(true));
    let disarm = Arc::clone(&armed);
    let builder = Builder::new().on_unpark(move || {
        if disarm.swap(false, SeqCst) {
            fail();
        }
    });
    on(builder, |runtime| {
        // Its completion comes with the wait whose hook panics.
        let operation = runtime.spawn(no_op());
        let forever = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(std::future::pending::<()>());
        }));
        assert!(forever.is_err());
        assert!(!armed.load(SeqCst));
        runtime.block_on(operation).unwrap().unwrap();
    });
}

#[test]
fn block_on_in_a_hook_is_refused() {
    let builder = Builder::new().on_park(|| block_on(async {}));
    on(builder, |runtime| {
        let nested = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(time::sleep(Duration::from_millis(1)));
        }));
        assert!(nested.is_err());
    });
}

#[test]
fn a_second_hook_replaces_the_first_and_a_builder_that_is_cloned_keeps_it() {
    let (first, second) = (Calls::default(), Calls::default());
    let count = second.clone();
    let builder = first.builder().on_park(move || _ = count.0.0.fetch_add(1, SeqCst));
    // The builder may go to the threads that open the runtimes.
    let other = builder.clone();
    let elsewhere = thread::spawn(move || {
        on(other, |runtime| runtime.block_on(time::sleep(Duration::from_millis(1))));
    });
    elsewhere.join().unwrap();
    on(builder, |runtime| runtime.block_on(time::sleep(Duration::from_millis(1))));
    let (parks, unparks) = (second.now().0, first.now().1);
    assert_eq!(first.now().0, 0);
    assert!(parks >= 2);
    assert_eq!(parks, unparks);
}
