//! The methods that all connected streams have, reading and writing, written once.
//!
//! TCP streams, Unix streams and their halves differ in how they come to be and in their addresses;
//! what they do with bytes is the same operation on a socket. The macros are the table of those
//! methods; each type says which of them it has.

use crate::inflight::Handle;

/// A connected stream that can be split.
pub trait Stream: 'static {
    /// Its socket.
    #[doc(hidden)]
    fn handle(&self) -> &Handle;
}

/// The reading methods, for a type with `fn handle(&self) -> &Handle`.
macro_rules! reading_methods {
    () => {
        /// Reads what has come, and returns the count and the buffer; recv(2).
        ///
        /// The read starts at the buffer's beginning, may use its whole capacity, and sets the
        /// length to what it read. It waits for at least one byte; 0 is the end of the stream.
        ///
        /// If the future is dropped and the read won the race against its cancelling, the bytes
        /// wait in the stream for the next read; see the [module
        /// page](crate::net#dropping-a-future). One read is in flight at a time; further ones wait
        /// for their turn.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// The kernel's, with the buffer; `InvalidInput` for a buffer without room.
        pub fn read<B: $crate::buf::IoBufMut>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::socket::Receive<B>> {
            $crate::op::socket::Receive::op(self.handle(), buffer)
        }

        /// Looks at what has come, and returns the count and the buffer; recv(2) with `MSG_PEEK`.
        /// The bytes stay: the next read gets them, too.
        ///
        /// It waits for at least one byte; 0 is the end of the stream. What a dropped read left is
        /// seen first, and alone. It takes turns with reads. If the future is dropped, nothing has
        /// happened.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`read`](Self::read).
        pub fn peek<B: $crate::buf::IoBufMut>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::socket::Peek<B>> {
            $crate::op::socket::Peek::op(self.handle(), buffer)
        }

        /// Reads what has come behind the bytes that the buffer holds, and returns the count and
        /// the buffer.
        ///
        /// If the future is dropped the buffer goes with it, and what it held before; what was read
        /// waits in the stream.
        ///
        /// # Errors
        /// As [`read`](Self::read): a full buffer has no room.
        pub async fn read_append<B: $crate::buf::IoBufMut>(
            &self,
            buffer: B,
        ) -> Result<(usize, B), $crate::Error<B>> {
            match self.read(buffer.spare()).await {
                Ok((count, slice)) => Ok((count, slice.into_inner())),
                Err(error) => Err(error.map($crate::buf::Slice::into_inner)),
            }
        }

        /// Reads until the buffer's whole capacity is full, and returns it.
        ///
        /// The capacity of a `Vec` may be larger than was asked for:
        /// [`slice(..n)`](crate::buf::IoBuf::slice) reads exactly `n` bytes.
        ///
        /// If the future is dropped, all that it had read waits in the stream for the next read.
        ///
        /// Yields `Result<B, Error<B>>`.
        ///
        /// # Errors
        /// `UnexpectedEof` if the stream ends before, else the kernel's. The buffer that the error
        /// carries holds what was read until then, and [`transferred`](crate::Error::transferred)
        /// counts it; at 0 the buffer is as it was given.
        pub fn read_exact<B: $crate::buf::IoBufMut>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::socket::ReceiveExact<B>> {
            $crate::op::socket::ReceiveExact::op(self.handle(), buffer)
        }

        /// The bytes as they come, in buffers of the runtime, as a stream; see
        /// [`Chunks`](crate::Chunks).
        ///
        /// ```
        /// use annulus::net::UnixStream;
        /// use futures_util::StreamExt;
        ///
        /// async fn echo(stream: UnixStream) -> std::io::Result<()> {
        ///     let mut chunks = stream.chunks();
        ///     while let Some(chunk) = chunks.next().await {
        ///         stream.write_all(chunk?).await?; // no copy
        ///     }
        ///     Ok(())
        /// }
        /// # annulus::block_on(async {
        /// # let (ours, theirs) = UnixStream::pair()?;
        /// # let task = annulus::spawn(echo(theirs));
        /// # ours.write_all("ping").await?;
        /// # assert_eq!(ours.read_exact(vec![0; 4]).await?, b"ping");
        /// # drop(ours);
        /// # task.await.unwrap()
        /// # }).unwrap();
        /// ```
        ///
        /// # Errors
        /// Its items: the kernel's.
        pub fn chunks(&self) -> $crate::Chunks<'_> {
            $crate::op::Chunks::new(self.handle(), $crate::op::chunks::ChunkSource::Socket)
        }

        /// Reads what has come into a buffer of the runtime; recv(2). While it waits it holds none.
        ///
        /// An empty [`Chunk`](crate::buf::Chunk) is the end of the stream. If the future is dropped
        /// and the read won the race against its cancelling, the bytes wait in the stream for the
        /// next read.
        ///
        /// Yields `io::Result<Chunk>`.
        ///
        /// # Errors
        /// The kernel's.
        pub fn read_chunk(&self) -> $crate::Op<'_, $crate::op::chunks::ReadChunk> {
            $crate::op::chunks::ReadChunk::op(
                self.handle(),
                $crate::op::chunks::ChunkSource::Socket,
            )
        }

        /// Reads what has come into several buffers, one after the other; recvmsg(2). Buffers that
        /// nothing was read into keep their length.
        ///
        /// At most 1024 buffers take part. It allocates for the list of addresses. Dropping it is
        /// as with [`read`](Self::read).
        ///
        /// Yields `Result<(usize, Vec<B>), Error<Vec<B>>>`.
        ///
        /// # Errors
        /// As [`read`](Self::read).
        pub fn read_vectored<B: $crate::buf::IoBufMut>(
            &self,
            buffers: Vec<B>,
        ) -> $crate::Op<'_, $crate::op::vectored::ReceiveVectored<B>> {
            $crate::op::vectored::ReceiveVectored::op(self.handle(), buffers)
        }
    };
}

/// The writing methods, for a type with `fn handle(&self) -> &Handle`.
macro_rules! writing_methods {
    () => {
        /// Writes, and returns the count and the buffer; send(2). It may write less than the buffer
        /// holds.
        ///
        /// A dropped write may be sent all the same. Later writes wait until that is known, so it
        /// is never sent after one of them. One write is in flight at a time; further ones wait for
        /// their turn.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// The kernel's, with the buffer: `EPIPE` or `ECONNRESET` when the peer has gone. There is
        /// no `SIGPIPE`.
        pub fn write<B: $crate::buf::IoBuf>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::socket::Send<B>> {
            $crate::op::socket::Send::op(self.handle(), buffer)
        }

        /// Writes all of the buffer, and returns it.
        ///
        /// If the future is dropped, any first part of it may be sent, before what later writes
        /// send.
        ///
        /// Yields `Result<B, Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write); [`transferred`](crate::Error::transferred) says how much was
        /// written before.
        pub fn write_all<B: $crate::buf::IoBuf>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::socket::SendAll<B>> {
            $crate::op::socket::SendAll::op(self.handle(), buffer)
        }

        /// Writes several buffers, one after the other; sendmsg(2). It may write less than they
        /// hold, and at most 1024 take part.
        ///
        /// They come as a vector, an array, or a tuple of different ones. Dropping it is as with
        /// [`write`](Self::write).
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write).
        pub fn write_vectored<B: $crate::buf::IoBufs>(
            &self,
            buffers: B,
        ) -> $crate::Op<'_, $crate::op::vectored::SendVectored<B>> {
            $crate::op::vectored::SendVectored::op(self.handle(), buffers)
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
        pub fn write_all_vectored<B: $crate::buf::IoBufs>(
            &self,
            buffers: B,
        ) -> $crate::Op<'_, $crate::op::vectored::SendAllVectored<B>> {
            $crate::op::vectored::SendAllVectored::op(self.handle(), buffers)
        }

        /// Waits until every operation whose future was dropped has ended, and returns how the
        /// writes among them ended, in the order of their ends: the bytes written, or the kernel's
        /// error (`ECANCELED` for one that did nothing).
        ///
        /// At most the latest 1024 results are kept for this call. What a dropped read got waits
        /// for the next read. Operations that somebody awaits are not waited for.
        pub async fn quiesce(&self) -> Vec<std::io::Result<usize>> {
            self.handle().quiesce().await
        }

        /// Ends one direction of the connection, or both; shutdown(2). Ending the writing direction
        /// tells the peer that no more comes.
        ///
        /// It does not wait for its turn: a write that is in flight fails with `EPIPE`. After the
        /// peer has ended or reset the connection it is no error.
        ///
        /// Yields `io::Result<()>`.
        ///
        /// # Errors
        /// The kernel's.
        pub fn shutdown(
            &self,
            how: std::net::Shutdown,
        ) -> $crate::Op<'_, $crate::op::socket::Shutdown> {
            $crate::op::socket::Shutdown::op(self.handle(), how)
        }
    };
}

/// The writing methods without a copy, for a TCP stream or its half with
/// `fn handle(&self) -> &Handle`.
macro_rules! zero_copy_methods {
    () => {
        /// Writes without copying the bytes into the kernel, and returns what became of them and
        /// the buffer; `IORING_OP_SEND_ZC`, send_zc(2). It may write less than the buffer holds.
        ///
        /// The network card reads the buffer itself, so it comes back only when the peer has
        /// acknowledged the bytes and nothing can read them any more. Later writes do not wait for
        /// that, and may be sent meanwhile. It pays for large buffers (from about 10 KiB on) and
        /// real network cards; elsewhere, as on the loopback device, the kernel copies after all,
        /// and [`Sent::copied`](crate::net::Sent) says so. Where it has no zero copy for this
        /// socket, or no locked memory is left for it (`RLIMIT_MEMLOCK`), it is a plain write.
        ///
        /// Dropping it is as with [`write`](Self::write); the buffer lives until the kernel has let
        /// go of it, and the descriptor is not kept open for that. [`cancel`](crate::Op::cancel)
        /// and [`timeout`](crate::Op::timeout) end the sending, and then wait for the buffer as
        /// long as the peer acknowledges nothing: for a bound on the wait itself drop the future,
        /// as [`time::timeout`](crate::time::timeout) does. Needs Linux 6.2.
        ///
        /// Yields `Result<(Sent, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write).
        pub fn send_zc<B: $crate::buf::IoBuf>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::zero_copy::SendZeroCopy<B>> {
            $crate::op::zero_copy::SendZeroCopy::op(self.handle(), buffer)
        }

        /// Writes all of the buffer without copying it, as [`send_zc`](Self::send_zc) does with
        /// part of it.
        ///
        /// Yields `Result<(Sent, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write_all`](Self::write_all).
        pub fn send_all_zc<B: $crate::buf::IoBuf>(
            &self,
            buffer: B,
        ) -> $crate::Op<'_, $crate::op::zero_copy::SendZeroCopy<B>> {
            $crate::op::zero_copy::SendZeroCopy::all(self.handle(), buffer)
        }

        /// Writes several buffers without copying them; `IORING_OP_SENDMSG_ZC`, sendmsg_zc(2). At
        /// most 1024 take part. Otherwise as [`send_zc`](Self::send_zc).
        ///
        /// Yields `Result<(Sent, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write`](Self::write).
        pub fn send_vectored_zc<B: $crate::buf::IoBufs>(
            &self,
            buffers: B,
        ) -> $crate::Op<'_, $crate::op::zero_copy::SendVectoredZeroCopy<B>> {
            $crate::op::zero_copy::SendVectoredZeroCopy::op(self.handle(), buffers)
        }

        /// Writes all of several buffers without copying them, as
        /// [`send_vectored_zc`](Self::send_vectored_zc) does with part of them.
        ///
        /// Yields `Result<(Sent, B), Error<B>>`.
        ///
        /// # Errors
        /// As [`write_all`](Self::write_all).
        pub fn send_all_vectored_zc<B: $crate::buf::IoBufs>(
            &self,
            buffers: B,
        ) -> $crate::Op<'_, $crate::op::zero_copy::SendVectoredZeroCopy<B>> {
            $crate::op::zero_copy::SendVectoredZeroCopy::all(self.handle(), buffers)
        }
    };
}

pub(super) use {reading_methods, writing_methods, zero_copy_methods};
