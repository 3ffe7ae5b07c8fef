//! Runtimes: their life, where they may be used, several of them, and how they end.

mod common;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::{Builder, Runtime, spawn, time, yield_now};
use common::{
    Pool, become_ordinary, in_own_process, open_descriptors, poll_in_task, poll_once, quiet,
    scratch_dir, turns, watchdog,
};
use futures_util::future::join_all;

/// What a panic said.
fn panic_of<T>(body: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(body)).err().expect("it panics");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast_ref::<&str>().map(|text| (*text).to_owned()).expect("a text")
        }
    }
}

#[test]
fn block_on_returns_what_its_future_yields_and_may_borrow() {
    let text = String::from("borrowed");
    assert_eq!(annulus::block_on(async { text.len() }), 8);
    assert_eq!(annulus::block_on(async { &text }), "borrowed");
}

#[test]
fn block_on_inside_a_runtime_panics_and_says_what_to_do() {
    let _watchdog = watchdog();
    let other = common::runtime();
    annulus::block_on(async {
        for sentence in
            [panic_of(|| annulus::block_on(async {})), panic_of(|| other.block_on(async {}))]
        {
            assert!(
                sentence.contains("block_on inside a runtime")
                    && sentence.contains("annulus::spawn"),
                "{sentence}"
            );
        }
        // The runtime is in order.
        assert_eq!(spawn(async { 1 }).await.expect("no panic"), 1);
        assert!(
            spawn(async { annulus::block_on(async {}) })
                .await
                .expect_err("a panic")
                .to_string()
                .contains("await the future")
        );
    });
    other.block_on(yield_now());
}

#[test]
fn use_outside_of_a_runtime_panics_and_says_what_to_do() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let mut sleep = time::sleep(Duration::from_millis(1));
    let mut read = ours.read(vec![0; 8]);
    let mut read = std::pin::Pin::new(&mut read);
    for sentence in [
        panic_of(|| spawn(async {})),
        panic_of(|| annulus::spawn_blocking(|| ())),
        panic_of(annulus::metrics),
        panic_of(|| poll_once(std::pin::Pin::new(&mut sleep))),
        panic_of(|| poll_once(read.as_mut())),
    ] {
        assert!(sentence.starts_with("there is no annulus runtime on this thread"), "{sentence}");
        assert!(sentence.contains("annulus::block_on"), "{sentence}");
    }
    // Neither future was harmed.
    annulus::block_on(async {
        sleep.await;
        assert!(poll_in_task(&mut read).await.is_pending());
    });
}

#[test]
fn a_runtime_spawns_and_is_dropped_without_ever_running() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let handle = runtime.spawn(async { unreachable!("nobody runs it") });
    drop(runtime);
    let result: Result<(), _> = annulus::block_on(handle);
    assert!(result.expect_err("never ran").is_cancelled());
}

#[test]
fn tasks_go_on_at_the_next_block_on() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let task = runtime.spawn(async move {
        loop {
            let (read, _) = ours.read(vec![0; 1]).await?;
            if read == 0 {
                return std::io::Result::Ok("the end");
            }
            counted.set(counted.get() + 1);
        }
    });
    for round in 1..=3 {
        runtime.block_on(async {
            theirs.write_all("x").await.expect("room");
            while count.get() < round {
                yield_now().await;
            }
        });
    }
    drop(theirs);
    assert_eq!(runtime.block_on(task).expect("no panic").expect("no error"), "the end");
}

#[test]
fn a_panic_in_the_root_future_comes_out_of_block_on_and_the_runtime_goes_on() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = common::runtime();
    let task = runtime.spawn(async {
        time::sleep(Duration::from_millis(2)).await;
        3
    });
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let sentence = panic_of(|| {
        runtime.block_on(async {
            let mut read = ours.read(pool.empty(8));
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(1).await;
            panic!("at the root");
        })
    });
    assert_eq!(sentence, "at the root");
    assert_eq!(runtime.block_on(task).expect("no panic"), 3);
    runtime.block_on(quiet());
    pool.assert_all_back();
    // And the thread is in no runtime.
    drop(runtime);
    assert_eq!(annulus::block_on(async { 4 }), 4);
}

#[test]
fn a_panic_out_of_the_free_block_on_drops_its_tasks_and_the_thread_can_make_a_new_runtime() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    for _ in 0..3 {
        let sentence = panic_of(|| {
            annulus::block_on(async {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                let buffer = pool.empty(8);
                drop(spawn(async move {
                    let _theirs = theirs;
                    drop(ours.read(buffer).await);
                }));
                turns(2).await;
                panic!("at the root");
            })
        });
        assert_eq!(sentence, "at the root");
        pool.assert_all_back();
    }
    annulus::block_on(yield_now());
}

#[test]
fn a_runtime_that_is_dropped_while_its_thread_unwinds_ends_its_operations() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            // One panic at a time: this one meets the unwinding below, is caught, and must not end
            // the process.
            panic!("in a task, while unwinding");
        }
    }
    let _watchdog = watchdog();
    let pool = Pool::default();
    let sentence = panic_of(|| {
        let runtime = common::runtime();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let buffer = pool.empty(8);
        drop(runtime.spawn(async move {
            let _theirs = theirs;
            let _bomb = Bomb;
            drop(ours.read(buffer).await);
        }));
        runtime.block_on(turns(2));
        panic!("beside the runtime");
    });
    assert_eq!(sentence, "beside the runtime");
    pool.assert_all_back();
}

#[test]
fn two_runtimes_on_one_thread_take_turns() {
    let _watchdog = watchdog();
    let (first, second) = (common::runtime(), common::runtime());
    let count = Rc::new(Cell::new(0));
    for runtime in [&first, &second] {
        let count = Rc::clone(&count);
        drop(runtime.spawn(async move {
            loop {
                count.set(count.get() + 1);
                yield_now().await;
            }
        }));
    }
    first.block_on(turns(1));
    let after_first = count.get();
    second.block_on(turns(1));
    assert!(after_first > 0 && count.get() > after_first);
    drop(first);
    second.block_on(turns(1));
}

#[test]
fn a_runtime_may_be_dropped_inside_another() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    common::runtime().block_on(async {
        for _ in 0..3 {
            let other = common::runtime();
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let buffer = pool.empty(8);
            let task = other.spawn(async move {
                let _theirs = theirs;
                drop(ours.read(buffer).await);
            });
            // The end of the other runtime wakes this task of ours.
            let waiter = spawn(task);
            yield_now().await;
            drop(other);
            assert!(waiter.await.expect("no panic").expect_err("its runtime ended").is_cancelled());
            pool.assert_all_back();
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_task_awaits_a_task_of_another_runtime_on_another_thread_through_a_channel() {
    let _watchdog = watchdog();
    let (sender, receiver) = mpsc::channel::<std::os::unix::net::UnixStream>();
    let server = thread::spawn(move || {
        common::runtime().block_on(async {
            for stream in receiver {
                let stream = UnixStream::from(stream);
                let (count, buffer) = stream.read(vec![0; 64]).await.expect("data");
                stream.write_all(buffer[..count].to_vec()).await.expect("room");
            }
        });
    });
    common::runtime().block_on(async {
        for _ in 0..100 {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
            sender.send(theirs).expect("the server listens");
            let ours = UnixStream::from(ours);
            ours.write_all("ping").await.expect("room");
            assert_eq!(ours.read(vec![0; 64]).await.expect("data").1, b"ping");
        }
    });
    drop(sender);
    server.join().expect("no panic");
}

#[test]
fn five_hundred_runtimes_one_after_the_other_leave_nothing_behind() {
    in_own_process(|| {
        let before = open_descriptors();
        for _ in 0..500 {
            let runtime = common::runtime();
            runtime.block_on(async {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                drop(spawn(async move { drop(ours.read(vec![0; 8]).await) }));
                theirs.write("x").await.expect("room");
            });
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn five_hundred_runtimes_one_after_the_other_fit_into_an_ordinary_users_memory() {
    in_own_process(|| {
        become_ordinary(8 << 20);
        for _ in 0..500 {
            let runtime = common::runtime();
            runtime.block_on(yield_now());
        }
    });
}

#[test]
fn a_runtime_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
        static LATER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let _watchdog = watchdog();
    let (sender, receiver) = mpsc::channel();
    struct Tell(mpsc::Sender<&'static str>);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let thread = thread::spawn(move || {
        LATER.with(|later| later.borrow_mut().push(1));
        RUNTIME.with(|cell| {
            let runtime = cell.get_or_init(common::runtime);
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            drop(runtime.spawn(async move {
                let _tell = Tell(sender);
                // Headers, buffers, timers: all that has a thread-local or a slot.
                let socket = annulus::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
                let sleep = time::sleep(Duration::from_secs(1000));
                let both = futures_util::future::join3(
                    ours.read(vec![0; 8]),
                    socket.recv_from(vec![0; 8]),
                    sleep,
                );
                drop(both.await);
                drop(theirs);
            }));
            runtime.block_on(turns(3));
        });
    });
    thread.join().expect("no panic at the thread's end");
    assert_eq!(receiver.recv(), Ok("dropped"));
}

#[test]
fn runtimes_on_many_threads_come_and_go() {
    in_own_process(|| {
        let before = open_descriptors();
        for _ in 0..10 {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    thread::spawn(|| {
                        common::runtime().block_on(async {
                            let tasks: Vec<_> = (0..10)
                                .map(|_| spawn(time::sleep(Duration::from_millis(1))))
                                .collect();
                            for task in tasks {
                                task.await.expect("no panic");
                            }
                        });
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("no panic");
            }
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn what_the_last_poll_dropped_is_closed_when_block_on_returns_or_soon_after() {
    in_own_process(|| {
        let runtime = common::runtime();
        let before = open_descriptors();
        runtime.block_on(async { drop(UnixStream::pair().expect("a pair")) });
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn metrics_count_what_was_done() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let before = runtime.metrics();
    assert_eq!((before.operations, before.operations_in_flight, before.tasks), (0, 0, 0));
    runtime.block_on(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let task = spawn(async move { ours.read(vec![0; 8]).await.map(|(count, _)| count) });
        turns(2).await;
        let during = annulus::metrics();
        assert_eq!((during.operations, during.operations_in_flight, during.tasks), (1, 1, 1));
        theirs.write("x").await.expect("room");
        task.await.expect("no panic").expect("data");
        let mut read = theirs.read(vec![0; 8]);
        let _ = poll_in_task(&mut read).await;
        drop(read);
        quiet().await;
    });
    let after = runtime.metrics();
    assert_eq!(
        (after.orphaned, after.operations_in_flight, after.tasks, after.stale_completions),
        (1, 0, 0, 0)
    );
    assert!(
        after.cancels <= 2 && after.completions >= 3 && after.submissions >= 3 && after.enters >= 2,
        "{after:?}"
    );
}

#[test]
fn a_runtime_says_what_it_is_when_it_is_printed() {
    let runtime = Builder::new().entries(8).build().expect("a ring");
    let text = format!("{runtime:?}");
    assert!(
        text.starts_with("Runtime") && (text.contains("SINGLE_ISSUER") || text.contains("granted")),
        "{text}"
    );
}

#[test]
fn a_waker_of_the_root_that_is_kept_wakes_the_next_root_at_worst() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    let waker = runtime.block_on(poll_fn(|context| Poll::Ready(context.waker().clone())));
    let polls = Cell::new(0);
    runtime.block_on(async {
        waker.wake_by_ref();
        let mut sleep = time::sleep(Duration::from_millis(5));
        poll_fn(|context| {
            polls.set(polls.get() + 1);
            std::pin::Pin::new(&mut sleep).poll(context)
        })
        .await;
    });
    assert!(polls.get() <= 4, "{} polls", polls.get());
}

#[test]
fn an_idle_runtime_does_not_turn() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    runtime.block_on(async {
        let before = annulus::metrics().enters;
        time::sleep(Duration::from_millis(200)).await;
        let enters = annulus::metrics().enters - before;
        assert!(enters <= 10, "{enters} system calls for one sleep");
    });
}

#[test]
fn a_hundred_reads_that_start_in_one_tick_cost_a_few_system_calls() {
    let directory = scratch_dir();
    let path = directory.path().join("cached");
    std::fs::write(&path, vec![7; 4096]).expect("written");
    assert_eq!(std::fs::read(&path).expect("read").len(), 4096);
    let _watchdog = watchdog();
    common::runtime().block_on(async {
        let file = Rc::new(annulus::fs::File::open(&path).await.expect("open"));
        for in_tasks in [false, true] {
            let before = annulus::metrics().enters;
            let reads = (0..100).map(|_| {
                let file = Rc::clone(&file);
                async move { file.read_at(vec![0; 4096], 0).await.expect("data").0 }
            });
            let counts: Vec<_> = match in_tasks {
                false => join_all(reads).await,
                true => join_all(reads.map(spawn))
                    .await
                    .into_iter()
                    .map(|result| result.expect("no panic"))
                    .collect(),
            };
            let enters = annulus::metrics().enters - before;
            assert_eq!(counts, [4096; 100]);
            assert!(enters <= 3, "{enters} system calls for 100 reads, in tasks: {in_tasks}");
        }
    });
}

#[test]
fn what_is_dropped_last_ends_with_block_on_even_with_a_read_in_flight() {
    let _watchdog = watchdog();
    let runtime = common::runtime();
    for rounds in 0..3 {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        theirs.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        runtime.block_on(async {
            let ours = UnixStream::from(ours);
            let mut read = ours.read(vec![0; 8]);
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(rounds).await;
            drop(read);
            drop(ours);
        });
        // No other `block_on`: the loop stands still.
        assert_eq!(
            std::io::Read::read(&mut &theirs, &mut [0; 8]).expect("the end and no time-out"),
            0,
            "after {rounds} turns"
        );
    }
}
