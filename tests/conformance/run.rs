//! The run of a program, step by step on one ring. After each step the ring is turned until it is
//! at rest.
//!
//! What completes by itself (files, short timeouts, connects) is waited for; what waits for a peer
//! is not. Whether a ring is at rest after an event of a peer cannot be known from outside, so the
//! runner waits a while: not at all at first, and longer when two runs differ.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::squeue;

use super::program::{After, Entry, Object, Op, Program, Step};
use super::ring::{Completion, Config, Ring, Wait};
use super::world::{GROUP, World, adopt, cancel_all};

/// No token of a program is that low, and none that high.
const FIRST_TOKEN: u64 = 1000;
/// The cancels at the end of each program.
const END: u64 = 1;
/// How long does a runner wait?
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// After the last completion, for what may still come.
    pub(crate) quiet: Duration,
    /// For an operation that completes by itself. One that does not is a divergence.
    pub(crate) bound: Duration,
}

pub(crate) const FAST: Pace = Pace { quiet: Duration::ZERO, bound: Duration::from_secs(2) };
/// With entries and completions for any program.
pub(crate) const ROOMY: Config = Config::new(64, 256);

/// More data waits: a hint, which depends on when the kernel looked.
const FLAG_NONEMPTY: u32 = 1 << 2;

/// One completion, in terms that mean the same in every run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The step after which it came; the end of the program counts as one.
    pub(crate) step: usize,
    pub(crate) result: Outcome,
    pub(crate) flags: u32,
    pub(crate) data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Value(i32),
    Descriptor,
}

/// All that can be seen of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    /// By entry.
    pub(crate) events: Vec<Vec<Event>>,
    /// What the peers' own calls said, by step.
    pub(crate) peers: Vec<(usize, i32, Vec<u8>)>,
    /// What was left in each object at its ends.
    pub(crate) left: Vec<Vec<Vec<u8>>>,
    /// Completions of no entry of the program.
    pub(crate) stray: Vec<Completion>,
    /// Entries without a last completion, although everything was cancelled.
    pub(crate) unfinished: Vec<usize>,
}

struct Started {
    entry: Entry,
    /// The first entry of its chain, and whether it is the last.
    chain: usize,
    ended: bool,
}

pub(crate) struct Runner {
    ring: Ring,
    world: World,
    started: Vec<Started>,
    record: Record,
    step: usize,
    pace: Pace,
    descriptors: Vec<OwnedFd>,
}

fn token(number: usize) -> u64 {
    FIRST_TOKEN + number as u64
}

impl Runner {
    pub(crate) fn new(ring: Ring, objects: &[Object], pace: Pace) -> Runner {
        Runner {
            ring,
            world: World::make(objects),
            started: Vec::new(),
            record: Record::default(),
            step: 0,
            pace,
            descriptors: Vec::new(),
        }
    }

    /// The entries whose last completion has not come.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.started
            .iter()
            .enumerate()
            .filter(|(_, started)| !started.ended)
            .map(|(number, started)| (number, &started.entry))
    }

    pub(crate) fn started(&self) -> usize {
        self.started.len()
    }

    /// Makes one step and waits until it has come to rest.
    pub(crate) fn step_and_settle(&mut self, step: &Step) {
        self.step(step);
        self.settle();
        self.step += 1;
    }

    fn step(&mut self, step: &Step) {
        let mut peer = None;
        match step {
            Step::Submit(entries) => self.submit(entries),
            Step::Rush => {}
            Step::Provide { buffers, length } => {
                let queue = self.world.provide(*buffers, *length);
                // SAFETY: the world owns the buffers, and outlives the ring or is forgotten.
                unsafe { self.ring.provide(GROUP, &queue) };
            }
            Step::Return => self.world.give_back(),
            Step::PeerWrites { on, length } => {
                peer = Some((self.world.peer_writes(*on, *length), Vec::new()))
            }
            Step::PeerReads { on, length } => peer = Some(self.world.peer_reads(*on, *length)),
            Step::PeerShuts { on } => self.world.peer_shuts(*on),
            Step::PeerStopsReading { on } => self.world.peer_stops_reading(*on),
            Step::PeerCloses { on } => self.world.peer_closes(*on, false),
            Step::PeerResets { on } => self.world.peer_closes(*on, true),
            Step::PeerConnects { on } => self.world.peer_connects(*on),
        }
        self.record.peers.extend(peer.map(|(result, data)| (self.step, result, data)));
    }

    /// Runs a whole program, and brings it to its end.
    pub(crate) fn run(mut self, program: &Program) -> Record {
        for (index, step) in program.steps.iter().enumerate() {
            self.step(step);
            match program.steps.get(index + 1) {
                // Submitted, and no more.
                Some(Step::Rush) if matches!(step, Step::Submit(_)) => {
                    self.ring.enter(Wait::No, 0).expect("the ring works")
                }
                Some(Step::Rush) => {}
                _ if *step == Step::Rush => {}
                _ => self.settle(),
            }
            self.step += 1;
        }
        self.finish()
    }

    fn submit(&mut self, entries: &[Entry]) {
        let mut chain: Vec<squeue::Entry> = Vec::new();
        let mut first = self.started.len();
        for (index, entry) in entries.iter().enumerate() {
            let number = self.started.len();
            chain.push(self.world.entry(number, entry, token));
            self.started.push(Started { entry: entry.clone(), chain: first, ended: false });
            if !entry.is_linked() || index + 1 == entries.len() {
                // SAFETY: the world keeps the memory and the descriptors until the last completion,
                // or for ever.
                unsafe { self.ring.push(&chain) }.expect("there is room for a program");
                chain.clear();
                first = self.started.len();
            }
        }
    }

    /// Turns the ring until nothing more comes and nothing is left that comes by itself.
    fn settle(&mut self) {
        let start = Instant::now();
        let mut last = start;
        let mut idle = 0;
        while start.elapsed() < self.pace.bound
            && (idle < 2 || last.elapsed() < self.pace.quiet || self.is_awaited())
        {
            if self.turn() {
                (idle, last) = (0, Instant::now());
            } else {
                idle += 1;
                thread::yield_now();
            }
        }
    }

    /// Submits, and takes what there is. `true`: something came.
    fn turn(&mut self) -> bool {
        self.ring.enter(Wait::No, 0).expect("the ring works");
        let mut any = false;
        while let Some(completion) = self.ring.reap() {
            self.take(completion);
            any = true;
        }
        any
    }

    fn take(&mut self, completion: Completion) {
        let number = completion.token.wrapping_sub(FIRST_TOKEN) as usize;
        if completion.token == END {
            return;
        }
        let Some(started) = self.started.get_mut(number) else {
            self.record.stray.push(completion);
            return;
        };
        let entry = &started.entry;
        if completion.is_last() {
            started.ended = true;
        }
        let gives_descriptor =
            matches!(entry.op, Op::Accept { .. } | Op::Open { .. } | Op::OpenAt2 { .. });
        let result = if completion.result >= 0 && gives_descriptor {
            self.descriptors.push(adopt(completion.result));
            Outcome::Descriptor
        } else {
            Outcome::Value(completion.result)
        };
        let data = self.world.found(number, &entry.op, completion.result, completion.buffer());
        let flags = completion.flags & !FLAG_NONEMPTY;
        if completion.result < 0 && entry.skip {
            self.silence(number);
        }
        let step = self.step;
        self.events(number).push(Event { step, result, flags, data });
    }

    fn events(&mut self, number: usize) -> &mut Vec<Event> {
        if self.record.events.len() <= number {
            self.record.events.resize(number + 1, Vec::new());
        }
        &mut self.record.events[number]
    }

    /// A member that skips and fails keeps all behind it in its chain from saying a word.
    fn silence(&mut self, number: usize) {
        let chain = self.started[number].chain;
        for later in self.started[number + 1..].iter_mut().take_while(|later| later.chain == chain)
        {
            later.ended = true;
        }
    }

    /// Is there an entry that completes by itself and has not?
    fn is_awaited(&self) -> bool {
        let mut blocked = None;
        for (number, started) in self.started.iter().enumerate() {
            if started.ended || blocked == Some(started.chain) {
                continue;
            }
            if !started.entry.skip {
                if self.completes_by_itself(number) {
                    return true;
                }
                // Those behind it wait for it.
                blocked = Some(started.chain);
            }
        }
        false
    }

    fn completes_by_itself(&self, number: usize) -> bool {
        let ends_soon = |entry: &Entry| entry.op == Op::LinkTimeout { after: After::Soon };
        let next =
            self.started.get(number + 1).filter(|next| next.chain == self.started[number].chain);
        if next.is_some_and(|next| ends_soon(&next.entry)) {
            return true;
        }
        match self.started[number].entry.op {
            Op::Nop | Op::Unknown | Op::Fsync { .. } | Op::Truncate { .. } => true,
            Op::Read { on, .. }
            | Op::Write { on, .. }
            | Op::Readv { on, .. }
            | Op::Writev { on, .. } => !self.world.may_wait(on),
            Op::Timeout { after, .. } => self.moved(number).unwrap_or(after) != After::Never,
            Op::LinkTimeout { after } => after != After::Never,
            Op::TimeoutUpdate { .. } | Op::TimeoutRemove { .. } => true,
            Op::Cancel { .. } | Op::CancelDescriptor { .. } | Op::CancelAll => true,
            Op::Connect { .. } | Op::Shutdown { .. } | Op::Close { .. } => true,
            Op::Open { .. }
            | Op::Stat { .. }
            | Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::MakeDirectory { .. } => true,
            Op::OpenAt2 { .. } | Op::HardLink { .. } | Op::SymbolicLink { .. } => true,
            Op::SetAttributeOf { .. } | Op::GetAttributeOf { .. } => true,
            Op::SetAttribute { .. } | Op::GetAttribute { .. } => true,
            Op::Allocate { .. } | Op::Advise { .. } | Op::WriteBack { .. } => true,
            Op::Recv { on, .. } | Op::Send { on, .. } | Op::SendZc { on, .. } => {
                !self.world.may_wait(on)
            }
            Op::RecvMsg { on, .. } | Op::SendMsg { on, .. } => !self.world.may_wait(on),
            Op::RecvControl { on, .. } | Op::SendControl { on, .. } => !self.world.may_wait(on),
            Op::RecvControlMultishot { on, .. } => !self.world.may_wait(on),
            Op::Accept { .. } | Op::Poll { .. } => false,
            Op::RecvProvided { on, .. } | Op::ReadProvided { on, .. } => !self.world.may_wait(on),
            Op::RecvMsgMultishot { on } | Op::ReadMultishot { on } => !self.world.may_wait(on),
        }
    }

    /// Where the last update moved a timeout.
    fn moved(&self, number: usize) -> Option<After> {
        let moves = |(update, started): (usize, &Started)| match started.entry.op {
            Op::TimeoutUpdate { target, after } if target == number => {
                let answer = self.record.events.get(update)?.first()?.result;
                (answer == Outcome::Value(0)).then_some(after)
            }
            _ => None,
        };
        self.started.iter().enumerate().rev().find_map(moves)
    }

    /// Cancels what is left, and closes the books.
    pub(crate) fn finish(mut self) -> Record {
        let start = Instant::now();
        while self.started.iter().any(|started| !started.ended && !started.entry.skip)
            && start.elapsed() < self.pace.bound
        {
            // SAFETY: the entry names no memory and no descriptor.
            unsafe { self.ring.push(&[cancel_all().user_data(END)]) }.expect("there is room");
            self.settle();
        }
        self.record.unfinished =
            self.outstanding().filter(|(_, entry)| !entry.skip).map(|(number, _)| number).collect();
        self.record.events.resize(self.started.len(), Vec::new());
        let Runner { ring, mut world, mut record, descriptors, .. } = self;
        drop(ring);
        record.left = world.left();
        drop(descriptors);
        if !record.unfinished.is_empty() {
            // Whoever runs them may still use it.
            std::mem::forget(world);
        }
        record
    }
}
