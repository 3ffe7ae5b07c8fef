//! Files and directories: std's names and shapes, with operations of the ring.
//!
//! Reads and writes at an offset ([`File::read_at`]) can be in flight in any number on one file.
//! Those where the file stands ([`File::read`]) happen one after the other. [`File::stream`] and
//! [`File::sink`] move large content, with several transfers in flight. All functions take what
//! [`std::path::Path`] can be made of; relative paths start at the process's current directory, or,
//! in the methods of [`Dir`], at that directory. [The table of names](crate::docs::names) has each
//! call of std and tokio.
//!
//! # Who does it
//! - **The ring, by itself**: cached reads, `O_DIRECT` reads, opening what is in memory without
//!   making it, and [`try_exists`].
//! - **A worker thread of the kernel**, by way of the ring (about 20 µs of CPU one at a time):
//!   opening with `create`, metadata, sync, advice, [`fallocate`](File::fallocate), reading and
//!   setting extended attributes, rename, remove, making directories and links, buffered writes,
//!   and everything on tmpfs.
//! - **Our pool**, the threads of [`spawn_blocking`](crate::spawn_blocking), since the ring has no
//!   operation for it: [`read_dir`] and [`walk`], a batch of entries at a time; [`remove_dir_all`],
//!   [`copy`], [`copy_range`](File::copy_range), [`canonicalize`], [`read_link`],
//!   [`set_permissions`], [`set_times`], [`chown`], [`statfs`], [`list_xattr`], [`remove_xattr`].
//! - **A system call that does not wait**, on the loop: [`File::lock`] and its kin, and
//!   [`File::statfs`]. Where the file system is a server or a process, our pool does it.
//!
//! Workers also make transfers that may wait for somebody whatever they are told: those of
//! terminals and other devices without positions, and of files that a process in user space serves
//! (FUSE). A terminal whose other side does not read stops nobody.
//!
//! `/proc/thread-self` names whoever opens it, and that may be such a thread: open it with
//! [`std::fs`].
//!
//! Operations that change names run once: `rename`, the `remove` functions, `create_dir`, links and
//! opening with `create_new` are not started again, even where a file system interrupts them
//! (`EINTR`).
//!
//! # Limits
//! A write beyond `RLIMIT_FSIZE` fails with `EFBIG`, and the signal `SIGXFSZ` does not end the
//! process: the thread of a runtime blocks that signal, alone, as long as the runtime is there,
//! also for what else the program writes on that thread. A transfer that does not fit `O_DIRECT` is
//! `InvalidInput`, with a sentence that says what it should have been a multiple of.
//!
//! # Errors
//! All functions return the kernel's errno as
//! [`io::Error::raw_os_error`](std::io::Error::raw_os_error). A path with a NUL byte in it is
//! `InvalidInput`. `ECANCELED`, where nobody has cancelled, is the kernel's word for a worker
//! thread that it could not start: `RLIMIT_NPROC` or a cgroup's `pids.max` is reached, and was for
//! half a second (before Linux 5.12 it waits for a thread instead). What the kernel's ring does not
//! have (renaming and removing before Linux 5.11, making directories and links before 5.15) takes
//! the [software path](crate::docs::software_ring).

mod attributes;
mod base;
mod content;
mod copy;
mod dir;
mod dir_builder;
mod file;
mod file_type;
mod inotify;
mod metadata;
mod names;
mod open_options;
mod owner;
mod read_dir;
mod resolve;
mod statfs;
mod temporary;
mod walk;
mod xattr;

pub use attributes::{metadata, set_permissions, set_times, symlink_metadata, try_exists};
pub use content::{read, read_to_string, write};
pub use copy::copy;
pub use dir::Dir;
pub use dir_builder::{DirBuilder, create_dir, create_dir_all};
pub use file::{
    Advice, Durability, FallocateMode, File, FileSink, FileStream, SinkError, SyncRangeMode,
    TryLockError,
};
pub use file_type::FileType;
pub use inotify::{Event, Events, Inotify, Watch, WatchMask};
pub use metadata::Metadata;
pub use names::{
    canonicalize, hard_link, read_link, remove_dir, remove_dir_all, remove_file, rename,
    rename_exchange, rename_noreplace, symlink,
};
pub use open_options::OpenOptions;
pub use owner::{chown, fchown, lchown};
pub use read_dir::{DirEntry, ReadDir, read_dir};
pub use resolve::Resolve;
pub use statfs::{StatFs, statfs};
pub use temporary::{TempFile, tempfile, tempfile_in};
pub use walk::{Walk, WalkEntry, WalkError, walk};
pub use xattr::{XattrMode, get_xattr, list_xattr, remove_xattr, set_xattr, set_xattr_with};

/// What a file may be used for: std's.
pub use crate::sys::names::Permissions;
