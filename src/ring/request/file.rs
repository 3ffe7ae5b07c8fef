//! Calls on an open file as a whole.

use std::os::fd::RawFd;

use super::common::{Waits, never_began};
use super::raw::RawEntry;
use crate::ring::catalogue::FileCode;
use crate::ring::memory::Address;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileCall {
    Fsync {
        fd: RawFd,
        data_only: bool,
    },
    Ftruncate {
        fd: RawFd,
        length: u64,
    },
    Fallocate {
        fd: RawFd,
        mode: u32,
        offset: u64,
        length: u64,
    },
    Close {
        fd: RawFd,
    },
    /// `length` 0: to the end.
    Fadvise {
        fd: RawFd,
        offset: u64,
        length: u64,
        advice: u32,
    },
    /// `length` 0: to the end.
    SyncRange {
        fd: RawFd,
        offset: u64,
        length: u32,
        flags: u32,
    },
    /// `length` is the room for the value.
    GetAttribute {
        fd: RawFd,
        name: Address,
        value: Address,
        length: u32,
    },
    SetAttribute {
        fd: RawFd,
        name: Address,
        value: Address,
        length: u32,
        flags: u32,
    },
}

pub(super) fn decode(code: FileCode, raw: &RawEntry) -> Result<FileCall, i32> {
    let (fd, flags) = (raw.fd, raw.operation_flags);
    Ok(match code {
        FileCode::Fsync if flags & !1 == 0 => FileCall::Fsync { fd, data_only: flags == 1 },
        FileCode::Ftruncate => FileCall::Ftruncate { fd, length: raw.offset },
        FileCode::Fallocate => {
            FileCall::Fallocate { fd, mode: raw.length, offset: raw.offset, length: raw.address }
        }
        FileCode::Close if raw.file_index == 0 => FileCall::Close { fd },
        FileCode::Fadvise => {
            // The field of the address is for lengths that the other does not hold.
            let length = if raw.address == 0 { raw.length.into() } else { raw.address };
            FileCall::Fadvise { fd, offset: raw.offset, length, advice: flags }
        }
        FileCode::SyncFileRange if raw.address == 0 => {
            FileCall::SyncRange { fd, offset: raw.offset, length: raw.length, flags }
        }
        FileCode::FGetXattr if flags == 0 => FileCall::GetAttribute {
            fd,
            name: raw.first_address(),
            value: raw.second_address(),
            length: raw.length,
        },
        FileCode::FSetXattr => FileCall::SetAttribute {
            fd,
            name: raw.first_address(),
            value: raw.second_address(),
            length: raw.length,
            flags,
        },
        // Flags and fields that they do not have, and a file of a table that there is not.
        FileCode::Fsync | FileCode::Close | FileCode::SyncFileRange | FileCode::FGetXattr => {
            return Err(libc::EINVAL);
        }
    })
}

impl FileCall {
    /// The descriptor, where it may be waited for: what is being closed is not.
    pub(super) fn fd(&self) -> Option<RawFd> {
        match *self {
            FileCall::Fsync { fd, .. }
            | FileCall::Ftruncate { fd, .. }
            | FileCall::Fallocate { fd, .. }
            | FileCall::Fadvise { fd, .. }
            | FileCall::SyncRange { fd, .. }
            | FileCall::GetAttribute { fd, .. }
            | FileCall::SetAttribute { fd, .. } => Some(fd),
            FileCall::Close { .. } => None,
        }
    }

    pub(super) fn closes(&self) -> Option<RawFd> {
        match *self {
            FileCall::Close { fd } => Some(fd),
            FileCall::Fsync { .. }
            | FileCall::Ftruncate { .. }
            | FileCall::Fallocate { .. }
            | FileCall::Fadvise { .. }
            | FileCall::SyncRange { .. }
            | FileCall::GetAttribute { .. }
            | FileCall::SetAttribute { .. } => None,
        }
    }

    pub(crate) fn waits(&self) -> Waits {
        match self {
            FileCall::Close { .. } => Waits::Never,
            FileCall::Fsync { .. }
            | FileCall::Ftruncate { .. }
            | FileCall::Fallocate { .. }
            | FileCall::Fadvise { .. }
            | FileCall::SyncRange { .. }
            | FileCall::GetAttribute { .. }
            | FileCall::SetAttribute { .. } => Waits::Regardless,
        }
    }

    pub(super) fn breaks_chain(&self, result: i32) -> bool {
        match self {
            FileCall::Fsync { .. }
            | FileCall::Ftruncate { .. }
            | FileCall::Fallocate { .. }
            | FileCall::SyncRange { .. }
            | FileCall::GetAttribute { .. }
            | FileCall::SetAttribute { .. } => never_began(result),
            FileCall::Close { .. } | FileCall::Fadvise { .. } => result < 0,
        }
    }
}
