//! Programs made at random: small ones, of everything that the crate submits, in which two rings
//! have no choice.
//!
//! A program is made while it runs on one ring, so that the next step knows what is in flight: two
//! operations never compete for the same bytes, and what is cancelled either waits or has ended.
//! Where io_uring leaves a choice all the same, `compare` allows for it.

use super::common::Random;
use super::program::*;
use super::run::{FAST, Record, Runner};

const MOST_STEPS: usize = 8;
const MOST_ENTRIES: usize = 12;

/// Makes a program while it runs, and gives the record of that run, too.
pub(crate) fn generate(
    random: &Random,
    open: impl FnOnce() -> super::ring::Ring,
) -> (Program, Record) {
    let objects: Vec<Object> = (0..random.up_to(3)).map(|_| object(random)).collect();
    let mut runner = Runner::new(open(), &objects, FAST);
    let provides = random.chance(3);
    let mut maker =
        Maker { random, closed: vec![false; objects.len()], objects, entries: 0, provides };
    let mut steps = Vec::new();
    if provides {
        steps.push(Step::Provide {
            buffers: random.up_to(4) as u16,
            length: random.up_to(24) as u32,
        });
        runner.step_and_settle(&steps[0]);
    }
    for _ in 0..random.up_to(MOST_STEPS) {
        let step = maker.step(&runner);
        runner.step_and_settle(&step);
        steps.push(step);
        if maker.entries >= MOST_ENTRIES {
            break;
        }
    }
    (Program { objects: maker.objects, steps }, runner.finish())
}

fn object(random: &Random) -> Object {
    match random.below(24) {
        0..3 => PipeReader,
        3..5 => PipeWriter,
        5..10 => Unix,
        10..12 => Datagram,
        12..15 => Tcp,
        15..17 => Listener,
        17 => Socket,
        18..20 => File(random.below(200) as u32),
        20 => Append(random.below(100) as u32),
        21 => ReadOnly(random.below(100) as u32),
        22 => Directory,
        _ => Bad,
    }
}

struct Maker<'a> {
    random: &'a Random,
    objects: Vec<Object>,
    /// Given to the ring to be closed.
    closed: Vec<bool>,
    entries: usize,
    /// Buffers for the ring to take.
    provides: bool,
}

impl Maker<'_> {
    fn step(&mut self, runner: &Runner) -> Step {
        let on = self.random.below(self.objects.len());
        if self.provides && self.random.chance(8) {
            return Step::Return;
        }
        if self.entries > 0 && self.random.chance(2) {
            let length = self.random.up_to(40) as u32;
            match (self.objects[on], self.random.below(10)) {
                (PipeReader | Unix | Tcp | Datagram, 0..7) => {
                    return Step::PeerWrites { on, length };
                }
                (PipeWriter, 0..7) | (Unix | Tcp | Datagram, 7) => {
                    return Step::PeerReads { on, length };
                }
                (Unix | Tcp, 8) => return Step::PeerShuts { on },
                (Tcp, 9) if self.random.chance(3) => return Step::PeerResets { on },
                (PipeReader | PipeWriter | Unix | Tcp, 9) => return Step::PeerCloses { on },
                (Listener, _) => return Step::PeerConnects { on },
                _ => {}
            }
        }
        self.submit(runner)
    }

    /// One chain, or a few entries that have nothing to do with each other.
    fn submit(&mut self, runner: &Runner) -> Step {
        let count = self.random.up_to(4);
        let linked = self.random.chance(2);
        let mut entries: Vec<Entry> = Vec::new();
        for index in 0..count {
            let number = runner.started() + entries.len();
            let op = self.op(runner, &entries, number, linked);
            let last = index + 1 == count;
            let mut entry = match (linked && !last, self.random.chance(4)) {
                (false, _) => op.alone(),
                (true, false) => op.soft(),
                (true, true) => op.hard(),
            };
            // Those whose memory nobody needs any more when they have ended without a word. One
            // that fails in a chain silences the members behind it, of which then nobody knows
            // whether they still wait.
            let may_fail = matches!(entry.op, Op::Cancel { .. } | Op::TimeoutRemove { .. });
            if (entry.op == Op::Nop || may_fail && !linked) && self.random.chance(8) {
                entry = entry.skip();
            }
            let waits = entry.is_linked();
            // A worker, who may have an accept as well, and a short timeout run a race, and so do
            // two short timeouts.
            let races = Program::has_worker(&self.objects, &entry.op)
                || matches!(entry.op, Op::Timeout { .. } | Op::Accept { .. });
            entries.push(entry);
            if waits && self.random.chance(5) {
                let after = if self.random.chance(3) && !races { Soon } else { Never };
                entries.push(Op::LinkTimeout { after }.alone());
                break;
            }
        }
        self.entries += entries.len();
        Step::Submit(entries)
    }

    fn op(&mut self, runner: &Runner, entries: &[Entry], number: usize, linked: bool) -> Op {
        for _ in 0..50 {
            let on = self.random.below(self.objects.len());
            let op = self.any_op(on, number);
            if self.is_free(&op, runner, entries, linked) {
                if let Op::Close { on } = op {
                    self.closed[on] = true;
                }
                return op;
            }
        }
        Op::Nop
    }

    /// Nobody else takes from the same object, and what is closed is idle.
    fn is_free(&self, op: &Op, runner: &Runner, entries: &[Entry], linked: bool) -> bool {
        // A worker may hold an entry still or not yet when a cancel looks for it, and the answer
        // tells.
        let has_worker = |op: &Op| Program::has_worker(&self.objects, op);
        // And data that is there already may win or lose against a cancel in the same submission.
        let is_open = |op: &Op| has_worker(op) || (!linked && (op.takes() || op.gives()));
        let meets = |other: &Entry| {
            (op.cancels() && is_open(&other.op)) || (other.op.cancels() && is_open(op))
        };
        // And a cancel may count what another is about to end, or start something by ending what is
        // in front of it.
        let names = |op: &Op| {
            op.cancels() || matches!(op, Op::TimeoutUpdate { .. } | Op::TimeoutRemove { .. })
        };
        let meets = |other: &Entry| meets(other) || (names(op) && names(&other.op));
        // One that waits in a chain may find what runs only since the end of the program.
        let waits = |other: &Entry| other.op.takes() || matches!(other.op, Op::Timeout { .. });
        if linked && op.cancels() && entries.iter().any(waits) {
            return false;
        }
        if entries.iter().any(meets) || self.names_a_short_timeout(op, runner) {
            return false;
        }
        // The buffers stand in one queue, and who comes first is not promised.
        if !linked && op.takes_buffers() && entries.iter().any(|entry| entry.op.takes_buffers()) {
            return false;
        }
        let Some(on) = op.object() else { return true };
        // Those who have connected to a listener learn of its end when the kernel has given it up.
        let connects_to_closing = |one: &Op, other: &Op| match (one, other) {
            (Op::Connect { to, .. }, Op::Close { on } | Op::Shutdown { on, .. }) if to == on => {
                true
            }
            (_, Op::Close { on } | Op::Shutdown { on, .. }) => {
                self.objects[*on] == Listener
                    && one.object().is_some_and(|on| self.objects[on] == Socket)
            }
            _ => false,
        };
        let rivals = |other: &Op| {
            let same = other.object() == Some(on);
            let closing = matches!(op, Op::Close { .. }) || matches!(other, Op::Close { .. });
            let both_take = op.takes() && other.takes();
            let both_give = op.gives() && other.gives();
            // What a shutdown or a cancel meets depends on when it comes.
            let ends = matches!(op, Op::Shutdown { .. } | Op::Connect { .. })
                || matches!(other, Op::Shutdown { .. } | Op::Connect { .. });
            let meets_closing = connects_to_closing(op, other) || connects_to_closing(other, op);
            meets_closing || same && (closing || both_take || both_give || ends)
        };
        // The members of one chain take turns; separate entries on one file do not, nor do those
        // that a reset would be told to.
        let files = self.objects[on].is_file() || self.objects[on] == Tcp;
        let among = !linked
            && entries
                .iter()
                .any(|entry| rivals(&entry.op) || (files && entry.op.object() == Some(on)));
        let in_chain = linked
            && matches!(op, Op::Close { .. })
            && entries.iter().any(|entry| entry.op.object() == Some(on));
        // The kernel gives a listener up on its way back to the program, so behind the end of the
        // submission.
        let connects_in_chain = entries
            .iter()
            .any(|entry| connects_to_closing(op, &entry.op) || connects_to_closing(&entry.op, op));
        let closed_in_chain = entries.iter().any(|entry| entry.op == Op::Close { on });
        // What waits in a chain for something of this submission begins when that likes.
        let waits = |other: &Op| {
            rivals(other) || (self.objects[on].is_file() && other.object() == Some(on))
        };
        let among = among || runner.outstanding().any(|(_, entry)| waits(&entry.op));
        !among && !in_chain && !connects_in_chain && !closed_in_chain
    }

    /// Whether a short timeout has fired yet is a matter of speed. And one that repeats would fire
    /// for ever when it was moved (Linux 6.18).
    fn names_a_short_timeout(&self, op: &Op, runner: &Runner) -> bool {
        let mut op = op.clone();
        let Some(&mut target) = op.target_mut() else { return false };
        let moves = matches!(op, Op::TimeoutUpdate { .. });
        let is_short = |op: &Op| {
            matches!(op, Op::Timeout { after: Soon, .. })
                || (moves && matches!(op, Op::Timeout { times: 2.., .. }))
        };
        // One of this submission is not known to the runner yet, and may be anything.
        target >= runner.started()
            || runner.outstanding().any(|(number, entry)| number == target && is_short(&entry.op))
    }

    fn any_op(&self, on: usize, number: usize) -> Op {
        let random = self.random;
        let length = if random.chance(12) { 0 } else { random.up_to(48) as u32 };
        // One of nothing that is cancelled while it waits says 0.
        let message_length = length.max(1);
        let target = random.below(number.max(1));
        let offset = match self.objects[on] {
            File(_) | ReadOnly(_) | Append(_) if !random.chance(6) => random.below(150) as i64,
            _ => -1,
        };
        let after = if random.chance(3) { Soon } else { Never };
        let name = |random: &Random| ['a', 'b', 'c'][random.below(3)];
        if random.chance(4) {
            return match random.below(11) {
                0 => Op::Nop,
                1 if random.chance(3) => Op::Unknown,
                1 | 2 => Op::Timeout { after, times: if random.chance(4) { 3 } else { 1 } },
                3 if number > 0 => Op::TimeoutUpdate { target, after },
                4 if number > 0 => Op::TimeoutRemove { target },
                5..8 if number > 0 => Op::Cancel { target },
                8 => Op::CancelDescriptor { on, all: random.chance(2) },
                9 if random.chance(3) => Op::CancelAll,
                10 => {
                    Op::Timeout { after: if random.chance(3) { Negative } else { after }, times: 1 }
                }
                _ => Op::Nop,
            };
        }
        let lengths = [length, random.up_to(30) as u32];
        // On datagrams that are cut off it decides about the chain.
        let flags =
            if random.chance(4) && self.objects[on] != Datagram { libc::MSG_WAITALL } else { 0 };
        match (self.objects[on], random.below(12)) {
            (Directory, 0..4) => {
                let flags = [
                    libc::O_RDONLY,
                    libc::O_RDWR | libc::O_CREAT,
                    libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
                ];
                let (name, flags) = (name(random), flags[random.below(3)]);
                match random.chance(3) {
                    true => Op::OpenAt2 { on, name, flags },
                    false => Op::Open { on, name, flags },
                }
            }
            (Directory, 4) if random.chance(2) => match random.below(2) {
                0 => Op::SetAttributeOf { on, name: name(random), length },
                _ => Op::GetAttributeOf { on, name: name(random), length },
            },
            (Directory, 6) if random.chance(2) => match random.below(2) {
                0 => Op::HardLink { on, from: name(random), to: name(random) },
                _ => Op::SymbolicLink { on, to: name(random), name: name(random) },
            },
            (Directory, 4..6) => Op::Stat { on, name: name(random) },
            (Directory, 6..8) => Op::Rename { on, from: name(random), to: name(random) },
            (Directory, 8..10) => Op::Unlink { on, name: name(random) },
            (Directory, _) => Op::MakeDirectory { on, name: name(random) },
            (Listener, 0..9) => Op::Accept { on, multishot: random.chance(2) },
            (Socket, 0..6) if self.objects.contains(&Listener) => {
                let to = self.objects.iter().position(|object| *object == Listener).unwrap_or(0);
                Op::Connect { on, to }
            }
            (File(_) | Append(_) | ReadOnly(_) | Bad, 0..4) => Op::Read { on, length, offset },
            (File(_) | Append(_) | ReadOnly(_) | Bad, 4..7) => Op::Write { on, length, offset },
            (File(_) | Append(_) | ReadOnly(_) | Bad, 7) if random.chance(2) => {
                let offset = offset as u64;
                let modes = [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_ZERO_RANGE,
                    libc::FALLOC_FL_PUNCH_HOLE,
                ];
                match random.below(5) {
                    0 => Op::SetAttribute { on, length },
                    1 => Op::GetAttribute { on, length },
                    2 => Op::Advise { on },
                    3 => Op::WriteBack { on, offset },
                    // Without the right to write its error is that of a descriptor that is none,
                    // which breaks a chain; this one does not.
                    _ if matches!(self.objects[on], ReadOnly(_)) => Op::Advise { on },
                    _ => {
                        let mode = modes[random.below(modes.len())];
                        Op::Allocate { on, mode, offset, length: u64::from(length) }
                    }
                }
            }
            (File(_) | Append(_) | ReadOnly(_), 7) => {
                Op::Truncate { on, length: u64::from(length) }
            }
            (PipeReader, 0..4) if self.provides && random.chance(2) => match random.below(3) {
                0 => Op::ReadMultishot { on },
                _ => Op::ReadProvided { on, length },
            },
            // When a multishot receive on a datagram socket runs out of buffers is not promised.
            (Datagram, 0..4) if self.provides && random.chance(2) => {
                Op::RecvProvided { on, multishot: false }
            }
            // What a failure has to do with buffers is not promised, so these have none.
            (Unix | Tcp, 0..4) if self.provides && random.chance(2) => match random.below(5) {
                0 => Op::ReadProvided { on, length },
                1 => Op::ReadMultishot { on },
                2 => Op::RecvMsgMultishot { on },
                kind => Op::RecvProvided { on, multishot: kind == 3 },
            },
            (_, 0..2) => Op::Recv { on, length, flags },
            (_, 2) => Op::Read { on, length, offset },
            (_, 3) => Op::Readv { on, lengths, offset },
            (_, 4) if random.chance(3) => {
                let room = [0, 8, 24, 80][random.below(4)];
                Op::RecvControl { on, length: message_length, room }
            }
            (_, 4) => Op::RecvMsg { on, length: message_length },
            (_, 5) => Op::Send { on, length, flags },
            // Nothing can be written to a socket that is not connected, or that is an error.
            (_, 6) => Op::Write { on, length: length.max(1), offset },
            (_, 7) => Op::Writev { on, lengths, offset },
            (_, 8) if random.chance(3) => Op::SendControl { on, length },
            (_, 8) => Op::SendMsg { on, length },
            (_, 9) => Op::Fsync { on },
            (_, 10) if random.chance(4) => Op::Close { on },
            (_, 10) if random.chance(3) && self.objects[on] != Datagram => {
                Op::Shutdown { on, how: random.below(3) as i32 }
            }
            (_, _) => Op::Poll {
                on,
                mask: [libc::POLLIN, libc::POLLOUT][random.below(2)],
                multishot: random.chance(3),
            },
        }
    }
}
