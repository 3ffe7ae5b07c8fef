//! The set-up of an io_uring: the ladder from everything a recent kernel has down to what 5.10
//! knows.
//!
//! One step down at a time, and each refusal is kept for the report. It opens rings and registers
//! nothing.

use std::io;
use std::time::Duration;

use io_uring::IoUring;

use super::config::{Config, Sqpoll};
use super::refusal;
use super::report::Refusal;
use crate::sys;

/// Fewest submission entries that are worth a ring. Below it, ENOMEM is final.
const FEWEST_ENTRIES: u32 = 64;

/// How long the smallest ring may be refused for want of memory. Some kernels give the locked
/// memory of closed rings back late: up to 27 ms were seen.
const LONGEST_RETRY: Duration = Duration::from_millis(250);
/// How often it is tried again meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// One set-up flag of io_uring_setup(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    SingleIssuer,
    DeferTaskrun,
    CoopTaskrun,
    TaskrunBit,
    SubmitAll,
    NoSqarray,
}

use Flag::{CoopTaskrun, DeferTaskrun, NoSqarray, SingleIssuer, SubmitAll, TaskrunBit};

impl Flag {
    fn name(self) -> &'static str {
        match self {
            SingleIssuer => "SINGLE_ISSUER",
            DeferTaskrun => "DEFER_TASKRUN",
            CoopTaskrun => "COOP_TASKRUN",
            TaskrunBit => "TASKRUN_FLAG",
            SubmitAll => "SUBMIT_ALL",
            NoSqarray => "NO_SQARRAY",
        }
    }
}

/// The rungs for a ring whose entries a thread of the kernel submits: without what is about
/// interrupting the program, which nobody does then.
fn rungs(config: &Config) -> Vec<Vec<Flag>> {
    let polled = config.sqpoll.is_some();
    let suits = |flag: &&Flag| !(polled && matches!(flag, DeferTaskrun | CoopTaskrun | TaskrunBit));
    let mut rungs: Vec<Vec<Flag>> =
        LADDER.iter().map(|rung| rung.iter().filter(suits).copied().collect()).collect();
    rungs.dedup();
    rungs
}

/// The rungs, best first. Each differs from the one above by what the next older kernel lacks.
const LADDER: &[&[Flag]] = &[
    &[SingleIssuer, DeferTaskrun, TaskrunBit, SubmitAll, NoSqarray],
    // Before 6.6.
    &[SingleIssuer, DeferTaskrun, TaskrunBit, SubmitAll],
    // Before 6.1.
    &[SingleIssuer, CoopTaskrun, TaskrunBit, SubmitAll],
    // Before 6.0.
    &[CoopTaskrun, TaskrunBit, SubmitAll],
    // Before 5.19.
    &[SubmitAll],
    // Before 5.18.
    &[],
];

/// A ring as the kernel granted it.
pub(crate) struct Opened {
    pub(crate) uring: IoUring,
    pub(crate) granted: Vec<&'static str>,
    pub(crate) refused: Vec<Refusal>,
}

/// Opens the best ring that the kernel grants, or explains why there is none.
pub(crate) fn open(config: &Config) -> io::Result<Opened> {
    climb_down(config, build).map_err(|error| match config.sqpoll {
        // Does the machine refuse every ring, or only this kind?
        Some(sqpoll) if climb_down(&Config { sqpoll: None, ..config.clone() }, build).is_ok() => {
            refusal::explain_sqpoll(error, sqpoll)
        }
        _ => error,
    })
}

/// Opens a ring that asks devices whether they are done instead of waiting for their interrupts. It
/// is granted wherever a ring is, since only a transfer shows whether its device can be asked.
pub(super) fn open_iopoll(config: &Config) -> io::Result<IoUring> {
    let polling = |config: &Config, flags: &[Flag], entries, completion_entries| {
        let mut builder = builder(config, flags, completion_entries);
        builder.setup_iopoll().build(entries)
    };
    Ok(climb_down(&Config { sqpoll: None, ..config.clone() }, polling)?.uring)
}

/// Walks the ladder: EINVAL is one rung down, ENOMEM half the entries and then tries for a while,
/// anything else final.
fn climb_down(
    config: &Config,
    mut attempt: impl FnMut(&Config, &[Flag], u32, u32) -> io::Result<IoUring>,
) -> io::Result<Opened> {
    let mut refused = Vec::new();
    let mut entries = config.entries;
    let mut completion_entries = config.completion_entries;
    let rungs = rungs(config);
    let mut rung = 0;
    let mut time_left = LONGEST_RETRY;
    loop {
        let flags = &rungs[rung];
        let error = match sys::retry(|| attempt(config, flags, entries, completion_entries)) {
            Ok(uring) => return finish(uring, flags, refused),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) if rung + 1 < rungs.len() => {
                refused.push(Refusal::new(given_up(flags, &rungs[rung + 1]), &error));
                rung += 1;
            }
            Some(libc::ENOMEM) if entries > FEWEST_ENTRIES => {
                refused.push(Refusal::new(format!("{entries} entries"), &error));
                entries = (entries / 2).max(FEWEST_ENTRIES);
                completion_entries = (completion_entries / 2).max(entries);
            }
            Some(libc::ENOMEM) if !time_left.is_zero() => {
                std::thread::sleep(PAUSE);
                time_left = time_left.saturating_sub(PAUSE);
            }
            _ => return Err(refusal::explain("io_uring_setup", error)),
        }
    }
}

fn build(
    config: &Config,
    flags: &[Flag],
    entries: u32,
    completion_entries: u32,
) -> io::Result<IoUring> {
    builder(config, flags, completion_entries).build(entries)
}

fn builder(config: &Config, flags: &[Flag], completion_entries: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(completion_entries);
    for flag in flags {
        match flag {
            SingleIssuer => builder.setup_single_issuer(),
            DeferTaskrun => builder.setup_defer_taskrun(),
            CoopTaskrun => builder.setup_coop_taskrun(),
            TaskrunBit => builder.setup_taskrun_flag(),
            SubmitAll => builder.setup_submit_all(),
            NoSqarray => builder.setup_no_sqarray(),
        };
    }
    if let Some(Sqpoll { idle_ms, cpu }) = config.sqpoll {
        builder.setup_sqpoll(idle_ms);
        if let Some(cpu) = cpu {
            builder.setup_sqpoll_cpu(cpu);
        }
    }
    builder
}

fn finish(uring: IoUring, flags: &[Flag], refused: Vec<Refusal>) -> io::Result<Opened> {
    // A socket that is not ready is polled, not handed to a worker (5.7); SQE side memory is copied
    // at submission (5.5); no completion is ever dropped (5.5). Nothing above the seam holds
    // without these.
    let params = uring.params();
    if !(params.is_feature_fast_poll()
        && params.is_feature_submit_stable()
        && params.is_feature_nodrop())
    {
        return Err(refusal::explain("io_uring_setup", io::Error::from_raw_os_error(libc::EINVAL)));
    }
    if params.is_setup_sqpoll() && !params.is_feature_sqpoll_nonfixed() {
        return Err(refusal::explain("io_uring_setup", io::Error::from_raw_os_error(libc::EPERM)));
    }
    let sqpoll = params.is_setup_sqpoll().then_some("SQPOLL");
    let granted = flags.iter().map(|flag| flag.name()).chain(["CQSIZE"]).chain(sqpoll).collect();
    Ok(Opened { uring, granted, refused })
}

/// What the next rung does without.
fn given_up(from: &[Flag], to: &[Flag]) -> String {
    let names: Vec<_> =
        from.iter().filter(|flag| !to.contains(flag)).map(|flag| flag.name()).collect();
    names.join("|")
}

/// Opens the ring of one rung, as on the kernel that it is there for. `None`: there is no such
/// rung.
#[cfg(test)]
pub(super) fn open_on_rung(rung: usize, config: &Config) -> Option<io::Result<Opened>> {
    let known = LADDER.get(rung)?;
    Some(climb_down(config, tests::kernel_with(known)))
}

/// What the set-up reports of the kernels that the rungs of its ladder are there for.
#[cfg(test)]
pub(crate) fn refusals_of_every_rung() -> Vec<Vec<Refusal>> {
    let config = Config::new(8, 32);
    let opened = (0..).map_while(|rung| open_on_rung(rung, &config));
    opened.map(|opened| opened.expect("this machine grants every rung").refused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Config = Config::new(256, 1024);

    /// As a kernel answers that knows only `known`.
    pub(super) fn kernel_with(
        known: &[Flag],
    ) -> impl FnMut(&Config, &[Flag], u32, u32) -> io::Result<IoUring> {
        move |config, flags, entries, completion_entries| {
            if flags.iter().all(|flag| known.contains(flag)) {
                build(config, flags, entries, completion_entries)
            } else {
                Err(io::Error::from_raw_os_error(libc::EINVAL))
            }
        }
    }

    #[test]
    fn each_kernel_gets_its_own_rung_and_the_refusals_are_kept() {
        for (rung, known) in LADDER.iter().enumerate() {
            let opened =
                climb_down(&CONFIG, kernel_with(known)).expect("this machine grants every rung");
            assert_eq!(opened.refused.len(), rung, "{:?}", opened.refused);
            assert!(opened.refused.iter().all(|refusal| refusal.errno() == libc::EINVAL));
            for flag in *known {
                assert!(opened.granted.contains(&flag.name()));
            }
        }
    }

    #[test]
    fn every_step_down_gives_something_up() {
        for pair in LADDER.windows(2) {
            assert_ne!(given_up(pair[0], pair[1]), "");
        }
    }

    #[test]
    fn want_of_memory_halves_the_entries_down_to_a_bound() {
        let mut asked = Vec::new();
        let opened = climb_down(&CONFIG, |config, flags, entries, completion_entries| {
            asked.push((entries, completion_entries));
            if entries > 64 {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            build(config, flags, entries, completion_entries)
        })
        .expect("64 entries are granted");
        assert_eq!(asked, [(256, 1024), (128, 512), (64, 256)]);
        assert_eq!(opened.refused.len(), 2);
    }

    #[test]
    fn memory_that_comes_back_late_is_waited_for() {
        let mut refusals = 20;
        let opened = climb_down(&CONFIG, |config, flags, entries, completion_entries| {
            refusals -= 1;
            if refusals > 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            build(config, flags, entries, completion_entries)
        });
        assert_eq!(opened.expect("granted in the end").uring.params().sq_entries(), FEWEST_ENTRIES);
    }

    #[test]
    fn a_final_refusal_ends_the_walk_with_an_explanation() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::EINVAL] {
            let error = climb_down(&CONFIG, |_, _, _, _| Err(io::Error::from_raw_os_error(errno)))
                .err()
                .expect("refused");
            assert!(error.to_string().starts_with("cannot open an io_uring"), "{error}");
        }
    }
}
