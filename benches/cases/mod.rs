//! Small things, measured one at a time: the cases that `micro` times and whose instructions
//! `instructions` counts.
//!
//! A case does a number of operations on a runtime that it makes itself, through the public API,
//! and says how long they took. What it needs is made before and is not timed. A spawn and join of
//! one task is also a trip round the loop; a sleep that is armed and dropped stays in the timer
//! wheel, as in a program that is always in time. Reads go through one warm file of 256 KiB, so
//! they copy from the processor's cache. Echoes go over a socket pair within one thread, so both
//! sides' work counts.

mod copies;
mod wakes;

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
use futures_util::StreamExt;

/// One of the small things.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Whether its count of instructions is the same each time, and is guarded.
    pub(crate) is_guarded: bool,
    /// Does so many operations, and says how long they took.
    pub(crate) run: fn(u64) -> Duration,
}

pub(crate) const CASES: &[Case] = &[
    guarded("no_op", |count| in_turn(count, annulus::no_op)),
    guarded("no_op_64_in_flight", no_ops),
    guarded("spawn_and_join", |count| in_turn(count, || annulus::spawn(ready(1)))),
    guarded("spawn_and_join_10000", spawns),
    guarded("yield_now", |count| in_turn(count, annulus::yield_now)),
    guarded("ping_pong", |rounds| runtime().block_on(ping_pong(rounds))),
    guarded("sleep_armed_and_dropped", sleeps),
    guarded("timeout_around_ready", |count| in_turn(count, || time::timeout(LONG, ready(1)))),
    guarded("read_at_4k_cached", |count| reads(count, 1)),
    guarded("read_at_4k_cached_32_in_flight", |count| reads(count, 32)),
    guarded("unix_echo_64", echo_owned),
    guarded("unix_echo_64_chunks", echo_chunks),
    timed("timers_100000", timers),
    timed("copy_file_to_socket_1mib", copies::by_copy),
    timed("sendfile_file_to_socket_1mib", copies::by_sendfile),
    timed("wake_from_a_thread_busy", wakes::of_a_busy_target),
    timed("wake_from_a_thread_parked", wakes::of_a_parked_target),
];

const fn guarded(name: &'static str, run: fn(u64) -> Duration) -> Case {
    Case { name, is_guarded: true, run }
}

const fn timed(name: &'static str, run: fn(u64) -> Duration) -> Case {
    Case { name, is_guarded: false, run }
}

const IN_FLIGHT: u64 = 64;
const MANY_TASKS: u64 = 10_000;
const MANY_TIMERS: u64 = 100_000;
const PAGE_SIZE: usize = 4096;
const FILE_SIZE: usize = 64 * PAGE_SIZE;
const MESSAGE_SIZE: usize = 64;
/// Deadlines that never come due.
const LONG: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Runtime::new().expect("the benchmarks need io_uring")
}

/// Times `count` asynchronous steps, one after the other, within one `block_on`.
fn in_turn<F: Future>(count: u64, step: impl FnMut() -> F) -> Duration {
    runtime().block_on(timed_steps(count, step))
}

async fn timed_steps<F: Future>(count: u64, mut step: impl FnMut() -> F) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        std::hint::black_box(step().await);
    }
    start.elapsed()
}

/// As many in flight as the batch is large.
fn no_ops(count: u64) -> Duration {
    in_turn(count.div_ceil(IN_FLIGHT), || {
        all((0..IN_FLIGHT).map(|_| annulus::no_op()).collect(), drop)
    })
}

fn spawns(count: u64) -> Duration {
    in_turn(count.div_ceil(MANY_TASKS), async || {
        let handles: Vec<_> = (0..MANY_TASKS).map(|number| annulus::spawn(ready(number))).collect();
        for handle in handles {
            handle.await.expect("the task neither panics nor is aborted");
        }
    })
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

fn sleeps(count: u64) -> Duration {
    in_turn(count, async || {
        let mut sleep = time::sleep(LONG);
        poll_fn(|context| {
            assert!(Pin::new(&mut sleep).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    })
}

/// CPU time of tasks that each sleep once, a hundred thousand at a time, with deadlines over half a
/// second.
fn timers(count: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..count.div_ceil(MANY_TIMERS) {
        let before = cpu_time();
        runtime().block_on(async {
            let sleep = |number: u64| {
                annulus::spawn(time::sleep(Duration::from_micros(100_000 + number * 5)))
            };
            let tasks: Vec<_> = (0..MANY_TIMERS).map(sleep).collect();
            for task in tasks {
                task.await.expect("a sleep does not panic");
            }
        });
        spent += cpu_time() - before;
    }
    // The caller divides by the count, and a part of the batch is as dear as the whole.
    spent.mul_f64(count as f64 / (count.div_ceil(MANY_TIMERS) * MANY_TIMERS) as f64)
}

/// Of this thread, as the scheduler has booked it: behind by a few milliseconds at most.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .expect("the kernel keeps statistics of its scheduler");
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first word is a number"))
}

/// A file in cargo's target directory, which is on disk where /tmp may be a tmpfs, with nothing but
/// warm pages.
fn warm_file() -> io::Result<File> {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR"))?;
    io::Write::write_all(&mut file, &vec![0x5a; FILE_SIZE])?;
    Ok(File::from(file))
}

fn reads(count: u64, in_flight: u64) -> Duration {
    let file = warm_file().expect("the target directory can be written to");
    let offset = Cell::new(0);
    let read = |buffer| {
        file.read_at(buffer, (offset.replace(offset.get() + PAGE_SIZE) % FILE_SIZE) as u64)
    };
    let buffers = Cell::new((0..in_flight).map(|_| vec![0; PAGE_SIZE]).collect::<Vec<_>>());
    in_turn(count.div_ceil(in_flight), async || {
        let check = |result: Result<(usize, Vec<u8>), annulus::Error<_>>| {
            let (count, buffer) = result.expect("the file can be read");
            assert_eq!(count, PAGE_SIZE);
            buffer
        };
        buffers.set(all(buffers.take().into_iter().map(read).collect(), check).await);
    })
}

/// Waits for all, in any order, by polling each that has not ended. `join_all` brings wakers of its
/// own from 31 futures on.
async fn all<F: Future + Unpin, T>(
    mut futures: Vec<F>,
    convert: impl Fn(F::Output) -> T,
) -> Vec<T> {
    let mut outputs = Vec::with_capacity(futures.len());
    poll_fn(|context| {
        futures.retain_mut(|future| {
            Pin::new(future).poll(context).map(|output| outputs.push(convert(output))).is_pending()
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

fn echo_owned(count: u64) -> Duration {
    echo(count, async |server| {
        let mut buffer = vec![0; MESSAGE_SIZE];
        loop {
            let count;
            (count, buffer) = server.read(buffer).await?;
            if count == 0 {
                return Ok(());
            }
            buffer = server.write_all(buffer).await?;
        }
    })
}

fn echo_chunks(count: u64) -> Duration {
    echo(count, async |server| {
        let mut chunks = server.chunks();
        while let Some(chunk) = chunks.next().await {
            server.write_all(chunk?).await?;
        }
        Ok(())
    })
}

/// A client that waits for each reply, and a server in a task.
fn echo(count: u64, serve: impl AsyncFnOnce(UnixStream) -> io::Result<()> + 'static) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let (client, server) = UnixStream::pair().expect("a socket pair");
        let server = annulus::spawn(async move { serve(server).await });
        let buffer = Cell::new(vec![0x5a; MESSAGE_SIZE]);
        let spent = timed_steps(count, async || {
            let message = client.write_all(buffer.take()).await.expect("the server lives");
            buffer.set(client.read_exact(message).await.expect("the server answers"));
        })
        .await;
        drop(client);
        server.await.expect("the server does not panic").expect("the server fails at nothing");
        spent
    })
}
