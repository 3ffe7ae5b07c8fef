//! The calls of the allocator by a program in its stride: for input and output, none.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::fs::File;
use annulus::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use annulus::{metrics, spawn, time, yield_now};
use futures_util::StreamExt;

use common::{in_own_process, run_here, scratch_dir, turns};

thread_local! {
    /// Requests of this thread, and what it has asked for less what it gave back, in bytes. Other
    /// threads run other tests.
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(requests: u64, bytes: i64) {
    let _ = REQUESTS.try_with(|count| count.set(count.get() + requests));
    let _ = BYTES.try_with(|count| count.set(count.get() + bytes));
}

// SAFETY: all is handed on to the system's allocator unchanged; the counters have no destructor and
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn requests() -> u64 {
    REQUESTS.get()
}

const WARM_UP: usize = 200;
const MEASURED: usize = 1000;

/// Counts the allocations of a thousand rounds after some that do not count.
async fn allocations<F: AsyncFnMut()>(mut round: F) -> u64 {
    for _ in 0..WARM_UP {
        round().await;
    }
    let before = requests();
    for _ in 0..MEASURED {
        round().await;
    }
    requests() - before
}

#[test]
fn the_counter_counts() {
    let before = requests();
    drop(std::hint::black_box(Box::new(5)));
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(requests() - before, 2);
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client =
        TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    (client, server)
}

#[test]
fn an_echo_over_tcp_allocates_nothing() {
    run_here(async {
        let (client, server) = connected().await;
        drop(spawn(async move {
            let mut buffer = Vec::with_capacity(4096);
            loop {
                let count;
                (count, buffer) = server.read(buffer).await?;
                if count == 0 {
                    return io::Result::Ok(());
                }
                buffer = server.write_all(buffer).await?;
            }
        }));
        let mut buffer = Some(vec![7u8; 100]);
        let count = allocations(async || {
            let sent = client.write_all(buffer.take().expect("it came back")).await.expect("sent");
            let received = client.read_exact(sent.slice(..100)).await.expect("received");
            buffer = Some(received.into_inner());
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn reads_and_writes_of_a_file_allocate_nothing() {
    if common::is_on_software_ring() {
        return println!("skipped: handing a write to a thread of the pool allocates");
    }
    run_here(async {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        let std_file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("open");
        let file = File::from(std_file);
        let mut buffer = Some(vec![7u8; 512]);
        let count = allocations(async || {
            let written =
                file.write_all_at(buffer.take().expect("it came back"), 0).await.expect("written");
            let (_, read) = file.read_at(written, 0).await.expect("read");
            buffer =
                Some(file.read_exact_at(read.slice(..512), 0).await.expect("read").into_inner());
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn datagrams_allocate_nothing() {
    run_here(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let mut buffer = Some(vec![7u8; 100]);
        let count = allocations(async || {
            let (_, sent) =
                socket.send_to(buffer.take().expect("it came back"), address).await.expect("sent");
            let (_, from, received) = socket.recv_from(sent).await.expect("received");
            assert_eq!(from, address);
            buffer = Some(received);
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn sleeps_timeouts_yields_and_deadlines_allocate_nothing() {
    run_here(async {
        let (client, server) = connected().await;
        let mut buffer = Some(vec![7u8; 100]);
        let count = allocations(async || {
            yield_now().await;
            time::sleep(Duration::ZERO).await;
            time::timeout(Duration::from_secs(1000), yield_now()).await.expect("in time");
            let sent = client.write_all(buffer.take().expect("it came back")).await.expect("sent");
            let (_, received) =
                server.read(sent).timeout(Duration::from_secs(1000)).await.expect("received");
            buffer = Some(received);
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn a_spawned_task_lies_where_one_has_been() {
    run_here(async {
        let count = allocations(async || {
            spawn(async {}).await.expect("no panic");
            drop(spawn(yield_now()));
            let large = [1u8; 1000];
            spawn(async move { large.iter().map(|byte| u64::from(*byte)).sum::<u64>() })
                .await
                .expect("no panic");
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn a_future_that_is_too_large_for_a_cell_is_one_allocation_and_so_is_such_a_result() {
    run_here(async {
        let count = allocations(async || {
            let large = [1u8; 10_000];
            spawn(async move { large.len() }).await.expect("no panic");
        })
        .await;
        assert_eq!(count, MEASURED as u64);
        let count = allocations(async || {
            assert_eq!(spawn(async { [1u8; 10_000] }).await.expect("no panic").len(), 10_000);
        })
        .await;
        assert!(
            count >= MEASURED as u64 && count <= 2 * MEASURED as u64,
            "{count} allocations in {MEASURED} rounds"
        );
    });
}

#[test]
fn a_small_task_takes_eighty_bytes_at_most_and_gives_them_back() {
    const TASKS: usize = 500_000;
    run_here(async {
        for _ in 0..2 {
            let mut handles = Vec::with_capacity(TASKS);
            let before = BYTES.get();
            for number in 0..TASKS {
                handles.push(spawn(async move { number }));
            }
            let per_task = (BYTES.get() - before) / TASKS as i64 + size_of_val(&handles[0]) as i64;
            assert!(per_task <= 80, "{per_task} bytes");
            for (number, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await.expect("no panic"), number);
            }
            let kept = BYTES.get() - before;
            assert!(kept <= 3 << 20, "{kept} bytes are kept for tasks to come");
        }
    });
}

#[test]
fn an_echo_of_chunks_allocates_nothing() {
    run_here(async {
        let (client, server) = connected().await;
        drop(spawn(async move {
            let mut chunks = server.chunks();
            while let Some(chunk) = chunks.next().await {
                server.write_all(chunk?).await?;
            }
            io::Result::Ok(())
        }));
        let mut buffer = Some(vec![7u8; 100]);
        let count = allocations(async || {
            let sent = client.write_all(buffer.take().expect("it came back")).await.expect("sent");
            assert_eq!(client.read_chunk().await.expect("received"), sent);
            buffer = Some(sent);
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn an_idle_connection_among_chunks_takes_few_bytes() {
    // A little less than a power of two, so that the tables are nearly full.
    const CONNECTIONS: usize = 250;

    async fn echo(stream: UnixStream) -> io::Result<()> {
        let mut chunks = stream.chunks();
        while let Some(chunk) = chunks.next().await {
            stream.write_all(chunk?).await?;
        }
        Ok(())
    }

    /// Connections whose tasks wait for chunks, by their other ends.
    async fn idle(count: usize, peers: &mut Vec<UnixStream>) {
        for _ in 0..count {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            peers.push(theirs);
            let task = echo(ours);
            assert!(
                size_of_val(&task) <= 160,
                "with the header of a task it fits into a cell of 208 bytes"
            );
            drop(spawn(task));
        }
        turns(3).await;
    }

    run_here(async {
        let mut peers = Vec::with_capacity(CONNECTIONS + 1);
        // What the runtime has once: its pool, its first tables.
        idle(1, &mut peers).await;
        let before = BYTES.get();
        idle(CONNECTIONS, &mut peers).await;
        let taken = BYTES.get() - before;
        // Without the other ends, which are no part of the connections that wait. Theirs come
        // second, since closing them takes places in a table.
        let before = BYTES.get();
        let other_ends: Vec<_> =
            (0..CONNECTIONS).map(|_| UnixStream::pair().expect("a pair")).collect();
        let handles =
            (BYTES.get() - before - (CONNECTIONS * size_of::<(UnixStream, UnixStream)>()) as i64)
                / 2;
        drop(other_ends);
        let each = (taken - handles) / CONNECTIONS as i64;
        println!(
            "{each} bytes for a connection that waits: handle, task, and its part of tables that grow by doubling"
        );
        // The software ring keeps what the kernel keeps elsewhere: the request in flight, and the
        // descriptor's readiness.
        assert!(each < if common::is_on_software_ring() { 850 } else { 330 });
        assert_eq!(metrics().chunk_buffers_lent, 0);
        drop(peers);
    });
}

#[test]
fn a_dropped_operation_is_one_allocation_besides_its_buffer() {
    run_here(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let count = allocations(async || {
            let mut waits = socket.recv(vec![0; 8]);
            assert!(common::poll_in_task(&mut waits).await.is_pending());
            drop(waits);
            turns(2).await;
        })
        .await;
        assert_eq!(count, 2 * MEASURED as u64);
    });
}

#[test]
fn reads_after_a_dropped_one_allocate_nothing() {
    run_here(async {
        let (client, server) = connected().await;
        let mut dropped = server.read(vec![0; 8]);
        assert!(common::poll_in_task(&mut dropped).await.is_pending());
        drop(dropped);
        server.quiesce().await;
        let mut buffer = Some(vec![7u8; 8]);
        let count = allocations(async || {
            let sent = client.write_all(buffer.take().expect("it came back")).await.expect("sent");
            buffer = Some(server.read(sent).await.expect("received").1);
        })
        .await;
        assert_eq!(count, 0, "in {MEASURED} rounds");
    });
}

#[test]
fn wakes_are_free_on_the_own_thread() {
    run_here(async {
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let count = allocations(async || {
            for _ in 0..10 {
                drop(waker.clone());
                waker.wake_by_ref();
            }
            turns(1).await;
        })
        .await;
        assert_eq!(count, 0);
    });
}

#[test]
fn a_flood_of_wakes_from_another_thread_takes_bounded_memory() {
    run_here(async {
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        for _ in 0..10 {
            let wakers = Arc::clone(&wakers);
            drop(spawn(poll_fn(move |context| {
                wakers.lock().expect("no panic").push(context.waker().clone());
                Poll::<()>::Pending
            })));
        }
        turns(2).await;
        let wakers = wakers.lock().expect("no panic").clone();
        assert_eq!(wakers.len(), 10);
        let flood = std::thread::spawn(move || {
            let before = BYTES.get();
            let mut most = 0;
            for _ in 0..100_000 {
                // In turn, so that no two in a row are the same.
                wakers.iter().for_each(Waker::wake_by_ref);
                most = most.max(BYTES.get() - before);
            }
            most
        });
        // The loop does not look while this lasts.
        let most = flood.join().expect("no panic");
        assert!(most <= 64 * 1024, "{most} bytes for a million wakes of ten tasks");
    });
}

#[test]
fn a_runtime_gives_its_memory_back() {
    fn cycle() {
        common::runtime().block_on(async {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let tasks: Vec<_> = (0..100).map(|_| spawn(time::sleep(Duration::ZERO))).collect();
            drop(spawn(async move { drop(ours.read(vec![0; 8]).await) }));
            for task in tasks {
                let _ = task.await;
            }
            drop(theirs);
        });
    }
    // In a process of its own: what a runtime leaves to the next, another test's would take. The
    // first few find nothing warm.
    in_own_process(|| {
        for _ in 0..3 {
            cycle();
        }
        let before = BYTES.get();
        for _ in 0..20 {
            cycle();
        }
        let left = BYTES.get() - before;
        assert!(left <= 0, "{left} bytes stay behind");
    });
}
