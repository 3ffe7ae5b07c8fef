//! The traits of other crates, for whatever has the methods of the core: each is translated once.
//!
//! A type needs `poll_read`, `poll_copy`, `poll_fill_buf` and `consume` to be a reader, and
//! `poll_write`, `poll_write_vectored`, `poll_flush` and `poll_shutdown` to be a writer.

/// `reads_for_libraries!([S: PollRead] PollReader<S>)`: a reader by the traits whose features are
/// on.
macro_rules! reads_for_libraries {
    ([$($parameters:tt)*] $type:ty) => {
        #[cfg(feature = "futures-io")]
        impl<$($parameters)*> futures_io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.get_mut().poll_read(context, buffer)
            }
        }

        #[cfg(feature = "tokio-io")]
        impl<$($parameters)*> tokio::io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let room = buffer.remaining();
                self.get_mut().poll_copy(context, room, |bytes| buffer.put_slice(bytes)).map_ok(drop)
            }
        }

        #[cfg(feature = "hyper")]
        impl<$($parameters)*> hyper::rt::Read for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                mut buffer: hyper::rt::ReadBufCursor<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let room = buffer.remaining();
                self.get_mut().poll_copy(context, room, |bytes| buffer.put_slice(bytes)).map_ok(drop)
            }
        }
    };
}

/// `lends_for_libraries!([S: PollRead] PollReader<S>)`: likewise one that lends what it has read.
macro_rules! lends_for_libraries {
    ([$($parameters:tt)*] $type:ty) => {
        #[cfg(feature = "futures-io")]
        $crate::io::lends_for_libraries!(@one [$($parameters)*] $type, futures_io::AsyncBufRead);
        #[cfg(feature = "tokio-io")]
        $crate::io::lends_for_libraries!(@one [$($parameters)*] $type, tokio::io::AsyncBufRead);
    };
    (@one [$($parameters:tt)*] $type:ty, $trait:path) => {
        impl<$($parameters)*> $trait for $type {
            fn poll_fill_buf(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<&[u8]>> {
                self.get_mut().poll_fill_buf(context)
            }

            fn consume(self: std::pin::Pin<&mut Self>, count: usize) {
                self.get_mut().consume(count);
            }
        }
    };
}

/// `writes_for_libraries!([S: PollWrite] PollWriter<S>)`: likewise a writer. Vectored writes are
/// as good as others, which futures-io has no word for.
macro_rules! writes_for_libraries {
    ([$($parameters:tt)*] $type:ty) => {
        #[cfg(feature = "futures-io")]
        $crate::io::writes_for_libraries!(
            @one [$($parameters)*] $type, futures_io::AsyncWrite, poll_close
        );
        #[cfg(feature = "tokio-io")]
        $crate::io::writes_for_libraries!(
            @one [$($parameters)*] $type, tokio::io::AsyncWrite, poll_shutdown, is_write_vectored
        );
        #[cfg(feature = "hyper")]
        $crate::io::writes_for_libraries!(
            @one [$($parameters)*] $type, hyper::rt::Write, poll_shutdown, is_write_vectored
        );
    };
    (@one [$($parameters:tt)*] $type:ty, $trait:path, $end:ident $(, $is_vectored:ident)?) => {
        impl<$($parameters)*> $trait for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.get_mut().poll_write(context, bytes)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.get_mut().poll_write_vectored(context, slices)
            }

            $(fn $is_vectored(&self) -> bool {
                true
            })?

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.get_mut().poll_flush(context)
            }

            fn $end(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.get_mut().poll_shutdown(context)
            }
        }
    };
}

pub(crate) use {lends_for_libraries, reads_for_libraries, writes_for_libraries};
