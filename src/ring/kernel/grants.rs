//! The requests to an opened io_uring beyond its set-up flags, and what of them was granted.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ring::KernelRing;
use super::wakes::{KICK, Kick};
use crate::ring::config::MinWait;
use crate::ring::free_indices::FreeIndices;
use crate::ring::report::Refusal;
use crate::ring::{refusal, unpark};
use crate::sys;

/// The length of the table of registered files, eight bytes each from the start. The kernel allows
/// no more than `RLIMIT_NOFILE`.
const REGISTERED_FILES: u64 = 1024;
impl KernelRing {
    /// A registered descriptor saves each enter the look-up of the descriptor. Sixteen per thread,
    /// so a refusal is no error.
    pub(super) fn ask_for_index(&mut self) {
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
    pub(super) fn ask_for_idle_waits(&mut self) -> io::Result<()> {
        let enter = |flags| sys::retry(|| sys::enter(self.target(), 0, 0, flags));
        match enter(self.enter_flags | sys::ENTER_NO_IOWAIT) {
            Ok(_) => {
                self.enter_flags |= sys::ENTER_NO_IOWAIT;
                self.report.granted.push("NO_IOWAIT");
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                enter(self.enter_flags)
                    .map_err(|error| refusal::explain("io_uring_enter", error))?;
                self.report.refused.push(Refusal::new("NO_IOWAIT", &error));
            }
            Err(error) => return Err(refusal::explain("io_uring_enter", error)),
        }
        Ok(())
    }

    /// Whether the kernel posts messages for threads without a ring shows by kicking oneself once.
    pub(super) fn ask_for_kicks(&mut self) -> io::Result<()> {
        match sys::retry(|| unpark::send_message(self.fd().as_raw_fd(), KICK)) {
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
    pub(super) fn ask_for_file_table(&mut self) {
        if !matches!(self.kick, Kick::Message) {
            return;
        }
        let limit = sys::limit(libc::RLIMIT_NOFILE).map_or(u64::MAX, |(limit, _)| limit);
        let count = limit.min(REGISTERED_FILES) as u32;
        match sys::retry(|| self.uring.submitter().register_files_sparse(count)) {
            Ok(()) => {
                self.files = Some(FreeIndices::new(count as usize));
                self.report.granted.push("REGISTER_FILES2");
            }
            Err(error) => self.report.refused.push(Refusal::new("REGISTER_FILES2", &error)),
        }
    }

    pub(super) fn ask_for_workers(&mut self, workers: Option<u32>) -> io::Result<()> {
        let Some(workers) = workers else { return Ok(()) };
        // Bounded work (regular files) and unbounded work (everything else) have a bound each.
        sys::retry(|| self.uring.submitter().register_iowq_max_workers(&mut [workers, workers]))
            .map_err(|error| refusal::explain("io_uring_register", error))?;
        self.report.granted.push("REGISTER_IOWQ_MAX_WORKERS");
        Ok(())
    }

    /// Waits for several completions come back with the first where the kernel has none.
    pub(super) fn ask_for_min_wait(&mut self, asked: Option<MinWait>, is_known: bool) {
        match asked {
            Some(_) if is_known => {
                self.min_wait = asked;
                self.report.granted.push("MIN_TIMEOUT");
            }
            Some(_) => self
                .report
                .refused
                .push(Refusal::new("MIN_TIMEOUT", &io::Error::from_raw_os_error(libc::EINVAL))),
            None => {}
        }
    }
}
