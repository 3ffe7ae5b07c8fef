//! How the paths of a `Dir` are held to it.

use std::fmt;
use std::io;

/// How far the paths of a [`Dir`](super::Dir) may lead, and what they may lead through; openat2(2).
///
/// ```
/// use annulus::fs::{Dir, Resolve};
///
/// # annulus::block_on(async {
/// let sources = Dir::open_ambient_dir("src").await?;
/// let strict = sources.with_resolve(Resolve::beneath().no_symlinks().no_xdev());
/// assert!(strict.metadata("lib.rs").await?.is_file());
/// assert!(strict.open("../Cargo.toml").await.is_err());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Resolve {
    /// `RESOLVE_*`.
    bits: u64,
}

impl Resolve {
    /// Paths stay in the directory. One that leads out of it, by `..`, as an absolute path or
    /// through a symbolic link, is refused with `PermissionDenied`. No magic links are followed.
    /// This is what a `Dir` does unless told otherwise (`RESOLVE_BENEATH`).
    #[must_use]
    pub fn beneath() -> Resolve {
        Resolve { bits: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS }
    }

    /// The directory is the root of its paths, as after chroot(2): absolute paths and links begin
    /// in it, and `..` does not lead above it. No magic links are followed (`RESOLVE_IN_ROOT`).
    #[must_use]
    pub fn in_root() -> Resolve {
        Resolve { bits: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS }
    }

    /// Paths begin in the directory, and lead anywhere.
    #[must_use]
    pub fn anywhere() -> Resolve {
        Resolve { bits: 0 }
    }

    /// No symbolic link is followed: a path with one in it is refused with `ELOOP`
    /// (`RESOLVE_NO_SYMLINKS`).
    #[must_use]
    pub fn no_symlinks(self) -> Resolve {
        Resolve { bits: self.bits | libc::RESOLVE_NO_SYMLINKS }
    }

    /// No magic link is followed: these lead from `/proc` to open files. A path with one in it is
    /// refused with `ELOOP` (`RESOLVE_NO_MAGICLINKS`).
    #[must_use]
    pub fn no_magic_links(self) -> Resolve {
        Resolve { bits: self.bits | libc::RESOLVE_NO_MAGICLINKS }
    }

    /// Paths stay on the file system of the directory: one that leads to a mount is refused
    /// (`RESOLVE_NO_XDEV`).
    #[must_use]
    pub fn no_xdev(self) -> Resolve {
        Resolve { bits: self.bits | libc::RESOLVE_NO_XDEV }
    }

    pub(super) fn bits(self) -> u64 {
        self.bits
    }

    /// The kernel has one errno for a path that leads out and for one that leads to another file
    /// system.
    pub(super) fn explained(self, error: io::Error) -> io::Error {
        if error.raw_os_error() != Some(libc::EXDEV) {
            return error;
        }
        let (beneath, mounts) =
            (self.bits & libc::RESOLVE_BENEATH != 0, self.bits & libc::RESOLVE_NO_XDEV != 0);
        let sentence = match (beneath, mounts) {
            (true, false) => "the path leads out of its directory",
            (false, true) => "the path leads to another file system",
            (true, true) => "the path leads out of its directory or to another file system",
            (false, false) => return error,
        };
        io::Error::new(io::ErrorKind::PermissionDenied, sentence)
    }
}

/// As [`Resolve::beneath`].
impl Default for Resolve {
    fn default() -> Resolve {
        Resolve::beneath()
    }
}

impl fmt::Debug for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (libc::RESOLVE_BENEATH, "beneath"),
            (libc::RESOLVE_IN_ROOT, "in_root"),
            (libc::RESOLVE_NO_SYMLINKS, "no_symlinks"),
            (libc::RESOLVE_NO_MAGICLINKS, "no_magic_links"),
            (libc::RESOLVE_NO_XDEV, "no_xdev"),
        ];
        let set = names.iter().filter(|(bit, _)| self.bits & bit != 0).map(|(_, name)| name);
        write!(f, "Resolve ")?;
        f.debug_set().entries(set).finish()
    }
}
