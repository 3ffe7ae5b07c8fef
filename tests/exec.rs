//! Tasks: spawning, joining, aborting, panics, wakes from everywhere, fairness.

mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use annulus::net::UnixStream;
use annulus::{JoinError, JoinHandle, spawn, spawn_blocking, time, yield_now};
use futures_util::future::join;
use support::{poll_in_task, run, turns, watchdog};

/// Counts its drops.
#[derive(Clone, Default)]
struct Drops(Rc<Cell<usize>>);

impl Drops {
    fn guard(&self) -> Guard {
        Guard(Rc::clone(&self.0))
    }

    fn count(&self) -> usize {
        self.0.get()
    }
}

struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// A future that waits for ever and owns something.
async fn hold<T>(_owned: T) {
    std::future::pending::<()>().await;
}

/// A waker that can be taken out of the task it belongs to, and a count of polls.
#[derive(Clone, Default)]
struct Probe {
    waker: Arc<Mutex<Option<Waker>>>,
    polls: Arc<AtomicUsize>,
}

impl Probe {
    /// A task that counts its polls and never ends.
    async fn pend(self) {
        poll_fn(|context| {
            self.polls.fetch_add(1, Ordering::SeqCst);
            *self.waker.lock().expect("no panic") = Some(context.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }

    fn waker(&self) -> Waker {
        self.waker.lock().expect("no panic").clone().expect("it was polled")
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

/// A value that a thread sets and a future waits for.
#[derive(Clone, Default)]
struct Signal(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Signal {
    fn set(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        if let Some(waker) = self.0.1.lock().expect("no panic").take() {
            waker.wake();
        }
    }

    fn wait(&self) -> impl Future<Output = ()> + use<> {
        let signal = self.clone();
        poll_fn(move |context| {
            *signal.0.1.lock().expect("no panic") = Some(context.waker().clone());
            if signal.0.0.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

#[test]
fn a_handle_yields_what_the_task_returns() {
    run(async {
        let handle = spawn(async { 1 + 1 });
        assert!(!handle.is_finished());
        assert_eq!(handle.await.expect("no panic"), 2);
        let late = spawn(async {
            yield_now().await;
            String::from("late")
        });
        turns(3).await;
        assert!(late.is_finished());
        assert_eq!(late.await.expect("no panic"), "late");
    });
}

#[test]
fn a_dropped_handle_detaches_its_task() {
    run(async {
        let ended = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ended);
        drop(spawn(async move {
            turns(3).await;
            flag.set(true);
        }));
        while !ended.get() {
            yield_now().await;
        }
        turns(1).await;
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_once() {
    run(async {
        let drops = Drops::default();
        let (detached, kept) = (drops.guard(), drops.guard());
        drop(spawn(async move { detached }));
        let handle = spawn(async move { kept });
        turns(2).await;
        assert_eq!(drops.count(), 1);
        drop(handle);
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_task_aborted_before_its_first_poll_never_runs() {
    run(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let handle = spawn(async move {
            let _guard = guard;
            unreachable!("it was aborted");
        });
        handle.abort();
        let result: Result<(), JoinError> = handle.await;
        assert!(result.expect_err("aborted").is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_task_aborted_while_it_waits_is_dropped_where_it_stands() {
    run(async {
        let drops = Drops::default();
        let handle = spawn(hold(drops.guard()));
        turns(1).await;
        handle.abort();
        handle.abort();
        assert_eq!(drops.count(), 0, "abort itself drops nothing");
        let error = handle.await.expect_err("aborted");
        assert!(error.is_cancelled() && !error.is_panic());
        assert_eq!((drops.count(), annulus::metrics().tasks), (1, 0));
    });
}

#[test]
fn a_task_aborted_after_its_end_keeps_its_result() {
    run(async {
        let handle = spawn(async { 7 });
        turns(1).await;
        handle.abort();
        turns(1).await;
        assert_eq!(handle.await.expect("it had ended"), 7);
    });
}

#[test]
fn a_task_that_aborts_itself_ends_at_its_next_await() {
    run(async {
        let own: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let (slot, drops) = (Rc::clone(&own), Drops::default());
        let guard = drops.guard();
        *own.borrow_mut() = Some(spawn(async move {
            let _guard = guard;
            slot.borrow().as_ref().expect("stored").abort();
            assert!(!slot.borrow().as_ref().expect("stored").is_finished());
            yield_now().await;
            unreachable!("it was aborted");
        }));
        let handle = poll_fn(|_| own.borrow_mut().take().map_or(Poll::Pending, Poll::Ready));
        turns(3).await;
        assert!(handle.await.await.expect_err("aborted").is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_task_that_aborts_itself_and_returns_keeps_its_result() {
    run(async {
        let own: Rc<RefCell<Option<JoinHandle<i32>>>> = Rc::default();
        let slot = Rc::clone(&own);
        *own.borrow_mut() = Some(spawn(async move {
            slot.borrow().as_ref().expect("stored").abort();
            5
        }));
        turns(2).await;
        let handle = own.borrow_mut().take().expect("stored");
        assert_eq!(handle.await.expect("it returned"), 5);
    });
}

#[test]
fn an_aborted_task_that_drops_its_own_handle_and_aborts_others_on_the_way_is_no_trouble() {
    struct AbortOnDrop(Vec<JoinHandle<()>>);
    impl Drop for AbortOnDrop {
        fn drop(&mut self) {
            for handle in self.0.drain(..) {
                handle.abort();
            }
            drop(spawn(async {}));
        }
    }
    run(async {
        let drops = Drops::default();
        let others = (0..10).map(|_| spawn(hold(drops.guard()))).collect();
        let first = spawn(hold(AbortOnDrop(others)));
        turns(1).await;
        first.abort();
        assert!(first.await.expect_err("aborted").is_cancelled());
        turns(2).await;
        assert_eq!((drops.count(), annulus::metrics().tasks), (10, 0));
    });
}

#[test]
fn a_panic_in_a_task_comes_out_of_its_handle_and_nowhere_else() {
    run(async {
        let number = std::hint::black_box(7);
        let error = spawn(async move { panic!("number {number}") }).await.expect_err("a panic");
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.to_string(), "task panicked: number 7");
        assert!(format!("{error:?}").contains("number 7"));
        assert_eq!(error.into_panic().downcast_ref::<String>().map(String::as_str), Some("number 7"));

        let error = spawn(async { panic!("plain") }).await.expect_err("a panic");
        assert_eq!(error.to_string(), "task panicked: plain");
        let error = std::io::Error::from(error);
        assert_eq!((error.kind(), error.to_string().as_str()), (std::io::ErrorKind::Other, "task panicked: plain"));

        let error = spawn(async { std::panic::panic_any(3) }).await.expect_err("a panic");
        assert!(error.to_string().starts_with("task panicked: "));
        assert_eq!(error.try_into_panic().map(|payload| payload.downcast_ref().copied()).ok(), Some(Some(3)));
    });
}

#[test]
fn a_cancelled_task_has_no_panic_to_give() {
    run(async {
        let handle = spawn(hold(()));
        handle.abort();
        let error = handle.await.expect_err("aborted");
        assert_eq!(error.to_string(), "task was cancelled");
        let error = error.try_into_panic().map(drop).expect_err("no panic");
        assert!(error.is_cancelled());
        assert!(catch_unwind(AssertUnwindSafe(|| error.into_panic())).is_err());
    });
}

#[test]
fn a_panic_in_a_futures_drop_counts_as_the_tasks_panic() {
    run(async {
        let aborted = spawn(hold(Bomb("in the drop")));
        turns(1).await;
        aborted.abort();
        assert_eq!(aborted.await.expect_err("a panic").to_string(), "task panicked: in the drop");

        struct ReadyBomb(#[allow(dead_code)] Bomb);
        impl Future for ReadyBomb {
            type Output = i32;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<i32> {
                Poll::Ready(1)
            }
        }
        let ended = spawn(ReadyBomb(Bomb("after the end")));
        assert_eq!(ended.await.expect_err("a panic").to_string(), "task panicked: after the end");
        assert_eq!(spawn(async { 1 }).await.expect("the loop goes on"), 1);
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_panic_in_the_drop_of_a_detached_result_goes_nowhere() {
    run(async {
        drop(spawn(async { Bomb("detached") }));
        turns(3).await;
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_task_whose_future_and_result_both_panic_in_their_drops_still_ends() {
    struct Both(#[allow(dead_code)] Bomb);
    impl Future for Both {
        type Output = Bomb;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Bomb> {
            Poll::Ready(Bomb("the result"))
        }
    }
    run(async {
        let handle = spawn(Both(Bomb("the future")));
        turns(3).await;
        assert!(handle.is_finished());
        assert!(handle.await.map(drop).expect_err("a panic").is_panic());
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_handle_may_be_awaited_by_another_task_and_in_a_select() {
    run(async {
        let slow = spawn(async {
            turns(5).await;
            "slow"
        });
        let joiner = spawn(slow);
        assert_eq!(joiner.await.expect("no panic").expect("no panic"), "slow");
        let mut handle = spawn(async {
            turns(5).await;
            3
        });
        assert!(poll_in_task(&mut handle).await.is_pending());
        let (left, right) = join(handle, spawn(async { 4 })).await;
        assert_eq!((left.expect("no panic"), right.expect("no panic")), (3, 4));
    });
}

#[test]
#[should_panic(expected = "JoinHandle polled after it returned the result")]
fn a_handle_that_is_polled_after_its_result_panics() {
    run(async {
        let mut handle = spawn(async {});
        (&mut handle).await.expect("no panic");
        let _ = (&mut handle).await;
    });
}

#[test]
fn a_hundred_thousand_tasks_all_run() {
    run(async {
        let sum = Rc::new(Cell::new(0u64));
        let handles: Vec<_> = (0..100_000u64)
            .map(|number| {
                let sum = Rc::clone(&sum);
                spawn(async move {
                    if number % 2 == 0 {
                        yield_now().await;
                    }
                    sum.set(sum.get() + number);
                })
            })
            .collect();
        for handle in handles {
            handle.await.expect("no panic");
        }
        assert_eq!(sum.get(), (0..100_000).sum());
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn tasks_that_yield_take_turns() {
    run(async {
        let order: Rc<RefCell<Vec<usize>>> = Rc::default();
        let handles: Vec<_> = (0..3)
            .map(|name| {
                let order = Rc::clone(&order);
                spawn(async move {
                    for _ in 0..50 {
                        order.borrow_mut().push(name);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.await.expect("no panic");
        }
        let expected: Vec<usize> = (0..150).map(|turn| turn % 3).collect();
        assert_eq!(*order.borrow(), expected);
    });
}

#[test]
fn a_task_that_is_woken_many_times_before_it_runs_is_polled_once() {
    run(async {
        let probe = Probe::default();
        drop(spawn(probe.clone().pend()));
        turns(1).await;
        assert_eq!(probe.polls(), 1);
        for _ in 0..1000 {
            probe.waker().wake_by_ref();
        }
        turns(2).await;
        assert_eq!(probe.polls(), 2);
    });
}

#[test]
fn a_wake_after_the_end_of_a_task_wakes_nobody() {
    run(async {
        let probe = Probe::default();
        let handle = spawn(probe.clone().pend());
        turns(1).await;
        let waker = probe.waker();
        handle.abort();
        assert!(handle.await.expect_err("aborted").is_cancelled());
        // The next task takes the same place.
        let next = Probe::default();
        drop(spawn(next.clone().pend()));
        turns(1).await;
        waker.wake_by_ref();
        let other_thread = waker.clone();
        thread::spawn(move || other_thread.wake()).join().expect("no panic");
        turns(2).await;
        assert_eq!(next.polls(), 1);
    });
}

#[test]
fn a_wake_after_the_end_of_the_runtime_is_harmless_even_when_another_has_taken_its_place() {
    let _watchdog = watchdog();
    let mut old = Vec::new();
    for _ in 0..3 {
        let probe = Probe::default();
        let runtime = support::runtime();
        runtime.block_on(async {
            drop(spawn(probe.clone().pend()));
            turns(1).await;
        });
        let root: Waker = runtime.block_on(poll_fn(|context| Poll::Ready(context.waker().clone())));
        drop(runtime);
        old.extend([probe.waker(), root]);
        let wakers = old.clone();
        thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().expect("no panic");
        old.iter().for_each(Waker::wake_by_ref);
    }
    run(async {
        let probe = Probe::default();
        drop(spawn(probe.clone().pend()));
        turns(1).await;
        for waker in &old {
            waker.wake_by_ref();
            let waker = waker.clone();
            thread::spawn(move || waker.wake()).join().expect("no panic");
        }
        turns(2).await;
        assert!(probe.polls() <= 1 + 2 * old.len(), "at worst a poll too many for each stale wake");
        assert_eq!(spawn(async { 5 }).await.expect("no panic"), 5);
    });
}

#[test]
fn a_parked_runtime_is_woken_by_another_thread() {
    run(async {
        for _ in 0..200 {
            let signal = Signal::default();
            let setter = signal.clone();
            let thread = thread::spawn(move || setter.set());
            signal.wait().await;
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_spawned_task_is_woken_by_another_thread_while_the_root_waits_for_it() {
    run(async {
        for _ in 0..100 {
            let signal = Signal::default();
            let task = spawn(signal.wait());
            let thread = thread::spawn(move || signal.set());
            task.await.expect("no panic");
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn no_wake_of_a_thread_is_lost_between_two_waits() {
    // Ping-pong: a lost wake is a hang.
    run(async {
        let (sender, receiver) = mpsc::channel::<Signal>();
        let thread = thread::spawn(move || {
            for signal in receiver {
                signal.set();
            }
        });
        for round in 0..5000 {
            let signal = Signal::default();
            sender.send(signal.clone()).expect("the thread lives");
            if round % 3 == 0 {
                yield_now().await;
            }
            signal.wait().await;
        }
        drop(sender);
        thread.join().expect("no panic");
    });
}

#[test]
fn a_hundred_thousand_wakes_of_a_busy_runtime_are_few_polls_and_none_is_lost() {
    run(async {
        let probe = Probe::default();
        drop(spawn(probe.clone().pend()));
        turns(1).await;
        let waker = probe.waker();
        let thread = thread::spawn(move || {
            for _ in 0..100_000 {
                waker.wake_by_ref();
            }
        });
        // Busy: it looks at no inbox while this lasts.
        thread.join().expect("no panic");
        turns(3).await;
        assert_eq!(probe.polls(), 2, "one poll for all of them");

        let counter = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&counter);
        let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
        let theirs = Arc::clone(&waker);
        let thread = thread::spawn(move || {
            for _ in 0..100_000 {
                shared.fetch_add(1, Ordering::SeqCst);
                if let Some(waker) = &*theirs.lock().expect("no panic") {
                    waker.wake_by_ref();
                }
            }
        });
        poll_fn(|context| {
            *waker.lock().expect("no panic") = Some(context.waker().clone());
            if counter.load(Ordering::SeqCst) == 100_000 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        thread.join().expect("no panic");
    });
}

#[test]
fn wakes_of_many_tasks_from_many_threads_all_arrive() {
    run(async {
        let signals: Vec<Signal> = (0..4000).map(|_| Signal::default()).collect();
        let tasks: Vec<_> = signals.iter().map(|signal| spawn(signal.wait())).collect();
        turns(40).await;
        let threads: Vec<_> = signals
            .chunks(1000)
            .map(|chunk| {
                let chunk = chunk.to_vec();
                thread::spawn(move || chunk.iter().for_each(Signal::set))
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

/// Runs `future` beside a spawned task that is always ready, and beside a root that is always ready.
fn beside_a_busy_loop<F: Future<Output = ()> + 'static>(make: impl Fn() -> F) {
    run(async {
        let busy = spawn(async {
            loop {
                yield_now().await;
            }
        });
        make().await;
        busy.abort();
        let _ = busy.await;

        let task = spawn(make());
        while !task.is_finished() {
            yield_now().await;
        }
        task.await.expect("no panic");
    });
}

#[test]
fn a_task_that_always_yields_does_not_starve_completions() {
    beside_a_busy_loop(|| async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        for _ in 0..20 {
            let (sent, received) = join(theirs.write_all(vec![1; 10]), ours.read_exact(vec![0; 10])).await;
            assert!(sent.is_ok() && received.is_ok());
        }
        annulus::fs::metadata("/").await.expect("the root directory");
    });
}

#[test]
fn a_task_that_always_yields_does_not_starve_timers() {
    beside_a_busy_loop(|| async {
        for _ in 0..5 {
            time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_task_that_always_yields_does_not_starve_wakes_of_other_threads() {
    beside_a_busy_loop(|| async {
        for _ in 0..20 {
            let signal = Signal::default();
            let setter = signal.clone();
            let thread = thread::spawn(move || setter.set());
            signal.wait().await;
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_future_that_wakes_itself_at_once_lets_the_others_run() {
    run(async {
        let stop = Rc::new(Cell::new(false));
        let seen = Rc::clone(&stop);
        let greedy = spawn(poll_fn(move |context| {
            context.waker().wake_by_ref();
            if seen.get() { Poll::Ready(()) } else { Poll::Pending }
        }));
        time::sleep(Duration::from_millis(1)).await;
        stop.set(true);
        greedy.await.expect("no panic");
    });
}

#[test]
fn a_blocking_job_returns_its_result_while_the_loop_goes_on() {
    run(async {
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
    run(async {
        let error = spawn_blocking(|| panic!("off the loop")).await.expect_err("a panic");
        assert_eq!(error.to_string(), "task panicked: off the loop");
    });
}

#[test]
fn a_blocking_job_whose_handle_is_dropped_runs_all_the_same() {
    run(async {
        let signal = Signal::default();
        let setter = signal.clone();
        drop(spawn_blocking(move || setter.set()));
        signal.wait().await;
    });
}

#[test]
fn an_aborted_blocking_job_that_has_begun_runs_to_its_end_and_nobody_waits_for_it() {
    run(async {
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
    run(async {
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

#[test]
fn tasks_are_dropped_once_each_at_the_end_of_their_runtime() {
    let _watchdog = watchdog();
    let drops = Drops::default();
    let runtime = support::runtime();
    for _ in 0..10 {
        drop(runtime.spawn(hold(drops.guard())));
    }
    runtime.block_on(async {
        for _ in 0..10 {
            drop(spawn(hold(drops.guard())));
        }
        turns(1).await;
        for _ in 0..10 {
            drop(spawn(hold(drops.guard())));
        }
    });
    assert_eq!((drops.count(), runtime.metrics().tasks), (0, 30));
    drop(runtime);
    assert_eq!(drops.count(), 30);
}

#[test]
fn a_handle_outlives_its_runtime() {
    let _watchdog = watchdog();
    let runtime = support::runtime();
    let (ended, waiting) = (runtime.spawn(async { 1 }), runtime.spawn(hold(())));
    runtime.block_on(turns(2));
    drop(runtime);
    assert!(ended.is_finished() && waiting.is_finished());
    waiting.abort();
    support::runtime().block_on(async {
        assert_eq!(ended.await.expect("it had ended"), 1);
        assert!(waiting.await.expect_err("its runtime ended").is_cancelled());
    });
}

#[test]
fn a_task_spawned_while_the_runtime_ends_is_cancelled_at_once() {
    struct SpawnOnDrop(Rc<RefCell<Vec<JoinHandle<()>>>>, Drops);
    impl Drop for SpawnOnDrop {
        fn drop(&mut self) {
            let handle = spawn(hold(self.1.guard()));
            assert!(handle.is_finished());
            self.0.borrow_mut().push(handle);
        }
    }
    let _watchdog = watchdog();
    let (handles, drops) = (Rc::default(), Drops::default());
    let runtime = support::runtime();
    for _ in 0..3 {
        drop(runtime.spawn(hold(SpawnOnDrop(Rc::clone(&handles), drops.clone()))));
    }
    runtime.block_on(turns(1));
    drop(runtime);
    assert_eq!((handles.borrow().len(), drops.count()), (3, 3));
    for handle in handles.take() {
        assert!(support::runtime().block_on(handle).expect_err("cancelled").is_cancelled());
    }
}

#[test]
fn a_panic_in_a_drop_at_the_end_of_the_runtime_spares_the_other_tasks() {
    let _watchdog = watchdog();
    let drops = Drops::default();
    let runtime = support::runtime();
    drop(runtime.spawn(hold(drops.guard())));
    let bomb = runtime.spawn(hold(Bomb("at the end")));
    drop(runtime.spawn(hold(drops.guard())));
    runtime.block_on(turns(1));
    drop(runtime);
    assert_eq!(drops.count(), 2);
    assert_eq!(support::runtime().block_on(bomb).expect_err("a panic").to_string(), "task panicked: at the end");
}

#[test]
fn a_busy_task_on_one_thread_leaves_the_runtime_of_another_alone() {
    let _watchdog = watchdog();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let busy = thread::spawn(move || {
        support::runtime().block_on(async {
            while !seen.load(Ordering::SeqCst) {
                yield_now().await;
            }
        });
    });
    let start = Instant::now();
    support::runtime().block_on(time::sleep(Duration::from_millis(5)));
    assert!(start.elapsed() >= Duration::from_millis(5));
    stop.store(true, Ordering::SeqCst);
    busy.join().expect("no panic");
}
