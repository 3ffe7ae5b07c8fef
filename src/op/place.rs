//! Where a transfer takes place: at an offset that its caller names, where we have the file stand,
//! or where the kernel has it.

use crate::inflight::{Direction, Handle, Manner, WHERE_IT_STANDS};

/// An offset beyond this is negative to the kernel, and -1 would mean "wherever the file's cursor
/// is".
const HIGHEST_OFFSET: u64 = i64::MAX as u64;

pub(super) fn check_offset(offset: u64) -> Option<i32> {
    (offset > HIGHEST_OFFSET).then_some(-libc::EINVAL)
}

/// A place in a file. An operation has one, and no two places differ in more than what is here.
pub trait Place: Copy + 'static {
    /// Why nothing can be there.
    fn refused(self) -> Option<i32>;

    /// What a read names of which `done` bytes are through.
    fn of_read(self, file: &Handle, done: usize) -> u64;

    /// What a write names of which `done` bytes are through.
    fn of_write(self, file: &Handle, done: usize) -> u64;

    /// Does what a dropped read got go to the next one, since it does not come again?
    fn is_read_once(self, file: &Handle) -> bool;

    /// With whom a read takes turns.
    fn turns_of_read(self, file: &Handle) -> Option<(Direction, Manner)>;

    /// How writes share the outbound lane.
    const MANNER_OF_WRITE: Manner;

    /// A read hands over so many bytes: none if it has failed.
    fn has_read(self, file: &Handle, count: usize);

    /// A part of a write has written so many bytes: none if it has failed.
    fn has_written(self, file: &Handle, count: usize);
}

/// An offset.
impl Place for u64 {
    #[inline]
    fn refused(self) -> Option<i32> {
        check_offset(self)
    }

    #[inline]
    fn of_read(self, _file: &Handle, done: usize) -> u64 {
        self + done as u64
    }

    #[inline]
    fn of_write(self, _file: &Handle, done: usize) -> u64 {
        self + done as u64
    }

    #[inline]
    fn is_read_once(self, file: &Handle) -> bool {
        file.is_stream()
    }

    #[inline]
    fn turns_of_read(self, file: &Handle) -> Option<(Direction, Manner)> {
        file.is_stream().then_some((Direction::Inbound, Manner::AfterDropped))
    }

    const MANNER_OF_WRITE: Manner = Manner::AfterDropped;

    #[inline(always)]
    fn has_read(self, _file: &Handle, _count: usize) {}

    #[inline(always)]
    fn has_written(self, _file: &Handle, _count: usize) {}
}

/// Where the file stands. What moves the position takes turns, in the lane of writes: so nothing is
/// read or written where a dropped write may still move it.
#[derive(Debug, Clone, Copy)]
pub struct Standing;

impl Place for Standing {
    fn refused(self) -> Option<i32> {
        None
    }

    #[inline]
    fn of_read(self, file: &Handle, done: usize) -> u64 {
        file.offset_of_read(done)
    }

    /// Each part of a write moves the position.
    #[inline]
    fn of_write(self, file: &Handle, _done: usize) -> u64 {
        file.offset_of_write()
    }

    #[inline]
    fn is_read_once(self, file: &Handle) -> bool {
        file.has_one_order()
    }

    #[inline]
    fn turns_of_read(self, file: &Handle) -> Option<(Direction, Manner)> {
        let direction = if file.has_one_order() { Direction::Inbound } else { Direction::Outbound };
        Some((direction, Manner::Alone))
    }

    const MANNER_OF_WRITE: Manner = Manner::Alone;

    #[inline]
    fn has_read(self, file: &Handle, count: usize) {
        file.move_behind_read(count);
    }

    #[inline]
    fn has_written(self, file: &Handle, count: usize) {
        file.move_behind_write(count);
    }
}

/// Where the kernel has the file: a pipe, which has no positions, and a standard stream, whose
/// position belongs to other processes, too. So they are what receives and sends are for a socket:
/// one of each direction at a time, and what a dropped read took waits for the next.
#[derive(Debug, Clone, Copy)]
pub struct InOrder;

impl Place for InOrder {
    fn refused(self) -> Option<i32> {
        None
    }

    fn of_read(self, _file: &Handle, _done: usize) -> u64 {
        WHERE_IT_STANDS
    }

    fn of_write(self, _file: &Handle, _done: usize) -> u64 {
        WHERE_IT_STANDS
    }

    fn is_read_once(self, _file: &Handle) -> bool {
        true
    }

    fn turns_of_read(self, _file: &Handle) -> Option<(Direction, Manner)> {
        Some((Direction::Inbound, Manner::Alone))
    }

    const MANNER_OF_WRITE: Manner = Manner::Alone;

    fn has_read(self, _file: &Handle, _count: usize) {}

    fn has_written(self, _file: &Handle, _count: usize) {}
}
