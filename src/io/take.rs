//! A reader that ends early: after as many bytes as it was told.

use std::io;

use super::read::{AsyncRead, no_room};
use crate::buf::{Chunk, Error, IoBufMut, Slice};

/// The reader of [`AsyncRead::take`].
///
/// It never takes more from the reader beneath than it gives, except in chunks: what a chunk holds
/// beyond the limit is kept here, and [`into_inner`](Take::into_inner) drops it.
#[derive(Debug)]
pub struct Take<R> {
    reader: R,
    limit: u64,
    /// Read in a chunk, and beyond the limit.
    beyond: Option<Chunk>,
}

impl<R> Take<R> {
    pub(super) fn new(reader: R, limit: u64) -> Take<R> {
        Take { reader, limit, beyond: None }
    }

    /// How many bytes it still gives, if the reader beneath has them.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets how many bytes it gives from now on.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The reader beneath, to look at.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The reader beneath. What is read from it does not count.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The reader beneath.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// So many bytes of a chunk as the limit allows; the rest stays here.
    fn cut(&mut self, mut chunk: Chunk) -> Chunk {
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if chunk.len() > most {
            self.beyond = Some(chunk.split_off(most));
        }
        self.limit -= chunk.len() as u64;
        chunk
    }
}

impl<R: AsyncRead> AsyncRead for Take<R> {
    async fn read<B: IoBufMut>(&mut self, mut buffer: B) -> Result<(usize, B), Error<B>> {
        if buffer.capacity() == 0 {
            return Err(Error::new(no_room(), buffer));
        }
        if self.limit == 0 {
            return Ok((buffer.put(&[]), buffer));
        }
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX).min(buffer.capacity());
        if let Some(mut chunk) = self.beyond.take() {
            let count = buffer.put(&chunk[..most.min(chunk.len())]);
            chunk.advance(count);
            self.beyond = (!chunk.is_empty()).then_some(chunk);
            self.limit -= count as u64;
            return Ok((count, buffer));
        }
        match self.reader.read(buffer.slice(..most)).await {
            Ok((count, part)) => {
                self.limit -= count as u64;
                Ok((count, part.into_inner()))
            }
            Err(error) => Err(error.map(Slice::into_inner)),
        }
    }

    fn lends_chunks(&self) -> bool {
        self.reader.lends_chunks()
    }

    async fn read_chunk(&mut self) -> io::Result<Chunk> {
        if self.limit == 0 {
            return Ok(Chunk::default());
        }
        let chunk = match self.beyond.take() {
            Some(chunk) => chunk,
            None => self.reader.read_chunk().await?,
        };
        Ok(self.cut(chunk))
    }
}
