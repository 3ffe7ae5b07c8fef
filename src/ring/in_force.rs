//! The ring in force: one of the sources of completions, for everything above.
//!
//! The kernel's ring is the common one, so it is told apart by an enum: what each operation passes
//! through is inlined. All other sources are behind a pointer.
//!
//! # Safety
//! Entries and buffers are handed on to the source; whoever calls vouches for the memory.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use io_uring::squeue;

use super::kernel::KernelRing;
use super::refusal;
use super::report::RingReport;
use super::seam::{Completion, PushError, Source, Wait};
use super::unpark::Unparker;
use crate::buf::BufferRing;
use crate::counters::Counters;

/// A source of completions. Its methods are those of [`Source`].
#[derive(Debug)]
// The large one is the common one, and one box more would be one look more for each operation.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Ring {
    Kernel(KernelRing),
    Other(Box<dyn Source>),
}

impl Ring {
    fn source(&self) -> &dyn Source {
        match self {
            Ring::Kernel(ring) => ring,
            Ring::Other(ring) => &**ring,
        }
    }

    fn source_mut(&mut self) -> &mut dyn Source {
        match self {
            Ring::Kernel(ring) => ring,
            Ring::Other(ring) => &mut **ring,
        }
    }

    #[inline]
    pub(crate) fn supports(&self, opcode: u8) -> bool {
        match self {
            Ring::Kernel(ring) => ring.supports(opcode),
            Ring::Other(ring) => ring.supports(opcode),
        }
    }

    /// # Safety
    /// As [`Source::push`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        match self {
            // SAFETY: the caller's promise is handed on unchanged.
            Ring::Kernel(ring) => unsafe { ring.push(chain) },
            // SAFETY: so it is here.
            Ring::Other(ring) => unsafe { ring.push(chain) },
        }
    }

    pub(crate) fn longest_chain(&self) -> usize {
        self.source().longest_chain()
    }

    /// As [`push`](Ring::push), of one entry, if it is a kernel's ring with room. `false`: it is
    /// not queued. Inlined down to the queue, so that an entry is made there: copied from
    /// elsewhere, it would be written in small steps and read in wide ones at once, for which a
    /// processor stalls.
    ///
    /// # Safety
    /// As [`Source::push`].
    #[inline(always)]
    pub(crate) unsafe fn push_at_once(&mut self, entry: &squeue::Entry) -> bool {
        match self {
            // SAFETY: the caller's promise is handed on unchanged.
            Ring::Kernel(ring) => unsafe { ring.push_at_once(entry) },
            Ring::Other(_) => false,
        }
    }

    /// # Safety
    /// As [`Source::provide`].
    pub(crate) unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        // SAFETY: the caller's promise is handed on unchanged.
        unsafe { self.source_mut().provide(group, ring) }
    }

    #[inline(always)]
    pub(crate) fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()> {
        match self {
            Ring::Kernel(ring) => ring.enter(wait, in_flight),
            Ring::Other(ring) => ring.enter(wait, in_flight),
        }
    }

    pub(crate) fn submit_alone(&mut self) -> io::Result<()> {
        self.source_mut().submit_alone()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.source_mut().flush()
    }

    #[inline(always)]
    pub(crate) fn reap(&mut self) -> Option<Completion> {
        match self {
            Ring::Kernel(ring) => ring.reap(),
            Ring::Other(ring) => ring.reap(),
        }
    }

    #[inline]
    pub(crate) fn has_queued(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_queued(),
            Ring::Other(ring) => ring.has_queued(),
        }
    }

    #[inline]
    pub(crate) fn has_completions(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_completions(),
            Ring::Other(ring) => ring.has_completions(),
        }
    }

    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_work(),
            Ring::Other(ring) => ring.has_work(),
        }
    }

    pub(crate) fn may_have_work(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.may_have_work(),
            Ring::Other(ring) => ring.may_have_work(),
        }
    }

    #[inline]
    pub(crate) fn is_software(&self) -> bool {
        match self {
            Ring::Kernel(_) => false,
            Ring::Other(ring) => ring.is_software(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.source().now()
    }

    pub(crate) fn unparker(&self) -> Unparker {
        self.source().unparker()
    }

    pub(crate) fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16> {
        self.source_mut().register_buffers(buffers).map_err(refusal::explain_buffers)
    }

    pub(crate) fn forget_buffers(&mut self, first: u16, count: usize) {
        self.source_mut().forget_buffers(first, count);
    }

    pub(crate) fn register_file(&mut self, file: BorrowedFd<'_>) -> Option<i32> {
        self.source_mut().register_file(file)
    }

    pub(crate) fn forget_file(&mut self, index: i32) {
        self.source_mut().forget_file(index);
    }

    pub(crate) fn forget(&mut self, fd: RawFd) {
        self.source_mut().forget(fd);
    }

    pub(crate) fn let_go(&mut self, fd: RawFd) -> bool {
        self.source_mut().let_go(fd)
    }

    pub(crate) fn report(&self) -> RingReport {
        self.source().report()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        self.source().counters()
    }
}

#[cfg(test)]
impl Ring {
    pub(crate) fn descriptor(&self) -> RawFd {
        self.source().descriptor()
    }
}
