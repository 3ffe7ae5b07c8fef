//! Two readers, one after the other.

use std::io;

use super::read::{AsyncRead, no_room};
use crate::buf::{Chunk, Error, IoBufMut};

/// The reader of [`AsyncRead::chain`].
#[derive(Debug)]
pub struct Chain<A, B> {
    first: A,
    second: B,
    first_has_ended: bool,
}

impl<A, B> Chain<A, B> {
    pub(super) fn new(first: A, second: B) -> Chain<A, B> {
        Chain { first, second, first_has_ended: false }
    }

    /// Both readers, to look at.
    pub fn get_ref(&self) -> (&A, &B) {
        (&self.first, &self.second)
    }

    /// Both readers.
    pub fn get_mut(&mut self) -> (&mut A, &mut B) {
        (&mut self.first, &mut self.second)
    }

    /// Both readers.
    pub fn into_inner(self) -> (A, B) {
        (self.first, self.second)
    }
}

impl<A: AsyncRead, B: AsyncRead> AsyncRead for Chain<A, B> {
    async fn read<T: IoBufMut>(&mut self, mut buffer: T) -> Result<(usize, T), Error<T>> {
        if buffer.capacity() == 0 {
            return Err(Error::new(no_room(), buffer));
        }
        if !self.first_has_ended {
            let count;
            (count, buffer) = self.first.read(buffer).await?;
            if count > 0 {
                return Ok((count, buffer));
            }
            self.first_has_ended = true;
        }
        self.second.read(buffer).await
    }

    fn lends_chunks(&self) -> bool {
        if self.first_has_ended { self.second.lends_chunks() } else { self.first.lends_chunks() }
    }

    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        if !self.first_has_ended {
            let chunk = self.first.read_chunk().await?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            self.first_has_ended = true;
        }
        self.second.read_chunk().await
    }
}
