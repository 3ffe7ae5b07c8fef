//! The traits of readers and writers for TLS streams and their halves: those of this crate, of
//! futures-io, of tokio and of hyper.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::stream::{ReadHalf, TlsStream, WriteHalf};
use crate::buf::{Error, IoBuf, IoBufMut};

/// Copies what fits to where `buffer` is still free.
fn fill(buffer: &mut &mut [u8], bytes: &[u8]) -> usize {
    let count = bytes.len().min(buffer.len());
    let (filled, free) = std::mem::take(buffer).split_at_mut(count);
    filled.copy_from_slice(&bytes[..count]);
    *buffer = free;
    count
}

macro_rules! reads {
    ($type:ident) => {
        impl<S> crate::io::AsyncRead for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            async fn read<B: IoBufMut>(&mut self, mut buffer: B) -> Result<(usize, B), Error<B>> {
                if buffer.capacity() == 0 {
                    let sentence = "the buffer has no room to read into";
                    let error = io::Error::new(io::ErrorKind::InvalidInput, sentence);
                    return Err(Error::new(error, buffer));
                }
                let mut count = None;
                let read = poll_fn(|context| {
                    // `put` begins at the buffer's beginning, so there is one of them.
                    self.shared.poll_read(context, |bytes| match count {
                        None => *count.insert(buffer.put(bytes)),
                        Some(_) => 0,
                    })
                });
                match read.await {
                    Ok(()) => Ok((count.unwrap_or(0), buffer)),
                    Err(error) => Err(Error::new(error, buffer)),
                }
            }
        }

        impl<S> futures_io::AsyncRead for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                mut buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let room = buffer.len();
                if room == 0 {
                    return Poll::Ready(Ok(0));
                }
                let poll = self.shared.poll_read(context, |bytes| fill(&mut buffer, bytes));
                poll.map_ok(|()| room - buffer.len())
            }
        }

        #[cfg(feature = "tokio-io")]
        impl<S> tokio::io::AsyncRead for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if buffer.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                self.shared.poll_read(context, |bytes| {
                    let count = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..count]);
                    count
                })
            }
        }

        #[cfg(feature = "hyper")]
        impl<S> hyper::rt::Read for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                mut buffer: hyper::rt::ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                if buffer.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                self.shared.poll_read(context, |bytes| {
                    let count = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..count]);
                    count
                })
            }
        }
    };
}

/// Writing by the trait of tokio or of hyper, which have the same methods.
#[cfg(any(feature = "tokio-io", feature = "hyper"))]
macro_rules! writes_as {
    ($trait:path, $type:ident) => {
        impl<S> $trait for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, &[IoSlice::new(bytes)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, slices)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shared.poll_flush(context)
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.shared.poll_shutdown(context)
            }
        }
    };
}

macro_rules! writes {
    ($type:ident) => {
        impl<S> crate::io::AsyncWrite for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
                let write = poll_fn(|context| {
                    self.shared.poll_write(context, &[IoSlice::new(buffer.as_init())])
                });
                match write.await {
                    Ok(count) => Ok((count, buffer)),
                    Err(error) => Err(Error::new(error, buffer)),
                }
            }

            async fn flush(&mut self) -> io::Result<()> {
                poll_fn(|context| self.shared.poll_flush(context)).await
            }

            async fn shutdown(&mut self) -> io::Result<()> {
                poll_fn(|context| self.shared.poll_shutdown(context)).await
            }
        }

        impl<S> futures_io::AsyncWrite for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, &[IoSlice::new(bytes)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, slices)
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shared.poll_flush(context)
            }

            fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shared.poll_shutdown(context)
            }
        }

        #[cfg(feature = "tokio-io")]
        writes_as!(tokio::io::AsyncWrite, $type);

        #[cfg(feature = "hyper")]
        writes_as!(hyper::rt::Write, $type);
    };
}

reads!(TlsStream);
reads!(ReadHalf);
writes!(TlsStream);
writes!(WriteHalf);
