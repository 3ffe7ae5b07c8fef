//! How many system calls does a tick make, and how does it wait? Batches, spins before waits, waits for several completions, and the
//! kernel's own submission thread. Told by counters, never by a clock.

mod common;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::{Builder, Metrics, time};
use common::{bounded, patiently, run_here};
use futures_util::future::join_all;

fn spinning(longest: Duration) -> annulus::Runtime {
    patiently(Builder::new().spin(longest))
}

/// Longer than any wait of these tests, so that a spin in vain shows as a test that hangs.
const VERY_LONG: Duration = Duration::from_secs(1000);

#[test]
fn what_starts_in_one_tick_is_submitted_waited_for_and_reaped_with_one_enter() {
    run_here(async {
        for count in [1, 2, 64, 200] {
            let before = annulus::metrics();
            for result in join_all((0..count).map(|_| annulus::no_op())).await {
                result.expect("a no-op");
            }
            let after = annulus::metrics();
            assert_eq!(after.operations - before.operations, count);
            assert_eq!(after.enters - before.enters, 1, "for {count} operations");
        }
    });
}

#[test]
fn a_round_of_an_echo_costs_two_enters_on_each_side() {
    bounded(|| {
        let (ours, mut theirs) = unix::net::UnixStream::pair().expect("a pair");
        let peer = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while theirs.read_exact(&mut buffer).is_ok() {
                theirs.write_all(&buffer).expect("the other end is there");
            }
        });
        common::runtime().block_on(async move {
            const ROUNDS: u64 = 200;
            let stream = UnixStream::from(ours);
            let mut buffer = vec![1; 64];
            let before = annulus::metrics();
            for _ in 0..ROUNDS {
                buffer = stream.write_all(buffer).await.expect("written");
                buffer = stream.read_exact(buffer).await.expect("read");
            }
            let enters = annulus::metrics().enters - before.enters;
            // One submits the send, one submits the receive and waits. A wait that ends early (a signal) takes one more.
            assert!(enters <= 2 * ROUNDS + 10, "{enters} enters for {ROUNDS} rounds");
            drop(stream);
        });
        peer.join().expect("the peer ends");
    });
}

#[test]
fn a_spin_sees_what_the_kernel_brings() {
    bounded(|| {
        let (ours, mut theirs) = unix::net::UnixStream::pair().expect("a pair");
        let peer = std::thread::spawn(move || {
            let mut byte = [0];
            while theirs.read(&mut byte).expect("read") > 0 {
                theirs.write_all(&byte).expect("written");
            }
        });
        let runtime = spinning(VERY_LONG);
        runtime.block_on(async {
            let stream = UnixStream::from(ours);
            for _ in 0..200 {
                stream.write_all(vec![1]).await.expect("written");
                stream.read(vec![0]).await.expect("read");
            }
        });
        peer.join().expect("the peer ends");
        let Metrics { spins_paid, spins_unpaid, .. } = runtime.metrics();
        // The peer's answer is sometimes there before the first look.
        assert!(spins_paid > 0 && spins_unpaid == 0, "{spins_paid} paid, {spins_unpaid} did not");
    });
}

#[test]
fn a_spin_sees_the_wake_of_another_thread() {
    bounded(|| {
        let runtime = spinning(VERY_LONG);
        let (to_waker, wakers) = mpsc::channel::<Waker>();
        let woken = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::clone(&woken);
        let other = std::thread::spawn(move || {
            for waker in wakers {
                wakes.fetch_add(1, Ordering::SeqCst);
                waker.wake();
            }
        });
        runtime.block_on(async {
            for round in 1..=200 {
                to_waker.send(poll_fn(|context| Poll::Ready(context.waker().clone())).await).expect("the other thread listens");
                poll_fn(|_| if woken.load(Ordering::SeqCst) < round { Poll::Pending } else { Poll::Ready(()) }).await;
            }
        });
        drop(to_waker);
        other.join().expect("it ends");
        let Metrics { spins_paid, spins_unpaid, .. } = runtime.metrics();
        assert!(spins_paid > 0 && spins_unpaid == 0, "{spins_paid} paid, {spins_unpaid} did not");
    });
}

#[test]
fn a_spin_ends_at_the_next_deadline() {
    bounded(|| {
        let runtime = spinning(VERY_LONG);
        runtime.block_on(time::sleep(Duration::from_millis(5)));
        assert_eq!((runtime.metrics().spins_paid, runtime.metrics().spins_unpaid), (0, 1));
    });
}

#[test]
fn a_runtime_whose_spins_are_in_vain_stops_spinning() {
    bounded(|| {
        let runtime = spinning(Duration::from_nanos(100));
        runtime.block_on(async {
            for _ in 0..300 {
                time::sleep(Duration::from_millis(1)).await;
            }
        });
        let Metrics { spins_paid, spins_unpaid, .. } = runtime.metrics();
        // Eight in a row, then trials after 16, 32, 64 … waits, and all that again after one that happened to pay.
        assert!(spins_unpaid <= (spins_paid + 1) * 20, "{spins_paid} paid, {spins_unpaid} did not");
        assert!(spins_unpaid > 0);
    });
}
