//! What files are, and changing what is kept of them beside their content.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::base::Base;
use super::metadata::Metadata;
use crate::blocking::spawn_blocking;
use crate::op::path::{Place, Statx};
use crate::sys::names::c_path;
use crate::sys::names::{self, Permissions, Times};

/// What kind of file a path leads to, how large it is, when it changed; statx(2). Symbolic links
/// are followed. A worker thread of the kernel does it (about 20 µs of CPU).
///
/// # Errors
/// The kernel's, for example `NotFound`.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    metadata_in(&Base::HERE, path.as_ref(), true).await
}

/// As [`metadata`], but of a symbolic link itself, where the path ends in one.
///
/// # Errors
/// As [`metadata`].
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    metadata_in(&Base::HERE, path.as_ref(), false).await
}

pub(super) async fn metadata_in(base: &Base, path: &Path, follows: bool) -> io::Result<Metadata> {
    if base.handle().is_some() {
        let found = base.locate(path, follows).await?;
        return Statx::of_file(&found).await.map(Metadata::new);
    }
    let place = Place::here(c_path(path)?);
    let status = if follows { Statx::of_target(place) } else { Statx::of_name(place) };
    status.await.map(Metadata::new)
}

/// Does the path lead to anything? Symbolic links are followed. The ring does it, without a worker
/// where the path is in memory: it opens the path with `O_PATH`.
///
/// # Errors
/// The kernel's, if that cannot be known: for example `PermissionDenied`, `NotADirectory`, or
/// `EMFILE`.
pub async fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    exists_in(&Base::HERE, path.as_ref()).await
}

pub(super) async fn exists_in(base: &Base, path: &Path) -> io::Result<bool> {
    match base.locate(path, true).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes the permissions of what the path leads to; chmod(2). Our pool does it, since the ring
/// cannot. If the future is dropped it may happen all the same.
///
/// ```
/// use std::os::unix::fs::PermissionsExt;
/// use annulus::fs::{self, Permissions};
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-permissions-{}", std::process::id()));
/// fs::write(&path, b"secret").await?;
/// fs::set_permissions(&path, Permissions::from_mode(0o600)).await?;
/// assert_eq!(fs::metadata(&path).await?.mode() & 0o777, 0o600);
/// # fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// The kernel's, for example `EPERM` for somebody else's file.
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    set_permissions_in(&Base::HERE, path.as_ref(), permissions).await
}

pub(super) async fn set_permissions_in(
    base: &Base,
    path: &Path,
    permissions: Permissions,
) -> io::Result<()> {
    if base.handle().is_none() {
        let path = path.to_owned();
        return spawn_blocking(move || names::set_permissions(&path, permissions)).await?;
    }
    let found = base.locate(path, true).await?.into_descriptor().await;
    spawn_blocking(move || names::set_permissions_of(&found, permissions)).await?
}

/// Sets when what the path leads to was last read and written; utimensat(2). `None` leaves a time
/// as it is. Our pool does it, since the ring cannot. If the future is dropped it may happen all
/// the same.
///
/// It takes the two times, since [`std::fs::FileTimes`] tells nobody which it holds.
///
/// # Errors
/// The kernel's; `InvalidInput` for a time beyond 64 bits of seconds. A file system that knows
/// fewer years sets the last that it knows.
pub async fn set_times(
    path: impl AsRef<Path>,
    accessed: Option<SystemTime>,
    modified: Option<SystemTime>,
) -> io::Result<()> {
    set_times_in(&Base::HERE, path.as_ref(), Times { accessed, modified }).await
}

pub(super) async fn set_times_in(base: &Base, path: &Path, times: Times) -> io::Result<()> {
    if base.handle().is_none() {
        let path = path.to_owned();
        return spawn_blocking(move || names::set_times(&path, times)).await?;
    }
    let found = base.locate(path, true).await?.into_descriptor().await;
    spawn_blocking(move || names::set_times_of(&found, times)).await?
}
