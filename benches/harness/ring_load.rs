//! What does a load cost that is cheaper than any server? One ring for all connections of a thread: multishot receives into shared
//! buffers, the requests of one turn sent by one system call, and no sleep while it loads.
//!
//! Where the kernel has no such ring, `load` asks by epoll.
#![allow(unsafe_code)] // Entries name memory by its address.

use std::alloc::{self, Layout};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::Failure;
use super::load::{Connection, Pace, Pattern, SILENCE_TIMEOUT, Tally};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// As many as one turn's completions need, and few enough to stay in the processor's cache; a power of two.
const BUFFERS: u16 = 256;
const GROUP: u16 = 0;
/// Replies longer than the largest come in parts.
const BUFFER_SIZES: [usize; 2] = [256, 4096];
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;
/// Of the completion of a send that failed, whose token says no more.
const SENT: u64 = 1 << 63;
const PAGE: usize = 4096;

/// Zeroed memory at a page's start, until it is dropped.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(size: usize) -> Pages {
        let layout = Layout::from_size_align(size, PAGE).expect("a size that memory has");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).expect("memory");
        Pages { start, layout }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size());
        // SAFETY: the offset lies within the allocation.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the allocation that `new` made, given back once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The connections of one thread, and their ring. It belongs to the thread that made it.
pub(super) struct RingLoad {
    /// Goes before the memory that it receives into.
    ring: IoUring,
    entries: Pages,
    bytes: Pages,
    buffer_size: usize,
    tail: u16,
    pattern: Arc<Pattern>,
    connections: Vec<Connection>,
}

impl RingLoad {
    /// # Errors
    /// The kernel's: it has no such ring, or none for this process.
    pub(super) fn open(pattern: &Arc<Pattern>) -> io::Result<RingLoad> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        // Not all kernels have it.
        let _ = ring.submitter().register_ring_fd();
        let buffer_size = pattern.message_size().clamp(BUFFER_SIZES[0], BUFFER_SIZES[1]);
        let entries = Pages::new(usize::from(BUFFERS) * size_of::<BufRingEntry>());
        let bytes = Pages::new(usize::from(BUFFERS) * buffer_size);
        // SAFETY: the pages are freed after the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.at(0) as u64, BUFFERS, GROUP, 0)? };
        let mut load = RingLoad { ring, entries, bytes, buffer_size, tail: 0, pattern: Arc::clone(pattern), connections: Vec::new() };
        (0..BUFFERS).for_each(|number| load.give(number));
        load.publish();
        Ok(load)
    }

    pub(super) fn take_on(&mut self, connections: Vec<Connection>) -> Result<(), Failure> {
        self.connections = connections;
        let sockets: Vec<_> = self.connections.iter().map(|connection| connection.stream.as_raw_fd()).collect();
        self.ring.submitter().register_files(&sockets)?;
        (0..self.connections.len()).try_for_each(|index| self.receive(index))
    }

    fn address(&self, number: u16) -> *mut u8 {
        self.bytes.at(usize::from(number) * self.buffer_size)
    }

    /// Puts a buffer behind the tail; the kernel sees it when the tail is published.
    fn give(&mut self, number: u16) {
        let place = usize::from(self.tail & (BUFFERS - 1));
        let address = self.address(number) as u64;
        let entry = self.entries.at(place * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: the entry lies in the pages of the ring, and the kernel does not look at it before the tail has passed it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.buffer_size as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail is a 16-bit word within the ring's first entry, which only this thread writes.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.at(0).cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// # Safety
    /// The memory and the descriptor that the entry names stay until its last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> Result<(), Failure> {
        // SAFETY: as the caller promises.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter()?;
        }
        Ok(())
    }

    /// Submits what there is, and lets the kernel finish what it has put off. It does not wait.
    fn enter(&mut self) -> Result<(), Failure> {
        let queued = self.ring.submission().len() as u32;
        // SAFETY: there is no argument.
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) } {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, index: usize) -> Result<(), Failure> {
        let entry = opcode::RecvMulti::new(Fixed(index as u32), GROUP).build().user_data(index as u64);
        // SAFETY: the group's buffers and the socket stay as long as the ring.
        unsafe { self.push(&entry) }
    }

    /// Sends the next message of a connection, whose reply is awaited since `asked`.
    fn ask(&mut self, index: usize, asked: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.begin(asked);
        let message = self.pattern.message(connection.number);
        let entry = opcode::Send::new(Fixed(index as u32), message.as_ptr(), message.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SENT | index as u64);
        // SAFETY: the pattern is not changed, and stays as long as the ring, as the socket does.
        unsafe { self.push(&entry) }
    }

    /// Loads until the deadline, and until the last reply is in.
    pub(super) fn run(&mut self, pace: &Pace) -> Result<Tally, Failure> {
        let started = Instant::now();
        let mut tally = Tally::new();
        // Connections without a request, and when the next request is due. At full speed each has one all the time.
        let mut free: Vec<usize> = (0..self.connections.len()).rev().collect();
        let mut due = started;
        let mut outstanding = 0;
        let (mut now, mut last) = (started, started);
        let mut idle_since = None;
        let mut completions = Vec::with_capacity(COMPLETIONS as usize);
        let mut is_over = pace.deadline <= started && pace.interval.is_some();
        loop {
            match pace.interval {
                // The first round at full speed; later ones follow their replies.
                None => {
                    for index in free.drain(..) {
                        self.ask(index, now)?;
                        outstanding += 1;
                    }
                }
                // A request counts from when it was due, also if no connection was free.
                Some(interval) => {
                    while due <= now && due < pace.deadline {
                        let Some(index) = free.pop() else { break };
                        self.ask(index, due)?;
                        outstanding += 1;
                        due += interval;
                    }
                    is_over = due >= pace.deadline;
                }
            }
            if outstanding == 0 && (is_over || pace.interval.is_none()) {
                break;
            }
            let has_work = {
                let queue = self.ring.submission();
                !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
            };
            if has_work {
                self.enter()?;
            }
            completions.extend(self.ring.completion());
            now = Instant::now();
            if completions.is_empty() {
                if !has_work && idle_since.is_none() {
                    idle_since = Some(now);
                }
                if outstanding > 0 && now.duration_since(last) > SILENCE_TIMEOUT {
                    return Err(format!("{outstanding} connections got no reply for {} s", SILENCE_TIMEOUT.as_secs()).into());
                }
                std::hint::spin_loop();
                continue;
            }
            last = now;
            if let Some(since) = idle_since.take() {
                tally.idle += now.duration_since(since);
            }
            for completion in completions.drain(..) {
                if let Some(index) = self.complete(&completion)? {
                    tally.record(now.saturating_duration_since(self.connections[index].asked));
                    outstanding -= 1;
                    if pace.interval.is_none() && now < pace.deadline {
                        self.ask(index, now)?;
                        outstanding += 1;
                    } else if pace.interval.is_some() {
                        free.push(index);
                    }
                }
            }
            self.publish();
        }
        tally.finish(started.elapsed());
        Ok(tally)
    }

    /// What a completion means: the connection whose reply is complete, if it is that.
    fn complete(&mut self, completion: &cqueue::Entry) -> Result<Option<usize>, Failure> {
        let (token, result) = (completion.user_data(), completion.result());
        let index = (token & !SENT) as usize;
        if token & SENT != 0 {
            // All of a message is sent, or it fails: that of a whole one is not told.
            return match result {
                0.. => Err("a message was sent in part only".into()),
                errno => Err(io::Error::from_raw_os_error(-errno).into()),
            };
        }
        let mut is_complete = false;
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let length = usize::try_from(result).unwrap_or(0);
            // SAFETY: the kernel has filled so much of the buffer, and has not got it back.
            let bytes = unsafe { std::slice::from_raw_parts(self.address(buffer), length) };
            is_complete = self.connections[index].check(bytes, &self.pattern)?;
            self.give(buffer);
        }
        match result {
            0 => return Err("the server closed a connection".into()),
            1.. => {}
            errno if errno == -libc::ENOBUFS => {}
            errno => return Err(io::Error::from_raw_os_error(-errno).into()),
        }
        if !cqueue::more(completion.flags()) {
            self.publish();
            self.receive(index)?;
        }
        Ok(is_complete.then_some(index))
    }
}

/// How fast a thread asks, and until when.
impl Pace {
    pub(super) fn of(deadline: Instant, requests_per_s: Option<f64>) -> Pace {
        Pace { deadline, interval: requests_per_s.map(|rate| Duration::from_secs_f64(1.0 / rate)) }
    }
}
