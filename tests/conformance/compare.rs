//! The comparison: the records of two runs, made equal where io_uring promises nothing, and a
//! divergence cut down to its core.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use super::choices::Chooser;
use super::program::{Link, Op, Program, Step};
use super::ring::{Config, Ring, RingKind};
use super::run::{Event, FAST, Outcome, Pace, ROOMY, Record, Runner};

/// The rung of the ladder of set-up flags without any flag.
const PLAIN_RUNG: usize = 5;

/// Whose completions?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The kernel's, with every flag that it grants.
    Kernel,
    /// The kernel's, without any flag.
    Plain,
    /// The software ring's.
    Software,
    /// The software ring's, which takes its choices from a seed. What can be seen is the same.
    Varied(u64),
    /// The same, and what can be seen differs as far as io_uring leaves it open.
    Free(u64),
}

/// Every ring that there is, the measure of the others first.
pub(crate) const SOURCES: [Source; 5] =
    [Source::Kernel, Source::Plain, Source::Software, Source::Varied(1), Source::Varied(2)];

impl Source {
    pub(crate) fn open(self, config: &Config) -> Ring {
        let open = || match self {
            Source::Kernel => {
                Ring::open(&Config { kind: Some(RingKind::Kernel), ..config.clone() })
            }
            Source::Software => {
                Ring::open(&Config { kind: Some(RingKind::Software), ..config.clone() })
            }
            Source::Varied(seed) => Chooser::new(seed, false, config.workers)
                .map(|world| Ring::open_in(Box::new(world), config)),
            Source::Free(seed) => Chooser::new(seed, true, config.workers)
                .map(|world| Ring::open_in(Box::new(world), config)),
            Source::Plain => Ring::open_on_rung(PLAIN_RUNG, config).expect("a rung"),
        };
        for _ in 0..1000 {
            match open() {
                // An ordinary user's locked memory comes back some time after a ring was closed.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                other => return other.expect("a ring"),
            }
        }
        panic!("the memory of closed rings has not come back");
    }
}

pub(crate) fn run(program: &Program, source: Source, pace: Pace) -> Record {
    Runner::new(source.open(&ROOMY), &program.objects, pace).run(program)
}

/// Runs that differ are repeated with more time for what comes late.
pub(crate) const SLOW: Pace =
    Pace { quiet: Duration::from_millis(5), bound: Duration::from_secs(2) };
pub(crate) const VERY_SLOW: Pace =
    Pace { quiet: Duration::from_millis(100), bound: Duration::from_secs(5) };
/// How often a program is run again before it counts as a divergence.
const REPETITIONS: usize = 12;

/// Finding the core of a divergence takes many runs.
const QUICK: Pace = Pace { quiet: Duration::from_millis(3), bound: Duration::from_millis(100) };

/// What two rings made of a program that is not the same.
pub(crate) struct Divergence {
    first: Record,
    second: Record,
}

/// Do two rings do the same?
pub(crate) enum Verdict {
    Same,
    /// The kernel had a worker do what mostly none does: nothing to compare with.
    PassedOver,
    Differ(Box<Divergence>),
}

/// Runs a program on two rings, again and again if they differ: one that races within itself may
/// end in several ways, and then something that happens on the one must happen on the other. A ring
/// that errs does so each time.
fn verdict(program: &Program, first: Source, second: Source) -> Verdict {
    let paces = [[FAST, SLOW, VERY_SLOW].as_slice(), &[SLOW; REPETITIONS]].concat();
    verdict_at(&paces, program, first, second)
}

fn verdict_at(paces: &[Pace], program: &Program, first: Source, second: Source) -> Verdict {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut verdict = Verdict::Same;
    for pace in paces {
        let (first, second) = (run(program, first, *pace), run(program, second, *pace));
        if first.met_a_worker(program) {
            return Verdict::PassedOver;
        }
        ours.extend(first.is_sound().then(|| normal(program, &first)));
        theirs.push(normal(program, &second));
        if ours.iter().any(|record| theirs.contains(record)) {
            return Verdict::Same;
        }
        verdict = Verdict::Differ(Box::new(Divergence { first, second }));
    }
    verdict
}

/// A record without what io_uring leaves open. Each rule is one line of the list in
/// `src/docs/software-ring.md`.
fn normal(program: &Program, record: &Record) -> Record {
    let mut record = record.clone();
    for (entry, events) in program.entries().zip(&mut record.events) {
        for event in events.iter_mut() {
            // With no buffer left and a number that nobody has, either may be told.
            if entry.op.takes_buffers() && event.result == Outcome::Value(-libc::EBADF) {
                event.result = Outcome::Value(-libc::ENOBUFS);
            }
            // A worker that is interrupted says EINTR where anybody else says ECANCELED.
            if event.result == Outcome::Value(-libc::EINTR) {
                event.result = Outcome::Value(-libc::ECANCELED);
            }
            // And it may have taken a buffer, in which there is nothing.
            if event.result == Outcome::Value(-libc::ECANCELED) {
                event.flags = 0;
            }
        }
        // A poll that repeats may tell again what it has told: the whole state, or what happened
        // just now.
        if matches!(entry.op, Op::Poll { multishot: true, .. }) {
            tell_once(events);
        }
    }
    record
}

/// Leaves of the events of a poll what each is the first to tell.
fn tell_once(events: &mut Vec<Event>) {
    let mut told = 0;
    events.retain_mut(|event| {
        let Outcome::Value(mask @ 1..) = event.result else { return true };
        event.result = Outcome::Value(mask & !told);
        told |= mask;
        event.result != Outcome::Value(0)
    });
}

impl Record {
    /// Did the kernel interrupt a worker at something that mostly no worker does? From then on it
    /// is another program.
    fn met_a_worker(&self, program: &Program) -> bool {
        program.entries().zip(&self.events).any(|(entry, events)| {
            let says =
                |errno: i32| events.iter().any(|event| event.result == Outcome::Value(-errno));
            says(libc::EINTR) || (entry.op.cancels() && says(libc::EALREADY))
        })
    }

    /// Every entry has come to its end, and nothing came that belongs to none.
    fn is_sound(&self) -> bool {
        self.stray.is_empty() && self.unfinished.is_empty()
    }
}

/// Panics if a program does something else on the second ring than in this record of the first.
/// `false`: there was nothing to compare.
#[track_caller]
pub(crate) fn assert_agrees(
    program: &Program,
    record: &Record,
    first: Source,
    second: Source,
) -> bool {
    let same = record.is_sound()
        && normal(program, record) == normal(program, &run(program, second, FAST));
    same || assert_agree(program, first, second)
}

/// Panics if the two rings differ on a program, with the smallest program that shows it. `false`:
/// there was nothing to compare.
#[track_caller]
pub(crate) fn assert_agree(program: &Program, first: Source, second: Source) -> bool {
    let found = match verdict(program, first, second) {
        Verdict::Same => return true,
        Verdict::PassedOver => return false,
        Verdict::Differ(found) => found,
    };
    println!("the rings differ on\n{program}\n{}", found.show(program, first, second));
    let differ = |program: &Program| {
        matches!(verdict_at(&[QUICK, QUICK], program, first, second), Verdict::Differ(_))
    };
    let core = shrink(program.clone(), differ);
    match verdict(&core, first, second) {
        Verdict::Differ(found) => {
            panic!("the rings differ on\n{core}\n{}", found.show(&core, first, second))
        }
        _ => panic!("the rings differ on that, and on no smaller program"),
    }
}

impl Divergence {
    pub(crate) fn show(&self, program: &Program, first: Source, second: Source) -> String {
        let mut text = String::new();
        for (number, entry) in program.entries().enumerate() {
            let (ours, theirs) = (&self.first.events[number], &self.second.events[number]);
            let mark = if ours == theirs { ' ' } else { '*' };
            let _ = writeln!(text, "{mark} {number}: {entry}");
            let _ = writeln!(
                text,
                "      {first:?}: {}\n      {second:?}: {}",
                show(ours),
                show(theirs)
            );
        }
        for (what, ours, theirs) in [
            ("peers", format!("{:?}", self.first.peers), format!("{:?}", self.second.peers)),
            ("left", format!("{:?}", self.first.left), format!("{:?}", self.second.left)),
            ("stray", format!("{:?}", self.first.stray), format!("{:?}", self.second.stray)),
            (
                "unfinished",
                format!("{:?}", self.first.unfinished),
                format!("{:?}", self.second.unfinished),
            ),
        ] {
            if ours != theirs {
                let _ =
                    writeln!(text, "* {what}\n      {first:?}: {ours}\n      {second:?}: {theirs}");
            }
        }
        text
    }
}

fn show(events: &[Event]) -> String {
    let events = events.iter().map(|event| {
        let result = match event.result {
            Outcome::Descriptor => "descriptor".to_owned(),
            Outcome::Value(value @ -4095..=-1) => {
                format!("{value} ({})", io::Error::from_raw_os_error(-value))
            }
            Outcome::Value(value) => value.to_string(),
        };
        let flags =
            if event.flags == 0 { String::new() } else { format!(" flags {:#x}", event.flags) };
        let data = if event.data.is_empty() {
            String::new()
        } else {
            format!(" {:02x?}", &event.data[..event.data.len().min(8)])
        };
        format!("[after step {}: {result}{flags}{data}]", event.step)
    });
    events.collect::<Vec<_>>().join(" ")
}

/// Drops whatever can be dropped while the program still does what is asked of it.
pub(crate) fn shrink(mut program: Program, mut shows: impl FnMut(&Program) -> bool) -> Program {
    loop {
        let before = program.clone();
        for index in (0..program.steps.len()).rev() {
            if let Step::Submit(entries) = &program.steps[index] {
                for position in (0..entries.len()).rev() {
                    if let Some(smaller) =
                        without_entry(&program, index, position).filter(&mut shows)
                    {
                        program = smaller;
                    }
                    if !matches!(program.steps.get(index), Some(Step::Submit(_))) {
                        break;
                    }
                }
            } else {
                let mut smaller = program.clone();
                smaller.steps.remove(index);
                if shows(&smaller) {
                    program = smaller;
                }
            }
        }
        if program == before {
            return program;
        }
    }
}

/// The program without one entry; those that name later ones are told. `None`: another names this
/// one.
fn without_entry(program: &Program, step: usize, position: usize) -> Option<Program> {
    let in_front = program.steps[..step]
        .iter()
        .map(|step| if let Step::Submit(entries) = step { entries.len() } else { 0 });
    let number = in_front.sum::<usize>() + position;
    let mut smaller = program.clone();
    let Step::Submit(entries) = &mut smaller.steps[step] else { return None };
    entries.remove(position);
    // A chain that nothing follows is a worker's in the kernel.
    if let Some(last) = entries.last_mut() {
        last.link = Link::None;
    }
    if entries.is_empty() {
        smaller.steps.remove(step);
    }
    for step in &mut smaller.steps {
        let Step::Submit(entries) = step else { continue };
        for target in entries.iter_mut().filter_map(|entry| entry.op.target_mut()) {
            match (*target).cmp(&number) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return None,
                std::cmp::Ordering::Greater => *target -= 1,
            }
        }
    }
    Some(smaller)
}

#[cfg(test)]
mod tests {
    use super::super::program::{Op, Step::Submit, program};
    use super::*;

    #[test]
    fn a_program_is_cut_down_to_what_matters_and_its_names_stay_right() {
        let nop = || Op::Nop.alone();
        let timeout = Op::Timeout { after: super::super::program::Never, times: 1 };
        let cancel = Op::Cancel { target: 3 };
        let large = program(
            [],
            [
                Submit(vec![nop(), nop()]),
                Step::Rush,
                Submit(vec![nop(), timeout.clone().alone(), nop(), cancel.alone()]),
            ],
        );
        let small = shrink(large, |program| {
            let entries: Vec<_> = program.entries().collect();
            entries.iter().any(
                |entry| matches!(entry.op, Op::Cancel { target } if entries[target].op == timeout),
            )
        });
        assert_eq!(
            small,
            program([], [Submit(vec![timeout.alone(), Op::Cancel { target: 0 }.alone()])])
        );
    }
}
