//! `cancel`, `timeout` and `deadline`: the operation's own completion decides, and the buffer comes
//! back in every case.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::time::{Duration, Instant};

use annulus::fs::File;
use annulus::net::{TcpListener, UnixStream};

use crate::common::{Pool, Random, poll_in_task, quiet, run_here, scratch_dir, seed, turns};

const LONG: Duration = Duration::from_secs(1000);

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair")
}

#[test]
fn cancelling_an_operation_that_waits_gives_its_buffer_and_the_errno_back() {
    let pool = Pool::default();
    run_here(async {
        let (ours, _theirs) = pair();
        for polls in 0..3 {
            let mut read = ours.read(pool.empty(64));
            for _ in 0..polls {
                assert!(poll_in_task(&mut read).await.is_pending());
                turns(1).await;
            }
            let error = read.cancel().await.expect_err("nothing has come");
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            assert_eq!(error.into_buffer().len(), 0, "the buffer is as it was");
        }
        assert_eq!(quiet().await.operations_in_flight, 0);
    });
    pool.assert_all_back();
}

#[test]
fn cancelling_an_operation_that_has_ended_gives_its_result() {
    run_here(async {
        let (ours, theirs) = pair();
        theirs.write("hello").await.expect("room");
        let mut read = ours.read(vec![0; 64]);
        assert!(poll_in_task(&mut read).await.is_pending());
        quiet().await;
        let (count, buffer) = read.cancel().await.expect("the read had won");
        assert_eq!((count, &buffer[..]), (5, &b"hello"[..]));
    });
}

#[test]
fn a_read_exact_that_is_cancelled_says_how_far_it_came_and_loses_no_byte() {
    run_here(async {
        let (ours, theirs) = pair();
        let mut read = ours.read_exact(vec![0; 8].into_boxed_slice());
        assert!(poll_in_task(&mut read).await.is_pending());
        turns(1).await;
        theirs.write("abc").await.expect("room");
        turns(3).await;
        let error = read.cancel().await.expect_err("the rest has not come");
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        let transferred = error.transferred();
        let mut bytes = error.into_buffer()[..transferred].to_vec();
        if transferred < 3 {
            let (_, rest) = ours.read(vec![0; 8]).await.expect("the rest is in the socket");
            bytes.extend_from_slice(&rest);
        }
        assert_eq!(bytes, b"abc");
    });
}

#[test]
fn a_cancelled_accept_leaves_the_connection_in_the_backlog_or_gives_it() {
    run_here(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        for _ in 0..20 {
            let mut accept = listener.accept();
            assert!(poll_in_task(&mut accept).await.is_pending());
            turns(1).await;
            let client = std::net::TcpStream::connect(address).expect("the backlog has room");
            let (_stream, peer) = match accept.cancel().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                    listener.accept().await.expect("it waits")
                }
            };
            assert_eq!(peer, client.local_addr().expect("bound"));
        }
    });
}

#[test]
fn a_dropped_cancel_leaves_nothing() {
    let pool = Pool::default();
    run_here(async {
        let (ours, _theirs) = pair();
        for polls in 0..3 {
            let mut read = ours.read(pool.empty(64));
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(1).await;
            let mut cancel = read.cancel();
            for _ in 0..polls {
                let _ = poll_in_task(&mut cancel).await;
            }
            drop(cancel);
        }
        assert_eq!(quiet().await.operations_in_flight, 0);
        pool.assert_all_back();
    });
}

#[test]
fn a_cancel_that_is_not_awaited_at_once_still_ends() {
    run_here(async {
        let (ours, _theirs) = pair();
        let mut read = ours.read(vec![0; 64]);
        assert!(poll_in_task(&mut read).await.is_pending());
        let mut cancel = read.cancel();
        assert!(poll_in_task(&mut cancel).await.is_pending());
        quiet().await;
        assert_eq!(cancel.await.expect_err("nothing came").raw_os_error(), Some(libc::ECANCELED));
    });
}

#[test]
fn an_operation_that_is_in_time_keeps_its_result() {
    run_here(async {
        let (ours, theirs) = pair();
        theirs.write("hello").await.expect("room");
        let (count, _) = ours.read(vec![0; 64]).timeout(LONG).await.expect("in time");
        assert_eq!(count, 5);
        theirs.write("again").await.expect("room");
        let (count, _) =
            ours.read(vec![0; 64]).deadline(Instant::now() + LONG).await.expect("in time");
        assert_eq!(count, 5);
    });
}

#[test]
fn an_operation_that_is_late_gives_its_buffer_back_and_is_never_early() {
    let pool = Pool::default();
    run_here(async {
        let (ours, theirs) = pair();
        for milliseconds in [0, 1, 10] {
            let limit = Duration::from_millis(milliseconds);
            let start = Instant::now();
            let error =
                ours.read(pool.filled([5; 64])).timeout(limit).await.expect_err("nothing comes");
            assert!(start.elapsed() >= limit);
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(&error.into_buffer()[..], [5; 64]);
        }
        let past =
            ours.read(pool.empty(64)).deadline(Instant::now()).await.expect_err("nothing comes");
        assert_eq!(past.kind(), ErrorKind::TimedOut);
        drop(past);
        // The stream is in order.
        theirs.write("hello").await.expect("room");
        assert_eq!(ours.read(vec![0; 64]).await.expect("data").0, 5);
    });
    pool.assert_all_back();
}

#[test]
fn a_timeout_is_an_io_error_of_its_kind_through_the_question_mark() {
    async fn read(stream: &UnixStream) -> std::io::Result<usize> {
        Ok(stream.read(vec![0; 64]).timeout(Duration::from_millis(1)).await?.0)
    }
    run_here(async {
        let (ours, _theirs) = pair();
        assert_eq!(read(&ours).await.expect_err("nothing comes").kind(), ErrorKind::TimedOut);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let late = listener.accept().timeout(Duration::from_millis(1)).await;
        assert_eq!(late.expect_err("nobody comes").kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_file_operation_with_a_deadline_that_passed_has_one_of_its_two_ends() {
    let pool = Pool::default();
    run_here(async {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        std::fs::write(&path, [4; 4096]).expect("written");
        let file = File::open(&path).await.expect("open");
        for _ in 0..100 {
            match file.read_at(pool.empty(4096), 0).deadline(Instant::now()).await {
                Ok((count, buffer)) => assert_eq!((count, &buffer[..]), (4096, &[4; 4096][..])),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
    });
    pool.assert_all_back();
}

#[test]
fn a_byte_is_either_reported_or_still_there_however_the_race_with_a_deadline_ends() {
    let random = Random::new(seed());
    run_here(async {
        let (ours, theirs) = pair();
        let writer = async {
            for byte in 0..200u8 {
                for _ in 0..random.below(4) {
                    annulus::yield_now().await;
                }
                if random.chance(8) {
                    annulus::time::sleep(Duration::from_micros(300)).await;
                }
                theirs.write_all(vec![byte]).await.expect("room");
            }
        };
        let reader = async {
            let mut next = 0;
            while next < 200u8 {
                let limit = Duration::from_micros(random.below(1500) as u64);
                match ours.read(vec![0; 16]).timeout(limit).await {
                    Ok((count, bytes)) => {
                        assert!(count > 0);
                        for byte in bytes {
                            assert_eq!(byte, next, "a byte was lost or came twice");
                            next += 1;
                        }
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                }
            }
        };
        futures_util::future::join(writer, reader).await;
        assert_eq!(quiet().await.operations_in_flight, 0);
    });
}

#[test]
fn an_operation_moves_from_one_task_to_another_while_it_waits() {
    run_here(async {
        let (ours, theirs) = pair();
        let mut read = Box::pin(async move { ours.read(vec![0; 64]).await.expect("data").0 });
        assert!(poll_in_task(&mut read).await.is_pending());
        turns(1).await;
        let other = annulus::spawn(read);
        turns(1).await;
        theirs.write("hello").await.expect("room");
        assert_eq!(other.await.expect("no panic"), 5);
    });
}

#[test]
fn the_last_waker_that_polled_is_the_one_that_is_woken() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    run_here(async {
        let (ours, theirs) = pair();
        let mut read = ours.read(vec![0; 64]);
        let counts = [Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0)))];
        for count in &counts {
            let waker = count.clone().into();
            assert!(
                Pin::new(&mut read).poll(&mut std::task::Context::from_waker(&waker)).is_pending()
            );
        }
        assert_eq!(Arc::strong_count(&counts[0]), 1, "the first waker was given back");
        theirs.write("hello").await.expect("room");
        quiet().await;
        assert_eq!(counts[0].0.load(Ordering::Relaxed), 0);
        assert_eq!(counts[1].0.load(Ordering::Relaxed), 1);
        assert_eq!(read.await.expect("data").0, 5);
    });
}

#[test]
fn an_exact_read_of_nothing_and_a_write_of_nothing_wait_for_nothing() {
    run_here(async {
        let (ours, theirs) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = annulus::net::TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connected");
        let limit = Duration::from_millis(500);
        let nothing = || Box::<[u8; 0]>::new([]);
        assert!(theirs.write_all(Vec::new()).timeout(limit).await.is_ok());
        assert!(client.write_all(Vec::new()).timeout(limit).await.is_ok());
        assert!(ours.read_exact(nothing()).timeout(limit).await.is_ok(), "unix");
        assert!(client.read_exact(nothing()).timeout(limit).await.is_ok(), "tcp");
    });
}

#[test]
#[should_panic(expected = "an operation was polled again after it had yielded its output")]
fn an_operation_that_is_polled_after_its_end_panics() {
    run_here(async {
        let (ours, theirs) = pair();
        theirs.write("hello").await.expect("room");
        let mut read = ours.read(vec![0; 64]);
        (&mut read).await.expect("data");
        let _ = (&mut read).await;
    });
}
