//! Sets of tasks: the order of results, panics, aborting, dropping, detaching, and who is woken.

mod own_set;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use annulus::{AbortHandle, JoinSet, Runtime, block_on, spawn, time, yield_now};

/// Counts its drops.
#[derive(Clone, Default)]
struct Drops(Rc<Cell<usize>>);

impl Drops {
    fn guard(&self) -> impl Sized + use<> {
        let count = Rc::clone(&self.0);
        OnDrop(move || count.set(count.get() + 1))
    }

    fn count(&self) -> usize {
        self.0.get()
    }
}

/// Runs a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future that waits for ever and owns something.
async fn hold<T, R>(_owned: T) -> R {
    pending().await
}

/// Ends with a number after some turns of the loop.
async fn after(turns_to_wait: usize, number: usize) -> usize {
    turns(turns_to_wait).await;
    number
}

/// Lets the other tasks run, without a clock or the ring.
async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Polls `join_next` once and drops it.
fn poll_once<T: 'static>(set: &mut JoinSet<T>, waker: &Waker) -> bool {
    pin!(set.join_next()).poll(&mut Context::from_waker(waker)).is_ready()
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .expect("a text")
}

#[test]
fn results_come_in_the_order_of_completion() {
    block_on(async {
        let mut set = JoinSet::new();
        for (turns_to_wait, number) in [(9, 0), (3, 1), (6, 2), (0, 3)] {
            set.spawn(after(turns_to_wait, number));
        }
        assert_eq!(set.len(), 4);
        let mut seen = Vec::new();
        while let Some(result) = set.join_next().await {
            seen.push(result.expect("no panic"));
        }
        assert_eq!(seen, [3, 1, 2, 0]);
        assert!(set.is_empty());
    });
}

#[test]
fn results_that_wait_in_the_set_keep_their_order() {
    block_on(async {
        let mut set: JoinSet<usize> = [(6, 0), (2, 1), (4, 2)]
            .into_iter()
            .map(|(turns, number)| after(turns, number))
            .collect();
        turns(12).await;
        let seen: Vec<usize> = std::iter::from_fn(|| set.try_join_next())
            .map(|result| result.expect("no panic"))
            .collect();
        assert_eq!(seen, [1, 2, 0]);
    });
}

#[test]
fn an_empty_set_gives_none_at_once() {
    let mut outside = JoinSet::<()>::default();
    assert!(outside.try_join_next().is_none());
    assert!(outside.is_empty());
    assert_eq!(format!("{outside:?}"), "JoinSet { len: 0 }");
    outside.abort_all();
    outside.detach_all();
    block_on(async {
        assert!(poll_once(&mut outside, Waker::noop()));
        assert!(outside.join_next().await.is_none());
        outside.shutdown().await;
        assert!(outside.join_all().await.is_empty());
    });
}

#[test]
fn try_join_next_tells_running_from_ended() {
    block_on(async {
        let mut set = JoinSet::new();
        set.spawn(after(2, 7));
        assert!(set.try_join_next().is_none());
        assert_eq!(set.len(), 1);
        turns(5).await;
        assert_eq!(set.len(), 1, "its result was not taken yet");
        assert_eq!(set.try_join_next().expect("it has ended").expect("no panic"), 7);
        assert!(set.try_join_next().is_none());
        assert!(set.is_empty());
    });
}

#[test]
fn a_panic_ends_its_task_alone() {
    block_on(async {
        let mut set = JoinSet::new();
        set.spawn(async { panic!("the first") });
        set.spawn(after(3, 1));
        let error = set.join_next().await.expect("two tasks").expect_err("a panic");
        assert_eq!(message(&*error.into_panic()), "the first");
        assert_eq!(set.join_next().await.expect("one task").expect("no panic"), 1);
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn a_panic_in_the_drop_of_an_aborted_future_is_reported() {
    block_on(async {
        let mut set = JoinSet::<()>::new();
        set.spawn(hold(OnDrop(|| panic!("in drop"))));
        turns(1).await;
        set.abort_all();
        let error = set.join_next().await.expect("a task").expect_err("a panic");
        assert_eq!(message(&*error.into_panic()), "in drop");
    });
}

#[test]
fn abort_all_is_reported_for_each_task_that_had_not_ended() {
    block_on(async {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        set.spawn(after(0, 5));
        turns(1).await;
        for _ in 0..3 {
            set.spawn(hold(drops.guard()));
        }
        set.abort_all();
        set.abort_all();
        assert_eq!(set.len(), 4);
        assert_eq!(set.join_next().await.expect("four tasks").expect("it had ended"), 5);
        for _ in 0..3 {
            assert!(set.join_next().await.expect("a task").expect_err("aborted").is_cancelled());
        }
        assert_eq!(drops.count(), 3);
        set.spawn(after(0, 6));
        assert_eq!(set.join_all().await, [6], "the set can be used again");
    });
}

#[test]
fn an_abort_handle_ends_one_member() {
    block_on(async {
        let mut set = JoinSet::new();
        let first = set.spawn(pending());
        let second = set.spawn(after(3, 2));
        assert!(!first.is_finished());
        first.clone().abort();
        assert!(set.join_next().await.expect("two tasks").expect_err("aborted").is_cancelled());
        assert!(first.is_finished());
        assert!(!second.is_finished());
        assert_eq!(set.join_next().await.expect("one task").expect("not aborted"), 2);
        second.abort();
        assert!(second.is_finished());
        assert!(format!("{second:?}").contains("finished: true"));
    });
}

#[test]
fn an_abort_handle_does_not_keep_the_result() {
    block_on(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let task = spawn(async move { guard });
        let abort = task.abort_handle();
        turns(2).await;
        assert!(abort.is_finished());
        assert_eq!(drops.count(), 0, "the handle may still ask for it");
        drop(task);
        assert_eq!(drops.count(), 1);
        abort.abort();
        assert!(abort.is_finished());
    });
}

#[test]
fn an_abort_handle_ends_a_task_whose_handle_was_dropped() {
    let abort: AbortHandle = block_on(async {
        let drops = Drops::default();
        let task = spawn(hold::<_, ()>(drops.guard()));
        let abort = task.abort_handle();
        drop(task);
        turns(2).await;
        assert_eq!(drops.count(), 0);
        abort.abort();
        turns(2).await;
        assert_eq!(drops.count(), 1);
        spawn(pending::<()>()).abort_handle()
    });
    assert!(abort.is_finished(), "its runtime has ended");
    abort.abort();
}

#[test]
fn dropping_the_set_drops_every_future_within_a_turn() {
    block_on(async {
        let drops = Drops::default();
        let mut set = JoinSet::<()>::new();
        for _ in 0..10 {
            set.spawn(hold(drops.guard()));
        }
        turns(1).await;
        set.spawn(hold(drops.guard())); // was never polled
        drop(set);
        assert_eq!(drops.count(), 0, "a drop does not run the tasks' drops by itself");
        turns(1).await;
        assert_eq!(drops.count(), 11);
    });
}

#[test]
fn the_loop_does_not_wait_before_the_tasks_of_a_dropped_set_have_gone() {
    block_on(async {
        // More tasks than one tick polls, and nothing but their drops wakes this future.
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let drops = Drops::default();
        let mut set = JoinSet::<()>::new();
        for _ in 0..1000 {
            let (guard, waker) = (drops.guard(), waker.clone());
            set.spawn(hold((guard, OnDrop(move || waker.wake_by_ref()))));
        }
        drop(set);
        let all_dropped =
            poll_fn(|_| if drops.count() == 1000 { Poll::Ready(()) } else { Poll::Pending });
        time::timeout(Duration::from_secs(30), all_dropped)
            .await
            .expect("the loop waited with tasks to end");
    });
}

#[test]
fn dropping_the_set_drops_the_results_that_nobody_took() {
    block_on(async {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let guard = drops.guard();
            set.spawn(async move { guard });
        }
        turns(1).await;
        assert_eq!(drops.count(), 0);
        drop(set);
        assert_eq!(drops.count(), 3);
    });
}

#[test]
fn shutdown_waits_until_every_future_has_gone() {
    block_on(async {
        let drops = Drops::default();
        let mut set = JoinSet::<()>::new();
        for _ in 0..300 {
            set.spawn(hold(drops.guard()));
        }
        set.spawn(async { panic!("nobody sees this") });
        turns(1).await;
        set.shutdown().await;
        assert_eq!(drops.count(), 300);
        assert!(set.is_empty());
    });
}

#[test]
fn a_shutdown_that_was_dropped_can_be_called_again() {
    block_on(async {
        let drops = Drops::default();
        let mut set = JoinSet::<()>::new();
        for _ in 0..3 {
            set.spawn(hold(drops.guard()));
        }
        assert!(pin!(set.shutdown()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(set.len(), 3);
        set.shutdown().await;
        assert_eq!(drops.count(), 3);
        assert!(set.is_empty());
    });
}

#[test]
fn a_join_next_that_is_dropped_midway_loses_nothing() {
    block_on(async {
        let mut set: JoinSet<usize> = (0..50).map(|number| after(number % 7, number)).collect();
        let mut seen = HashSet::new();
        let mut dropped_midway = 0;
        while !set.is_empty() {
            match pin!(set.join_next()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => {
                    assert!(seen.insert(result.expect("not empty").expect("no panic")))
                }
                Poll::Pending => {
                    dropped_midway += 1;
                    assert!(dropped_midway < 100, "something was lost");
                    yield_now().await;
                }
            }
        }
        assert!(dropped_midway > 3);
        assert_eq!(seen.len(), 50);
    });
}

#[test]
fn a_set_grows_by_an_iterator_of_futures() {
    block_on(async {
        let mut set: JoinSet<usize> = (0..3).map(|number| after(number, number)).collect();
        set.extend((3..50).map(|number| after(number % 7, number)));
        assert_eq!(set.len(), 50);
        let found: HashSet<usize> = set.join_all().await.into_iter().collect();
        assert_eq!(found, (0..50).collect());
    });
}

#[test]
fn a_result_that_comes_after_join_next_was_dropped_is_there_for_the_next() {
    block_on(async {
        let mut set = JoinSet::new();
        set.spawn(after(2, 1));
        assert!(!poll_once(&mut set, Waker::noop()));
        turns(5).await;
        assert_eq!(set.join_next().await.expect("a task").expect("no panic"), 1);
    });
}

#[test]
fn a_member_can_spawn_into_its_own_set() {
    block_on(async {
        let set = Rc::new(RefCell::new(JoinSet::new()));
        let inner = Rc::clone(&set);
        set.borrow_mut().spawn(async move {
            for number in 1..=3 {
                inner.borrow_mut().spawn(after(number, number));
            }
            0
        });
        let mut seen = Vec::new();
        while let Some(result) = poll_fn(|context| set.borrow_mut().poll_join_next(context)).await {
            seen.push(result.expect("no panic"));
        }
        assert_eq!(seen, [0, 1, 2, 3]);
    });
}

#[test]
fn detached_tasks_go_on() {
    block_on(async {
        let ended = Rc::new(Cell::new(0));
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let guard = drops.guard();
        set.spawn(async move { Some(guard) });
        turns(1).await;
        for _ in 0..3 {
            let ended = Rc::clone(&ended);
            set.spawn(async move {
                turns(3).await;
                ended.set(ended.get() + 1);
                None
            });
        }
        set.detach_all();
        assert_eq!(drops.count(), 1, "a result that nobody took");
        assert!(set.is_empty());
        assert!(set.join_next().await.is_none());
        // New members get the keys of the old ones and must not get their ends.
        set.spawn(async {
            turns(20).await;
            None
        });
        turns(10).await;
        assert_eq!(ended.get(), 3);
        assert!(set.try_join_next().is_none());
        drop(set);
    });
}

#[test]
fn detaching_wakes_who_waits_for_the_set() {
    block_on(async {
        let set = Rc::new(RefCell::new(JoinSet::<()>::new()));
        set.borrow_mut().spawn(pending());
        let waits = Rc::clone(&set);
        let waiter = spawn(async move {
            poll_fn(|context| waits.borrow_mut().poll_join_next(context)).await.is_none()
        });
        turns(2).await;
        set.borrow_mut().detach_all();
        assert!(waiter.await.expect("no panic"));
    });
}

#[test]
fn ten_thousand_tasks_each_end_once() {
    const TASKS: usize = 10_000;
    block_on(async {
        let mut set: JoinSet<usize> = (0..TASKS).map(|number| after(number % 5, number)).collect();
        let mut seen = vec![false; TASKS];
        while let Some(result) = set.join_next().await {
            let number = result.expect("no panic");
            assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
        }
        assert!(seen.iter().all(|seen| *seen));
    });
}

#[test]
fn join_all_gives_the_results_in_the_order_of_completion() {
    block_on(async {
        let set: JoinSet<usize> = [(4, 0), (2, 1), (0, 2)]
            .into_iter()
            .map(|(turns, number)| after(turns, number))
            .collect();
        assert_eq!(set.join_all().await, [2, 1, 0]);
    });
}

#[test]
fn join_all_passes_a_panic_on_and_aborts_the_rest() {
    let drops = Drops::default();
    let runtime = Runtime::new().expect("a ring");
    let payload = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut set = JoinSet::<()>::new();
            set.spawn(hold(drops.guard()));
            set.spawn(async { panic!("a member") });
            set.join_all().await;
        });
    }))
    .expect_err("the panic of the member");
    assert_eq!(message(&*payload), "a member");
    runtime.block_on(turns(2));
    assert_eq!(drops.count(), 1);
}

#[test]
fn join_all_panics_for_a_cancelled_task() {
    let payload = catch_unwind(|| {
        block_on(async {
            let mut set = JoinSet::<()>::new();
            set.spawn(pending()).abort();
            set.join_all().await;
        });
    })
    .expect_err("a panic");
    assert_eq!(message(&*payload), "task was cancelled");
}

#[test]
fn a_set_outlives_its_runtime() {
    let drops = Drops::default();
    let mut set = block_on(async {
        let mut set = JoinSet::new();
        set.spawn(after(0, 1));
        turns(1).await;
        set.spawn(hold(drops.guard()));
        set
    });
    assert_eq!(drops.count(), 1, "the end of the runtime drops the future");
    assert_eq!(set.len(), 2);
    assert_eq!(set.try_join_next().expect("two tasks").expect("it had ended"), 1);
    set.abort_all();
    block_on(async {
        assert!(set.join_next().await.expect("a task").expect_err("interrupted").is_cancelled());
        set.spawn(after(1, 3));
        assert_eq!(set.join_all().await, [3], "the set goes on in another runtime");
    });
}

#[test]
fn what_is_spawned_while_the_runtime_ends_is_cancelled() {
    let set = Rc::new(RefCell::new(JoinSet::<()>::new()));
    let from_drop = Rc::clone(&set);
    block_on(async {
        spawn(hold::<_, ()>(OnDrop(move || {
            from_drop.borrow_mut().spawn(async {});
        })));
    });
    assert_eq!(set.borrow().len(), 1);
    assert!(
        set.borrow_mut().try_join_next().expect("a task").expect_err("too late").is_cancelled()
    );
}

#[test]
fn blocking_functions_are_members() {
    block_on(async {
        let mut set = JoinSet::new();
        set.spawn_blocking(|| std::thread::current().id());
        set.spawn_blocking(|| panic!("on a thread"));
        let mut panics = 0;
        while let Some(result) = set.join_next().await {
            match result {
                Ok(thread) => assert_ne!(thread, std::thread::current().id()),
                Err(error) => {
                    assert_eq!(message(&*error.into_panic()), "on a thread");
                    panics += 1;
                }
            }
        }
        assert_eq!(panics, 1);
    });
}

#[test]
fn shutdown_does_not_wait_for_a_blocking_function_that_has_begun() {
    let (begun_sender, begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    block_on(async {
        let mut set = JoinSet::new();
        set.spawn_blocking(move || {
            begun_sender.send(()).expect("the test waits");
            let _ = released.recv();
        });
        turns(2).await;
        begun.recv().expect("it begins");
        set.shutdown().await;
        assert!(set.is_empty());
        release.send(()).expect("the function still runs");
    });
}

#[test]
fn the_one_that_polled_last_is_woken() {
    block_on(async {
        let (first, last) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let mut set = JoinSet::new();
        set.spawn(after(2, 1));
        set.spawn(after(2, 2));
        assert!(!poll_once(&mut set, &Waker::from(Arc::clone(&first))));
        assert!(!poll_once(&mut set, &Waker::from(Arc::clone(&last))));
        assert_eq!(Arc::strong_count(&first), 1, "a waker that was replaced is dropped");
        turns(5).await;
        assert_eq!((first.count(), last.count()), (0, 1), "once, for two ends");
        assert_eq!(Arc::strong_count(&last), 1);
        assert_eq!(set.join_all().await, [1, 2]);
    });
}

#[test]
fn different_tasks_can_take_turns_in_waiting() {
    block_on(async {
        let mut set = JoinSet::new();
        for number in 0..6 {
            set.spawn(after(number * 3, number));
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(set.join_next().await.expect("a task").expect("no panic"));
            // The set moves to another task, and back.
            let (moved, result) = spawn(async move {
                let result = set.join_next().await;
                (set, result)
            })
            .await
            .expect("no panic");
            set = moved;
            seen.push(result.expect("a task").expect("no panic"));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_waker_may_use_the_set_while_it_is_dropped() {
    /// Polls a set on this thread when it is dropped.
    struct Probe(Arc<AtomicUsize>);

    thread_local! {
        static SET: RefCell<Option<JoinSet<usize>>> = const { RefCell::new(None) };
    }

    impl Wake for Probe {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            SET.with(|set| {
                if let Ok(mut set) = set.try_borrow_mut() {
                    let found = set.as_mut().and_then(JoinSet::try_join_next);
                    self.0.fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
                }
            });
        }
    }

    block_on(async {
        let found = Arc::new(AtomicUsize::new(0));
        let mut set = JoinSet::new();
        set.spawn(after(1, 4));
        assert!(!poll_once(&mut set, &Waker::from(Arc::new(Probe(Arc::clone(&found))))));
        SET.with(|place| *place.borrow_mut() = Some(set));
        turns(4).await;
        assert_eq!(
            found.load(Ordering::SeqCst),
            1,
            "the wake dropped the waker, whose drop found the result"
        );
        let empty = SET.with(|place| place.borrow_mut().take()).expect("it was put there");
        assert!(empty.is_empty());
    });
}
