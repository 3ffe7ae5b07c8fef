//! Streams that are anchored, through the traits of others: at home they are those streams, and
//! elsewhere every call is an error.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::exec::Anchored;

/// Polls the stream at home. Elsewhere it is an error that says so.
fn at_home<'a, S, T>(
    anchored: Pin<&'a mut Anchored<S>>,
    poll: impl FnOnce(Pin<&'a mut S>) -> Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    match anchored.try_pin_mut() {
        Ok(stream) => poll(stream),
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// `reads!(futures_io::AsyncRead, &mut [u8], usize)`: the trait, what is read into, and what is
/// told of that.
macro_rules! reads {
    ($trait:path, $buffer:ty, $told:ty) => {
        impl<S: $trait> $trait for Anchored<S> {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: $buffer,
            ) -> Poll<io::Result<$told>> {
                at_home(self, |stream| stream.poll_read(context, buffer))
            }
        }
    };
}

/// `lends!(futures_io::AsyncBufRead)`.
#[cfg(any(feature = "futures-io", feature = "tokio-io"))]
macro_rules! lends {
    ($trait:path) => {
        impl<S: $trait> $trait for Anchored<S> {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                at_home(self, |stream| stream.poll_fill_buf(context))
            }

            fn consume(self: Pin<&mut Self>, count: usize) {
                // Elsewhere nobody has seen a byte.
                if let Some(stream) = self.get_pin_mut() {
                    stream.consume(count);
                }
            }
        }
    };
}

/// `writes!(hyper::rt::Write, poll_shutdown, is_write_vectored)`: the trait, how its end is called,
/// and, if it has that, the question.
macro_rules! writes {
    ($trait:path, $end:ident $(, $is_vectored:ident)?) => {
        impl<S: $trait> $trait for Anchored<S> {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                at_home(self, |stream| stream.poll_write(context, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                at_home(self, |stream| stream.poll_write_vectored(context, slices))
            }

            $(fn $is_vectored(&self) -> bool {
                self.get().is_some_and(|stream| stream.$is_vectored())
            })?

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                at_home(self, |stream| stream.poll_flush(context))
            }

            fn $end(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                at_home(self, |stream| stream.$end(context))
            }
        }
    };
}

#[cfg(feature = "futures-io")]
reads!(futures_io::AsyncRead, &mut [u8], usize);
#[cfg(feature = "tokio-io")]
reads!(tokio::io::AsyncRead, &mut tokio::io::ReadBuf<'_>, ());
#[cfg(feature = "hyper")]
reads!(hyper::rt::Read, hyper::rt::ReadBufCursor<'_>, ());

#[cfg(feature = "futures-io")]
lends!(futures_io::AsyncBufRead);
#[cfg(feature = "tokio-io")]
lends!(tokio::io::AsyncBufRead);

#[cfg(feature = "futures-io")]
writes!(futures_io::AsyncWrite, poll_close);
#[cfg(feature = "tokio-io")]
writes!(tokio::io::AsyncWrite, poll_shutdown, is_write_vectored);
#[cfg(feature = "hyper")]
writes!(hyper::rt::Write, poll_shutdown, is_write_vectored);
