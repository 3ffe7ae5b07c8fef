//! The traits of readers and writers for TLS streams and their halves: those of this crate, of
//! futures-io, of tokio and of hyper.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use super::stream::{ReadHalf, TlsStream, WriteHalf};
use crate::buf::{Error, IoBuf, IoBufMut};
use crate::io::{reads_for_libraries, writes_for_libraries};

macro_rules! reads {
    ($type:ident) => {
        impl<S> $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            /// Copies what there is to where `put` puts it, at most `room` bytes.
            fn poll_copy(
                &mut self,
                context: &mut Context<'_>,
                room: usize,
                mut put: impl FnMut(&[u8]),
            ) -> Poll<io::Result<usize>> {
                let mut copied = 0;
                if room > 0 {
                    ready!(self.shared.poll_read(context, |bytes| {
                        let count = bytes.len().min(room - copied);
                        put(&bytes[..count]);
                        copied += count;
                        count
                    }))?;
                }
                Poll::Ready(Ok(copied))
            }

            fn poll_read(
                &mut self,
                context: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let mut start = 0;
                self.poll_copy(context, buffer.len(), |bytes| {
                    buffer[start..start + bytes.len()].copy_from_slice(bytes);
                    start += bytes.len();
                })
            }
        }

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

        reads_for_libraries!(
            [S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static] $type<S>
        );
    };
}

macro_rules! writes {
    ($type:ident) => {
        impl<S> $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            fn poll_write(
                &mut self,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, &[IoSlice::new(bytes)])
            }

            fn poll_write_vectored(
                &mut self,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.shared.poll_write(context, slices)
            }

            fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shared.poll_flush(context)
            }

            fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shared.poll_shutdown(context)
            }
        }

        impl<S> crate::io::AsyncWrite for $type<S>
        where
            S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
        {
            async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
                let write = poll_fn(|context| self.poll_write(context, buffer.as_init()));
                match write.await {
                    Ok(count) => Ok((count, buffer)),
                    Err(error) => Err(Error::new(error, buffer)),
                }
            }

            async fn flush(&mut self) -> io::Result<()> {
                poll_fn(|context| self.poll_flush(context)).await
            }

            async fn shutdown(&mut self) -> io::Result<()> {
                poll_fn(|context| self.poll_shutdown(context)).await
            }
        }

        writes_for_libraries!(
            [S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static] $type<S>
        );
    };
}

reads!(TlsStream);
reads!(ReadHalf);
writes!(TlsStream);
writes!(WriteHalf);
