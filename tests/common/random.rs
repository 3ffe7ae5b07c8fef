//! Numbers for randomised tests: the same for the same seed, on every machine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The seed that `seed` has printed, for children.
static SEED: OnceLock<u64> = OnceLock::new();

/// What a child is told of the seed.
pub(super) fn printed_seed() -> Option<u64> {
    SEED.get().copied()
}

/// The seed of a randomised test: from `ANNULUS_SEED`, or new. It is printed, which shows when the
/// test fails.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("ANNULUS_SEED")
        .ok()
        .map(|text| text.parse().expect("ANNULUS_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
    });
    let seed = *SEED.get_or_init(|| seed);
    println!("ANNULUS_SEED={seed}");
    seed
}

/// A small generator of numbers (splitmix64). Tests on other threads borrow it, so it is atomic.
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// From 1 to `most`.
    pub(crate) fn up_to(&self, most: usize) -> usize {
        self.below(most) + 1
    }

    pub(crate) fn bytes(&self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    pub(crate) fn chance(&self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// How much a stress test does: ANNULUS_STRESS, or what CI has time for.
pub(crate) fn size(in_ci: u64) -> u64 {
    std::env::var("ANNULUS_STRESS")
        .map_or(in_ci, |size| size.parse().expect("ANNULUS_STRESS is a number"))
}
