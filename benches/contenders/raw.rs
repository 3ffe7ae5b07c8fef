//! The contender written by hand on the `io-uring` crate, a yardstick: what a ring gives if nothing
//! stands in between.
//!
//! Echo is one thread and one ring: a multishot accept, a multishot receive per connection into one
//! ring of 256 buffers, and sends straight from the received buffer, all of one turn submitted by
//! one system call. Reads are a table of buffers, each submitted again when it has been read.
//! Counted are the calls of io_uring_enter(2); there are no others.
#![allow(unsafe_code)] // Entries name memory by its address.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use io_uring::types::{Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};

use crate::harness::buffers::{BUFFERS, Buffers, GROUP, Pages};
use crate::harness::child::{
    Begun, Control, EchoJob, Job, ReadJob, SliceBooks, SliceReply, answer_on_a_thread,
    answer_with_slices,
};
use crate::harness::data_file::{BlockChoice, BlockOrder, check_block};
use crate::harness::workloads::Work;
use crate::harness::{Contender, Failure, Task};

pub(crate) const RAW: Contender = Contender {
    name: "raw",
    counted: "calls of io_uring_enter(2)",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| *work != Work::Copy,
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => serve_reads(job, Registration::None, control),
        Job::Copy(_) => Err("the hand-written ring loop copies no files".into()),
    },
};

/// With its file and its buffers registered: cheaper for direct reads, dearer for cached ones.
pub(crate) const RAW_REGISTERED: Contender = Contender {
    name: "raw-registered",
    is_optional: true,
    takes: |work| work.needs_file() && *work != Work::Copy,
    serve: |job, control| match job {
        Job::Read(job) => serve_reads(job, Registration::FileAndBuffers, control),
        _ => Err("only files are read with registered buffers".into()),
    },
    ..RAW
};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
const SETUP: &str = "SINGLE_ISSUER, DEFER_TASKRUN, NO_SQARRAY, SUBMIT_ALL, registered ring";

fn open_ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_no_sqarray()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .dontfork()
        .build(SUBMISSIONS)
}

/// The three ends of one ring, and what it has cost.
struct Queues<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
    enters: Arc<AtomicU64>,
}

impl<'a> Queues<'a> {
    fn new(ring: &'a mut IoUring) -> io::Result<Queues<'a>> {
        let (mut submitter, submissions, completions) = ring.split();
        submitter.register_ring_fd()?;
        Ok(Queues { submitter, submissions, completions, enters: Arc::default() })
    }

    /// # Safety
    /// The memory and the descriptor that the entry names stay until its last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as the caller promises.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.enter(0)?;
        }
        Ok(())
    }

    fn enter(&mut self, want: usize) -> io::Result<()> {
        self.submissions.sync();
        // One thread writes, so it need not be an atomic addition.
        self.enters.store(self.enters() + 1, Ordering::Relaxed);
        match self.submitter.submit_and_wait(want) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
            _ => {}
        }
        self.submissions.sync();
        Ok(())
    }

    fn enters(&self) -> u64 {
        self.enters.load(Ordering::Relaxed)
    }

    /// Submits, waits for a completion, and moves all that have come out of the queue.
    fn turn(&mut self, into: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        self.enter(1)?;
        self.completions.sync();
        into.extend(&mut self.completions);
        self.completions.sync();
        Ok(())
    }
}

/// What an entry was for. With the connection and the buffer, it is the whole of the user data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Accept = 0,
    Receive = 1,
    Send = 2,
}

fn token(purpose: Purpose, connection: usize, buffer: u16) -> u64 {
    (purpose as u64) << 56 | (connection as u64) << 16 | u64::from(buffer)
}

struct Connection {
    /// Closed with the connection; entries name it by its number, which is the connection's place.
    _socket: OwnedFd,
    /// Received while a send is in flight: two sends at a time might be sent in any order.
    waiting: VecDeque<(u16, u32)>,
    is_sending: bool,
    has_ended: bool,
}

struct EchoServer<'a> {
    queues: Queues<'a>,
    listener: OwnedFd,
    is_tcp: bool,
    buffers: Buffers,
    /// By descriptor number.
    connections: Vec<Option<Connection>>,
    /// Receives that found no buffer.
    starved: VecDeque<usize>,
}

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let (listener, port) = listen(job)?;
    let mut ring = open_ring()?;
    let queues = Queues::new(&mut ring)?;
    let buffers = Buffers::register(&queues.submitter, job.read_size)?;
    answer_on_a_thread(
        port,
        format!("{SETUP}; multishot receive, {BUFFERS} buffers"),
        Some(Arc::clone(&queues.enters)),
    )?;
    let is_tcp = job.unix_path.is_none();
    EchoServer {
        queues,
        listener,
        is_tcp,
        buffers,
        connections: Vec::new(),
        starved: VecDeque::new(),
    }
    .run()
}

fn listen(job: &EchoJob) -> io::Result<(OwnedFd, u16)> {
    match &job.unix_path {
        Some(path) => Ok((UnixListener::bind(path)?.into(), 0)),
        None => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            Ok((listener.into(), port))
        }
    }
}

impl EchoServer<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        self.accept()?;
        let mut completions = Vec::with_capacity(COMPLETIONS as usize);
        loop {
            self.queues.turn(&mut completions)?;
            for completion in completions.drain(..) {
                self.complete(&completion)?;
            }
            self.buffers.publish();
            while self.buffers.free > 0
                && let Some(connection) = self.starved.pop_front()
            {
                self.receive(connection)?;
            }
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Result<(), Failure> {
        let token = completion.user_data();
        let (connection, buffer) = ((token >> 16) as usize & 0xFFFF_FFFF, token as u16);
        if token >> 56 == Purpose::Receive as u64 {
            self.received(connection, completion)
        } else if token >> 56 == Purpose::Send as u64 {
            self.buffers.give(buffer);
            self.sent(connection, completion.result())
        } else {
            self.accepted(completion)
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            .build()
            .user_data(token(Purpose::Accept, 0, 0));
        // SAFETY: the entry names no memory, and the listener lives as long as the process.
        unsafe { self.queues.push(&entry) }
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> Result<(), Failure> {
        let number = completion.result();
        if number < 0 {
            return Err(io::Error::from_raw_os_error(-number).into());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        if self.is_tcp {
            set_no_delay(&socket)?;
        }
        let connection = number as usize;
        if self.connections.len() <= connection {
            self.connections.resize_with(connection + 1, || None);
        }
        self.connections[connection] = Some(Connection {
            _socket: socket,
            waiting: VecDeque::new(),
            is_sending: false,
            has_ended: false,
        });
        self.receive(connection)?;
        if !cqueue::more(completion.flags()) {
            self.accept()?;
        }
        Ok(())
    }

    fn receive(&mut self, connection: usize) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(connection as i32), GROUP).build().user_data(token(
            Purpose::Receive,
            connection,
            0,
        ));
        // SAFETY: the buffers of the group live as long as the process; the socket is closed after
        // the last completion.
        unsafe { self.queues.push(&entry) }
    }

    fn received(&mut self, connection: usize, completion: &cqueue::Entry) -> Result<(), Failure> {
        let (result, flags) = (completion.result(), completion.flags());
        let Some(peer) = &mut self.connections[connection] else {
            return Err("a completion for a connection that has gone".into());
        };
        if let Some(buffer) = cqueue::buffer_select(flags) {
            self.buffers.free -= 1;
            if result > 0 {
                if peer.is_sending {
                    peer.waiting.push_back((buffer, result as u32));
                } else {
                    peer.is_sending = true;
                    self.send(connection, buffer, result as u32)?;
                }
            } else {
                self.buffers.give(buffer);
            }
        }
        if !cqueue::more(flags) {
            if result > 0 {
                self.receive(connection)?;
            } else if result == -libc::ENOBUFS {
                self.starved.push_back(connection);
            } else {
                self.end(connection);
            }
        }
        Ok(())
    }

    fn send(&mut self, connection: usize, buffer: u16, length: u32) -> io::Result<()> {
        let entry = opcode::Send::new(Fd(connection as i32), self.buffers.address(buffer), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(token(Purpose::Send, connection, buffer));
        // SAFETY: the buffer is ours until the completion, which gives it back; the socket is
        // closed after the last completion.
        unsafe { self.queues.push(&entry) }
    }

    fn sent(&mut self, connection: usize, result: i32) -> Result<(), Failure> {
        let Some(peer) = &mut self.connections[connection] else {
            return Err("a completion for a connection that has gone".into());
        };
        peer.is_sending = false;
        if result < 0 {
            while let Some((buffer, _)) = peer.waiting.pop_front() {
                self.buffers.give(buffer);
            }
        } else if let Some((buffer, length)) = peer.waiting.pop_front() {
            peer.is_sending = true;
            self.send(connection, buffer, length)?;
        } else if peer.has_ended {
            self.connections[connection] = None;
        }
        Ok(())
    }

    /// The receive has had its last completion.
    fn end(&mut self, connection: usize) {
        if let Some(peer) = &mut self.connections[connection] {
            peer.has_ended = true;
            if !peer.is_sending {
                self.connections[connection] = None;
            }
        }
    }
}

fn set_no_delay(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the call reads the local `on`, whose size is given.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            value,
            size_of::<libc::c_int>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct Slot {
    choice: BlockChoice,
    begun: Begun,
}

/// What is registered with the ring before the first read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registration {
    None,
    FileAndBuffers,
}

struct Reader<'a> {
    job: &'a ReadJob,
    file: File,
    blocks: Pages,
    queues: Queues<'a>,
    registration: Registration,
}

fn serve_reads(
    job: &ReadJob,
    registration: Registration,
    control: &mut Control,
) -> Result<(), Failure> {
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&job.path)?;
    let mut ring = open_ring()?;
    let mut reader = Reader {
        job,
        file,
        blocks: Pages::new(job.depth * job.block_size),
        queues: Queues::new(&mut ring)?,
        registration,
    };
    if registration == Registration::FileAndBuffers {
        reader.register()?;
    }
    answer_with_slices(control, SETUP.into(), |duration_ms, seed| reader.slice(duration_ms, seed))
}

impl Reader<'_> {
    /// Makes the file number 0 of the ring's files, and all blocks together number 0 of its
    /// buffers.
    fn register(&self) -> io::Result<()> {
        self.queues.submitter.register_files(&[self.file.as_raw_fd()])?;
        let blocks = libc::iovec {
            iov_base: self.blocks.at(0).cast(),
            iov_len: self.job.depth * self.job.block_size,
        };
        // SAFETY: the blocks live as long as the reader, which ends with nothing in flight or with
        // its process.
        unsafe { self.queues.submitter.register_buffers(&[blocks]) }
    }

    fn slice(&mut self, duration_ms: u64, seed: u64) -> Result<SliceReply, Failure> {
        let mut order = BlockOrder::new(self.job, seed);
        let mut books = SliceBooks::open(duration_ms, Some(self.queues.enters()));
        let mut slots: Vec<Slot> = (0..self.job.depth)
            .map(|_| Slot { choice: order.choose(), begun: books.begin() })
            .collect();
        for (number, slot) in slots.iter().enumerate() {
            self.read(number, slot)?;
        }
        let mut in_flight = slots.len();
        let mut completions = Vec::with_capacity(slots.len());
        while in_flight > 0 {
            self.queues.turn(&mut completions)?;
            for completion in completions.drain(..) {
                let number = completion.user_data() as usize;
                let slot = &mut slots[number];
                let length = usize::try_from(completion.result())
                    .map_err(|_| io::Error::from_raw_os_error(-completion.result()))?;
                // SAFETY: the read of this block has completed, and the next is submitted below.
                let block = unsafe {
                    std::slice::from_raw_parts(self.blocks.at(number * self.job.block_size), length)
                };
                check_block(self.job, slot.choice, block)?;
                if books.end(slot.begun) {
                    *slot = Slot { choice: order.choose(), begun: books.begin() };
                    self.read(number, slot)?;
                } else {
                    in_flight -= 1;
                }
            }
        }
        Ok(books.close(Some(self.queues.enters())))
    }

    fn read(&mut self, number: usize, slot: &Slot) -> io::Result<()> {
        let (block, size) =
            (self.blocks.at(number * self.job.block_size), self.job.block_size as u32);
        let entry = match self.registration {
            Registration::None => opcode::Read::new(Fd(self.file.as_raw_fd()), block, size)
                .offset(slot.choice.offset)
                .build(),
            Registration::FileAndBuffers => {
                opcode::ReadFixed::new(Fixed(0), block, size, 0).offset(slot.choice.offset).build()
            }
        };
        let entry = entry.user_data(number as u64);
        // SAFETY: the block is untouched until the completion; a slice ends with nothing in flight,
        // and an error ends the process.
        unsafe { self.queues.push(&entry) }
    }
}
