//! Do two rings give the same completions? Programs of submission entries run on one and on the other, and what came is compared.
//!
//! The floor of the ring is compiled into this test as it stands, so that programs are pushed at the seam itself, below any future.
//! `program` says what a program is, `world` what it works on, `run` how it runs, `compare` what counts as the same; `generate` makes
//! programs at random, and the others hold programs written by hand from the manual pages.
#![allow(unsafe_code)]

#[path = "../../src/buf/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod buf;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/ring/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod ring;
#[path = "../../src/sys.rs"]
#[allow(dead_code)]
mod sys;

mod by_hand;
mod compare;
mod generate;
mod program;
mod races;
mod run;
mod world;

use common::{Random, seed, size, watchdog};
use compare::{Source, assert_agree};

/// Programs made at random in CI.
const PROGRAMS: u64 = 2000;

#[test]
fn programs_made_at_random_do_the_same_on_every_kernel_ring() {
    let _watchdog = watchdog();
    let seed = seed();
    for index in 0..size(PROGRAMS) {
        let random = Random::new(seed ^ index << 32);
        let program = generate::generate(&random, || Source::Kernel.open(&run::ROOMY));
        assert_agree(&program, Source::Kernel, Source::Kernel);
        // Without DEFER_TASKRUN a worker goes on with the chain by itself, where nobody can cancel it well.
        if !program.keeps_workers_busy() {
            assert_agree(&program, Source::Kernel, Source::Plain);
        }
    }
}
