//! The system calls of a tick, and how it waits: batches, spins before waits, waits for several
//! completions, and the kernel's own submission thread. Told by counters, never by a clock.

mod common;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::{Builder, Metrics, RingKind, time};
use common::{bounded, build_runtime};
use futures_util::StreamExt;
use futures_util::future::join_all;

/// The software ring has none of these, and makes its calls by the operation and not by the tick.
fn kernel() -> Builder {
    Builder::new().ring(RingKind::Kernel)
}

/// As the one of `common`, on the kernel's ring.
fn run_here<F: Future>(future: F) -> F::Output {
    let _turn = common::turn_on_software_ring();
    bounded(|| build_runtime(kernel()).block_on(future))
}

fn spinning(longest: Duration) -> annulus::Runtime {
    build_runtime(kernel().spin(longest))
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
            // One submits the send, one submits the receive and waits. A wait that ends early (a
            // signal) takes one more.
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
            // The answer may be there before the first look, so one round may not tell.
            while annulus::metrics().spins_paid == 0 {
                stream.write_all(vec![1]).await.expect("written");
                stream.read(vec![0]).await.expect("read");
            }
        });
        peer.join().expect("the peer ends");
        assert_eq!(runtime.metrics().spins_unpaid, 0);
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
            for round in 1.. {
                if annulus::metrics().spins_paid > 0 {
                    break;
                }
                to_waker
                    .send(poll_fn(|context| Poll::Ready(context.waker().clone())).await)
                    .expect("the other thread listens");
                poll_fn(|_| {
                    if woken.load(Ordering::SeqCst) < round {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    }
                })
                .await;
            }
        });
        drop(to_waker);
        other.join().expect("it ends");
        assert_eq!(runtime.metrics().spins_unpaid, 0);
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
        // Eight in a row, then trials after 16, 32, 64 … waits, and all that again after one that
        // happened to pay.
        assert!(spins_unpaid <= (spins_paid + 1) * 20, "{spins_paid} paid, {spins_unpaid} did not");
        assert!(spins_unpaid > 0);
    });
}

#[test]
fn a_minimal_wait_gathers_completions_into_one_tick() {
    const STREAMS: u64 = 8;
    bounded(|| {
        let runtime = build_runtime(kernel().min_wait(STREAMS as u32, VERY_LONG));
        if !runtime.ring().granted().contains(&"MIN_TIMEOUT") {
            return println!("this kernel has no minimal waits");
        }
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (0..STREAMS).map(|_| unix::net::UnixStream::pair().expect("a pair")).unzip();
        let (go, starts) = mpsc::channel();
        let peer = std::thread::spawn(move || {
            for () in starts {
                for mut stream in &theirs {
                    stream.write_all(&[1]).expect("written");
                    std::thread::yield_now();
                }
            }
        });
        runtime.block_on(async {
            let streams: Vec<_> = ours.into_iter().map(UnixStream::from).collect();
            let before = annulus::metrics();
            for _ in 0..10 {
                let reads = join_all(streams.iter().map(|stream| stream.read(vec![0])));
                go.send(()).expect("the peer listens");
                for read in reads.await {
                    read.expect("read");
                }
            }
            let enters = annulus::metrics().enters - before.enters;
            // A signal may end a wait early, which takes another.
            assert!(enters <= 20, "{enters} enters for 10 rounds of {STREAMS} reads");
        });
        drop(go);
        peer.join().expect("it ends");
    });
}

#[test]
fn a_minimal_wait_ends_with_one_completion_when_there_are_no_more() {
    bounded(|| {
        let runtime = build_runtime(kernel().min_wait(8, Duration::from_millis(1)));
        runtime.block_on(async {
            annulus::no_op().await.expect("a no-op");
            time::sleep(Duration::from_millis(2)).await;
        });
    });
}

#[test]
fn an_idle_runtime_is_not_woken_by_its_minimal_wait() {
    bounded(|| {
        let runtime = build_runtime(kernel().min_wait(8, Duration::from_micros(100)));
        runtime.block_on(time::sleep(Duration::from_millis(200)));
        let enters = runtime.metrics().enters;
        assert!(enters < 20, "{enters} enters in one sleep");
    });
}

#[test]
fn a_runtime_with_a_minimal_wait_ends_at_once_with_operations_in_flight() {
    // As many as it waits for, fewer, and one.
    for count in [8, 3, 1] {
        bounded(|| {
            let pool = common::Pool::default();
            let runtime = build_runtime(kernel().min_wait(8, VERY_LONG));
            if !runtime.ring().granted().contains(&"MIN_TIMEOUT") {
                return println!("this kernel has no minimal waits");
            }
            let (ours, theirs): (Vec<_>, Vec<_>) =
                (0..2 * count).map(|_| unix::net::UnixStream::pair().expect("a pair")).unzip();
            for (number, stream) in ours.into_iter().map(UnixStream::from).enumerate() {
                let buffer = pool.empty(64);
                runtime.spawn(async move {
                    match number % 2 {
                        0 => drop(stream.read(buffer).await),
                        _ => drop(stream.chunks().next().await),
                    }
                });
            }
            runtime.block_on(common::turns(2));
            assert_eq!(runtime.metrics().operations_in_flight, 2 * count);
            drop(runtime);
            pool.assert_all_back();
            drop(theirs);
        });
    }
}

/// A runtime whose entries a thread of the kernel submits.
fn polled(idle: Duration) -> annulus::Runtime {
    let runtime = build_runtime(kernel().entries(64).sqpoll(idle));
    assert!(runtime.ring().granted().contains(&"SQPOLL"), "{}", runtime.ring());
    assert!(!runtime.ring().granted().contains(&"DEFER_TASKRUN"), "{}", runtime.ring());
    runtime
}

/// Operations of every sort, more of them than the queue has places, cancels, timers and dropped
/// futures.
async fn a_bit_of_everything() {
    for result in join_all((0..1000).map(|_| annulus::no_op())).await {
        result.expect("a no-op");
    }

    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let echo = annulus::spawn(async move {
        loop {
            let (count, buffer) = theirs.read(vec![0; 64]).await.expect("read");
            if count == 0 {
                return;
            }
            theirs.write_all(buffer).await.expect("written");
        }
    });
    for round in 0..100u8 {
        ours.write_all(vec![round; 32]).await.expect("written");
        assert_eq!(ours.read_exact(vec![0; 32]).await.expect("read"), [round; 32]);
    }
    let late =
        ours.read(vec![0; 8]).timeout(Duration::from_millis(2)).await.expect_err("nobody writes");
    assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    let mut read = Box::pin(ours.read(vec![0; 8]));
    assert!(common::poll_in_task(&mut read).await.is_pending());
    drop(read);
    ours.close().await.expect("closed");
    echo.await.expect("it ends");

    let directory = common::scratch_dir();
    let path = directory.path().join("file");
    let content: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    annulus::fs::write(&path, content.clone()).await.expect("written");
    assert_eq!(annulus::fs::read(&path).await.expect("read"), content);

    let listener = annulus::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    for _ in 0..20 {
        let (connected, accepted) =
            futures_util::join!(annulus::net::TcpStream::connect(address), listener.accept());
        let (connected, (accepted, _)) =
            (connected.expect("connected"), accepted.expect("accepted"));
        connected.write_all(b"hello".to_vec()).await.expect("written");
        drop(connected);
        assert_eq!(accepted.read_exact(vec![0; 5]).await.expect("read"), b"hello");
    }

    // Each is earlier than the alarm that is armed for those before it.
    let sleeps = (1..20).rev().map(|milliseconds| time::sleep(Duration::from_millis(milliseconds)));
    join_all(sleeps).await;
    let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let mut woken = false;
    let other = std::thread::spawn(move || waker.wake());
    poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
    other.join().expect("it woke");
}

#[test]
fn a_ring_with_a_submission_thread_does_everything() {
    // With the shorter time the thread goes to sleep between operations, with the longer it never
    // does.
    for idle in [Duration::from_millis(1), Duration::from_secs(2)] {
        bounded(move || {
            let runtime = polled(idle);
            runtime.block_on(a_bit_of_everything());
            runtime.block_on(common::quiet());
            let Metrics { stale_completions, operations_in_flight, .. } = runtime.metrics();
            assert_eq!((stale_completions, operations_in_flight), (0, 0));
        });
    }
}

#[test]
fn a_ring_with_a_submission_thread_ends_with_operations_in_flight() {
    bounded(|| {
        let pool = common::Pool::default();
        let runtime = polled(Duration::from_millis(1));
        let (ours, theirs) = unix::net::UnixStream::pair().expect("a pair");
        let stream = UnixStream::from(ours);
        let buffer = pool.empty(512);
        runtime.spawn(async move { drop(stream.read(buffer).await) });
        runtime.block_on(common::turns(3));
        assert_eq!(runtime.metrics().operations_in_flight, 1);
        drop(runtime);
        pool.assert_all_back();
        drop(theirs);
    });
}

#[test]
fn a_submission_thread_that_is_awake_takes_entries_without_a_call() {
    bounded(|| {
        let runtime = build_runtime(kernel().sqpoll(Duration::from_secs(60)).spin(VERY_LONG));
        runtime.block_on(async {
            annulus::no_op().await.expect("a no-op");
            let before = annulus::metrics();
            for _ in 0..100 {
                annulus::no_op().await.expect("a no-op");
            }
            let after = annulus::metrics();
            assert_eq!(
                (after.submissions - before.submissions, after.enters - before.enters),
                (100, 0)
            );
        });
    });
}

#[test]
fn a_submission_thread_on_a_processor_that_is_not_there_is_refused_with_the_reason() {
    let error = kernel().sqpoll_on(Duration::from_millis(1), 100_000).build().expect_err("refused");
    assert!(error.to_string().contains("processor 100000"), "{error}");
    let setup = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<annulus::SetupError>())
        .expect("an explanation");
    assert_eq!(setup.raw_os_error(), Some(libc::EINVAL));
    assert!(setup.remedy().contains("another processor"), "{}", setup.remedy());
}
