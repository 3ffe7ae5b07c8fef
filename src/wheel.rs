//! A hierarchical timer wheel: entries in the order of their deadlines, as a pure data structure.
//!
//! It knows no clock, no waker and no ring. Ticks are plain numbers, and the caller decides how
//! long a tick lasts. The value of an expired entry is pushed to a `Vec`, so that no code of the
//! caller runs inside the wheel.
//!
//! Eleven levels of 64 slots read a tick as eleven digits of six bits. So every `u64` has its
//! place, and no deadline needs to be clamped. One rule places each entry: its level is the highest
//! digit in which its deadline differs from the current tick, and its slot is that digit of its
//! deadline. The methods rest on what follows from the rule:
//!
//! - All occupied slots of a level lie after the current tick's own digit. So a slot number never
//!   means "one turn later".
//! - Every entry of a level comes before every entry of a higher level. So the earliest slot is the
//!   first occupied slot of the lowest occupied level: two bit scans away, however far off it is.
//! - Entries of one deadline always share a slot. So they fire in the order of their insertion.

use std::fmt;
use std::mem;

/// Six bits per level: one `u64` is then the occupancy of a level.
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
/// Eleven digits of six bits hold the 64 bits of a tick.
const LEVELS: usize = u64::BITS.div_ceil(LEVEL_BITS) as usize;
/// The list of entries that were already due when they were inserted; it stands behind those of the
/// slots, as the first of one more level.
const OVERDUE: u16 = (LEVELS * SLOTS) as u16;
const LISTS: usize = OVERDUE as usize + 1;
/// No entry: the head of an empty list.
const NIL: u32 = u32::MAX;
/// How many entries of the earliest slot `next` looks through for the exact deadline. A wake-up too
/// many costs a system call and more, a hop at most a cache miss: eight hops are well below it, and
/// few programs have more timers than that in the slot that comes next.
const NEXT_HOPS: usize = 8;

/// Timers by deadline. Inserting and removing are O(1); an entry changes place at most once per
/// level before it fires.
pub(crate) struct Wheel<T> {
    entries: Vec<Entry<T>>,
    /// The first of the vacant entries, which are linked by `next`: the one that was freed last.
    vacant: u32,
    /// The first entry of each list, on the heap so that moving a wheel stays cheap.
    heads: Box<[u32; LISTS]>,
    /// Bit `slot` of `occupied[level]` is set if and only if that slot's list has an entry.
    occupied: [u64; LEVELS + 1],
    current: u64,
    pending: usize,
    /// Memory for sorting what is overdue: deadlines and entries.
    overdue: Vec<(u64, u32)>,
}

/// The place of an entry in its wheel. It can be neither copied nor cloned and only
/// [`Wheel::remove`] takes it back, so a place is never used again while somebody holds its key,
/// and needs no generation.
#[derive(Debug)]
#[must_use = "an entry whose key is lost keeps its place for ever"]
pub(crate) struct WheelKey(u32);

/// A pending entry stands in exactly one list. A fired one stands in none and only waits for its
/// key; then it is vacant.
struct Entry<T> {
    /// `None` once fired, and while vacant.
    value: Option<T>,
    deadline: u64,
    /// Lists are rings, so the head's `previous` is the tail and appending needs no second head.
    previous: u32,
    next: u32,
    list: u16,
}

impl<T> Wheel<T> {
    /// An empty wheel at tick 0.
    pub(crate) fn new() -> Self {
        Wheel {
            entries: Vec::new(),
            vacant: NIL,
            heads: Box::new([NIL; LISTS]),
            occupied: [0; LEVELS + 1],
            current: 0,
            pending: 0,
            overdue: Vec::new(),
        }
    }

    /// Adds an entry. One whose deadline is not after the current tick fires at the next `advance`,
    /// whatever that advances to.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> WheelKey {
        let index = self.occupy(deadline, value);
        self.link(index, list_of(deadline, self.current));
        self.pending += 1;
        WheelKey(index)
    }

    /// The entry that was freed last, or a new one.
    #[inline]
    fn occupy(&mut self, deadline: u64, value: T) -> u32 {
        let index = self.vacant;
        match self.entries.get_mut(index as usize) {
            Some(entry) => {
                self.vacant = entry.next;
                (entry.value, entry.deadline) = (Some(value), deadline);
                index
            }
            None => self.grow(deadline, value),
        }
    }

    #[inline(never)]
    fn grow(&mut self, deadline: u64, value: T) -> u32 {
        let index = self.entries.len();
        assert!(index < NIL as usize, "four billion timers need more memory than there is");
        self.entries.push(Entry {
            value: Some(value),
            deadline,
            previous: NIL,
            next: NIL,
            list: OVERDUE,
        });
        index as u32
    }

    /// The value of an entry, or `None` once it has fired.
    pub(crate) fn value_mut(&mut self, key: &WheelKey) -> Option<&mut T> {
        self.entries[key.0 as usize].value.as_mut()
    }

    /// Whether an `advance` has taken the entry's value.
    pub(crate) fn has_fired(&self, key: &WheelKey) -> bool {
        self.entries[key.0 as usize].value.is_none()
    }

    /// Frees an entry, fired or not, and gives its value back if it had not fired.
    #[inline]
    pub(crate) fn remove(&mut self, key: WheelKey) -> Option<T> {
        let vacant = mem::replace(&mut self.vacant, key.0);
        let entry = &mut self.entries[key.0 as usize];
        let value = entry.value.take();
        let (previous, next, list) = (entry.previous, entry.next, entry.list);
        entry.next = vacant;
        if value.is_some() {
            self.unlink(key.0, previous, next, list);
            self.pending -= 1;
        }
        value
    }

    /// Moves time to `now` and appends the values of all entries whose deadline is not after it to
    /// `fired`, in the order of their deadlines and, within one deadline, of their insertion. Time
    /// never moves back: with an earlier `now` only the overdue entries fire.
    pub(crate) fn advance(&mut self, now: u64, fired: &mut Vec<T>) {
        let now = now.max(self.current);
        self.fire_overdue(fired);
        while self.open_earliest_slot(now, fired) {}
        self.current = now;
    }

    /// The tick to advance to next, `None` if nothing pends. It is never after the earliest
    /// deadline and nearly always that deadline; it can be earlier only if more than eight entries
    /// share a slot above the lowest level, and then advancing to it sorts them into lower slots.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.pending == 0 {
            return None;
        }
        if self.heads[OVERDUE as usize] != NIL {
            return Some(self.current);
        }
        let (level, slot) = self.earliest_slot()?;
        let head = self.heads[list_at(level, slot) as usize];
        let mut earliest = u64::MAX;
        let mut index = head;
        for _ in 0..NEXT_HOPS {
            let entry = &self.entries[index as usize];
            earliest = earliest.min(entry.deadline);
            index = entry.next;
            if index == head || level == 0 {
                return Some(earliest);
            }
        }
        Some(self.slot_start(level, slot))
    }

    /// The values of all entries that have neither fired nor been removed, in no particular order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }

    /// How many entries have neither fired nor been removed.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Overdue deadlines are not after the current tick and those in slots are, so firing these
    /// first keeps the order; among themselves they were linked as they came. The sort is stable,
    /// and sees only what was already late when it was inserted.
    fn fire_overdue(&mut self, fired: &mut Vec<T>) {
        let mut overdue = mem::take(&mut self.overdue);
        self.drain(OVERDUE, |wheel, index| {
            overdue.push((wheel.entries[index as usize].deadline, index))
        });
        overdue.sort_by_key(|&(deadline, _)| deadline);
        for (_, index) in overdue.drain(..) {
            self.fire(index, fired);
        }
        self.overdue = overdue;
    }

    /// Moves time to the start of the earliest slot, unless that is after `now`, and puts the
    /// slot's entries where the rule wants them from there: into a lower level, or out if their
    /// deadline is this very tick. At level 0 that is all of them.
    ///
    /// Only this and the end of `advance` move time. No place becomes wrong thereby: up to the
    /// start of the earliest slot no digit in which another entry first differs has been reached.
    fn open_earliest_slot(&mut self, now: u64, fired: &mut Vec<T>) -> bool {
        let Some((level, slot)) = self.earliest_slot() else { return false };
        let start = self.slot_start(level, slot);
        if start > now {
            return false;
        }
        self.current = start;
        self.drain(list_at(level, slot), |wheel, index| {
            match list_of(wheel.entries[index as usize].deadline, start) {
                OVERDUE => wheel.fire(index, fired),
                list => wheel.link(index, list),
            }
        });
        true
    }

    fn earliest_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied[..LEVELS].iter().position(|&slots| slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick of a slot: the current tick's digits above the level, the slot's, then zeros.
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let above = u64::MAX.checked_shl(shift + LEVEL_BITS).unwrap_or(0);
        (self.current & above) | ((slot as u64) << shift)
    }

    fn fire(&mut self, index: u32, fired: &mut Vec<T>) {
        fired.push(
            self.entries[index as usize]
                .value
                .take()
                .expect("only pending entries stand in a list"),
        );
        self.pending -= 1;
    }

    /// Empties a list and hands its entries over in order. The link to the next is read before
    /// `each` may link the entry elsewhere.
    fn drain(&mut self, list: u16, mut each: impl FnMut(&mut Self, u32)) {
        let head = self.heads[list as usize];
        if head == NIL {
            return;
        }
        self.set_head(list, NIL);
        let mut index = head;
        loop {
            let next = self.entries[index as usize].next;
            each(self, index);
            if next == head {
                return;
            }
            index = next;
        }
    }

    #[inline]
    fn link(&mut self, index: u32, list: u16) {
        let head = self.heads[list as usize];
        let (previous, next) = if head == NIL {
            self.set_head(list, index);
            (index, index)
        } else {
            let tail = mem::replace(&mut self.entries[head as usize].previous, index);
            self.entries[tail as usize].next = index;
            (tail, head)
        };
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.list) = (previous, next, list);
    }

    /// Closes the gap that an entry leaves in its list.
    #[inline]
    fn unlink(&mut self, index: u32, previous: u32, next: u32, list: u16) {
        if next == index {
            return self.set_head(list, NIL);
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        if self.heads[list as usize] == index {
            self.set_head(list, next);
        }
    }

    /// The one place that writes a head, so that the occupancy bit cannot disagree with it.
    #[inline]
    fn set_head(&mut self, list: u16, index: u32) {
        self.heads[list as usize] = index;
        let (level, bit) = (list as usize / SLOTS, 1 << (list as usize % SLOTS));
        if index == NIL {
            self.occupied[level] &= !bit;
        } else {
            self.occupied[level] |= bit;
        }
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("current", &self.current)
            .field("pending", &self.pending)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

/// Where an entry stands while the current tick is `current`.
#[inline]
fn list_of(deadline: u64, current: u64) -> u16 {
    if deadline <= current {
        return OVERDUE;
    }
    let level = (deadline ^ current).ilog2() / LEVEL_BITS;
    let slot = (deadline >> (level * LEVEL_BITS)) as usize % SLOTS;
    list_at(level as usize, slot)
}

fn list_at(level: usize, slot: usize) -> u16 {
    (level * SLOTS + slot) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_over_the_whole_range_opens_one_slot_per_level() {
        let mut wheel = Wheel::new();
        let _key = wheel.insert(u64::MAX, ());
        let mut fired = Vec::new();
        let mut steps = 0;
        while wheel.open_earliest_slot(u64::MAX, &mut fired) {
            steps += 1;
        }
        assert_eq!((steps, fired.len(), wheel.pending()), (LEVELS, 1, 0));
    }

    #[test]
    fn advancing_over_empty_centuries_opens_nothing() {
        let mut wheel = Wheel::new();
        let _key = wheel.insert(u64::MAX, ());
        assert!(
            !wheel.open_earliest_slot((15 << 60) - 1, &mut Vec::new()),
            "the last slot of the highest level starts at 15 << 60"
        );
        assert!(!Wheel::<()>::new().open_earliest_slot(u64::MAX, &mut Vec::new()));
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry<std::task::Waker>>(), 40);
    }
}
