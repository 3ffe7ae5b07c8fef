//! Where paths begin: at the process's current directory, or at an open directory to which they are
//! held.
//!
//! Each function on names is written once, for a [`Base`], and serves both [`fs`](super) and
//! [`Dir`](super::Dir).

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::resolve::Resolve;
use crate::inflight::Resource;
use crate::op::open::{Open, OpenHeld};
use crate::op::path::Place;
use crate::sys::names::c_path;

/// How often a path is looked up that the kernel could not follow for sure, since somebody renamed
/// a directory meanwhile (`EAGAIN`).
const MOST_ATTEMPTS: u32 = 128;

/// Where paths begin.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// `None` is the process's current directory, from where paths lead anywhere.
    held: Option<HeldDirectory>,
}

#[derive(Debug, Clone)]
struct HeldDirectory {
    handle: Rc<Resource>,
    resolve: Resolve,
}

impl Base {
    pub(super) const HERE: Base = Base { held: None };

    pub(super) fn of(handle: Resource, resolve: Resolve) -> Base {
        Base { held: Some(HeldDirectory { handle: Rc::new(handle), resolve }) }
    }

    /// The same, but that its paths are held to it in this way.
    pub(super) fn with_resolve(mut self, resolve: Resolve) -> Base {
        if let Some(held) = &mut self.held {
            held.resolve = resolve;
        }
        self
    }

    /// The open directory, if it is one.
    pub(super) fn handle(&self) -> Option<&Resource> {
        self.held.as_ref().map(|held| &*held.handle)
    }

    /// How paths are held to it.
    pub(super) fn resolve(&self) -> Resolve {
        self.held.as_ref().map_or(Resolve::anywhere(), |held| held.resolve)
    }

    /// Opens what a path leads to; with `O_NOFOLLOW` also a symbolic link itself.
    pub(super) async fn open(
        &self,
        path: &Path,
        flags: i32,
        mode: libc::mode_t,
    ) -> io::Result<Resource> {
        let path = c_path(path)?;
        match &self.held {
            Some(held) => held.open(path, flags, mode).await,
            None => Open::op(Place::here(path), flags, mode).await,
        }
    }

    /// Opens what a path leads to, or the symbolic link itself, only to name it.
    pub(super) async fn locate(&self, path: &Path, follows: bool) -> io::Result<Resource> {
        let flags = if follows { libc::O_PATH } else { libc::O_PATH | libc::O_NOFOLLOW };
        self.open(path, flags, 0).await
    }

    /// The name that a path ends in, in the directory that has it. Calls on it follow no link.
    ///
    /// Without an open directory it is the whole path, which the call resolves by itself.
    pub(super) async fn name(&self, path: &Path) -> io::Result<Name<'_>> {
        let path = c_path(path)?;
        let Some(held) = &self.held else { return Ok(Name { directory: Directory::Here, path }) };
        let (parent, name) = split(path)?;
        let directory = match parent {
            None => Directory::Base(&held.handle),
            Some(parent) => {
                Directory::Opened(held.open(parent, libc::O_PATH | libc::O_DIRECTORY, 0).await?)
            }
        };
        Ok(Name { directory, path: name })
    }
}

impl HeldDirectory {
    async fn open(&self, path: CString, flags: i32, mode: libc::mode_t) -> io::Result<Resource> {
        // openat2(2) refuses what openat(2) ignores.
        let makes = flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let mode = if makes { mode & 0o7777 } else { 0 };
        let mut attempts = 1;
        loop {
            let place = Place::within(&self.handle, path.clone());
            match OpenHeld::op(place, flags, mode, self.resolve.bits()).await {
                Err(error)
                    if error.raw_os_error() == Some(libc::EAGAIN) && attempts < MOST_ATTEMPTS =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(self.resolve.explained(error)),
                Ok(opened) => return Ok(opened),
            }
        }
    }
}

/// The last name of a path, and the directory that has it.
pub(super) struct Name<'b> {
    directory: Directory<'b>,
    path: CString,
}

enum Directory<'b> {
    Here,
    Base(&'b Resource),
    Opened(Resource),
}

impl Name<'_> {
    pub(super) fn place(&self) -> Place<'_> {
        let path = self.path.clone();
        match &self.directory {
            Directory::Here => Place::here(path),
            Directory::Base(directory) => Place::within(directory, path),
            Directory::Opened(directory) => Place::within(directory, path),
        }
    }

    /// Does it end in a slash, with which some calls follow a symbolic link?
    pub(super) fn ends_in_slash(&self) -> bool {
        self.path.to_bytes().ends_with(b"/")
    }

    /// The open directory, and the name in it.
    pub(super) fn parts(&self) -> Option<(&Resource, &CString)> {
        match &self.directory {
            Directory::Here => None,
            Directory::Base(directory) => Some((directory, &self.path)),
            Directory::Opened(directory) => Some((directory, &self.path)),
        }
    }
}

/// The path of the directory, or `None` for the base itself, and the last name with the slashes
/// behind it.
fn split(path: CString) -> io::Result<(Option<CString>, CString)> {
    let mut path = path.into_bytes();
    let is_slash = |byte: &u8| *byte == b'/';
    let end = path.iter().rposition(|byte| !is_slash(byte)).map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(is_slash).map_or(0, |slash| slash + 1);
    match &path[start..end] {
        b"" if path.is_empty() => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
        b"" | b"." | b".." => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path must end in a name: not in `.`, `..` or a slash alone",
            ));
        }
        _ => {}
    }
    let name = path.split_off(start);
    let parent = (!path.is_empty()).then(|| c_string(path));
    Ok((parent, c_string(name)))
}

fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).expect("it is a part of a path without a NUL byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_into_its_directory_and_its_last_name() {
        let split = |path: &str| {
            let path = CString::new(path).expect("no NUL byte");
            let text = |part: CString| part.into_string().expect("text");
            split(path).map(|(parent, name)| (parent.map(text), text(name)))
        };
        for (path, parent, name) in [
            ("a", None, "a"),
            ("a//", None, "a//"),
            ("a/b", Some("a/"), "b"),
            ("/a", Some("/"), "a"),
            ("//a/", Some("//"), "a/"),
            ("a/../b/", Some("a/../"), "b/"),
            ("...", None, "..."),
        ] {
            let expected = (parent.map(str::to_owned), name.to_owned());
            assert_eq!(split(path).expect(path), expected, "{path}");
        }
        for path in [".", "..", "a/.", "a/../", "/", "///"] {
            let error = split(path).expect_err(path);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        assert_eq!(split("").expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }
}
