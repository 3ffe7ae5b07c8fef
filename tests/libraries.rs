//! Well-kept crates for channels, locks, semaphores and cancel tokens, which run here as they are:
//! each within one runtime, between two runtimes, and with waits that lose a `select!`.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus::{JoinSet, block_on, spawn, time, yield_now};

use common::watchdog;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};

const ROUNDS: usize = 500;
const SHORT: Duration = Duration::from_micros(200);

/// Runs a program on a runtime of its own, on another thread.
fn elsewhere<F: Future<Output = ()>>(
    make: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || block_on(make()))
}

#[test]
fn a_bounded_channel_of_futures_channel_carries_items_between_two_runtimes() {
    let _watchdog = watchdog();
    let (mut sender, mut receiver) = futures_channel::mpsc::channel(4);
    let producer = elsewhere(move || async move {
        for number in 0..ROUNDS {
            sender.send(number).await.expect("the consumer is there");
        }
    });
    block_on(async {
        for expected in 0..ROUNDS {
            assert_eq!(receiver.next().await, Some(expected));
        }
        assert_eq!(receiver.next().await, None);
    });
    producer.join().expect("no panic");
}

#[test]
fn a_oneshot_of_futures_channel_wakes_another_runtime() {
    let _watchdog = watchdog();
    let (answer, question) = futures_channel::oneshot::channel();
    let other = elsewhere(move || async move {
        time::sleep(SHORT).await;
        answer.send(42).expect("somebody waits");
    });
    assert_eq!(block_on(question), Ok(42));
    other.join().expect("no panic");
}

#[test]
fn a_channel_of_flume_carries_items_between_two_runtimes_and_ends() {
    let _watchdog = watchdog();
    let (sender, receiver) = flume::bounded(2);
    let consumer = elsewhere(move || async move {
        let mut expected = 0;
        while let Ok(number) = receiver.recv_async().await {
            assert_eq!(number, expected);
            expected += 1;
        }
        assert_eq!(expected, ROUNDS);
    });
    block_on(async {
        for number in 0..ROUNDS {
            sender.send_async(number).await.expect("the consumer is there");
        }
        drop(sender);
    });
    consumer.join().expect("no panic");
}

#[test]
fn a_receive_of_flume_that_loses_a_select_loses_no_item() {
    let _watchdog = watchdog();
    block_on(async {
        let (sender, receiver) = flume::unbounded();
        let producer = spawn(async move {
            for number in 0..50 {
                time::sleep(SHORT).await;
                sender.send_async(number).await.expect("the consumer is there");
            }
        });
        let mut found = Vec::new();
        while found.len() < 50 {
            match select(receiver.recv_async(), time::sleep(SHORT)).await {
                Either::Left((item, _)) => found.push(item.expect("there are more")),
                Either::Right(((), _)) => {}
            }
        }
        assert_eq!(found, (0..50).collect::<Vec<_>>());
        producer.await.expect("no panic");
    });
}

#[test]
fn a_mutex_of_async_lock_admits_one_task_at_a_time() {
    let _watchdog = watchdog();
    block_on(async {
        let lock = Rc::new(async_lock::Mutex::new(0));
        let inside = Rc::new(Cell::new(0));
        let mut tasks: JoinSet<()> = (0..20)
            .map(|_| {
                let (lock, inside) = (Rc::clone(&lock), Rc::clone(&inside));
                async move {
                    for _ in 0..20 {
                        let mut guard = lock.lock().await;
                        assert_eq!(inside.replace(1), 0, "two tasks hold the lock");
                        yield_now().await;
                        *guard += 1;
                        inside.set(0);
                    }
                }
            })
            .collect();
        while let Some(end) = tasks.join_next().await {
            end.expect("no panic");
        }
        assert_eq!(*lock.lock().await, 400);
    });
}

#[test]
fn a_mutex_of_async_lock_is_handed_over_between_two_runtimes() {
    let _watchdog = watchdog();
    let lock = Arc::new(async_lock::Mutex::new(0));
    let add = |lock: Arc<async_lock::Mutex<usize>>| async move {
        for _ in 0..ROUNDS {
            let mut guard = lock.lock().await;
            let before = *guard;
            yield_now().await;
            *guard = before + 1;
        }
    };
    let theirs = Arc::clone(&lock);
    let other = elsewhere(move || add(theirs));
    block_on(add(Arc::clone(&lock)));
    other.join().expect("no panic");
    assert_eq!(*lock.lock_blocking(), 2 * ROUNDS);
}

#[test]
fn a_semaphore_of_async_lock_bounds_how_many_tasks_work() {
    let _watchdog = watchdog();
    block_on(async {
        let permits = Arc::new(async_lock::Semaphore::new(3));
        let (working, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let tasks: JoinSet<()> = (0..30)
            .map(|_| {
                let (permits, working, most) =
                    (Arc::clone(&permits), Rc::clone(&working), Rc::clone(&most));
                async move {
                    let _permit = permits.acquire().await;
                    working.set(working.get() + 1);
                    most.set(most.get().max(working.get()));
                    time::sleep(SHORT).await;
                    working.set(working.get() - 1);
                }
            })
            .collect();
        tasks.join_all().await;
        assert_eq!(most.get(), 3);
    });
}

#[test]
fn an_event_of_event_listener_wakes_who_listened_before() {
    let _watchdog = watchdog();
    let event = Arc::new(event_listener::Event::new());
    block_on(async {
        let listeners: JoinSet<()> = (0..10)
            // The listener is there before the event, and is polled after it.
            .map(|_| event.listen())
            .collect();
        let theirs = Arc::clone(&event);
        let other = elsewhere(move || async move {
            let _ = theirs.notify(usize::MAX);
        });
        listeners.join_all().await;
        other.join().expect("no panic");
    });
}

#[test]
fn the_channels_of_tokio_need_no_runtime_of_tokio() {
    let _watchdog = watchdog();
    let (requests, mut inbox) = tokio::sync::mpsc::channel(4);
    let server = elsewhere(move || async move {
        while let Some((number, answer)) = inbox.recv().await {
            let answer: tokio::sync::oneshot::Sender<usize> = answer;
            answer.send(number * 2).expect("the client waits");
        }
    });
    block_on(async {
        for number in 0..ROUNDS {
            let (answer, question) = tokio::sync::oneshot::channel();
            requests.send((number, answer)).await.expect("the server is there");
            assert_eq!(question.await, Ok(number * 2));
        }
        drop(requests);
    });
    server.join().expect("no panic");
}

#[test]
fn a_watch_and_a_broadcast_of_tokio_reach_every_task() {
    let _watchdog = watchdog();
    block_on(async {
        let (state, watcher) = tokio::sync::watch::channel(0);
        let (news, _) = tokio::sync::broadcast::channel(16);
        let tasks: JoinSet<(i32, i32)> = (0..5)
            .map(|_| {
                let (mut watcher, mut news) = (watcher.clone(), news.subscribe());
                async move {
                    let seen = *watcher.wait_for(|state| *state == 7).await.expect("it is set");
                    (seen, news.recv().await.expect("it is sent"))
                }
            })
            .collect();
        yield_now().await;
        state.send(7).expect("there are watchers");
        news.send(8).expect("there are listeners");
        assert_eq!(tasks.join_all().await, vec![(7, 8); 5]);
    });
}

#[test]
fn the_locks_of_tokio_are_handed_over_between_two_runtimes() {
    let _watchdog = watchdog();
    let total = Arc::new(tokio::sync::Mutex::new(0));
    let rounds = Arc::new(tokio::sync::RwLock::new(ROUNDS));
    let add = |total: Arc<tokio::sync::Mutex<usize>>, rounds: Arc<tokio::sync::RwLock<usize>>| async move {
        for _ in 0..*rounds.read().await {
            let mut total = total.lock().await;
            let before = *total;
            yield_now().await;
            *total = before + 1;
        }
    };
    let (theirs, bound) = (Arc::clone(&total), Arc::clone(&rounds));
    let other = elsewhere(move || add(theirs, bound));
    block_on(add(Arc::clone(&total), Arc::clone(&rounds)));
    other.join().expect("no panic");
    assert_eq!(*total.blocking_lock(), 2 * ROUNDS);
    *rounds.blocking_write() = 0;
}

#[test]
fn a_notify_and_a_semaphore_of_tokio_order_tasks_as_they_came() {
    let _watchdog = watchdog();
    block_on(async {
        let notify = Rc::new(tokio::sync::Notify::new());
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        let order = Rc::new(Cell::new(0));
        let start = Rc::clone(&notify);
        let first = spawn({
            let (permits, order) = (Arc::clone(&permits), Rc::clone(&order));
            async move {
                let _permit = permits.acquire().await.expect("it is open");
                start.notified().await;
                assert_eq!(order.replace(1), 0);
            }
        });
        let second = spawn(async move {
            let _permit = permits.acquire().await.expect("it is open");
            assert_eq!(order.replace(2), 1);
        });
        yield_now().await;
        notify.notify_one();
        first.await.expect("no panic");
        second.await.expect("no panic");
    });
}

#[test]
fn a_cancellation_token_of_tokio_util_ends_operations_on_two_runtimes() {
    let _watchdog = watchdog();
    let token = tokio_util::sync::CancellationToken::new();
    let child = token.child_token();
    let other = elsewhere(move || async move {
        let (ours, _theirs) = annulus::net::UnixStream::pair().expect("a pair");
        // Nothing ever comes.
        let read = child.run_until_cancelled(ours.read(vec![0; 16])).await;
        assert!(read.is_none());
    });
    block_on(async {
        let guard = token.clone().drop_guard();
        let waits = spawn({
            let token = token.clone();
            async move { token.cancelled().await }
        });
        time::sleep(SHORT).await;
        drop(guard);
        waits.await.expect("no panic");
    });
    other.join().expect("no panic");
}
