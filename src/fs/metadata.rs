//! The metadata of a file, as statx(2) tells it.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use super::file_type::FileType;
use crate::op::path::Status;
use crate::sys::names::Permissions;

/// What a file is, how large, whose, and when it changed. The fields are those of statx(2).
#[derive(Clone)]
pub struct Metadata {
    status: Box<Status>,
}

impl Metadata {
    pub(super) fn new(status: Box<Status>) -> Metadata {
        Metadata { status }
    }

    /// The size in bytes.
    // A file that is empty is not a collection that is empty.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.status.stx_size
    }

    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Is it a symbolic link?
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// What kind of file it is.
    pub fn file_type(&self) -> FileType {
        FileType::of_mode(self.mode())
    }

    /// What it may be used for, as std has it.
    pub fn permissions(&self) -> Permissions {
        Permissions::from_mode(self.mode())
    }

    fn kind(&self) -> libc::mode_t {
        self.mode() & libc::S_IFMT
    }

    /// Type and permissions, as in stat(2).
    pub fn mode(&self) -> u32 {
        u32::from(self.status.stx_mode)
    }

    /// The device that holds it, as in stat(2).
    pub fn dev(&self) -> u64 {
        libc::makedev(self.status.stx_dev_major, self.status.stx_dev_minor)
    }

    /// The inode number.
    pub fn ino(&self) -> u64 {
        self.status.stx_ino
    }

    /// The device that it is, if it is one.
    pub fn rdev(&self) -> u64 {
        libc::makedev(self.status.stx_rdev_major, self.status.stx_rdev_minor)
    }

    /// How many names it has.
    pub fn nlink(&self) -> u64 {
        u64::from(self.status.stx_nlink)
    }

    /// Its owner.
    pub fn uid(&self) -> u32 {
        self.status.stx_uid
    }

    /// Its group.
    pub fn gid(&self) -> u32 {
        self.status.stx_gid
    }

    /// The block size for efficient input and output, in bytes.
    pub fn blksize(&self) -> u64 {
        u64::from(self.status.stx_blksize)
    }

    /// What it takes up, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.status.stx_blocks
    }

    /// When it was last read: seconds since the epoch, with [`atime_nsec`](Metadata::atime_nsec)
    /// behind them.
    pub fn atime(&self) -> i64 {
        self.status.stx_atime.tv_sec
    }

    /// The nanoseconds of [`atime`](Metadata::atime).
    pub fn atime_nsec(&self) -> i64 {
        i64::from(self.status.stx_atime.tv_nsec)
    }

    /// When its content last changed: seconds since the epoch, with
    /// [`mtime_nsec`](Metadata::mtime_nsec) behind them.
    pub fn mtime(&self) -> i64 {
        self.status.stx_mtime.tv_sec
    }

    /// The nanoseconds of [`mtime`](Metadata::mtime).
    pub fn mtime_nsec(&self) -> i64 {
        i64::from(self.status.stx_mtime.tv_nsec)
    }

    /// When its content or its metadata last changed: seconds since the epoch, with
    /// [`ctime_nsec`](Metadata::ctime_nsec) behind them.
    pub fn ctime(&self) -> i64 {
        self.status.stx_ctime.tv_sec
    }

    /// The nanoseconds of [`ctime`](Metadata::ctime).
    pub fn ctime_nsec(&self) -> i64 {
        i64::from(self.status.stx_ctime.tv_nsec)
    }

    /// When its content last changed.
    ///
    /// # Errors
    /// `Unsupported` where the file system does not say, here and below.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.time(libc::STATX_MTIME, self.status.stx_mtime)
    }

    /// When it was last read, as far as the file system keeps that.
    ///
    /// # Errors
    /// As [`modified`](Metadata::modified).
    pub fn accessed(&self) -> io::Result<SystemTime> {
        self.time(libc::STATX_ATIME, self.status.stx_atime)
    }

    /// When it was made.
    ///
    /// # Errors
    /// As [`modified`](Metadata::modified).
    pub fn created(&self) -> io::Result<SystemTime> {
        self.time(libc::STATX_BTIME, self.status.stx_btime)
    }

    fn time(&self, field: libc::c_uint, time: libc::statx_timestamp) -> io::Result<SystemTime> {
        let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
        let whole = match time.tv_sec {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        whole
            .and_then(|whole| whole.checked_add(Duration::from_nanos(u64::from(time.tv_nsec))))
            .filter(|_| self.status.stx_mask & field != 0)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the file system does not keep this time",
                )
            })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("mode", &format_args!("{:o}", self.mode()))
            .field("len", &self.len())
            .field("modified", &self.modified().ok())
            .finish_non_exhaustive()
    }
}
