//! Runtimes and their turns: as many as a test says, and no clock.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulus::{Builder, Metrics, Runtime};

/// A runtime with default settings. An ordinary user's locked memory comes back some time after a
/// ring was closed, so it is worth a wait.
pub(crate) fn runtime() -> Runtime {
    build_runtime(Builder::new())
}

pub(crate) fn build_runtime(builder: Builder) -> Runtime {
    for _ in 0..10_000 {
        match builder.clone().build() {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                std::thread::sleep(Duration::from_millis(1))
            }
            other => return other.expect("a ring"),
        }
    }
    panic!("the memory of rings that were closed ten seconds ago has not come back");
}

/// Runs a future on a runtime of its own, on this thread and with its descriptors, and checks that
/// the runtime counted nothing strange.
pub(crate) fn run_here<F: Future>(future: F) -> F::Output {
    let _turn = super::turn_on_software_ring();
    super::bounded(|| {
        let runtime = runtime();
        let output = runtime.block_on(future);
        assert_eq!(
            runtime.metrics().stale_completions,
            0,
            "every completion belongs to an operation"
        );
        output
    })
}

/// Turns the loop until nothing is in flight.
pub(crate) async fn quiet() -> Metrics {
    in_flight(0).await
}

/// Turns the loop until at most `count` operations are in flight.
pub(crate) async fn in_flight(count: u64) -> Metrics {
    loop {
        let metrics = annulus::metrics();
        if metrics.operations_in_flight <= count {
            return metrics;
        }
        turns(1).await;
    }
}

/// Turns the loop a few times: all that is queued is submitted, all that has ended is delivered,
/// and the other tasks run. (`yield_now` only lets the other tasks run; a deadline is looked at
/// once a turn.)
pub(crate) async fn turns(count: usize) {
    for _ in 0..count {
        annulus::time::sleep(Duration::ZERO).await;
    }
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future once, with the waker of the current task, and gives it back with what it said.
pub(crate) async fn poll_in_task<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}
