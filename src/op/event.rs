//! The read of an eventfd's counter. eventfd(2), read(2).
//!
//! # Safety
//! It is a read into eight bytes on the heap, and hands everything on to that.
#![allow(unsafe_code)]

use std::io;

use io_uring::squeue;

use super::file::ReadAt;
use crate::buf::Error;
use crate::inflight::{Direction, Handle, Manner, Op, Operation, Step, Turns};
use crate::ring::Completion;

type Counter = Box<[u8; 8]>;

/// Waits until an eventfd is not 0, takes it, and yields what it was. What a dropped one took goes
/// to the next.
pub struct ReadEvent(ReadAt<Counter>);

impl ReadEvent {
    pub(crate) fn op<'h>(event: &Handle) -> Op<'h, ReadEvent> {
        Op::new(ReadEvent(ReadAt::new(event, Box::new([0; 8]), 0)))
    }

    fn counted(step: Step<ReadAt<Counter>>) -> Step<ReadEvent> {
        match step {
            Step::Done(read) => {
                let count = read.map(|(_, bytes)| u64::from_ne_bytes(*bytes));
                Step::Done(count.map_err(|error: Error<Counter>| error.into()))
            }
            Step::Again(read) => Step::Again(ReadEvent(read)),
        }
    }
}

// SAFETY: as for `ReadAt`, which it is.
unsafe impl Operation for ReadEvent {
    type Output = io::Result<u64>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });

    fn entry(&mut self) -> squeue::Entry {
        self.0.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Self::counted(self.0.complete(completion))
    }
}

impl ReadEvent {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        self.0.lane()
    }

    fn claim(self) -> Step<Self> {
        Self::counted(self.0.claim())
    }

    fn leave(self, completion: Completion) {
        self.0.leave(completion);
    }
}
