//! An open file as a reader and a writer of the traits: where it stands.

use std::future::ready;
use std::io;

use super::File;
use crate::buf::{Chunk, Error, IoBufMut};
use crate::io::{AsyncRead, into_poll, reads_by_polls, writes_by_own_methods, writes_by_polls};

/// How much of a file with positions makes a chunk, in bytes.
const BYTES_OF_A_CHUNK: usize = 64 << 10;

impl File {
    /// What has come through a file without positions is lent; of others a piece is read.
    async fn read_any_chunk(&self) -> io::Result<Chunk> {
        if self.handle.is_stream() {
            return self.read_chunk().await;
        }
        let (count, bytes) = self.read(Vec::with_capacity(BYTES_OF_A_CHUNK)).await?;
        Ok(Chunk::copied(&bytes[..count]))
    }
}

macro_rules! reads_where_it_stands {
    ($($type:ty),*) => {
        $(impl AsyncRead for $type {
            async fn read<B: IoBufMut>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
                File::read(self, buffer).await
            }

            async fn read_vectored<B: IoBufMut>(
                &mut self,
                buffers: Vec<B>,
            ) -> Result<(usize, Vec<B>), Error<Vec<B>>> {
                File::read_vectored(self, buffers).await
            }

            fn lends_chunks(&self) -> bool {
                self.handle.is_stream()
            }

            async fn read_chunk(&mut self) -> io::Result<Chunk> {
                self.read_any_chunk().await
            }

            async fn read_exact<B: IoBufMut>(&mut self, buffer: B) -> Result<B, Error<B>> {
                File::read_exact(self, buffer).await
            }

            async fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
                File::read_to_end(self, bytes).await
            }

            async fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
                File::read_to_string(self, text).await
            }
        })*
    };
}

reads_where_it_stands!(File, &File);
writes_by_own_methods!([] File, |_file| ready(Ok(())));

reads_by_polls!([] File, Standing);
writes_by_polls!([] File, |_file| Ok(()));
into_poll!([] File, PollStream);
