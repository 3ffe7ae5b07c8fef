//! A load that is cheaper than any server: one ring for all connections of a thread, multishot
//! receives into shared buffers, the requests of one turn sent by one system call, and no sleep
//! while it loads.
//!
//! Where the kernel has no such ring, `load` asks by epoll.
#![allow(unsafe_code)] // Entries name memory by its address.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use io_uring::types::Fixed;
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::Failure;
use super::buffers::{Buffers, GROUP};
use super::connection::{Connection, Talk};
use super::load::Engine;
use super::timetable::{Tally, Timetable};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// Replies longer than the largest come in parts.
const BUFFER_SIZES: [usize; 2] = [256, 4096];
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;
/// Of the completion of a send that failed, whose token says no more.
const SENT: u64 = 1 << 63;

/// The connections of one thread, and their ring. It belongs to the thread that made it.
pub(super) struct RingLoad {
    ring: IoUring,
    buffers: Buffers,
    talk: Arc<dyn Talk>,
    connections: Vec<Connection>,
}

impl RingLoad {
    /// # Errors
    /// The kernel's: it has no such ring, or none for this process.
    pub(super) fn open(talk: &Arc<dyn Talk>) -> io::Result<RingLoad> {
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
        let buffer_size = talk.reply_size().clamp(BUFFER_SIZES[0], BUFFER_SIZES[1]);
        let buffers = Buffers::register(&ring.submitter(), buffer_size)?;
        Ok(RingLoad { ring, buffers, talk: Arc::clone(talk), connections: Vec::new() })
    }

    pub(super) fn take_on(&mut self, connections: Vec<Connection>) -> Result<(), Failure> {
        self.connections = connections;
        let sockets: Vec<_> =
            self.connections.iter().map(|connection| connection.stream.as_raw_fd()).collect();
        self.ring.submitter().register_files(&sockets)?;
        (0..self.connections.len()).try_for_each(|index| self.receive(index))
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
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) }
        {
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self, index: usize) -> Result<(), Failure> {
        let entry =
            opcode::RecvMulti::new(Fixed(index as u32), GROUP).build().user_data(index as u64);
        // SAFETY: the group's buffers and the socket stay as long as the ring.
        unsafe { self.push(&entry) }
    }

    /// Sends the next request of a connection, whose reply is awaited since `asked`.
    fn ask(&mut self, index: usize, asked: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        connection.begin(asked);
        let request = self.talk.request(connection.number);
        let entry = opcode::Send::new(Fixed(index as u32), request.as_ptr(), request.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SENT | index as u64);
        // SAFETY: the request is not changed, and stays as long as the ring, as the socket does.
        unsafe { self.push(&entry) }
    }

    /// Is there anything to submit, or has the kernel put something off until the next call?
    fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// What a completion means: the connection whose reply is complete, if it is that.
    fn complete(&mut self, completion: &cqueue::Entry) -> Result<Option<usize>, Failure> {
        let (token, result) = (completion.user_data(), completion.result());
        let index = (token & !SENT) as usize;
        if token & SENT != 0 {
            // All of a request is sent, or it fails: that of a whole one is not told.
            return match result {
                0.. => Err("a request was sent in part only".into()),
                errno => Err(io::Error::from_raw_os_error(-errno).into()),
            };
        }
        let mut is_complete = false;
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            self.buffers.free -= 1;
            let length = usize::try_from(result).unwrap_or(0);
            // SAFETY: the kernel has filled so much of the buffer, and has not got it back.
            let bytes = unsafe { std::slice::from_raw_parts(self.buffers.address(buffer), length) };
            is_complete = self.talk.check(&mut self.connections[index], bytes)?;
            self.buffers.give(buffer);
        }
        match result {
            0 => return Err("the server closed a connection".into()),
            1.. => {}
            errno if errno == -libc::ENOBUFS => {}
            errno => return Err(io::Error::from_raw_os_error(-errno).into()),
        }
        if !cqueue::more(completion.flags()) {
            self.buffers.publish();
            self.receive(index)?;
        }
        Ok(is_complete.then_some(index))
    }
}

impl Engine for RingLoad {
    fn run(&mut self, mut timetable: Timetable) -> Result<Tally, Failure> {
        let mut completions = Vec::with_capacity(COMPLETIONS as usize);
        let mut now = Instant::now();
        loop {
            while let Some((index, asked)) = timetable.next(now) {
                self.ask(index, asked)?;
            }
            if timetable.is_over() {
                return Ok(timetable.finish());
            }
            let has_work = self.has_work();
            if has_work {
                self.enter()?;
            }
            completions.extend(self.ring.completion());
            now = Instant::now();
            if completions.is_empty() {
                if !has_work {
                    timetable.nothing_came(now)?;
                }
                continue;
            }
            timetable.something_came(now);
            for completion in completions.drain(..) {
                if let Some(index) = self.complete(&completion)? {
                    timetable.answered(
                        index,
                        now.saturating_duration_since(self.connections[index].asked),
                    );
                }
            }
            self.buffers.publish();
        }
    }
}
