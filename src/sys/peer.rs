//! What a Unix socket tells of the process at its other end. unix(7), socket(7).
//!
//! # Safety
//! Every block is a system call on a descriptor that the caller holds open and on memory that
//! outlives the call, or takes a descriptor that the kernel has just made.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::Descriptor;
use super::control::Credentials;
use super::option::{PEER_CREDENTIALS, PEER_PIDFD};

/// A process as the kernel knows it: its number, its user and its group.
///
/// Numbers are those of this process's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UCred {
    pid: u32,
    uid: u32,
    gid: u32,
}

impl UCred {
    /// The process. `None` where this process cannot name it, since it is in another namespace.
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.pid).ok().filter(|pid| *pid > 0)
    }

    /// Its effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its effective group.
    pub fn gid(&self) -> u32 {
        self.gid
    }
}

impl From<Credentials> for UCred {
    fn from(credentials: Credentials) -> UCred {
        let Credentials { process, user, group } = credentials;
        UCred { pid: process, uid: user, gid: group }
    }
}

/// Who the peer is.
pub(crate) fn peer_cred(socket: &impl AsFd) -> io::Result<UCred> {
    let [pid, uid, gid] = PEER_CREDENTIALS.get(socket)?.map(|word| word as u32);
    Ok(UCred { pid, uid, gid })
}

/// How often the groups are asked for, since they might change between two calls.
const MOST_ATTEMPTS: usize = 8;

/// A descriptor of the peer's process, close-on-exec (Linux 6.5).
pub(crate) fn peer_pidfd(socket: &impl AsFd) -> io::Result<Descriptor> {
    let number = PEER_PIDFD.get(socket).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel tells no pidfd of a peer: Linux 6.5 does",
        ),
        _ => error,
    })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { Descriptor::of_number(number) })
}

/// The supplementary groups of the peer's process.
pub(crate) fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 32];
    for _ in 0..MOST_ATTEMPTS {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the groups are exclusively borrowed for the call, and as long as it is told.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut length,
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        // With too little room it says how much it takes.
        groups.resize(length as usize / size_of::<u32>(), 0);
        match error {
            None => return Ok(groups),
            Some(error) if error.raw_os_error() == Some(libc::ERANGE) => {}
            Some(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ERANGE))
}
