//! Reads one by one: whether a program reads one piece after another, with nothing else in flight.
//!
//! Such a read is cheaper without the ring, if the page cache has what it asks for: it needs no
//! slot, no enter and no wake. Multishot reads at a time are cheaper by the ring. Who reads one by
//! one shows only afterwards, so the past decides: after [`ENOUGH`] reads that found nothing in
//! flight the next ones may go past the ring. Now and then one goes through it all the same: then
//! others have their turn, and a program that has begun to read several at a time shows it.

/// That many reads in a row found nothing in flight: the program reads one by one.
const ENOUGH: u8 = 16;
/// The longest read that is made past the ring. Copying it holds the loop for some microseconds.
const LONGEST: u32 = 64 << 10;
/// A shorter read counts as that many bytes.
const SHORTEST: u32 = 8 << 10;
/// After that many bytes one read goes through the ring.
const MOST: u32 = 64 * SHORTEST;

#[derive(Default)]
pub(super) struct OneByOne {
    streak: u8,
    /// What may be read past the ring before one read goes through it.
    bytes_left: u32,
}

impl OneByOne {
    /// There is a read, and nothing else is in flight. May it be made past the ring?
    pub(super) fn allows(&mut self, length: u32) -> bool {
        if self.streak < ENOUGH {
            self.streak += 1;
            return false;
        }
        let cost = length.max(SHORTEST);
        if cost > LONGEST {
            return false;
        }
        let left = self.bytes_left.checked_sub(cost);
        self.bytes_left = left.unwrap_or(MOST);
        left.is_some()
    }

    /// Multishot operations are in flight, or the page cache did not have what was asked for.
    #[inline]
    pub(super) fn end(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading_one_by_one() -> OneByOne {
        let mut reads = OneByOne::default();
        assert!((0..ENOUGH).all(|_| !reads.allows(4096)));
        reads
    }

    #[test]
    fn short_reads_go_past_the_ring_but_for_one_now_and_then() {
        let mut reads = reading_one_by_one();
        let allowed: Vec<bool> = (0..200).map(|_| reads.allows(1)).collect();
        let through_the_ring = allowed.iter().filter(|allowed| !**allowed).count();
        assert!((3..=4).contains(&through_the_ring), "{through_the_ring} of 200");
    }

    #[test]
    fn long_reads_never_do() {
        let mut reads = reading_one_by_one();
        assert!((0..100).all(|_| !reads.allows(LONGEST + 1)));
    }

    #[test]
    fn the_longer_the_reads_the_fewer_go_past_the_ring_in_a_row() {
        let mut reads = reading_one_by_one();
        reads.allows(LONGEST);
        let in_a_row = (0..100).take_while(|_| reads.allows(LONGEST)).count();
        assert_eq!(in_a_row as u32, MOST / LONGEST);
    }

    #[test]
    fn the_end_of_a_streak_takes_another_one() {
        let mut reads = reading_one_by_one();
        reads.end();
        assert!((0..ENOUGH).all(|_| !reads.allows(4096)));
    }
}
