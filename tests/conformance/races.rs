//! Races, where io_uring promises little: what must hold all the same of cancels that race with
//! data and connections, and of queues that overflow.
//!
//! Who wins is free, and so are the answers of cancels. But each entry has one last completion, no
//! byte and no connection is lost, doubled or out of order, and a cancelled entry says either that
//! it was cancelled or what it did. And the software ring, whose choices come from a seed, does
//! each of the things that it may do.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{opcode, types};

use super::by_hand::is_as_expected;
use super::choices::{Choice, made};
use super::common::{Random, seed, size, watchdog};
use super::compare::{SLOW, Source, run, shrink};
use super::program::*;
use super::ring::{Config, Wait};
use super::run::{FAST, Outcome, Pace, ROOMY, Record, Runner};

/// Programs on each ring in CI.
const RACES: u64 = 1500;
/// Seeds to see all ways that a program may go, most of which need a few.
const SEEDS: u64 = 1000;
const RINGS: [Source; 3] = [Source::Kernel, Source::Plain, Source::Software];
const MOST_ROUNDS: usize = 4;
const FLAG_MORE: u32 = 1 << 1;
const QUICK: Pace = Pace {
    quiet: std::time::Duration::from_millis(1),
    bound: std::time::Duration::from_millis(300),
};

/// Rounds of: something that waits, something that comes, a cancel; at rest only after each round.
fn race(random: &Random) -> Program {
    let object = [PipeReader, Unix, Tcp, Listener][random.below(4)];
    let mut steps =
        vec![Step::Provide { buffers: random.up_to(4) as u16, length: random.up_to(8) as u32 }];
    let mut entries = 0;
    for _ in 0..random.up_to(MOST_ROUNDS) {
        let (on, length) = (0, random.up_to(20) as u32);
        let waiting = match (object, random.below(4)) {
            (Listener, kind) => Op::Accept { on, multishot: kind < 3 },
            (PipeReader, 0..2) => Op::Read { on, length, offset: -1 },
            (PipeReader, _) => Op::ReadProvided { on, length },
            (_, 0) => Op::Recv { on, length, flags: 0 },
            (_, 1) => Op::Recv { on, length, flags: libc::MSG_WAITALL },
            (_, kind) => Op::RecvProvided { on, multishot: kind == 2 },
        };
        let target = entries;
        let cancel = match random.below(4) {
            0 => Op::CancelDescriptor { on, all: true },
            1 => Op::CancelAll,
            _ => Op::Cancel { target },
        };
        entries += 2;
        let mut round = vec![Step::Submit(vec![waiting.alone()])];
        for _ in 0..random.below(4) {
            round.push(if object == Listener {
                Step::PeerConnects { on }
            } else {
                Step::PeerWrites { on, length: random.up_to(20) as u32 }
            });
        }
        round.push(Step::Submit(vec![cancel.alone()]));
        for step in round {
            // In a round, some steps are at rest before the next and some are not.
            if step != steps[steps.len() - 1]
                && random.chance(2)
                && !matches!(step, Step::Submit(ref list) if !list[0].op.cancels())
            {
                steps.push(Step::Rush);
            }
            steps.push(step);
        }
        if random.chance(2) {
            steps.push(Step::Return);
        }
    }
    program([object], steps)
}

/// Why a record breaks what must hold; nothing if it does not.
fn fault(program: &Program, record: &Record) -> Option<String> {
    if !record.unfinished.is_empty() || !record.stray.is_empty() {
        return Some(format!(
            "without an end: {:?}; of nobody: {:?}",
            record.unfinished, record.stray
        ));
    }
    let mut received = Vec::new();
    let mut accepted = 0;
    for (number, (entry, events)) in program.entries().zip(&record.events).enumerate() {
        let more = events.iter().filter(|event| event.flags & FLAG_MORE != 0).count();
        if more + 1 != events.len() {
            return Some(format!(
                "entry {number} has {} completions, {more} of which say that more will come",
                events.len()
            ));
        }
        for event in events {
            let allowed = match event.result {
                Outcome::Descriptor => !entry.op.cancels(),
                Outcome::Value(value) if entry.op.cancels() => {
                    // All that it found, where it is to find all.
                    (0..=program.entries().count() as i32).contains(&value)
                        || [-libc::ENOENT, -libc::EALREADY].contains(&value)
                }
                Outcome::Value(value) => {
                    value >= 0 || [-libc::ECANCELED, -libc::EINTR, -libc::ENOBUFS].contains(&value)
                }
            };
            if !allowed {
                return Some(format!("entry {number} says {:?}", event.result));
            }
            received.extend_from_slice(&event.data);
            accepted += usize::from(event.result == Outcome::Descriptor);
        }
    }
    if program.objects[0] == Listener {
        let connected =
            program.steps.iter().filter(|step| matches!(step, Step::PeerConnects { .. })).count();
        let waiting = usize::from(record.left[0][0][0]);
        return (accepted + waiting != connected)
            .then(|| format!("{connected} connections, {accepted} accepted and {waiting} left"));
    }
    let written: i32 = record.peers.iter().map(|(_, result, _)| *result).sum();
    let expected: Vec<u8> = (0..written).map(|index| 1u8.wrapping_add(index as u8)).collect();
    // The last of the object's ends is ours.
    received.extend_from_slice(record.left[0].last().map_or(&[], Vec::as_slice));
    (received != expected).then(|| format!("written {expected:?}, received and left {received:?}"))
}

#[track_caller]
fn assert_sound(program: &Program, config: &Config, source: Source) {
    let fault_of = |program: &Program, pace| {
        let record = Runner::new(source.open(config), &program.objects, pace).run(program);
        fault(program, &record).map(|fault| (fault, record))
    };
    if let Some((fault, record)) = fault_of(program, FAST) {
        // A race is not lost in every run.
        let core =
            shrink(program.clone(), |program| (0..20).any(|_| fault_of(program, QUICK).is_some()));
        panic!("{source:?}: {fault}\n{program}\n{record:?}\nat its core\n{core}");
    }
}

#[test]
fn cancels_that_race_with_data_lose_nothing() {
    let _watchdog = watchdog();
    let seed = seed();
    for index in 0..size(RACES) {
        let program = race(&Random::new(seed ^ index << 32));
        for source in RINGS.into_iter().chain([Source::Free(seed ^ index << 32)]) {
            assert_sound(&program, &ROOMY, source);
        }
    }
}

/// Programs that may end in several ways, and these ways: a line for each entry.
fn open_ended() -> Vec<(Program, Vec<Vec<&'static str>>)> {
    let recv = |on, length| Op::Recv { on, length, flags: 0 }.alone();
    let cancel = || Op::Cancel { target: 0 }.alone();
    let write = |on, length| Step::PeerWrites { on, length };
    let provided = |on, multishot| Op::RecvProvided { on, multishot }.alone();
    vec![
        // A cancel meets what has come.
        (
            program(
                [Unix],
                [
                    Step::Submit(vec![recv(0, 8)]),
                    write(0, 1),
                    Step::Rush,
                    Step::Submit(vec![cancel()]),
                ],
            ),
            vec![vec!["1", "ENOENT"], vec!["ECANCELED", "0"]],
        ),
        // Or finds no thread at work yet, or one, or one that has finished.
        (
            program(
                [File(20)],
                [Step::Submit(vec![Op::Read { on: 0, length: 9, offset: 3 }.alone(), cancel()])],
            ),
            vec![
                vec!["9", "ENOENT"],
                vec!["9", "EALREADY"],
                vec!["1|2|3|4|5|6|7|8", "0"],
                vec!["ECANCELED", "0"],
            ],
        ),
        (
            program(
                [Directory],
                [Step::Submit(vec![
                    Op::Open { on: 0, name: 'a', flags: libc::O_RDONLY }.alone(),
                    cancel(),
                ])],
            ),
            vec![vec!["fd", "ENOENT"], vec!["fd", "EALREADY"], vec!["ECANCELED", "0"]],
        ),
        // A multishot receive has taken so much when others have their turn.
        (
            program(
                [Unix],
                [
                    Step::Provide { buffers: 3, length: 1 },
                    write(0, 3),
                    Step::Submit(vec![provided(0, true), cancel()]),
                ],
            ),
            vec![
                vec!["1+ 1+ 1+ ECANCELED", "0"],
                vec!["1+ 1+ ECANCELED", "0"],
                vec!["1+ ECANCELED", "0"],
                vec!["ECANCELED", "0"],
            ],
        ),
        // Somebody gets the last buffer.
        (
            program(
                [Unix, Unix],
                [
                    Step::Provide { buffers: 1, length: 1 },
                    Step::Submit(vec![provided(0, false)]),
                    Step::Submit(vec![provided(1, false)]),
                    write(0, 1),
                    Step::Rush,
                    write(1, 1),
                ],
            ),
            vec![vec!["1", "ENOBUFS"], vec!["ENOBUFS", "1"]],
        ),
        // A transfer moves a part.
        (
            program([Unix], [write(0, 9), Step::Submit(vec![recv(0, 3)])]),
            vec![vec!["3"], vec!["2"], vec!["1"]],
        ),
    ]
}

#[test]
fn what_io_uring_leaves_open_goes_each_way_on_the_software_ring() {
    let _watchdog = watchdog();
    let seed = seed();
    let programs = open_ended();
    let mut seen: Vec<_> = programs.iter().map(|(_, ways)| vec![0; ways.len()]).collect();
    let is_one_sided = |choice: &Choice| made(*choice).contains(&0);
    for index in 0..SEEDS {
        let source = if index == 0 { Source::Software } else { Source::Free(seed ^ index << 32) };
        for ((program, ways), seen) in programs.iter().zip(&mut seen) {
            let record = run(program, source, SLOW);
            let is_way = |way: &Vec<&str>| {
                record.events.iter().zip(way).all(|(events, line)| is_as_expected(events, line))
            };
            let way = ways.iter().position(is_way).unwrap_or_else(|| {
                panic!("{source:?}:\n{program}\nis none of {ways:?}: {record:?}")
            });
            seen[way] += 1;
        }
        if !seen.iter().flatten().any(|count| *count == 0) && !Choice::ALL.iter().any(is_one_sided)
        {
            return println!("each way was seen with {index} seeds");
        }
    }
    let choices: Vec<_> = Choice::ALL.into_iter().filter(is_one_sided).collect();
    panic!("the ways were seen {seen:?} times, and these choices went one way only: {choices:?}");
}

#[test]
fn a_cancel_and_what_it_ends_are_told_in_either_order() {
    let _watchdog = watchdog();
    let seed = seed();
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let wait =
        opcode::PollAdd::new(types::Fd(ours.as_raw_fd()), libc::POLLIN as u32).build().user_data(0);
    let cancel = opcode::AsyncCancel::new(0).build().user_data(1);
    let mut seen = Vec::new();
    for index in 0..SEEDS {
        let mut ring = Source::Varied(seed ^ index << 32).open(&ROOMY);
        for entry in [&wait, &cancel] {
            // SAFETY: neither names memory, and the socket lives longer than the ring.
            unsafe { ring.push(std::slice::from_ref(entry)) }.expect("there is room");
        }
        ring.enter(Wait::Forever, 2).expect("the ring works");
        let told: Vec<_> = std::iter::from_fn(|| ring.reap())
            .map(|completion| (completion.token, completion.result))
            .collect();
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [(0, -libc::ECANCELED), (1, 0)]);
        if !seen.contains(&told) {
            seen.push(told);
        }
        if seen.len() == 2 {
            return;
        }
    }
    panic!("only in this order: {seen:?}");
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    let tiny = Config::new(4, 4);
    let nops = || Step::Submit((0..4).map(|_| Op::Nop.alone()).collect());
    let flood = program([], (0..5).flat_map(|_| [nops(), Step::Rush]));
    for source in RINGS {
        let record = Runner::new(source.open(&tiny), &flood.objects, FAST).run(&flood);
        let ended = record.events.iter().filter(
            |events| matches!(events[..], [ref event] if event.result == Outcome::Value(0)),
        );
        assert_eq!(ended.count(), 20, "{source:?}: {record:?}");
    }
    // One that has many completions at once goes on or ends in between, as the ring likes.
    let recv = || Step::Submit(vec![Op::RecvProvided { on: 0, multishot: true }.alone()]);
    let write = Step::PeerWrites { on: 0, length: 40 };
    let steps = [
        Step::Provide { buffers: 32, length: 2 },
        write.clone(),
        recv(),
        Step::Return,
        recv(),
        Step::Return,
        recv(),
        Step::Return,
        write,
    ];
    let burst = program([Unix], steps);
    let accept = || Step::Submit(vec![Op::Accept { on: 0, multishot: true }.alone()]);
    let connects = (0..12).map(|_| Step::PeerConnects { on: 0 });
    // One accept at a time: of two on a listener that may wait, a thread can wait in the second for
    // ever.
    let crowd = program([Listener], connects.chain([accept()]));
    for source in RINGS {
        assert_sound(&burst, &tiny, source);
        assert_sound(&crowd, &tiny, source);
    }
}
