//! Timeouts, and what removes or moves them.

use super::common::Modifiers;
use super::raw::RawEntry;
use crate::ring::catalogue::TimeCode;
use crate::ring::memory::{self, Address};

pub(crate) const TIMEOUT_ABSOLUTE: u32 = 1 << 0;
pub(crate) const TIMEOUT_BOOTTIME: u32 = 1 << 2;
pub(crate) const TIMEOUT_REALTIME: u32 = 1 << 3;
const UPDATE: u32 = 1 << 1;
const LINKED: u32 = 1 << 4;
const SUCCEEDS: u32 = 1 << 5;
pub(super) const MULTISHOT: u32 = 1 << 6;
const CLOCKS: u32 = TIMEOUT_BOOTTIME | TIMEOUT_REALTIME;

/// A duration or a time of day. It is copied out of the program's memory at once, since it may
/// change after submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timespec {
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
}

impl Timespec {
    fn at(address: Address) -> Result<Timespec, i32> {
        let (seconds, nanoseconds) = memory::timespec(address).ok_or(libc::EFAULT)?;
        match (u64::try_from(seconds), u64::try_from(nanoseconds)) {
            (Ok(seconds), Ok(nanoseconds)) => Ok(Timespec { seconds, nanoseconds }),
            _ => Err(libc::EINVAL),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeRequest {
    /// `count`: how often a multishot one fires, 0 for ever.
    Timeout {
        time: Timespec,
        count: u32,
        flags: u32,
    },
    TimeoutRemove {
        token: u64,
    },
    TimeoutUpdate {
        token: u64,
        time: Timespec,
        flags: u32,
    },
    LinkTimeout {
        time: Timespec,
        flags: u32,
    },
}

pub(super) fn decode(code: TimeCode, raw: &RawEntry) -> Result<(TimeRequest, Modifiers), i32> {
    Ok(match code {
        TimeCode::Timeout => {
            let multishot = raw.operation_flags & MULTISHOT != 0;
            (timeout(raw, multishot)?, Modifiers { multishot, ..Modifiers::default() })
        }
        TimeCode::TimeoutUpdate => (remove_or_update(raw)?, Modifiers::default()),
        TimeCode::LinkTimeout => (link_timeout(raw)?, Modifiers::default()),
    })
}

fn timeout(raw: &RawEntry, multishot: bool) -> Result<TimeRequest, i32> {
    let flags = raw.operation_flags;
    let known = TIMEOUT_ABSOLUTE | CLOCKS | SUCCEEDS | MULTISHOT;
    // A count of completions to wait for is nothing that we emit.
    let counts = raw.offset != 0 && !multishot;
    let repeats_an_instant = multishot && flags & TIMEOUT_ABSOLUTE != 0;
    if raw.length != 1
        || flags & !known != 0
        || flags & CLOCKS == CLOCKS
        || counts
        || repeats_an_instant
    {
        return Err(libc::EINVAL);
    }
    Ok(TimeRequest::Timeout {
        time: Timespec::at(raw.first_address())?,
        count: raw.offset as u32,
        flags,
    })
}

fn remove_or_update(raw: &RawEntry) -> Result<TimeRequest, i32> {
    let flags = raw.operation_flags;
    if flags & UPDATE == 0 {
        return if flags == 0 {
            Ok(TimeRequest::TimeoutRemove { token: raw.address })
        } else {
            Err(libc::EINVAL)
        };
    }
    if flags & !(UPDATE | TIMEOUT_ABSOLUTE | CLOCKS | LINKED) != 0 || flags & CLOCKS == CLOCKS {
        return Err(libc::EINVAL);
    }
    let time = Timespec::at(raw.second_address())?;
    Ok(TimeRequest::TimeoutUpdate { token: raw.address, time, flags: flags & !UPDATE })
}

fn link_timeout(raw: &RawEntry) -> Result<TimeRequest, i32> {
    let flags = raw.operation_flags;
    let known = TIMEOUT_ABSOLUTE | CLOCKS | SUCCEEDS;
    if raw.length != 1 || raw.offset != 0 || flags & !known != 0 || flags & CLOCKS == CLOCKS {
        return Err(libc::EINVAL);
    }
    Ok(TimeRequest::LinkTimeout { time: Timespec::at(raw.first_address())?, flags })
}

impl TimeRequest {
    /// Is it what an update with these flags moves?
    pub(crate) fn is_moved_by(&self, update_flags: u32) -> bool {
        match self {
            TimeRequest::Timeout { .. } => update_flags & LINKED == 0,
            TimeRequest::LinkTimeout { .. } => update_flags & LINKED != 0,
            TimeRequest::TimeoutRemove { .. } | TimeRequest::TimeoutUpdate { .. } => false,
        }
    }

    pub(super) fn breaks_chain(&self, result: i32) -> bool {
        match self {
            TimeRequest::Timeout { flags, .. } => {
                !(result == -libc::ETIME && flags & SUCCEEDS != 0)
            }
            TimeRequest::LinkTimeout { .. } => false,
            TimeRequest::TimeoutRemove { .. } | TimeRequest::TimeoutUpdate { .. } => result < 0,
        }
    }
}
