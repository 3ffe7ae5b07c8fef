//! The timetable of a load thread: which connection asks next, and when.

use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::measure::{Histogram, empty_histogram};

/// A server that has sent nothing for this long to any connection of a thread is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How fast a thread asks, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) deadline: Instant,
    /// Between two requests; `None` for full speed.
    pub(crate) interval: Option<Duration>,
}

/// What one thread saw in one slice.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) latencies: Histogram,
    /// For which it had something to do.
    pub(crate) busy: Duration,
}

/// One slice of one thread: which connection asks next, and when.
#[derive(Debug)]
pub(crate) struct Timetable {
    pace: Pace,
    /// It has no core to itself, so it must not keep the one that it has.
    shares_core: bool,
    started: Instant,
    /// Connections without a request.
    free: Vec<usize>,
    /// Requests that are made whatever the deadline, at full speed: one on each connection.
    firsts: usize,
    /// When the next request is due, at a fixed rate.
    due: Instant,
    outstanding: usize,
    /// When something came.
    last: Instant,
    idle_since: Option<Instant>,
    idle: Duration,
    latencies: Histogram,
}

impl Timetable {
    pub(crate) fn new(pace: Pace, connections: usize, shares_core: bool) -> Timetable {
        let now = Instant::now();
        Timetable {
            pace,
            shares_core,
            started: now,
            free: (0..connections).rev().collect(),
            firsts: connections,
            due: now,
            outstanding: 0,
            last: now,
            idle_since: None,
            idle: Duration::ZERO,
            latencies: empty_histogram(),
        }
    }

    /// Who asks now, and since when the reply counts as awaited: at a fixed rate since it was due,
    /// though no connection was free then.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let (is_time, asked) = match self.pace.interval {
            None => (self.firsts > 0 || now < self.pace.deadline, now),
            Some(_) => (self.due <= now && self.due < self.pace.deadline, self.due),
        };
        let index = if is_time { self.free.pop()? } else { return None };
        self.firsts = self.firsts.saturating_sub(1);
        self.due += self.pace.interval.unwrap_or_default();
        self.outstanding += 1;
        Some((index, asked))
    }

    pub(crate) fn answered(&mut self, index: usize, latency: Duration) {
        self.latencies.saturating_record(latency.as_nanos() as u64);
        self.outstanding -= 1;
        self.free.push(index);
    }

    /// To be asked when there is no next one.
    pub(crate) fn is_over(&self) -> bool {
        self.outstanding == 0 && self.pace.interval.is_none_or(|_| self.due >= self.pace.deadline)
    }

    pub(crate) fn something_came(&mut self, now: Instant) {
        self.last = now;
        if let Some(since) = self.idle_since.take() {
            self.idle += now.duration_since(since);
        }
    }

    /// There is nothing to do. It does not sleep, since a load that has to wake up first is no
    /// load.
    pub(crate) fn nothing_came(&mut self, now: Instant) -> Result<(), Failure> {
        self.idle_since.get_or_insert(now);
        if self.outstanding > 0 && now.duration_since(self.last) > SILENCE_TIMEOUT {
            return Err(format!(
                "{} connections got no reply for {} s",
                self.outstanding,
                SILENCE_TIMEOUT.as_secs()
            )
            .into());
        }
        if self.shares_core {
            thread::yield_now()
        } else {
            std::hint::spin_loop()
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Tally {
        Tally { latencies: self.latencies, busy: self.started.elapsed().saturating_sub(self.idle) }
    }
}
