//! The attributes of an open file: permissions, times, extended attributes, and its file system.

use std::ffi::{OsStr, OsString};
use std::fs::{FileTimes, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::time::SystemTime;

use super::File;
use crate::blocking::spawn_blocking;
use crate::fs::statfs::StatFs;
use crate::fs::xattr::{XattrMode, c_name, names};
use crate::op::xattr::{GetXattr, SetXattr};
use crate::ring::FileKind;
use crate::sys::{self, Which};

impl File {
    /// Gives the file other permissions; fchmod(2).
    ///
    /// A thread of the pool of [`spawn_blocking`](crate::spawn_blocking) makes it, here and in
    /// [`set_times`](File::set_times), with a duplicate of the descriptor: the ring has no
    /// operation for it, and it may wait for the disk. If the future is dropped it happens all the
    /// same, unless it has not begun.
    ///
    /// # Errors
    /// The kernel's, such as `EPERM` for who does not own the file; `EMFILE`.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let file = sys::duplicate(self.as_fd())?;
        spawn_blocking(move || sys::set_permissions(file, permissions)).await?
    }

    /// Sets when the file was read and changed; futimens(2). Who makes it, and what a drop does, is
    /// as with [`set_permissions`](File::set_permissions).
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use annulus::fs::File;
    ///
    /// # annulus::block_on(async {
    /// # let path = std::env::temp_dir().join(format!("annulus-times-{}", std::process::id()));
    /// let file = File::create(&path).await?;
    /// file.set_times(std::fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).await?;
    /// assert_eq!(file.metadata().await?.modified()?, SystemTime::UNIX_EPOCH);
    /// # annulus::fs::remove_file(&path).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`set_permissions`](File::set_permissions).
    pub async fn set_times(&self, times: FileTimes) -> io::Result<()> {
        let file = sys::duplicate(self.as_fd())?;
        spawn_blocking(move || sys::set_times(file, times)).await?
    }

    /// Sets when the file was changed, as [`set_times`](File::set_times) does.
    ///
    /// # Errors
    /// As [`set_permissions`](File::set_permissions).
    pub async fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time)).await
    }

    /// How large the file's file system is, and what of it is free; fstatfs(2).
    ///
    /// It is a system call that does not wait. A network or user-space file system has to be asked,
    /// which a thread of the pool does, with a duplicate of the descriptor. Nothing changes by it,
    /// dropped or not.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn statfs(&self) -> io::Result<StatFs> {
        let status = match FileKind::of(self.as_fd()) {
            FileKind::Fuse | FileKind::Remote => {
                let file = sys::duplicate(self.as_fd())?;
                spawn_blocking(move || sys::file_system_status(Which::Open(file.as_fd()))).await?
            }
            _ => sys::file_system_status(Which::Open(self.as_fd())),
        };
        status.map(StatFs::new)
    }

    /// Reads an extended attribute, such as `user.comment`; fgetxattr(2). `None`: the file has no
    /// such attribute.
    ///
    /// A worker thread of the kernel does it. Before Linux 5.19 it takes the [software
    /// path](crate::docs::software_ring). Nothing changes by it, dropped or not.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` where the file system has none, or none of this kind;
    /// `InvalidInput` for a name with a NUL byte, `ERANGE` for one that is empty or over 255 bytes.
    pub async fn get_xattr(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
        GetXattr::of_file(&self.handle, c_name(name.as_ref())?).await
    }

    /// Sets an extended attribute, whether it is there or not; fsetxattr(2). At most 65,536 bytes,
    /// of which many file systems take less.
    ///
    /// Who does it is as with [`get_xattr`](File::get_xattr). It waits for dropped writes. If it is
    /// dropped itself it may happen all the same, but not after a later one of this `File`.
    ///
    /// ```
    /// use annulus::fs::File;
    ///
    /// # annulus::block_on(async {
    /// # let path = std::env::temp_dir().join(format!("annulus-xattr-{}", std::process::id()));
    /// let file = File::create(&path).await?;
    /// if file.set_xattr("user.comment", "a word").await.is_ok() {
    ///     assert_eq!(file.get_xattr("user.comment").await?.as_deref(), Some(&b"a word"[..]));
    /// } // else the file system has no such attributes
    /// # annulus::fs::remove_file(&path).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`get_xattr`](File::get_xattr); `E2BIG` for a longer value, `ENOSPC` or `EDQUOT`
    /// for one that does not fit.
    pub async fn set_xattr(
        &self,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
    ) -> io::Result<()> {
        self.set_xattr_with(name, value, XattrMode::Put).await
    }

    /// Sets an extended attribute that must be there, or must not, as
    /// [`set_xattr`](File::set_xattr) does.
    ///
    /// # Errors
    /// Those of [`set_xattr`](File::set_xattr); `AlreadyExists` or `ENODATA` if the mode says
    /// otherwise.
    pub async fn set_xattr_with(
        &self,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> io::Result<()> {
        let (name, value) = (c_name(name.as_ref())?, value.as_ref().to_vec());
        SetXattr::of_file(&self.handle, name, value, mode.bits()).await
    }

    /// The names of the file's extended attributes; flistxattr(2). A thread of the pool asks, as
    /// for [`set_permissions`](File::set_permissions).
    ///
    /// # Errors
    /// The kernel's; `EMFILE`.
    pub async fn list_xattr(&self) -> io::Result<Vec<OsString>> {
        let file = sys::duplicate(self.as_fd())?;
        let list = move || sys::list_attributes(Which::Open(file.as_fd()));
        spawn_blocking(list).await?.map(|list| names(&list))
    }

    /// Removes an extended attribute; fremovexattr(2). `false`: the file had no such attribute. Who
    /// makes it, and what a drop does, is as with [`set_permissions`](File::set_permissions).
    ///
    /// # Errors
    /// Those of [`get_xattr`](File::get_xattr); `EMFILE`.
    pub async fn remove_xattr(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        let (name, file) = (c_name(name.as_ref())?, sys::duplicate(self.as_fd())?);
        let remove = move || sys::remove_attribute(Which::Open(file.as_fd()), &name);
        crate::fs::xattr::removed(spawn_blocking(remove).await?)
    }
}
