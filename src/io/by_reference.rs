//! References and boxes as readers and writers: they hand everything on.
//!
//! `Rc` does not: with the trait in scope, its methods would hide those of the stream in it.

use std::io;

use futures_util::Stream;

use super::read::AsyncRead;
use super::write::AsyncWrite;
use crate::buf::{Chunk, Error, IoBuf, IoBufMut, IoBufs};

/// The methods of a reader that stands for another, which an expression gives.
macro_rules! hand_on_reads {
    ($self:ident => $reader:expr) => {
        async fn read<B: IoBufMut>(&mut $self, buffer: B) -> Result<(usize, B), Error<B>> {
            $reader.read(buffer).await
        }

        async fn read_vectored<B: IoBufMut>(
            &mut $self,
            buffers: Vec<B>,
        ) -> Result<(usize, Vec<B>), Error<Vec<B>>> {
            $reader.read_vectored(buffers).await
        }

        async fn read_chunk(&mut $self) -> io::Result<Chunk> {
            $reader.read_chunk().await
        }

        async fn read_exact<B: IoBufMut>(&mut $self, buffer: B) -> Result<B, Error<B>> {
            $reader.read_exact(buffer).await
        }

        async fn read_append<B: IoBufMut>(&mut $self, buffer: B) -> Result<(usize, B), Error<B>> {
            $reader.read_append(buffer).await
        }

        async fn read_to_end(&mut $self, bytes: &mut Vec<u8>) -> io::Result<usize> {
            $reader.read_to_end(bytes).await
        }

        async fn read_to_string(&mut $self, text: &mut String) -> io::Result<usize> {
            $reader.read_to_string(text).await
        }
    };
}

/// The methods of a writer that stands for another.
macro_rules! hand_on_writes {
    ($self:ident => $writer:expr) => {
        async fn write<B: IoBuf>(&mut $self, buffer: B) -> Result<(usize, B), Error<B>> {
            $writer.write(buffer).await
        }

        async fn flush(&mut $self) -> io::Result<()> {
            $writer.flush().await
        }

        async fn shutdown(&mut $self) -> io::Result<()> {
            $writer.shutdown().await
        }

        async fn write_vectored<B: IoBufs>(&mut $self, buffers: B) -> Result<(usize, B), Error<B>> {
            $writer.write_vectored(buffers).await
        }

        async fn write_all<B: IoBuf>(&mut $self, buffer: B) -> Result<B, Error<B>> {
            $writer.write_all(buffer).await
        }

        async fn write_all_vectored<B: IoBufs>(&mut $self, buffers: B) -> Result<B, Error<B>> {
            $writer.write_all_vectored(buffers).await
        }
    };
}

impl<R: AsyncRead> AsyncRead for &mut R {
    hand_on_reads!(self => (**self));

    fn lends_chunks(&self) -> bool {
        (**self).lends_chunks()
    }

    fn chunks(&mut self) -> impl Stream<Item = io::Result<Chunk>> {
        (**self).chunks()
    }
}

impl<R: AsyncRead> AsyncRead for Box<R> {
    hand_on_reads!(self => (**self));

    fn lends_chunks(&self) -> bool {
        (**self).lends_chunks()
    }

    fn chunks(&mut self) -> impl Stream<Item = io::Result<Chunk>> {
        (**self).chunks()
    }
}

impl<W: AsyncWrite> AsyncWrite for &mut W {
    hand_on_writes!(self => (**self));
}

impl<W: AsyncWrite> AsyncWrite for Box<W> {
    hand_on_writes!(self => (**self));
}
