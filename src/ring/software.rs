//! The software ring: the engine as a source of completions, and what it says of itself.
//!
//! # Safety
//! Entries and buffers are handed on to the engine; whoever calls vouches for the memory.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use io_uring::squeue;

use super::choice::Reason;
use super::config::Config;
use super::config::RingKind;
use super::engine::Engine;
use super::opcodes::Opcodes;
use super::report::{Refusal, RingReport};
use super::request;
use super::seam::{Completion, PushError, Source, Wait};
use super::unpark::Unparker;
use super::world::World;
use crate::buf::BufferRing;
use crate::counters::Counters;

#[derive(Debug)]
pub(crate) struct SoftwareRing {
    engine: Engine,
    report: RingReport,
    opcodes: Opcodes,
}

impl SoftwareRing {
    pub(crate) fn new(world: Box<dyn World>, config: &Config, reason: Reason) -> SoftwareRing {
        let engine = Engine::new(world, config, Arc::default());
        let no_iopoll = || Refusal::new("IOPOLL", &io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        let report = RingReport {
            kind: RingKind::Software,
            reason,
            entries: engine.entries() as u32,
            completion_entries: config.completion_entries.next_power_of_two(),
            granted: Vec::new(),
            refused: config.iopoll.then(no_iopoll).into_iter().collect(),
            by_software: Vec::new(),
        };
        SoftwareRing { engine, report, opcodes: Opcodes::by_software() }
    }
}

impl Source for SoftwareRing {
    fn supports(&self, opcode: u8) -> bool {
        self.opcodes.contains(opcode)
    }

    unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        // SAFETY: the caller vouches for what the entries name.
        self.engine.push(chain.iter().map(|entry| unsafe { request::decode(entry) }))
    }

    fn longest_chain(&self) -> usize {
        self.engine.entries()
    }

    unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        self.engine.provide(group, Rc::clone(ring));
    }

    fn enter(&mut self, wait: Wait, _in_flight: usize) -> io::Result<()> {
        self.engine.enter(wait)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.engine.enter(Wait::No)
    }

    fn reap(&mut self) -> Option<Completion> {
        self.engine.reap()
    }

    fn has_queued(&mut self) -> bool {
        self.engine.has_queued()
    }

    fn has_completions(&mut self) -> bool {
        self.engine.has_completions()
    }

    fn has_work(&mut self) -> bool {
        self.engine.has_completions()
    }

    fn may_have_work(&mut self) -> bool {
        true
    }

    fn is_software(&self) -> bool {
        true
    }

    fn now(&self) -> Instant {
        self.engine.now()
    }

    fn unparker(&self) -> Unparker {
        self.engine.unparker()
    }

    /// There would be nothing to gain: transfers are made by address.
    fn register_buffers(&mut self, _buffers: &[libc::iovec]) -> io::Result<u16> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the software ring has no use for registered buffers",
        ))
    }

    fn forget_buffers(&mut self, _first: u16, _count: usize) {}

    fn forget(&mut self, fd: RawFd) {
        self.engine.end_waits_for(fd);
    }

    fn let_go(&mut self, fd: RawFd) -> bool {
        self.engine.let_go(fd)
    }

    fn report(&self) -> RingReport {
        self.report.clone()
    }

    fn counters(&self) -> &Arc<Counters> {
        self.engine.counters()
    }

    #[cfg(test)]
    fn descriptor(&self) -> RawFd {
        self.engine.descriptor()
    }
}

#[cfg(test)]
mod tests {
    use io_uring::{opcode, types};

    use super::*;
    use crate::ring::host::Host;
    use crate::ring::in_force::Ring;

    #[test]
    fn a_message_reaches_another_software_ring_by_the_number_of_its_descriptor() {
        let config = Config::new(8, 32);
        let ring = || Ring::open_in(Box::new(Host::open(None).expect("epoll")), &config);
        let (mut from, mut to) = (ring(), ring());
        let message = opcode::MsgRingData::new(types::Fd(to.descriptor()), 7, 42, None).build();
        // SAFETY: it names no memory, and the ring that it names outlives it.
        unsafe { from.push(&[message.user_data(1)]) }.expect("room");
        from.enter(Wait::Forever, 1).expect("it works");
        assert_eq!(from.reap(), Some(Completion { token: 1, result: 0, flags: 0 }));
        to.enter(Wait::Forever, 1).expect("it works");
        assert_eq!(to.reap(), Some(Completion { token: 42, result: 7, flags: 0 }));
    }
}
