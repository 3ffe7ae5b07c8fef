//! The methods of what is read or written from front to back, written once: pipes and the standard
//! streams.

/// The reading methods, for a type with `fn handle(&self) -> &Handle`.
macro_rules! reading_methods {
    () => {
        /// Reads what has come, and returns the count and the buffer; read(2).
        ///
        /// The read starts at the buffer's beginning, may use its whole capacity, and sets the
        /// length to what it read. It waits for at least one byte; 0 is the end.
        ///
        /// If the future is dropped and the read won the race against its cancelling, the bytes
        /// wait for the next read. One read is in flight at a time; further ones wait for their
        /// turn.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// The kernel's, with the buffer; `InvalidInput` for a buffer without room.
        pub fn read<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReadAt<B, InOrder>> {
            ReadAt::op(self.handle(), buffer, InOrder)
        }

        /// Reads what has come behind the bytes that the buffer holds, and returns the count and
        /// the buffer.
        ///
        /// If the future is dropped the buffer goes with it, and what it held before; what was read
        /// waits for the next read.
        ///
        /// # Errors
        /// As [`read`](Self::read): a full buffer has no room.
        pub async fn read_append<B: IoBufMut>(&self, buffer: B) -> Result<(usize, B), Error<B>> {
            match self.read(buffer.spare()).await {
                Ok((count, slice)) => Ok((count, slice.into_inner())),
                Err(error) => Err(error.map(Slice::into_inner)),
            }
        }

        /// Reads until the buffer's whole capacity is full, and returns it.
        ///
        /// The capacity of a `Vec` may be larger than was asked for:
        /// [`slice(..n)`](crate::buf::IoBuf::slice) reads exactly `n` bytes. If the future is
        /// dropped, all that it had read waits for the next read.
        ///
        /// Yields `Result<B, Error<B>>`.
        ///
        /// # Errors
        /// `UnexpectedEof` if the end comes before, else the kernel's. The buffer that the error
        /// carries holds what was read until then, and [`transferred`](Error::transferred) counts
        /// it; at 0 the buffer is as it was given.
        pub fn read_exact<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReadExactAt<B, InOrder>> {
            ReadExactAt::op(self.handle(), buffer, InOrder)
        }

        /// Reads what has come into several buffers, one after the other; readv(2). Buffers that
        /// nothing was read into keep their length.
        ///
        /// At most 1024 buffers take part. It allocates for the list of addresses. Dropping it is
        /// as with [`read`](Self::read).
        ///
        /// Yields `Result<(usize, Vec<B>), Error<Vec<B>>>`.
        ///
        /// # Errors
        /// As [`read`](Self::read).
        pub fn read_vectored<B: IoBufMut>(
            &self,
            buffers: Vec<B>,
        ) -> Op<'_, ReadVectoredAt<B, InOrder>> {
            ReadVectoredAt::op(self.handle(), buffers, InOrder)
        }
    };
}

/// The writing methods, for a type with `fn handle(&self) -> &Handle`.
macro_rules! writing_methods {
    () => {
        /// Writes, and returns the count and the buffer; write(2). It may write less than the
        /// buffer holds.
        ///
        /// A dropped write may be carried out all the same. Later writes wait until that is known,
        /// so it is never carried out after one of them. One write is in flight at a time; further
        /// ones wait for their turn.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// The kernel's, with the buffer: `EPIPE` when nobody reads any more.
        pub fn write<B: IoBuf>(&self, buffer: B) -> Op<'_, WriteAt<B, InOrder>> {
            WriteAt::op(self.handle(), buffer, InOrder)
        }

        /// Writes all of the buffer, and returns it.
        ///
        /// If the future is dropped, any first part of it may be written, before what later writes
        /// write.
        ///
        /// Yields `Result<B, Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write); [`transferred`](Error::transferred) says how much was written
        /// before.
        pub fn write_all<B: IoBuf>(&self, buffer: B) -> Op<'_, WriteAllAt<B, InOrder>> {
            WriteAllAt::op(self.handle(), buffer, InOrder)
        }

        /// Writes several buffers, one after the other; writev(2). It may write less than they
        /// hold, and at most 1024 take part.
        ///
        /// They come as a vector, an array, or a tuple of different ones. Dropping it is as with
        /// [`write`](Self::write).
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write).
        pub fn write_vectored<B: IoBufs>(&self, buffers: B) -> Op<'_, WriteVectoredAt<B, InOrder>> {
            WriteVectoredAt::op(self.handle(), buffers, InOrder)
        }

        /// Writes all of several buffers, one after the other, and returns them: as
        /// [`write_all`](Self::write_all) would if they were one.
        ///
        /// They come as a vector, an array, or a tuple of different ones, in any number. It
        /// allocates for the list of addresses.
        ///
        /// Yields `Result<B, Error<B>>`.
        ///
        /// # Errors
        /// As [`write_all`](Self::write_all).
        pub fn write_all_vectored<B: IoBufs>(
            &self,
            buffers: B,
        ) -> Op<'_, WriteAllVectoredAt<B, InOrder>> {
            WriteAllVectoredAt::op(self.handle(), buffers, InOrder)
        }

        /// Waits until every operation whose future was dropped has ended, and returns how the
        /// writes among them ended, in the order of their ends: the bytes written, or the kernel's
        /// error (`ECANCELED` for one that did nothing).
        ///
        /// At most the latest 1024 results are kept for this call. What a dropped read took waits
        /// for the next read. Operations that somebody awaits are not waited for.
        pub async fn quiesce(&self) -> Vec<io::Result<usize>> {
            self.handle().quiesce().await
        }
    };
}

pub(super) use {reading_methods, writing_methods};
