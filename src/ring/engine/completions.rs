//! Completions that wait for whoever reaps them: in a queue of the promised size, and beyond it in
//! a list without a bound.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::counters::Counters;
use crate::ring::seam::Completion;

/// The completion queue.
#[derive(Debug)]
pub(super) struct Completions {
    queue: VecDeque<Completion>,
    /// What found the queue full. It moves up with the next enter.
    overflow: VecDeque<Completion>,
    capacity: usize,
    counters: Arc<Counters>,
}

impl Completions {
    pub(super) fn new(capacity: usize, counters: Arc<Counters>) -> Completions {
        Completions { queue: VecDeque::new(), overflow: VecDeque::new(), capacity, counters }
    }

    fn has_room(&self) -> bool {
        self.overflow.is_empty() && self.queue.len() < self.capacity
    }

    /// Adds one that must not be lost.
    pub(super) fn post(&mut self, completion: Completion) {
        if self.has_room() {
            self.queue.push_back(completion);
        } else {
            self.counters.completion_overflows.add(u64::from(self.overflow.is_empty()));
            self.overflow.push_back(completion);
        }
    }

    /// Adds one of a request that goes on. `false`: there is no room, and the request ends with it.
    pub(super) fn post_if_room(&mut self, completion: Completion) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.queue.push_back(completion);
        }
        has_room
    }

    /// Moves up what found the queue full.
    pub(super) fn flush(&mut self) {
        if self.overflow.is_empty() {
            return;
        }
        let room = self.capacity - self.queue.len();
        let count = room.min(self.overflow.len());
        self.queue.extend(self.overflow.drain(..count));
    }

    /// How many wait in the queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Has the one that came last told before those beyond the first `before`, if it is the one
    /// with this token and the queue has held them all.
    pub(super) fn bring_forward(&mut self, token: u64, before: usize) {
        if self.overflow.is_empty() && self.queue.back().is_some_and(|last| last.token == token) {
            self.queue.make_contiguous()[before..].rotate_right(1);
        }
    }

    pub(super) fn take(&mut self) -> Option<Completion> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.overflow.is_empty()
    }
}
