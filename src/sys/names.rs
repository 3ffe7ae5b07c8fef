//! Calls on names that wait for a file system and that no ring has: for the pool of threads.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::Descriptor;

pub use std::fs::Permissions;

/// A path as the kernel takes it. Refuses one that the kernel would read in part only.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "a path must not contain a NUL byte")
    })
}

/// One getdents64(2) asks for so many bytes, as that of the C library does.
const BATCH: usize = 32 * 1024;
/// A batch goes on to the next call until it has so many entries, so that small directories, the
/// end included, are one batch.
const ENOUGH: usize = 256;

/// An entry of a directory, as getdents64(2) tells it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: CString,
    pub(crate) inode: u64,
    /// `S_IFMT` of its mode; 0 where the file system does not say.
    pub(crate) file_type: u32,
}

/// Entries of a directory that follow those read before, without `.` and `..`. `true`: these are
/// the last.
pub(crate) fn read_directory(directory: BorrowedFd<'_>) -> io::Result<(Vec<Entry>, bool)> {
    let mut memory = Vec::with_capacity(BATCH);
    let mut reader = RawDir::new(directory, memory.spare_capacity_mut());
    let mut entries = Vec::new();
    loop {
        match reader.next() {
            None => return Ok((entries, true)),
            Some(Err(Errno::INTR)) => continue,
            // What was read before comes first. The next call says this again, or succeeds.
            Some(Err(_)) if !entries.is_empty() => return Ok((entries, false)),
            // Somebody has removed the directory.
            Some(Err(Errno::NOENT)) => return Ok((entries, true)),
            Some(Err(errno)) => return Err(errno.into()),
            Some(Ok(entry)) if [c".", c".."].contains(&entry.file_name()) => {}
            Some(Ok(entry)) => entries.push(Entry {
                name: entry.file_name().to_owned(),
                inode: entry.ino(),
                file_type: match entry.file_type() {
                    FileType::Unknown => 0,
                    known => known.as_raw_mode(),
                },
            }),
        }
        if reader.is_buffer_empty() && entries.len() >= ENOUGH {
            return Ok((entries, false));
        }
    }
}

/// realpath(3).
pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

/// readlink(2).
pub(crate) fn read_link(path: &Path) -> io::Result<PathBuf> {
    std::fs::read_link(path)
}

/// The same of a link that was opened with `O_PATH`; readlinkat(2).
pub(crate) fn read_open_link(link: &Descriptor) -> io::Result<PathBuf> {
    match rustix::fs::readlinkat(link, c"", Vec::new()) {
        Ok(text) => Ok(OsString::from_vec(text.into_bytes()).into()),
        // It is no link. Of a path, readlink(2) says so in this way.
        Err(Errno::NOENT) => Err(Errno::INVAL.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// By what a call that takes a path names an open file. `/proc` must be mounted.
pub(crate) fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/thread-self/fd/{}", file.as_raw_fd())
}

/// chmod(2).
pub(crate) fn set_permissions(path: &Path, permissions: Permissions) -> io::Result<()> {
    std::fs::set_permissions(path, permissions)
}

/// The same of a file that was opened with `O_PATH`.
pub(crate) fn set_permissions_of(file: &Descriptor, permissions: Permissions) -> io::Result<()> {
    std::fs::set_permissions(path_of(file), permissions)
}

/// The user and the group that a file belongs to, or `None` to leave that as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

/// chown(2), or lchown(2), which does not follow a symbolic link at the end.
pub(crate) fn set_owner(path: &Path, owner: Owner, follows: bool) -> io::Result<()> {
    match follows {
        true => std::os::unix::fs::chown(path, owner.user, owner.group),
        false => std::os::unix::fs::lchown(path, owner.user, owner.group),
    }
}

/// The same of an open file; fchown(2).
pub(crate) fn set_owner_of_open(file: &Descriptor, owner: Owner) -> io::Result<()> {
    std::os::unix::fs::fchown(file, owner.user, owner.group)
}

/// The same of a file that was opened with `O_PATH`; fchownat(2).
pub(crate) fn set_owner_of(file: &Descriptor, owner: Owner) -> io::Result<()> {
    let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
    Ok(rustix::fs::chownat(file, c"", user, group, AtFlags::EMPTY_PATH)?)
}

/// When a file was last read and written, or `None` to leave that as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) accessed: Option<SystemTime>,
    pub(crate) modified: Option<SystemTime>,
}

/// utimensat(2).
pub(crate) fn set_times(path: &Path, times: Times) -> io::Result<()> {
    Ok(rustix::fs::utimensat(CWD, path, &timestamps(times)?, AtFlags::empty())?)
}

/// The same of a file that was opened with `O_PATH`.
pub(crate) fn set_times_of(file: &Descriptor, times: Times) -> io::Result<()> {
    let times = timestamps(times)?;
    match rustix::fs::utimensat(file, c"", &times, AtFlags::EMPTY_PATH) {
        // Before Linux 5.8 it has no such flag, and filters may follow that.
        Err(Errno::INVAL) => {
            Ok(rustix::fs::utimensat(CWD, path_of(file), &times, AtFlags::empty())?)
        }
        done => Ok(done?),
    }
}

fn timestamps(times: Times) -> io::Result<Timestamps> {
    Ok(Timestamps {
        last_access: timestamp(times.accessed)?,
        last_modification: timestamp(times.modified)?,
    })
}

fn timestamp(time: Option<SystemTime>) -> io::Result<Timespec> {
    let Some(time) = time else { return Ok(Timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT }) };
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).ok(), since.subsec_nanos()),
        // Nanoseconds count upwards also before the epoch.
        Err(error) => {
            let before = error.duration();
            let whole = before + Duration::from_nanos(999_999_999);
            let seconds = i64::try_from(whole.as_secs()).ok().map(|seconds| -seconds);
            (seconds, (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000)
        }
    };
    let tv_sec = seconds.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the time does not fit into 64 bits of seconds")
    })?;
    Ok(Timespec { tv_sec, tv_nsec: nanoseconds.into() })
}

/// Removes a directory and all in it, or a symbolic link. std never follows a link there: it opens
/// each directory relative to the one that holds it, and removes names relative to that. Only a
/// slash behind the name would have the kernel follow a link, and so the name goes without.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let name = without_slashes(bytes);
    if name.is_empty() || name.len() == bytes.len() {
        return std::fs::remove_dir_all(path);
    }
    let name = Path::new(OsStr::from_bytes(name));
    if name.is_symlink() {
        return Err(Errno::NOTDIR.into());
    }
    std::fs::remove_dir_all(name)
}

/// A name without the slashes behind it.
fn without_slashes(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &name[..end]
}

/// A directory whose content is being removed.
struct Level {
    directory: OwnedFd,
    /// Its own name, in the level above.
    name: CString,
    /// Directories in it that are to be removed. Never more than a batch holds.
    left: Vec<CString>,
}

/// The same of a name within an open directory. One descriptor is open for each level.
///
/// With a slash behind its name a symbolic link is no directory, as for rmdir(2). `O_NOFOLLOW`
/// would follow it.
pub(crate) fn remove_tree_in(parent: &Descriptor, name: CString) -> io::Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    let alone = without_slashes(name.to_bytes());
    let name = if alone.len() == name.to_bytes().len() {
        name
    } else {
        let alone = CString::new(alone).expect("it is a part of a C string");
        if is_link(parent.as_fd(), &alone) {
            return Err(Errno::NOTDIR.into());
        }
        alone
    };
    if let Some(directory) = open_to_empty(parent.as_fd(), &name)? {
        levels.push(Level { directory, name, left: Vec::new() });
    }
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.left.pop() {
            match open_to_empty(level.directory.as_fd(), &name) {
                Ok(Some(directory)) => levels.push(Level { directory, name, left: Vec::new() }),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        let (entries, _is_end) = read_directory(level.directory.as_fd())?;
        if entries.is_empty() {
            let Some(Level { name, .. }) = levels.pop() else { break };
            let above = levels.last().map_or(parent.as_fd(), |level| level.directory.as_fd());
            gone(rustix::fs::unlinkat(above, &name, AtFlags::REMOVEDIR))?;
            continue;
        }
        for entry in entries {
            if entry.file_type == libc::S_IFDIR {
                level.left.push(entry.name);
                continue;
            }
            match rustix::fs::unlinkat(&level.directory, &entry.name, AtFlags::empty()) {
                // It did not say its type, or has become a directory.
                Err(Errno::ISDIR) => level.left.push(entry.name),
                done => gone(done)?,
            }
        }
    }
    Ok(())
}

/// Opens a directory to remove what is in it. `None`: it was a symbolic link, which is removed.
fn open_to_empty(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOTDIR | Errno::LOOP) if is_link(parent, name) => {
            gone(rustix::fs::unlinkat(parent, name, AtFlags::empty()))?;
            Ok(None)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn is_link(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::readlinkat(parent, name, Vec::new()).is_ok()
}

/// Somebody else may have been faster.
fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Where programs put what is for a short time: `TMPDIR`, or `/tmp`.
pub(crate) fn temporary_directory() -> PathBuf {
    std::env::temp_dir()
}

/// A number that nobody guesses, for a name that nobody has.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_have_nanoseconds_that_count_upwards() {
        let of = |time| {
            let time = timestamp(Some(time)).expect("it fits");
            (time.tv_sec, time.tv_nsec)
        };
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(of(epoch), (0, 0));
        assert_eq!(of(epoch + Duration::new(1, 5)), (1, 5));
        assert_eq!(of(epoch - Duration::new(1, 0)), (-1, 0));
        assert_eq!(of(epoch - Duration::new(1, 5)), (-2, 999_999_995));
        assert_eq!(of(epoch - Duration::from_nanos(1)), (-1, 999_999_999));
        assert_eq!(timestamp(None).expect("nothing").tv_nsec, libc::UTIME_OMIT);
    }
}
