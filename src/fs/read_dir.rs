//! The entries of a directory as a stream, read in batches.

use std::ffi::OsString;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_util::Stream;
use futures_util::stream::FusedStream;

use super::base::Base;
use super::file_type::FileType;
use super::metadata::Metadata;
use super::resolve::Resolve;
use crate::blocking::spawn_blocking;
use crate::exec::{Budget, JoinHandle};
use crate::inflight::Resource;
use crate::op::path::{Place, Statx};
use crate::sys::names::c_path;
use crate::sys::{self, Descriptor, names};

/// The entries of a directory, without `.` and `..`, in the file system's order.
///
/// The ring opens the directory. Our pool reads it with getdents64(2), in one job for each batch of
/// some 250 to 1600 entries, since the ring has no operation for that. At most one batch is held,
/// so the memory does not depend on the size of the directory.
///
/// What is made or removed meanwhile may be among the entries or not. All others come once.
///
/// ```
/// # annulus::block_on(async {
/// let mut entries = annulus::fs::read_dir("src").await?;
/// let mut names = Vec::new();
/// while let Some(entry) = entries.next_entry().await? {
///     if entry.file_type().await?.is_file() {
///         names.push(entry.file_name());
///     }
/// }
/// assert!(names.contains(&"lib.rs".into()));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Its items, and [`read_dir`]: the kernel's. `NotADirectory` for other files; `EMFILE` also if
/// there is one descriptor left, since it takes two. After an error it ends.
///
/// # Panics
/// Its first poll, outside a runtime.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    ReadDir::open(&Base::HERE, path.as_ref(), true).await
}

/// A stream of the entries of a directory, from [`read_dir`] or [`Dir::read_dir`].
///
/// If it is dropped the batch that is being read is thrown away, and both its descriptors are
/// closed.
///
/// [`Dir::read_dir`]: super::Dir::read_dir
pub struct ReadDir {
    reader: Reader,
    batch: vec::IntoIter<names::Entry>,
    budget: Budget,
    /// The directory, for what is asked about entries.
    base: Base,
    path: Rc<Path>,
}

type Batch = io::Result<(Vec<names::Entry>, bool)>;

/// Who has the descriptor that is read from? It is a second one, so that the directory can be lent
/// to entries while a thread reads.
enum Reader {
    Idle(Descriptor),
    Busy(JoinHandle<(Descriptor, Batch)>),
    Ended,
}

impl ReadDir {
    pub(super) async fn open(base: &Base, path: &Path, follows: bool) -> io::Result<ReadDir> {
        let no_follow = if follows { 0 } else { libc::O_NOFOLLOW };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | no_follow;
        ReadDir::of(base.open(path, flags, 0).await?, path)
    }

    fn of(directory: Resource, path: &Path) -> io::Result<ReadDir> {
        let descriptor = sys::duplicate(directory.as_fd())?.into();
        Ok(ReadDir {
            reader: Reader::Idle(descriptor),
            batch: Vec::new().into_iter(),
            budget: Budget::default(),
            base: Base::of(directory, Resolve::beneath()),
            path: path.into(),
        })
    }

    /// The next entry, or `None` behind the last. A dropped future loses nothing: the next call
    /// goes on.
    ///
    /// # Errors
    /// The kernel's. There is no entry after an error.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        poll_fn(|context| self.poll_entry(context)).await
    }

    /// Can an entry be had without a wait?
    pub(super) fn has_one_at_hand(&self) -> bool {
        !self.batch.as_slice().is_empty()
    }

    /// The path that it was opened by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    pub(super) fn directory(&self) -> &Base {
        &self.base
    }

    fn poll_entry(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<DirEntry>>> {
        loop {
            if self.has_one_at_hand() {
                ready!(self.budget.spend(context));
            }
            if let Some(entry) = self.batch.next() {
                return Poll::Ready(Ok(Some(DirEntry::of(self, entry))));
            }
            match ready!(self.poll_batch(context)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Ok(None)),
                Err(error) => {
                    self.reader = Reader::Ended;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Has the next batch read. `false`: there is none.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.reader = match std::mem::replace(&mut self.reader, Reader::Ended) {
            Reader::Ended => return Poll::Ready(Ok(false)),
            Reader::Idle(descriptor) => Reader::Busy(spawn_blocking(move || {
                let batch = names::read_directory(descriptor.as_fd());
                (descriptor, batch)
            })),
            busy => busy,
        };
        let Reader::Busy(reading) = &mut self.reader else { return Poll::Ready(Ok(false)) };
        let (descriptor, batch) = ready!(Pin::new(reading).poll(context))?;
        self.budget.refill();
        let (entries, are_last) = batch?;
        self.reader = if are_last { Reader::Ended } else { Reader::Idle(descriptor) };
        self.batch = entries.into_iter();
        Poll::Ready(Ok(true))
    }
}

impl Stream for ReadDir {
    type Item = io::Result<DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_entry(context).map(Result::transpose)
    }
}

impl FusedStream for ReadDir {
    fn is_terminated(&self) -> bool {
        matches!(self.reader, Reader::Ended) && !self.has_one_at_hand()
    }
}

impl Drop for ReadDir {
    fn drop(&mut self) {
        if let Reader::Busy(reading) = &self.reader {
            reading.abort();
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An entry of a directory. It keeps the directory open, to ask about the entry.
pub struct DirEntry {
    base: Base,
    path: Rc<Path>,
    name: OsString,
    inode: u64,
    file_type: Option<FileType>,
}

impl DirEntry {
    fn of(directory: &ReadDir, entry: names::Entry) -> DirEntry {
        DirEntry {
            base: directory.base.clone(),
            path: Rc::clone(&directory.path),
            name: OsString::from_vec(entry.name.into_bytes()),
            inode: entry.inode,
            file_type: Some(entry.file_type).filter(|known| *known != 0).map(FileType::of_mode),
        }
    }

    /// Its name in the directory: any bytes but NUL and `/`.
    pub fn file_name(&self) -> OsString {
        self.name.clone()
    }

    /// The path that was given to `read_dir`, with the name behind it.
    pub fn path(&self) -> PathBuf {
        self.path.join(&self.name)
    }

    /// The inode number.
    pub fn ino(&self) -> u64 {
        self.inode
    }

    /// What it is. A symbolic link is not followed.
    ///
    /// The directory has told it, so this does not wait. On the few file systems whose directories
    /// do not, it is [`metadata`](DirEntry::metadata).
    ///
    /// # Errors
    /// Those of `metadata`, then.
    pub async fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(known) => Ok(known),
            None => self.metadata().await.map(|metadata| metadata.file_type()),
        }
    }

    /// Its metadata, by its name in the open directory, wherever that is now; statx(2). A symbolic
    /// link is not followed. A worker thread of the kernel does it (about 20 µs of CPU).
    ///
    /// # Errors
    /// The kernel's, such as `NotFound` if it has been removed.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let name = c_path(Path::new(&self.name))?;
        let directory = self.base.handle().expect("an entry's base is its directory");
        Statx::of_name(Place::within(directory, name)).await.map(Metadata::new)
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirEntry")
            .field("path", &self.path())
            .field("file_type", &self.file_type)
            .finish_non_exhaustive()
    }
}
