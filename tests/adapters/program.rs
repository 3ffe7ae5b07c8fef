//! What a program of polls is, and how one is made at random.
//!
//! A step says what to do and not what comes of it; one that makes no sense any more, such as a
//! read of a half that was dropped, is passed over. So every list of steps is a program, and a
//! shorter one can be looked for when a long one fails.

use super::common::Random;
use super::subject::{Abilities, Family};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Read {
        by: Family,
        room: usize,
    },
    /// Looks at the chunk, twice at times, and takes so many hundredths of it.
    Fill {
        by: Family,
        take: usize,
        again: bool,
    },
    Write {
        by: Family,
        length: usize,
    },
    WriteVectored {
        by: Family,
        lengths: Vec<usize>,
    },
    Flush {
        by: Family,
    },
    Shutdown {
        by: Family,
    },

    /// From here on the polls of this direction have another waker.
    NewReadWaker,
    NewWriteWaker,

    PeerSends {
        length: usize,
    },
    PeerReceives {
        most: usize,
    },
    PeerFinishes,
    PeerCloses,
    PeerResets,

    /// Turns of the loop, in which everything goes on.
    Turns {
        count: usize,
    },
    /// All that may be expected without another poll: bytes that were accepted arrive, and who
    /// waits is woken. With `receives` the peer reads, too.
    Settle {
        receives: bool,
    },
    ReadAll,
    /// With `compares` the peer must have everything when the flush has ended, with no turn more.
    FlushAll {
        compares: bool,
    },
    ShutdownAll,
    /// Writes to a peer that has gone, until that is told.
    WriteUntilTold,

    Split,
    TakeOut,
    DropReading,
    DropWriting,
}

use Step::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    /// For what the run chooses.
    pub(crate) seed: u64,
}

const MOST_STEPS: usize = 40;
const MOST_SLICES: usize = 6;

pub(crate) fn generate(random: &Random, abilities: Abilities) -> Program {
    let count = random.up_to(MOST_STEPS);
    let families = match random.below(4) {
        0 => &Family::ALL[..],
        one => &Family::ALL[one - 1..one],
    };
    // Most programs are about a connection that lasts.
    let lasts = random.chance(2);
    let large = random.chance(6);
    let mut steps: Vec<Step> =
        (0..count).map(|_| step(random, abilities, families, lasts, large)).collect();
    steps.extend(ending(random));
    Program { steps, seed: random.next() }
}

fn size(random: &Random, large: bool) -> usize {
    match random.below(10) {
        0 => 0,
        1..5 => random.up_to(40),
        5..8 => random.up_to(3000),
        _ if large => random.up_to(300_000),
        _ => random.up_to(20_000),
    }
}

fn step(
    random: &Random,
    abilities: Abilities,
    families: &[Family],
    lasts: bool,
    large: bool,
) -> Step {
    let by = families[random.below(families.len())];
    loop {
        let step = match random.below(100) {
            0..12 => Read { by, room: size(random, false) },
            12..19 => Fill { by, take: random.below(130).min(100), again: random.chance(3) },
            19..33 => Write { by, length: size(random, large) },
            33..39 => {
                let count = random.below(MOST_SLICES);
                WriteVectored { by, lengths: (0..count).map(|_| size(random, false)).collect() }
            }
            39..44 => Flush { by },
            44 if !lasts => Shutdown { by },
            45..47 => NewReadWaker,
            47..49 => NewWriteWaker,
            49..60 => PeerSends { length: size(random, large) },
            60..68 => PeerReceives { most: size(random, large).max(1) },
            68 if !lasts && abilities.half_closes => PeerFinishes,
            69 if !lasts => PeerCloses,
            70 if !lasts && abilities.resets => PeerResets,
            71..80 => Turns { count: random.up_to(3) },
            80..86 => Settle { receives: random.chance(2) },
            86..89 => ReadAll,
            89..91 => FlushAll { compares: random.chance(2) },
            91 if !lasts => ShutdownAll,
            97..99 if !lasts => WriteUntilTold,
            92 if abilities.splits => Split,
            93..95 if abilities.splits => TakeOut,
            95 if !lasts => DropReading,
            96 if !lasts => DropWriting,
            _ => continue,
        };
        let reads = matches!(
            step,
            Read { .. } | Fill { .. } | PeerSends { .. } | ReadAll | DropReading | NewReadWaker
        );
        let writes = matches!(
            step,
            Write { .. }
                | WriteVectored { .. }
                | Flush { .. }
                | Shutdown { .. }
                | PeerReceives { .. }
                | FlushAll { .. }
                | ShutdownAll
                | WriteUntilTold
                | DropWriting
                | NewWriteWaker
        );
        if (!reads || abilities.reads) && (!writes || abilities.writes) {
            return step;
        }
    }
}

/// How a program may end; what is left is dropped behind it.
fn ending(random: &Random) -> Vec<Step> {
    match random.below(5) {
        0 => vec![FlushAll { compares: true }, ShutdownAll, ReadAll, ShutdownAll],
        1 => vec![WriteUntilTold, ReadAll, ShutdownAll],
        2 => vec![TakeOut, ReadAll],
        3 => vec![ReadAll, WriteUntilTold],
        _ => Vec::new(),
    }
}
