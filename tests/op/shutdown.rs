//! The end of a runtime with work in flight: prompt, complete, and without a write into memory that
//! has been given back.

use std::cell::Cell;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::buf::AlignedBuffer;
use annulus::fs::File;
use annulus::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use annulus::time;

use crate::common::{
    Pool, in_own_process, open_descriptors, poll_in_task, quiet, runtime, scratch_dir, turns,
    watchdog,
};

/// Counts its drops.
struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Fills a runtime with tasks that wait for every kind of thing, and says how many.
async fn wait_for_everything(pool: &Pool, ended: &Rc<Cell<usize>>) -> usize {
    let mut count = 0;
    let mut start = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let guard = Guard(Rc::clone(ended));
        count += 1;
        drop(annulus::spawn(async move {
            let _guard = guard;
            future.await;
            unreachable!("nothing comes");
        }));
    };
    for _ in 0..10 {
        let ((a, b), buffer) = (UnixStream::pair().expect("a pair"), pool.empty(100));
        start(Box::pin(async move {
            let _b = b;
            drop(a.read(buffer).await);
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (client, buffer) =
            (TcpStream::connect(address).await.expect("connected"), pool.empty(100));
        let server = listener.accept().await.expect("accepted");
        start(Box::pin(async move {
            let _server = server;
            drop(client.read_exact(buffer).await);
        }));
        start(Box::pin(async move { drop(listener.accept().await) }));
        let (socket, buffer) =
            (UdpSocket::bind("127.0.0.1:0").await.expect("a port"), pool.empty(100));
        start(Box::pin(async move { drop(socket.recv_from(buffer).await) }));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (pipe, buffer) = (File::from(std::os::fd::OwnedFd::from(reader)), pool.empty(100));
        start(Box::pin(async move {
            let _writer = writer;
            drop(pipe.read_at(buffer, 0).await);
        }));
        start(Box::pin(time::sleep(Duration::from_secs(1000))));
        start(Box::pin(std::future::pending()));
    }
    count
}

#[test]
fn a_runtime_ends_promptly_with_operations_of_every_kind_in_flight() {
    let _watchdog = watchdog();
    let (pool, ended) = (Pool::default(), Rc::new(Cell::new(0)));
    let runtime = runtime();
    let count = runtime.block_on(async {
        let count = wait_for_everything(&pool, &ended).await;
        turns(3).await;
        count
    });
    assert_eq!(ended.get(), 0);
    let start = Instant::now();
    drop(runtime);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "everything was cancelled, nothing was leaked"
    );
    assert_eq!(ended.get(), count);
    pool.assert_all_back();
}

#[test]
fn a_runtime_leaves_no_descriptor_behind_whatever_was_in_flight() {
    in_own_process(|| {
        let before = open_descriptors();
        for submitted in [false, true] {
            let (pool, ended) = (Pool::default(), Rc::default());
            let runtime = runtime();
            runtime.block_on(async {
                wait_for_everything(&pool, &ended).await;
                if submitted {
                    turns(3).await;
                }
            });
            drop(runtime);
            assert_eq!(open_descriptors(), before);
        }
    });
}

#[test]
fn direct_reads_in_flight_at_the_end_write_only_into_their_own_memory() {
    let _watchdog = watchdog();
    let directory = scratch_dir();
    let path = directory.path().join("direct");
    std::fs::write(&path, vec![6; 8 << 20]).expect("written");
    let Ok(file) = std::fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(&path)
    else {
        println!("this file system has no direct reads");
        return;
    };
    for round in 0..10 {
        let runtime = runtime();
        let file = File::from(file.try_clone().expect("a descriptor"));
        runtime.block_on(async {
            let mut reads: Vec<_> = (0..8)
                .map(|part| file.read_at(AlignedBuffer::with_page_alignment(1 << 20), part << 20))
                .collect();
            for read in &mut reads {
                assert!(poll_in_task(read).await.is_pending());
            }
            turns(round % 3).await;
        });
        // The runtime ends with the reads in flight or orphaned; then the same memory is used
        // again.
        drop(runtime);
        let again: Vec<Vec<u8>> = (0..8).map(|_| vec![0xdd; 1 << 20]).collect();
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            again.iter().all(|block| block.iter().all(|&byte| byte == 0xdd)),
            "a write after the end"
        );
    }
}

#[test]
// The handle is to outlive its runtime.
#[allow(clippy::async_yields_async)]
fn jobs_on_threads_do_not_hold_up_the_end_and_find_it() {
    let _watchdog = watchdog();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let runtime = runtime();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let job = runtime.block_on(async {
        let job = annulus::spawn_blocking(move || {
            begun.send(()).expect("the test waits");
            // Ends only after the runtime has.
            receiver.recv().expect("a word");
        });
        turns(1).await;
        job
    });
    has_begun.recv().expect("it begins");
    drop(runtime);
    sender.send(()).expect("the job listens");
    assert!(job.is_finished());
    let error = annulus::block_on(job).expect_err("its runtime has ended");
    assert!(error.is_cancelled());
}

#[test]
fn an_operation_of_one_runtime_is_polled_in_another_and_ends_when_its_own_goes_on() {
    let _watchdog = watchdog();
    let (first, second) = (runtime(), runtime());
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut read = ours.read(vec![0; 64]);
    first.block_on(async { assert!(poll_in_task(&mut read).await.is_pending()) });
    second.block_on(async {
        theirs.write("hello").await.expect("room");
        assert!(poll_in_task(&mut read).await.is_pending(), "its own loop stands still");
    });
    first.block_on(turns(2));
    let (count, _) = second.block_on(read).expect("data");
    assert_eq!(count, 5);
}

#[test]
fn the_first_runtime_wakes_a_task_of_the_second_whose_operation_it_runs() {
    let _watchdog = watchdog();
    let (first, second) = (runtime(), runtime());
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut read = Box::pin(async move { ours.read(vec![0; 64]).await.expect("data").0 });
    first.block_on(async { assert!(poll_in_task(&mut read).await.is_pending()) });
    let task = second.spawn(read);
    second.block_on(turns(2));
    assert!(!task.is_finished());
    first.block_on(async {
        theirs.write("hello").await.expect("room");
        turns(3).await;
    });
    assert_eq!(second.block_on(task).expect("no panic"), 5);
}

#[test]
fn a_stream_that_outlives_its_runtime_works_in_the_next() {
    let _watchdog = watchdog();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    for round in 0..3 {
        runtime().block_on(async {
            theirs.write(vec![round; 10]).await.expect("room");
            let (count, bytes) = ours.read(vec![0; 64]).await.expect("data");
            assert_eq!((count, bytes), (10, vec![round; 10]));
        });
    }
}

#[test]
fn streams_are_dropped_outside_of_a_runtime() {
    in_own_process(|| {
        let before = open_descriptors();
        let kept = annulus::block_on(async { UnixStream::pair().expect("a pair") });
        assert_eq!(open_descriptors().len(), before.len() + 2);
        drop(kept);
        assert_eq!(open_descriptors(), before);
    });
}

/// A buffer whose drop panics: an ill-behaved user of the crate.
struct Explosive(Box<[u8]>);

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("an explosive buffer");
    }
}

#[allow(unsafe_code)]
mod explosive {
    use annulus::buf::{IoBuf, IoBufMut};

    // SAFETY: the bytes are in a box of their own.
    unsafe impl IoBuf for super::Explosive {
        fn as_init_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }

        fn init_len(&self) -> usize {
            self.0.len()
        }
    }

    // SAFETY: as above, and the box is their only owner.
    unsafe impl IoBufMut for super::Explosive {
        fn as_mut_ptr(&mut self) -> *mut u8 {
            self.0.as_mut_ptr()
        }

        fn capacity(&self) -> usize {
            self.0.len()
        }

        unsafe fn set_init_len(&mut self, _len: usize) {}
    }
}

#[test]
fn a_panic_in_the_drop_of_an_orphaned_buffer_loses_no_wake_and_no_buffer() {
    let _watchdog = watchdog();
    let pool = Pool::default();
    let runtime = runtime();
    let (a, b) = (UnixStream::pair().expect("a pair"), UnixStream::pair().expect("a pair"));
    let body = async {
        let (mut bad, mut good) = (a.0.read(Explosive(Box::new([0; 8]))), b.0.read(pool.empty(8)));
        assert!(poll_in_task(&mut bad).await.is_pending());
        assert!(poll_in_task(&mut good).await.is_pending());
        turns(1).await;
        drop((bad, good));
        turns(5).await;
    };
    // The panic may come out of `block_on` or go nowhere, but the rest of the loop goes on.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(body)));
    runtime.block_on(async {
        while annulus::metrics().operations_in_flight > 0 {
            annulus::yield_now().await;
        }
    });
    pool.assert_all_back();
}

#[test]
fn a_panic_in_the_drop_of_a_buffer_does_not_end_the_end_of_a_runtime_early() {
    in_own_process(|| {
        let before = open_descriptors();
        let pool = Pool::default();
        let runtime = runtime();
        runtime.block_on(async {
            for _ in 0..3 {
                let ((a, b), (c, d)) =
                    (UnixStream::pair().expect("a pair"), UnixStream::pair().expect("a pair"));
                let good = pool.empty(8);
                drop(annulus::spawn(async move {
                    let (bad, good) = (a.read(Explosive(Box::new([0; 8]))), c.read(good));
                    let _both = futures_util::future::join(bad, good).await;
                    drop((b, d));
                }));
            }
            turns(2).await;
        });
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(runtime)));
        assert_eq!(open_descriptors(), before);
        pool.assert_all_back();
    });
}

#[test]
fn a_panic_in_the_drop_of_a_buffer_while_a_thread_unwinds_does_not_end_the_process() {
    in_own_process(|| {
        let payload = std::panic::catch_unwind(|| {
            let runtime = runtime();
            let (a, b) = UnixStream::pair().expect("a pair");
            drop(runtime.spawn(async move {
                let _b = b;
                drop(a.read(Explosive(Box::new([0; 8]))).await);
            }));
            runtime.block_on(turns(2));
            panic!("the first");
        });
        assert_eq!(payload.expect_err("a panic").downcast_ref::<&str>(), Some(&"the first"));
    });
}

#[test]
fn ten_thousand_panics_in_the_drops_of_buffers_do_not_fill_the_stack() {
    in_own_process(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let runtime = runtime();
        // A pipe as a file, since reads of a stream would wait for their turn outside the ring.
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        let body = async {
            let mut reads: Vec<_> =
                (0..10_000).map(|_| pipe.read_at(Explosive(Box::new([0; 8])), 0)).collect();
            for read in &mut reads {
                assert!(poll_in_task(read).await.is_pending());
            }
            turns(2).await;
            drop(reads);
        };
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(body)));
        // Panics may come out one a turn.
        while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(quiet())))
            .is_err()
        {}
        let _ = std::panic::take_hook();
    });
}
