//! Who the peer of a Unix socket is: the methods that all of them have, written once.

/// What tells of the peer, for a type that is a Unix socket and has `AsFd`.
macro_rules! credential_methods {
    () => {
        /// The process at the other end, as it was when it connected, or when it began to listen;
        /// `SO_PEERCRED`. Of a pair it is the process that made the pair.
        ///
        /// # Errors
        /// The kernel's.
        pub fn peer_cred(&self) -> std::io::Result<$crate::net::UCred> {
            $crate::sys::peer_cred(self)
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

        /// Whether each message comes with the credentials of the process that sends it:
        /// `SO_PASSCRED`. [`recv_with_fds`](Self::recv_with_fds) tells them.
        ///
        /// # Errors
        /// The kernel's.
        pub fn set_passcred(&self, passcred: bool) -> std::io::Result<()> {
            $crate::sys::option::PASS_CREDENTIALS.set(self, passcred)
        }

        /// Does each message come with the credentials of the process that sends it?
        ///
        /// # Errors
        /// The kernel's.
        pub fn passcred(&self) -> std::io::Result<bool> {
            $crate::sys::option::PASS_CREDENTIALS.get(self)
        }
    };
}

pub(super) use credential_methods;
