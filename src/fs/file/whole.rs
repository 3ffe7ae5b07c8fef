//! Calls on an open file as a whole: sync, length, advice, metadata.

use std::io;
use std::os::fd::AsFd;

use super::File;
use crate::fs::Metadata;
use crate::inflight::Op;
use crate::op::file::{Advise, Fsync, Truncate};
use crate::op::path::Statx;
use crate::ring::FileKind;
use crate::sys;

/// How a part of a file will be used, for [`File::advise`]; posix_fadvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing is known of it: what holds for a file without advice (`POSIX_FADV_NORMAL`).
    Normal,
    /// From lower offsets to higher ones: the kernel reads further ahead (`POSIX_FADV_SEQUENTIAL`).
    Sequential,
    /// In no order: the kernel does not read ahead (`POSIX_FADV_RANDOM`).
    Random,
    /// Once only (`POSIX_FADV_NOREUSE`).
    NoReuse,
    /// Soon: the kernel begins to read it (`POSIX_FADV_WILLNEED`).
    WillNeed,
    /// Not soon: the kernel lets go of whole pages that it has cached (`POSIX_FADV_DONTNEED`).
    DontNeed,
}

impl Advice {
    fn code(self) -> i32 {
        match self {
            Advice::Normal => libc::POSIX_FADV_NORMAL,
            Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Advice::Random => libc::POSIX_FADV_RANDOM,
            Advice::NoReuse => libc::POSIX_FADV_NOREUSE,
            Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
            Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
        }
    }
}

impl File {
    /// Brings content and metadata to the device; fsync(2). It covers writes that have ended, not
    /// those in flight. For dropped writes it waits. If it is dropped itself it may happen all the
    /// same.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's, for example of an earlier write that only now came to the device.
    pub fn sync_all(&self) -> Op<'_, Fsync> {
        Fsync::op(&self.handle, false)
    }

    /// Brings the content to the device, and only the metadata that is needed to find it;
    /// fdatasync(2).
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// As [`sync_all`](File::sync_all).
    pub fn sync_data(&self) -> Op<'_, Fsync> {
        Fsync::op(&self.handle, true)
    }

    /// Makes the file `length` bytes long, cutting it off or filling up with zeroes; ftruncate(2).
    /// Before Linux 6.9 it takes the [software path](crate::docs::software_ring).
    ///
    /// It waits for dropped writes. If it is dropped itself it may happen all the same, but not
    /// after a later write of this `File`.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// # Errors
    /// The kernel's; `InvalidInput` for a length over `i64::MAX`.
    pub fn set_len(&self, length: u64) -> Op<'_, Truncate> {
        Truncate::op(&self.handle, length)
    }

    /// Tells the kernel how a part of the file will be used, so that it reads ahead, or lets go of
    /// what it has cached; posix_fadvise(2). `len` 0 means: to the end of the file. Nothing that is
    /// read or written changes by it.
    ///
    /// It waits for nothing that is in flight, so pages that are not written yet stay in the cache:
    /// [`sync_data`](File::sync_data) comes before [`Advice::DontNeed`]. If it is dropped it may
    /// happen all the same.
    ///
    /// Yields `io::Result<()>`.
    ///
    /// ```
    /// use annulus::fs::{Advice, File};
    ///
    /// # annulus::block_on(async {
    /// let file = File::open("Cargo.toml").await?;
    /// file.advise(0, 0, Advice::WillNeed).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The kernel's, such as `ESPIPE` for a pipe; `InvalidInput` for an offset over `i64::MAX`.
    pub fn advise(&self, offset: u64, len: u32, advice: Advice) -> Op<'_, Advise> {
        Advise::op(&self.handle, offset, len, advice.code())
    }

    /// What the file is, how large, and when it changed; statx(2).
    ///
    /// For a file on a disk of this machine, or in its memory, it is a system call that does not
    /// wait, since an open file's metadata are in memory. Any other file system may have to be
    /// asked, which a worker thread of the kernel does. Nothing changes by it, dropped or not.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let status = match FileKind::of(self.as_fd()) {
            FileKind::Local => sys::status(self.as_fd()).map(Box::new),
            _ => Statx::of_file(&self.handle).await,
        };
        status.map(Metadata::new)
    }
}
