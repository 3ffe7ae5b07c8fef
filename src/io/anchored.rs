//! Streams that are anchored, through the traits of others: at home they are those streams, and
//! elsewhere every call is an error.

use std::io;
use std::pin::Pin;
use std::task::Poll;

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

#[cfg(feature = "futures-io")]
mod for_futures_io {
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

    use super::at_home;
    use crate::exec::Anchored;

    impl<S: AsyncRead> AsyncRead for Anchored<S> {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            at_home(self, |stream| stream.poll_read(context, buffer))
        }
    }

    impl<S: AsyncBufRead> AsyncBufRead for Anchored<S> {
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

    impl<S: AsyncWrite> AsyncWrite for Anchored<S> {
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

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_flush(context))
        }

        fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_close(context))
        }
    }
}

#[cfg(feature = "tokio-io")]
mod for_tokio {
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

    use super::at_home;
    use crate::exec::Anchored;

    impl<S: AsyncRead> AsyncRead for Anchored<S> {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_read(context, buffer))
        }
    }

    impl<S: AsyncBufRead> AsyncBufRead for Anchored<S> {
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

    impl<S: AsyncWrite> AsyncWrite for Anchored<S> {
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

        fn is_write_vectored(&self) -> bool {
            self.get().is_some_and(AsyncWrite::is_write_vectored)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_flush(context))
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_shutdown(context))
        }
    }
}

#[cfg(feature = "hyper")]
mod for_hyper {
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::rt::{Read, ReadBufCursor, Write};

    use super::at_home;
    use crate::exec::Anchored;

    impl<S: Read> Read for Anchored<S> {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_read(context, buffer))
        }
    }

    impl<S: Write> Write for Anchored<S> {
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

        fn is_write_vectored(&self) -> bool {
            self.get().is_some_and(Write::is_write_vectored)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_flush(context))
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            at_home(self, |stream| stream.poll_shutdown(context))
        }
    }
}
