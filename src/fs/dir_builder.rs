//! Making directories.

use std::io;
use std::path::Path;

use super::attributes::metadata_in;
use super::base::Base;
use super::names::here;
use crate::inflight::Op;
use crate::op::path::MakeDirectory;

/// What new directories may be used for, less the umask.
const MODE: libc::mode_t = 0o777;

/// Makes a directory; mkdir(2). If the future is dropped it may happen all the same. A worker
/// thread of the kernel does it (about 20 µs of CPU); before Linux 5.15 it takes the [software
/// path](crate::docs::software_ring).
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `AlreadyExists`, or `NotFound` if its parent is missing.
pub fn create_dir(path: impl AsRef<Path>) -> Op<'static, MakeDirectory> {
    MakeDirectory::op(here(path.as_ref()), MODE)
}

/// Makes a directory and all its parents that are missing. One that exists is no error.
///
/// # Errors
/// Those of [`create_dir`]; some of the parents may have been made then.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path).await
}

/// How directories are made: std's, with the extension of [`std::os::unix::fs::DirBuilderExt`].
///
/// ```
/// # use annulus::fs::{self, DirBuilder};
/// # annulus::block_on(async {
/// # let top = std::env::temp_dir().join(format!("annulus-builder-{}", std::process::id()));
/// let path = top.join("private/cache");
/// DirBuilder::new().recursive(true).mode(0o700).create(&path).await?;
/// assert_eq!(fs::metadata(&path).await?.mode() & 0o777, 0o700);
/// # fs::remove_dir_all(&top).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct DirBuilder {
    recursive: bool,
    mode: libc::mode_t,
}

impl DirBuilder {
    /// Makes one directory, with the mode `0o777` less the umask.
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder { recursive: false, mode: MODE }
    }

    /// Makes also the parents that are missing, with the same mode, and takes one that exists.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// The permissions of what is made, less the umask.
    pub fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = mode;
        self
    }

    /// Makes the directory, as [`create_dir`] or [`create_dir_all`] do.
    ///
    /// # Errors
    /// Theirs.
    pub async fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.create_in(&Base::HERE, path.as_ref()).await
    }

    pub(super) async fn create_in(&self, base: &Base, path: &Path) -> io::Result<()> {
        if !self.recursive {
            return self.create_one(base, path).await;
        }
        // From the path itself upwards to the first that can be made or is there, then down again.
        let mut missing = Vec::new();
        for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            match self.create_or_find(base, ancestor).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        for directory in missing.into_iter().rev() {
            self.create_or_find(base, directory).await?;
        }
        Ok(())
    }

    async fn create_one(&self, base: &Base, path: &Path) -> io::Result<()> {
        MakeDirectory::op(base.name(path).await?.place(), self.mode).await
    }

    /// Makes a directory, or finds that somebody else has. What ends in `.` or `..` can only be
    /// found.
    async fn create_or_find(&self, base: &Base, path: &Path) -> io::Result<()> {
        let error = match self.create_one(base, path).await {
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        let is_no_name = match error.kind() {
            io::ErrorKind::AlreadyExists => false,
            io::ErrorKind::InvalidInput => true,
            _ => return Err(error),
        };
        match metadata_in(base, path, true).await {
            Ok(found) if found.is_dir() => Ok(()),
            Err(missing) if is_no_name && missing.kind() == io::ErrorKind::NotFound => Err(missing),
            _ => Err(error),
        }
    }
}

impl Default for DirBuilder {
    fn default() -> DirBuilder {
        DirBuilder::new()
    }
}
