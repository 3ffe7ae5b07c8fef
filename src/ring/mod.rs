//! Where do completions come from? This is the seam: everything above speaks submission queue entries (SQEs) and completions, and does
//! not know which source answers.
//!
//! A [`Ring`] takes SQEs, gives back completions, and is the only place where time passes. It knows no task, no future and no operation.
//! There are two sources: the kernel, and an engine of our own that executes the same entries where io_uring is not to be had, and those that
//! an older kernel lacks.
//!
//! # Safety
//! The unsafe functions hand entries and buffers on to the source; whoever calls them vouches for the memory.

mod buffer_table;
pub(crate) mod catalogue;
mod choice;
mod engine;
mod file_kind;
mod free_indices;
pub(crate) mod host;
mod hybrid;
mod iopoll;
mod kernel;
mod memory;
mod opcodes;
mod provided;
mod refusal;
mod report;
pub(crate) mod request;
mod setup;
mod system_report;
mod unpark;
pub(crate) mod world;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::squeue;

pub use choice::RingKind;
pub(crate) use file_kind::FileKind;
pub use refusal::SetupError;
pub use report::{Refusal, RingReport};
pub(crate) use system_report::SystemReport;
pub use system_report::{Limit, Seccomp};
pub(crate) use unpark::Unparker;

use crate::buf::BufferRing;
use choice::Reason;
use engine::Engine;
use host::Host;
use hybrid::{Hybrid, Lacking};
use iopoll::Iopoll;
use kernel::KernelRing;
use opcodes::Opcodes;
use world::World;

/// Bits of [`Completion::flags`], io_uring_enter(2).
pub(crate) const COMPLETION_MORE: u32 = 1 << 1;
/// The second completion of a zero-copy send: the kernel has let go of the memory.
pub(crate) const COMPLETION_NOTIFICATION: u32 = 1 << 3;
/// Set by the driver where it joins both completions of a zero-copy send: the bytes were copied after all (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub(crate) const COMPLETION_COPIED: u32 = 1 << 31;

/// The completion took a buffer, which the upper 16 bits name, whatever its result.
const COMPLETION_BUFFER: u32 = 1 << 0;

/// Tokens from here on belong to the ring itself (alarm, kick, buffers): no completion with one of them leaves [`Ring::reap`].
pub(crate) const FIRST_PRIVATE_TOKEN: u64 = u64::MAX - 15;
/// The answer to a buffer that was handed over.
const PROVIDED: u64 = FIRST_PRIVATE_TOKEN + 3;
/// What another ring, whose descriptor is polled in this one, has to say.
const GUEST: u64 = FIRST_PRIVATE_TOKEN + 4;

/// One completion queue entry. Ours, since the crate's has no constructor and other sources must make them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    pub(crate) token: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// Is this the operation's last completion? Only then does the kernel let go of its memory.
    pub(crate) fn is_last(&self) -> bool {
        self.flags & COMPLETION_MORE == 0
    }

    /// The buffer that it took from the group that the entry names.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.flags & COMPLETION_BUFFER != 0).then_some((self.flags >> 16) as u16)
    }
}

/// How long may [`Ring::enter`] wait for a completion?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Until(Instant),
    Forever,
}

impl Wait {
    /// The same, but not beyond a deadline.
    pub(crate) fn no_later_than(self, deadline: Option<Instant>) -> Wait {
        match (self, deadline) {
            (Wait::Until(other), Some(deadline)) => Wait::Until(other.min(deadline)),
            (Wait::Forever, Some(deadline)) => Wait::Until(deadline),
            (wait, _) => wait,
        }
    }
}

/// Why a chain was not taken. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// No room now: enter, then try again.
    Full,
    /// Longer than the submission queue: it never fits, since a chain that a flush splits is two chains.
    TooLong,
}

/// What the user asked of the ring.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The kind of ring, `None` for the best that there is.
    pub(crate) kind: Option<RingKind>,
    /// FreeIndices in the submission queue; the kernel rounds up to a power of two.
    pub(crate) entries: u32,
    /// FreeIndices in the completion queue.
    pub(crate) completion_entries: u32,
    /// Most worker threads for blocking file work, `None` for the source's own bound.
    pub(crate) workers: Option<u32>,
    /// Most time that a wait looks at shared memory before it enters the kernel.
    pub(crate) spin: Duration,
    /// For how many completions a wait waits, and how long before it is content with one.
    pub(crate) min_wait: Option<MinWait>,
    /// Let a thread of the kernel submit.
    pub(crate) sqpoll: Option<Sqpoll>,
    /// Ask devices whether they are done instead of waiting for their interrupts, where that can be.
    pub(crate) iopoll: bool,
    /// Give files that are used often a place in the ring's table.
    pub(crate) registered_files: bool,
}

/// A wait for several completions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinWait {
    pub(crate) completions: u32,
    pub(crate) microseconds: u32,
}

/// The kernel's submission thread, io_uring_sqpoll(7).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sqpoll {
    /// How long it goes on looking when there is nothing to submit; 0 for the kernel's choice.
    pub(crate) idle_ms: u32,
    /// The processor that it stays on.
    pub(crate) cpu: Option<u32>,
}

impl Config {
    /// Queues of these lengths, and nothing further.
    pub(crate) const fn new(entries: u32, completion_entries: u32) -> Config {
        Config {
            kind: None,
            entries,
            completion_entries,
            workers: None,
            spin: Duration::ZERO,
            min_wait: None,
            sqpoll: None,
            iopoll: false,
            registered_files: false,
        }
    }
}

/// Counts of what happened at the seam, for [`Metrics`](crate::Metrics).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) enters: u64,
    pub(crate) submissions: u64,
    pub(crate) overflows: u64,
    /// How many there are now.
    pub(crate) registered_files: u64,
    /// Transfers that ended by asking the device.
    pub(crate) polled: u64,
    /// Files that could not be asked.
    pub(crate) poll_refusals: u64,
}

/// A source of completions.
#[derive(Debug)]
// The large one is the common one, and one box more would be one look more for each operation.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Ring {
    Kernel(KernelRing),
    Emulated(Box<Emulated>),
    /// The kernel's, and the software ring for what that lacks.
    Hybrid(Box<Hybrid>),
    /// One of the kernel's, and another that asks devices.
    Iopoll(Box<Iopoll>),
}

/// The software ring, and what it says of itself.
#[derive(Debug)]
pub(crate) struct Emulated {
    engine: Engine,
    report: RingReport,
    opcodes: Opcodes,
}

impl Emulated {
    fn new(world: Box<dyn World>, config: &Config, reason: Reason) -> Emulated {
        let engine = Engine::new(world, config);
        let report = RingReport {
            kind: RingKind::Software,
            reason,
            entries: engine.entries() as u32,
            completion_entries: config.completion_entries.next_power_of_two(),
            granted: Vec::new(),
            refused: config.iopoll.then(|| Refusal::new("IOPOLL", &io::Error::from_raw_os_error(libc::EOPNOTSUPP))).into_iter().collect(),
            by_software: Vec::new(),
        };
        Emulated { engine, report, opcodes: Opcodes::by_software() }
    }
}

impl Ring {
    /// Opens the best ring that the machine grants. The calling thread becomes its owner: all other calls come from it.
    pub(crate) fn open(config: &Config) -> io::Result<Ring> {
        let (kind, reason) = match choice::asked_for(config.kind)? {
            Some(asked) => asked,
            None => match KernelRing::open(config) {
                Ok(ring) => return Ring::on(ring, config),
                Err(error) => {
                    let refusal = choice::refusal_of_io_uring(error)?;
                    return match Host::open(config.workers) {
                        Ok(host) => Ok(Ring::emulated(host, config, Reason::Refused(Arc::new(refusal)))),
                        Err(error) => Err(refusal.without_stand_in(&error).into_io_error()),
                    };
                }
            },
        };
        match kind {
            RingKind::Kernel => {
                let mut ring = KernelRing::open(config)?;
                ring.set_reason(reason);
                Ring::on(ring, config)
            }
            RingKind::Software => Ok(Ring::emulated(Host::open(config.workers)?, config, reason)),
        }
    }

    fn emulated(host: Host, config: &Config, reason: Reason) -> Ring {
        Ring::Emulated(Box::new(Emulated::new(Box::new(host), config, reason)))
    }

    /// The kernel's ring as it is, or with an engine for what it lacks, or with a second one that asks devices.
    fn on(mut kernel: KernelRing, config: &Config) -> io::Result<Ring> {
        let polling = if config.iopoll { Iopoll::open(&mut kernel, config) } else { None };
        let ring = match Lacking::of(&kernel) {
            None => Ring::Kernel(kernel),
            Some(lacking) => Ring::Hybrid(Box::new(Hybrid::open(kernel, lacking, config)?)),
        };
        Ok(match polling {
            None => ring,
            Some(uring) => Ring::Iopoll(Box::new(Iopoll::beside(ring, uring))),
        })
    }

    /// Can this source execute `opcode`? A `true` is no promise for every argument: look at the first result too.
    #[inline]
    pub(crate) fn supports(&self, opcode: u8) -> bool {
        match self {
            Ring::Kernel(ring) => ring.supports(opcode),
            Ring::Emulated(ring) => ring.opcodes.contains(opcode),
            Ring::Hybrid(ring) => ring.supports(opcode),
            Ring::Iopoll(ring) => ring.others().supports(opcode),
        }
    }

    /// Queues a chain (one entry is a chain of one) behind everything queued before, whole or not at all.
    ///
    /// # Safety
    /// Every address in `chain` and every descriptor must stay valid as `op::Operation` demands.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn push(&mut self, chain: &[squeue::Entry]) -> Result<(), PushError> {
        match self {
            // SAFETY: the caller's promise is handed on unchanged.
            Ring::Kernel(ring) => unsafe { ring.push(chain) },
            // SAFETY: so it is here.
            Ring::Emulated(ring) => ring.engine.push(chain.iter().map(|entry| unsafe { request::decode(entry) })),
            // SAFETY: and here.
            Ring::Hybrid(ring) => unsafe { ring.push(chain) },
            // SAFETY: and here.
            Ring::Iopoll(ring) => unsafe { ring.push(chain) },
        }
    }

    /// As [`push`](Ring::push), of one entry, if it is a kernel's ring with room. `false`: it is not queued. Inlined down to the queue, so that an
    /// entry is made there: copied from elsewhere, it would be written in small steps and read in wide ones at once, for which a processor stalls.
    ///
    /// # Safety
    /// As [`push`](Ring::push).
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn push_at_once(&mut self, entry: &squeue::Entry) -> bool {
        match self {
            // SAFETY: the caller's promise is handed on unchanged.
            Ring::Kernel(ring) => unsafe { ring.push_at_once(entry) },
            Ring::Emulated(_) | Ring::Hybrid(_) | Ring::Iopoll(_) => false,
        }
    }

    /// Lets entries with [`BUFFER_SELECT`](squeue::Flags::BUFFER_SELECT) and this group take their buffers from `ring`, first in first out, each
    /// when it has something to put there and not before. The completion [names the buffer](Completion::buffer), also one that reports an error or
    /// 0; from then on it is the caller's, who may append it again. An entry that finds none ends with `ENOBUFS`.
    ///
    /// A source reads the queue from its own head to [`BufferRing::tail`] and keeps the `Rc` until it is dropped. It refuses nothing: where the
    /// kernel does not take the queue as it is, its buffers are handed over one by one. Called once.
    ///
    /// # Safety
    /// All buffers that are ever appended to `ring` stay valid until they were taken or this is dropped; if this is forgotten, for ever.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn provide(&mut self, group: u16, ring: &Rc<BufferRing>) {
        match self {
            // SAFETY: the caller's promise is handed on unchanged.
            Ring::Kernel(kernel) => unsafe { kernel.provide(group, ring) },
            Ring::Emulated(emulated) => emulated.engine.provide(group, Rc::clone(ring)),
            // SAFETY: and here.
            Ring::Hybrid(hybrid) => unsafe { hybrid.provide(group, ring) },
            // SAFETY: and here.
            Ring::Iopoll(polling) => unsafe { polling.others_mut().provide(group, ring) },
        }
    }

    /// Submits what is queued, and waits; for several completions if the user wants that, but not for more than are in flight. May return
    /// early for any reason, so callers look at what they wait for themselves.
    #[inline(always)]
    pub(crate) fn enter(&mut self, wait: Wait, in_flight: usize) -> io::Result<()> {
        match self {
            Ring::Kernel(ring) => ring.enter(wait, in_flight),
            Ring::Emulated(ring) => ring.engine.enter(wait),
            Ring::Hybrid(ring) => ring.enter(wait, in_flight),
            Ring::Iopoll(ring) => ring.enter(wait, in_flight),
        }
    }

    /// Submits what is queued and does nothing else, so that the next enter receives less at a time. Only a kernel's ring gains by that.
    pub(crate) fn submit_alone(&mut self) -> io::Result<()> {
        match self {
            Ring::Kernel(ring) => ring.submit_alone(),
            Ring::Emulated(_) => Ok(()),
            Ring::Hybrid(ring) => ring.kernel_mut().submit_alone(),
            Ring::Iopoll(ring) => ring.others_mut().submit_alone(),
        }
    }

    /// Submits what is queued, and returns when the source has taken it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Ring::Kernel(ring) => ring.flush(),
            Ring::Emulated(ring) => ring.engine.enter(Wait::No),
            Ring::Hybrid(ring) => ring.flush(),
            Ring::Iopoll(ring) => ring.flush(),
        }
    }

    /// Takes the next completion out of the queue.
    #[inline(always)]
    pub(crate) fn reap(&mut self) -> Option<Completion> {
        match self {
            Ring::Kernel(ring) => ring.reap(),
            Ring::Emulated(ring) => ring.engine.reap(),
            Ring::Hybrid(ring) => ring.reap(),
            Ring::Iopoll(ring) => ring.reap(),
        }
    }

    /// Does anything wait for the next enter?
    #[inline]
    pub(crate) fn has_queued(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_queued(),
            Ring::Emulated(ring) => ring.engine.has_queued(),
            Ring::Hybrid(ring) => ring.has_queued(),
            Ring::Iopoll(ring) => ring.has_queued(),
        }
    }

    /// Are there completions that have not been reaped, in the queue or beyond it?
    #[inline]
    pub(crate) fn has_completions(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_completions(),
            Ring::Emulated(ring) => ring.engine.has_completions(),
            Ring::Hybrid(ring) => ring.has_completions(),
            Ring::Iopoll(ring) => ring.has_completions(),
        }
    }

    /// Does our own engine execute the entries, and no kernel?
    pub(crate) fn is_software(&self) -> bool {
        matches!(self, Ring::Emulated(_))
    }

    /// Would an enter that does not wait bring completions? Seen in memory, without a call.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        match self {
            Ring::Kernel(ring) => ring.has_work(),
            Ring::Emulated(ring) => ring.engine.has_completions(),
            Ring::Hybrid(ring) => ring.has_work(),
            Ring::Iopoll(ring) => ring.has_work(),
        }
    }

    /// As [`has_work`](Ring::has_work), but `true` also where only a call would tell.
    pub(crate) fn may_have_work(&mut self) -> bool {
        matches!(self, Ring::Emulated(_) | Ring::Hybrid(_)) || self.has_work()
    }

    /// The time by which this source's waits end.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Ring::Kernel(_) | Ring::Hybrid(_) => Instant::now(),
            Ring::Emulated(ring) => ring.engine.now(),
            Ring::Iopoll(ring) => ring.others().now(),
        }
    }

    /// A handle that ends a wait from another thread.
    pub(crate) fn unparker(&self) -> Unparker {
        match self {
            Ring::Kernel(ring) => ring.unparker(),
            Ring::Emulated(ring) => ring.engine.unparker(),
            Ring::Hybrid(ring) => ring.kernel().unparker(),
            Ring::Iopoll(ring) => ring.others().unparker(),
        }
    }

    /// Registers memory for reads and writes by number, and returns the number of the first.
    ///
    /// # Errors
    /// `OutOfMemory` for want of locked memory, `InvalidInput` for want of places or for a size that cannot be, `Unsupported` for want of a table.
    pub(crate) fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<u16> {
        let registered = match self {
            Ring::Kernel(ring) => ring.register_buffers(buffers),
            // There would be nothing to gain: transfers are made by address.
            Ring::Emulated(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "the software ring has no use for registered buffers")),
            Ring::Hybrid(ring) => ring.kernel_mut().register_buffers(buffers),
            Ring::Iopoll(ring) => ring.register_buffers(buffers),
        };
        registered.map_err(refusal::explain_buffers)
    }

    /// Takes a registration back.
    pub(crate) fn forget_buffers(&mut self, first: u16, count: usize) {
        match self {
            Ring::Kernel(ring) => ring.forget_buffers(first, count),
            Ring::Emulated(_) => {}
            Ring::Hybrid(ring) => ring.kernel_mut().forget_buffers(first, count),
            Ring::Iopoll(ring) => ring.forget_buffers(first, count),
        }
    }

    /// Puts a file into the ring's table, and returns its place. It is open as long as it stands there. `None`: no place is free, or there
    /// is no table.
    pub(crate) fn register_file(&mut self, file: BorrowedFd<'_>) -> Option<i32> {
        match self {
            Ring::Kernel(ring) => ring.register_file(file),
            // The software ring reads the number in an entry as a descriptor.
            Ring::Emulated(_) | Ring::Hybrid(_) => None,
            Ring::Iopoll(ring) => ring.register_file(file),
        }
    }

    /// Empties a place.
    pub(crate) fn forget_file(&mut self, place: i32) {
        match self {
            Ring::Kernel(ring) => ring.forget_file(place),
            Ring::Emulated(_) | Ring::Hybrid(_) => {}
            Ring::Iopoll(ring) => ring.others_mut().forget_file(place),
        }
    }

    /// A descriptor that no operation uses is about to be closed or given away: what is known of
    /// its number is forgotten.
    pub(crate) fn forget(&mut self, fd: RawFd) {
        match self {
            Ring::Kernel(_) => {}
            Ring::Emulated(ring) => ring.engine.end_waits_for(fd),
            Ring::Hybrid(ring) => ring.forget(fd),
            Ring::Iopoll(ring) => ring.forget(fd),
        }
    }

    /// As [`forget`](Ring::forget), of a descriptor that operations in flight may use. The kernel
    /// looks a number up when it takes the entry; those that a worker looks up later are for the
    /// caller to know. `false`: the number is still needed.
    pub(crate) fn let_go(&mut self, fd: RawFd) -> bool {
        match self {
            Ring::Kernel(ring) => !ring.has_queued(),
            Ring::Emulated(ring) => ring.engine.let_go(fd),
            Ring::Hybrid(ring) => ring.let_go(fd),
            Ring::Iopoll(ring) => ring.let_go(fd),
        }
    }

    /// What was granted and what was refused.
    pub(crate) fn report(&self) -> RingReport {
        match self {
            Ring::Kernel(ring) => ring.report().clone(),
            Ring::Emulated(ring) => ring.report.clone(),
            Ring::Hybrid(ring) => ring.kernel().report().clone(),
            Ring::Iopoll(ring) => ring.report(),
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        match self {
            Ring::Kernel(ring) => ring.traffic(),
            Ring::Emulated(ring) => ring.engine.traffic(),
            Ring::Hybrid(ring) => ring.traffic(),
            Ring::Iopoll(ring) => ring.traffic(),
        }
    }
}

#[cfg(test)]
impl Ring {
    /// The kernel's ring as on an older kernel: of one rung of the ladder of set-up flags. `None`: there is no such rung.
    pub(crate) fn open_on_rung(rung: usize, config: &Config) -> Option<io::Result<Ring>> {
        Some(KernelRing::open_on_rung(rung, config)?.map(Ring::Kernel))
    }

    /// The number by which `MSG_RING` names this ring.
    #[allow(dead_code, reason = "tests/conformance includes this file and calls it; the tests of the library do not")]
    pub(crate) fn descriptor(&self) -> RawFd {
        match self {
            Ring::Kernel(ring) => ring.descriptor(),
            Ring::Emulated(ring) => ring.engine.descriptor(),
            Ring::Hybrid(ring) => ring.kernel().descriptor(),
            Ring::Iopoll(ring) => ring.others().descriptor(),
        }
    }

    /// The software ring in a world of `tests/conformance`.
    #[allow(dead_code, reason = "tests/conformance includes this file and calls it; the tests of the library do not")]
    pub(crate) fn open_in(world: Box<dyn World>, config: &Config) -> Ring {
        Ring::Emulated(Box::new(Emulated::new(world, config, Reason::Program)))
    }

    /// The best ring of a machine whose kernel lacks these operations.
    pub(crate) fn open_without(opcodes: &[u8], config: &Config) -> io::Result<Ring> {
        let mut kernel = KernelRing::open(config)?;
        kernel.unlearn(opcodes);
        Ring::on(kernel, config)
    }

    /// Makes this a source that knows no opcode.
    pub(crate) fn support_nothing(&mut self) {
        match self {
            Ring::Kernel(ring) => ring.support_nothing(),
            Ring::Emulated(ring) => ring.opcodes = Opcodes::default(),
            Ring::Hybrid(ring) => ring.support_nothing(),
            Ring::Iopoll(ring) => ring.others_mut().support_nothing(),
        }
    }
}

/// What the set-up reports of the kernels that the rungs of its ladder are there for.
#[cfg(test)]
pub(crate) fn refusals_of_every_rung() -> Vec<Vec<Refusal>> {
    let config = Config::new(8, 32);
    let opened = (0..).map_while(|rung| setup::open_on_rung(rung, &config));
    opened.map(|opened| opened.expect("this machine grants every rung").refused).collect()
}
