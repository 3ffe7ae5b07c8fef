//! Transfers that end by asking the device (`IOPOLL`): those of files that go around the page
//! cache, where the user wants that.
//!
//! An io_uring with IOPOLL asks devices, and does not wait for their interrupts. It executes such
//! reads and writes and nothing else. So it stands beside another ring, which has all the rest:
//! timeouts, cancels, kicks. While one of its transfers is under way there is no wait, and each
//! enter asks the device. If a device cannot be asked, the first transfer says so. This transfer
//! and all later ones of the file go to the other ring.
//!
//! # Safety
//! Entries are handed on to one of the two rings, and those that one refuses to the other; whoever
//! pushes vouches for their memory up to the completion that leaves this ring. The descriptor
//! belongs to `uring`.
#![allow(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use io_uring::{IoUring, squeue};
use slab::Slab;

use super::config::Config;
use super::in_force::Ring;
use super::kernel::{KernelRing, errno_of_user_space, recover};
use super::report::{Refusal, RingReport};
use super::seam::{Completion, PushError, Source, Wait};
use super::unpark::Unparker;
use super::{buffer_table, request, setup, system_report};
use crate::buf::BufferRing;
use crate::counters::Counters;
use crate::sys;

/// Two rings behind one seam.
pub(crate) struct Iopoll {
    others: Ring,
    /// The one that asks devices. Its tokens are keys of `under_way`.
    uring: IoUring,
    /// Its entries, as they were pushed.
    under_way: Slab<squeue::Entry>,
    /// Those that it refused, on their way to the other ring.
    refused: VecDeque<squeue::Entry>,
    /// By descriptor: are its transfers for the ring that asks? A descriptor may be closed without
    /// the ring's knowledge, and then this may be wrong of the next file with that number. A
    /// transfer is then refused and takes the other ring, or it waits for an interrupt without
    /// need.
    files: HashMap<RawFd, bool>,
    /// The table for registered buffers is there.
    has_buffers: bool,
}

impl Iopoll {
    /// Opens the ring that asks devices, and has the report of the other say what is in its way.
    /// `None`: the kernel grants none.
    pub(super) fn open(kernel: &mut KernelRing, config: &Config) -> Option<IoUring> {
        let opened = setup::open_iopoll(config);
        match &opened {
            Err(error) => kernel.note_refusal(Refusal::new("IOPOLL", error)),
            Ok(_) if system_report::polling_devices().is_some_and(|devices| devices.is_empty()) => {
                let unsupported = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
                kernel.note_refusal(Refusal::new(
                    "IOPOLL by a block device of this machine",
                    &unsupported,
                ));
            }
            Ok(_) => {}
        }
        opened.ok()
    }

    /// Stands it beside another ring.
    pub(super) fn beside(others: Ring, uring: IoUring) -> Iopoll {
        Iopoll {
            others,
            uring,
            under_way: Slab::new(),
            refused: VecDeque::new(),
            files: HashMap::new(),
            has_buffers: false,
        }
    }

    fn is_polled(&mut self, file: RawFd) -> bool {
        // SAFETY: whoever pushes keeps the descriptor open.
        *self
            .files
            .entry(file)
            .or_insert_with(|| sys::is_direct(unsafe { BorrowedFd::borrow_raw(file) }))
    }

    /// # Safety
    /// As [`Source::push`].
    unsafe fn push_polled(&mut self, entry: &squeue::Entry) -> Result<(), PushError> {
        let mut queue = self.uring.submission();
        let place = self.under_way.vacant_entry();
        // SAFETY: the caller vouches for what the entry names until the completion of its token has
        // left this ring.
        unsafe { queue.push(&entry.clone().user_data(place.key() as u64)) }
            .map_err(|_| PushError::Full)?;
        place.insert(entry.clone());
        self.others.counters().submissions.add(1);
        Ok(())
    }

    /// Submits to the ring that asks, and has it ask once.
    fn ask(&mut self) -> io::Result<()> {
        if self.under_way.is_empty() {
            return Ok(());
        }
        let queued = self.uring.submission().len() as u32;
        self.counters().enters.add(1);
        sys::enter(self.uring.as_raw_fd(), queued, 0, sys::ENTER_GETEVENTS)
            .map(drop)
            .or_else(recover)
    }

    /// Gives the other ring what was refused, as far as it has room.
    fn hand_over(&mut self) {
        while let Some(entry) = self.refused.pop_front() {
            // SAFETY: no completion of its token has left this ring, so what whoever pushed it
            // vouched for holds.
            if unsafe { self.others.push(std::slice::from_ref(&entry)) }.is_err() {
                return self.refused.push_front(entry);
            }
        }
    }

    fn reap_polled(&mut self) -> Option<Completion> {
        loop {
            let ended = self.uring.completion().next()?;
            let entry = self.under_way.remove(ended.user_data() as usize);
            if ended.result() != -libc::EOPNOTSUPP {
                self.counters().polled.add(1);
                return Some(Completion {
                    token: entry.get_user_data(),
                    result: errno_of_user_space(ended.result()),
                    flags: ended.flags(),
                });
            }
            if let Some(polled) =
                request::file_of_transfer(&entry).and_then(|file| self.files.get_mut(&file))
                && std::mem::take(polled)
            {
                self.others.counters().poll_refusals.add(1);
            }
            self.refused.push_back(entry);
        }
    }

    fn uring_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.uring`, which lives as long as the borrow of
        // `self`.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

impl Source for Iopoll {
    fn supports(&self, opcode: u8) -> bool {
        self.others.supports(opcode)
    }

    /// # Safety
    /// As [`Source::push`].
    unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        if let [entry] = chain
            && request::file_of_transfer(entry).is_some_and(|file| self.is_polled(file))
        {
            // SAFETY: the caller's promise is handed on unchanged.
            return unsafe { self.push_polled(entry) };
        }
        // SAFETY: so it is here.
        unsafe { self.others.push(chain) }?;
        for file in chain.iter().filter_map(request::file_that_closes) {
            self.files.remove(&file);
        }
        Ok(())
    }

    /// A chain goes to the other ring whole.
    fn longest_chain(&self) -> usize {
        self.others.longest_chain()
    }

    /// Never waits while the device must be asked.
    fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()> {
        self.hand_over();
        if self.under_way.is_empty() && self.refused.is_empty() {
            return self.others.enter(wait, in_flight);
        }
        self.others.enter(Wait::No, in_flight)?;
        self.ask()
    }

    fn forget(&mut self, fd: RawFd) {
        self.files.remove(&fd);
        self.others.forget(fd);
    }

    /// What is under way may be refused, and then its entry is used once more.
    fn let_go(&mut self, fd: RawFd) -> bool {
        let lets_go =
            self.under_way.is_empty() && self.refused.is_empty() && self.others.let_go(fd);
        if lets_go {
            self.files.remove(&fd);
        }
        lets_go
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over();
        self.others.flush()?;
        self.ask()
    }

    fn reap(&mut self) -> Option<Completion> {
        self.others.reap().or_else(|| self.reap_polled())
    }

    fn has_queued(&mut self) -> bool {
        !self.refused.is_empty() || !self.uring.submission().is_empty() || self.others.has_queued()
    }

    fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
            || self.uring.submission().cq_overflow()
            || self.others.has_completions()
    }

    /// While a transfer is under way, the next enter may find that it has ended.
    fn has_work(&mut self) -> bool {
        !self.under_way.is_empty() || !self.refused.is_empty() || self.others.has_work()
    }

    /// Registers buffers with both rings, under the same numbers.
    fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16> {
        if !self.has_buffers {
            buffer_table::make(self.uring_fd())?;
            self.has_buffers = true;
        }
        let first = self.others.register_buffers(buffers)?;
        let filled = buffer_table::fill(self.uring_fd(), first, buffers);
        if filled.is_err() {
            self.others.forget_buffers(first, buffers.len());
        }
        filled.map(|()| first)
    }

    fn forget_buffers(&mut self, first: u16, count: usize) {
        buffer_table::empty(self.uring_fd(), first, count);
        self.others.forget_buffers(first, count);
    }

    /// Files whose transfers this ring gets are not in the table of the other.
    fn register_file(&mut self, file: BorrowedFd<'_>) -> Option<i32> {
        if self.is_polled(file.as_raw_fd()) { None } else { self.others.register_file(file) }
    }

    fn report(&self) -> RingReport {
        let mut report = self.others.report();
        report.granted.push("IOPOLL");
        report
    }

    fn counters(&self) -> &Arc<Counters> {
        self.others.counters()
    }

    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        // SAFETY: the caller's promise is handed on unchanged.
        unsafe { self.others.provide(group, ring) }
    }

    fn submit_alone(&mut self) -> io::Result<()> {
        self.others.submit_alone()
    }

    fn now(&self) -> Instant {
        self.others.now()
    }

    fn unparker(&self) -> Unparker {
        self.others.unparker()
    }

    fn forget_file(&mut self, index: i32) {
        self.others.forget_file(index);
    }

    #[cfg(test)]
    fn descriptor(&self) -> RawFd {
        self.others.descriptor()
    }
}

impl fmt::Debug for Iopoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iopoll").field("others", &self.others).finish_non_exhaustive()
    }
}
