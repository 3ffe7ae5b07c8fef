//! The options with which a file is opened.

use std::io;
use std::path::Path;

use super::file::File;
use crate::op::open::Open;
use crate::op::path::Place;
use crate::sys::names::c_path;

/// Options of [`open`](OpenOptions::open): std's, with the extensions of
/// [`std::os::unix::fs::OpenOptionsExt`].
///
/// ```
/// # use annulus::fs::OpenOptions;
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-options-{}", std::process::id()));
/// let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).await?;
/// # annulus::fs::remove_file(&path).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    custom_flags: i32,
    mode: libc::mode_t,
}

impl OpenOptions {
    /// Nothing chosen; the mode of new files is `0o666`, less the umask.
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            custom_flags: 0,
            mode: 0o666,
        }
    }

    /// To read.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.read = read;
        self
    }

    /// To write.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.write = write;
        self
    }

    /// To write at the end, wherever that is at the time: `O_APPEND`, with which the offset of
    /// [`write_at`](File::write_at) does not count, as with pwrite(2).
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.append = append;
        self
    }

    /// Empties a file that exists. Needs write access.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.truncate = truncate;
        self
    }

    /// Makes the file if it is missing. Needs write or append access.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.create = create;
        self
    }

    /// Makes the file, and fails if it exists. Needs write or append access; `create` and
    /// `truncate` do not count then.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.create_new = create_new;
        self
    }

    /// More flags of open(2), such as `O_DIRECT`. Those for access (`O_ACCMODE`) do not count.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.custom_flags = flags;
        self
    }

    /// The permissions of a file that is made, less the umask.
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.mode = mode;
        self
    }

    /// Opens the file; openat(2), with `O_CLOEXEC`.
    ///
    /// If the future is dropped the file may be made or emptied all the same; its descriptor is
    /// closed.
    ///
    /// Opening a FIFO for reading does not wait for a writer. Opening one for writing that nobody
    /// reads fails at once with `ENXIO`, where std waits for a reader. With
    /// [`create`](OpenOptions::create) or [`truncate`](OpenOptions::truncate) it waits, on a worker
    /// thread of the kernel.
    ///
    /// # Errors
    /// `InvalidInput` for options that contradict each other, with std's rules, and for a path with
    /// a NUL byte; else the kernel's.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (flags, mode) = self.flags_and_mode()?;
        let handle = Open::op(Place::here(c_path(path.as_ref())?), flags, mode).await?;
        Ok(File::from_handle(handle))
    }

    /// As open(2) takes them.
    pub(super) fn flags_and_mode(&self) -> io::Result<(i32, libc::mode_t)> {
        let flags = self.access()? | self.creation()? | (self.custom_flags & !libc::O_ACCMODE);
        Ok((flags, self.mode))
    }

    fn access(&self) -> io::Result<i32> {
        match (self.read, self.write, self.append) {
            (true, false, false) => Ok(libc::O_RDONLY),
            (false, true, false) => Ok(libc::O_WRONLY),
            (true, true, false) => Ok(libc::O_RDWR),
            (false, _, true) => Ok(libc::O_WRONLY | libc::O_APPEND),
            (true, _, true) => Ok(libc::O_RDWR | libc::O_APPEND),
            (false, false, false) => {
                Err(contradiction("a file must be opened for reading, writing or appending"))
            }
        }
    }

    fn creation(&self) -> io::Result<i32> {
        let creates = self.truncate || self.create || self.create_new;
        if creates && !self.write && !self.append {
            return Err(contradiction(
                "creating or truncating a file needs write or append access",
            ));
        }
        if self.append && self.truncate && !self.create_new {
            return Err(contradiction("a file is either truncated or appended to"));
        }
        Ok(match (self.create, self.truncate, self.create_new) {
            (_, _, true) => libc::O_CREAT | libc::O_EXCL,
            (false, false, false) => 0,
            (true, false, false) => libc::O_CREAT,
            (false, true, false) => libc::O_TRUNC,
            (true, true, false) => libc::O_CREAT | libc::O_TRUNC,
        })
    }
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

fn contradiction(sentence: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}
