//! What can be polled: the streams, halves, pipes and files of this crate.

use std::io;

use crate::buf::Error;
use crate::inflight::Handle;

/// Something that a [`PollReader`](super::PollReader) reads from. Types of this crate are; no other
/// can be.
pub trait PollRead: 'static {
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

    /// Ends the writing direction, where there is one to end.
    #[doc(hidden)]
    async fn end_writing(&self) -> io::Result<()>;
}

/// `polls_reads!([S: Stream] ReadHalf<S>)`: a type with `fn handle(&self) -> &Handle`.
macro_rules! polls_reads {
    ([$($parameters:tt)*] $type:ty) => {
        impl<$($parameters)*> $crate::io::PollRead for $type {
            fn inbound(&self) -> &$crate::inflight::Handle {
                self.handle()
            }
        }

        impl<$($parameters)*> $type {
            /// For code that polls, such as a library that is written against the traits of
            /// futures-io, tokio or hyper; see [`PollReader`]($crate::io::PollReader).
            pub fn into_poll(self) -> $crate::io::PollReader<Self> {
                $crate::io::PollReader::new(self)
            }
        }
    };
}

/// `polls_writes!([] PipeWriter)`: a type with `handle`, and an `AsyncWrite` by its reference.
macro_rules! polls_writes {
    (@trait [$($parameters:tt)*] $type:ty) => {
        impl<$($parameters)*> $crate::io::PollWrite for $type {
            fn outbound(&self) -> &$crate::inflight::Handle {
                self.handle()
            }

            async fn write_out(
                &self,
                bytes: Vec<u8>,
            ) -> Result<Vec<u8>, $crate::buf::Error<Vec<u8>>> {
                $crate::io::AsyncWrite::write_all(&mut &*self, bytes).await
            }

            async fn end_writing(&self) -> std::io::Result<()> {
                $crate::io::AsyncWrite::shutdown(&mut &*self).await
            }
        }
    };
    ([$($parameters:tt)*] $type:ty) => {
        $crate::io::polls_writes!(@trait [$($parameters)*] $type);

        impl<$($parameters)*> $type {
            /// For code that polls, such as a library that is written against the traits of
            /// futures-io, tokio or hyper; see [`PollWriter`]($crate::io::PollWriter).
            pub fn into_poll(self) -> $crate::io::PollWriter<Self> {
                $crate::io::PollWriter::new(self)
            }
        }
    };
}

/// `polls!([] TcpStream)`: a type for both directions.
macro_rules! polls {
    ([$($parameters:tt)*] $type:ty) => {
        impl<$($parameters)*> $crate::io::PollRead for $type {
            fn inbound(&self) -> &$crate::inflight::Handle {
                self.handle()
            }
        }

        $crate::io::polls_writes!(@trait [$($parameters)*] $type);

        impl<$($parameters)*> $type {
            /// For code that polls, such as a library that is written against the traits of
            /// futures-io, tokio or hyper; see [`PollStream`]($crate::io::PollStream).
            pub fn into_poll(self) -> $crate::io::PollStream<Self> {
                $crate::io::PollStream::new(self)
            }
        }
    };
}

pub(crate) use {polls, polls_reads, polls_writes};
