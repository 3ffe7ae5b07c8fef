//! An open file: how it comes to be, how it ends, and what it is made from and into.

mod as_io;
mod at;
mod attributes;
mod chunks;
mod extent;
mod lock;
mod read_ahead;
mod sink;
mod standing;
mod stream;
mod whole;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use super::OpenOptions;
use crate::inflight::Resource;
use crate::op::custom::Fd;

pub use extent::{FallocateMode, SyncRangeMode};
pub use lock::TryLockError;
pub use sink::{Durability, FileSink, SinkError};
pub use stream::FileStream;
pub use whole::Advice;

/// An open file. Reads and writes at an offset can be in flight in any number at once; those where
/// [the file stands](File#where-the-file-stands) happen one after the other.
///
/// # Dropping
/// The file is closed when `drop` returns. Dropped operations of it that are in flight are
/// cancelled; where those are made by a worker, it is closed with the end of the last of them. A
/// file of a network or user-space file system, or of a device, is closed by a thread, since that
/// may wait: `drop` does not. [`close`](File::close) waits, and says how that went. A forgotten
/// file (`mem::forget`) keeps its descriptor.
///
/// ```
/// use annulus::fs::File;
///
/// # annulus::block_on(async {
/// let file = File::open("Cargo.toml").await?;
/// let (count, head) = file.read_at(Vec::with_capacity(9), 0).await?;
/// assert_eq!(&head[..count], b"[package]");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct File {
    handle: Resource,
}

impl File {
    pub(super) fn from_handle(handle: Resource) -> File {
        File { handle }
    }

    pub(super) fn handle(&self) -> &Resource {
        &self.handle
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of [`OpenOptions::open`], here and below.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing; it is made if need be and else emptied.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// Makes a file for reading and writing, which must not exist.
    ///
    /// # Errors
    /// As [`open`](File::open).
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).await
    }

    /// Options for opening a file otherwise: [`OpenOptions::new`].
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits until every operation whose future was dropped has ended, and returns how the writes
    /// among them ended, in the order of their ends: the bytes written, or the kernel's error
    /// (`ECANCELED` for one that did nothing).
    ///
    /// At most the latest 1024 results are kept for this call. A sync and a `set_len` count as
    /// writes, of 0 bytes. Reads and operations that somebody awaits are not waited for.
    pub async fn quiesce(&self) -> Vec<io::Result<usize>> {
        self.handle.quiesce().await
    }

    /// Waits for the end of operations whose futures were dropped, then closes the file; close(2).
    /// With [clones](File::try_clone) it is closed with the last of them.
    ///
    /// If the future is dropped the file is closed all the same.
    ///
    /// A worker thread of the kernel that has made a write lets go of the file a moment after the
    /// write has ended, which no call can wait for. So in one of 3,000 rounds (as seen) a program
    /// could not be run yet in the next line (`ETXTBSY`), or a lock was still held: try to run it
    /// again, and unlock with `LOCK_UN`, which works at once.
    ///
    /// # Errors
    /// What earlier writes left to say, on file systems that say it here. The descriptor is closed
    /// even then.
    pub async fn close(self) -> io::Result<()> {
        self.handle.close().await
    }

    /// Another `File` that is the same open file: the position, the turns of operations, and the
    /// descriptor with its number. It is closed with the last of them.
    ///
    /// It costs no descriptor and no system call. To own a descriptor of its own, as another
    /// process or std must, use [`as_fd`](AsFd::as_fd) and [`BorrowedFd::try_clone_to_owned`].
    ///
    /// ```
    /// use annulus::{buf::IoBuf, fs::File};
    ///
    /// # annulus::block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// let clone = file.try_clone()?;
    /// file.read_exact(vec![0; 9].slice(..)).await?;
    /// assert_eq!(clone.stream_position().await?, 9);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// None today; the signature is that of std.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File { handle: self.handle.share() })
    }

    /// Waits for the end of operations whose futures were dropped, and gives std what this is, with
    /// the position where this [stands](File#where-the-file-stands).
    ///
    /// If there are [clones](File::try_clone) it duplicates the descriptor, and where none is to be
    /// had (`EMFILE`) it waits until they have gone.
    pub async fn into_std(self) -> std::fs::File {
        if self.handle.is_left_to_others().await {
            self.handle.give_position_back();
            if let Ok(duplicate) = self.as_fd().try_clone_to_owned() {
                return duplicate.into();
            }
        }
        OwnedFd::from(self.handle.into_descriptor().await).into()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::from(OwnedFd::from(file))
    }
}

impl From<OwnedFd> for File {
    fn from(descriptor: OwnedFd) -> File {
        File { handle: Resource::of_file(descriptor.into()) }
    }
}

impl From<&File> for Fd {
    fn from(file: &File) -> Fd {
        Fd::of(&file.handle)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}
