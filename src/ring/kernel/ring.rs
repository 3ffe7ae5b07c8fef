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
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::wakes::{ALARM, ALARM_MOVED, Alarm, KICK, Kick};
use crate::buf::BufferRing;
use crate::counters::Counters;
use crate::ring::choice::Reason;
use crate::ring::config::RingKind;
use crate::ring::config::{Config, MinWait};
use crate::ring::free_indices::FreeIndices;
use crate::ring::opcodes::Opcodes;
use crate::ring::provided::{Handing, Provided};
use crate::ring::report::{Refusal, RingReport};
use crate::ring::seam::{
    Completion, FIRST_PRIVATE_TOKEN, GUEST, PROVIDED, PushError, Source, Wait,
};
use crate::ring::setup::Opened;
use crate::ring::unpark::Unparker;
use crate::ring::{buffer_table, refusal, setup};
use crate::sys::{self, NoSignalOfLargeFiles};

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
    pub(super) uring: ManuallyDrop<IoUring>,
    /// The descriptor's index for this thread, where it was granted.
    pub(super) index: Option<u32>,
    /// Flags of every enter.
    pub(super) enter_flags: u32,
    /// A thread of the kernel submits. It takes entries when it likes, and sleeps when there were
    /// none for a while.
    sqpoll: bool,
    pub(super) min_wait: Option<MinWait>,
    alarm: Alarm,
    pub(super) kick: Kick,
    /// The poll of another ring's descriptor is armed.
    watches: bool,
    provided: Option<Provided>,
    opcodes: Opcodes,
    pub(super) report: RingReport,
    counters: Arc<Counters>,
    /// The free indices of the table of registered buffers, from the first that is wanted on.
    buffers: Option<FreeIndices>,
    /// The free indices of the table of registered files.
    pub(super) files: Option<FreeIndices>,
    /// A direct write is made in the very enter that submits it, by this thread.
    _no_signal: NoSignalOfLargeFiles,
}

impl KernelRing {
    pub(crate) fn open(config: &Config) -> io::Result<KernelRing> {
        KernelRing::on(setup::open(config)?, config)
    }

    fn on(opened: Opened, config: &Config) -> io::Result<KernelRing> {
        let mut probe = Probe::new();
        sys::retry(|| opened.uring.submitter().register_probe(&mut probe))
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
            alarm: Alarm::new(entries, moved),
            kick: Kick::Message,
            watches: false,
            provided: None,
            opcodes: Opcodes::of(&probe),
            counters: Arc::default(),
            buffers: None,
            files: None,
            _no_signal: NoSignalOfLargeFiles::here(),
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

    pub(in crate::ring) fn set_reason(&mut self, reason: Reason) {
        self.report.reason = reason;
    }

    /// Adds what was asked for beside this ring, and not granted.
    pub(in crate::ring) fn note_refusal(&mut self, refusal: Refusal) {
        self.report.refused.push(refusal);
    }

    pub(in crate::ring) fn set_by_software(&mut self, operations: Vec<&'static str>) {
        self.report.by_software = operations;
    }

    /// # Safety
    /// As [`Source::push`].
    #[inline(always)]
    pub(in crate::ring) unsafe fn push_at_once(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: as in `push`.
        let pushed = unsafe { self.uring.submission().push(entry) }.is_ok();
        self.counters.submissions.add(u64::from(pushed));
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
        self.counters.enters.add(1);
        self.counters.completion_overflows.add(u64::from(overflow));
        let flags = self.enter_flags | submitter;
        let entered = match self.min_wait {
            Some(MinWait { microseconds, .. }) if wanted > 1 => {
                sys::enter_min_wait(self.target(), queued, wanted, flags, microseconds)
            }
            _ => sys::enter(self.target(), queued, wanted, flags),
        };
        entered.map(drop).or_else(recover)
    }

    /// Sees to it that a completion comes at `deadline` or earlier. `false`: there was no room.
    fn arm(&mut self, deadline: Instant) -> io::Result<bool> {
        if self.alarm.rings_by(deadline) {
            return Ok(true);
        }
        let (entry, rings_at) = self.alarm.entry(deadline);
        let pushed = self.push_own(entry)?;
        if pushed {
            self.alarm.pushed(rings_at);
        }
        Ok(pushed)
    }

    /// Keeps the eventfd polled, where kicks come that way. `false`: there was no room.
    #[inline]
    fn listen_for_kicks(&mut self) -> io::Result<bool> {
        let Some(entry) = self.kick.entry() else { return Ok(true) };
        let pushed = self.push_own(entry)?;
        self.kick.set_armed(pushed);
        Ok(pushed)
    }

    /// Has a wait end once when there is something to read from another ring's descriptor. `false`:
    /// there was no room.
    pub(in crate::ring) fn watch(&mut self, guest: RawFd) -> io::Result<bool> {
        if !self.watches {
            self.watches = self.push_own(
                opcode::PollAdd::new(types::Fd(guest), libc::POLLIN as u32)
                    .build()
                    .user_data(GUEST),
            )?;
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
            ALARM => self.alarm.rung(),
            ALARM_MOVED => self.alarm.moved(result),
            KICK => self.kick.take(),
            GUEST => self.watches = false,
            PROVIDED => self.provided.iter_mut().for_each(|provided| provided.answered(result)),
            _ => {}
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.uring`, which lives as long as the borrow of
        // `self`.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }

    /// What io_uring_enter(2) takes as its first argument.
    pub(super) fn target(&self) -> i32 {
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

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
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
        self.counters.submissions.add(chain.len() as u64);
        Ok(())
    }

    /// Without `SUBMIT_ALL` an enter stops behind an entry that it refuses, and the next one takes
    /// the rest of that chain for another chain, which would run.
    fn longest_chain(&self) -> usize {
        match self.report.granted.contains(&"SUBMIT_ALL") {
            true => self.report.entries as usize,
            false => 1,
        }
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
        self.counters.enters.add(1);
        sys::enter(self.target(), queued, 0, self.enter_flags & !sys::ENTER_GETEVENTS)
            .map(drop)
            .or_else(recover)
    }

    /// # Safety
    /// As [`Source::provide`].
    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        // SAFETY: `self.provided` keeps the memory of the buffer ring for longer than the io_uring,
        // and the caller vouches for the buffers.
        let register = || unsafe {
            self.uring.submitter().register_buf_ring_with_flags(
                ring.address(),
                ring.places(),
                group,
                0,
            )
        };
        let registered = sys::retry(register);
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
                return Some(Completion {
                    token,
                    result: errno_of_user_space(entry.result()),
                    flags: entry.flags(),
                });
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
            let sentence = format!(
                "a runtime registers at most {} areas of memory, one for a pool of buffers",
                buffer_table::PLACES
            );
            io::Error::new(io::ErrorKind::InvalidInput, sentence)
        };
        let first = self
            .buffers
            .as_mut()
            .and_then(|indices| indices.take(buffers.len()))
            .ok_or_else(full)?;
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
        match sys::retry(|| {
            self.uring.submitter().register_files_update(index as u32, &[file.as_raw_fd()])
        }) {
            Ok(_) => {
                self.counters.registered_files.add(1);
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
        let _ = sys::retry(|| self.uring.submitter().register_files_update(index as u32, &[-1]));
        self.counters.registered_files.remove_one();
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
pub(in crate::ring) fn recover(error: io::Error) -> io::Result<()> {
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
pub(in crate::ring) fn errno_of_user_space(result: i32) -> i32 {
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
        if self.counters.registered_files.get() > 0 {
            // The kernel does it long after the descriptor was closed otherwise, and until then the
            // files stay open.
            let _ = sys::retry(|| self.uring.submitter().unregister_files());
        }
        if let Some(Provided { group, handing: None, .. }) = self.provided {
            // Not needed, but locked memory counts as free sooner.
            let _ = sys::retry(|| self.uring.submitter().unregister_buf_ring(group));
        }
        // SAFETY: `uring` is not used after this and dropped nowhere else.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
    }
}

impl fmt::Debug for KernelRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelRing").field("report", &self.report).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl KernelRing {
    /// The ring of one rung of the ladder of set-up flags. `None`: there is no such rung.
    pub(in crate::ring) fn open_on_rung(
        rung: usize,
        config: &Config,
    ) -> Option<io::Result<KernelRing>> {
        Some(setup::open_on_rung(rung, config)?.and_then(|opened| KernelRing::on(opened, config)))
    }

    /// Makes this the ring of a kernel without these operations.
    pub(in crate::ring) fn unlearn(&mut self, opcodes: &[u8]) {
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
