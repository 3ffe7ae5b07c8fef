//! Anchored values: used at home, refused elsewhere, and dropped at home wherever they are dropped.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Read;
use std::marker::PhantomData;
use std::os::unix;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::{Anchored, block_on, spawn, time};
use common::{bounded, in_own_process, poll_in_task, run_here, runtime, turn_on_software_ring};
use futures_channel::oneshot;
use futures_util::{Stream, StreamExt};

/// Tells where it is dropped. It is not `Send`.
struct Tell(mpsc::Sender<ThreadId>, PhantomData<Rc<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

fn tell() -> (Tell, mpsc::Receiver<ThreadId>) {
    let (send, receive) = mpsc::channel();
    (Tell(send, PhantomData), receive)
}

/// Runs something on another thread and waits for it.
fn elsewhere<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(run).join().unwrap()
}

fn here() -> ThreadId {
    thread::current().id()
}

#[test]
fn a_value_is_given_out_at_home_and_nowhere_else() {
    run_here(async {
        let mut anchored = Anchored::new(Rc::new(Cell::new(1)));
        anchored.get().unwrap().set(2);
        *anchored.get_mut().unwrap() = Rc::new(Cell::new(3));
        assert_eq!(Pin::new(&mut anchored).get_pin_mut().unwrap().get(), 3);
        assert_eq!(format!("{anchored:?}"), "Anchored { is_home: true, .. }");
        let anchored = elsewhere(move || {
            let mut anchored = anchored;
            assert!(anchored.get().is_none());
            assert!(anchored.get_mut().is_none());
            assert!(Pin::new(&mut anchored).get_pin_mut().is_none());
            assert_eq!(format!("{anchored:?}"), "Anchored { is_home: false, .. }");
            // A runtime of one's own makes no difference.
            block_on(async { assert!(anchored.get().is_none()) });
            anchored.into_inner().unwrap_err()
        });
        thread::scope(|scope| {
            scope.spawn(|| assert!(anchored.get().is_none()));
            assert_eq!(anchored.get().unwrap().get(), 3);
        });
        assert_eq!(anchored.into_inner().unwrap().get(), 3);
    });
}

#[test]
fn a_future_with_operations_runs_where_a_send_future_is_asked_for() {
    async fn library<T>(future: impl Future<Output = T> + Send + 'static) -> T {
        let boxed: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(future);
        boxed.await
    }

    run_here(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shared = Rc::new(ours);
        let future = library(Anchored::new(async move {
            let (count, bytes) = shared.read(vec![0; 8]).await.unwrap();
            time::sleep(Duration::from_micros(100)).await;
            bytes[..count].to_vec()
        }));
        let task = spawn(future);
        theirs.write_all(b"from far").await.unwrap();
        assert_eq!(task.await.unwrap(), b"from far");
        let mut numbers = Anchored::new(futures_util::stream::iter(0..3));
        assert_eq!(numbers.size_hint(), (3, Some(3)));
        assert_eq!(numbers.by_ref().collect::<Vec<_>>().await, [0, 1, 2]);
    });
}

#[test]
fn a_future_and_a_stream_that_are_polled_elsewhere_panic_and_say_why() {
    fn sentence(poll: impl FnOnce(&mut Context<'_>)) -> String {
        let context = &mut Context::from_waker(Waker::noop());
        let payload = catch_unwind(AssertUnwindSafe(|| poll(context))).unwrap_err();
        *payload.downcast::<String>().unwrap()
    }

    run_here(async {
        let mut future = Box::pin(Anchored::new(async { Rc::new(5) }));
        let mut stream = Anchored::new(futures_util::stream::iter([Rc::new(6)]));
        let (future, mut stream) = elsewhere(move || {
            let said = sentence(|context| _ = future.as_mut().poll(context));
            assert!(said.contains("`Anchored` of another thread"), "{said}");
            let said = sentence(|context| _ = stream.poll_next_unpin(context));
            assert!(said.contains("`Anchored` of another thread"), "{said}");
            assert_eq!(stream.size_hint(), (0, None));
            (future, stream)
        });
        // Nothing has happened to them.
        assert_eq!(*future.await, 5);
        assert_eq!(*stream.next().await.unwrap(), 6);
    });
}

#[test]
fn a_value_that_is_dropped_elsewhere_wakes_its_runtime_and_is_dropped_there() {
    run_here(async {
        for _ in 0..100 {
            // The loop may wait already when it comes: nothing else ends its wait.
            let (awake, waits) = oneshot::channel::<()>();
            let (value, dropped) = tell();
            let anchored = Anchored::new((awake, value));
            let other = thread::spawn(move || drop(anchored));
            assert!(waits.await.is_err(), "its sender was dropped");
            assert_eq!(dropped.recv().unwrap(), here());
            other.join().unwrap();
        }
        assert_eq!(annulus::metrics().anchored_leaked, 0);
    });
}

#[test]
fn values_that_come_back_between_two_runs_are_dropped_in_the_next_one_or_at_the_end() {
    let _turn = turn_on_software_ring();
    bounded(|| {
        let runtime = runtime();
        let (first, first_dropped) = tell();
        let (second, second_dropped) = tell();
        let (first, second) =
            runtime.block_on(async { (Anchored::new(first), Anchored::new(second)) });
        elsewhere(move || drop(first));
        assert!(first_dropped.try_recv().is_err(), "nobody looks");
        runtime.block_on(time::sleep(Duration::ZERO));
        assert_eq!(first_dropped.try_recv().unwrap(), here());
        elsewhere(move || drop(second));
        assert!(second_dropped.try_recv().is_err());
        drop(runtime);
        assert_eq!(second_dropped.try_recv().unwrap(), here());
    });
}

#[test]
fn home_is_the_thread_whatever_runtime_is_entered_on_it_or_none() {
    let _turn = turn_on_software_ring();
    bounded(|| {
        let (value, dropped) = tell();
        let (runtime, other) = (runtime(), runtime());
        let mut anchored = runtime.block_on(async { Anchored::new((value, 1)) });
        anchored.get_mut().unwrap().1 = 2;
        other.block_on(async { anchored.get_mut().unwrap().1 += 1 });
        drop((other, runtime));
        // Also after the end of its runtime, and it is not leaked.
        assert_eq!(anchored.get().unwrap().1, 3);
        drop(anchored);
        assert_eq!(dropped.try_recv().unwrap(), here());
    });
}

#[test]
fn a_destructor_that_panics_elsewhere_ends_nothing() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("as the test wants it"));
        }
    }

    run_here(async {
        let bombs: Vec<_> = (0..10).map(|_| Anchored::new(Bomb)).collect();
        let (last, dropped) = tell();
        let last = Anchored::new(last);
        elsewhere(move || drop((bombs, last)));
        time::sleep(Duration::ZERO).await;
        assert_eq!(dropped.try_recv().unwrap(), here());
    });
}

#[test]
fn a_stream_that_is_dropped_elsewhere_is_closed_at_home_with_what_is_in_flight() {
    run_here(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut read =
            Anchored::new(Box::pin(async move { ours.read(vec![0; 8]).await.map(drop) }));
        assert!(poll_in_task(&mut read).await.is_pending());
        time::sleep(Duration::ZERO).await;
        thread::spawn(move || drop(read));
        let (count, _) = theirs.read(vec![0; 8]).await.unwrap();
        assert_eq!(count, 0, "the other end has gone");
        common::quiet().await;
    });
}

#[test]
fn a_stream_that_comes_back_before_its_runtime_ends_ends_with_it() {
    let _turn = turn_on_software_ring();
    bounded(|| {
        let runtime = runtime();
        let (ours, mut theirs) = unix::net::UnixStream::pair().unwrap();
        let read = runtime.block_on(async {
            let ours = UnixStream::from_std(ours).unwrap();
            let mut read = Anchored::new(Box::pin(async move {
                let _ = ours.read(vec![0; 8]).await;
            }));
            assert!(poll_in_task(&mut read).await.is_pending());
            time::sleep(Duration::ZERO).await;
            vec![read]
        });
        elsewhere(move || drop(read));
        let handle = runtime.handle();
        let before = handle.metrics();
        drop(runtime);
        assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 0);
        let after = handle.metrics();
        assert_eq!(after.completions - before.completions, before.operations_in_flight);
    });
}

#[test]
fn a_value_of_a_runtime_that_has_ended_is_leaked_elsewhere_and_counted() {
    in_own_process(|| {
        let home = thread::spawn(|| block_on(async { Anchored::new(tell()) }));
        let anchored = home.join().unwrap();
        let runtime = runtime();
        assert_eq!(runtime.metrics().anchored_leaked, 0);
        drop(anchored);
        assert_eq!(runtime.metrics().anchored_leaked, 1);
    });
}

#[test]
fn drops_that_race_with_the_end_of_a_runtime_are_made_at_home_or_counted() {
    in_own_process(|| {
        const VALUES: usize = 2000;
        struct Counts(Arc<AtomicUsize>, ThreadId);
        impl Drop for Counts {
            fn drop(&mut self) {
                assert_eq!(thread::current().id(), self.1);
                self.0.fetch_add(1, SeqCst);
            }
        }
        let mut made = 0;
        let dropped = Arc::new(AtomicUsize::new(0));
        for round in 0..20 {
            let runtime = runtime();
            let values: Vec<_> = runtime.block_on(async {
                let value = || Anchored::new(Counts(Arc::clone(&dropped), here()));
                (0..VALUES).map(|_| value()).collect()
            });
            made += VALUES;
            let before = dropped.load(SeqCst);
            let other = thread::spawn(move || values.into_iter().for_each(drop));
            if round % 2 == 0 {
                // Some have come by the time the end begins.
                runtime.block_on(async {
                    while dropped.load(SeqCst) == before {
                        annulus::yield_now().await;
                    }
                });
            }
            drop(runtime);
            other.join().unwrap();
        }
        let leaked = runtime().metrics().anchored_leaked as usize;
        println!("{} dropped, {leaked} leaked", dropped.load(SeqCst));
        assert_eq!(dropped.load(SeqCst) + leaked, made);
    });
}

#[test]
fn a_thread_that_ends_sends_home_what_it_kept_and_drops_what_is_its_own() {
    thread_local! {
        static KEPT: RefCell<Vec<Anchored<Tell>>> = const { RefCell::new(Vec::new()) };
    }
    run_here(async {
        let (value, dropped) = tell();
        let anchored = Anchored::new(value);
        let (own_dropped, other) = elsewhere(move || {
            KEPT.with_borrow_mut(|kept| kept.push(anchored));
            let (own, own_dropped) = tell();
            block_on(async { KEPT.with_borrow_mut(|kept| kept.push(Anchored::new(own))) });
            (own_dropped, here())
        });
        assert_eq!(own_dropped.recv().unwrap(), other);
        // A thread that was joined has run its destructors.
        time::sleep(Duration::ZERO).await;
        assert_eq!(dropped.recv().unwrap(), here());
    });
}

#[test]
fn a_value_that_is_forgotten_is_never_dropped_and_hinders_nobody() {
    run_here(async {
        let (value, dropped) = tell();
        let anchored = Anchored::new(value);
        elsewhere(move || std::mem::forget(anchored));
        time::sleep(Duration::ZERO).await;
        assert!(dropped.try_recv().is_err());
    });
}

#[test]
fn destructors_may_anchor_spawn_and_drop_anchored_values_of_others() {
    struct Last(Option<oneshot::Sender<()>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let answer = self.0.take().unwrap();
            let inner = Anchored::new(Rc::new(RefCell::new(Some(answer))));
            drop(spawn(async move {
                let answer = inner.get().unwrap().take().unwrap();
                let _ = answer.send(());
            }));
        }
    }

    run_here(async {
        let (answer, question) = oneshot::channel();
        let value = Anchored::new(Anchored::new(Last(Some(answer))));
        thread::spawn(move || drop(value));
        question.await.unwrap();
    });
}

#[test]
fn anchoring_outside_a_runtime_panics_and_says_why() {
    let panic = catch_unwind(|| Anchored::new(1)).unwrap_err();
    let sentence = panic.downcast_ref::<&str>().unwrap();
    assert!(sentence.contains("no annulus runtime on this thread"), "{sentence}");
}

#[test]
fn a_handler_of_axum_uses_the_ring() {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn handler() -> String {
        Anchored::new(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            theirs.write_all(b"by the ring").await.unwrap();
            let (count, bytes) = ours.read(vec![0; 64]).await.unwrap();
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        })
        .await
    }

    run_here(async {
        let router = Router::new().route("/", get(handler));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 64).await.unwrap();
        assert_eq!(body, "by the ring");
    });
}

#[cfg(all(feature = "futures-io", feature = "tokio-io", feature = "hyper"))]
#[test]
fn a_stream_is_read_and_written_at_home_and_every_call_elsewhere_is_an_error() {
    use futures_util::task::noop_waker_ref;
    use std::io;
    use std::task::Poll;

    fn refused<T>(poll: Poll<io::Result<T>>) {
        match poll {
            Poll::Ready(Err(error)) => {
                assert!(error.to_string().contains("another thread"), "{error}")
            }
            _ => panic!("it is not at home"),
        }
    }

    run_here(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = Anchored::new(ours.into_poll());
        let mut ours = elsewhere(move || {
            let context = &mut Context::from_waker(noop_waker_ref());
            let mut ours_pinned = Pin::new(&mut ours);
            let buffer = &mut [0; 8];
            {
                use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
                refused(AsyncRead::poll_read(ours_pinned.as_mut(), context, buffer));
                refused(AsyncBufRead::poll_fill_buf(ours_pinned.as_mut(), context).map_ok(drop));
                AsyncBufRead::consume(ours_pinned.as_mut(), 0);
                refused(AsyncWrite::poll_write(ours_pinned.as_mut(), context, buffer));
                refused(AsyncWrite::poll_flush(ours_pinned.as_mut(), context));
                refused(AsyncWrite::poll_close(ours_pinned.as_mut(), context));
            }
            {
                use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
                let read = &mut ReadBuf::new(buffer);
                refused(AsyncRead::poll_read(ours_pinned.as_mut(), context, read));
                refused(AsyncBufRead::poll_fill_buf(ours_pinned.as_mut(), context).map_ok(drop));
                refused(AsyncWrite::poll_write(ours_pinned.as_mut(), context, b"no"));
                refused(AsyncWrite::poll_flush(ours_pinned.as_mut(), context));
                refused(AsyncWrite::poll_shutdown(ours_pinned.as_mut(), context));
                assert!(!AsyncWrite::is_write_vectored(&*ours_pinned));
            }
            {
                use hyper::rt::{Read, ReadBuf, Write};
                let mut read = ReadBuf::new(buffer);
                refused(Read::poll_read(ours_pinned.as_mut(), context, read.unfilled()));
                refused(Write::poll_write(ours_pinned.as_mut(), context, b"no"));
                refused(Write::poll_flush(ours_pinned.as_mut(), context));
                refused(Write::poll_shutdown(ours_pinned.as_mut(), context));
            }
            ours
        });
        use futures_util::{AsyncReadExt, AsyncWriteExt};
        theirs.write_all(b"there").await.unwrap();
        let mut bytes = [0; 5];
        ours.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"there");
        ours.write_all(b"back").await.unwrap();
        ours.close().await.unwrap();
        assert_eq!(theirs.read_exact(vec![0; 4]).await.unwrap(), b"back");
        assert_eq!(theirs.read(vec![0; 4]).await.unwrap().0, 0);
    });
}
