//! Who the peer of a Unix socket is.

/// A process as the kernel knows it: its number, its user and its group.
///
/// Numbers are those of this process's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UCred {
    pub(super) pid: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl UCred {
    /// The process. `None` where this process cannot name it, since it is in another namespace.
    pub fn pid(&self) -> Option<i32> {
        (self.pid > 0).then_some(self.pid)
    }

    /// Its effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its effective group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    pub(super) fn of_words([pid, uid, gid]: [i32; 3]) -> UCred {
        UCred { pid, uid: uid as u32, gid: gid as u32 }
    }
}

/// What tells of the peer, for a type that is a Unix socket and has `AsFd`.
macro_rules! credential_methods {
    () => {
        /// The process at the other end, as it was when it connected, or when it began to listen;
        /// `SO_PEERCRED`. Of a pair it is the process that made the pair.
        ///
        /// # Errors
        /// The kernel's.
        pub fn peer_cred(&self) -> std::io::Result<$crate::net::UCred> {
            let words = $crate::sys::option::PEER_CREDENTIALS.get(self)?;
            Ok($crate::net::unix::credentials::UCred::of_words(words))
        }

        /// A descriptor of the process at the other end; `SO_PEERPIDFD`, pidfd_open(2).
        ///
        /// It names the process that [`peer_cred`](Self::peer_cred) tells of, also after that has
        /// ended and its number was given to another one. Needs Linux 6.5.
        ///
        /// # Errors
        /// `Unsupported` before Linux 6.5, else the kernel's: `ENODATA` where there is no peer,
        /// `ESRCH` or `EINVAL` where the process has ended and the kernel is older than 6.16,
        /// `EMFILE`.
        pub fn peer_pidfd(&self) -> std::io::Result<std::os::fd::OwnedFd> {
            $crate::sys::peer_pidfd(self).map(std::os::fd::OwnedFd::from)
        }

        /// The supplementary groups of the process at the other end; `SO_PEERGROUPS`.
        ///
        /// # Errors
        /// The kernel's: `ENODATA` where there is no peer.
        pub fn peer_groups(&self) -> std::io::Result<Vec<u32>> {
            $crate::sys::peer_groups(self)
        }
    };
}

pub(super) use credential_methods;
