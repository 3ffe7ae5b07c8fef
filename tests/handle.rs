//! Handles: tasks that other threads start on a runtime, and counters that they read.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use annulus::{Handle, block_on, time, yield_now};
use common::watchdog;
use futures_channel::oneshot;

/// A runtime on a thread of its own, which waits until it is told to end.
struct Other {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Other {
    fn start() -> Other {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            block_on(async {
                let (stop, stopped) = oneshot::channel::<()>();
                send.send((Handle::current(), stop)).expect("the test waits");
                let _ = stopped.await;
            });
        });
        let (handle, stop) = receive.recv().expect("it starts");
        Other { handle, stop, thread }
    }

    fn end(self) {
        drop(self.stop);
        self.thread.join().expect("the loop has no panic");
    }
}

/// Tells when it is dropped, and where.
struct Tell(mpsc::Sender<ThreadId>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

/// Asks for one more task when it is dropped, and tells whether that was refused.
struct Asks(Handle, mpsc::Sender<bool>);

impl Drop for Asks {
    fn drop(&mut self) {
        let task = self.0.spawn(|| async {});
        let _ = self.1.send(task.is_finished());
    }
}

#[test]
fn a_parked_runtime_is_woken_for_a_task_that_never_leaves_its_thread() {
    let _watchdog = watchdog();
    let other = Other::start();
    for _ in 0..100 {
        thread::sleep(Duration::from_micros(200));
        let task = other.handle.spawn(|| async {
            // No other thread may have it.
            let counter = Rc::new(Cell::new(1));
            let same = Rc::clone(&counter);
            annulus::spawn(async move { same.set(2) }).await.expect("no panic");
            time::sleep(Duration::from_micros(10)).await;
            (thread::current().id(), counter.get())
        });
        assert_eq!(block_on(task).expect("no panic"), (other.thread.thread().id(), 2));
    }
    other.end();
}

#[test]
fn two_runtimes_start_tasks_on_each_other() {
    let _watchdog = watchdog();
    let other = Other::start();
    let there = other.handle.clone();
    block_on(async move {
        let here = Handle::current();
        for round in 0..100 {
            let here = here.clone();
            let task = there.spawn(move || async move {
                here.spawn(move || async move { round }).await.expect("no panic") + 1
            });
            assert_eq!(task.await.expect("no panic"), round + 1);
        }
    });
    other.end();
}

#[test]
fn a_closure_for_a_runtime_that_has_ended_is_dropped_here_even_if_another_has_its_place() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let handle = runtime.handle();
    drop(runtime);
    let next = common::runtime();
    let (send, dropped) = mpsc::channel();
    let tell = Tell(send);
    let task = handle.spawn(move || async move { drop(tell) });
    assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
    assert!(task.is_finished());
    assert!(next.block_on(task).expect_err("it never ran").is_cancelled());
    assert_eq!(
        format!("{:?}", handle.metrics()),
        format!("{:?}", handle.metrics()),
        "its counters stay"
    );
}

#[test]
fn what_a_runtime_has_not_run_or_not_ended_when_it_ends_is_cancelled() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let handle = runtime.handle();
    let started = handle.spawn(std::future::pending::<()>);
    runtime.block_on(async {
        yield_now().await;
        time::sleep(Duration::from_millis(1)).await;
    });
    let (send, dropped) = mpsc::channel();
    let (first, second) = (Tell(send.clone()), Tell(send));
    let unstarted = handle.spawn(move || async move { drop(first) });
    let (refused, was_refused) = mpsc::channel();
    let asks = Asks(handle.clone(), refused);
    let asks = handle.spawn(move || async move { drop((asks, second)) });
    assert!(!started.is_finished() && !unstarted.is_finished());
    drop(runtime);
    for task in [started, unstarted, asks] {
        assert!(block_on(task).expect_err("it was cancelled").is_cancelled());
    }
    assert_eq!(dropped.iter().count(), 2);
    assert_eq!(was_refused.recv(), Ok(true));
}

#[test]
fn a_panic_in_a_closure_or_in_its_task_comes_out_of_the_handle_and_the_loop_goes_on() {
    let _watchdog = watchdog();
    let other = Other::start();
    let fails = || -> std::future::Ready<()> { panic!("no future") };
    let error = block_on(other.handle.spawn(fails)).expect_err("it panics");
    assert_eq!(error.to_string(), "task panicked: no future");
    let task = other.handle.spawn(|| async {
        yield_now().await;
        panic!("no result");
    });
    let error = block_on(task).expect_err("it panics");
    assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"no result"));
    assert_eq!(block_on(other.handle.spawn(|| async { 3 })).expect("no panic"), 3);
    other.end();
}

#[test]
fn a_dropped_handle_detaches_and_drops_the_result() {
    let _watchdog = watchdog();
    let other = Other::start();
    let (send, dropped) = mpsc::channel();
    let tell = Tell(send);
    drop(other.handle.spawn(|| async move {
        time::sleep(Duration::from_millis(1)).await;
        tell
    }));
    assert_eq!(dropped.recv(), Ok(other.thread.thread().id()));
    other.end();
}

#[test]
fn of_closures_from_many_threads_each_runs_once_and_those_of_one_thread_in_order() {
    const THREADS: usize = 4;
    const TASKS: usize = 2000;
    let _watchdog = watchdog();
    let other = Other::start();
    let started: Arc<[AtomicUsize; THREADS]> = Arc::default();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (handle, started) = (&other.handle, &started);
            scope.spawn(move || {
                let spawn = |number| {
                    let started = Arc::clone(started);
                    handle.spawn(move || {
                        assert_eq!(
                            started[thread].fetch_add(1, Ordering::Relaxed),
                            number,
                            "in order"
                        );
                        async move { number }
                    })
                };
                let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
                for (number, task) in tasks.into_iter().enumerate() {
                    assert_eq!(block_on(task).expect("no panic"), number);
                }
            });
        }
    });
    assert!(started.iter().all(|count| count.load(Ordering::Relaxed) == TASKS));
    other.end();
}

#[test]
fn a_flood_of_closures_keeps_neither_timers_nor_tasks_waiting() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let handle = runtime.handle();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                (0..1000).for_each(|_| drop(handle.spawn(|| async {})));
                // So many wait at the most.
                let last = handle.spawn(|| async {});
                while !last.is_finished() && !is_over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        runtime.block_on(async {
            for _ in 0..20 {
                time::sleep(Duration::from_millis(1)).await;
                yield_now().await;
            }
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn any_thread_reads_the_counters_while_the_loop_runs() {
    let _watchdog = watchdog();
    let other = Other::start();
    let before = other.handle.metrics();
    let task = other.handle.spawn(|| async {
        for _ in 0..1000 {
            annulus::no_op().await.expect("it does nothing");
        }
        annulus::metrics()
    });
    while other.handle.metrics().operations < before.operations + 1000 {
        thread::yield_now();
    }
    let there = block_on(task).expect("no panic");
    assert_eq!(there.operations, before.operations + 1000);
    // The tasks that ran are gone with the turn after them.
    while other.handle.metrics().tasks > 0 {
        thread::yield_now();
    }
    other.end();
}
