//! The kernel as a source of completions: one io_uring, owned by the thread that opened it.
//!
//! It keeps two things for itself that nothing above sees: the alarm (one armed TIMEOUT, so that a
//! wait can end in time) and the kick (so that another thread can end a wait). io_uring_enter(2),
//! io_uring_setup(2).
//!
//! # Safety
//! SQEs are handed to the queue; whoever pushes vouches for the memory and the descriptors that
//! they name. The alarm's `timespecs` belong to this ring, in a box, and the kernel reads each when
//! it takes its SQE (IORING_FEAT_SUBMIT_STABLE, checked at set-up): during an enter, or in its
//! submission thread at any time until the queue has gone round once. The ring's descriptor belongs
//! to `uring`, which is dropped by hand, once, in `Drop`. The memory of a registered buffer ring
//! belongs to `provided`, which outlives `uring`; that of the buffers is vouched for by whoever
//! provides them.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::choice::Reason;
use super::config::RingKind;
use super::config::{Config, MinWait};
use super::free_indices::FreeIndices;
use super::opcodes::Opcodes;
use super::provided::{Handing, Provided};
use super::report::{Refusal, RingReport};
use super::seam::{Completion, FIRST_PRIVATE_TOKEN, GUEST, PROVIDED, PushError, Source, Traffic, Wait};
use super::setup::Opened;
use super::unpark::{self, Unparker};
use super::{buffer_table, refusal, setup};
use crate::buf::BufferRing;
use crate::sys;

/// The armed TIMEOUT has fired, or was moved out of the way.
const ALARM: u64 = FIRST_PRIVATE_TOKEN;
/// The answer to moving the alarm, which comes only if it could not be moved where the kernel can
/// keep the others back.
const ALARM_MOVED: u64 = FIRST_PRIVATE_TOKEN + 1;
/// Another thread wants the owner.
const KICK: u64 = FIRST_PRIVATE_TOKEN + 2;

/// The length of the table of registered files, eight bytes each from the start. The kernel allows
/// no more than `RLIMIT_NOFILE`.
const REGISTERED_FILES: u64 = 1024;
/// A far deadline is approached in steps of this length, so that its timespec never comes near the
/// kernel's bound (292 years).
const LONGEST_ALARM: Duration = Duration::from_secs(24 * 3600);
/// Most times that a flush lets other threads run, the kernel's submission thread among them,
/// before it gives up.
const FLUSH_ATTEMPTS: usize = 10_000;
/// Most enters that a flush makes where there is no such thread: more than one only after a signal,
/// or for want of memory.
const FLUSH_ENTERS: usize = 16;
/// How long to leave the kernel alone when it has no memory for a request.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct KernelRing {
    /// Dropped by hand, since the registration must go first.
    uring: ManuallyDrop<IoUring>,
    /// The descriptor's index for this thread, where it was granted.
    index: Option<u32>,
    /// Flags of every enter.
    enter_flags: u32,
    /// A thread of the kernel submits. It takes entries when it likes, and sleeps when there were
    /// none for a while.
    sqpoll: bool,
    min_wait: Option<MinWait>,
    alarm: Alarm,
    kick: Kick,
    /// The poll of another ring's descriptor is armed.
    watches: bool,
    provided: Option<Provided>,
    opcodes: Opcodes,
    report: RingReport,
    traffic: Traffic,
    /// The free indices of the table of registered buffers, from the first that is wanted on.
    buffers: Option<FreeIndices>,
    /// The free indices of the table of registered files.
    files: Option<FreeIndices>,
}

/// One ring TIMEOUT that only ever moves earlier. It may ring too early; then nothing is due and it
/// is armed again.
struct Alarm {
    armed: Option<Instant>,
    /// Keeps the answer to a successful move back, where the kernel can: it would end the very wait
    /// that it was moved for.
    moved: squeue::Flags,
    /// One more than the submission queue has places, since a thread of the kernel may take entries
    /// late: whatever was pushed before those that fill the queue has been taken.
    timespecs: Box<[types::Timespec]>,
    next: usize,
}

/// How a kick reaches the completion queue.
enum Kick {
    /// The kernel posts it for the sender.
    Message,
    /// The ring polls an eventfd, once per kick.
    Event { event: Arc<File>, armed: bool },
}

impl KernelRing {
    pub(crate) fn open(config: &Config) -> io::Result<KernelRing> {
        KernelRing::on(setup::open(config)?, config)
    }

    fn on(opened: Opened, config: &Config) -> io::Result<KernelRing> {
        let mut probe = Probe::new();
        sys::patiently(|| opened.uring.submitter().register_probe(&mut probe))
            .map_err(|error| refusal::explain("io_uring_register", error))?;
        let moved = match opened.uring.params().is_feature_skip_cqe_on_success() {
            true => squeue::Flags::SKIP_SUCCESS,
            false => squeue::Flags::empty(),
        };
        let entries = opened.uring.params().sq_entries() as usize;
        let has_min_wait = opened.uring.params().is_feature_min_timeout();
        let mut ring = KernelRing {
            report: RingReport {
                kind: RingKind::Kernel,
                reason: Reason::Default,
                entries: opened.uring.params().sq_entries(),
                completion_entries: opened.uring.params().cq_entries(),
                granted: opened.granted,
                refused: opened.refused,
                by_software: Vec::new(),
            },
            sqpoll: opened.uring.params().is_setup_sqpoll(),
            uring: ManuallyDrop::new(opened.uring),
            index: None,
            enter_flags: sys::ENTER_GETEVENTS,
            min_wait: None,
            alarm: Alarm { armed: None, moved, timespecs: vec![types::Timespec::new(); entries + 1].into(), next: 0 },
            kick: Kick::Message,
            watches: false,
            provided: None,
            opcodes: Opcodes::of(&probe),
            traffic: Traffic::default(),
            buffers: None,
            files: None,
        };
        ring.ask_for_index();
        ring.ask_for_idle_waits()?;
        ring.ask_for_kicks()?;
        if config.registered_files {
            ring.ask_for_file_table();
        }
        ring.ask_for_workers(config.workers)?;
        ring.ask_for_min_wait(config.min_wait, has_min_wait);
        Ok(ring)
    }

    /// A registered descriptor spares each enter the descriptor look-up. Sixteen per thread, so a
    /// refusal is no error.
    fn ask_for_index(&mut self) {
        match sys::register_ring_fd(self.fd()) {
            Ok(index) => {
                self.index = Some(index);
                self.enter_flags |= sys::ENTER_REGISTERED_RING;
                self.report.granted.push("REGISTER_RING_FDS");
            }
            Err(error) => self.report.refused.push(Refusal::new("REGISTER_RING_FDS", &error)),
        }
    }

    /// Waiting for a socket is not waiting for a disk; without this an idle server shows as 100 %
    /// iowait. The first enter also shows whether entering is allowed at all.
    fn ask_for_idle_waits(&mut self) -> io::Result<()> {
        let enter = |flags| sys::patiently(|| sys::enter(self.target(), 0, 0, flags));
        match enter(self.enter_flags | sys::ENTER_NO_IOWAIT) {
            Ok(_) => {
                self.enter_flags |= sys::ENTER_NO_IOWAIT;
                self.report.granted.push("NO_IOWAIT");
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                enter(self.enter_flags).map_err(|error| refusal::explain("io_uring_enter", error))?;
                self.report.refused.push(Refusal::new("NO_IOWAIT", &error));
            }
            Err(error) => return Err(refusal::explain("io_uring_enter", error)),
        }
        Ok(())
    }

    /// Whether the kernel posts messages for threads without a ring shows by kicking oneself once.
    fn ask_for_kicks(&mut self) -> io::Result<()> {
        match sys::patiently(|| unpark::send_message(self.fd().as_raw_fd(), KICK)) {
            Ok(()) => self.report.granted.push("SEND_MSG_RING"),
            Err(error) => {
                self.report.refused.push(Refusal::new("SEND_MSG_RING", &error));
                let event = sys::event().map_err(|error| refusal::explain("eventfd2", error))?;
                self.kick = Kick::Event { event: Arc::new(File::from(event)), armed: false };
            }
        }
        Ok(())
    }

    /// A table for the files that are used most. Before Linux 6.13, which is known by its messages,
    /// an entry that was emptied kept its file open until all operations that had begun earlier
    /// were over, those of other files too.
    fn ask_for_file_table(&mut self) {
        if !matches!(self.kick, Kick::Message) {
            return;
        }
        let limit = sys::limit(libc::RLIMIT_NOFILE).map_or(u64::MAX, |(limit, _)| limit);
        let count = limit.min(REGISTERED_FILES) as u32;
        match sys::patiently(|| self.uring.submitter().register_files_sparse(count)) {
            Ok(()) => {
                self.files = Some(FreeIndices::new(count as usize));
                self.report.granted.push("REGISTER_FILES2");
            }
            Err(error) => self.report.refused.push(Refusal::new("REGISTER_FILES2", &error)),
        }
    }

    fn ask_for_workers(&mut self, workers: Option<u32>) -> io::Result<()> {
        let Some(workers) = workers else { return Ok(()) };
        // Bounded work (regular files) and unbounded work (everything else) have a bound each.
        sys::patiently(|| self.uring.submitter().register_iowq_max_workers(&mut [workers, workers]))
            .map_err(|error| refusal::explain("io_uring_register", error))?;
        self.report.granted.push("REGISTER_IOWQ_MAX_WORKERS");
        Ok(())
    }

    /// Waits for several completions come back with the first where the kernel has none.
    fn ask_for_min_wait(&mut self, asked: Option<MinWait>, is_known: bool) {
        match asked {
            Some(_) if is_known => {
                self.min_wait = asked;
                self.report.granted.push("MIN_TIMEOUT");
            }
            Some(_) => self.report.refused.push(Refusal::new("MIN_TIMEOUT", &io::Error::from_raw_os_error(libc::EINVAL))),
            None => {}
        }
    }

    pub(super) fn set_reason(&mut self, reason: Reason) {
        self.report.reason = reason;
    }

    /// Adds what was asked for beside this ring, and not granted.
    pub(super) fn note_refusal(&mut self, refusal: Refusal) {
        self.report.refused.push(refusal);
    }

    pub(super) fn set_by_software(&mut self, operations: Vec<&'static str>) {
        self.report.by_software = operations;
    }

    /// # Safety
    /// As [`Source::push`].
    #[inline(always)]
    pub(super) unsafe fn push_at_once(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: as in `push`.
        let pushed = unsafe { self.uring.submission().push(entry) }.is_ok();
        self.traffic.submissions += u64::from(pushed);
        pushed
    }

    /// Gives the kernel the buffers that it does not take by itself, as many as there is room for.
    #[inline]
    fn hand_buffers_over(&mut self) {
        if let Some(Provided { handing: Some(_), .. }) = &self.provided {
            self.hand_buffers_over_one_by_one();
        }
    }

    #[cold]
    fn hand_buffers_over_one_by_one(&mut self) {
        while let Some(provided) = &mut self.provided
            && let Some(entry) = provided.next()
        {
            // SAFETY: whoever called `provide` vouches for the buffer until the ring is gone.
            if unsafe { self.push(std::slice::from_ref(&entry)) }.is_err() {
                return self.provided.iter_mut().for_each(Provided::put_back);
            }
        }
    }

    /// One io_uring_enter(2), or none where there is nothing to do: pending work shows in shared
    /// memory.
    #[inline]
    fn submit(&mut self, wanted: u32) -> io::Result<()> {
        let ready = !self.uring.completion().is_empty();
        let mut queue = self.uring.submission();
        let overflow = queue.cq_overflow();
        let pending = queue.taskrun() || overflow;
        let (queued, submitter) = match self.sqpoll {
            false => (queue.len() as u32, 0),
            true => (0, call_of_submitter(&mut queue)),
        };
        drop(queue);
        let wanted = if ready || overflow { 0 } else { wanted };
        if queued == 0 && wanted == 0 && !pending && submitter == 0 {
            return Ok(());
        }
        self.traffic.enters += 1;
        self.traffic.overflows += u64::from(overflow);
        let flags = self.enter_flags | submitter;
        let entered = match self.min_wait {
            Some(MinWait { microseconds, .. }) if wanted > 1 => sys::enter_min_wait(self.target(), queued, wanted, flags, microseconds),
            _ => sys::enter(self.target(), queued, wanted, flags),
        };
        entered.map(drop).or_else(recover)
    }

    /// Sees to it that a completion comes at `deadline` or earlier. `false`: there was no room.
    fn arm(&mut self, deadline: Instant) -> io::Result<bool> {
        if self.alarm.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(true);
        }
        let now = Instant::now();
        let remaining = deadline.saturating_duration_since(now).min(LONGEST_ALARM);
        let timespec = &mut self.alarm.timespecs[self.alarm.next];
        *timespec = types::Timespec::from(remaining);
        let entry = match self.alarm.armed {
            Some(_) => opcode::TimeoutUpdate::new(ALARM, timespec).build().flags(self.alarm.moved).user_data(ALARM_MOVED),
            None => opcode::Timeout::new(timespec).build().user_data(ALARM),
        };
        let pushed = self.push_own(entry)?;
        if pushed {
            self.alarm.armed = Some(now + remaining);
            self.alarm.next = (self.alarm.next + 1) % self.alarm.timespecs.len();
        }
        Ok(pushed)
    }

    /// Keeps the eventfd polled, where kicks come that way. `false`: there was no room.
    #[inline]
    fn listen_for_kicks(&mut self) -> io::Result<bool> {
        let Kick::Event { event, armed: false } = &self.kick else { return Ok(true) };
        let entry = opcode::PollAdd::new(types::Fd(event.as_raw_fd()), libc::POLLIN as u32).build().user_data(KICK);
        let pushed = self.push_own(entry)?;
        if let Kick::Event { armed, .. } = &mut self.kick {
            *armed = pushed;
        }
        Ok(pushed)
    }

    /// Has a wait end once when there is something to read from another ring's descriptor. `false`:
    /// there was no room.
    pub(super) fn watch(&mut self, guest: RawFd) -> io::Result<bool> {
        if !self.watches {
            self.watches = self.push_own(opcode::PollAdd::new(types::Fd(guest), libc::POLLIN as u32).build().user_data(GUEST))?;
        }
        Ok(self.watches)
    }

    /// Queues one of the ring's own entries, submitting once to make room. `false`: still no room.
    fn push_own(&mut self, entry: squeue::Entry) -> io::Result<bool> {
        let chain = std::slice::from_ref(&entry);
        // SAFETY: the timespecs live in `self.alarm` and the eventfd in `self.kick`, both as long
        // as the ring; a timespec is written again only when the queue has gone round, so after the
        // kernel has taken its entry. A poll of another ring names no memory.
        if unsafe { self.push(chain) }.is_ok() {
            return Ok(true);
        }
        self.submit(0)?;
        // SAFETY: as above.
        Ok(unsafe { self.push(chain) }.is_ok())
    }

    /// One of the completions that nothing above sees.
    #[cold]
    fn take_own(&mut self, token: u64, result: i32) {
        match token {
            ALARM => self.alarm.armed = None,
            ALARM_MOVED if !matches!(-result, 0 | libc::ENOENT | libc::EALREADY) => self.alarm.armed = None,
            KICK => self.take_kick(),
            GUEST => self.watches = false,
            PROVIDED => self.provided.iter_mut().for_each(|provided| provided.answered(result)),
            _ => {}
        }
    }

    /// Resets the eventfd, so that the next poll waits for the next kick.
    fn take_kick(&mut self) {
        if let Kick::Event { event, armed } = &mut self.kick {
            *armed = false;
            // Nothing to read means that an earlier read took this kick as well.
            let _ = (&**event).read(&mut [0; 8]);
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.uring`, which lives as long as the borrow of
        // `self`.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }

    /// What io_uring_enter(2) takes as its first argument.
    fn target(&self) -> i32 {
        self.index.map_or(self.uring.as_raw_fd(), |index| index as i32)
    }
}

impl Source for KernelRing {
    fn let_go(&mut self, _fd: RawFd) -> bool {
        !self.has_queued()
    }

    #[cfg(test)]
    fn descriptor(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    #[inline]
    fn supports(&self, opcode: u8) -> bool {
        self.opcodes.contains(opcode)
    }

    fn report(&self) -> RingReport {
        self.report.clone()
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn unparker(&self) -> Unparker {
        match &self.kick {
            Kick::Message => Unparker::Message { ring: self.fd().as_raw_fd(), token: KICK },
            Kick::Event { event, .. } => Unparker::Event(Arc::clone(event)),
        }
    }

    /// # Safety
    /// As [`Source::push`].
    #[inline]
    unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        let mut queue = self.uring.submission();
        if chain.len() > queue.capacity() {
            return Err(PushError::TooLong);
        }
        // SAFETY: the memory and descriptors of the chain belong to the caller's operations, which
        // keep them until their last completion; the caller vouches for that. `push_multiple` takes
        // all or nothing.
        unsafe { queue.push_multiple(chain) }.map_err(|_| PushError::Full)?;
        self.traffic.submissions += chain.len() as u64;
        Ok(())
    }

    #[inline(always)]
    fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()> {
        let alarmed = match wait {
            Wait::Until(deadline) => self.arm(deadline)?,
            Wait::No | Wait::Forever => true,
        };
        let listening = self.listen_for_kicks()?;
        self.hand_buffers_over();
        // Without its own entries in the queue a wait could last too long: then the caller reaps
        // and comes back.
        let wanted = match &self.min_wait {
            _ if wait == Wait::No || !alarmed || !listening => 0,
            None => 1,
            Some(MinWait { completions, .. }) => in_flight.clamp(1, *completions as usize) as u32,
        };
        self.submit(wanted)
    }

    /// An enter that submits looks twice for what has become ready, and each time handles up to 20
    /// requests that were waiting. One that only submits, before it, makes that once.
    #[cold]
    fn submit_alone(&mut self) -> io::Result<()> {
        let queued = self.uring.submission().len() as u32;
        if queued == 0 || self.sqpoll {
            return Ok(());
        }
        self.traffic.enters += 1;
        sys::enter(self.target(), queued, 0, self.enter_flags & !sys::ENTER_GETEVENTS).map(drop).or_else(recover)
    }

    /// # Safety
    /// As [`Source::provide`].
    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        // SAFETY: `self.provided` keeps the memory of the buffer ring for longer than the io_uring,
        // and the caller vouches for the buffers.
        let register = || unsafe { self.uring.submitter().register_buf_ring_with_flags(ring.address(), ring.places(), group, 0) };
        let registered = sys::patiently(register);
        let handing = match registered {
            Ok(()) => {
                self.report.granted.push("REGISTER_PBUF_RING");
                None
            }
            Err(error) => {
                self.report.refused.push(Refusal::new("REGISTER_PBUF_RING", &error));
                Some(Handing::default())
            }
        };
        self.provided = Some(Provided { group, ring: Rc::clone(ring), handing });
    }

    #[inline]
    fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty() || self.uring.submission().cq_overflow()
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        let queue = self.uring.submission();
        let pending = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        pending || !self.uring.completion().is_empty()
    }

    #[inline]
    fn has_queued(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Submits, and returns when the kernel has taken all entries: its own thread takes its time,
    /// and a signal or want of memory can keep an enter from it.
    fn flush(&mut self) -> io::Result<()> {
        self.submit(0)?;
        let attempts = if self.sqpoll { FLUSH_ATTEMPTS } else { FLUSH_ENTERS };
        for _ in 0..attempts {
            if self.uring.submission().is_empty() {
                break;
            }
            std::thread::yield_now();
            self.submit(0)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn reap(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            let token = entry.user_data();
            if token < FIRST_PRIVATE_TOKEN {
                return Some(Completion { token, result: errno_of_user_space(entry.result()), flags: entry.flags() });
            }
            self.take_own(token, entry.result());
        }
    }

    fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16> {
        if self.buffers.is_none() {
            buffer_table::make(self.fd())?;
            self.buffers = Some(FreeIndices::new(buffer_table::PLACES as usize));
        }
        let full = || {
            let sentence = format!("a runtime registers at most {} areas of memory, one for a pool of buffers", buffer_table::PLACES);
            io::Error::new(io::ErrorKind::InvalidInput, sentence)
        };
        let first = self.buffers.as_mut().and_then(|indices| indices.take(buffers.len())).ok_or_else(full)?;
        let filled = buffer_table::fill(self.fd(), first as u16, buffers);
        if let (Err(_), Some(indices)) = (&filled, &mut self.buffers) {
            indices.give_back(first, buffers.len());
        }
        filled.map(|()| first as u16)
    }

    fn forget_buffers(&mut self, first: u16, count: usize) {
        buffer_table::empty(self.fd(), first, count);
        if let Some(indices) = &mut self.buffers {
            indices.give_back(first.into(), count);
        }
    }

    fn register_file(&mut self, file: BorrowedFd<'_>) -> Option<i32> {
        let indices = self.files.as_mut()?;
        let index = indices.take(1)?;
        match sys::patiently(|| self.uring.submitter().register_files_update(index as u32, &[file.as_raw_fd()])) {
            Ok(_) => {
                self.traffic.registered_files += 1;
                Some(index as i32)
            }
            Err(_) => {
                indices.give_back(index, 1);
                None
            }
        }
    }

    fn forget_file(&mut self, index: i32) {
        // Emptying an entry fails only where there is no table.
        let _ = sys::patiently(|| self.uring.submitter().register_files_update(index as u32, &[-1]));
        self.traffic.registered_files -= 1;
        if let Some(indices) = &mut self.files {
            indices.give_back(index as usize, 1);
        }
    }
}

/// What the kernel's submission thread needs to be told: that there is work while it sleeps, or
/// that the queue is full.
fn call_of_submitter(queue: &mut squeue::SubmissionQueue<'_>) -> u32 {
    let mut flags = 0;
    if !queue.is_empty() && queue.need_wakeup() {
        flags |= sys::ENTER_SQ_WAKEUP;
    }
    if queue.is_full() {
        flags |= sys::ENTER_SQ_WAIT;
    }
    flags
}

/// Is the ring of use after this error of an enter? Then the caller looks at what it waits for, and
/// comes back.
#[cold]
pub(super) fn recover(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        // A signal.
        Some(libc::EINTR) => Ok(()),
        // The longest wait is over.
        Some(libc::ETIME) => Ok(()),
        // The completion queue overflows and the kernel wants it reaped first: the caller reaps
        // next.
        Some(libc::EBUSY) => Ok(()),
        // No memory for a request. The entries stay queued; a pause keeps the retry from spinning.
        Some(libc::EAGAIN | libc::ENOMEM) => {
            std::thread::sleep(NO_MEMORY_PAUSE);
            Ok(())
        }
        _ => Err(error),
    }
}

/// A few operations leak the kernel's own "restart this call" codes (512 to 516) when they are
/// cancelled; user space calls them EINTR.
#[inline]
pub(super) fn errno_of_user_space(result: i32) -> i32 {
    match result {
        -516..=-512 => -libc::EINTR,
        result => result,
    }
}

impl Drop for KernelRing {
    /// The registration holds the ring open, with everything in flight, so it goes before the
    /// descriptor.
    fn drop(&mut self) {
        if let Some(index) = self.index {
            // Only another thread would be refused, and the ring never leaves its own.
            let _ = sys::unregister_ring_fd(self.fd(), index);
        }
        if self.traffic.registered_files > 0 {
            // The kernel does it long after the descriptor was closed otherwise, and until then the
            // files stay open.
            let _ = sys::patiently(|| self.uring.submitter().unregister_files());
        }
        if let Some(Provided { group, handing: None, .. }) = self.provided {
            // Not needed, but locked memory counts as free sooner.
            let _ = sys::patiently(|| self.uring.submitter().unregister_buf_ring(group));
        }
        // SAFETY: `uring` is not used after this and dropped nowhere else.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
    }
}

impl fmt::Debug for KernelRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelRing").field("report", &self.report).field("traffic", &self.traffic).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl KernelRing {
    /// The ring of one rung of the ladder of set-up flags. `None`: there is no such rung.
    pub(super) fn open_on_rung(rung: usize, config: &Config) -> Option<io::Result<KernelRing>> {
        Some(setup::open_on_rung(rung, config)?.and_then(|opened| KernelRing::on(opened, config)))
    }

    /// Makes this the ring of a kernel without these operations.
    pub(super) fn unlearn(&mut self, opcodes: &[u8]) {
        opcodes.iter().for_each(|opcode| self.opcodes.remove(*opcode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codes_with_which_the_kernel_restarts_calls_become_eintr() {
        for result in (-530..=-1).chain([0, 1, i32::MAX, i32::MIN]) {
            let expected = if (-516..=-512).contains(&result) { -libc::EINTR } else { result };
            assert_eq!(errno_of_user_space(result), expected);
        }
    }
}
