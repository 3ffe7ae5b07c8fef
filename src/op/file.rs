//! Operations on open files: positioned reads and writes, sync, truncate, advice. pread(2),
//! pwrite(2), fsync(2), ftruncate(2), posix_fadvise(2).
//!
//! # Safety
//! Buffers belong to the operations, and `IoBuf` promises that their memory stays where it is while
//! they move.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use io_uring::{opcode, squeue, types};

use super::alignment::explain;
use super::place::{Place, check_offset};
use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{
    Direction, Habits, Handle, Link, MOST_BYTES, Manner, Op, Operation, Progress, Step, Turns,
    advance, claim, claim_exact, clamp, end_of_file, filled, incomplete, leave, leave_received,
    needs_room, number_here, write_zero, written,
};
use crate::ring::Completion;
use crate::runtime::Core;
use crate::sys;

/// A read into a part of a buffer. For a file that goes around the page cache, memory that the
/// kernel knows saves pinning it; otherwise plain memory is cheaper.
#[inline]
fn reading<B: IoBufMut>(
    file: &Handle,
    buffer: &B,
    address: *mut u8,
    length: u32,
    offset: u64,
) -> squeue::Entry {
    let target = file.target_of_transfer();
    let entry = match number_here(buffer.registration()) {
        Some(number) if file.is_direct() => {
            opcode::ReadFixed::new(target.number, address, length, number).offset(offset).build()
        }
        _ => opcode::Read::new(target.number, address, length).offset(offset).build(),
    };
    entry.flags(target.flags)
}

/// A write from a part of a buffer, likewise.
#[inline]
fn writing<B: IoBuf>(
    file: &Handle,
    buffer: &B,
    address: *const u8,
    length: u32,
    offset: u64,
) -> squeue::Entry {
    let target = file.target_of_transfer();
    let entry = match number_here(buffer.registration()) {
        Some(number) if file.is_direct() => {
            opcode::WriteFixed::new(target.number, address, length, number).offset(offset).build()
        }
        _ => opcode::Write::new(target.number, address, length)
            .rw_flags(file.flags_of_write())
            .offset(offset)
            .build(),
    };
    entry.flags(target.flags)
}

/// What an entry named of a buffer, to be looked at.
fn part_of<B: IoBuf>(buffer: &B, start: usize, end: usize) -> libc::iovec {
    let address = buffer.as_init_ptr().wrapping_add(start).cast_mut();
    libc::iovec { iov_base: address.cast(), iov_len: clamp(end - start) as usize }
}

/// Reads from the page cache, where a program reads one by one: see `driver/one_by_one.rs`. `None`:
/// the ring reads.
///
/// # Safety
/// `length` bytes may be written at `address`.
unsafe fn read_past_the_ring(
    core: &Core,
    file: &Handle,
    address: *mut u8,
    length: u32,
    offset: u64,
) -> Option<i32> {
    if !core.driver.borrow_mut().allows_read_past_the_ring(length) || !file.has_cache() {
        return None;
    }
    // SAFETY: the caller's promise.
    let count = unsafe { sys::read_cached(file.as_fd(), address, length as usize, offset) };
    core.driver.borrow_mut().went_past_the_ring(count.is_some());
    count.map(|count| count as i32)
}

/// One read at an offset.
pub struct ReadAt<B, P = u64> {
    file: Handle,
    buffer: B,
    place: P,
}

impl<B: IoBufMut, P: Place> ReadAt<B, P> {
    /// Its lifetime is that of whoever owns the descriptor beside it.
    pub(crate) fn op<'h>(file: &Handle, buffer: B, place: P) -> Op<'h, ReadAt<B, P>> {
        let refused = needs_room(&buffer).or(place.refused());
        Op::settled(ReadAt::new(file, buffer, place), refused)
    }

    pub(crate) fn new(file: &Handle, buffer: B, place: P) -> ReadAt<B, P> {
        ReadAt { file: file.clone(), buffer, place }
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBufMut` keeps; the handle
// keeps the descriptor open.
unsafe impl<B: IoBufMut, P: Place> Operation for ReadAt<B, P> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        is_told: false,
        ..Turns::of(Self::lane)
    });
    const HABITS: Habits<Self> =
        Habits { past_the_ring: Some(Self::try_past_the_ring), ..Habits::USUAL };

    #[inline]
    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.capacity());
        let address = self.buffer.as_mut_ptr();
        reading(&self.file, &self.buffer, address, length, self.place.of_read(&self.file, 0))
    }

    #[inline(always)]
    fn complete(self, completion: Completion) -> Step<Self> {
        self.place.has_read(&self.file, completion.count());
        let result = completion.result().map_err(|error| {
            let part = part_of(&self.buffer, 0, self.buffer.capacity());
            explain(error, &self.file, &[part], self.place.of_read(&self.file, 0))
        });
        Step::Done(filled(self.buffer, result))
    }
}

impl<B: IoBufMut, P: Place> ReadAt<B, P> {
    pub(super) fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        let (direction, manner) = self.place.turns_of_read(&self.file)?;
        Some((&self.file, direction, manner))
    }

    pub(super) fn claim(mut self) -> Step<Self> {
        match claim(&self.file, &mut self.buffer, 0) {
            Some(result) => Step::Done(filled(self.buffer, result)),
            None => Step::Again(self),
        }
    }

    pub(super) fn leave(self, completion: Completion) {
        if self.place.is_read_once(&self.file) {
            leave(&self.file, self.buffer, 0, completion);
        }
    }

    #[inline(never)]
    fn try_past_the_ring(&mut self, core: &Core) -> Option<i32> {
        let length = clamp(self.buffer.capacity());
        let offset = self.place.of_read(&self.file, 0);
        // SAFETY: the buffer belongs to the operation, and the kernel does not know it.
        unsafe { read_past_the_ring(core, &self.file, self.buffer.as_mut_ptr(), length, offset) }
    }
}

impl<B: IoBufMut> Link for ReadAt<B> {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        matches!(output, Ok((count, buffer)) if *count == clamp(buffer.capacity()) as usize)
    }

    fn source(&self) -> Option<&Handle> {
        Some(&self.file).filter(|file| file.is_stream())
    }

    fn leave_output(source: &Handle, output: Self::Output) {
        if let Ok((count, buffer)) = output {
            leave_received(source, buffer, count);
        }
    }
}

/// Reads at an offset until the buffer is full.
pub struct ReadExactAt<B, P = u64> {
    file: Handle,
    buffer: B,
    place: P,
    filled: usize,
}

impl<B: IoBufMut, P: Place> ReadExactAt<B, P> {
    pub(crate) fn op<'h>(file: &'h Handle, buffer: B, place: P) -> Op<'h, ReadExactAt<B, P>> {
        // Nothing to wait for.
        let nothing = (buffer.capacity() == 0).then_some(0);
        let refused = place.refused().or(nothing);
        Op::settled(ReadExactAt { file: file.clone(), buffer, place, filled: 0 }, refused)
    }
}

// SAFETY: as for `ReadAt`; `filled` never exceeds the capacity, so the address stays within the
// buffer.
unsafe impl<B: IoBufMut, P: Place> Operation for ReadExactAt<B, P> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns {
        claim: Self::claim,
        leave: Self::leave,
        is_told: false,
        ..Turns::of(Self::lane)
    });
    const HABITS: Habits<Self> =
        Habits { past_the_ring: Some(Self::try_past_the_ring), ..Habits::USUAL };

    #[inline]
    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.capacity() - self.filled);
        // SAFETY: `filled` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_mut_ptr().add(self.filled) };
        let offset = self.place.of_read(&self.file, self.filled);
        reading(&self.file, &self.buffer, address, length, offset)
    }

    #[inline(always)]
    fn complete(mut self, completion: Completion) -> Step<Self> {
        let result = completion.result().map_err(|error| {
            let part = part_of(&self.buffer, self.filled, self.buffer.capacity());
            explain(error, &self.file, &[part], self.place.of_read(&self.file, self.filled))
        });
        match advance(&mut self.filled, self.buffer.capacity(), result, end_of_file) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => {
                self.place.has_read(&self.file, self.filled);
                Step::Done(filled(self.buffer, Ok(self.filled)).map(|(_, buffer)| buffer))
            }
            Progress::Failed(error) => {
                self.place.has_read(&self.file, self.filled);
                Step::Done(Err(incomplete(self.buffer, self.filled, error)))
            }
        }
    }
}

impl<B: IoBufMut, P: Place> ReadExactAt<B, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        let (direction, manner) = self.place.turns_of_read(&self.file)?;
        Some((&self.file, direction, manner))
    }

    fn claim(mut self) -> Step<Self> {
        match claim_exact(&self.file, &mut self.buffer, &mut self.filled) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => {
                Step::Done(filled(self.buffer, Ok(self.filled)).map(|(_, buffer)| buffer))
            }
            Progress::Failed(error) => Step::Done(Err(incomplete(self.buffer, self.filled, error))),
        }
    }

    fn leave(self, completion: Completion) {
        if self.place.is_read_once(&self.file) {
            leave(&self.file, self.buffer, self.filled, completion);
        }
    }

    #[inline(never)]
    fn try_past_the_ring(&mut self, core: &Core) -> Option<i32> {
        let length = clamp(self.buffer.capacity() - self.filled);
        // SAFETY: `filled` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_mut_ptr().add(self.filled) };
        let offset = self.place.of_read(&self.file, self.filled);
        // SAFETY: the buffer belongs to the operation, and the kernel does not know it.
        unsafe { read_past_the_ring(core, &self.file, address, length, offset) }
    }
}

impl<B: IoBufMut> Link for ReadExactAt<B> {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn may_be_followed(&self) -> bool {
        self.buffer.capacity() - self.filled <= MOST_BYTES
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }

    fn source(&self) -> Option<&Handle> {
        Some(&self.file).filter(|file| file.is_stream())
    }

    fn leave_output(source: &Handle, output: Self::Output) {
        if let Ok(buffer) = output {
            let count = buffer.init_len();
            leave_received(source, buffer, count);
        }
    }
}

/// One write at an offset.
pub struct WriteAt<B, P = u64> {
    file: Handle,
    buffer: B,
    place: P,
}

impl<B: IoBuf, P: Place> WriteAt<B, P> {
    pub(crate) fn op<'h>(file: &'h Handle, buffer: B, place: P) -> Op<'h, WriteAt<B, P>> {
        Op::settled(WriteAt { file: file.clone(), buffer, place }, place.refused())
    }
}

// SAFETY: the buffer belongs to the operation, at an address that `IoBuf` keeps; the handle keeps
// the descriptor open.
unsafe impl<B: IoBuf, P: Place> Operation for WriteAt<B, P> {
    type Output = Result<(usize, B), Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    #[inline]
    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.init_len());
        let offset = self.place.of_write(&self.file, 0);
        writing(&self.file, &self.buffer, self.buffer.as_init_ptr(), length, offset)
    }

    #[inline(always)]
    fn complete(self, completion: Completion) -> Step<Self> {
        self.place.has_written(&self.file, completion.count());
        let result = completion.result().map_err(|error| {
            let part = part_of(&self.buffer, 0, self.buffer.init_len());
            explain(error, &self.file, &[part], self.place.of_write(&self.file, 0))
        });
        Step::Done(written(self.buffer, result))
    }
}

impl<B: IoBuf, P: Place> WriteAt<B, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, P::MANNER_OF_WRITE))
    }
}

impl<B: IoBuf> Link for WriteAt<B> {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        matches!(output, Ok((count, buffer)) if *count == clamp(buffer.init_len()) as usize)
    }
}

/// Writes at an offset until the buffer is through.
pub struct WriteAllAt<B, P = u64> {
    file: Handle,
    buffer: B,
    place: P,
    written: usize,
}

impl<B: IoBuf, P: Place> WriteAllAt<B, P> {
    pub(crate) fn op<'h>(file: &'h Handle, buffer: B, place: P) -> Op<'h, WriteAllAt<B, P>> {
        Op::settled(WriteAllAt { file: file.clone(), buffer, place, written: 0 }, place.refused())
    }
}

// SAFETY: as for `WriteAt`; `written` never exceeds the length, so the address stays within the
// buffer.
unsafe impl<B: IoBuf, P: Place> Operation for WriteAllAt<B, P> {
    type Output = Result<B, Error<B>>;

    const TURNS: Option<Turns<Self>> = Some(Turns { moved: Self::moved, ..Turns::of(Self::lane) });

    #[inline]
    fn entry(&mut self) -> squeue::Entry {
        let length = clamp(self.buffer.init_len() - self.written);
        // SAFETY: `written` bytes of the buffer lie before this address.
        let address = unsafe { self.buffer.as_init_ptr().add(self.written) };
        let offset = self.place.of_write(&self.file, self.written);
        writing(&self.file, &self.buffer, address, length, offset)
    }

    #[inline(always)]
    fn complete(mut self, completion: Completion) -> Step<Self> {
        self.place.has_written(&self.file, completion.count());
        let result = completion.result().map_err(|error| {
            let part = part_of(&self.buffer, self.written, self.buffer.init_len());
            explain(error, &self.file, &[part], self.place.of_write(&self.file, self.written))
        });
        match advance(&mut self.written, self.buffer.init_len(), result, write_zero) {
            Progress::Partial => Step::Again(self),
            Progress::Complete => Step::Done(Ok(self.buffer)),
            Progress::Failed(error) => {
                Step::Done(Err(Error::new(error, self.buffer).with_transferred(self.written)))
            }
        }
    }
}

impl<B: IoBuf, P: Place> WriteAllAt<B, P> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, P::MANNER_OF_WRITE))
    }

    fn moved(&self) -> usize {
        self.written
    }
}

impl<B: IoBuf> Link for WriteAllAt<B> {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn may_be_followed(&self) -> bool {
        self.buffer.init_len() - self.written <= MOST_BYTES
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

/// Brings a file's data, and its metadata unless told otherwise, to the device.
pub struct Fsync {
    file: Handle,
    data_only: bool,
}

impl Fsync {
    pub(crate) fn op(file: &Handle, data_only: bool) -> Op<'_, Fsync> {
        Op::new(Fsync { file: file.clone(), data_only })
    }
}

// SAFETY: the entry names no memory; the handle keeps the descriptor open.
unsafe impl Operation for Fsync {
    type Output = io::Result<()>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        let flags =
            if self.data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
        opcode::Fsync::new(self.file.target_for_worker()).flags(flags).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Fsync {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, Manner::AfterDropped))
    }
}

impl Link for Fsync {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

/// Makes a file shorter or longer.
pub struct Truncate {
    file: Handle,
    length: u64,
}

impl Truncate {
    pub(crate) fn op(file: &Handle, length: u64) -> Op<'_, Truncate> {
        Op::settled(Truncate { file: file.clone(), length }, check_offset(length))
    }
}

// SAFETY: the entry names no memory; the handle keeps the descriptor open.
unsafe impl Operation for Truncate {
    type Output = io::Result<()>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));

    fn entry(&mut self) -> squeue::Entry {
        opcode::Ftruncate::new(self.file.target_for_worker(), self.length).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Truncate {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.file, Direction::Outbound, Manner::AfterDropped))
    }
}

impl Link for Truncate {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

/// Tells the kernel how a part of a file will be used.
pub struct Advise {
    file: Handle,
    offset: u64,
    length: u32,
    advice: i32,
}

impl Advise {
    pub(crate) fn op(file: &Handle, offset: u64, length: u32, advice: i32) -> Op<'_, Advise> {
        Op::settled(Advise { file: file.clone(), offset, length, advice }, check_offset(offset))
    }
}

// SAFETY: the entry names no memory; the handle keeps the descriptor open.
unsafe impl Operation for Advise {
    type Output = io::Result<()>;

    fn entry(&mut self) -> squeue::Entry {
        let fd = self.file.target_for_worker();
        opcode::Fadvise::new(fd, self.length.into(), self.advice).offset(self.offset).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Link for Advise {
    fn named(&self) -> Option<&Handle> {
        Some(&self.file)
    }

    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt;

    use io_uring::opcode;

    use super::*;
    use crate::buf::BufferPool;
    use crate::inflight::{Handle, Operation, Resource};
    use crate::runtime::Builder;

    /// The opcodes of a read, an exact read, a write and a complete write with such a buffer.
    fn opcodes<B: IoBufMut>(file: &Handle, mut buffer: impl FnMut() -> B) -> [u32; 4] {
        let mut read = ReadAt { file: file.clone(), buffer: buffer(), place: 0 };
        let mut exact = ReadExactAt { file: file.clone(), buffer: buffer(), place: 0, filled: 0 };
        let mut write = WriteAt { file: file.clone(), buffer: buffer(), place: 0 };
        let mut all = WriteAllAt { file: file.clone(), buffer: buffer(), place: 0, written: 0 };
        [read.entry(), exact.entry(), write.entry(), all.entry()].map(|entry| entry.get_opcode())
    }

    #[test]
    fn a_registration_is_used_for_direct_files_on_its_own_runtime_and_nowhere_else() {
        let open = |flags| {
            std::fs::File::options().read(true).custom_flags(flags).open(env!("CARGO_MANIFEST_DIR"))
        };
        let cached = Resource::of_file(OwnedFd::from(open(0).expect("a directory")).into());
        let direct =
            match std::fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(file!()) {
                Ok(file) => Resource::of_file(OwnedFd::from(file).into()),
                Err(error) => return println!("skipped: no O_DIRECT here ({error})"),
            };
        let plain =
            [opcode::Read::CODE, opcode::Read::CODE, opcode::Write::CODE, opcode::Write::CODE]
                .map(u32::from);
        let fixed = [
            opcode::ReadFixed::CODE,
            opcode::ReadFixed::CODE,
            opcode::WriteFixed::CODE,
            opcode::WriteFixed::CODE,
        ]
        .map(u32::from);
        let (own, other) =
            (Builder::new().build().expect("a ring"), Builder::new().build().expect("a ring"));
        let pool = own.block_on(async {
            let pool = BufferPool::new(4, 4096);
            if let Some(refusal) = pool.refusal() {
                println!("skipped: {refusal}");
                return pool;
            }
            let buffer = || pool.try_acquire().expect("it comes back at once");
            assert_eq!(opcodes(&direct, buffer), fixed);
            assert_eq!(opcodes(&direct, || buffer().slice(..100).slice(..)), fixed, "a part of it");
            assert_eq!(opcodes(&cached, buffer), plain, "a file in the page cache");
            assert_eq!(opcodes(&direct, || vec![0; 4096]), plain, "another buffer");
            pool
        });
        let buffer = || pool.try_acquire().expect("it comes back at once");
        other.block_on(async { assert_eq!(opcodes(&direct, buffer), plain, "another runtime") });
        assert_eq!(opcodes(&direct, buffer), plain, "no runtime");
        drop(own);
        let third = Builder::new().build().expect("a ring");
        third.block_on(async {
            assert_eq!(opcodes(&direct, buffer), plain, "a runtime that came later")
        });
    }
}
