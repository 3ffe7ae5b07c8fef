//! Files and directories: std's names and shapes, with operations of the ring.
//!
//! Reads and writes at an offset ([`File::read_at`]) can be in flight in any number on one file.
//! Those where the file stands ([`File::read`]) happen one after the other. All functions take what [`std::path::Path`] can be made of; relative paths start at the
//! process's current directory.
//!
//! # What the ring does not speed up
//! Opening with `create`, metadata, sync, advice, rename, remove, making directories, buffered
//! writes, and everything on tmpfs run on worker threads of the kernel (about 20 µs of CPU one at a
//! time). Cached reads and `O_DIRECT` reads do not.
//!
//! So do transfers that may wait for somebody whatever they are told: those of terminals and other
//! devices without positions, and of files that a process in user space serves (FUSE). A terminal
//! whose other side does not read stops nobody.
//!
//! `/proc/thread-self` names whoever opens it, and that may be such a thread: open it with
//! [`std::fs`].
//!
//! Operations that change names run once: `rename`, the `remove` functions, `create_dir` and
//! opening with `create_new` are not started again, even where a file system interrupts them
//! (`EINTR`).
//!
//! # Errors
//! All functions return the kernel's errno as
//! [`io::Error::raw_os_error`](std::io::Error::raw_os_error). A path with a NUL byte in it is
//! `InvalidInput`. `ECANCELED`, where nobody has cancelled, is the kernel's word for a worker
//! thread that it could not start: `RLIMIT_NPROC` or a cgroup's `pids.max` is reached, and was for
//! half a second (before Linux 5.12 it waits for a thread instead). What the kernel's ring does not
//! have (renaming and removing before Linux 5.11, making directories before 5.15) takes the
//! [software path](crate::docs::software_ring).

mod c_path;
mod file;
mod inotify;
mod metadata;
mod open_options;
mod statfs;
mod xattr;

use std::io;
use std::path::Path;

pub use file::{Advice, FallocateMode, File, SyncRangeMode, TryLockError};
pub use inotify::{Event, Events, Inotify, Watch, WatchMask};
pub use metadata::Metadata;
pub use open_options::OpenOptions;
pub use statfs::{StatFs, statfs};
pub use xattr::{XattrMode, get_xattr, list_xattr, remove_xattr, set_xattr, set_xattr_with};

use crate::blocking::spawn_blocking;
use crate::buf::{IoBuf, IoBufMut};
use crate::op::path::{MakeDirectory, Rename, Statx, Unlink};
use crate::sys;
use c_path::c_path;

/// What [`read`] asks for first. It doubles from there, as far as the file goes.
const FIRST_READ: usize = 16 * 1024;

/// What new directories may be used for, less the umask.
const DIRECTORY_MODE: libc::mode_t = 0o777;

/// Reads a whole file.
///
/// ```
/// # annulus::block_on(async {
/// let manifest = annulus::fs::read("Cargo.toml").await?;
/// assert!(manifest.starts_with(b"[package]"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Those of [`File::open`] and [`File::read_at`].
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    let mut content = Vec::with_capacity(FIRST_READ);
    loop {
        // Growing in place is cheaper than a look at the metadata, which the kernel hands to a
        // worker thread.
        if content.len() == content.capacity() {
            content.try_reserve(content.len())?;
        }
        let offset = content.len() as u64;
        let (count, slice) = file.read_at(content.spare(), offset).await?;
        content = slice.into_inner();
        if count == 0 {
            return Ok(content);
        }
    }
}

/// Reads a whole file of UTF-8 text.
///
/// # Errors
/// As [`read`], and `InvalidData` if the file is not UTF-8.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let content = read(path).await?;
    String::from_utf8(content)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not valid UTF-8"))
}

/// Writes a whole file, which is made if need be and else emptied first.
///
/// ```
/// # annulus::block_on(async {
/// let path = std::env::temp_dir().join(format!("annulus-{}", std::process::id()));
/// annulus::fs::write(&path, b"content").await?;
/// assert_eq!(annulus::fs::read(&path).await?, b"content");
/// annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Those of [`File::create`] and [`File::write_all_at`]; part of the file may be written then.
pub async fn write(path: impl AsRef<Path>, content: impl IoBuf) -> io::Result<()> {
    let file = File::create(path).await?;
    file.write_all_at(content, 0).await?;
    file.close().await
}

/// Copies the content and the permissions of a file to another, which is made if need be and else
/// replaced, and returns the number of bytes.
///
/// It is [`std::fs::copy`] on a thread of the pool of [`spawn_blocking`]: the kernel copies by
/// itself (copy_file_range(2)) and may share the blocks instead, and the ring has no operation for
/// that. If the future is dropped the copy goes on to its end, unless it has not begun.
///
/// ```
/// # annulus::block_on(async {
/// let path = std::env::temp_dir().join(format!("annulus-copy-{}", std::process::id()));
/// let count = annulus::fs::copy("Cargo.toml", &path).await?;
/// assert_eq!(count, annulus::fs::metadata("Cargo.toml").await?.len());
/// annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Those of std: `InvalidInput` if the source is not a regular file, else the kernel's. Part of the
/// target may be written then.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    spawn_blocking(move || sys::copy_file(&from, &to)).await?
}

/// Gives a file or directory another name, replacing what had it; rename(2). If the future is
/// dropped it may happen all the same.
///
/// # Errors
/// The kernel's, for example `EXDEV` for another file system.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    Rename::op(c_path(from.as_ref())?, c_path(to.as_ref())?).await
}

/// Removes a file; unlink(2). If the future is dropped it may happen all the same.
///
/// # Errors
/// The kernel's, for example `NotFound`.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    Unlink::op(c_path(path.as_ref())?, false).await
}

/// Removes an empty directory; rmdir(2). If the future is dropped it may happen all the same.
///
/// # Errors
/// The kernel's, for example `DirectoryNotEmpty`.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    Unlink::op(c_path(path.as_ref())?, true).await
}

/// Makes a directory; mkdir(2). If the future is dropped it may happen all the same.
///
/// # Errors
/// The kernel's, for example `AlreadyExists`, or `NotFound` if its parent is missing.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    MakeDirectory::op(c_path(path.as_ref())?, DIRECTORY_MODE).await
}

/// Makes a directory and all its parents that are missing. One that exists is no error.
///
/// # Errors
/// Those of [`create_dir`]; some of the parents may have been made then.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    // From the path itself upwards to the first that can be made or is there, then down again.
    let mut missing = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match create_dir_or_find(ancestor).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    for directory in missing.into_iter().rev() {
        create_dir_or_find(directory).await?;
    }
    Ok(())
}

/// Makes a directory, or finds that somebody else has.
async fn create_dir_or_find(path: &Path) -> io::Result<()> {
    match create_dir(path).await {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists
                && metadata(path).await.is_ok_and(|found| found.is_dir()) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// What kind of file a path leads to, how large it is, when it changed; statx(2). Symbolic links
/// are followed.
///
/// # Errors
/// The kernel's, for example `NotFound`.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    Statx::of_path(c_path(path.as_ref())?).await.map(Metadata::new)
}
