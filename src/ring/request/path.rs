//! Calls on names: opening, looking at, renaming, removing and making what they name.

use std::os::fd::RawFd;

use super::common::{Waits, never_began};
use super::raw::RawEntry;
use crate::ring::catalogue::PathCode;
use crate::ring::memory::Address;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathCall {
    OpenAt {
        directory: RawFd,
        path: Address,
        flags: u32,
        mode: u32,
    },
    /// `how` names a `struct open_how` of that size.
    OpenAt2 {
        directory: RawFd,
        path: Address,
        how: Address,
        size: u32,
    },
    Statx {
        directory: RawFd,
        path: Address,
        flags: u32,
        mask: u32,
        status: Address,
    },
    RenameAt {
        from_directory: RawFd,
        from: Address,
        to_directory: RawFd,
        to: Address,
        flags: u32,
    },
    UnlinkAt {
        directory: RawFd,
        path: Address,
        flags: u32,
    },
    MkdirAt {
        directory: RawFd,
        path: Address,
        mode: u32,
    },
    /// `length` is the room for the value.
    GetAttribute {
        path: Address,
        name: Address,
        value: Address,
        length: u32,
    },
    SetAttribute {
        path: Address,
        name: Address,
        value: Address,
        length: u32,
        flags: u32,
    },
    SymlinkAt {
        text: Address,
        directory: RawFd,
        path: Address,
    },
    LinkAt {
        from_directory: RawFd,
        from: Address,
        to_directory: RawFd,
        to: Address,
        flags: u32,
    },
}

pub(super) fn decode(code: PathCode, raw: &RawEntry) -> Result<PathCall, i32> {
    let (directory, path, flags) = (raw.fd, raw.first_address(), raw.operation_flags);
    Ok(match code {
        // A descriptor of the ring's own table is nothing that this side has.
        PathCode::OpenAt | PathCode::OpenAt2 if raw.file_index != 0 => return Err(libc::EINVAL),
        PathCode::OpenAt => PathCall::OpenAt { directory, path, flags, mode: raw.length },
        PathCode::OpenAt2 => {
            PathCall::OpenAt2 { directory, path, how: raw.second_address(), size: raw.length }
        }
        PathCode::Statx => PathCall::Statx {
            directory,
            path,
            flags,
            mask: raw.length,
            status: raw.second_address(),
        },
        PathCode::RenameAt => PathCall::RenameAt {
            from_directory: directory,
            from: path,
            to_directory: raw.length as i32,
            to: raw.second_address(),
            flags,
        },
        PathCode::UnlinkAt => PathCall::UnlinkAt { directory, path, flags },
        PathCode::MkDirAt => PathCall::MkdirAt { directory, path, mode: raw.length },
        PathCode::GetXattr if flags != 0 => return Err(libc::EINVAL),
        PathCode::GetXattr => PathCall::GetAttribute {
            path: raw.third_address(),
            name: raw.first_address(),
            value: raw.second_address(),
            length: raw.length,
        },
        PathCode::SetXattr => PathCall::SetAttribute {
            path: raw.third_address(),
            name: raw.first_address(),
            value: raw.second_address(),
            length: raw.length,
            flags,
        },
        PathCode::SymlinkAt => {
            PathCall::SymlinkAt { text: path, directory, path: raw.second_address() }
        }
        PathCode::LinkAt => PathCall::LinkAt {
            from_directory: directory,
            from: path,
            to_directory: raw.length as i32,
            to: raw.second_address(),
            flags,
        },
    })
}

impl PathCall {
    pub(crate) fn waits(&self) -> Waits {
        match self {
            PathCall::OpenAt { .. } | PathCall::OpenAt2 { .. } => Waits::UnlessAsked,
            PathCall::Statx { .. }
            | PathCall::RenameAt { .. }
            | PathCall::UnlinkAt { .. }
            | PathCall::MkdirAt { .. }
            | PathCall::SymlinkAt { .. }
            | PathCall::LinkAt { .. }
            | PathCall::GetAttribute { .. }
            | PathCall::SetAttribute { .. } => Waits::Regardless,
        }
    }

    /// Is a success a descriptor that was not there before?
    pub(super) fn makes_descriptor(&self) -> bool {
        match self {
            PathCall::OpenAt { .. } | PathCall::OpenAt2 { .. } => true,
            PathCall::Statx { .. }
            | PathCall::RenameAt { .. }
            | PathCall::UnlinkAt { .. }
            | PathCall::MkdirAt { .. }
            | PathCall::SymlinkAt { .. }
            | PathCall::LinkAt { .. }
            | PathCall::GetAttribute { .. }
            | PathCall::SetAttribute { .. } => false,
        }
    }

    pub(super) fn breaks_chain(&self, result: i32) -> bool {
        match self {
            PathCall::OpenAt { .. } | PathCall::OpenAt2 { .. } => result < 0,
            PathCall::Statx { .. }
            | PathCall::RenameAt { .. }
            | PathCall::UnlinkAt { .. }
            | PathCall::MkdirAt { .. }
            | PathCall::SymlinkAt { .. }
            | PathCall::LinkAt { .. }
            | PathCall::GetAttribute { .. }
            | PathCall::SetAttribute { .. } => never_began(result),
        }
    }
}
