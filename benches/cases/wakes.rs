//! The cost of waking a task from another thread: from the wake to the task's next poll, seen by
//! the thread that wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// Long enough that the runtime has nothing to do and sleeps in the kernel.
const UNTIL_PARKED: Duration = Duration::from_micros(200);

/// A task waits for numbers that a thread gives it, and says which it has seen.
#[derive(Default)]
struct Bell {
    rung: AtomicU64,
    heard: AtomicU64,
    waker: AtomicWaker,
    is_over: AtomicBool,
}

/// The target's runtime always has another task to poll.
pub(crate) fn of_a_busy_target(count: u64) -> Duration {
    wake(count, Duration::ZERO, true)
}

/// The target's runtime sleeps.
pub(crate) fn of_a_parked_target(count: u64) -> Duration {
    wake(count, UNTIL_PARKED, false)
}

fn wake(count: u64, pause: Duration, is_busy: bool) -> Duration {
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    let ring = move || {
        let mut spent = Duration::ZERO;
        for number in 1..=count {
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            let start = Instant::now();
            ringer.rung.store(number, Ordering::Release);
            ringer.waker.wake();
            while ringer.heard.load(Ordering::Acquire) != number {
                std::hint::spin_loop();
            }
            spent += start.elapsed();
        }
        spent
    };
    super::runtime().block_on(async {
        if is_busy {
            let bell = Arc::clone(&bell);
            drop(annulus::spawn(async move {
                while !bell.is_over.load(Ordering::Relaxed) {
                    annulus::yield_now().await;
                }
            }));
        }
        let thread = thread::spawn(ring);
        for number in 1..=count {
            std::future::poll_fn(|context| {
                bell.waker.register(context.waker());
                if bell.rung.load(Ordering::Acquire) == number {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            bell.heard.store(number, Ordering::Release);
        }
        bell.is_over.store(true, Ordering::Relaxed);
        thread.join().expect("the ringing thread does not panic")
    })
}
