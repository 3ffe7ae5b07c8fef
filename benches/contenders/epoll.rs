//! The contender written by hand on epoll: the yardstick for all that does not use a ring.
//!
//! Echo is one thread and one edge-triggered set, so that a connection is registered once and never
//! looked at without need; a read that does not fill the buffer has emptied the socket. Regular
//! files are always "ready" to epoll, so reads go to a pool of `pread` threads, and an eventfd
//! tells the loop of finished ones. Every system call that the loop and the pool make for their
//! work is counted, except futex calls: the standard library makes those out of our sight, so the
//! pool's true number is higher.
#![allow(unsafe_code)] // send, recv and eventfd have no safe form in the standard library.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::harness::child::{
    Begun, Control, EchoJob, Job, ReadJob, SliceBooks, SliceReply, answer_on_a_thread,
    answer_with_slices,
};
use crate::harness::data_file::{BLOCK_SIZE, BlockChoice, BlockOrder, check_block};
use crate::harness::epoll::{Epoll, Events, READABLE, WRITABLE};
use crate::harness::workloads::Work;
use crate::harness::{Contender, Failure};

pub(crate) const EPOLL: Contender = Contender {
    name: "epoll",
    counted: "all system calls of the loop and the pread pool, except futex calls (so the pool's are undercounted)",
    is_optional: false,
    is_pool: true,
    environment: &[],
    takes: |work| matches!(work, Work::Echo { .. } | Work::Idle { .. } | Work::RandomRead { .. }),
    serve,
};

fn serve(job: &Job, control: &mut Control) -> Result<(), Failure> {
    match job {
        Job::Echo(job) => EchoServer::bind(job)?.run(),
        Job::Read(job) => serve_reads(job, control),
        Job::Copy(_) => Err("epoll has nothing to do with copies".into()),
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// A connection, ready for the loop.
    fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
        }
    }
}

struct EchoServer {
    epoll: Epoll,
    listener: Listener,
    listener_number: i32,
    port: u16,
    /// By descriptor number.
    connections: Vec<Option<Connection>>,
    /// Shared by all connections: bytes stay in it only if a socket does not take them at once.
    buffer: Vec<u8>,
    system_calls: Arc<AtomicU64>,
}

struct Connection {
    socket: OwnedFd,
    /// Read and not yet sent back: nothing is read while there are any.
    unsent: Vec<u8>,
}

/// What a call on a non-blocking socket came to.
enum Progress {
    Bytes(usize),
    WouldBlock,
    Ended,
}

impl EchoServer {
    fn bind(job: &EchoJob) -> io::Result<EchoServer> {
        let epoll = Epoll::new()?;
        let (listener, listener_number, port) = match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                epoll.add(&listener, libc::EPOLLIN)?;
                let number = listener.as_raw_fd();
                (Listener::Unix(listener), number, 0)
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                epoll.add(&listener, libc::EPOLLIN)?;
                let (number, port) = (listener.as_raw_fd(), listener.local_addr()?.port());
                (Listener::Tcp(listener), number, port)
            }
        };
        let buffer = vec![0; job.read_size];
        Ok(EchoServer {
            epoll,
            listener,
            listener_number,
            port,
            connections: Vec::new(),
            buffer,
            system_calls: Arc::default(),
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let setup = "epoll, edge-triggered, one thread".into();
        answer_on_a_thread(self.port, setup, Some(Arc::clone(&self.system_calls)))?;
        let mut events = Events::new();
        let mut system_calls = 0;
        loop {
            system_calls += 1;
            self.epoll.wait(&mut events, -1)?;
            for ready in events.ready() {
                if ready == self.listener_number {
                    self.accept()?;
                } else if let Some(connection) = &mut self.connections[ready as usize]
                    && !connection.serve(&mut self.buffer, &self.epoll, &mut system_calls)?
                {
                    // Closing the descriptor takes it out of the set, because it has no duplicate.
                    self.connections[ready as usize] = None;
                }
            }
            self.system_calls.store(system_calls, Ordering::Relaxed);
        }
    }

    /// The listener is level-triggered: one connection per event, and further ones are reported
    /// again.
    fn accept(&mut self) -> io::Result<()> {
        let socket = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        self.epoll.add(&socket, READABLE)?;
        let index = socket.as_raw_fd() as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection { socket, unsent: Vec::new() });
        Ok(())
    }
}

impl Connection {
    /// Goes on until the socket gives or takes no more, for only then does an edge tell when it
    /// does again. `false` when the peer has ended.
    fn serve(
        &mut self,
        buffer: &mut [u8],
        epoll: &Epoll,
        system_calls: &mut u64,
    ) -> io::Result<bool> {
        if !self.unsent.is_empty() && !self.send_rest(epoll, system_calls)? {
            return Ok(false);
        }
        while self.unsent.is_empty() {
            *system_calls += 1;
            let received = match self.receive(buffer) {
                Progress::Bytes(count) => count,
                Progress::WouldBlock => return Ok(true),
                Progress::Ended => return Ok(false),
            };
            *system_calls += 1;
            let sent = match self.send(&buffer[..received]) {
                Progress::Bytes(count) => count,
                Progress::WouldBlock => 0,
                Progress::Ended => return Ok(false),
            };
            if sent < received {
                self.unsent.extend_from_slice(&buffer[sent..received]);
                *system_calls += 1;
                epoll.modify(&self.socket, WRITABLE)?;
            } else if received < buffer.len() {
                break;
            }
        }
        Ok(true)
    }

    fn send_rest(&mut self, epoll: &Epoll, system_calls: &mut u64) -> io::Result<bool> {
        *system_calls += 1;
        match self.send(&self.unsent) {
            Progress::Bytes(count) => drop(self.unsent.drain(..count)),
            Progress::WouldBlock => {}
            Progress::Ended => return Ok(false),
        }
        if self.unsent.is_empty() {
            *system_calls += 1;
            epoll.modify(&self.socket, READABLE)?;
        }
        Ok(true)
    }

    fn receive(&self, buffer: &mut [u8]) -> Progress {
        // SAFETY: the buffer is borrowed for the whole call and has the length given; the socket is
        // open.
        let result = unsafe {
            libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        };
        progress(result)
    }

    fn send(&self, bytes: &[u8]) -> Progress {
        // SAFETY: the bytes are borrowed for the whole call and have the length given; the socket
        // is open.
        let result = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        progress(result)
    }
}

fn progress(result: isize) -> Progress {
    match result {
        1.. => Progress::Bytes(result as usize),
        0 => Progress::Ended,
        _ if io::Error::last_os_error().kind() == ErrorKind::WouldBlock => Progress::WouldBlock,
        _ => Progress::Ended,
    }
}

fn serve_reads(job: &ReadJob, control: &mut Control) -> Result<(), Failure> {
    let mut reader = PoolReader::start(job)?;
    let setup = format!("epoll with an eventfd and {} pread threads", job.depth);
    // The pool's threads end with the process: they wait on a queue that nobody fills any more.
    answer_with_slices(control, setup, |duration_ms, seed| reader.slice(job, duration_ms, seed))
}

/// A block of memory that `O_DIRECT` accepts.
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE]);

/// A read on its way through the pool and back.
struct PoolRead {
    choice: BlockChoice,
    begun: Begun,
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
                (&self.doorbell)
                    .write_all(&1u64.to_ne_bytes())
                    .expect("an eventfd takes 2^64 - 2 rings unread");
            }
        }
    }

    fn next_read(&self) -> PoolRead {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match queue.pop_front() {
                Some(read) => return read,
                None => {
                    queue = self.queue_filled.wait(queue).unwrap_or_else(PoisonError::into_inner)
                }
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
    fn start(job: &ReadJob) -> Result<PoolReader, Failure> {
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

    /// The main loop: keeps `depth` reads in flight until the time is up, then waits for the last
    /// ones.
    fn slice(&mut self, job: &ReadJob, duration_ms: u64, seed: u64) -> Result<SliceReply, Failure> {
        let mut order = BlockOrder::new(job, seed);
        let mut events = Events::new();
        let mut finished = Vec::with_capacity(job.depth);
        let mut books =
            SliceBooks::open(duration_ms, Some(self.pool.system_calls.load(Ordering::Relaxed)));
        let mut batch: Vec<PoolRead> = (0..job.depth)
            .map(|_| PoolRead {
                choice: order.choose(),
                begun: books.begin(),
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
                std::mem::replace(&mut read.result, Ok(()))?;
                check_block(job, read.choice, &read.block.0)?;
                if books.end(read.begun) {
                    read.begun = books.begin();
                    read.choice = order.choose();
                    batch.push(read);
                }
            }
            in_flight += batch.len();
            self.pool.submit(&mut batch);
        }
        Ok(books.close(Some(self.pool.system_calls.load(Ordering::Relaxed))))
    }

    /// Swaps the pool's list of finished reads for the empty one given.
    fn wait_for_finished(
        &self,
        events: &mut Events,
        finished: &mut Vec<PoolRead>,
    ) -> io::Result<()> {
        self.epoll.wait(events, -1)?;
        let mut rings = [0; size_of::<u64>()];
        (&self.pool.doorbell).read_exact(&mut rings)?;
        self.pool.system_calls.fetch_add(2, Ordering::Relaxed);
        std::mem::swap(
            &mut *self.pool.finished.lock().unwrap_or_else(PoisonError::into_inner),
            finished,
        );
        Ok(())
    }
}

fn new_eventfd() -> io::Result<File> {
    // SAFETY: the call takes integers and answers a new descriptor that nobody else owns, or -1.
    unsafe {
        let number = libc::eventfd(0, libc::EFD_CLOEXEC);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from(OwnedFd::from_raw_fd(number)))
    }
}
