//! Names: given, changed, removed, and what links say.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::base::Base;
use crate::blocking::spawn_blocking;
use crate::inflight::Op;
use crate::op::path::{HardLink, MakeSymlink, Place, Rename, Unlink};
use crate::sys::names::c_path;
use crate::sys::{self, Descriptor};

/// Gives a file or directory another name, replacing what had it; rename(2). If the future is
/// dropped it may happen all the same. A worker thread of the kernel does it (about 20 µs of CPU).
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `EXDEV` for another file system.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Op<'static, Rename> {
    Rename::op(here(from.as_ref()), here(to.as_ref()), 0)
}

/// Gives a file or directory another name that nobody has; renameat2(2) with `RENAME_NOREPLACE`. It
/// is otherwise as [`rename`].
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// `AlreadyExists` if the name is taken, `InvalidInput` on a file system that cannot do it, else as
/// [`rename`].
pub fn rename_noreplace(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Op<'static, Rename> {
    Rename::op(here(from.as_ref()), here(to.as_ref()), libc::RENAME_NOREPLACE)
}

/// Exchanges two names, in one step: neither is ever missing; renameat2(2) with `RENAME_EXCHANGE`.
/// It is otherwise as [`rename`].
///
/// ```
/// # annulus::block_on(async {
/// # let directory = std::env::temp_dir().join(format!("annulus-exchange-{}", std::process::id()));
/// # annulus::fs::create_dir(&directory).await?;
/// # let (old, new) = (directory.join("old"), directory.join("new"));
/// annulus::fs::write(&old, b"old").await?;
/// annulus::fs::write(&new, b"new").await?;
/// annulus::fs::rename_exchange(&old, &new).await?;
/// assert_eq!(annulus::fs::read(&old).await?, b"new");
/// # annulus::fs::remove_dir_all(&directory).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// `NotFound` if one of them is missing, `InvalidInput` on a file system that cannot do it, else as
/// [`rename`].
pub fn rename_exchange(one: impl AsRef<Path>, two: impl AsRef<Path>) -> Op<'static, Rename> {
    Rename::op(here(one.as_ref()), here(two.as_ref()), libc::RENAME_EXCHANGE)
}

/// A path from the current directory on. What is none is told by its operation.
pub(super) fn here(path: &Path) -> Place<'static> {
    Place::checked(c_path(path))
}

pub(super) async fn rename_from(
    from_base: &Base,
    from: &Path,
    to_base: &Base,
    to: &Path,
    flags: u32,
) -> io::Result<()> {
    let (from, to) = (from_base.name(from).await?, to_base.name(to).await?);
    Rename::op(from.place(), to.place(), flags).await
}

/// Gives a file one more name; link(2). A symbolic link gets one itself, and is not followed. If
/// the future is dropped it may happen all the same. A worker thread of the kernel does it; before
/// Linux 5.15 it takes the [software path](crate::docs::software_ring).
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `AlreadyExists`, `EXDEV` for another file system, or
/// `PermissionDenied` for a directory.
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Op<'static, HardLink> {
    HardLink::op(here(original.as_ref()), here(link.as_ref()), 0)
}

pub(super) async fn hard_link_from(
    from_base: &Base,
    from: &Path,
    to_base: &Base,
    to: &Path,
) -> io::Result<()> {
    let (from, to) = (from_base.name(from).await?, to_base.name(to).await?);
    if from.parts().is_some() && from.ends_in_slash() {
        // The call would follow a symbolic link, and there are no further names for directories.
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    HardLink::op(from.place(), to.place(), 0).await
}

/// Makes a symbolic link with this text; symlink(2). Nobody looks whether the text leads anywhere.
/// If the future is dropped it may happen all the same. A worker thread of the kernel does it;
/// before Linux 5.15 it takes the [software path](crate::docs::software_ring).
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `AlreadyExists`.
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Op<'static, MakeSymlink> {
    match c_path(original.as_ref()) {
        Ok(text) => MakeSymlink::op(text, here(link.as_ref())),
        Err(error) => MakeSymlink::op(CString::default(), Place::checked(Err(error))),
    }
}

pub(super) async fn symlink_in(base: &Base, text: &Path, link: &Path) -> io::Result<()> {
    let text = c_path(text)?;
    MakeSymlink::op(text, base.name(link).await?.place()).await
}

/// The text of a symbolic link; readlink(2). Our pool does it, since the ring cannot.
///
/// # Errors
/// The kernel's; `InvalidInput` for what is no symbolic link.
pub async fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    read_link_in(&Base::HERE, path.as_ref()).await
}

pub(super) async fn read_link_in(base: &Base, path: &Path) -> io::Result<PathBuf> {
    if base.handle().is_none() {
        let path = path.to_owned();
        return spawn_blocking(move || sys::names::read_link(&path)).await?;
    }
    let link = base.locate(path, false).await?.into_descriptor().await;
    spawn_blocking(move || sys::names::read_open_link(&link)).await?
}

/// The absolute path of a file without `.`, `..` and symbolic links; realpath(3). Our pool does it,
/// since the ring cannot.
///
/// # Errors
/// The kernel's, for example `NotFound`.
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    spawn_blocking(move || sys::names::canonicalize(&path)).await?
}

/// Removes a file; unlink(2). If the future is dropped it may happen all the same. A worker thread
/// of the kernel does it (about 20 µs of CPU).
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `NotFound`.
pub fn remove_file(path: impl AsRef<Path>) -> Op<'static, Unlink> {
    Unlink::op(here(path.as_ref()), false)
}

/// Removes an empty directory; rmdir(2). If the future is dropped it may happen all the same. A
/// worker thread of the kernel does it.
///
/// Yields `io::Result<()>`.
///
/// # Errors
/// The kernel's, for example `DirectoryNotEmpty`.
pub fn remove_dir(path: impl AsRef<Path>) -> Op<'static, Unlink> {
    Unlink::op(here(path.as_ref()), true)
}

pub(super) async fn remove_in(base: &Base, path: &Path, is_directory: bool) -> io::Result<()> {
    Unlink::op(base.name(path).await?.place(), is_directory).await
}

/// Removes a directory and all that is in it. A symbolic link is removed itself: neither `path` nor
/// anything below it is followed, also if somebody puts links there meanwhile. With a slash behind
/// it, a symbolic link is refused with `NotADirectory`, and nothing is removed.
///
/// It is [`std::fs::remove_dir_all`] on our pool: one thread makes all its calls, each relative to
/// the open directory that holds the name. If the future is dropped it goes on to its end, unless
/// it has not begun.
///
/// # Errors
/// The kernel's; a part may be removed then. What somebody else removes meanwhile is no error.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    remove_tree_in(&Base::HERE, path.as_ref()).await
}

pub(super) async fn remove_tree_in(base: &Base, path: &Path) -> io::Result<()> {
    let name = base.name(path).await?;
    let Some((parent, name)) = name.parts() else {
        let path = path.to_owned();
        return spawn_blocking(move || sys::names::remove_tree(&path)).await?;
    };
    let (parent, name) = (Descriptor::from(sys::duplicate(parent.as_fd())?), name.clone());
    spawn_blocking(move || sys::names::remove_tree_in(&parent, name)).await?
}
