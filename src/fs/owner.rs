//! To whom files belong.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::base::Base;
use crate::blocking::spawn_blocking;
use crate::sys::names::{self, Owner};
use crate::sys::{self, Descriptor};

/// Gives what the path leads to another user and group; chown(2). `None` leaves one as it is.
/// Symbolic links are followed. std's [`chown`](std::os::unix::fs::chown).
///
/// Our pool does it, since the ring cannot. If the future is dropped it may happen all the same.
///
/// # Errors
/// The kernel's: `EPERM` for another user, unless one is root, and for a group that one is not in.
pub async fn chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    set_owner_in(&Base::HERE, path.as_ref(), Owner { user: uid, group: gid }, true).await
}

/// As [`chown`], but of a symbolic link itself, where the path ends in one; lchown(2). std's
/// [`lchown`](std::os::unix::fs::lchown).
///
/// # Errors
/// As [`chown`].
pub async fn lchown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    set_owner_in(&Base::HERE, path.as_ref(), Owner { user: uid, group: gid }, false).await
}

/// As [`chown`], of an open file, with a duplicate of its descriptor; fchown(2). std's
/// [`fchown`](std::os::unix::fs::fchown).
///
/// # Errors
/// As [`chown`]; `EMFILE`.
pub async fn fchown(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let duplicate = Descriptor::from(sys::duplicate(file.as_fd())?);
    let owner = Owner { user: uid, group: gid };
    spawn_blocking(move || names::set_owner_of_open(&duplicate, owner)).await?
}

pub(super) async fn set_owner_in(
    base: &Base,
    path: &Path,
    owner: Owner,
    follows: bool,
) -> io::Result<()> {
    if base.handle().is_none() {
        let path = path.to_owned();
        return spawn_blocking(move || names::set_owner(&path, owner, follows)).await?;
    }
    let found = base.locate(path, follows).await?.into_descriptor().await;
    spawn_blocking(move || names::set_owner_of(&found, owner)).await?
}
