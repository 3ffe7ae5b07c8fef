//! Waits until a descriptor is ready.

use std::os::fd::RawFd;

use super::common::Modifiers;
use super::raw::RawEntry;
use crate::ring::catalogue::PollCode;

const MULTISHOT: u32 = 1 << 0;

/// Events of poll(2) on a descriptor: `POLL_ADD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Poll {
    pub(crate) fd: RawFd,
    pub(crate) mask: u32,
}

pub(super) fn decode(code: PollCode, raw: &RawEntry) -> Result<(Poll, Modifiers), i32> {
    match code {
        PollCode::PollAdd if raw.length & !MULTISHOT != 0 => Err(libc::EINVAL),
        PollCode::PollAdd => {
            let poll = Poll { fd: raw.fd, mask: raw.operation_flags | libc::POLLRDHUP as u32 };
            Ok((poll, Modifiers { multishot: raw.length & MULTISHOT != 0, ..Modifiers::default() }))
        }
    }
}
