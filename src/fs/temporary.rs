//! Files without a name, which may get one when they are complete.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::File;
use super::base::Base;
use super::names::{remove_in, rename_from};
use crate::op::path::{HardLink, Place};
use crate::runtime;
use crate::sys::names;

/// What a temporary file may be used for.
const MODE: libc::mode_t = 0o600;
/// How many names are tried of which somebody else has each.
const MOST_NAMES: u32 = 128;

/// Makes a file without a name in the directory for such (`TMPDIR`, or `/tmp`), for reading and
/// writing; open(2) with `O_TMPFILE`. It goes with its last descriptor, however the process ends. A
/// worker thread of the kernel makes it.
///
/// There is no directory of this kind here. It would have to be removed with all that is in it when
/// it is dropped, for which `drop` would wait. Make one by [`create_dir`](super::create_dir), or by
/// the crate tempfile, and end with [`remove_dir_all`](super::remove_dir_all).
///
/// ```
/// # annulus::block_on(async {
/// let file = annulus::fs::tempfile().await?;
/// file.write_all_at(b"for a while", 0).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`tempfile_in`].
pub async fn tempfile() -> io::Result<File> {
    tempfile_in(names::temporary_directory()).await
}

/// The same in a directory of choice. Where its file system cannot make such files, it gets a name,
/// which is removed at once.
///
/// # Errors
/// The kernel's, for example `NotFound`, `PermissionDenied` or `EMFILE`.
pub async fn tempfile_in(directory: impl AsRef<Path>) -> io::Result<File> {
    // With O_EXCL nobody can give it a name.
    match open_unnamed(&Base::HERE, directory.as_ref(), libc::O_EXCL).await {
        Err(error) if is_lacking(&error) => {
            let (file, name) = make_named(Base::HERE, directory.as_ref()).await?;
            name.remove().await?;
            Ok(file)
        }
        made => made,
    }
}

/// A file without a name, for reading and writing, that gets one when it is complete: nobody ever
/// sees it half written. It is used as the [`File`] in it.
///
/// Where the file system cannot make files without a name (`O_TMPFILE`), it has a name that nobody
/// guesses, beginning with `.tmp-`, until it is dropped or gets another.
///
/// # Dropping
/// A file that got no name is gone. If it has one for want of `O_TMPFILE`, a task removes that. The
/// name stays if the runtime ends at once, or if there is none.
///
/// ```
/// use annulus::fs::{self, TempFile};
///
/// # annulus::block_on(async {
/// # let directory = std::env::temp_dir().join(format!("annulus-persist-{}", std::process::id()));
/// # fs::create_dir(&directory).await?;
/// let mut file = TempFile::new_in(&directory).await?;
/// file.write_all_at(b"complete", 0).await?;
/// file.sync_all().await?;
/// file.persist(directory.join("report")).await?;
/// assert_eq!(fs::read(directory.join("report")).await?, b"complete");
/// # fs::remove_dir_all(&directory).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TempFile {
    file: File,
    base: Base,
    /// `None` for a file without.
    name: Option<RandomName>,
}

impl TempFile {
    /// Makes a file in the directory, in whose file system it will get its name, with the
    /// permissions `0o600`. A worker thread of the kernel makes it.
    ///
    /// # Errors
    /// The kernel's, for example `NotFound`, `PermissionDenied` or `EMFILE`.
    pub async fn new_in(directory: impl AsRef<Path>) -> io::Result<TempFile> {
        TempFile::make(Base::HERE, directory.as_ref().to_owned()).await
    }

    pub(super) async fn make(base: Base, directory: PathBuf) -> io::Result<TempFile> {
        match open_unnamed(&base, &directory, 0).await {
            Ok(file) => Ok(TempFile { file, base, name: None }),
            Err(error) if is_lacking(&error) => TempFile::make_named(base, &directory).await,
            Err(error) => Err(error),
        }
    }

    async fn make_named(base: Base, directory: &Path) -> io::Result<TempFile> {
        let (file, name) = make_named(base.clone(), directory).await?;
        Ok(TempFile { file, base, name: Some(name) })
    }

    /// Gives the file this name, and replaces what had it, in one step; linkat(2), then rename(2).
    /// Of a file from [`Dir::tempfile`](super::Dir::tempfile) the path begins in that `Dir`.
    ///
    /// If the future is dropped it may happen all the same; a name that begins with `.tmp-` may
    /// stay beside it.
    ///
    /// # Errors
    /// The kernel's, for example `EXDEV` for a path on another file system. The file can be given
    /// another name then.
    pub async fn persist(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        if self.name.is_none() {
            self.name = Some(self.link_beside(path.as_ref()).await?);
        }
        self.rename(path.as_ref(), 0).await
    }

    /// Gives the file this name, unless somebody has it; linkat(2). It is otherwise as
    /// [`persist`](TempFile::persist).
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, else as [`persist`](TempFile::persist).
    pub async fn persist_noclobber(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        match self.name {
            Some(_) => self.rename(path.as_ref(), libc::RENAME_NOREPLACE).await,
            None => self.link(path.as_ref()).await,
        }
    }

    /// Gives the file this name in place of the random one.
    async fn rename(&mut self, path: &Path, flags: u32) -> io::Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        rename_from(&self.base, name.path(), &self.base, path, flags).await?;
        if let Some(name) = self.name.take() {
            name.forget();
        }
        Ok(())
    }

    /// The file alone. One that has a name for want of `O_TMPFILE` loses it.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Gives it a name that nobody has, in the directory of the path.
    async fn link_beside(&self, path: &Path) -> io::Result<RandomName> {
        let directory = path.parent().unwrap_or(Path::new(""));
        for _ in 1..MOST_NAMES {
            let name = RandomName::new(self.base.clone(), directory);
            match self.link(name.path()).await {
                Ok(()) => return Ok(name),
                Err(error) => {
                    name.forget();
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::EEXIST))
    }

    /// Gives the file without a name this one.
    async fn link(&self, path: &Path) -> io::Result<()> {
        let name = self.base.name(path).await?;
        // The path is absolute, so the place's descriptor is no directory to begin in: with it the
        // operation keeps the number open, which the path names, for as long as it lasts.
        let source = CString::new(names::path_of(&self.file)).expect("a number has no NUL byte");
        let by_path = Place::within(self.file.handle(), source);
        match HardLink::op(by_path, name.place(), libc::AT_SYMLINK_FOLLOW).await {
            // Perhaps /proc is not mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let itself = Place::within(self.file.handle(), CString::default());
                HardLink::op(itself, name.place(), libc::AT_EMPTY_PATH).await
            }
            done => done,
        }
    }
}

impl Deref for TempFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl fmt::Debug for TempFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TempFile").field("file", &self.file).finish_non_exhaustive()
    }
}

async fn open_unnamed(base: &Base, directory: &Path, flags: i32) -> io::Result<File> {
    let flags = libc::O_RDWR | libc::O_TMPFILE | flags;
    base.open(directory, flags, MODE).await.map(File::from_handle)
}

/// Does the file system, or the kernel, not know files without a name?
fn is_lacking(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR))
}

async fn make_named(base: Base, directory: &Path) -> io::Result<(File, RandomName)> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    for _ in 1..MOST_NAMES {
        let name = RandomName::new(base.clone(), directory);
        match base.open(name.path(), flags, MODE).await {
            Ok(handle) => return Ok((File::from_handle(handle), name)),
            Err(error) => {
                name.forget();
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(error);
                }
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

/// A name that nobody guesses, of a file that is removed by it when this is dropped.
struct RandomName {
    base: Base,
    /// `None` once it was forgotten.
    path: Option<PathBuf>,
}

impl RandomName {
    fn new(base: Base, directory: &Path) -> RandomName {
        let name = format!(".tmp-{:016x}", names::random());
        RandomName { base, path: Some(directory.join(name)) }
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// There is nothing to remove.
    fn forget(mut self) {
        self.path = None;
    }

    async fn remove(mut self) -> io::Result<()> {
        let removed = remove_in(&self.base, self.path(), false).await;
        self.path = None;
        removed
    }
}

impl Drop for RandomName {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        if runtime::try_current().is_some() {
            let base = self.base.clone();
            drop(runtime::spawn(async move { remove_in(&base, &path, false).await }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::runtime::{block_on, yield_now};

    fn count(path: &Path) -> usize {
        fs::read_dir(path).expect("a directory").count()
    }

    #[test]
    fn where_files_without_a_name_are_lacking_a_name_that_nobody_guesses_stands_in() {
        let scratch = tempfile::tempdir().expect("a directory");
        let at = |name: &str| scratch.path().join(name);
        block_on(async {
            let make = || TempFile::make_named(Base::HERE, scratch.path());
            let mut file = make().await.expect("made");
            file.write_all_at("content", 0).await.expect("written");
            assert_eq!(file.metadata().await.expect("known").mode() & 0o777, 0o600);
            fs::write(at("old"), "old").expect("written");
            let taken = file.persist_noclobber(at("old")).await.expect_err("it is taken");
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
            file.persist_noclobber(at("new")).await.expect("free");
            assert_eq!(fs::read(at("new")).expect("it is there"), b"content");
            // It has lost the random one by that.
            assert_eq!(count(scratch.path()), 2);
            let mut other = make().await.expect("made");
            other.persist(at("old")).await.expect("replaced");
            drop((file, other));
            assert_eq!(fs::read(at("old")).expect("it is there"), b"");

            drop(make().await.expect("made"));
            let into_file = make().await.expect("made").into_file();
            while count(scratch.path()) > 2 {
                yield_now().await;
            }
            drop(into_file);
            assert!(is_lacking(&io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
            assert!(!is_lacking(&io::Error::from_raw_os_error(libc::ENOENT)));
        });
        // Nobody removes a name for whom there is no runtime.
        let file = block_on(TempFile::make_named(Base::HERE, scratch.path())).expect("made");
        drop(file);
        assert_eq!(count(scratch.path()), 3);
    }
}
