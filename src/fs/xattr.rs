//! The extended attributes of files by their paths: small values under names, beside the content.
//! xattr(7).

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::blocking::spawn_blocking;
use crate::op::xattr::{GetXattr, SetXattr};
use crate::sys::names::c_path;
use crate::sys::{self, Which};

/// Whether an extended attribute that is set is there before; setxattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// It may be there or not.
    Put,
    /// It must not be there.
    Create,
    /// It must be there.
    Replace,
}

impl XattrMode {
    pub(super) fn bits(self) -> i32 {
        match self {
            XattrMode::Put => 0,
            XattrMode::Create => libc::XATTR_CREATE,
            XattrMode::Replace => libc::XATTR_REPLACE,
        }
    }
}

/// Refuses a name that the kernel would read in part only.
pub(super) fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name of an attribute must not contain a NUL byte",
        )
    })
}

/// The names in a list of listxattr(2).
pub(super) fn names(list: &[u8]) -> Vec<OsString> {
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

/// Was an attribute removed that was there?
pub(super) fn removed(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// Reads an extended attribute of what a path leads to, symbolic links followed; getxattr(2).
/// Otherwise as [`File::get_xattr`](super::File::get_xattr).
///
/// # Errors
/// The kernel's, as there; `InvalidInput` for a path or a name with a NUL byte.
pub async fn get_xattr(
    path: impl AsRef<Path>,
    name: impl AsRef<OsStr>,
) -> io::Result<Option<Vec<u8>>> {
    GetXattr::of_path(c_path(path.as_ref())?, c_name(name.as_ref())?).await
}

/// Sets an extended attribute of what a path leads to, whether it is there or not; setxattr(2). If
/// the future is dropped it may happen all the same. Otherwise as
/// [`File::set_xattr`](super::File::set_xattr).
///
/// # Errors
/// The kernel's, as there; `InvalidInput` for a path or a name with a NUL byte.
pub async fn set_xattr(
    path: impl AsRef<Path>,
    name: impl AsRef<OsStr>,
    value: impl AsRef<[u8]>,
) -> io::Result<()> {
    set_xattr_with(path, name, value, XattrMode::Put).await
}

/// Sets an extended attribute that must be there, or must not, as [`set_xattr`] does.
///
/// # Errors
/// Those of [`set_xattr`]; `AlreadyExists` or `ENODATA` if the mode says otherwise.
pub async fn set_xattr_with(
    path: impl AsRef<Path>,
    name: impl AsRef<OsStr>,
    value: impl AsRef<[u8]>,
    mode: XattrMode,
) -> io::Result<()> {
    let (path, name) = (c_path(path.as_ref())?, c_name(name.as_ref())?);
    SetXattr::of_path(path, name, value.as_ref().to_vec(), mode.bits()).await
}

/// The names of the extended attributes of what a path leads to; listxattr(2). A thread of the pool
/// of [`spawn_blocking`](crate::spawn_blocking) asks, since the ring has no operation for it.
///
/// # Errors
/// The kernel's; `InvalidInput` for a path with a NUL byte.
pub async fn list_xattr(path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
    let path = c_path(path.as_ref())?;
    spawn_blocking(move || sys::list_attributes(Which::Named(&path)))
        .await?
        .map(|list| names(&list))
}

/// Removes an extended attribute of what a path leads to; removexattr(2). `false`: there was no
/// such attribute. A thread of the pool makes it, and if the future is dropped it happens all the
/// same, unless it has not begun.
///
/// # Errors
/// The kernel's; `InvalidInput` for a path or a name with a NUL byte.
pub async fn remove_xattr(path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> io::Result<bool> {
    let (path, name) = (c_path(path.as_ref())?, c_name(name.as_ref())?);
    let remove = move || sys::remove_attribute(Which::Named(&path), &name);
    removed(spawn_blocking(remove).await?)
}
