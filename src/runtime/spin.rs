//! The decision to look for a while before the loop waits in the kernel, as a pure data structure.
//!
//! Looking costs processor time and saves the way into the kernel and back, most of it the sleep.
//! It pays only if something comes soon. So looking in vain several times in a row ends it for a
//! number of waits, which grows as long as the trials in between are in vain, too. It knows no
//! clock and no ring.

use std::time::Duration;

/// Spins in vain, one after the other, before waits begin without.
const MISSES_ALLOWED: u32 = 8;
/// Waits without a spin before the first trial; they double from one trial to the next.
const FIRST_PAUSE: u32 = 16;
/// Most waits without a spin: bounds what the spins of an idle program cost, and how long a busy
/// one must wait to have them back.
const LONGEST_PAUSE: u32 = 4096;

#[derive(Debug)]
pub(super) struct Spin {
    /// Most time that one spin looks.
    longest: Duration,
    /// Spins in vain since the last that paid.
    misses: u32,
    /// Waits that are still to begin without a spin.
    skip: u32,
}

impl Spin {
    pub(super) fn new(longest: Duration) -> Spin {
        Spin { longest, misses: 0, skip: 0 }
    }

    /// How long the wait that begins now shall look first. `None`: not at all.
    pub(super) fn before_wait(&mut self) -> Option<Duration> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(self.longest)
    }

    /// Learns from a spin.
    pub(super) fn record(&mut self, paid: bool) {
        if paid {
            self.misses = 0;
            return;
        }
        self.misses += 1;
        if let Some(trials) = self.misses.checked_sub(MISSES_ALLOWED) {
            self.skip = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(trials)).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of that many waits begin with a spin, if all are in vain.
    fn spins_in_vain(spin: &mut Spin, waits: u32) -> u32 {
        let mut spins = 0;
        for _ in 0..waits {
            if spin.before_wait().is_some() {
                spin.record(false);
                spins += 1;
            }
        }
        spins
    }

    #[test]
    fn spins_that_never_pay_become_rare() {
        let mut spin = Spin::new(Duration::from_micros(50));
        assert_eq!(spins_in_vain(&mut spin, MISSES_ALLOWED), MISSES_ALLOWED);
        assert_eq!(spins_in_vain(&mut spin, FIRST_PAUSE), 0);
        assert_eq!(spins_in_vain(&mut spin, 1), 1);
        let later = spins_in_vain(&mut spin, 100 * LONGEST_PAUSE);
        assert!(
            (99..=110).contains(&later),
            "{later} of {} waits began with a spin",
            100 * LONGEST_PAUSE
        );
    }

    #[test]
    fn the_pause_between_trials_in_vain_never_becomes_shorter() {
        let mut spin = Spin::new(Duration::from_micros(50));
        let mut pause = 0;
        for _ in 0..100 {
            spin.record(false);
            assert!(spin.skip >= pause, "{} waits after {pause}", spin.skip);
            pause = spin.skip;
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }

    #[test]
    fn one_that_pays_brings_them_back() {
        let mut spin = Spin::new(Duration::from_micros(50));
        spins_in_vain(&mut spin, 10 * LONGEST_PAUSE);
        while spin.before_wait().is_none() {}
        spin.record(true);
        assert_eq!(spins_in_vain(&mut spin, MISSES_ALLOWED), MISSES_ALLOWED);
    }
}
