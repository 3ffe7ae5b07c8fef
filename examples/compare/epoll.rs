//! What does a plain epoll program do? The yardstick: an echo server and a block reader written by hand on libc.
//!
//! Echo is one thread with one level-triggered epoll set. Regular files are always "ready" to epoll, so reads go to a
//! pool of `pread` threads, and an eventfd tells the loop of finished ones. Every system call that a loop or the pool
//! issues for its work is counted, except futex calls (the standard library makes those out of our sight, so the pool's
//! true number is higher) and those for the conversation with the parent.
#![allow(unsafe_code)] // epoll, eventfd and aligned memory have no safe form in the standard library.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::Failure;
use crate::child::{Control, Counters, EchoJob, FileJob, Reply, Request, SliceBooks, SliceReply};
use crate::data_file::{BLOCK_SIZE, BlockChoice, choose_block, is_content_of};
use crate::random::Random;

/// Events taken from the kernel by one `epoll_wait`; more wait for the next.
const EVENT_BATCH: usize = 256;

/// An epoll set.
#[derive(Debug)]
pub(crate) struct Epoll {
    descriptor: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: the call takes an integer and answers a new descriptor that nobody else owns, or -1.
        let descriptor = unsafe {
            let number = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            checked(number)?;
            OwnedFd::from_raw_fd(number)
        };
        Ok(Epoll { descriptor })
    }

    /// The token of a descriptor is its number.
    pub(crate) fn add(&self, source: &impl AsRawFd, interest: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source.as_raw_fd(), interest)
    }

    pub(crate) fn modify(&self, source: &impl AsRawFd, interest: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source.as_raw_fd(), interest)
    }

    fn control(&self, operation: libc::c_int, source: RawFd, interest: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: source as u64 };
        // SAFETY: `event` is a local; the kernel copies it during the call.
        checked(unsafe { libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, source, &mut event) })
    }

    /// Waits until something is ready or `timeout_ms` have passed (-1: for ever). Begins again after a signal.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        let room = events.list.len() as libc::c_int;
        loop {
            // SAFETY: the list is owned by `events`, which is borrowed mutably for the whole call, and has `room` entries.
            let count = unsafe { libc::epoll_wait(self.descriptor.as_raw_fd(), events.list.as_mut_ptr(), room, timeout_ms) };
            events.count = usize::try_from(count).unwrap_or(0);
            match checked(count) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for the answer of one `epoll_wait`.
pub(crate) struct Events {
    list: Vec<libc::epoll_event>,
    count: usize,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { list: vec![libc::epoll_event { events: 0, u64: 0 }; EVENT_BATCH], count: 0 }
    }

    /// The descriptors that are ready.
    pub(crate) fn ready(&self) -> impl Iterator<Item = RawFd> {
        self.list[..self.count].iter().map(|event| event.u64 as RawFd)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

// ---- echo

/// Serves until the parent has no more requests.
pub(crate) fn serve_echo(job: &EchoJob, control: &mut Control) -> Result<(), Failure> {
    EchoServer::bind(job)?.run(control)
}

struct EchoServer {
    epoll: Epoll,
    listener: TcpListener,
    /// By descriptor number.
    connections: Vec<Option<Connection>>,
    /// Shared by all connections: bytes stay in it only if a socket does not take them at once.
    buffer: Vec<u8>,
    system_calls: u64,
}

struct Connection {
    stream: TcpStream,
    /// Read and not yet sent back; while there are any, the connection waits to be writable instead of readable.
    unsent: Vec<u8>,
}

impl EchoServer {
    fn bind(job: &EchoJob) -> io::Result<EchoServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        epoll.add(&listener, libc::EPOLLIN)?;
        epoll.add(&io::stdin(), libc::EPOLLIN)?;
        let connections = Vec::with_capacity(job.connections);
        Ok(EchoServer { epoll, listener, connections, buffer: vec![0; job.read_size], system_calls: 0 })
    }

    fn run(&mut self, control: &mut Control) -> Result<(), Failure> {
        let port = self.listener.local_addr()?.port();
        control.reply(&Reply::Ready { port, setup: "epoll, level-triggered, one thread".into() })?;
        let listener = self.listener.as_raw_fd();
        let mut events = Events::new();
        loop {
            self.system_calls += 1;
            self.epoll.wait(&mut events, -1)?;
            for ready in events.ready() {
                if ready == libc::STDIN_FILENO {
                    match control.next()? {
                        None => return Ok(()),
                        Some(Request::Counters) => control.reply(&Reply::Counters(Counters::now(self.system_calls)))?,
                        Some(other) => return Err(format!("an echo server cannot do {other:?}").into()),
                    }
                } else if ready == listener {
                    self.accept()?;
                } else {
                    self.echo(ready);
                }
            }
        }
    }

    /// One connection per event: the set is level-triggered, so further ones are reported again.
    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.epoll.add(&stream, libc::EPOLLIN)?;
        let index = stream.as_raw_fd() as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection { stream, unsent: Vec::new() });
        Ok(())
    }

    fn echo(&mut self, ready: RawFd) {
        let Some(connection) = &mut self.connections[ready as usize] else { return };
        let progressed = if connection.unsent.is_empty() {
            connection.receive_and_send(&self.epoll, &mut self.buffer, &mut self.system_calls)
        } else {
            connection.send_rest(&self.epoll, &mut self.system_calls)
        };
        if !progressed.unwrap_or(false) {
            // Closing the descriptor takes it out of the set, because it has no duplicate.
            self.connections[ready as usize] = None;
        }
    }
}

impl Connection {
    /// `false` when the peer has ended.
    fn receive_and_send(&mut self, epoll: &Epoll, buffer: &mut [u8], system_calls: &mut u64) -> io::Result<bool> {
        *system_calls += 1;
        let received = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        *system_calls += 1;
        let sent = match self.stream.write(&buffer[..received]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < received {
            self.unsent.extend_from_slice(&buffer[sent..received]);
            *system_calls += 1;
            epoll.modify(&self.stream, libc::EPOLLOUT)?;
        }
        Ok(true)
    }

    fn send_rest(&mut self, epoll: &Epoll, system_calls: &mut u64) -> io::Result<bool> {
        *system_calls += 1;
        match self.stream.write(&self.unsent) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.unsent.is_empty() {
            *system_calls += 1;
            epoll.modify(&self.stream, libc::EPOLLIN)?;
        }
        Ok(true)
    }
}

// ---- files

/// Reads in slices until the parent has no more requests.
pub(crate) fn serve_files(job: &FileJob, control: &mut Control) -> Result<(), Failure> {
    let mut reader = PoolReader::start(job)?;
    let setup = format!("epoll with an eventfd and {} pread threads", job.depth);
    control.reply(&Reply::Ready { port: 0, setup })?;
    while let Some(request) = control.next()? {
        match request {
            Request::Slice { duration_ms, seed } => {
                let reply = reader.slice(job, duration_ms, seed)?;
                control.reply(&Reply::Slice(reply))?;
            }
            other @ Request::Counters => return Err(format!("a file reader cannot do {other:?}").into()),
        }
    }
    // The pool's threads end with the process: they wait on a queue that nobody fills any more.
    Ok(())
}

/// A block of memory that `O_DIRECT` accepts.
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE]);

/// A read on its way through the pool and back.
struct PoolRead {
    choice: BlockChoice,
    asked: Instant,
    block: Box<Block>,
    result: io::Result<()>,
}

/// What the loop and the pool share.
struct Pool {
    file: File,
    queue: Mutex<VecDeque<PoolRead>>,
    queue_filled: Condvar,
    finished: Mutex<Vec<PoolRead>>,
    /// An eventfd; written when `finished` becomes non-empty, not for each read.
    doorbell: File,
    system_calls: AtomicU64,
}

impl Pool {
    /// A worker's life.
    fn work(&self) {
        loop {
            let mut read = self.next_read();
            read.result = self.file.read_exact_at(&mut read.block.0, read.choice.offset);
            self.system_calls.fetch_add(1, Ordering::Relaxed);
            let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
            finished.push(read);
            let is_first = finished.len() == 1;
            drop(finished);
            if is_first {
                self.system_calls.fetch_add(1, Ordering::Relaxed);
                (&self.doorbell).write_all(&1u64.to_ne_bytes()).expect("an eventfd takes 2^64 - 2 rings unread");
            }
        }
    }

    fn next_read(&self) -> PoolRead {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match queue.pop_front() {
                Some(read) => return read,
                None => queue = self.queue_filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Hands over a batch under one lock and wakes as many workers as there are reads.
    fn submit(&self, reads: &mut Vec<PoolRead>) {
        let count = reads.len();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).extend(reads.drain(..));
        (0..count).for_each(|_| self.queue_filled.notify_one());
    }
}

struct PoolReader {
    pool: Arc<Pool>,
    epoll: Epoll,
}

impl PoolReader {
    fn start(job: &FileJob) -> Result<PoolReader, Failure> {
        let flags = if job.direct { libc::O_DIRECT } else { 0 };
        let pool = Arc::new(Pool {
            file: OpenOptions::new().read(true).custom_flags(flags).open(&job.path)?,
            queue: Mutex::new(VecDeque::with_capacity(job.depth)),
            queue_filled: Condvar::new(),
            finished: Mutex::new(Vec::with_capacity(job.depth)),
            doorbell: new_eventfd()?,
            system_calls: AtomicU64::new(0),
        });
        for _ in 0..job.depth {
            let pool = Arc::clone(&pool);
            thread::Builder::new().stack_size(64 << 10).spawn(move || pool.work())?;
        }
        let epoll = Epoll::new()?;
        epoll.add(&pool.doorbell, libc::EPOLLIN)?;
        Ok(PoolReader { pool, epoll })
    }

    /// The main loop: keeps `depth` reads in flight until the time is up, then waits for the last ones.
    fn slice(&mut self, job: &FileJob, duration_ms: u64, seed: u64) -> Result<SliceReply, Failure> {
        let mut random = Random::new(seed);
        let mut events = Events::new();
        let mut finished = Vec::with_capacity(job.depth);
        let mut books = SliceBooks::open(duration_ms, self.pool.system_calls.load(Ordering::Relaxed));
        let mut batch: Vec<PoolRead> = (0..job.depth)
            .map(|_| PoolRead {
                choice: choose_block(&mut random, job.blocks),
                asked: Instant::now(),
                block: Box::new(Block([0; BLOCK_SIZE])),
                result: Ok(()),
            })
            .collect();
        let mut in_flight = batch.len();
        self.pool.submit(&mut batch);
        while in_flight > 0 {
            self.wait_for_finished(&mut events, &mut finished)?;
            for mut read in finished.drain(..) {
                in_flight -= 1;
                let BlockChoice { offset, salt } = read.choice;
                std::mem::replace(&mut read.result, Ok(()))?;
                if !is_content_of(offset, &read.block.0, salt) {
                    return Err(format!("wrong content read at offset {offset}").into());
                }
                if let Some(now) = books.book(read.asked) {
                    read.asked = now;
                    read.choice = choose_block(&mut random, job.blocks);
                    batch.push(read);
                }
            }
            in_flight += batch.len();
            self.pool.submit(&mut batch);
        }
        Ok(books.close(self.pool.system_calls.load(Ordering::Relaxed)))
    }

    /// Swaps the pool's list of finished reads for the empty one given.
    fn wait_for_finished(&self, events: &mut Events, finished: &mut Vec<PoolRead>) -> io::Result<()> {
        self.epoll.wait(events, -1)?;
        let mut rings = [0; size_of::<u64>()];
        (&self.pool.doorbell).read_exact(&mut rings)?;
        self.pool.system_calls.fetch_add(2, Ordering::Relaxed);
        std::mem::swap(&mut *self.pool.finished.lock().unwrap_or_else(PoisonError::into_inner), finished);
        Ok(())
    }
}

fn new_eventfd() -> io::Result<File> {
    // SAFETY: the call takes integers and answers a new descriptor that nobody else owns, or -1.
    unsafe {
        let number = libc::eventfd(0, libc::EFD_CLOEXEC);
        checked(number)?;
        Ok(File::from(OwnedFd::from_raw_fd(number)))
    }
}
