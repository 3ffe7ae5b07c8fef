//! Reading and writing an open file where it stands, and moving that place.

use std::io::{self, SeekFrom};
use std::mem;
use std::os::fd::AsFd;

use super::File;
use crate::buf::{Error, IoBuf, IoBufMut, IoBufs, Slice};
use crate::fs::content::text_of;
use crate::inflight::Op;
use crate::op::file::{ReadAt, ReadExactAt, WriteAllAt, WriteAt};
use crate::op::path::Statx;
use crate::op::place::Standing;
use crate::op::read_to_end::ReadToEnd;
use crate::op::vectored::{ReadVectoredAt, WriteAllVectoredAt, WriteVectoredAt};
use crate::ring::FileKind;
use crate::sys::Whence;

/// # Where the file stands
/// The methods of this section move a position. A file with positions has it here: it starts where
/// the descriptor stood, and the descriptor gets it back when the file is dropped, closed or turned
/// into one of std. All of them take turns, so they happen one after the other. A pipe, a FIFO or a
/// terminal has no positions, and its reads and writes follow the order of its bytes.
impl File {
    /// Reads from where the file stands, and returns the count and the buffer; read(2).
    ///
    /// The read starts at the buffer's beginning, may use its whole capacity, and sets the length
    /// to what it read. 0 is the end of the file. It may read less than fits.
    ///
    /// A dropped read loses nothing: the position has not moved, and of a file without positions
    /// the next read gets the bytes.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// ```
    /// use annulus::{buf::IoBuf, fs::File};
    ///
    /// # annulus::block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// let head = file.read_exact(vec![0; 9].slice(..)).await?;
    /// assert_eq!(&head[..], b"[package]");
    /// let mut rest = Vec::new();
    /// let count = file.read_to_end(&mut rest).await?;
    /// assert_eq!(file.stream_position().await?, 9 + count as u64);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's, with the buffer, such as `IsADirectory`; `InvalidInput` for a buffer without
    /// room.
    pub fn read<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReadAt<B, Standing>> {
        ReadAt::op(&self.handle, buffer, Standing)
    }

    /// Reads behind the bytes that the buffer holds, and returns the count and the buffer.
    ///
    /// If the future is dropped the buffer goes with it, and what it held before; the position has
    /// not moved.
    ///
    /// # Errors
    /// As [`read`](File::read): a full buffer has no room.
    pub async fn read_append<B: IoBufMut>(&self, buffer: B) -> Result<(usize, B), Error<B>> {
        match self.read(buffer.spare()).await {
            Ok((count, slice)) => Ok((count, slice.into_inner())),
            Err(error) => Err(error.map(Slice::into_inner)),
        }
    }

    /// Reads from where the file stands until the buffer's whole capacity is full, and returns it.
    ///
    /// The capacity of a `Vec` may be larger than was asked for: [`slice(..n)`](IoBuf::slice) reads
    /// exactly `n` bytes. Dropping it is as with [`read`](File::read): none of its parts has moved
    /// the position.
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the file, else the kernel's. The buffer that the error carries
    /// holds what was read until then, [`transferred`](Error::transferred) counts it, and the file
    /// stands behind it.
    pub fn read_exact<B: IoBufMut>(&self, buffer: B) -> Op<'_, ReadExactAt<B, Standing>> {
        ReadExactAt::op(&self.handle, buffer, Standing)
    }

    /// Reads from where the file stands to its end, appends all of it to `bytes`, and returns how
    /// much that was.
    ///
    /// It asks for the file's size once, and grows the vector where that is not enough. A file that
    /// grows meanwhile is read as far as it has come; `/proc`, whose files have no size, as well.
    /// What is in the vector before costs a copy: an empty one is best.
    ///
    /// If the future is dropped, `bytes` holds what it held, and nothing is lost: the position has
    /// not moved, and of a file without positions the next read gets the bytes.
    ///
    /// # Errors
    /// The kernel's, and `OutOfMemory`. What was read until then is in `bytes`, and the file stands
    /// behind it.
    pub async fn read_to_end(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let room = if bytes.is_empty() { mem::take(bytes) } else { Vec::new() };
        let (read, outcome) = match ReadToEnd::op(&self.handle, room, Standing).await {
            Ok((count, read)) => (read, Ok(count)),
            Err(error) => {
                let (error, read) = error.into_parts();
                (read, Err(error))
            }
        };
        if bytes.is_empty() {
            *bytes = read;
        } else {
            bytes.extend_from_slice(&read);
        }
        outcome
    }

    /// Reads UTF-8 text from where the file stands to its end, appends all of it to `text`, and
    /// returns how many bytes that were.
    ///
    /// Dropping it is as with [`read_to_end`](File::read_to_end).
    ///
    /// # Errors
    /// As [`read_to_end`](File::read_to_end); `InvalidData` if it is not UTF-8. Then `text` is as
    /// it was; the file stands behind what was read.
    pub async fn read_to_string(&self, text: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let count = self.read_to_end(&mut bytes).await?;
        let read = text_of(bytes)?;
        if text.is_empty() {
            *text = read;
        } else {
            text.push_str(&read);
        }
        Ok(count)
    }

    /// Reads from where the file stands into several buffers, one after the other; readv(2).
    /// Buffers that nothing was read into keep their length.
    ///
    /// At most 1024 buffers take part, as after a short read. It allocates for the list of
    /// addresses. Dropping it is as with [`read`](File::read).
    ///
    /// Yields `Result<(usize, Vec<B>), Error<Vec<B>>>`.
    ///
    /// # Errors
    /// As [`read`](File::read).
    pub fn read_vectored<B: IoBufMut>(
        &self,
        buffers: Vec<B>,
    ) -> Op<'_, ReadVectoredAt<B, Standing>> {
        ReadVectoredAt::op(&self.handle, buffers, Standing)
    }

    /// Writes where the file stands, or at the end of one opened with
    /// [`append`](super::OpenOptions::append), and returns the count and the buffer; write(2). It
    /// may write less than the buffer holds.
    ///
    /// A dropped write may happen all the same, wholly or in part. It never lands after a later
    /// one, and the position counts what it has written. [`quiesce`](File::quiesce) tells how much
    /// that was.
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// The kernel's, with the buffer.
    pub fn write<B: IoBuf>(&self, buffer: B) -> Op<'_, WriteAt<B, Standing>> {
        WriteAt::op(&self.handle, buffer, Standing)
    }

    /// Writes all of the buffer where the file stands, or at the end of one that appends, and
    /// returns it. Dropping it is as with [`write`](File::write).
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// As [`write`](File::write); [`transferred`](Error::transferred) says how much was written
    /// before, and the file stands behind that.
    pub fn write_all<B: IoBuf>(&self, buffer: B) -> Op<'_, WriteAllAt<B, Standing>> {
        WriteAllAt::op(&self.handle, buffer, Standing)
    }

    /// Writes several buffers where the file stands, one after the other; writev(2). It may write
    /// less than they hold, and at most 1024 take part.
    ///
    /// They come as a vector, an array, or a tuple of different ones. Dropping it is as with
    /// [`write`](File::write).
    ///
    /// Yields `Result<(usize, B), Error<B>>`.
    ///
    /// # Errors
    /// As [`write`](File::write).
    pub fn write_vectored<B: IoBufs>(&self, buffers: B) -> Op<'_, WriteVectoredAt<B, Standing>> {
        WriteVectoredAt::op(&self.handle, buffers, Standing)
    }

    /// Writes all of several buffers where the file stands, one after the other, and returns them:
    /// as [`write_all`](File::write_all) would if they were one.
    ///
    /// They come as a vector, an array, or a tuple of different ones, in any number. It allocates
    /// for the list of addresses.
    ///
    /// Yields `Result<B, Error<B>>`.
    ///
    /// # Errors
    /// As [`write_all`](File::write_all).
    pub fn write_all_vectored<B: IoBufs>(
        &self,
        buffers: B,
    ) -> Op<'_, WriteAllVectoredAt<B, Standing>> {
        WriteAllVectoredAt::op(&self.handle, buffers, Standing)
    }

    /// Makes the file stand elsewhere, and returns where that is, in bytes from the start;
    /// lseek(2). It may be behind the end.
    ///
    /// It waits for its turn behind other reads and writes where the file stands, dropped writes
    /// among them. It is a system call that does not wait; only the size of a file of a network or
    /// user-space file system is asked for by the ring, for [`SeekFrom::End`]. A dropped one has
    /// moved nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a negative position, or one that the file cannot have; `ESPIPE` for a
    /// file without positions.
    pub async fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        let _turn = self.handle.turn_at_position().await;
        let out_of_range = || io::Error::from_raw_os_error(libc::EINVAL);
        let at = self.handle.stream_position()?;
        match to {
            SeekFrom::Current(0) => Ok(at),
            SeekFrom::Current(offset) => {
                let to = at.checked_add_signed(offset).ok_or_else(out_of_range)?;
                self.stand_at(to)
            }
            SeekFrom::Start(to) => self.stand_at(to),
            SeekFrom::End(offset) => match FileKind::of(self.handle.as_fd()) {
                FileKind::Fuse | FileKind::Remote => {
                    let size = Statx::of_file(&self.handle).await?.stx_size;
                    self.stand_at(size.checked_add_signed(offset).ok_or_else(out_of_range)?)
                }
                _ => self.handle.stand_at(offset, Whence::End),
            },
        }
    }

    fn stand_at(&self, position: u64) -> io::Result<u64> {
        let offset =
            i64::try_from(position).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.handle.stand_at(offset, Whence::Start)
    }

    /// Where the file stands, in bytes from the start. Waits as [`seek`](File::seek) does.
    ///
    /// # Errors
    /// `ESPIPE` for a file without positions.
    pub async fn stream_position(&self) -> io::Result<u64> {
        let _turn = self.handle.turn_at_position().await;
        self.handle.stream_position()
    }

    /// Makes the file stand at its start. Waits as [`seek`](File::seek) does.
    ///
    /// # Errors
    /// `ESPIPE` for a file without positions.
    pub async fn rewind(&self) -> io::Result<()> {
        self.seek(SeekFrom::Start(0)).await.map(drop)
    }
}
