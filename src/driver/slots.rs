//! A table from tokens to values, whose places are used again, under another generation each time.
//!
//! A token that was given back finds nothing, however often its place has been used since. It knows
//! no operation and no ring.

use std::mem;

/// The end of the list of free places. There are never that many places: each would stand for an
/// operation in flight.
const NO_PLACE: u32 = u32::MAX;

/// Names one use of one place: the generation tells the uses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(super) u64);

impl Token {
    /// Between these are the generations that there are.
    pub(crate) const FIRST_GENERATION: u32 = 1;
    /// The highest words are the ring's own.
    pub(crate) const LAST_GENERATION: u32 = u32::MAX - 1;

    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    #[inline]
    fn new(generation: u32, index: u32) -> Token {
        Token(u64::from(generation) << 32 | u64::from(index))
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as u32 as usize
    }
}

pub(super) struct Slots<T> {
    places: Vec<SlotPlace<T>>,
    first_free: u32,
}

struct SlotPlace<T> {
    /// Of the value that is here, or of the next one.
    generation: u32,
    content: Content<T>,
}

enum Content<T> {
    Free { next: u32 },
    Taken(T),
}

impl<T> Slots<T> {
    /// Puts a value into a free place, where it is made: nothing that could fail comes after it, so
    /// it needs no copy that would have to be dropped.
    #[inline(always)]
    pub(super) fn insert_with(&mut self, value: impl FnOnce() -> T) -> Token {
        if self.first_free == NO_PLACE {
            self.grow();
        }
        let index = self.first_free;
        let place = &mut self.places[index as usize];
        let Content::Free { next } = place.content else {
            unreachable!("the list holds free places only")
        };
        self.first_free = next;
        // Forgotten rather than dropped: there is nothing to drop in a free place, which the
        // compiler does not see.
        mem::forget(mem::replace(&mut place.content, Content::Taken(value())));
        Token::new(place.generation, index)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let index = u32::try_from(self.places.len())
            .ok()
            .filter(|index| *index != NO_PLACE)
            .expect("memory ends before the places do");
        self.places.push(SlotPlace {
            generation: Token::FIRST_GENERATION,
            content: Content::Free { next: NO_PLACE },
        });
        self.first_free = index;
    }

    /// The value of a token that has not been given back.
    #[inline]
    pub(super) fn get(&self, token: Token) -> Option<&T> {
        match self.places.get(token.index()) {
            Some(SlotPlace { generation, content: Content::Taken(value) })
                if *generation == token.generation() =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// As [`get`](Slots::get), to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.places.get_mut(token.index()) {
            Some(SlotPlace { generation, content: Content::Taken(value) })
                if *generation == token.generation() =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// Gives a place back, with its value.
    #[inline]
    pub(super) fn remove(&mut self, token: Token) {
        if let Some(place) = self.places.get_mut(token.index())
            && place.generation == token.generation()
            && let Content::Taken(_) = place.content
        {
            drop(place.vacate(token, &mut self.first_free));
        }
    }

    /// Gives a place back if `end` finds in its value what it looks for: something with which
    /// nothing is left there to be dropped.
    #[inline(always)]
    pub(super) fn remove_if<R>(
        &mut self,
        token: Token,
        end: impl FnOnce(&T) -> Option<R>,
    ) -> Option<R> {
        let place = self
            .places
            .get_mut(token.index())
            .filter(|place| place.generation == token.generation())?;
        let Content::Taken(value) = &place.content else { return None };
        let found = end(value)?;
        // Forgotten rather than dropped, since that would be a call for nothing.
        mem::forget(place.vacate(token, &mut self.first_free));
        Some(found)
    }

    /// All values, with their tokens.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(index, place)| match &mut place.content {
            Content::Taken(value) => Some((Token::new(place.generation, index as u32), value)),
            Content::Free { .. } => None,
        })
    }
}

impl<T> SlotPlace<T> {
    /// Puts itself at the head of the list of free places, and returns what was here.
    #[inline(always)]
    fn vacate(&mut self, token: Token, first_free: &mut u32) -> Content<T> {
        self.generation = generation_after(self.generation);
        let next = mem::replace(first_free, token.index() as u32);
        mem::replace(&mut self.content, Content::Free { next })
    }
}

/// They wrap.
#[inline]
fn generation_after(generation: u32) -> u32 {
    if generation < Token::LAST_GENERATION { generation + 1 } else { Token::FIRST_GENERATION }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { places: Vec::new(), first_free: NO_PLACE }
    }
}

#[cfg(test)]
impl<T> Slots<T> {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.places.iter().filter(|place| matches!(place.content, Content::Taken(_))).count()
    }

    /// Goes on as after many uses of each free place.
    pub(super) fn age(&mut self, generation: u32) {
        for place in &mut self.places {
            assert!(matches!(place.content, Content::Free { .. }), "a token is out");
            place.generation = generation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_given_back_finds_nothing_though_its_place_is_used_again() {
        let mut slots = Slots::default();
        let first = slots.insert_with(|| 'a');
        assert_eq!(slots.remove_if(first, |value| (*value == 'z').then_some(())), None);
        assert_eq!(slots.remove_if(first, |value| Some(*value)), Some('a'));
        let second = slots.insert_with(|| 'b');
        assert_eq!((first.index(), second.index()), (0, 0));
        assert_eq!(slots.get(first), None);
        slots.remove(first);
        assert_eq!(slots.get(second), Some(&'b'));
    }

    #[test]
    fn generations_wrap_below_the_highest_and_leave_zero_out() {
        assert_eq!(generation_after(7), 8);
        assert_eq!(generation_after(u32::MAX - 2), u32::MAX - 1);
        assert_eq!(generation_after(u32::MAX - 1), 1);
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_of_tokens_would(steps in proptest::collection::vec((any::<bool>(), 0usize..64), 0..300)) {
            let mut slots = Slots::default();
            let mut live: Vec<(Token, usize)> = Vec::new();
            let mut gone: Vec<Token> = Vec::new();
            for (step, (insert, choice)) in steps.into_iter().enumerate() {
                if insert || live.is_empty() {
                    let token = slots.insert_with(|| step);
                    prop_assert!(!gone.contains(&token) && live.iter().all(|(other, _)| *other != token));
                    live.push((token, step));
                } else {
                    let (token, value) = live.swap_remove(choice % live.len());
                    prop_assert_eq!(slots.remove_if(token, |value| Some(*value)), Some(value));
                    gone.push(token);
                }
                prop_assert!(live.iter().all(|(token, value)| slots.get(*token) == Some(value)));
                prop_assert!(gone.iter().all(|token| slots.get(*token).is_none()));
                prop_assert_eq!(slots.len(), live.len());
            }
        }
    }
}
