//! All that is below a directory as a stream, several directories at a time.

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;

use super::attributes::metadata_in;
use super::base::Base;
use super::file_type::FileType;
use super::metadata::Metadata;
use super::read_dir::{DirEntry, ReadDir};
use crate::exec::Budget;
use crate::op::path::Statx;

/// Directories that are read at a time, unless the user wants another number.
const AT_ONCE: usize = 4;
/// With so many directories known and not begun, no more are looked for until some of them are
/// through: a directory may have a million.
const MOST_WAITING: usize = 1024;

/// All that is below a directory, and the directory itself, as a stream. What contains something
/// comes before it; there is no further order.
///
/// Several directories are read at a time, each in batches as [`read_dir`](super::read_dir) does.
/// No more is held than a batch for each of these, some 1000 directories that wait, and for each
/// level one more batch. So the memory depends on the depth of the tree and not on its size.
///
/// A directory is opened by its path, and not through a symbolic link that somebody puts in its
/// place. For a tree in which somebody hostile renames directories, use
/// [`Dir::walk`](super::Dir::walk).
///
/// ```
/// use futures_util::StreamExt;
///
/// # annulus::block_on(async {
/// let mut sources = annulus::fs::walk("src").max_depth(2);
/// let mut bytes = 0;
/// while let Some(entry) = sources.next().await {
///     let entry = entry?;
///     if entry.file_type().is_file() {
///         bytes += entry.metadata().await?.len();
///     }
/// }
/// assert!(bytes > 100_000);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// Its items: the kernel's, with the path. The walk goes on after an error. A directory whose path
/// has 4096 bytes or more is `ENAMETOOLONG`, and what is below it is left out.
pub fn walk(path: impl AsRef<Path>) -> Walk {
    Walk::new(Base::HERE, path.as_ref())
}

/// A stream of all that is below a directory, from [`walk`] or [`Dir::walk`](super::Dir::walk).
///
/// If it is dropped nothing more is read.
pub struct Walk {
    base: Base,
    settings: Settings,
    /// The root, until it was begun.
    root: Option<PathBuf>,
    /// Found, and not begun: the last goes first, so that the walk goes down before it goes on.
    waiting: Vec<Place>,
    /// Begun, and not read to their ends.
    open: Vec<Reading>,
    running: Vec<Pin<Box<dyn Future<Output = Found>>>>,
    ready: VecDeque<Result<WalkEntry, WalkError>>,
    budget: Budget,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    max_depth: usize,
    follow_links: bool,
    at_once: usize,
}

/// A directory to be read.
struct Place {
    path: PathBuf,
    depth: usize,
    /// The directories that it is in, where that matters.
    above: Option<Rc<Ancestor>>,
}

/// A directory by its identity, and the one that it is in.
struct Ancestor {
    identity: (u64, u64),
    above: Option<Rc<Ancestor>>,
}

/// A directory that is being read.
struct Reading {
    entries: ReadDir,
    /// Of its entries.
    depth: usize,
    above: Option<Rc<Ancestor>>,
}

/// What one batch of a directory brought.
#[derive(Default)]
struct Found {
    items: Vec<Result<WalkEntry, WalkError>>,
    directories: Vec<Place>,
    /// The directory, unless it is at its end.
    rest: Option<Reading>,
}

impl Walk {
    pub(super) fn new(base: Base, root: &Path) -> Walk {
        Walk {
            base,
            settings: Settings { max_depth: usize::MAX, follow_links: false, at_once: AT_ONCE },
            root: Some(root.to_owned()),
            waiting: Vec::new(),
            open: Vec::new(),
            running: Vec::new(),
            ready: VecDeque::new(),
            budget: Budget::default(),
        }
    }

    /// Goes no deeper: 0 is the directory itself, 1 what is in it. There is no limit unless this
    /// sets one.
    #[must_use]
    pub fn max_depth(mut self, depth: usize) -> Walk {
        self.settings.max_depth = depth;
        self
    }

    /// Does it follow symbolic links? If so, an entry is what its link leads to, and a link to a
    /// directory that it is in is an error of kind `FilesystemLoop`. A link that leads nowhere is
    /// an entry itself. It does not unless told so. The root is followed always.
    #[must_use]
    pub fn follow_links(mut self, follow: bool) -> Walk {
        self.settings.follow_links = follow;
        self
    }

    /// Reads so many directories at a time: 4 unless told otherwise, and 1 at the least.
    #[must_use]
    pub fn directories_at_once(mut self, directories: usize) -> Walk {
        self.settings.at_once = directories.max(1);
        self
    }

    /// Begins what there is to do, up to the number of directories at a time.
    fn begin(&mut self) {
        while self.running.len() < self.settings.at_once {
            let (base, settings) = (self.base.clone(), self.settings);
            if let Some(root) = self.root.take() {
                self.running.push(Box::pin(begin_root(base, settings, root)));
                continue;
            }
            // Directories that are open come first, so that they are closed soon, unless they
            // would bring too many others.
            let go_on = self.waiting.len() < MOST_WAITING;
            if let Some(reading) = self.open.pop_if(|_| go_on) {
                self.running.push(Box::pin(read_batch(base, settings, reading)));
            } else if let Some(place) = self.waiting.pop() {
                self.running.push(Box::pin(begin_directory(base, settings, place)));
            } else {
                return;
            }
        }
    }

    /// Takes what has come. `false`: nothing has.
    fn collect(&mut self, context: &mut Context<'_>) -> bool {
        let mut came = false;
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            let Poll::Ready(found) = running.as_mut().poll(context) else {
                index += 1;
                continue;
            };
            drop(self.running.swap_remove(index));
            self.ready.extend(found.items);
            self.waiting.extend(found.directories);
            self.open.extend(found.rest);
            came = true;
        }
        came
    }
}

impl Stream for Walk {
    type Item = Result<WalkEntry, WalkError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                ready!(this.budget.spend(context));
                return Poll::Ready(this.ready.pop_front());
            }
            this.begin();
            if this.running.is_empty() {
                return Poll::Ready(None);
            }
            if !this.collect(context) {
                this.budget.refill();
                return Poll::Pending;
            }
        }
    }
}

impl FusedStream for Walk {
    fn is_terminated(&self) -> bool {
        self.root.is_none()
            && self.waiting.is_empty()
            && self.open.is_empty()
            && self.running.is_empty()
            && self.ready.is_empty()
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

async fn begin_root(base: Base, settings: Settings, path: PathBuf) -> Found {
    let mut found = Found::default();
    match metadata_in(&base, &path, true).await {
        Err(error) => found.items.push(Err(WalkError { path, depth: 0, error })),
        Ok(metadata) => {
            let file_type = metadata.file_type();
            if file_type.is_dir() && settings.max_depth > 0 {
                found.directories.push(Place { path: path.clone(), depth: 0, above: None });
            }
            let (inode, depth, follows) = (metadata.ino(), 0, true);
            found.items.push(Ok(WalkEntry { base, path, file_type, inode, depth, follows }));
        }
    }
    found
}

async fn begin_directory(base: Base, settings: Settings, place: Place) -> Found {
    let Place { path, depth, above } = place;
    match open(&base, settings, &path, depth, above).await {
        Ok(reading) => read_batch(base, settings, reading).await,
        Err(error) => {
            let items = vec![Err(WalkError { path, depth, error })];
            Found { items, ..Found::default() }
        }
    }
}

async fn open(
    base: &Base,
    settings: Settings,
    path: &Path,
    depth: usize,
    above: Option<Rc<Ancestor>>,
) -> io::Result<Reading> {
    let entries = ReadDir::open(base, path, settings.follow_links || depth == 0).await?;
    let above = match (settings.follow_links, entries.directory().handle()) {
        (true, Some(directory)) => {
            let metadata = Statx::of_file(directory).await.map(Metadata::new)?;
            Some(descend((metadata.dev(), metadata.ino()), above)?)
        }
        _ => None,
    };
    Ok(Reading { entries, depth: depth + 1, above })
}

/// Refuses a directory that is one of those that it is in.
fn descend(identity: (u64, u64), above: Option<Rc<Ancestor>>) -> io::Result<Rc<Ancestor>> {
    let mut next = above.as_deref();
    while let Some(ancestor) = next {
        if ancestor.identity == identity {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        next = ancestor.above.as_deref();
    }
    Ok(Rc::new(Ancestor { identity, above }))
}

/// The next entries of a directory, as many as come at once.
async fn read_batch(base: Base, settings: Settings, mut reading: Reading) -> Found {
    let mut found = Found::default();
    loop {
        match reading.entries.next_entry().await {
            Ok(Some(entry)) => take(&base, settings, &reading, entry, &mut found).await,
            Ok(None) => return found,
            Err(error) => {
                let (path, depth) = (reading.entries.path().to_owned(), reading.depth - 1);
                found.items.push(Err(WalkError { path, depth, error }));
                return found;
            }
        }
        if !reading.entries.has_one_at_hand() {
            found.rest = Some(reading);
            return found;
        }
    }
}

async fn take(
    base: &Base,
    settings: Settings,
    reading: &Reading,
    entry: DirEntry,
    found: &mut Found,
) {
    let (path, depth) = (entry.path(), reading.depth);
    let (file_type, follows) = match kind(base, settings, &entry, &path).await {
        Ok(kind) => kind,
        Err(error) => return found.items.push(Err(WalkError { path, depth, error })),
    };
    if file_type.is_dir() && depth < settings.max_depth {
        found.directories.push(Place { path: path.clone(), depth, above: reading.above.clone() });
    }
    let (base, inode) = (base.clone(), entry.ino());
    found.items.push(Ok(WalkEntry { base, path, file_type, inode, depth, follows }));
}

/// What an entry is, and whether that is what its link leads to.
async fn kind(
    base: &Base,
    settings: Settings,
    entry: &DirEntry,
    path: &Path,
) -> io::Result<(FileType, bool)> {
    let file_type = entry.file_type().await?;
    if !file_type.is_symlink() || !settings.follow_links {
        return Ok((file_type, false));
    }
    match metadata_in(base, path, true).await {
        Ok(target) => Ok((target.file_type(), true)),
        // It leads nowhere, or to itself.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP)) => {
            Ok((file_type, false))
        }
        Err(error) => Err(error),
    }
}

/// Something that a walk came by.
#[derive(Clone)]
pub struct WalkEntry {
    base: Base,
    path: PathBuf,
    file_type: FileType,
    inode: u64,
    depth: usize,
    /// Is it what a link leads to?
    follows: bool,
}

impl WalkEntry {
    /// The path that was given to `walk`, with the way from there behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path, without a copy.
    pub fn into_path(self) -> PathBuf {
        self.path
    }

    /// The last name of the path, or all of a path that ends in none.
    pub fn file_name(&self) -> &OsStr {
        self.path.file_name().unwrap_or(self.path.as_os_str())
    }

    /// What it is: itself, or with [`follow_links`](Walk::follow_links) what it leads to.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// How far below the root it is: the root is at 0.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The inode number, of a symbolic link that of itself.
    pub fn ino(&self) -> u64 {
        self.inode
    }

    /// Its metadata, by its path; statx(2). A worker thread of the kernel does it (about 20 µs of
    /// CPU).
    ///
    /// # Errors
    /// The kernel's, such as `NotFound` if it has been removed.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        metadata_in(&self.base, &self.path, self.follows).await
    }
}

impl fmt::Debug for WalkEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalkEntry")
            .field("path", &self.path)
            .field("file_type", &self.file_type)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

/// An error of a walk, with the path that it is about.
#[derive(Debug)]
pub struct WalkError {
    path: PathBuf,
    depth: usize,
    error: io::Error,
}

impl WalkError {
    /// What could not be read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far below the root that is.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Why it could not be read.
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl Error for WalkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Of the same kind, with the path in its text.
impl From<WalkError> for io::Error {
    fn from(error: WalkError) -> io::Error {
        io::Error::new(error.error.kind(), error)
    }
}
