//! The adapters do what the traits promise: programs of polls, made at random, on each of them.
//!
//! `subject` is what a program works on, `program` what it is and how one is made, `run` how it
//! runs, `account` what the answers promise. `model` is a connection in memory with an adapter to
//! which everything that others got wrong can be done: `mutants` shows that these programs find
//! it. `sockets` has the adapters of the crate over sockets and pipes.
//!
//! A program that fails is printed, as short as could be found. `ANNULUS_SEED` chooses other
//! programs, `ANNULUS_STRESS` how many.
#![cfg(all(feature = "futures-io", feature = "tokio-io", feature = "hyper"))]

#[path = "../common/mod.rs"]
mod common;

mod account;
mod by_hand;
mod libraries;
mod model;
mod mutants;
mod program;
mod run;
mod sockets;
mod subject;

use common::{Random, seed, size, watchdog};
use program::Program;
use run::Patience;
use subject::{Abilities, Peer, Subject};

/// The same programs each time, so that a difference is one that a change has made.
const SEED: u64 = 20_261_129;

/// As many as a test may take the time for without a sign of life.
const AT_ONCE: u64 = 50;

/// A program that was refused, and why.
pub(crate) struct Refused {
    pub(crate) index: u64,
    pub(crate) program: Program,
    pub(crate) step: usize,
    pub(crate) why: String,
}

/// Runs programs until one is refused. `make` makes the connection, from a seed.
pub(crate) async fn find(
    programs: u64,
    abilities: Abilities,
    patience: Patience,
    make: impl AsyncFn(u64) -> (Subject, Box<dyn Peer>),
) -> Option<Refused> {
    let seed = if std::env::var_os("ANNULUS_SEED").is_some() { seed() } else { SEED };
    println!("ANNULUS_SEED={seed}");
    for start in (0..programs).step_by(AT_ONCE as usize) {
        let _watchdog = watchdog();
        for index in start..programs.min(start + AT_ONCE) {
            let random = Random::new(seed ^ index << 32);
            let program = program::generate(&random, abilities);
            if let Err((step, why)) =
                run::run(&program, make(program.seed).await, abilities, patience).await
            {
                return Some(Refused { index, program, step, why });
            }
        }
    }
    None
}

/// Runs programs, and panics with the first that is refused, made shorter.
pub(crate) async fn assert_conforms(
    programs: u64,
    abilities: Abilities,
    patience: Patience,
    make: impl AsyncFn(u64) -> (Subject, Box<dyn Peer>),
) {
    let Some(mut refused) = find(size(programs), abilities, patience, &make).await else { return };
    println!("program {} at step {}: {}", refused.index, refused.step, refused.why);
    let _watchdog = watchdog();
    let mut place = 0;
    while place < refused.program.steps.len() {
        let mut shorter = refused.program.clone();
        shorter.steps.remove(place);
        match run::run(&shorter, make(shorter.seed).await, abilities, patience).await {
            Err((step, why)) => refused = Refused { program: shorter, step, why, ..refused },
            Ok(()) => place += 1,
        }
    }
    panic!("refused, at step {} of {:#?}: {}", refused.step, refused.program, refused.why);
}
