//! Reading and writing an open file at offsets that the caller names.

use super::File;
use crate::buf::{IoBuf, IoBufMut, IoBufs};
use crate::inflight::Op;
use crate::op::file::{ReadAt, ReadExactAt, WriteAllAt, WriteAt};
use crate::op::vectored::{ReadVectoredAt, WriteAllVectoredAt, WriteVectoredAt};

impl File {
    /// Reads at an offset, and returns the count and the buffer; pread(2).
    ///
    /// The read starts at the buffer's beginning, may use its whole capacity, and sets the length
    /// to what it read. 0 is the end of the file. It may read less than fits; one read moves at
    /// most 2,147,479,552 bytes.
    ///
    /// A dropped read loses nothing, since the next one names its position again.
    ///
    /// On a pipe, a FIFO, a terminal or a descriptor of events (eventfd, timerfd, signalfd,
    /// inotify), which have no positions, the offset does not count. There the bytes that a dropped
    /// read got go to the next read.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for a buffer without room or an offset over
    /// `i64::MAX`.
    pub fn read_at<B: IoBufMut>(&self, buffer: B, offset: u64) -> Op<'_, ReadAt<B>> {
        ReadAt::op(&self.handle, buffer, offset)
    }

    /// Reads at an offset until the buffer's whole capacity is full, and returns it.
    ///
    /// The capacity of a `Vec` may be larger than was asked for: [`slice(..n)`](IoBuf::slice) reads
    /// exactly `n` bytes. Dropping it is as with [`read_at`](File::read_at).
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the file, else the kernel's. The buffer that the error carries
    /// holds what was read until then, and [`transferred`](crate::Error::transferred) counts it; at
    /// 0 the buffer is as it was given.
    pub fn read_exact_at<B: IoBufMut>(&self, buffer: B, offset: u64) -> Op<'_, ReadExactAt<B>> {
        ReadExactAt::op(&self.handle, buffer, offset)
    }

    /// Reads at an offset into several buffers, one after the other; preadv(2). Buffers that
    /// nothing was read into keep their length.
    ///
    /// At most 1024 buffers take part, as after a short read. It allocates for the list of
    /// addresses.
    ///
    /// Yields `Result<(usize, Vec<B>), Error<Vec<B>>>`.
    ///
    /// # Errors
    /// As [`read_at`](File::read_at).
    pub fn read_vectored_at<B: IoBufMut>(
        &self,
        buffers: Vec<B>,
        offset: u64,
    ) -> Op<'_, ReadVectoredAt<B>> {
        ReadVectoredAt::op(&self.handle, buffers, offset)
    }

    /// Writes at an offset, and returns the count and the buffer; pwrite(2). It may write less than
    /// the buffer holds.
    ///
    /// A dropped write may happen all the same, wholly or in part. Later writes, syncs and
    /// `set_len` of this `File` wait until that is known, so it never lands after one of them.
    /// Reads do not wait.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer; `InvalidInput` for an offset over `i64::MAX`.
    pub fn write_at<B: IoBuf>(&self, buffer: B, offset: u64) -> Op<'_, WriteAt<B>> {
        WriteAt::op(&self.handle, buffer, offset)
    }

    /// Writes all of the buffer at an offset, and returns it. If the future is dropped any first
    /// part of it may be written, as with [`write_at`](File::write_at).
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at); [`transferred`](crate::Error::transferred) says how much
    /// was written before.
    pub fn write_all_at<B: IoBuf>(&self, buffer: B, offset: u64) -> Op<'_, WriteAllAt<B>> {
        WriteAllAt::op(&self.handle, buffer, offset)
    }

    /// Writes several buffers at an offset, one after the other; pwritev(2). It may write less than
    /// they hold, and at most 1024 take part.
    ///
    /// They come as a vector, an array, or a tuple of different ones.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`write_at`](File::write_at).
    pub fn write_vectored_at<B: IoBufs>(
        &self,
        buffers: B,
        offset: u64,
    ) -> Op<'_, WriteVectoredAt<B>> {
        WriteVectoredAt::op(&self.handle, buffers, offset)
    }

    /// Writes all of several buffers at an offset, one after the other, and returns them: as
    /// [`write_all_at`](File::write_all_at) would if they were one.
    ///
    /// They come as a vector, an array, or a tuple of different ones, in any number.
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// As [`write_all_at`](File::write_all_at).
    pub fn write_all_vectored_at<B: IoBufs>(
        &self,
        buffers: B,
        offset: u64,
    ) -> Op<'_, WriteAllVectoredAt<B>> {
        WriteAllVectoredAt::op(&self.handle, buffers, offset)
    }
}
