//! Wakes from everywhere, and fairness.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::{JoinSet, spawn, time, yield_now};
use futures_util::StreamExt;
use futures_util::future::join;

use crate::common::{self, run_here, turns, watchdog};
use crate::{Probe, Signal};

#[test]
fn a_task_that_is_woken_many_times_before_it_runs_is_polled_once() {
    run_here(async {
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
    run_here(async {
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
        let runtime = common::runtime();
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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
    run_here(async {
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

/// Runs `future` beside a spawned task that is always ready, and beside a root that is always
/// ready.
fn beside_a_busy_loop<F: Future<Output = ()> + 'static>(make: impl Fn() -> F) {
    run_here(async {
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
            let (sent, received) =
                join(theirs.write_all(vec![1; 10]), ours.read_exact(vec![0; 10])).await;
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
    run_here(async {
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

/// The polls between two looks at what other threads have woken.
const POLLS_PER_LOOK: usize = 8;

#[test]
fn a_wake_of_another_thread_waits_for_few_polls_however_busy_the_tasks_are() {
    const BUSY: usize = 3;
    run_here(async {
        let polls = Rc::new(Cell::new(0));
        for _ in 0..BUSY {
            let polls = Rc::clone(&polls);
            drop(spawn(async move {
                loop {
                    polls.set(polls.get() + 1);
                    yield_now().await;
                }
            }));
        }
        for round in 0..200 {
            // At another place of the loop's tick each time.
            for _ in 0..round % 50 {
                yield_now().await;
            }
            let mut woken_at = None;
            poll_fn(|context| match woken_at {
                None => {
                    let waker = context.waker().clone();
                    thread::scope(|scope| drop(scope.spawn(|| waker.wake()).join()));
                    woken_at = Some(polls.get());
                    Poll::Pending
                }
                Some(_) => Poll::Ready(()),
            })
            .await;
            let waited = polls.get() - woken_at.expect("it was polled");
            assert!(waited <= POLLS_PER_LOOK + BUSY, "{waited} polls of others in round {round}");
        }
    });
}

#[test]
fn block_on_returns_with_the_poll_in_which_its_future_ends() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let polls = Rc::new(Cell::new(0));
    for _ in 0..1000 {
        let polls = Rc::clone(&polls);
        drop(runtime.spawn(async move {
            loop {
                polls.set(polls.get() + 1);
                yield_now().await;
            }
        }));
    }
    let at_the_end = runtime.block_on(async { polls.get() });
    assert_eq!(
        (at_the_end, polls.get()),
        (0, 0),
        "the future of block_on is polled first, and was ready"
    );
    for yields in 1..5 {
        let before = polls.get();
        let at_the_end = runtime.block_on(async {
            for _ in 0..yields {
                yield_now().await;
            }
            polls.get()
        });
        assert_eq!(
            (at_the_end - before, polls.get()),
            (yields * 1000, at_the_end),
            "each task has one turn for each of the future's"
        );
    }
}

#[test]
fn a_waker_of_a_runtime_that_has_gone_finds_whole_tasks_of_the_next_or_nothing() {
    let of = |size: usize| {
        run_here(async move {
            let probe = Probe::default();
            let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
            for _ in 0..30 {
                let (wakers, ballast) = (Arc::clone(&wakers), vec![0u8; size]);
                spawn(poll_fn(move |context| {
                    let _ = &ballast;
                    wakers.lock().expect("no panic").push(context.waker().clone());
                    Poll::<()>::Pending
                }));
            }
            turns(2).await;
            drop(probe);
            std::mem::take(&mut *wakers.lock().expect("no panic"))
        })
    };
    let stale = of(1);
    // Its tasks are larger, and full of what could be taken for the header of a task.
    for from_here in [true, false] {
        let stale = stale.clone();
        run_here(async move {
            let words: [usize; 200] =
                std::array::from_fn(|index| stale[index % stale.len()].data().addr());
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    spawn(async move {
                        let words = words;
                        turns(3).await;
                        std::hint::black_box(words)
                    })
                })
                .collect();
            turns(1).await;
            let wake = move || stale.iter().for_each(Waker::wake_by_ref);
            if from_here {
                wake();
            } else {
                thread::spawn(wake).join().expect("no panic");
            }
            for task in tasks {
                assert_eq!(task.await.expect("no panic"), words);
            }
        });
    }
}

/// Counts its turns for as long as others let it.
fn count_turns() -> Rc<Cell<u32>> {
    let turns = Rc::new(Cell::new(0));
    let counter = Rc::clone(&turns);
    drop(spawn(async move {
        loop {
            counter.set(counter.get() + 1);
            yield_now().await;
        }
    }));
    turns
}

/// Most items that are handed over in one go, and how many are there.
const IN_ONE_GO: u32 = 128;
const ITEMS: u32 = 300;

/// Takes all items, and checks that others have their turn meanwhile.
async fn take_all<T>(what: &str, mut next: impl AsyncFnMut() -> T) {
    let turns = count_turns();
    let (mut seen, mut in_one_go) = (turns.get(), 0);
    for item in 0..ITEMS {
        next().await;
        in_one_go = if turns.get() == seen { in_one_go + 1 } else { 0 };
        seen = turns.get();
        assert!(in_one_go <= IN_ONE_GO, "{what}: {in_one_go} at item {item}");
    }
}

#[test]
fn what_always_has_an_item_lets_others_have_their_turn() {
    run_here(async {
        let mut ended: JoinSet<()> = (0..ITEMS).map(|_| async {}).collect();
        turns(20).await;
        take_all("a set of tasks", async || ended.join_next().await).await;

        let (ours, peer) = UnixStream::pair().expect("a pair");
        let mut dropped = Box::pin(ours.read(vec![0; ITEMS as usize]));
        assert!(common::poll_once(dropped.as_mut()).is_pending());
        peer.write_all(vec![1; ITEMS as usize]).await.expect("room");
        turns(3).await;
        drop(dropped);
        take_all("bytes that a dropped read left", async || {
            ours.read_exact(vec![0; 1]).await.expect("a byte")
        })
        .await;

        let directory = common::scratch_dir();
        let path = directory.path().join("socket");
        let listener = annulus::net::UnixListener::bind(&path).expect("a listener");
        let mut incoming = listener.incoming().limit(2 * ITEMS as usize);
        assert!(common::poll_once(std::pin::pin!(incoming.next())).is_pending());
        let clients: Vec<_> =
            futures_util::future::join_all((0..ITEMS).map(|_| UnixStream::connect(&path))).await;
        turns(20).await;
        take_all("connections", async || {
            incoming.next().await.expect("it never ends").expect("a connection")
        })
        .await;
        drop(clients);
    });
}

/// Tasks that yield all the time beside the one that is looked at.
const YIELDERS: [usize; 4] = [0, 1, 7, 40];

#[test]
fn the_ring_turns_within_ten_yields() {
    for yielders in YIELDERS {
        run_here(async move {
            let others: JoinSet<()> = (0..yielders)
                .map(|_| async {
                    loop {
                        yield_now().await;
                    }
                })
                .collect();
            for _ in 0..20 {
                let (ours, peer) = UnixStream::pair().expect("a pair of streams");
                peer.write_all("here").await.expect("a pair of streams");
                let read = spawn(async move {
                    ours.read_exact(vec![0; 4]).await.expect("a pair of streams")
                });
                for _ in 0..10 {
                    yield_now().await;
                }
                assert!(read.is_finished(), "beside {yielders}");
                assert_eq!(read.await.expect("a pair of streams"), b"here");
            }
            drop(others);
        });
    }
}
