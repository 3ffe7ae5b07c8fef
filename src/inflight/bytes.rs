//! The bytes of a transfer: how many are asked for, what a count means for a buffer, and what a
//! dropped transfer leaves in its lane.
//!
//! # Safety
//! Buffers belong to the operations, which have ended when their lengths are set.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use super::handle::Handle;
use super::kept::{Direction, Left};
use super::operation::MOST_BYTES;
use crate::buf::{Error, IoBufMut};
use crate::ring::Completion;

/// What a single transfer asks for at most; longer ones are short, as in read(2).
#[inline]
pub(crate) fn clamp(length: usize) -> u32 {
    length.min(MOST_BYTES) as u32
}

/// The result of a read into a buffer without room: never an `Ok(0)` that looks like the end of the
/// file.
pub(crate) fn needs_room<B: IoBufMut>(buffer: &B) -> Option<i32> {
    (buffer.capacity() == 0).then_some(-libc::EINVAL)
}

/// Ends a read: the buffer's length becomes the count, or the error takes the buffer along.
#[inline]
pub(crate) fn filled<B: IoBufMut>(
    mut buffer: B,
    result: io::Result<usize>,
) -> Result<(usize, B), Error<B>> {
    match result {
        Ok(count) => {
            assert!(
                count <= buffer.capacity(),
                "the kernel reports {count} bytes in a smaller buffer"
            );
            // SAFETY: the kernel has written the first `count` bytes, and the operation that it
            // wrote them for has ended.
            unsafe { buffer.set_init_len(count) };
            Ok((count, buffer))
        }
        Err(error) if buffer.capacity() == 0 => Err(Error::new(no_room(error), buffer)),
        Err(error) => Err(Error::new(error, buffer)),
    }
}

/// Refused before submission; the kernel never says EINVAL for want of room.
pub(crate) fn no_room(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            io::Error::new(io::ErrorKind::InvalidInput, "the buffer has no room to read into")
        }
        _ => error,
    }
}

/// Ends a write.
#[inline]
pub(crate) fn written<B>(buffer: B, result: io::Result<usize>) -> Result<(usize, B), Error<B>> {
    match result {
        Ok(count) => Ok((count, buffer)),
        Err(error) => Err(Error::new(error, buffer)),
    }
}

/// Ends a read of an exact number of bytes before they were all there. What was read is in the
/// buffer.
pub(crate) fn incomplete<B: IoBufMut>(mut buffer: B, filled: usize, error: io::Error) -> Error<B> {
    if filled > 0 {
        // SAFETY: the parts that have ended wrote the first `filled` bytes.
        unsafe { buffer.set_init_len(filled) };
    }
    Error::new(error, buffer).with_transferred(filled)
}

pub(crate) fn end_of_file() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "end of file before the buffer was full")
}

pub(crate) fn write_zero() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the file takes no more bytes")
}

/// Where an operation in parts stands after one of them.
pub(crate) enum Progress {
    Complete,
    Partial,
    Failed(io::Error),
}

/// Adds what a part has moved to `done` of `whole`. A part that moves nothing fails with `stuck`.
#[inline]
pub(crate) fn advance(
    done: &mut usize,
    whole: usize,
    result: io::Result<usize>,
    stuck: fn() -> io::Error,
) -> Progress {
    match result {
        Err(error) => return Progress::Failed(error),
        Ok(0) if *done < whole => return Progress::Failed(stuck()),
        Ok(count) => *done += count,
    }
    if *done < whole { Progress::Partial } else { Progress::Complete }
}

/// Moves what is left of a stream into a buffer from `offset` on, or gives the error that is left.
pub(crate) fn claim<B: IoBufMut>(
    socket: &Handle,
    buffer: &mut B,
    offset: usize,
) -> Option<io::Result<usize>> {
    let room = buffer.capacity() - offset;
    // SAFETY: `offset` is not above the capacity.
    let target = unsafe { buffer.as_mut_ptr().add(offset) };
    socket.lane(Direction::Inbound).take_bytes(room, |bytes| {
        // SAFETY: there are no more bytes than there is room behind `target`, in memory that
        // belongs to the buffer, and so not to the lane.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    })
}

/// Copies what is left of a stream into a buffer, or gives the error that is left; both stay.
pub(crate) fn peek<B: IoBufMut>(socket: &Handle, buffer: &mut B) -> Option<io::Result<usize>> {
    let room = buffer.capacity();
    let target = buffer.as_mut_ptr();
    let look = |left: &Left| {
        let bytes = match left {
            Left::Failed(errno) => return Some(Err(io::Error::from_raw_os_error(*errno))),
            Left::Bytes { bytes, start } => &bytes[*start..],
            Left::Message { bytes, .. } => bytes,
            Left::Chunk(chunk) => chunk,
            Left::Datagram { .. } | Left::Connection(_) => return None,
        };
        let count = room.min(bytes.len());
        // SAFETY: there are no more bytes than the buffer has room for, and its memory is not the
        // lane's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, count) };
        Some(Ok(count))
    };
    socket.lane(Direction::Inbound).look_at_left(look).flatten()
}

/// Moves what is left of a stream into a buffer until it is full.
pub(crate) fn claim_exact<B: IoBufMut>(
    socket: &Handle,
    buffer: &mut B,
    done: &mut usize,
) -> Progress {
    while *done < buffer.capacity() {
        match claim(socket, buffer, *done) {
            None => return Progress::Partial,
            Some(Ok(count)) => *done += count,
            Some(Err(error)) => return Progress::Failed(error),
        }
    }
    Progress::Complete
}

/// Leaves the bytes of a receive that has ended well, and whose result nobody gets.
pub(crate) fn leave_received<B: IoBufMut>(socket: &Handle, buffer: B, count: usize) {
    leave(socket, buffer, count, Completion::without_submission(0));
}

/// Leaves the bytes of a receive that nobody waits for: those of earlier parts, and those of its
/// last completion.
pub(crate) fn leave<B: IoBufMut>(
    socket: &Handle,
    mut buffer: B,
    earlier: usize,
    completion: Completion,
) {
    let lane = socket.lane(Direction::Inbound);
    let result = completion.result();
    let count = earlier + *result.as_ref().unwrap_or(&0);
    if count > 0 {
        assert!(count <= buffer.capacity(), "the kernel reports more bytes than the buffer holds");
        // SAFETY: the kernel has written that many bytes, and the operation that it wrote them for
        // has ended.
        unsafe { buffer.set_init_len(count) };
        lane.leave(Left::Bytes { bytes: buffer.as_init()[..count].to_vec(), start: 0 });
    }
    if let Err(error) = result {
        lane.leave_error(&error);
    }
}
