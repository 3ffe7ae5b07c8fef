//! Changes of files and directories as a stream. inotify(7).
//!
//! The ring waits until there are events, and a system call that does not wait takes them: the
//! kernel makes a read of this kind of file only on a thread that may wait, or not at all, and a
//! wait that takes nothing loses nothing when it is dropped. The kernel never divides an event
//! between two reads. What is left of a read when a stream is dropped waits here for the next
//! stream.

use std::cell::RefCell;
use std::ffi::{CString, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{BitOr, Range};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;

use crate::exec::Budget;
use crate::inflight::{Op, Resource};
use crate::op::open::Open;
use crate::op::path::Place;
use crate::op::poll::{self, Interest};
use crate::sys;
use crate::sys::names::c_path;

/// `struct inotify_event` without the name: watch, mask, cookie, length of the name.
const HEAD: usize = 16;
/// What one read takes: 15 events with the longest names, or 256 without.
const ROOM: usize = 4096;

/// Watches files and directories, and tells what happens to them.
///
/// ```
/// use annulus::fs::{self, Inotify, WatchMask};
/// use futures_util::StreamExt;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path();
/// # annulus::block_on(async {
/// let inotify = Inotify::new()?;
/// let watch = inotify.add(path, WatchMask::CREATE | WatchMask::DELETE).await?;
/// fs::write(path.join("new"), "content").await?;
/// let event = inotify.events().next().await.expect("it never ends")?;
/// assert_eq!(event.watch(), Some(watch));
/// assert!(event.mask().contains(WatchMask::CREATE));
/// assert_eq!(event.name().unwrap(), "new");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What the kernel keeps, and what not
/// Events wait in the kernel, up to `/proc/sys/fs/inotify/max_queued_events` of them. What comes
/// then is lost, and one event says so: [`Event::is_overflow`]. A program looks at its files anew
/// then. Two equal events in a row that nobody has read are one.
///
/// A watch is of a file and not of its name: it goes with the file when that is renamed.
/// Directories are watched without what is below their entries. Changes from other machines, by
/// `mmap`, and in `/proc` and `/sys` are not told.
///
/// # Dropping
/// All watches end with it. Events that a dropped stream had read wait for the next stream.
pub struct Inotify {
    resource: Resource,
    read: RefCell<Read>,
}

/// The events of the last read.
struct Read {
    bytes: Box<[u8; ROOM]>,
    /// Those that no stream has yielded yet.
    left: Range<usize>,
}

/// Names a watch of one [`Inotify`]. A number that the kernel does not use again before 2³¹ others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch(i32);

/// Kinds of events, and how to watch: several are joined by `|`.
///
/// In an [`Event`] it says what happened, in [`Inotify::add`] what to tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchMask(u32);

/// The constants of [`WatchMask`] with their names in inotify(7).
macro_rules! masks {
    ($($(#[$doc:meta])* $name:ident = $constant:ident;)*) => {
        impl WatchMask {
            $($(#[$doc])* pub const $name: WatchMask = WatchMask(libc::$constant);)*
        }

        const NAMES: &[(u32, &str)] = &[$((libc::$constant, stringify!($name)),)*];
    };
}

masks! {
    /// The file was read, or the directory listed.
    ACCESS = IN_ACCESS;
    /// The file was written to or cut.
    MODIFY = IN_MODIFY;
    /// Permissions, times, owner, extended attributes or the number of links changed.
    ATTRIB = IN_ATTRIB;
    /// A file that was open for writing was closed.
    CLOSE_WRITE = IN_CLOSE_WRITE;
    /// A file or directory that was not open for writing was closed.
    CLOSE_NOWRITE = IN_CLOSE_NOWRITE;
    /// It was opened.
    OPEN = IN_OPEN;
    /// An entry of the directory was renamed; the event has the old name.
    MOVED_FROM = IN_MOVED_FROM;
    /// An entry of the directory was renamed; the event has the new name. The cookie is that of the
    /// old name's event, if there is one.
    MOVED_TO = IN_MOVED_TO;
    /// Something was made in the directory.
    CREATE = IN_CREATE;
    /// Something was removed from the directory.
    DELETE = IN_DELETE;
    /// What is watched was removed itself.
    DELETE_SELF = IN_DELETE_SELF;
    /// What is watched was renamed itself.
    MOVE_SELF = IN_MOVE_SELF;
    /// To add: of the last component of the path, a symbolic link is not followed.
    DONT_FOLLOW = IN_DONT_FOLLOW;
    /// To add: entries of the directory that were removed tell nothing more.
    EXCL_UNLINK = IN_EXCL_UNLINK;
    /// To add: these kinds are told beside those that were asked for before. Else they take their
    /// place.
    MASK_ADD = IN_MASK_ADD;
    /// To add: the watch ends with its first event.
    ONESHOT = IN_ONESHOT;
    /// To add: only if it is a directory.
    ONLYDIR = IN_ONLYDIR;
    /// To add: only if it is not watched yet (Linux 4.18).
    MASK_CREATE = IN_MASK_CREATE;
    /// In an event: the watch has ended, removed or with its file.
    IGNORED = IN_IGNORED;
    /// In an event: it is about a directory.
    ISDIR = IN_ISDIR;
    /// In an event: the queue was full, and events are lost.
    Q_OVERFLOW = IN_Q_OVERFLOW;
    /// In an event: the file system of what is watched was unmounted.
    UNMOUNT = IN_UNMOUNT;
}

impl WatchMask {
    /// Everything that happens to files and entries.
    pub const ALL_EVENTS: WatchMask = WatchMask(libc::IN_ALL_EVENTS);
    /// [`MOVED_FROM`](WatchMask::MOVED_FROM) and [`MOVED_TO`](WatchMask::MOVED_TO).
    pub const MOVE: WatchMask = WatchMask(libc::IN_MOVE);
    /// [`CLOSE_WRITE`](WatchMask::CLOSE_WRITE) and [`CLOSE_NOWRITE`](WatchMask::CLOSE_NOWRITE).
    pub const CLOSE: WatchMask = WatchMask(libc::IN_CLOSE);

    /// Has it all of `other`?
    pub const fn contains(self, other: WatchMask) -> bool {
        self.0 & other.0 == other.0
    }

    /// Has it any of `other`?
    pub const fn intersects(self, other: WatchMask) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits as inotify(7) has them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From bits of inotify(7).
    pub const fn from_bits(bits: u32) -> WatchMask {
        WatchMask(bits)
    }
}

impl BitOr for WatchMask {
    type Output = WatchMask;

    fn bitor(self, other: WatchMask) -> WatchMask {
        WatchMask(self.0 | other.0)
    }
}

impl fmt::Debug for WatchMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        let mut tuple = f.debug_tuple("WatchMask");
        names.for_each(|name| _ = tuple.field(&format_args!("{name}")));
        tuple.finish()
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    watch: i32,
    mask: WatchMask,
    cookie: u32,
    name: Option<OsString>,
}

impl Event {
    /// The watch that tells it; `None` if the queue was full.
    pub fn watch(&self) -> Option<Watch> {
        (self.watch >= 0).then_some(Watch(self.watch))
    }

    /// What happened.
    pub fn mask(&self) -> WatchMask {
        self.mask
    }

    /// Joins the two events of one rename; else 0.
    pub fn cookie(&self) -> u32 {
        self.cookie
    }

    /// The entry of the watched directory that it is about; `None` if it is about what is watched.
    pub fn name(&self) -> Option<&Path> {
        self.name.as_ref().map(Path::new)
    }

    /// Was the kernel's queue full, so that events are lost?
    pub fn is_overflow(&self) -> bool {
        self.mask.intersects(WatchMask::Q_OVERFLOW)
    }
}

impl Inotify {
    /// A queue of events, without watches; inotify_init1(2).
    ///
    /// # Errors
    /// `EMFILE` if the process may have no further descriptor, or the user no further queue
    /// (`/proc/sys/fs/inotify/max_user_instances`, 128 by default).
    pub fn new() -> io::Result<Inotify> {
        let resource = Resource::of_file(sys::inotify()?);
        Ok(Inotify {
            resource,
            read: RefCell::new(Read { bytes: Box::new([0; ROOM]), left: 0..0 }),
        })
    }

    /// Watches a file or directory, or changes what is told of one that is watched; the name that
    /// it returns is then that of before. inotify_add_watch(2).
    ///
    /// The ring looks the path up (OPENAT with `O_PATH`), since that may wait for a disk; the call
    /// itself then names what was found, by `/proc`, and does not wait. It takes a descriptor
    /// meanwhile. If it is dropped, the watch is not added.
    ///
    /// # Errors
    /// The kernel's: `NotFound`, `PermissionDenied` for what the process may not read, `ENOSPC` at
    /// the user's limit of watches (`/proc/sys/fs/inotify/max_user_watches`), `AlreadyExists` with
    /// [`MASK_CREATE`](WatchMask::MASK_CREATE), `InvalidInput` for a mask without events or a path
    /// with a NUL byte, `NotADirectory` with [`ONLYDIR`](WatchMask::ONLYDIR).
    pub async fn add(&self, path: impl AsRef<Path>, mask: WatchMask) -> io::Result<Watch> {
        let mut flags = libc::O_PATH;
        if mask.contains(WatchMask::DONT_FOLLOW) {
            flags |= libc::O_NOFOLLOW;
        }
        if mask.contains(WatchMask::ONLYDIR) {
            flags |= libc::O_DIRECTORY;
        }
        let path = c_path(path.as_ref())?;
        let found = Open::op(Place::here(path.clone()), flags, 0).await?;
        let link = CString::new(format!("/proc/thread-self/fd/{}", found.as_raw_fd()))
            .expect("no zero is in it");
        // The link is to be followed, to where the flags have led.
        let bits = mask.bits() & !libc::IN_DONT_FOLLOW;
        match sys::add_watch(self.resource.as_fd(), &link, bits) {
            // There is no /proc: the path is looked up again, here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                sys::add_watch(self.resource.as_fd(), &path, mask.bits())
            }
            added => added,
        }
        .map(Watch)
    }

    /// Ends a watch; inotify_rm_watch(2), which does not wait. Its last event has
    /// [`IGNORED`](WatchMask::IGNORED); those before stay in the queue.
    ///
    /// # Errors
    /// `InvalidInput` for a watch that has ended.
    pub fn remove(&self, watch: Watch) -> io::Result<()> {
        sys::remove_watch(self.resource.as_fd(), watch.0)
    }

    /// The events as they come, for ever.
    ///
    /// The ring waits for them (POLL_ADD), on every kernel. Dropping the stream, or the future of
    /// its next item, loses no event: they wait for the next stream. Of two streams at a time, each
    /// event goes to one.
    ///
    /// # Errors
    /// Its items: the kernel's; none is known to happen.
    pub fn events(&self) -> Events<'_> {
        Events { inotify: self, wait: None, budget: Budget::default() }
    }

    /// The next event that was read, or is there to be read. `None`: it must be waited for.
    fn next(&self) -> Option<io::Result<Event>> {
        let mut read = self.read.borrow_mut();
        if read.left.is_empty() {
            match sys::read_events(self.resource.as_fd(), &mut *read.bytes) {
                Ok(count) => read.left = 0..count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let event = parse(&read.bytes[read.left.clone()]);
        read.left.start = match event {
            Some((_, length)) => read.left.start + length,
            None => read.left.end,
        };
        Some(event.map(|(event, _)| event).ok_or_else(|| io::Error::other("half an event")))
    }
}

/// The first event, and how long it is. `None`: there is none that is whole.
fn parse(bytes: &[u8]) -> Option<(Event, usize)> {
    let word =
        |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().expect("4 bytes")));
    let (watch, mask, cookie, length) = (word(0)? as i32, word(4)?, word(8)?, word(12)? as usize);
    // It is filled up with zeroes.
    let name = bytes.get(HEAD..HEAD + length)?.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = (!name.is_empty()).then(|| OsString::from_vec(name.to_vec()));
    Some((Event { watch, mask: WatchMask(mask), cookie, name }, HEAD + length))
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.resource.as_fd()
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.resource.as_raw_fd()
    }
}

impl fmt::Debug for Inotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inotify").field(&self.resource).finish()
    }
}

/// The stream of [`Inotify::events`]. It never ends.
#[must_use = "a stream does nothing until it is polled"]
pub struct Events<'i> {
    inotify: &'i Inotify,
    /// While there are none.
    wait: Option<Op<'i, poll::Poll>>,
    /// How many events it may still yield in one go.
    budget: Budget,
}

impl Stream for Events<'_> {
    type Item = io::Result<Event>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Event>>> {
        ready!(self.budget.spend(context));
        loop {
            if let Some(wait) = &mut self.wait {
                let Poll::Ready(waited) = Pin::new(wait).poll(context) else {
                    self.budget.refill();
                    return Poll::Pending;
                };
                self.wait = None;
                if let Err(error) = waited {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            if let Some(event) = self.inotify.next() {
                return Poll::Ready(Some(event));
            }
            self.wait = Some(poll::Poll::op(&self.inotify.resource, Interest::READABLE));
        }
    }
}

impl FusedStream for Events<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("inotify", self.inotify).finish_non_exhaustive()
    }
}
