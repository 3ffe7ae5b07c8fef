//! Spawning, joining, aborting, panics, and the end of tasks.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use annulus::{JoinError, JoinHandle, spawn, time, yield_now};
use futures_util::future::join;

use crate::common::{self, poll_in_task, run_here, turns, watchdog};
use crate::{Bomb, Drops, hold};

#[test]
fn a_handle_yields_what_the_task_returns() {
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
        let handle = spawn(async { 7 });
        turns(1).await;
        handle.abort();
        turns(1).await;
        assert_eq!(handle.await.expect("it had ended"), 7);
    });
}

#[test]
fn a_task_that_aborts_itself_ends_at_its_next_await() {
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
        let number = std::hint::black_box(7);
        let error = spawn(async move { panic!("number {number}") }).await.expect_err("a panic");
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.to_string(), "task panicked: number 7");
        assert!(format!("{error:?}").contains("number 7"));
        assert_eq!(
            error.into_panic().downcast_ref::<String>().map(String::as_str),
            Some("number 7")
        );

        let error = spawn(async { panic!("plain") }).await.expect_err("a panic");
        assert_eq!(error.to_string(), "task panicked: plain");
        let error = std::io::Error::from(error);
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (std::io::ErrorKind::Other, "task panicked: plain")
        );

        let error = spawn(async { std::panic::panic_any(3) }).await.expect_err("a panic");
        assert!(error.to_string().starts_with("task panicked: "));
        assert_eq!(
            error.try_into_panic().map(|payload| payload.downcast_ref().copied()).ok(),
            Some(Some(3))
        );
    });
}

#[test]
fn a_cancelled_task_has_no_panic_to_give() {
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
        let handle = spawn(Both(Bomb("the future")));
        turns(3).await;
        assert!(handle.is_finished());
        assert!(handle.await.map(drop).expect_err("a panic").is_panic());
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_handle_may_be_awaited_by_another_task_and_in_a_select() {
    run_here(async {
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
    run_here(async {
        let mut handle = spawn(async {});
        (&mut handle).await.expect("no panic");
        let _ = (&mut handle).await;
    });
}

#[test]
fn a_hundred_thousand_tasks_all_run() {
    run_here(async {
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
        assert_eq!(sum.get(), (0..100_000).sum::<u64>());
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn tasks_that_yield_take_turns() {
    run_here(async {
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
fn tasks_are_dropped_once_each_at_the_end_of_their_runtime() {
    let _watchdog = watchdog();
    let drops = Drops::default();
    let runtime = common::runtime();
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
    let runtime = common::runtime();
    let (ended, waiting) = (runtime.spawn(async { 1 }), runtime.spawn(hold(())));
    runtime.block_on(turns(2));
    drop(runtime);
    assert!(ended.is_finished() && waiting.is_finished());
    waiting.abort();
    common::runtime().block_on(async {
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
    let runtime = common::runtime();
    for _ in 0..3 {
        drop(runtime.spawn(hold(SpawnOnDrop(Rc::clone(&handles), drops.clone()))));
    }
    runtime.block_on(turns(1));
    drop(runtime);
    assert_eq!((handles.borrow().len(), drops.count()), (3, 3));
    for handle in handles.take() {
        assert!(common::runtime().block_on(handle).expect_err("cancelled").is_cancelled());
    }
}

#[test]
fn a_panic_in_a_drop_at_the_end_of_the_runtime_spares_the_other_tasks() {
    let _watchdog = watchdog();
    let drops = Drops::default();
    let runtime = common::runtime();
    drop(runtime.spawn(hold(drops.guard())));
    let bomb = runtime.spawn(hold(Bomb("at the end")));
    drop(runtime.spawn(hold(drops.guard())));
    runtime.block_on(turns(1));
    drop(runtime);
    assert_eq!(drops.count(), 2);
    assert_eq!(
        common::runtime().block_on(bomb).expect_err("a panic").to_string(),
        "task panicked: at the end"
    );
}

#[test]
fn a_busy_task_on_one_thread_leaves_the_runtime_of_another_alone() {
    let _watchdog = watchdog();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let busy = thread::spawn(move || {
        common::runtime().block_on(async {
            while !seen.load(Ordering::SeqCst) {
                yield_now().await;
            }
        });
    });
    let start = Instant::now();
    common::runtime().block_on(time::sleep(Duration::from_millis(5)));
    assert!(start.elapsed() >= Duration::from_millis(5));
    stop.store(true, Ordering::SeqCst);
    busy.join().expect("no panic");
}

/// Spawns a task with a future and an output of `SIZE` bytes and more, and checks what arrives.
async fn carry<const SIZE: usize>(drops: &Drops) {
    let content: [u8; SIZE] = std::array::from_fn(|index| index as u8);
    let guard = drops.guard();
    let task = spawn(async move {
        yield_now().await;
        (content, guard)
    });
    let (arrived, guard) = task.await.expect("no panic");
    assert!(arrived == content, "{SIZE} bytes");
    drop(guard);
    let guard = drops.guard();
    let aborted = spawn(async move {
        std::future::pending::<()>().await;
        drop(guard);
        content
    });
    turns(1).await;
    aborted.abort();
    assert!(aborted.await.expect_err("aborted").is_cancelled());
    let guard = drops.guard();
    drop(spawn(async move { (content, guard) }));
    turns(1).await;
}

#[test]
fn futures_and_results_of_all_sizes_arrive_whole_and_are_dropped_once() {
    run_here(async {
        let drops = Drops::default();
        carry::<0>(&drops).await;
        carry::<1>(&drops).await;
        carry::<24>(&drops).await;
        carry::<100>(&drops).await;
        carry::<500>(&drops).await;
        carry::<1900>(&drops).await;
        carry::<2100>(&drops).await;
        carry::<50_000>(&drops).await;
        assert_eq!((drops.count(), annulus::metrics().tasks), (8 * 3, 0));
    });
}

#[test]
fn futures_and_results_lie_where_their_types_demand_it() {
    #[repr(align(128))]
    #[derive(Clone, Copy)]
    struct Aligned(u8);
    #[repr(align(16))]
    struct Less(u8);
    fn is_aligned<T>(value: &T) -> bool {
        (&raw const *value).addr().is_multiple_of(align_of::<T>())
    }
    run_here(async {
        for number in 0..40 {
            let aligned = Aligned(number);
            let task = spawn(async move {
                let aligned = aligned;
                yield_now().await;
                assert!(is_aligned(&aligned));
                aligned
            });
            assert_eq!(task.await.expect("no panic").0, number);
            let less = Less(number);
            let task = spawn(async move {
                let less = less;
                yield_now().await;
                assert!(is_aligned(&less));
                less.0
            });
            assert_eq!(task.await.expect("no panic"), number);
        }
    });
}

#[test]
fn abort_handles_outlive_their_task_its_handle_and_its_runtime() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let (ended, waiting) = (runtime.spawn(async {}), runtime.spawn(hold(())));
    let mut handles: Vec<_> = [&ended, &waiting].iter().map(|task| task.abort_handle()).collect();
    handles.extend(handles.clone());
    runtime.block_on(async {
        turns(1).await;
        drop(ended);
        // Many tasks, none of which takes the place of one that somebody can still abort.
        for _ in 0..1000 {
            let next = spawn(async {});
            handles[0].abort();
            assert!(next.await.is_ok());
        }
    });
    assert_eq!(
        handles.iter().map(|handle| handle.is_finished()).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    drop(runtime);
    drop(waiting);
    assert!(handles.iter().all(|handle| handle.is_finished()));
    handles.iter().for_each(annulus::AbortHandle::abort);
}

#[test]
fn a_handle_that_is_dropped_by_the_waker_that_its_task_wakes_is_no_trouble() {
    struct DropOnWake(std::sync::Mutex<Option<SendAnyway>>);
    /// It never leaves this thread.
    struct SendAnyway(#[allow(dead_code)] JoinHandle<super::Guard>);
    // SAFETY: the test wakes on the thread that made it.
    #[allow(unsafe_code)]
    unsafe impl Send for SendAnyway {}
    impl std::task::Wake for DropOnWake {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().expect("no panic").take());
        }
    }
    run_here(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let mut handle = spawn(async move { guard });
        let waker = Arc::new(DropOnWake(std::sync::Mutex::default()));
        let polled =
            Pin::new(&mut handle).poll(&mut Context::from_waker(&Arc::clone(&waker).into()));
        assert!(polled.is_pending());
        *waker.0.lock().expect("no panic") = Some(SendAnyway(handle));
        turns(1).await;
        assert_eq!((drops.count(), annulus::metrics().tasks), (1, 0));
        let tasks: Vec<_> = (0..100).map(|number| spawn(async move { number })).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.expect("no panic"), number);
        }
    });
}
