//! The timer and the executor for hyper: sleeps that move between runtimes and threads, and
//! deadlines that move in place.

#![cfg(feature = "hyper")]
#![allow(clippy::unwrap_used)]

mod common;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use annulus::hyper::{Executor, Sleep, Timer};
use annulus::{block_on, time};
use common::{poll_in_task, run_here};
use futures_channel::oneshot;
use hyper::rt::{Executor as _, Timer as _};

type Boxed = Pin<Box<dyn hyper::rt::Sleep>>;

const SHORT: Duration = Duration::from_millis(2);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(1000);

fn address(sleep: &mut Boxed) -> *const Sleep {
    &raw const *sleep.as_mut().downcast_mut_pin::<Sleep>().unwrap()
}

#[test]
fn a_sleep_ends_not_before_its_deadline_and_stays_ended() {
    run_here(async {
        let begun = Instant::now();
        let mut sleep = Timer.sleep(SHORT);
        sleep.as_mut().await;
        assert!(begun.elapsed() >= SHORT);
        assert!(poll_in_task(&mut sleep).await.is_ready());
        Timer.sleep_until(Instant::now()).await;
        assert!(Timer.now() >= begun);
    });
}

#[test]
fn a_reset_moves_the_deadline_in_place_and_who_waits_waits_for_the_new_one() {
    run_here(async {
        let mut sleep = Timer.sleep(LONG);
        let before = address(&mut sleep);
        assert!(poll_in_task(&mut sleep).await.is_pending());
        // Earlier. Nobody polls between the reset and the wake.
        Timer.reset(&mut sleep, Instant::now() + SHORT);
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            match polls {
                // It waits with the waker of the poll before.
                1 => Poll::Pending,
                _ => sleep.as_mut().poll(context),
            }
        })
        .await;
        // Later, after it has ended, and again before that.
        Timer.reset(&mut sleep, Instant::now() + LONG);
        assert!(poll_in_task(&mut sleep).await.is_pending());
        let end = Instant::now() + SHORT;
        Timer.reset(&mut sleep, end);
        sleep.as_mut().await;
        assert!(Instant::now() >= end);
        assert_eq!(address(&mut sleep), before, "no new box");
    });
}

#[test]
fn a_sleep_of_another_timer_is_replaced() {
    struct Others;

    impl Future for Others {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    impl hyper::rt::Sleep for Others {}

    run_here(async {
        let mut sleep: Boxed = Box::pin(Others);
        Timer.reset(&mut sleep, Instant::now() + SHORT);
        sleep.await;
    });
}

#[test]
fn a_sleep_goes_on_on_the_runtime_that_polls_it() {
    run_here(async {
        let mut sleep = Timer.sleep(SHORT);
        assert!(poll_in_task(&mut sleep).await.is_pending());
        let elsewhere = thread::spawn(move || {
            block_on(async {
                sleep.as_mut().await;
                Timer.reset(&mut sleep, Instant::now() + LONG);
                assert!(poll_in_task(&mut sleep).await.is_pending());
            });
            sleep
        });
        // That runtime has ended, and what it had of the sleep with it.
        let mut sleep = elsewhere.join().unwrap();
        Timer.reset(&mut sleep, Instant::now() + SHORT);
        sleep.await;
    });
}

#[test]
fn a_reset_or_a_drop_elsewhere_wakes_who_waits_and_frees_the_place_in_the_wheel() {
    run_here(async {
        for drops in [false, true].repeat(20) {
            let (send, receive) = mpsc::channel::<Boxed>();
            let (back, moved) = mpsc::channel();
            let other = thread::spawn(move || {
                for mut sleep in receive {
                    if drops {
                        drop(sleep);
                    } else {
                        Timer.reset(&mut sleep, Instant::now() + SHORT);
                        back.send(sleep).unwrap();
                    }
                }
            });
            let mut sleep = Timer.sleep(LONG);
            let mut sent = false;
            poll_fn(|context| {
                if !std::mem::replace(&mut sent, true) {
                    assert!(sleep.as_mut().poll(context).is_pending());
                    send.send(std::mem::replace(&mut sleep, Timer.sleep(LONG))).unwrap();
                    return Poll::Pending;
                }
                // Nothing else than the other thread wakes this task.
                Poll::Ready(())
            })
            .await;
            if !drops {
                moved.recv().unwrap().await;
            }
            drop(send);
            other.join().unwrap();
        }
    });
}

#[test]
fn a_sleep_that_outlives_its_runtime_is_dropped_anywhere() {
    let sleep = block_on(async {
        let mut sleep = Timer.sleep(LONG);
        assert!(poll_in_task(&mut sleep).await.is_pending());
        vec![sleep]
    });
    thread::spawn(move || drop(sleep)).join().unwrap();
}

#[test]
fn a_sleep_outside_a_runtime_panics() {
    let mut sleep = Timer.sleep(SHORT);
    let poll = || _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
}

#[test]
fn the_executor_runs_futures_that_are_not_send() {
    run_here(async {
        let (answer, question) = oneshot::channel();
        let shared = Rc::new(5);
        Executor.execute(async move {
            time::sleep(Duration::ZERO).await;
            answer.send(*shared).unwrap();
        });
        assert_eq!(question.await, Ok(5));
    });
}
