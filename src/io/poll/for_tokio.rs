//! The traits of tokio, which come without its reactor.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{PollRead, PollReader, PollStream, PollWrite, PollWriter};

macro_rules! reads {
    ([$($parameters:tt)*] $type:ty) => {
        impl<$($parameters)*> AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let room = buffer.remaining();
                self.get_mut().poll_copy(context, room, |bytes| buffer.put_slice(bytes)).map_ok(drop)
            }
        }

        impl<$($parameters)*> AsyncBufRead for $type {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                self.get_mut().poll_fill_buf(context)
            }

            fn consume(self: Pin<&mut Self>, count: usize) {
                self.get_mut().consume(count);
            }
        }
    };
}

macro_rules! writes {
    ([$($parameters:tt)*] $type:ty) => {
        impl<$($parameters)*> AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_write(context, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_write_vectored(context, slices)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_flush(context)
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.get_mut().poll_shutdown(context)
            }
        }
    };
}

reads!([S: PollRead] PollReader<S>);
reads!([S: PollRead + PollWrite] PollStream<S>);
writes!([S: PollWrite] PollWriter<S>);
writes!([S: PollRead + PollWrite] PollStream<S>);
