//! The traits for types that have all of their methods already, with `&self`: written once.
//!
//! Streams, halves and pipes have operations for each method. The macros implement the traits for
//! such a type and for its references.

/// `reads_by_own_methods!([S: Stream] ReadHalf<S>)`: a type with `read`, `read_vectored`,
/// `read_chunk`, `read_exact` and `chunks` of its own becomes an `AsyncRead`.
macro_rules! reads_by_own_methods {
    ([$($parameters:tt)*] $type:ty) => {
        $crate::io::reads_by_own_methods!(@one [$($parameters)*] $type, $type);
        $crate::io::reads_by_own_methods!(@one [$($parameters)*] &$type, $type);
    };
    (@one [$($parameters:tt)*] $for:ty, $type:ty) => {
        impl<$($parameters)*> $crate::io::AsyncRead for $for {
            async fn read<B: $crate::buf::IoBufMut>(
                &mut self,
                buffer: B,
            ) -> Result<(usize, B), $crate::buf::Error<B>> {
                <$type>::read(self, buffer).await
            }

            async fn read_vectored<B: $crate::buf::IoBufMut>(
                &mut self,
                buffers: Vec<B>,
            ) -> Result<(usize, Vec<B>), $crate::buf::Error<Vec<B>>> {
                <$type>::read_vectored(self, buffers).await
            }

            fn lends_chunks(&self) -> bool {
                true
            }

            async fn read_chunk(&mut self) -> std::io::Result<$crate::buf::Chunk> {
                <$type>::read_chunk(self).await
            }

            fn chunks(
                &mut self,
            ) -> impl futures_util::Stream<Item = std::io::Result<$crate::buf::Chunk>> {
                <$type>::chunks(self)
            }

            async fn read_exact<B: $crate::buf::IoBufMut>(
                &mut self,
                buffer: B,
            ) -> Result<B, $crate::buf::Error<B>> {
                <$type>::read_exact(self, buffer).await
            }
        }
    };
}

/// `writes_by_own_methods!([] TcpStream, |stream| stream.shutdown(Shutdown::Write))`: a type with
/// `write`, `write_all`, `write_vectored` and `write_all_vectored` of its own, which keeps no bytes
/// back, becomes an `AsyncWrite`. The expression ends its writing direction.
macro_rules! writes_by_own_methods {
    ([$($parameters:tt)*] $type:ty, |$stream:ident| $shutdown:expr) => {
        $crate::io::writes_by_own_methods!(@one [$($parameters)*] $type, $type, $stream, $shutdown);
        $crate::io::writes_by_own_methods!(@one [$($parameters)*] &$type, $type, $stream, $shutdown);
    };
    (@one [$($parameters:tt)*] $for:ty, $type:ty, $stream:ident, $shutdown:expr) => {
        impl<$($parameters)*> $crate::io::AsyncWrite for $for {
            async fn write<B: $crate::buf::IoBuf>(
                &mut self,
                buffer: B,
            ) -> Result<(usize, B), $crate::buf::Error<B>> {
                <$type>::write(self, buffer).await
            }

            async fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }

            async fn shutdown(&mut self) -> std::io::Result<()> {
                let $stream: &$type = self;
                $shutdown.await
            }

            async fn write_vectored<B: $crate::buf::IoBufs>(
                &mut self,
                buffers: B,
            ) -> Result<(usize, B), $crate::buf::Error<B>> {
                <$type>::write_vectored(self, buffers).await
            }

            async fn write_all<B: $crate::buf::IoBuf>(
                &mut self,
                buffer: B,
            ) -> Result<B, $crate::buf::Error<B>> {
                <$type>::write_all(self, buffer).await
            }

            async fn write_all_vectored<B: $crate::buf::IoBufs>(
                &mut self,
                buffers: B,
            ) -> Result<B, $crate::buf::Error<B>> {
                <$type>::write_all_vectored(self, buffers).await
            }
        }
    };
}

pub(crate) use {reads_by_own_methods, writes_by_own_methods};
