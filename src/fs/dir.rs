//! `Dir`: an open directory, and everything relative to it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::attributes::{exists_in, metadata_in, set_permissions_in, set_times_in};
use super::base::Base;
use super::content::{read_open, text_of, write_open};
use super::copy::copy_open;
use super::names::{
    hard_link_from, read_link_in, remove_in, remove_tree_in, rename_from, symlink_in,
};
use super::owner::set_owner_in;
use super::resolve::Resolve;
use super::temporary::TempFile;
use super::walk::Walk;
use super::{DirBuilder, File, Metadata, OpenOptions, Permissions, ReadDir};
use crate::buf::IoBuf;
use crate::inflight::Resource;
use crate::op::file::Fsync;
use crate::sys::{self, names};

/// An open directory. Its paths begin in it, wherever it is moved, and do not lead out of it; the
/// names are those of the crate cap-std.
///
/// A path that leads out, by `..`, as an absolute path, or through a symbolic link, is refused with
/// `PermissionDenied`, also if somebody changes directories and links meanwhile. [`Resolve`] has
/// other rules, for [`with_resolve`](Dir::with_resolve). The kernel keeps them: openat2(2) opens
/// the file, or the directory that has the last name, and each call is made relative to that. Where
/// openat2 is missing or forbidden (a few sandboxes), all of them fail with its errno.
///
/// A path of several names costs one more open than a function of [`fs`](super) and, while the call
/// lasts, one more descriptor. The ring opens without a worker what is in memory. What the
/// functions of `fs` say about workers and our pool holds for the methods of the same name.
///
/// # Dropping
/// The directory is closed with the last of the `Dir` and what came of it: entries, and operations
/// in flight.
///
/// ```
/// use std::io::ErrorKind;
/// use annulus::fs::Dir;
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-dir-{}", std::process::id()));
/// # annulus::fs::create_dir(&path).await?;
/// let uploads = Dir::open_ambient_dir(&path).await?;
/// uploads.create_dir_all("2026/11").await?;
/// let file = uploads.create("2026/11/name").await?;
/// file.write_all_at(b"content", 0).await?;
/// let error = uploads.open("2026/../../secret").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::PermissionDenied);
/// # annulus::fs::remove_dir_all(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Dir {
    base: Base,
}

impl Dir {
    /// Opens a directory by a path that leads anywhere; open(2). The ring does it.
    ///
    /// # Errors
    /// The kernel's, for example `NotADirectory`.
    pub async fn open_ambient_dir(path: impl AsRef<Path>) -> io::Result<Dir> {
        Dir::open_in(&Base::HERE, path.as_ref(), Resolve::beneath()).await
    }

    async fn open_in(base: &Base, path: &Path, resolve: Resolve) -> io::Result<Dir> {
        let handle = base.open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0).await?;
        Ok(Dir { base: Base::of(handle, resolve) })
    }

    /// The same directory, whose paths are held to it in this way. Directories that it opens are as
    /// it is.
    #[must_use]
    pub fn with_resolve(self, resolve: Resolve) -> Dir {
        Dir { base: self.base.with_resolve(resolve) }
    }

    /// How paths are held to it.
    pub fn resolve(&self) -> Resolve {
        self.base.resolve()
    }

    fn handle(&self) -> &Resource {
        self.base.handle().expect("the base of a `Dir` is a directory")
    }

    /// Another `Dir` with a descriptor of its own; fcntl(2). It does not wait.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Dir> {
        let descriptor = sys::duplicate(self.as_fd())?;
        Ok(Dir { base: Base::of(Resource::of_file(descriptor.into()), self.resolve()) })
    }

    /// Opens a file for reading; openat2(2).
    ///
    /// # Errors
    /// Those of [`OpenOptions::open`], and `PermissionDenied` for a path that leads out, here and
    /// below.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_with(path, OpenOptions::new().read(true)).await
    }

    /// Opens a file for writing; it is made if need be and else emptied.
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_with(path, OpenOptions::new().write(true).create(true).truncate(true)).await
    }

    /// Opens a file with options. If the future is dropped it may be made or emptied all the same.
    ///
    /// # Errors
    /// As [`open`](Dir::open). Where open(2) ignores custom flags that it does not know, openat2(2)
    /// refuses them with `InvalidInput`.
    pub async fn open_with(
        &self,
        path: impl AsRef<Path>,
        options: &OpenOptions,
    ) -> io::Result<File> {
        let (flags, mode) = options.flags_and_mode()?;
        self.base.open(path.as_ref(), flags, mode).await.map(File::from_handle)
    }

    /// Reads a whole file, as [`fs::read`](super::read).
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        read_open(self.open(path).await?).await
    }

    /// Reads a whole file of UTF-8 text, as [`fs::read_to_string`](super::read_to_string).
    ///
    /// # Errors
    /// As [`read`](Dir::read), and `InvalidData` if the file is not UTF-8.
    pub async fn read_to_string(&self, path: impl AsRef<Path>) -> io::Result<String> {
        text_of(self.read(path).await?)
    }

    /// Writes a whole file, which is made if need be and else emptied first, as
    /// [`fs::write`](super::write).
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn write(&self, path: impl AsRef<Path>, content: impl IoBuf) -> io::Result<()> {
        write_open(self.create(path).await?, content).await
    }

    /// Copies the content and the permissions of a file to another, in this `Dir` or another, as
    /// [`fs::copy`](super::copy). The ring opens both, and our pool copies. If the future is
    /// dropped before the copy has begun, the target may be there and empty.
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn copy(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Dir,
        to: impl AsRef<Path>,
    ) -> io::Result<u64> {
        let from = self.open(from).await?;
        let metadata = from.metadata().await?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "only a regular file can be copied",
            ));
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(metadata.mode() & 0o7777);
        copy_open(from, to_dir.open_with(to, &options).await?).await
    }

    /// Opens a directory, whose paths are held as those of this one.
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        Dir::open_in(&self.base, path.as_ref(), self.resolve()).await
    }

    /// Makes a directory, as [`fs::create_dir`](super::create_dir).
    ///
    /// # Errors
    /// Those of that function; `PermissionDenied` for a path that leads out, and `InvalidInput` for
    /// one that ends in `.` or `..`, here and below.
    pub async fn create_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.create_dir_with(path, &DirBuilder::new()).await
    }

    /// Makes a directory and all its parents that are missing, as
    /// [`fs::create_dir_all`](super::create_dir_all).
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.create_dir_with(path, DirBuilder::new().recursive(true)).await
    }

    /// Makes a directory as the builder says.
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn create_dir_with(
        &self,
        path: impl AsRef<Path>,
        builder: &DirBuilder,
    ) -> io::Result<()> {
        builder.create_in(&self.base, path.as_ref()).await
    }

    /// The entries of this directory, as [`read_dir`](Dir::read_dir).
    ///
    /// # Errors
    /// As [`read_dir`](Dir::read_dir).
    pub async fn entries(&self) -> io::Result<ReadDir> {
        self.read_dir(".").await
    }

    /// The entries of a directory, as [`fs::read_dir`](super::read_dir).
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<ReadDir> {
        ReadDir::open(&self.base, path.as_ref(), true).await
    }

    /// All that is below a directory, as [`fs::walk`](super::walk). No path of it leads out of this
    /// `Dir`.
    pub fn walk(&self, path: impl AsRef<Path>) -> Walk {
        Walk::new(self.base.clone(), path.as_ref())
    }

    /// The metadata of what a path leads to, as [`fs::metadata`](super::metadata).
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        metadata_in(&self.base, path.as_ref(), true).await
    }

    /// The metadata of this directory.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn dir_metadata(&self) -> io::Result<Metadata> {
        self.metadata(".").await
    }

    /// The metadata of a name, as [`fs::symlink_metadata`](super::symlink_metadata).
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn symlink_metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        metadata_in(&self.base, path.as_ref(), false).await
    }

    /// Does the path lead to anything? As [`fs::try_exists`](super::try_exists).
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn try_exists(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        exists_in(&self.base, path.as_ref()).await
    }

    /// Gives a file or directory another name, in this `Dir` or another, as
    /// [`fs::rename`](super::rename).
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn rename(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Dir,
        to: impl AsRef<Path>,
    ) -> io::Result<()> {
        rename_from(&self.base, from.as_ref(), &to_dir.base, to.as_ref(), 0).await
    }

    /// The same, if nobody has that name, as [`fs::rename_noreplace`](super::rename_noreplace).
    ///
    /// # Errors
    /// As [`rename`](Dir::rename); `AlreadyExists` if the name is taken.
    pub async fn rename_noreplace(
        &self,
        from: impl AsRef<Path>,
        to_dir: &Dir,
        to: impl AsRef<Path>,
    ) -> io::Result<()> {
        let flags = libc::RENAME_NOREPLACE;
        rename_from(&self.base, from.as_ref(), &to_dir.base, to.as_ref(), flags).await
    }

    /// Exchanges two names, as [`fs::rename_exchange`](super::rename_exchange).
    ///
    /// # Errors
    /// As [`rename`](Dir::rename).
    pub async fn rename_exchange(
        &self,
        one: impl AsRef<Path>,
        other_dir: &Dir,
        two: impl AsRef<Path>,
    ) -> io::Result<()> {
        let flags = libc::RENAME_EXCHANGE;
        rename_from(&self.base, one.as_ref(), &other_dir.base, two.as_ref(), flags).await
    }

    /// Gives a file one more name, in this `Dir` or another, as
    /// [`fs::hard_link`](super::hard_link).
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir); `NotADirectory` for an original that ends in a slash.
    pub async fn hard_link(
        &self,
        original: impl AsRef<Path>,
        link_dir: &Dir,
        link: impl AsRef<Path>,
    ) -> io::Result<()> {
        hard_link_from(&self.base, original.as_ref(), &link_dir.base, link.as_ref()).await
    }

    /// Makes a symbolic link with this text, as [`fs::symlink`](super::symlink). Any text will do:
    /// who follows the link is held to where it may lead.
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn symlink(
        &self,
        original: impl AsRef<Path>,
        link: impl AsRef<Path>,
    ) -> io::Result<()> {
        symlink_in(&self.base, original.as_ref(), link.as_ref()).await
    }

    /// The text of a symbolic link, as [`fs::read_link`](super::read_link).
    ///
    /// # Errors
    /// As [`open`](Dir::open); `InvalidInput` for what is no symbolic link.
    pub async fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        read_link_in(&self.base, path.as_ref()).await
    }

    /// Removes a file, as [`fs::remove_file`](super::remove_file).
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        remove_in(&self.base, path.as_ref(), false).await
    }

    /// Removes an empty directory, as [`fs::remove_dir`](super::remove_dir).
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir).
    pub async fn remove_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        remove_in(&self.base, path.as_ref(), true).await
    }

    /// Removes a directory and all that is in it, or a symbolic link, on our pool, as
    /// [`fs::remove_dir_all`](super::remove_dir_all). Each call is relative to an open directory,
    /// one for each level, and follows no link.
    ///
    /// # Errors
    /// As [`create_dir`](Dir::create_dir); a part may be removed then.
    pub async fn remove_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        remove_tree_in(&self.base, path.as_ref()).await
    }

    /// Changes the permissions of what a path leads to, as
    /// [`fs::set_permissions`](super::set_permissions). It needs `/proc`.
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn set_permissions(
        &self,
        path: impl AsRef<Path>,
        permissions: Permissions,
    ) -> io::Result<()> {
        set_permissions_in(&self.base, path.as_ref(), permissions).await
    }

    /// Sets the times of what a path leads to, as [`fs::set_times`](super::set_times).
    ///
    /// # Errors
    /// As [`open`](Dir::open).
    pub async fn set_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> io::Result<()> {
        let times = names::Times { accessed, modified };
        set_times_in(&self.base, path.as_ref(), times).await
    }

    /// Gives what a path leads to another user and group, as [`fs::chown`](super::chown).
    ///
    /// # Errors
    /// Those of that function, and `PermissionDenied` for a path that leads out.
    pub async fn chown(
        &self,
        path: impl AsRef<Path>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let owner = names::Owner { user: uid, group: gid };
        set_owner_in(&self.base, path.as_ref(), owner, true).await
    }

    /// The same of a symbolic link itself, as [`fs::lchown`](super::lchown).
    ///
    /// # Errors
    /// As [`chown`](Dir::chown).
    pub async fn lchown(
        &self,
        path: impl AsRef<Path>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let owner = names::Owner { user: uid, group: gid };
        set_owner_in(&self.base, path.as_ref(), owner, false).await
    }

    /// Makes a file without a name in this directory, which may get one there; see [`TempFile`].
    ///
    /// # Errors
    /// Those of [`TempFile::new_in`].
    pub async fn tempfile(&self) -> io::Result<TempFile> {
        TempFile::make(self.base.clone(), PathBuf::from(".")).await
    }

    /// Brings the names in this directory to the device, after files were made, renamed or removed;
    /// fsync(2). A worker thread of the kernel does it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sync_all(&self) -> io::Result<()> {
        Fsync::op(self.handle(), false).await
    }
}

/// Nobody looks whether it is a directory: if it is none, the methods say so.
impl From<OwnedFd> for Dir {
    fn from(descriptor: OwnedFd) -> Dir {
        let handle = Resource::of_file(descriptor.into());
        Dir { base: Base::of(handle, Resolve::beneath()) }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle().as_fd()
    }
}

impl AsRawFd for Dir {
    fn as_raw_fd(&self) -> RawFd {
        self.handle().as_raw_fd()
    }
}
