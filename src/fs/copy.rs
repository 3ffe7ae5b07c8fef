//! Copies of files with their permissions.

use std::io;
use std::path::Path;

use super::File;
use crate::blocking::spawn_blocking;
use crate::sys;

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

/// The same of files that are open, the second of which is empty.
pub(super) async fn copy_open(from: File, to: File) -> io::Result<u64> {
    let (from, to) = (from.into_std().await, to.into_std().await);
    spawn_blocking(move || sys::copy_open_file(from, to)).await?
}
