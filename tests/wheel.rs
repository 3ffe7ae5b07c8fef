//! The timer wheel against a model that keeps its entries sorted, over the whole range of ticks.

#[allow(dead_code)]
#[path = "../src/wheel.rs"]
mod wheel;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::BTreeMap;
use wheel::{Wheel, WheelKey};

/// One digit of a tick is six bits, and there are eleven of them.
const LEVELS: usize = 11;
/// `next` is exact for slots with at most this many entries.
const EXACT_UP_TO: usize = 8;

fn advance<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    let mut fired = Vec::new();
    wheel.advance(now, &mut fired);
    fired
}

#[test]
fn entries_fire_in_the_order_of_their_deadlines() {
    let mut wheel = Wheel::new();
    let deadlines = [70, 5, 4096, 64, 63, 1 << 40, 5, 4095, 1];
    let _keys: Vec<WheelKey> =
        deadlines.iter().map(|&deadline| wheel.insert(deadline, deadline)).collect();
    assert_eq!(advance(&mut wheel, 0), []);
    assert_eq!(advance(&mut wheel, 69), [1, 5, 5, 63, 64]);
    assert_eq!(advance(&mut wheel, u64::MAX), [70, 4095, 4096, 1 << 40]);
}

#[test]
fn entries_of_one_deadline_fire_in_the_order_of_their_insertion() {
    let mut wheel = Wheel::new();
    let mut keys = Vec::new();
    for (order, now) in [0, 1, 4096, 262_144, 299_998, 299_999].into_iter().enumerate() {
        assert_eq!(advance(&mut wheel, now), []);
        keys.push(wheel.insert(300_000, order));
    }
    assert_eq!(advance(&mut wheel, 300_000), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_deadline_at_or_before_the_current_tick_fires_at_the_next_advance() {
    let mut wheel = Wheel::new();
    let _zero = wheel.insert(0, "at zero");
    assert_eq!(wheel.next(), Some(0));
    assert_eq!(advance(&mut wheel, 0), ["at zero"]);

    assert!(advance(&mut wheel, 100).is_empty());
    let _keys = [
        wheel.insert(100, "now"),
        wheel.insert(30, "late"),
        wheel.insert(101, "soon"),
        wheel.insert(99, "just late"),
    ];
    assert!(wheel.next().is_some_and(|next| next <= 100));
    assert_eq!(advance(&mut wheel, 100), ["late", "just late", "now"]);
    assert_eq!(wheel.next(), Some(101));
}

#[test]
fn an_earlier_now_does_not_turn_time_back_but_fires_what_is_overdue() {
    let mut wheel = Wheel::new();
    assert!(advance(&mut wheel, 1000).is_empty());
    let _keys = [wheel.insert(900, "overdue"), wheel.insert(1001, "to come")];
    assert_eq!(advance(&mut wheel, 3), ["overdue"]);
    assert_eq!(wheel.next(), Some(1001));
    let _late = wheel.insert(500, "late at tick 1000, though not at tick 3");
    assert_eq!(advance(&mut wheel, 4).len(), 1);
    assert_eq!(advance(&mut wheel, 1001), ["to come"]);
}

#[test]
fn a_removed_entry_gives_its_value_back_and_does_not_fire() {
    let mut wheel = Wheel::new();
    let (first, second, third) =
        (wheel.insert(10, 'a'), wheel.insert(10, 'b'), wheel.insert(10, 'c'));
    assert_eq!(wheel.pending(), 3);
    assert_eq!(wheel.remove(second), Some('b'));
    assert_eq!(wheel.pending(), 2);
    assert_eq!(advance(&mut wheel, 10), ['a', 'c']);
    assert_eq!((wheel.remove(first), wheel.remove(third)), (None, None));
    assert_eq!((wheel.pending(), wheel.next()), (0, None));
}

#[test]
fn an_overdue_entry_can_be_removed_before_it_fires() {
    let mut wheel = Wheel::new();
    let key = wheel.insert(0, ());
    assert_eq!(wheel.remove(key), Some(()));
    assert_eq!(wheel.next(), None);
    assert!(advance(&mut wheel, u64::MAX).is_empty());
}

#[test]
fn a_value_can_be_changed_until_it_has_fired() {
    let mut wheel = Wheel::new();
    let key = wheel.insert(7, 1);
    assert!(!wheel.has_fired(&key));
    *wheel.value_mut(&key).expect("it has not fired") = 2;
    assert_eq!(advance(&mut wheel, 7), [2]);
    assert!(wheel.has_fired(&key));
    assert_eq!(wheel.value_mut(&key), None);
    assert_eq!(wheel.pending(), 0);
}

#[test]
fn the_place_of_a_fired_entry_is_not_used_again_before_its_key_is_back() {
    let mut wheel = Wheel::new();
    let fired = wheel.insert(1, "fired");
    assert_eq!(advance(&mut wheel, 1), ["fired"]);
    let mut young = wheel.insert(2, "young");
    assert!(wheel.has_fired(&fired));
    assert_eq!(wheel.value_mut(&young), Some(&mut "young"));
    assert_eq!(wheel.remove(fired), None);
    for _ in 0..10 {
        assert_eq!(wheel.remove(young), Some("young"));
        young = wheel.insert(3, "young");
    }
    assert_eq!(wheel.pending(), 1);
}

#[test]
fn the_last_tick_of_all_can_be_waited_for() {
    let mut wheel = Wheel::new();
    let _key = wheel.insert(u64::MAX, "end of time");
    assert_eq!(wheel.next(), Some(u64::MAX));
    assert!(advance(&mut wheel, u64::MAX - 1).is_empty());
    assert_eq!(advance(&mut wheel, u64::MAX), ["end of time"]);
    let _key = wheel.insert(u64::MAX, "once more");
    assert_eq!(advance(&mut wheel, u64::MAX), ["once more"]);
}

#[test]
fn next_is_exact_where_few_entries_share_the_earliest_slot() {
    let mut wheel = Wheel::new();
    let base = 5 << 36;
    let _keys: Vec<WheelKey> = (0..EXACT_UP_TO as u64)
        .rev()
        .map(|offset| wheel.insert(base + 1000 * offset + 17, ()))
        .collect();
    assert_eq!(wheel.next(), Some(base + 17));
    let _one_more = wheel.insert(base + 20_000, ());
    assert_eq!(wheel.next(), Some(base), "the start of the slot");
    assert!(advance(&mut wheel, base).is_empty());
    assert_eq!(wheel.next(), Some(base + 17));
}

#[test]
fn a_hundred_thousand_entries_come_and_go() {
    let count = 100_000;
    let mut wheel = Wheel::new();
    // Multiplying by an odd number spreads the deadlines without repeating one.
    let deadline = |index: u64| index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let mut keys: Vec<Option<WheelKey>> =
        (0..count).map(|index| Some(wheel.insert(deadline(index), index))).collect();
    assert_eq!(wheel.pending(), count as usize);
    for (index, key) in keys.iter_mut().enumerate().filter(|(index, _)| index % 3 != 0) {
        assert_eq!(wheel.remove(key.take().expect("not removed yet")), Some(index as u64));
    }
    let mut expected: Vec<u64> = (0..count).step_by(3).collect();
    expected.sort_by_key(|&index| deadline(index));
    assert_eq!(wheel.pending(), expected.len());

    let mut fired = Vec::new();
    for eighth in 1..=8 {
        wheel.advance((1 << 41) * eighth, &mut fired);
    }
    assert_eq!(fired, expected);
    for key in keys.into_iter().flatten() {
        assert_eq!(wheel.remove(key), None);
    }
    assert_eq!((wheel.pending(), wheel.next()), (0, None));
}

#[test]
fn the_far_future_is_reached_in_few_steps() {
    let mut wheel = Wheel::new();
    let century_ns = 100 * 365 * 24 * 3600 * 1_000_000_000;
    let _keys: Vec<WheelKey> =
        (1..=5).map(|centuries| wheel.insert(centuries * century_ns, centuries)).collect();
    assert_eq!(steps_to_the_end(&mut wheel), (5, vec![1, 2, 3, 4, 5]));
}

/// Advances to `next` until nothing pends, as a loop that sleeps in between would do. Returns how
/// often, and what fired.
fn steps_to_the_end<T>(wheel: &mut Wheel<T>) -> (usize, Vec<T>) {
    let mut steps = 0;
    let mut fired = Vec::new();
    let limit = step_limit(wheel.pending());
    while let Some(next) = wheel.next() {
        wheel.advance(next, &mut fired);
        steps += 1;
        assert!(steps <= limit, "more than {limit} steps");
    }
    (steps, fired)
}

/// One step for each entry to fire, and one for each slot too full for `next` to look through:
/// entries that share a slot share it on each level above, so there are not more of these per level
/// than the entries can fill.
fn step_limit(entries: usize) -> usize {
    entries + LEVELS * (entries / (EXACT_UP_TO + 1))
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    /// Inserts so far after the current tick.
    InsertAfter(u64),
    /// Removes the key that stands at this place, modulo their number.
    Remove(usize),
    Advance(u64),
    AdvanceBy(u64),
    AdvanceToNext,
}

/// Ticks of every magnitude, among them the neighbours of the ends of each level's slots and of the
/// range.
fn tick() -> impl Strategy<Value = u64> {
    let power_of_64 = (0..LEVELS as u32, 1..64u64, -2..=2i64)
        .prop_map(|(level, digit, offset)| (digit << (6 * level)).wrapping_add_signed(offset));
    prop_oneof![
        4 => 0..200u64,
        4 => power_of_64,
        2 => any::<u64>(),
        3 => (any::<u64>(), 0..64u32).prop_map(|(tick, shift)| tick >> shift),
        1 => (0..3u64).prop_map(|before| u64::MAX - before),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => tick().prop_map(Step::Insert),
        5 => tick().prop_map(Step::InsertAfter),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => tick().prop_map(Step::Advance),
        3 => tick().prop_map(Step::AdvanceBy),
        4 => Just(Step::AdvanceToNext),
    ]
}

/// A wheel and what it should do: pending entries by deadline and number, and the keys given out.
#[derive(Default)]
struct Model {
    current: u64,
    pending: BTreeMap<(u64, usize), ()>,
    keys: Vec<(WheelKey, u64, usize)>,
    inserted: usize,
}

impl Model {
    fn run(&mut self, wheel: &mut Wheel<usize>, step: Step) {
        match step {
            Step::Insert(deadline) => self.insert(wheel, deadline),
            Step::InsertAfter(ticks) => self.insert(wheel, self.current.saturating_add(ticks)),
            Step::Remove(_) if self.keys.is_empty() => {}
            Step::Remove(place) => self.remove(wheel, place % self.keys.len()),
            Step::Advance(now) => self.advance(wheel, now),
            Step::AdvanceBy(ticks) => self.advance(wheel, self.current.saturating_add(ticks)),
            Step::AdvanceToNext => {
                if let Some(next) = wheel.next() {
                    self.advance(wheel, next);
                }
            }
        }
        self.check(wheel);
    }

    fn insert(&mut self, wheel: &mut Wheel<usize>, deadline: u64) {
        self.pending.insert((deadline, self.inserted), ());
        self.keys.push((wheel.insert(deadline, self.inserted), deadline, self.inserted));
        self.inserted += 1;
    }

    fn remove(&mut self, wheel: &mut Wheel<usize>, place: usize) {
        let (key, deadline, number) = self.keys.swap_remove(place);
        let expected = self.pending.remove(&(deadline, number)).map(|()| number);
        assert_eq!(wheel.remove(key), expected);
    }

    fn advance(&mut self, wheel: &mut Wheel<usize>, now: u64) {
        self.current = self.current.max(now);
        let mut expected = Vec::new();
        while let Some(first) =
            self.pending.first_entry().filter(|first| first.key().0 <= self.current)
        {
            expected.push(first.key().1);
            first.remove();
        }
        assert_eq!(advance(wheel, now), expected, "at {now}");
    }

    fn check(&self, wheel: &mut Wheel<usize>) {
        assert_eq!(wheel.pending(), self.pending.len());
        match (wheel.next(), self.pending.first_key_value()) {
            (None, None) => {}
            (Some(next), Some((&(earliest, _), ()))) if earliest <= self.current => {
                assert!(next <= self.current)
            }
            (Some(next), Some((&(earliest, _), ()))) => {
                assert!(
                    self.current < next && next <= earliest,
                    "{next} is no bound for {earliest}"
                )
            }
            (next, earliest) => panic!("next is {next:?}, but the earliest is {earliest:?}"),
        }
        for (key, deadline, number) in &self.keys {
            let pending = self.pending.contains_key(&(*deadline, *number));
            assert_eq!(wheel.has_fired(key), !pending);
            assert_eq!(wheel.value_mut(key).copied(), pending.then_some(*number));
        }
    }
}

/// A failing case is printed with its seed, and the seed kept next to this file so that the next
/// run begins with it.
fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(persistence)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_wheel_does_what_a_sorted_map_does(steps in prop::collection::vec(step(), 1..80)) {
        let mut wheel = Wheel::new();
        let mut model = Model::default();
        for step in steps {
            model.run(&mut wheel, step);
        }
        let expected: Vec<usize> = model.pending.keys().map(|&(_, number)| number).collect();
        prop_assert_eq!(steps_to_the_end(&mut wheel).1, expected);
    }

    #[test]
    fn following_next_reaches_every_deadline_in_few_steps(start in tick(), deadlines in prop::collection::vec(tick(), 1..200)) {
        let mut wheel = Wheel::new();
        wheel.advance(start, &mut Vec::new());
        let _keys: Vec<WheelKey> = deadlines.iter().map(|&deadline| wheel.insert(deadline, deadline)).collect();
        let (_, fired) = steps_to_the_end(&mut wheel);
        let mut expected = deadlines;
        expected.sort_unstable();
        prop_assert_eq!(fired, expected);
    }

    #[test]
    fn deadlines_close_together_need_few_steps_too(
        base in tick(),
        spread in 0..60u32,
        offsets in prop::collection::vec(any::<u64>(), 1..100),
    ) {
        let mut wheel = Wheel::new();
        let mut expected: Vec<u64> = offsets.iter().map(|&offset| base.saturating_add(offset >> (63 - spread))).collect();
        let _keys: Vec<WheelKey> = expected.iter().map(|&deadline| wheel.insert(deadline, deadline)).collect();
        expected.sort_unstable();
        prop_assert_eq!(steps_to_the_end(&mut wheel).1, expected);
    }
}
