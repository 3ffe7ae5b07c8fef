//! The addresses of Unix sockets: paths, names in the abstract space, and none.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use super::SockAddr;

/// A path or an abstract name as the kernel takes it. Inside a path a NUL byte would end it early.
pub(crate) fn unix_address_at(path: &Path) -> io::Result<SockAddr> {
    if path.as_os_str().as_bytes().iter().skip(1).any(|&byte| byte == 0) && !is_abstract(path) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a path must not contain a NUL byte",
        ));
    }
    SockAddr::unix(path)
}

/// An address of std's as the kernel takes it. An unnamed one is a path without a byte.
pub(crate) fn kernel_unix_address(address: &SocketAddr) -> io::Result<SockAddr> {
    match address.as_abstract_name() {
        Some(name) => {
            let path = [&[0], name].concat();
            SockAddr::unix(OsStr::from_bytes(&path))
        }
        None => SockAddr::unix(address.as_pathname().unwrap_or(Path::new(""))),
    }
}

/// The address of a socket that has none.
pub(crate) fn unnamed_unix_address() -> io::Result<SocketAddr> {
    SocketAddr::from_pathname("")
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

/// As std has it. A peer may have bound itself to a path that std cannot hold (all 108 bytes); it
/// counts as unnamed, since a name must not cost the connection.
pub(crate) fn unix_address_of(address: &SockAddr) -> io::Result<SocketAddr> {
    if let Some(name) = address.as_abstract_namespace() {
        return SocketAddr::from_abstract_name(name);
    }
    let path = address.as_pathname().unwrap_or(Path::new(""));
    SocketAddr::from_pathname(path).or_else(|_| unnamed_unix_address())
}
