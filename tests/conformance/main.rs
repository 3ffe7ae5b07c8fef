//! Two rings must give the same completions. Programs of submission entries run on one and on the
//! other, and what came is compared.
//!
//! The floor of the ring is compiled into this test as it stands, so that programs are pushed at
//! the seam itself, below any future. `program` says what a program is, `world` and `objects` what
//! it works on, `run` how it runs, `compare` what counts as the same; `choices` has the software
//! ring do what io_uring leaves open in more than one way; `generate` makes programs at random,
//! `races` those that race with themselves, and `by_hand` holds programs from the manual pages.
#![allow(unsafe_code)]

#[path = "../../src/buf/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod buf;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/counters.rs"]
#[allow(dead_code, unreachable_pub)]
mod counters;
#[path = "../../src/ring/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod ring;
#[path = "../../src/sys/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod sys;

mod by_hand;
mod choices;
mod compare;
mod generate;
mod objects;
mod program;
mod races;
mod run;
mod world;

use common::{Random, seed, size, watchdog};
use compare::{Source, assert_agrees};
use program::Program;
use ring::catalogue;
use run::Record;

/// Programs made at random in CI, for the software ring and for the kernel's own.
const PROGRAMS: u64 = 10_000;
const KERNEL_PROGRAMS: u64 = 1000;

/// One in so many of them runs once more, with the software ring's choices from the seed.
const VARIED: usize = 4;

/// As many as a test may take the time for without a sign of life.
const AT_ONCE: u64 = 500;

/// The same programs each time, so that a difference is one that a change has made. `ANNULUS_SEED`
/// looks for others.
const SEED: u64 = 20_261_122;

/// Of so many programs, one may be passed over: more would mean that little is compared.
const PASSED_OVER: u64 = 20;

/// Makes programs and has each checked, with the record of the ring that it was made on. `false`:
/// it was passed over.
fn at_random(programs: u64, mut check: impl FnMut(&Program, &Record, &Random) -> bool) {
    if std::env::var_os("ANNULUS_RING").is_some() {
        return println!(
            "not again: these programs choose their rings themselves, whatever ANNULUS_RING says"
        );
    }
    let seed = if std::env::var_os("ANNULUS_SEED").is_some() { seed() } else { SEED };
    println!("ANNULUS_SEED={seed}");
    let mut passed_over = 0;
    for start in (0..size(programs)).step_by(AT_ONCE as usize) {
        let _watchdog = watchdog();
        for index in start..size(programs).min(start + AT_ONCE) {
            let random = Random::new(seed ^ index << 32);
            let (program, record) =
                generate::generate(&random, || Source::Kernel.open(&run::ROOMY));
            passed_over += u64::from(!check(&program, &record, &random));
        }
    }
    println!("passed over: {passed_over} of {} programs", size(programs));
    assert!(passed_over <= 1 + size(programs) / PASSED_OVER);
}

#[test]
fn programs_made_at_random_do_the_same_on_every_kernel_ring() {
    at_random(KERNEL_PROGRAMS, |program, record, _| {
        let compared = assert_agrees(program, record, Source::Kernel, Source::Kernel);
        // Without DEFER_TASKRUN a worker goes on with the chain by itself, where nobody can cancel
        // it well.
        if !program.keeps_workers_busy() {
            assert_agrees(program, record, Source::Kernel, Source::Plain);
        }
        compared
    });
}

/// Operations of the software ring that programs made at random do not contain. Advice, links,
/// opening within a directory, registered buffers, zero-copy sends and messages have tests in
/// `by_hand`.
const NOT_AT_RANDOM: [&str; 6] =
    ["READ_FIXED", "WRITE_FIXED", "POLL_REMOVE", "MSG_RING", "SEND_ZC", "SENDMSG_ZC"];

#[test]
fn programs_made_at_random_do_the_same_on_the_software_ring() {
    at_random(PROGRAMS, |program, record, random| {
        let compared = assert_agrees(program, record, Source::Kernel, Source::Software);
        if random.chance(VARIED) {
            assert_agrees(program, record, Source::Kernel, Source::Varied(random.next()));
        }
        compared
    });
    if size(PROGRAMS) >= PROGRAMS && std::env::var_os("ANNULUS_RING").is_none() {
        let missing =
            catalogue::operations().filter(|row| row.by_software && !world::has_built(row.code));
        let missing: Vec<_> = missing.map(|row| row.name).collect();
        assert_eq!(missing, NOT_AT_RANDOM, "left: not compared; right: known not to be");
    }
}
