//! Wakers that do more than wake: some panic, some poll the future on the spot.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use annulus::net::UnixStream;
use annulus::{spawn, time};

use crate::common::{
    Pool, in_own_process, open_descriptors, poll_in_task, quiet, run_here, runtime, turns, watchdog,
};

/// Panics when it wakes, and counts that.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Panics {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("in a waker");
    }
}

fn panicking() -> (Arc<Panics>, Waker) {
    let panics = Arc::<Panics>::default();
    let waker = Waker::from(Arc::clone(&panics));
    (panics, waker)
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) {
    assert!(Pin::new(future).poll(&mut Context::from_waker(waker)).is_pending());
}

/// Runs the loop although wakers panic in it: each panic may come out once.
fn run_through_panics<F: Future>(runtime: &annulus::Runtime, make: impl Fn() -> F) -> F::Output {
    for _ in 0..100 {
        if let Ok(output) = catch_unwind(AssertUnwindSafe(|| runtime.block_on(make()))) {
            return output;
        }
    }
    panic!("more panics than wakers");
}

#[test]
fn a_panicking_waker_does_not_end_the_end_of_a_runtime_early() {
    in_own_process(|| {
        let before = open_descriptors();
        let pool = Pool::default();
        let (panics, waker) = panicking();
        let runtime = runtime();
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().expect("a pair")).collect();
        let mut reads: Vec<_> = pairs.iter().map(|(ours, _)| ours.read(pool.empty(8))).collect();
        let mut sleep = time::sleep(Duration::from_secs(1000));
        runtime.block_on(async {
            reads.iter_mut().for_each(|read| poll_with(read, &waker));
            poll_with(&mut sleep, &waker);
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let buffer = pool.empty(8);
            drop(spawn(async move {
                let _theirs = theirs;
                drop(ours.read(buffer).await);
            }));
            turns(2).await;
            assert_eq!(annulus::metrics().operations_in_flight, 4);
        });
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        assert!(ended.is_ok(), "nobody is there for the panic");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "nothing was left to the bound of the end"
        );
        assert_eq!(panics.count(), 3, "each operation has ended and said so");
        drop((reads, sleep));
        drop(pairs);
        assert_eq!(open_descriptors(), before, "the ring is closed");
        pool.assert_all_back();
    });
}

#[test]
fn a_panicking_waker_of_a_handle_leaves_no_task_behind() {
    let _watchdog = watchdog();
    let (panics, waker) = panicking();
    let runtime = runtime();
    // Ends by itself, by a panic, and by being aborted.
    let mut handles = [
        runtime.spawn(turns(1)),
        runtime.spawn(async { panic!("in a task") }),
        runtime.spawn(std::future::pending()),
    ];
    handles.iter_mut().for_each(|handle| poll_with(handle, &waker));
    handles[2].abort();
    let other = runtime.spawn(turns(3));
    while !other.is_finished() {
        run_through_panics(&runtime, || turns(1));
    }
    assert_eq!(panics.count(), 3);
    assert!(handles.iter().all(|handle| handle.is_finished()));
    assert_eq!(runtime.metrics().tasks, 0, "no finished task is kept");
}

#[test]
fn a_panicking_waker_of_one_sleep_loses_no_wake_of_another() {
    let _watchdog = watchdog();
    let (panics, waker) = panicking();
    let runtime = runtime();
    // All are due in one tick, so that one list of wakers holds them.
    let deadline = Instant::now() + Duration::from_millis(20);
    let mut bad: Vec<_> = (0..3).map(|_| time::sleep_until(deadline)).collect();
    let mut good = Vec::new();
    runtime.block_on(async {
        for bad in &mut bad {
            good.push(spawn(time::sleep_until(deadline)));
            turns(1).await;
            poll_with(bad, &waker);
            good.push(spawn(time::sleep_until(deadline)));
            turns(1).await;
        }
    });
    while good.iter().any(|handle| !handle.is_finished()) {
        // A lost wake would be waited for in vain.
        run_through_panics(&runtime, || time::sleep(Duration::from_millis(1)));
    }
    assert_eq!(panics.count(), 3);
    assert!(bad.iter().all(time::Sleep::is_elapsed));
    assert_eq!(runtime.metrics().tasks, 0);
}

#[test]
fn a_panicking_waker_of_one_operation_loses_no_completion_of_another() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let (panics, waker) = panicking();
    let runtime = runtime();
    let pairs: Vec<_> = (0..6).map(|_| UnixStream::pair().expect("a pair")).collect();
    let mut reads: Vec<_> = pairs.iter().map(|(ours, _)| ours.read(pool.empty(8))).collect();
    let body = AssertUnwindSafe(|| {
        runtime.block_on(async {
            for (index, read) in reads.iter_mut().enumerate() {
                match index % 2 {
                    0 => poll_with(read, &waker),
                    _ => assert!(poll_in_task(read).await.is_pending()),
                }
            }
            turns(1).await;
            for (_, theirs) in &pairs {
                assert!(poll_in_task(&mut theirs.write("x")).await.is_pending());
            }
            turns(3).await;
        });
    });
    let _ = catch_unwind(body);
    run_through_panics(&runtime, quiet);
    assert_eq!(panics.count(), 3);
    runtime.block_on(async {
        for read in reads {
            assert_eq!(read.await.expect("data").0, 1);
        }
    });
    pool.assert_all_back();
}

thread_local! {
    /// What an [`Inline`] waker polls.
    static POLLED: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>> = const { RefCell::new(None) };
}

/// Polls the future right where it is woken, unless that happens within a poll of it.
struct Inline;

impl Inline {
    fn poll() {
        let waker = Waker::from(Arc::new(Inline));
        POLLED.with(|place| {
            let Ok(mut place) = place.try_borrow_mut() else { return };
            let is_ready = place.as_mut().is_some_and(|future| {
                future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
            });
            if is_ready {
                *place = None;
            }
        });
    }

    fn has_ended() -> bool {
        POLLED.with(|place| place.borrow().is_none())
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        Inline::poll();
    }
}

#[test]
fn closing_ends_when_its_waker_polls_at_once() {
    let close = |stream: UnixStream| -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async { stream.close().await.expect("closed") })
    };
    let into_std = |stream: UnixStream| -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async { drop(stream.into_std().await) })
    };
    for end in [&close as &dyn Fn(UnixStream) -> _, &into_std] {
        for rounds in 0..3 {
            run_here(async {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                let mut read = ours.read(vec![0; 8]);
                assert!(poll_in_task(&mut read).await.is_pending());
                turns(rounds).await;
                drop(read);
                POLLED.with(|place| *place.borrow_mut() = Some(end(ours)));
                Inline::poll();
                while !Inline::has_ended() {
                    turns(1).await;
                }
                let (count, _) = theirs.read(vec![0; 8]).await.expect("the end of the stream");
                assert_eq!(count, 0);
            });
        }
    }
}
