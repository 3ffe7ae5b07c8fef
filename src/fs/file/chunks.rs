//! Reading what comes through a file without positions, in buffers of the runtime.

use super::File;
use crate::inflight::Op;
use crate::op::Chunks;
use crate::op::chunks::{ChunkSource, ReadChunk};

impl File {
    /// The bytes of a pipe, a FIFO, a terminal or a descriptor of events as they come, in buffers
    /// of the runtime, as a stream; see [`Chunks`].
    ///
    /// ```
    /// use std::io::Write;
    /// use annulus::fs::File;
    /// use futures_util::StreamExt;
    ///
    /// # annulus::block_on(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let reader = File::from(std::os::fd::OwnedFd::from(reader));
    /// writer.write_all(b"line\n")?;
    /// let chunk = reader.chunks().next().await.expect("something was written")?;
    /// assert_eq!(&chunk[..], b"line\n");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Its items: the kernel's; `InvalidInput` for a file with positions (also `/dev/null` and
    /// `/dev/zero`), which is read at an offset.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.handle, ChunkSource::File)
    }

    /// Reads what has come through a pipe, a FIFO or a terminal into a buffer of the runtime;
    /// read(2). While it waits it holds none.
    ///
    /// An empty [`Chunk`](crate::buf::Chunk) is the end of the stream. What a dropped one got waits
    /// for the next.
    ///
    /// Yields `io::Result<Chunk>`.
    ///
    /// # Errors
    /// As [`chunks`](File::chunks).
    pub fn read_chunk(&self) -> Op<'_, ReadChunk> {
        ReadChunk::op(&self.handle, ChunkSource::File)
    }
}
