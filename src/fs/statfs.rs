//! The file system of a file: how large it is, and what of it is free. statfs(2).

use std::fmt;
use std::io;
use std::path::Path;

use crate::blocking::spawn_blocking;
use crate::sys::names::c_path;
use crate::sys::{self, FileSystemStatus, Which};

/// How large a file system is, and what of it is free: of [`statfs`] and
/// [`File::statfs`](super::File::statfs).
#[derive(Clone, Copy)]
pub struct StatFs {
    status: FileSystemStatus,
}

impl StatFs {
    pub(super) fn new(status: FileSystemStatus) -> StatFs {
        StatFs { status }
    }

    /// The number of its type, such as 0xef53 for ext4; statfs(2) has the list.
    pub fn kind(&self) -> u64 {
        // A number of 32 bits, whatever sign the type of the field gives it.
        u64::from(self.status.f_type as u32)
    }

    /// The size of a block, in bytes: the unit of the counts of blocks.
    pub fn block_size(&self) -> u64 {
        match self.status.f_frsize {
            0 => self.status.f_bsize as u64,
            size => size as u64,
        }
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.status.f_blocks
    }

    /// How many of them are free.
    pub fn blocks_free(&self) -> u64 {
        self.status.f_bfree
    }

    /// How many of them a process without privileges gets.
    pub fn blocks_available(&self) -> u64 {
        self.status.f_bavail
    }

    /// How many files it can hold; 0 where it sets no limit.
    pub fn files(&self) -> u64 {
        self.status.f_files
    }

    /// How many more files it can hold.
    pub fn files_free(&self) -> u64 {
        self.status.f_ffree
    }

    /// How long a name may be, in bytes.
    pub fn longest_name(&self) -> u64 {
        self.status.f_namelen as u64
    }

    /// Its size, in bytes.
    pub fn total_space(&self) -> u64 {
        self.blocks().saturating_mul(self.block_size())
    }

    /// What is free of it, in bytes.
    pub fn free_space(&self) -> u64 {
        self.blocks_free().saturating_mul(self.block_size())
    }

    /// What a process without privileges gets of it, in bytes.
    pub fn available_space(&self) -> u64 {
        self.blocks_available().saturating_mul(self.block_size())
    }
}

impl fmt::Debug for StatFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatFs")
            .field("kind", &format_args!("{:#x}", self.kind()))
            .field("total_space", &self.total_space())
            .field("available_space", &self.available_space())
            .finish_non_exhaustive()
    }
}

/// How large the file system is that a path leads to, and what of it is free; statfs(2).
///
/// A thread of the pool of [`spawn_blocking`](crate::spawn_blocking) asks, since the ring has no
/// operation for it. Nothing changes by it, dropped or not.
///
/// ```
/// # annulus::block_on(async {
/// let space = annulus::fs::statfs(".").await?;
/// assert!(space.available_space() <= space.total_space());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// The kernel's; `InvalidInput` for a path with a NUL byte.
pub async fn statfs(path: impl AsRef<Path>) -> io::Result<StatFs> {
    let path = c_path(path.as_ref())?;
    let status = spawn_blocking(move || sys::file_system_status(Which::Named(&path))).await?;
    status.map(StatFs::new)
}
