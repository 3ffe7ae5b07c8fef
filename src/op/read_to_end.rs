//! Reading a file to its end.
//!
//! # Safety
//! The content belongs to the operation, on the heap. It grows only between two parts, when the
//! kernel does not know it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use io_uring::{opcode, squeue};

use super::place::Place;
use crate::buf::Error;
use crate::inflight::{Direction, Handle, Left, Manner, Op, Operation, Step, Turns, claim, clamp};
use crate::ring::Completion;
use crate::sys::Status;

/// What is asked for first of a file that does not say how long it is, and at least each time the
/// content is full.
const SMALLEST_GROWTH: usize = 16 * 1024;

/// Reads from a place on, behind what the content holds, until the file ends.
pub(crate) struct ReadToEnd<P> {
    file: Handle,
    content: Vec<u8>,
    /// What the content held at first.
    before: usize,
    /// Has the file been asked how much is to come?
    is_sized: bool,
    place: P,
}

impl<P: Place> ReadToEnd<P> {
    pub(crate) fn op(file: &Handle, content: Vec<u8>, place: P) -> Op<'_, ReadToEnd<P>> {
        let (file, before) = (file.clone(), content.len());
        let operation = ReadToEnd { file, content, before, is_sized: false, place };
        Op::settled(operation, place.refused())
    }
}

// SAFETY: the content belongs to the operation, on the heap. Its address and capacity change in
// `make_room` only, which is called before an entry is made.
unsafe impl<P: Place> Operation for ReadToEnd<P> {
    type Output = Result<(usize, Vec<u8>), Error<Vec<u8>>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        is_told: false,
        ..Turns::of(Self::lane)
    });

    fn entry(&mut self) -> squeue::Entry {
        self.make_first_room();
        let room = self.content.spare_capacity_mut();
        let (address, length) = (room.as_mut_ptr().cast(), clamp(room.len()));
        let target = self.file.target_of_transfer();
        opcode::Read::new(target.number, address, length)
            .offset(self.place.of_read(&self.file, self.done()))
            .build()
            .flags(target.flags)
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        match completion.result() {
            Ok(0) => self.end(None),
            Ok(count) => {
                self.add(count);
                match self.make_room() {
                    Ok(()) => Step::Again(self),
                    Err(error) => self.end(Some(error)),
                }
            }
            Err(error) => self.end(Some(error)),
        }
    }
}

impl<P: Place> ReadToEnd<P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        let (direction, manner) = self.place.turns_of_read(&self.file)?;
        Some((&self.file, direction, manner))
    }

    fn claim(mut self) -> Step<Self> {
        loop {
            if let Err(error) = self.make_room() {
                return self.end(Some(error));
            }
            let length = self.content.len();
            match claim(&self.file, &mut self.content, length) {
                None => return Step::Again(self),
                Some(Ok(count)) => self.add(count),
                Some(Err(error)) => return self.end(Some(error)),
            }
        }
    }

    fn leave(mut self, completion: Completion) {
        if !self.place.is_read_once(&self.file) {
            return;
        }
        self.add(completion.count());
        let lane = self.file.lane(Direction::Inbound);
        if self.done() > 0 {
            lane.leave(Left::Bytes { bytes: self.content, start: self.before });
        }
        if let Err(error) = completion.result() {
            lane.leave_error(&error);
        }
    }

    /// What it has read.
    fn done(&self) -> usize {
        self.content.len() - self.before
    }

    fn add(&mut self, count: usize) {
        let length = self.content.len() + count;
        assert!(length <= self.content.capacity(), "more bytes are reported than there is room");
        // SAFETY: `count` bytes were written behind the others, by the kernel in a part that has
        // ended, or out of the lane.
        unsafe { self.content.set_len(length) };
    }

    /// Asks for as much room as the file says that there is to read, and one byte more, which
    /// shows that it has ended. Files of /proc say 0, and others may grow.
    fn make_first_room(&mut self) {
        if !std::mem::replace(&mut self.is_sized, true) {
            let size = Status::of(self.file.as_fd()).map_or(0, |status| status.size);
            let rest = size.saturating_sub(self.place.of_read(&self.file, 0));
            // A size that nobody could hold is not believed.
            let _ = usize::try_from(rest).map(|rest| self.content.try_reserve(rest + 1));
        }
        if self.content.len() == self.content.capacity() {
            self.content.reserve(SMALLEST_GROWTH);
        }
    }

    /// Makes room if there is none.
    fn make_room(&mut self) -> io::Result<()> {
        if self.content.len() == self.content.capacity() {
            self.content.try_reserve(self.content.len().max(SMALLEST_GROWTH))?;
        }
        Ok(())
    }

    fn end(self, error: Option<io::Error>) -> Step<Self> {
        let done = self.done();
        self.place.has_read(&self.file, done);
        Step::Done(match error {
            None => Ok((done, self.content)),
            Some(error) => Err(Error::new(error, self.content).with_transferred(done)),
        })
    }
}
