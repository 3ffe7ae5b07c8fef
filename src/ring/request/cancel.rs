//! Requests that end others.

use std::os::fd::RawFd;

use super::raw::RawEntry;
use crate::ring::catalogue::CancelCode;

const ALL: u32 = 1 << 0;
const BY_FD: u32 = 1 << 1;
const ANY: u32 = 1 << 2;
const BY_TOKEN: u32 = 1 << 4;

/// Which requests a cancel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) token: Option<u64>,
    pub(crate) fd: Option<RawFd>,
    /// Not only the first that is found.
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelRequest {
    AsyncCancel(Target),
    PollRemove { token: u64 },
}

pub(super) fn decode(code: CancelCode, raw: &RawEntry) -> Result<CancelRequest, i32> {
    match code {
        CancelCode::AsyncCancel => target(raw).map(CancelRequest::AsyncCancel),
        CancelCode::PollRemove if raw.length == 0 => {
            Ok(CancelRequest::PollRemove { token: raw.address })
        }
        // To change a poll is nothing that we emit.
        CancelCode::PollRemove => Err(libc::EINVAL),
    }
}

fn target(raw: &RawEntry) -> Result<Target, i32> {
    let flags = raw.operation_flags;
    let (by_fd, any) = (flags & BY_FD != 0, flags & ANY != 0);
    if flags & !(ALL | BY_FD | ANY | BY_TOKEN) != 0 || (any && by_fd) {
        return Err(libc::EINVAL);
    }
    // By token, unless something else was named.
    let by_token = flags & BY_TOKEN != 0 || !(by_fd || any);
    Ok(Target {
        token: by_token.then_some(raw.address),
        fd: by_fd.then_some(raw.fd),
        all: flags & (ALL | ANY) != 0,
    })
}
