//! The extents of an open file: its blocks on the disk, what of it is written back, and copies of
//! parts.

use std::io;
use std::os::fd::AsFd;

use super::File;
use crate::blocking::spawn_blocking;
use crate::inflight::Op;
use crate::op::extent::{Fallocate, SyncRange};
use crate::sys;

/// What [`File::fallocate`] does with a part of a file; fallocate(2).
///
/// Not every file system has all of these: `EOPNOTSUPP` says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallocateMode {
    /// Sets blocks aside, so that later writes there find room. The file grows if it ends before,
    /// and reads as zeroes there.
    Allocate,
    /// The same, and the file keeps its length.
    KeepSize,
    /// Gives the blocks back. The part reads as zeroes, and the file keeps its length.
    PunchHole,
    /// Makes the part read as zeroes, with blocks set aside. The file grows if it ends before.
    ZeroRange,
    /// The same, and the file keeps its length.
    ZeroRangeKeepSize,
    /// Takes the part out: what is behind it moves down. The part ends before the file does, and
    /// both its ends lie on blocks of the file system.
    CollapseRange,
    /// Puts zeroes in between: what is there moves up. Otherwise as for `CollapseRange`.
    InsertRange,
    /// Gives the file blocks of its own, where it shares them with a copy.
    UnshareRange,
}

impl FallocateMode {
    fn bits(self) -> i32 {
        match self {
            FallocateMode::Allocate => 0,
            FallocateMode::KeepSize => libc::FALLOC_FL_KEEP_SIZE,
            FallocateMode::PunchHole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            FallocateMode::ZeroRange => libc::FALLOC_FL_ZERO_RANGE,
            FallocateMode::ZeroRangeKeepSize => {
                libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE
            }
            FallocateMode::CollapseRange => libc::FALLOC_FL_COLLAPSE_RANGE,
            FallocateMode::InsertRange => libc::FALLOC_FL_INSERT_RANGE,
            FallocateMode::UnshareRange => libc::FALLOC_FL_UNSHARE_RANGE,
        }
    }
}

/// What [`File::sync_range`] does; sync_file_range(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncRangeMode {
    /// Begins to write back what is not under way yet, and does not wait for its end.
    Start,
    /// Writes all of it back, and waits for the end.
    Wait,
}

impl SyncRangeMode {
    fn bits(self) -> u32 {
        match self {
            SyncRangeMode::Start => libc::SYNC_FILE_RANGE_WRITE,
            SyncRangeMode::Wait => {
                libc::SYNC_FILE_RANGE_WAIT_BEFORE
                    | libc::SYNC_FILE_RANGE_WRITE
                    | libc::SYNC_FILE_RANGE_WAIT_AFTER
            }
        }
    }
}

impl File {
    /// Gives, takes or moves the blocks of a part of the file, in bytes; fallocate(2). A worker
    /// thread of the kernel does it.
    ///
    /// It waits for dropped writes. If it is dropped itself it may happen all the same, but not
    /// after a later write of this `File`.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// ```
    /// use annulus::fs::{FallocateMode, File};
    ///
    /// # annulus::block_on(async {
    /// # let path = std::env::temp_dir().join(format!("annulus-fallocate-{}", std::process::id()));
    /// let file = File::create(&path).await?;
    /// file.fallocate(FallocateMode::Allocate, 0, 1 << 16).await?;
    /// assert_eq!(file.metadata().await?.len(), 1 << 16);
    /// # annulus::fs::remove_file(&path).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's: `StorageFull`, `EOPNOTSUPP` of a file system without this mode; `InvalidInput`
    /// for a length of 0 and for numbers over `i64::MAX`.
    pub fn fallocate(&self, mode: FallocateMode, offset: u64, length: u64) -> Op<'_, Fallocate> {
        Fallocate::op(&self.handle, mode.bits(), offset, length)
    }

    /// Writes a part of the file back to its device, without metadata; sync_file_range(2). A length
    /// of 0 means: to the end of the file. A worker thread of the kernel does it.
    ///
    /// It makes nothing durable, since it forgets what is needed to find the bytes, and the
    /// device's cache: [`sync_data`](File::sync_data) does that, and has less to do after this.
    /// Dropping it is as with `sync_data`.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's, such as `ESPIPE` for a pipe; `InvalidInput` for an offset over `i64::MAX`.
    pub fn sync_range(&self, offset: u64, length: u32, mode: SyncRangeMode) -> Op<'_, SyncRange> {
        SyncRange::op(&self.handle, offset, length, mode.bits())
    }

    /// Copies a part of this file to another, and returns how many bytes that were;
    /// copy_file_range(2). The kernel copies by itself, or lets the files share the blocks.
    ///
    /// A count below `length` is the end of this file, or an error that the next call tells. The
    /// ring has no operation for it, so a thread of the pool of
    /// [`spawn_blocking`](crate::spawn_blocking) makes it, with duplicates of the descriptors. If
    /// the future is dropped the copy goes on to its end, unless it has not begun, and later writes
    /// do not wait for it.
    ///
    /// # Errors
    /// The kernel's: `EXDEV` or `EOPNOTSUPP` for files of two file systems that cannot do it,
    /// `EINVAL` for parts of one file that overlap; `EMFILE`.
    pub async fn copy_range(
        &self,
        offset: u64,
        to: &File,
        to_offset: u64,
        length: u64,
    ) -> io::Result<u64> {
        let from = sys::duplicate(self.as_fd())?;
        let to = sys::duplicate(to.as_fd())?;
        let copy = move || sys::copy_range((from.as_fd(), offset), (to.as_fd(), to_offset), length);
        spawn_blocking(copy).await?
    }

    /// Makes the content of this file that of another, whose blocks both share until one of them
    /// writes there: a reflink; ioctl_ficlone(2).
    ///
    /// A thread of the pool makes it, as for [`copy_range`](File::copy_range).
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the file system cannot do it (Btrfs, XFS and bcachefs can),
    /// `EXDEV` for files of two file systems; `EMFILE`.
    pub async fn reflink_from(&self, source: &File) -> io::Result<()> {
        let (from, to) = (sys::duplicate(source.as_fd())?, sys::duplicate(self.as_fd())?);
        spawn_blocking(move || sys::share_blocks(from.as_fd(), to.as_fd())).await?
    }
}
