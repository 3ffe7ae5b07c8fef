//! Messages with descriptors: the methods that all connected Unix sockets have, written once.

/// The methods, for a type with `fn handle(&self) -> &Handle`: whether it is a stream, and how the
/// operation begins that receives of it.
macro_rules! descriptor_methods {
    ($is_stream:literal, $receive:ident) => {
        /// Sends bytes to the connected peer, and descriptors along with them, and returns the
        /// count and the buffer; `SCM_RIGHTS` in unix(7), sendmsg(2).
        ///
        /// The descriptors are duplicated by this call, so they may be closed while the operation
        /// is under way. The peer gets descriptors of its own of the same open files. A message
        /// takes at most 253 of them along. On a stream they go along with the first byte: if fewer
        /// bytes were sent than the buffer holds, send only the rest, without them.
        ///
        /// ```
        /// use annulus::net::UnixStream;
        ///
        /// # annulus::block_on(async {
        /// let (ours, theirs) = UnixStream::pair()?;
        /// let (reader, _writer) = std::io::pipe()?;
        /// ours.send_with_fds("a pipe", &[&reader]).await?;
        /// let message = theirs.recv_with_fds(Vec::with_capacity(16)).await?;
        /// assert_eq!((&message.buffer[..], message.descriptors.len()), (&b"a pipe"[..], 1));
        /// # std::io::Result::Ok(()) }).unwrap();
        /// ```
        ///
        /// A dropped one may be sent all the same, but not after a later one.
        ///
        /// Yields `Result<(usize, B), Error<B>>`.
        ///
        /// # Errors
        /// The kernel's, with the buffer: `EPIPE` or `ECONNRESET` when the peer has gone, `EMFILE`
        /// where there is no number for a duplicate, `ETOOMANYREFS` where too many are on their
        /// way. `InvalidInput` for more than 253, and for an empty buffer on a stream.
        pub fn send_with_fds<B: $crate::buf::IoBuf>(
            &self,
            buffer: B,
            fds: &[impl std::os::fd::AsFd],
        ) -> $crate::Op<'_, $crate::op::unix_message::SendUnixMessage<B>> {
            $crate::op::unix_message::SendUnixMessage::with_descriptors(
                self.handle(),
                buffer,
                fds,
                $is_stream,
            )
        }

        /// Receives what has come, with all that came along: descriptors, and the credentials of
        /// the sender if [`set_passcred`](Self::set_passcred) asks for them; recvmsg(2).
        ///
        /// The descriptors are close-on-exec, and belong to whoever takes the message; dropped
        /// with it, they are closed. Receives of other kinds leave them out, and the kernel closes
        /// them.
        ///
        /// If the future is dropped and the receive won the race against its cancelling, the bytes
        /// wait in the socket for the next receive, and so do the descriptors: if that is one of
        /// another kind they are closed. One receive is in flight at a time; further ones wait for
        /// their turn.
        ///
        /// Yields `Result<UnixMessage<B>, Error<B>>`; see
        /// [`UnixMessage`](crate::net::UnixMessage).
        ///
        /// # Errors
        /// The kernel's, with the buffer; `InvalidInput` for a buffer without room. `Other` if this
        /// process had no number left for some of the descriptors (`EMFILE`): those that had come
        /// are closed, the bytes are in the buffer, and
        /// [`transferred`](crate::Error::transferred) counts them.
        pub fn recv_with_fds<B: $crate::buf::IoBufMut>(
            &self,
            buffer: B,
        ) -> $crate::Op<
            '_,
            $crate::op::unix_message::ReceiveUnixMessage<B, $crate::op::unix_message::Everything>,
        > {
            $crate::op::unix_message::ReceiveUnixMessage::$receive(self.handle(), buffer)
        }
    };
}

pub(super) use descriptor_methods;
