//! The kind of an open file, as far as calls on it wait for somebody.
//!
//! The file system itself is not asked, since that may wait: the list of mounts says what a device
//! is, and what it says is remembered.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use crate::sys::{self, Status};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Socket,
    /// A file or directory on a disk of this machine, or in its memory.
    Local,
    /// A file of a process in user space.
    Fuse,
    /// A file that may be on another machine.
    Remote,
    /// A device that is memory, or a pseudo-terminal.
    MemoryDevice,
    Device,
    /// A pipe, or something without a name.
    Other,
}

/// The numbers of memory devices, and of the pseudo-terminals' sides.
const MEMORY: u32 = 1;
const PTY_MASTERS_AND_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;
const PTY_MULTIPLEXER: (u32, u32) = (5, 2);

impl FileKind {
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> FileKind {
        let Some(status) = Status::of(descriptor) else { return FileKind::Other };
        match status.file_type {
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFREG | libc::S_IFDIR => {
                of_file_on((status.on_device.0, status.on_device.1, status.mount), descriptor)
            }
            libc::S_IFCHR
                if status.is_device.0 == MEMORY
                    || PTY_MASTERS_AND_SLAVES.contains(&status.is_device.0) =>
            {
                FileKind::MemoryDevice
            }
            libc::S_IFCHR if status.is_device == PTY_MULTIPLEXER => FileKind::MemoryDevice,
            libc::S_IFCHR | libc::S_IFBLK => FileKind::Device,
            _ => FileKind::Other,
        }
    }

    /// Does close(2) of its last descriptor return without waiting for anybody? Not for a socket
    /// that lingers, a device such as a serial line, which waits until all is sent, or a file of a
    /// file system that is not local, which flushes then.
    pub(crate) fn closes_at_once(self, descriptor: BorrowedFd<'_>) -> bool {
        match self {
            FileKind::Socket => !sys::lingers(descriptor),
            FileKind::Local | FileKind::MemoryDevice | FileKind::Other => true,
            FileKind::Fuse | FileKind::Remote | FileKind::Device => false,
        }
    }

    /// May a read or write wait for somebody whatever it is told, so that nothing but a thread of
    /// its own will do? A terminal waits for its other side, and whoever serves a file from user
    /// space takes the time that it takes.
    pub(crate) fn waits_regardless(self, is_stream: bool) -> bool {
        match self {
            FileKind::Fuse => true,
            FileKind::MemoryDevice | FileKind::Device => is_stream,
            _ => false,
        }
    }
}

/// What was found out of devices, by their numbers and mounts. Before Linux 6.8 both are used
/// again, and another file system may be taken for the one before, until the process ends.
static KNOWN: Mutex<BTreeMap<Place, FileKind>> = Mutex::new(BTreeMap::new());

/// Major and minor number of a device, and a mount of it.
type Place = (u32, u32, u64);

/// Most that are remembered.
const MOST_KNOWN: usize = 1024;

fn of_file_on(device: Place, file: BorrowedFd<'_>) -> FileKind {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&device).copied();
    known.unwrap_or_else(|| find_out(device, file))
}

#[cold]
fn find_out(device: Place, file: BorrowedFd<'_>) -> FileKind {
    // Without the list nothing is known, and nothing remembered: whoever may wait does so on a
    // thread.
    let Ok(mounts) = fs::read_to_string("/proc/thread-self/mountinfo") else {
        return FileKind::Fuse;
    };
    let kind = match name_of((device.0, device.1), &mounts) {
        Some(name) if name.starts_with("fuse") || name == "virtiofs" => FileKind::Fuse,
        Some(name) if REMOTE_FILE_SYSTEMS.contains(&name) => FileKind::Remote,
        // A subvolume, a mount of elsewhere, or one that nobody here has heard of.
        _ => match sys::file_system(file) {
            Some(FUSE) => FileKind::Fuse,
            Some(number) if LOCAL_FILE_SYSTEMS.contains(&number) => FileKind::Local,
            _ => FileKind::Remote,
        },
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(device, kind);
    kind
}

/// The type of the file system on a device, from the lines of proc_pid_mountinfo(5).
fn name_of(device: (u32, u32), mounts: &str) -> Option<&str> {
    let device = format!("{}:{}", device.0, device.1);
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    line.split_once(" - ")?.1.split(' ').next()
}

/// Which answer to statfs(2) from afar.
const REMOTE_FILE_SYSTEMS: [&str; 11] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "gfs2", "ocfs2", "orangefs"];

/// `FUSE_SUPER_MAGIC`.
const FUSE: u32 = 0x6573_5546;

/// File systems on disks of this machine and in its memory: closing a file of theirs does not wait
/// for anybody. statfs(2) has the numbers.
const LOCAL_FILE_SYSTEMS: [u32; 20] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x794c_7630, // overlayfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x9584_58f6, // hugetlbfs
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS
    0x9660,      // ISO 9660
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // EROFS
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
];

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;

    fn kind(descriptor: impl Into<OwnedFd>) -> FileKind {
        FileKind::of(descriptor.into().as_fd())
    }

    #[test]
    fn files_devices_sockets_and_pipes_are_told_apart() {
        let open = |path: &str| fs::File::open(path).expect("it is everywhere");
        assert_eq!(kind(open("/proc/self/stat")), FileKind::Local);
        assert_eq!(kind(open("/dev/null")), FileKind::MemoryDevice);
        assert_eq!(kind(std::io::pipe().expect("a pipe").0), FileKind::Other);
        assert_eq!(
            kind(std::os::unix::net::UnixStream::pair().expect("a pair").0),
            FileKind::Socket
        );
        assert!(!FileKind::of(open("Cargo.toml").as_fd()).waits_regardless(false));
    }

    #[test]
    fn the_list_of_mounts_names_the_type_of_a_device() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                      40 35 0:52 / /media rw,nosuid - fuse.sshfs host: rw,user_id=0\n\
                      41 35 0:53 / /with\\040space rw shared:3 master:7 - nfs4 server:/ rw\n";
        assert_eq!(name_of((98, 0), mounts), Some("ext3"));
        assert_eq!(name_of((0, 52), mounts), Some("fuse.sshfs"));
        assert_eq!(name_of((0, 53), mounts), Some("nfs4"));
        assert_eq!(name_of((0, 5), mounts), None);
        assert_eq!(name_of((8, 0), mounts), None);
    }
}
