//! A random program: many tasks over sockets, pipes and files that start, await, drop, select, time
//! out, cancel and abort at random.
//!
//! `ANNULUS_SEED` repeats a run, `ANNULUS_TORTURE` is the number of operations (per task: a share
//! of it). At the end everything is back, and whatever was awaited to its end was right.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use annulus::fs::File;
use annulus::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use annulus::{Builder, JoinHandle, spawn, spawn_blocking, time, yield_now};
use common::{
    Pool, Random, Tracked, build_runtime, in_own_process, open_descriptors, poll_in_task,
    scratch_dir, seed, turns,
};
use futures_util::future::{Either, select};

const TASKS: usize = 24;

fn operations() -> usize {
    std::env::var("ANNULUS_TORTURE")
        .map_or(4000, |text| text.parse().expect("ANNULUS_TORTURE is a number"))
}

/// What the tasks share.
struct World {
    random: Random,
    pool: Pool,
    file: File,
    scratch: std::path::PathBuf,
    udp: UdpSocket,
    address: std::net::SocketAddr,
    listener: TcpListener,
    ended: Cell<usize>,
    victims: RefCell<Vec<JoinHandle<()>>>,
    /// How often each outcome was met, to show that the run was worth something.
    outcomes: [Cell<usize>; 6],
}

const FILE_LEN: usize = 1 << 16;

/// The byte at a place of the shared file, which nobody changes.
fn byte_at(offset: usize) -> u8 {
    (offset * 31 + offset / 251) as u8
}

impl World {
    fn short(&self) -> Duration {
        Duration::from_micros(self.random.below(2000) as u64)
    }

    async fn pause(&self) {
        match self.random.below(6) {
            0 => time::sleep(self.short()).await,
            1 => turns(1).await,
            2 => yield_now().await,
            _ => {}
        }
    }

    /// Does something with the future of an operation: to its end, for a while, or hardly at all.
    /// `None`: it was dropped.
    async fn some_fate<F: Future + Unpin>(&self, mut future: F) -> Option<F::Output> {
        let outcome = self.random.below(6);
        self.outcomes[outcome].set(self.outcomes[outcome].get() + 1);
        match outcome {
            0 => None,
            1 => {
                // Polled once, then dropped, submitted or not.
                let polled = poll_in_task(&mut future).await;
                self.pause().await;
                match polled {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                }
            }
            2 => match select(future, time::sleep(self.short())).await {
                Either::Left((output, _)) => Some(output),
                Either::Right(((), _)) => None,
            },
            3 => time::timeout(self.short(), future).await.ok(),
            4 => {
                // Polled here, ended elsewhere.
                if let Poll::Ready(output) = poll_in_task(&mut future).await {
                    return Some(output);
                }
                self.pause().await;
                time::timeout(Duration::from_millis(5), &mut future).await.ok()
            }
            _ => time::timeout(Duration::from_millis(20), future).await.ok(),
        }
    }

    /// A read of the shared file is right, or dropped.
    async fn read_file(&self) {
        let (offset, length) = (self.random.below(FILE_LEN), 1 + self.random.below(4096));
        if self.random.chance(3) {
            let read = self.file.read_exact_at(self.pool.empty(length), offset as u64);
            match self.some_fate(read).await {
                Some(Ok(buffer)) => check_bytes(&buffer, offset, length),
                Some(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                    check_bytes(&error.into_buffer(), offset, FILE_LEN - offset);
                }
                None => {}
            }
        } else {
            let read = self.file.read_at(self.pool.empty(length), offset as u64);
            if let Some(read) = self.some_fate(read).await {
                let (count, buffer) = read.expect("a read of a file");
                check_bytes(&buffer, offset, count);
            }
        }
    }

    /// A conversation over a new pair: what was said and heard to the end is right.
    async fn converse(self: Rc<Self>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let length = 1 + self.random.below(100_000);
        let world = Rc::clone(&self);
        let writer = spawn(async move {
            let content: Vec<u8> = (0..length).map(byte_at).collect();
            let write = theirs.write_all(world.pool.filled(content));
            // A dropped write has sent a first part.
            drop(world.some_fate(write).await);
            world.pause().await;
        });
        let mut heard = 0;
        loop {
            let result = match self.random.below(4) {
                0 => {
                    ours.read(self.pool.empty(1 + self.random.below(8192)))
                        .timeout(self.short())
                        .await
                }
                1 => {
                    let mut read = ours.read(self.pool.empty(1 + self.random.below(8192)));
                    match poll_in_task(&mut read).await {
                        Poll::Ready(result) => result,
                        Poll::Pending => {
                            self.pause().await;
                            read.cancel().await
                        }
                    }
                }
                _ => ours.read(self.pool.empty(1 + self.random.below(8192))).await,
            };
            match result {
                Ok((0, _)) => break,
                Ok((count, buffer)) => {
                    check_bytes(&buffer, heard, count);
                    heard += count;
                }
                Err(error) => {
                    let expected = error.kind() == ErrorKind::TimedOut
                        || error.raw_os_error() == Some(libc::ECANCELED);
                    assert!(expected, "{error}");
                }
            }
        }
        assert!(heard <= length);
        if self.random.chance(2) {
            writer.abort();
        }
        let _ = writer.await;
    }

    /// A TCP connection whose two ends are dropped at random.
    async fn connect(&self) {
        let address = self.listener.local_addr().expect("bound");
        let connect = Box::pin(TcpStream::connect(address));
        let accept = self.listener.accept();
        if let Some(accepted) = self.some_fate(futures_util::future::join(connect, accept)).await
            && let (Ok(client), Ok((server, _))) = accepted
        {
            // The two need not be of one connection: an earlier one may have waited.
            let write = client.write_all(self.pool.filled("ping"));
            drop(self.some_fate(write).await);
            drop(self.some_fate(server.read(self.pool.empty(16))).await);
            let close = Box::pin(client.close());
            drop(self.some_fate(close).await);
        }
    }

    async fn datagram(&self) {
        if self.random.chance(2) {
            let send = self.udp.send_to(self.pool.filled("datagram"), self.address);
            drop(self.some_fate(send).await);
        } else {
            let receive = self.udp.recv_from(self.pool.empty(64));
            if let Some(Ok((count, from, buffer))) = self.some_fate(receive).await {
                assert_eq!((&buffer[..count], from), (&b"datagram"[..], self.address));
            }
        }
    }

    async fn paths(&self, name: String) {
        let path = self.scratch.join(name);
        let content = self.pool.filled("content");
        let write = Box::pin(annulus::fs::write(&path, content));
        let written = self.some_fate(write).await;
        if let Some(Ok(())) = written {
            let read: Pin<Box<dyn Future<Output = std::io::Result<Vec<u8>>>>> =
                Box::pin(annulus::fs::read(path.clone()));
            if let Some(read) = self.some_fate(read).await {
                assert_eq!(read.expect("just written"), b"content");
            }
            drop(self.some_fate(Box::pin(annulus::fs::metadata(&path))).await);
        }
        // Behind a write that was dropped and may yet make the file, so not for sure its end: the
        // test removes the rest.
        drop(annulus::fs::remove_file(&path).await);
    }

    async fn sleeps(&self) {
        let start = Instant::now();
        let duration = self.short();
        if self.some_fate(time::sleep(duration)).await.is_some() {
            assert!(start.elapsed() >= duration, "a sleep ended early");
        }
    }

    /// A task that is aborted some time, or not.
    async fn victims(self: Rc<Self>) {
        let world = Rc::clone(&self);
        let handle = spawn(async move {
            let (ours, _theirs) = UnixStream::pair().expect("a pair");
            let _ = ours.read(world.pool.empty(100)).timeout(Duration::from_millis(30)).await;
        });
        self.victims.borrow_mut().push(handle);
        if self.random.chance(2) {
            let victim = {
                let mut victims = self.victims.borrow_mut();
                let count = victims.len();
                victims.swap_remove(self.random.below(count))
            };
            victim.abort();
            if self.random.chance(2) {
                let _ = victim.await;
            }
        }
    }

    async fn jobs(&self) {
        let number = self.random.next();
        if let Some(result) = self.some_fate(spawn_blocking(move || number)).await {
            assert_eq!(result.expect("no panic"), number);
        }
    }
}

fn check_bytes(buffer: &Tracked, offset: usize, count: usize) {
    assert_eq!(buffer.len(), count);
    for (index, &byte) in buffer.iter().enumerate() {
        assert_eq!(byte, byte_at(offset + index), "byte {index} of {count} from {offset}");
    }
}

async fn life(world: Rc<World>, name: usize, steps: usize) {
    for step in 0..steps {
        match world.random.below(16) {
            0..=4 => world.read_file().await,
            5 | 6 => Rc::clone(&world).converse().await,
            7 => world.connect().await,
            8..=10 => world.datagram().await,
            11 => {
                world.paths(format!("annulus-torture-{}-{name}-{step}", std::process::id())).await
            }
            12 | 13 => world.sleeps().await,
            14 => Rc::clone(&world).victims().await,
            _ => world.jobs().await,
        }
        world.pause().await;
    }
    world.ended.set(world.ended.get() + 1);
}

fn torture(builder: Builder, seed: u64, operations: usize) {
    let random = Random::new(seed);
    let pool = Pool::default();
    let scratch = scratch_dir();
    let shared = scratch.path().join("shared");
    std::fs::write(&shared, (0..FILE_LEN).map(byte_at).collect::<Vec<u8>>()).expect("written");
    let before = open_descriptors();
    let runtime = build_runtime(builder);
    let ended = runtime.block_on(async {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let world = Rc::new(World {
            random,
            pool: pool.clone(),
            file: File::open(&shared).await.expect("open"),
            scratch: scratch.path().to_owned(),
            address: udp.local_addr().expect("bound"),
            udp,
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            ended: Cell::new(0),
            victims: RefCell::default(),
            outcomes: Default::default(),
        });
        let tasks: Vec<_> = (0..TASKS)
            .map(|name| spawn(life(Rc::clone(&world), name, operations / TASKS)))
            .collect();
        let mut panics = Vec::new();
        for task in tasks {
            // The runtime is ended while work is in flight now and then.
            if let Err(error) = task.await {
                panics.push(error.to_string());
            }
        }
        assert_eq!(panics, Vec::<String>::new());
        println!("outcomes: {:?}", world.outcomes);
        world.ended.get()
    });
    assert_eq!(ended, TASKS);
    println!("{:?}", runtime.metrics());
    assert_eq!(runtime.metrics().stale_completions, 0);
    let end = Instant::now();
    drop(runtime);
    assert!(end.elapsed() < Duration::from_secs(5), "the end is not held up");
    assert_eq!(open_descriptors(), before);
    pool.assert_all_back();
}

/// As `torture`, but the runtime ends while work is in flight.
fn interrupted(builder: Builder, seed: u64, operations: usize) {
    let random = Random::new(seed);
    let pool = Pool::default();
    let before = open_descriptors();
    for _ in 0..10 {
        let scratch = scratch_dir();
        let shared = scratch.path().join("shared");
        std::fs::write(&shared, (0..FILE_LEN).map(byte_at).collect::<Vec<u8>>()).expect("written");
        let runtime = build_runtime(builder.clone());
        runtime.block_on(async {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let world = Rc::new(World {
                random: Random::new(random.next()),
                pool: pool.clone(),
                file: File::open(&shared).await.expect("open"),
                scratch: scratch.path().to_owned(),
                address: udp.local_addr().expect("bound"),
                udp,
                listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
                ended: Cell::new(0),
                victims: RefCell::default(),
                outcomes: Default::default(),
            });
            for name in 0..TASKS {
                drop(spawn(life(Rc::clone(&world), name, operations / TASKS)));
            }
            time::sleep(Duration::from_micros(random.below(30_000) as u64)).await;
            world.victims.take();
        });
        let end = Instant::now();
        drop(runtime);
        assert!(end.elapsed() < Duration::from_secs(5), "the end is not held up");
        drop(scratch);
        assert_eq!(open_descriptors(), before);
        pool.assert_all_back();
    }
}

#[test]
fn a_random_program_leaves_nothing_behind_and_what_it_read_was_right() {
    let seed = seed();
    in_own_process(|| torture(Builder::new(), seed, operations()));
}

#[test]
fn a_random_program_does_the_same_on_tiny_queues() {
    let seed = seed();
    in_own_process(|| {
        torture(Builder::new().entries(1).completion_entries(2), seed, operations() / 2);
    });
}

#[test]
fn a_random_program_may_be_ended_at_any_time() {
    let seed = seed();
    in_own_process(|| {
        for entries in [1, 256] {
            interrupted(Builder::new().entries(entries), seed, 100_000);
        }
    });
}
