//! The requests that wait for an instant, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ring::request::{TIMEOUT_ABSOLUTE, TIMEOUT_BOOTTIME, TIMEOUT_REALTIME, Timespec};
use crate::ring::world::{Clock, RequestKey, World};

/// As far as any time goes: instants have a bound that nobody knows.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A place among the timers: the instant, and a number that keeps equal ones in order.
pub(super) type Due = (Instant, u64);

/// Who waits for an instant.
#[derive(Debug, Default)]
pub(super) struct RequestTimers {
    due: BTreeMap<Due, RequestKey>,
    count: u64,
}

impl RequestTimers {
    pub(super) fn insert(&mut self, at: Instant, key: RequestKey) -> Due {
        self.count += 1;
        let due = (at, self.count);
        self.due.insert(due, key);
        due
    }

    pub(super) fn remove(&mut self, due: Due) {
        self.due.remove(&due);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<RequestKey> {
        let first = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

/// The instant that an entry means.
pub(super) fn deadline(world: &dyn World, time: Timespec, flags: u32) -> Instant {
    let nanoseconds = Duration::from_nanos(time.nanoseconds);
    let mut remaining =
        Duration::from_secs(time.seconds.min(FAR.as_secs())).saturating_add(nanoseconds);
    if flags & TIMEOUT_ABSOLUTE != 0 {
        let clock = match flags & (TIMEOUT_BOOTTIME | TIMEOUT_REALTIME) {
            TIMEOUT_BOOTTIME => Clock::SinceBoot,
            TIMEOUT_REALTIME => Clock::TimeOfDay,
            _ => Clock::Monotonic,
        };
        remaining = Duration::from_secs(time.seconds)
            .saturating_add(nanoseconds)
            .saturating_sub(world.clock(clock));
    }
    world.now() + remaining.min(FAR)
}
