//! The programs find what adapters get wrong, and find nothing in one that is right.

use super::common::{run_here, size};
use super::model::{Fault, connection};
use super::run::Patience;
use super::subject::Abilities;
use super::{assert_conforms, find};

const PROGRAMS: u64 = 2000;

/// The model needs a turn for each full buffer.
const PATIENCE: Patience = Patience::Turns(400);

#[test]
fn the_model_without_a_fault_conforms() {
    run_here(async {
        assert_conforms(PROGRAMS, Abilities::ALL, PATIENCE, async |seed| connection(seed, None))
            .await;
    });
}

#[test]
fn every_fault_is_found() {
    for fault in Fault::ALL {
        let refused = run_here(find(size(PROGRAMS), Abilities::ALL, PATIENCE, async |seed| {
            connection(seed, Some(fault))
        }));
        let Some(refused) = refused else { panic!("{fault:?} is not found") };
        println!("{fault:?}: program {}, {}", refused.index, refused.why);
    }
}
