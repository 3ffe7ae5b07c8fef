//! What can be polled: the streams, halves, pipes and files of this crate.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use crate::buf::Error;
use crate::inflight::Handle;
use crate::op::place::Place;
use crate::sys;

/// Something that a [`PollReader`](super::PollReader) reads from. Types of this crate are; no other
/// can be.
pub trait PollRead: 'static {
    /// Where reads take place that go into a buffer of their own.
    #[doc(hidden)]
    type Place: Place;

    #[doc(hidden)]
    const PLACE: Self::Place;

    /// What is read.
    #[doc(hidden)]
    fn inbound(&self) -> &Handle;
}

/// Something that a [`PollWriter`](super::PollWriter) writes to. Types of this crate are; no other
/// can be.
// Futures of this crate stay on their thread, so nobody asks whether those of a trait are `Send`.
#[allow(async_fn_in_trait)]
pub trait PollWrite: 'static {
    /// What is written.
    #[doc(hidden)]
    fn outbound(&self) -> &Handle;

    /// Writes all of it, and gives it back.
    #[doc(hidden)]
    async fn write_out(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error<Vec<u8>>>;

    /// Ends the writing direction, where there is one to end, at once.
    #[doc(hidden)]
    fn end_writing(this: &mut Rc<Self>) -> io::Result<()>;
}

/// The end of what is written to a socket; shutdown(2). The call does not wait, and the ring would
/// have a thread for it.
pub(crate) fn end_of_socket(socket: &Handle) -> io::Result<()> {
    match sys::shut_down(socket, Shutdown::Write) {
        // The peer has ended or reset the connection: there is nothing left to shut down.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// `reads_by_polls!([S: Stream] ReadHalf<S>, InOrder)`: a type with `fn handle(&self) -> &Handle`
/// can be polled. The last word says where a file is read.
macro_rules! reads_by_polls {
    ([$($parameters:tt)*] $type:ty, $place:ident) => {
        impl<$($parameters)*> $crate::io::PollRead for $type {
            type Place = $crate::op::place::$place;

            const PLACE: Self::Place = $crate::op::place::$place;

            fn inbound(&self) -> &$crate::inflight::Handle {
                self.handle()
            }
        }
    };
}

/// `writes_by_polls!([] File, |_file| Ok(()))`: a type with `handle`, and an `AsyncWrite` by its
/// reference, can be polled. The expression ends its writing direction, of an `Rc` of it.
macro_rules! writes_by_polls {
    ([$($parameters:tt)*] $type:ty, |$this:ident| $end:expr) => {
        impl<$($parameters)*> $crate::io::PollWrite for $type {
            fn outbound(&self) -> &$crate::inflight::Handle {
                self.handle()
            }

            async fn write_out(
                &self,
                bytes: Vec<u8>,
            ) -> Result<Vec<u8>, $crate::buf::Error<Vec<u8>>> {
                <$type>::write_all(self, bytes).await
            }

            fn end_writing($this: &mut std::rc::Rc<Self>) -> std::io::Result<()> {
                $end
            }
        }
    };
}

/// `into_poll!([] TcpStream, PollStream)`: a type that can be polled has the method.
macro_rules! into_poll {
    ([$($parameters:tt)*] $type:ty, $poll:ident) => {
        impl<$($parameters)*> $type {
            /// For code that polls, such as a library that is written against the traits of
            /// futures-io, tokio or hyper.
            ///
            /// What a dropped read has left is read first, and what a dropped write has under way
            /// is written first.
            pub fn into_poll(self) -> $crate::io::$poll<Self> {
                $crate::io::$poll::new(self)
            }
        }
    };
}

pub(crate) use {into_poll, reads_by_polls, writes_by_polls};
