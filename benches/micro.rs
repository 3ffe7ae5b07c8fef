//! What do the small things cost, one at a time? `cargo bench`, or `cargo bench -- --quick yield` for a first look at some of them.
//!
//! Everything goes through the public API, on a runtime that is entered once per sample. Figures are wall-clock time of one thread that
//! does nothing else. A spawn and join of one task is also a trip round the loop; a sleep that is armed and dropped stays in the timer
//! wheel, as in a program that is always in time. Reads go through one warm file of 256 KiB, so they copy from the processor's cache, and
//! each batch allocates two lists. The echo goes over a socket pair within one thread, so both sides' work counts.
//!
//! Not measured: several cores, contention, latency under load, memory, the CPU time of kernel threads, other programs (benches/macro.rs, examples/compare.rs).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use annulus::fs::File;
use annulus::net::UnixStream;
use annulus::{Runtime, time};
use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

const MANY_TASKS: u64 = 10_000;
const PAGE_SIZE: usize = 4096;
const FILE_SIZE: usize = 64 * PAGE_SIZE;
const MESSAGE_SIZE: usize = 64;
/// Deadlines that never come due during a benchmark.
const LONG: Duration = Duration::from_secs(3600);

/// Times `iterations` of an asynchronous step within one `block_on`.
fn each<F: Future>(bencher: &mut Bencher<'_, WallTime>, runtime: &Runtime, mut step: impl FnMut() -> F) {
    bencher.iter_custom(|iterations| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..iterations {
                std::hint::black_box(step().await);
            }
            start.elapsed()
        })
    });
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, elements: u64) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements));
    group
}

fn tasks(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the benchmarks need io_uring");
    group(criterion, "spawn_and_join", 1).bench_function("1", |bencher| {
        each(bencher, &runtime, || annulus::spawn(ready(1)));
    });
    group(criterion, "spawn_and_join", MANY_TASKS).bench_function("10000", |bencher| {
        each(bencher, &runtime, async || {
            let handles: Vec<_> = (0..MANY_TASKS).map(|number| annulus::spawn(ready(number))).collect();
            for handle in handles {
                handle.await.expect("the task neither panics nor is aborted");
            }
        });
    });
    group(criterion, "yield_now", 1).bench_function("alone", |bencher| each(bencher, &runtime, annulus::yield_now));
    group(criterion, "ping_pong", 1).bench_function("there_and_back", |bencher| {
        bencher.iter_custom(|rounds| runtime.block_on(ping_pong(rounds)));
    });
}

/// A place for one number and for the waker of the task that waits for it.
#[derive(Default)]
struct Mailbox {
    letter: Cell<Option<u64>>,
    reader: RefCell<Option<Waker>>,
}

impl Mailbox {
    fn put(&self, letter: u64) {
        self.letter.set(Some(letter));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    async fn take(&self) -> u64 {
        poll_fn(|context| match self.letter.take() {
            Some(letter) => Poll::Ready(letter),
            None => {
                self.reader.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// Two tasks that wake each other; a round is two wakes and two polls.
async fn ping_pong(rounds: u64) -> Duration {
    let (there, back) = (Rc::new(Mailbox::default()), Rc::new(Mailbox::default()));
    let (requests, replies) = (Rc::clone(&there), Rc::clone(&back));
    drop(annulus::spawn(async move {
        for _ in 0..rounds {
            replies.put(requests.take().await);
        }
    }));
    let client = annulus::spawn(async move {
        let start = Instant::now();
        for round in 0..rounds {
            there.put(round);
            assert_eq!(back.take().await, round);
        }
        start.elapsed()
    });
    client.await.expect("the client does not panic")
}

fn timers(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the benchmarks need io_uring");
    let mut group = group(criterion, "time", 1);
    group.bench_function("sleep_armed_and_dropped", |bencher| {
        each(bencher, &runtime, async || {
            let mut sleep = time::sleep(LONG);
            poll_fn(|context| {
                assert!(Pin::new(&mut sleep).poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        });
    });
    group.bench_function("timeout_around_ready", |bencher| {
        each(bencher, &runtime, || time::timeout(LONG, ready(1)));
    });
}

/// A file in cargo's target directory, which is on disk where /tmp may be a tmpfs, with nothing but warm pages.
fn warm_file() -> io::Result<File> {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR"))?;
    io::Write::write_all(&mut file, &vec![0x5a; FILE_SIZE])?;
    Ok(File::from(file))
}

fn files(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the benchmarks need io_uring");
    let file = warm_file().expect("the target directory can be written to");
    let offset = Cell::new(0);
    let read = |buffer| file.read_at(buffer, (offset.replace(offset.get() + PAGE_SIZE) % FILE_SIZE) as u64);
    for in_flight in [1, 32] {
        let buffers = Cell::new((0..in_flight).map(|_| vec![0; PAGE_SIZE]).collect::<Vec<_>>());
        let mut group = group(criterion, "read_at_4k_cached", in_flight as u64);
        group.bench_function(format!("{in_flight}_in_flight"), |bencher| {
            each(bencher, &runtime, async || {
                let reads = buffers.take().into_iter().map(read);
                let check = |result: Result<(usize, Vec<u8>), annulus::Error<_>>| {
                    let (count, buffer) = result.expect("the file can be read");
                    assert_eq!(count, PAGE_SIZE);
                    buffer
                };
                buffers.set(all(reads.collect(), check).await);
            });
        });
    }
}

/// Waits for all, in any order, by polling each that has not ended. `join_all` brings wakers of its own from 31 futures on.
async fn all<F: Future + Unpin, T>(mut futures: Vec<F>, convert: impl Fn(F::Output) -> T) -> Vec<T> {
    let mut outputs = Vec::with_capacity(futures.len());
    poll_fn(|context| {
        futures.retain_mut(|future| Pin::new(future).poll(context).map(|output| outputs.push(convert(output))).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

fn sockets(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("the benchmarks need io_uring");
    let mut group = group(criterion, "unix_echo", 1);
    let (client, server) = UnixStream::pair().expect("a socket pair");
    drop(runtime.spawn(async move {
        let mut buffer = vec![0; MESSAGE_SIZE];
        loop {
            let count;
            (count, buffer) = server.read(buffer).await?;
            if count == 0 {
                return io::Result::Ok(());
            }
            buffer = server.write_all(buffer).await?;
        }
    }));
    let buffer = Cell::new(vec![0x5a; MESSAGE_SIZE]);
    group.bench_function("64_bytes_there_and_back", |bencher| {
        each(bencher, &runtime, async || {
            let message = client.write_all(buffer.take()).await.expect("the server lives");
            buffer.set(client.read_exact(message).await.expect("the server answers"));
        });
    });
}

criterion_group!(micro, tasks, timers, files, sockets);
criterion_main!(micro);
