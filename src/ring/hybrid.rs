//! The ring for older kernels: operations that the kernel lacks go to the engine, and all others to
//! the kernel.
//!
//! It is a kernel's ring and an engine behind one seam. The kernel does all the waiting: the
//! engine's descriptor is polled in its ring, and the engine's timers shorten the wait. Each entry
//! goes to one side. A chain is never split, and a cancel goes where its target went. This ring is
//! used only if the kernel lacks something; otherwise it costs nothing.
//!
//! # Safety
//! Entries and buffers are handed on to one of the two sides; whoever calls vouches for the memory.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue};

use super::catalogue::{self, MULTISHOT_ACCEPT, MULTISHOT_RECEIVE, Without};
use super::config::Config;
use super::engine::Engine;
use super::host::Host;
use super::kernel::KernelRing;
use super::memory;
use super::opcodes::Opcodes;
use super::report::RingReport;
use super::request::{self, Call, CancelRequest, Decoded, Request, SocketCall, Submission};
use super::seam::{Completion, PushError, Source, Wait};
use super::unpark::Unparker;
use crate::buf::BufferRing;
use crate::counters::Counters;

/// What the kernel lacks and the engine does.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    opcodes: Opcodes,
    /// Multishot accepts.
    accepts: bool,
    /// Multishot receives. Then every operation that takes provided buffers goes to the engine: two
    /// readers of one queue of buffers would take the same buffer twice.
    receives: bool,
    /// The count of a send with `MSG_WAITALL` that is cancelled: the kernel loses it.
    counts: bool,
    /// Control messages: it refuses them.
    controls: bool,
    names: Vec<&'static str>,
}

impl Lacking {
    /// `None`: the kernel lacks nothing.
    pub(super) fn of(kernel: &KernelRing) -> Option<Lacking> {
        let mut lacking = Lacking::default();
        for row in catalogue::operations().filter(|row| row.without == Without::Software) {
            if !kernel.supports(row.code) {
                lacking.opcodes.insert(row.code);
                lacking.names.push(row.name);
            }
        }
        if !kernel.supports(MULTISHOT_ACCEPT.shown_by) {
            lacking.accepts = true;
            lacking.names.push(MULTISHOT_ACCEPT.name);
        }
        if !kernel.supports(MULTISHOT_RECEIVE.shown_by) {
            lacking.receives = true;
            lacking.names.push(MULTISHOT_RECEIVE.name);
            lacking.opcodes.insert(opcode::ReadMulti::CODE);
        }
        // It came with Linux 6.1, as did the right count, so the one shows the other. The count is
        // no operation and has no name; a kernel without it also lacks operations that have one.
        lacking.counts = !kernel.supports(opcode::SendMsgZc::CODE);
        // It came with Linux 5.12, and this shows 5.15.
        lacking.controls = !kernel.supports(opcode::MkDirAt::CODE);
        (!lacking.names.is_empty()).then_some(lacking)
    }
}

/// A kernel's ring, and an engine for what that lacks.
#[derive(Debug)]
pub(crate) struct Hybrid {
    kernel: KernelRing,
    engine: Engine,
    lacking: Lacking,
    /// Tokens of operations in the engine, until their last completion.
    with_engine: HashSet<u64>,
}

impl Hybrid {
    pub(super) fn open(
        mut kernel: KernelRing,
        mut lacking: Lacking,
        config: &Config,
    ) -> io::Result<Hybrid> {
        let engine = Engine::new(
            Box::new(Host::open(config.workers)?),
            config,
            Arc::clone(kernel.counters()),
        );
        kernel.set_by_software(std::mem::take(&mut lacking.names));
        Ok(Hybrid { kernel, engine, lacking, with_engine: HashSet::new() })
    }

    fn is_for_engine(&self, opcode: u8, decoded: &Decoded) -> bool {
        match decoded {
            Ok(Submission {
                request: Request::Cancel(CancelRequest::AsyncCancel(target)), ..
            }) => target.token.is_some_and(|token| self.with_engine.contains(&token)),
            Ok(Submission {
                request: Request::Call(Call::Socket(SocketCall::Accept { .. })),
                modifiers,
                ..
            }) => modifiers.multishot && self.lacking.accepts,
            Ok(Submission { modifiers, .. }) if modifiers.group.is_some() => self.lacking.receives,
            Ok(Submission {
                request:
                    Request::Call(Call::Socket(
                        SocketCall::RecvMsg { message, .. } | SocketCall::SendMsg { message, .. },
                    )),
                ..
            }) if self.lacking.controls && memory::has_control(*message) => true,
            Ok(_) => self.lacking.opcodes.contains(opcode),
            // An entry that cannot be read goes to the kernel, which refuses it.
            Err(_) => false,
        }
    }

    /// The kernel is about to close a descriptor: the engine forgets what it knows of it.
    fn forget_what_closes(&mut self, decoded: &Decoded) {
        if let Ok(Submission { request, .. }) = decoded
            && let Some(fd) = request.call().and_then(Call::closes)
        {
            self.engine.end_waits_for(fd);
        }
    }
}

impl Source for Hybrid {
    fn supports(&self, opcode: u8) -> bool {
        self.kernel.supports(opcode) || self.lacking.opcodes.contains(opcode)
    }

    /// # Safety
    /// As [`Source::push`].
    unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        // SAFETY: reading copies the entry only, and the caller vouches for what it names.
        let decode = |entry: &squeue::Entry| unsafe { request::decode(entry) };
        let is_for_engine =
            |entry: &squeue::Entry| self.is_for_engine(entry.get_opcode() as u8, &decode(entry));
        if !chain.iter().any(is_for_engine) {
            match chain {
                // SAFETY: the entry differs from the caller's in the flag `MSG_WAITALL` only, so it
                // names the same memory.
                [entry] if self.lacking.counts => unsafe {
                    self.kernel.push(&[request::in_parts(entry)])
                },
                // SAFETY: it is handed on unchanged.
                _ => unsafe { self.kernel.push(chain) },
            }?;
            chain.iter().for_each(|entry| self.forget_what_closes(&decode(entry)));
            return Ok(());
        }
        self.engine.push(chain.iter().map(decode))?;
        // A cancel is never the target of a cancel, so its token is not kept.
        let targets =
            chain.iter().filter(|entry| entry.get_opcode() as u8 != opcode::AsyncCancel::CODE);
        self.with_engine.extend(targets.map(squeue::Entry::get_user_data));
        Ok(())
    }

    /// A chain goes to one side whole, and to the kernel as it is: its sends do not go in parts.
    fn longest_chain(&self) -> usize {
        match self.lacking.counts {
            true => 1,
            false => self.kernel.longest_chain().min(self.engine.entries()),
        }
    }

    /// # Safety
    /// As [`Source::provide`].
    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        match self.lacking.receives {
            true => self.engine.provide(group, Rc::clone(ring)),
            // SAFETY: the caller's promise is handed on unchanged.
            false => unsafe { self.kernel.provide(group, ring) },
        }
    }

    /// An event for the engine only ends the kernel's wait, and the next enter handles it. So this
    /// may return with nothing done, and callers look and come back.
    fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()> {
        self.engine.enter(Wait::No)?;
        let mut wait = wait;
        if self.engine.is_running() && !self.kernel.watch(self.engine.descriptor())? {
            wait = Wait::No;
        }
        let wait = self.engine.begin_wait_elsewhere(wait);
        let entered = self.kernel.enter(wait, in_flight.saturating_sub(self.with_engine.len()));
        self.engine.end_wait_elsewhere();
        entered
    }

    fn forget(&mut self, fd: RawFd) {
        self.engine.end_waits_for(fd);
    }

    fn let_go(&mut self, fd: RawFd) -> bool {
        !self.kernel.has_queued() && self.engine.let_go(fd)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.engine.enter(Wait::No)?;
        self.kernel.flush()
    }

    fn reap(&mut self) -> Option<Completion> {
        if let Some(completion) = self.kernel.reap() {
            return Some(completion);
        }
        let completion = self.engine.reap()?;
        if completion.is_last() {
            self.with_engine.remove(&completion.token);
        }
        Some(completion)
    }

    fn has_queued(&mut self) -> bool {
        self.engine.has_queued() || self.kernel.has_queued()
    }

    fn has_completions(&mut self) -> bool {
        self.engine.has_completions() || self.kernel.has_completions()
    }

    fn has_work(&mut self) -> bool {
        self.engine.has_completions() || self.kernel.has_work()
    }

    /// The kernel's ring and the engine share one page of counters.
    fn counters(&self) -> &Arc<Counters> {
        self.kernel.counters()
    }

    fn submit_alone(&mut self) -> io::Result<()> {
        self.kernel.submit_alone()
    }

    fn may_have_work(&mut self) -> bool {
        true
    }

    fn unparker(&self) -> Unparker {
        self.kernel.unparker()
    }

    fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16> {
        self.kernel.register_buffers(buffers)
    }

    fn forget_buffers(&mut self, first: u16, count: usize) {
        self.kernel.forget_buffers(first, count);
    }

    fn report(&self) -> RingReport {
        self.kernel.report()
    }

    #[cfg(test)]
    fn descriptor(&self) -> RawFd {
        self.kernel.descriptor()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use io_uring::types;

    use super::*;

    const CONFIG: Config = Config::new(8, 32);

    fn hybrid() -> Hybrid {
        let mut kernel = KernelRing::open(&CONFIG).expect("a ring");
        kernel.unlearn(&[opcode::MkDirAt::CODE]);
        let lacking = Lacking::of(&kernel).expect("that operation");
        Hybrid::open(kernel, lacking, &CONFIG).expect("an engine")
    }

    fn results(hybrid: &mut Hybrid, count: usize) -> Vec<(u64, i32)> {
        let mut results = Vec::new();
        while results.len() < count {
            hybrid.enter(Wait::Forever, count - results.len()).expect("the ring works");
            results.extend(
                std::iter::from_fn(|| hybrid.reap())
                    .map(|completion| (completion.token, completion.result)),
            );
        }
        results
    }

    #[test]
    fn a_chain_goes_whole_to_one_side_and_keeps_its_order() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = |name: &str| {
            std::ffi::CString::new(scratch.path().join(name).as_os_str().as_bytes())
                .expect("no zero")
        };
        let (outer, inner) = (path("outer"), path("outer/inner"));
        let make = |path: &std::ffi::CStr| {
            opcode::MkDirAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).mode(0o777).build()
        };
        let nop = || opcode::Nop::new().build();
        let link = squeue::Flags::IO_LINK;
        let mut hybrid = hybrid();
        let chain = [
            nop().user_data(1).flags(link),
            make(&outer).user_data(2).flags(link),
            make(&inner).user_data(3),
        ];
        // SAFETY: the paths live to the end of the test, after the last completion.
        unsafe { hybrid.push(&chain) }.expect("room");
        assert!(hybrid.engine.has_queued() && !hybrid.kernel.has_queued());
        assert_eq!(results(&mut hybrid, 3), [(1, 0), (2, 0), (3, 0)]);
        let poll = opcode::PollAdd::new(types::Fd(-1), 1).build();
        let failing = [poll.user_data(4).flags(link), make(&outer).user_data(5)];
        // SAFETY: as above.
        unsafe { hybrid.push(&failing) }.expect("room");
        assert!(hybrid.engine.has_queued() && !hybrid.kernel.has_queued());
        assert_eq!(results(&mut hybrid, 2), [(4, -libc::EBADF), (5, -libc::ECANCELED)]);
        assert!(hybrid.with_engine.is_empty());
        // SAFETY: these name no memory.
        unsafe { hybrid.push(&[nop().user_data(6).flags(link), nop().user_data(7)]) }
            .expect("room");
        assert!(!hybrid.engine.has_queued(), "what the kernel has is the kernel's");
        assert_eq!(results(&mut hybrid, 2), [(6, 0), (7, 0)]);
        let long = vec![make(&outer); 9];
        // SAFETY: as above; it is refused.
        assert_eq!(unsafe { hybrid.push(&long) }, Err(PushError::TooLong));
    }
}
