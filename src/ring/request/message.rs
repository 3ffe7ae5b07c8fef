//! Requests on rings alone: nothing, and a completion for another ring.

use std::os::fd::RawFd;

use super::raw::RawEntry;
use crate::ring::catalogue::MessageCode;

const NOP_RESULT: u32 = 1 << 0;
const WITH_FLAGS: u32 = 1 << 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Nop {
        result: i32,
    },
    /// Posts a completion to a ring; `flags` are that completion's.
    MsgRing {
        ring: RawFd,
        token: u64,
        result: i32,
        flags: Option<u32>,
    },
}

pub(super) fn decode(code: MessageCode, raw: &RawEntry) -> Result<Message, i32> {
    match code {
        MessageCode::Nop => {
            let has_result = raw.operation_flags & NOP_RESULT != 0;
            Ok(Message::Nop { result: if has_result { raw.length as i32 } else { 0 } })
        }
        MessageCode::MsgRingData => msg_ring(raw),
    }
}

fn msg_ring(raw: &RawEntry) -> Result<Message, i32> {
    let with_flags = raw.operation_flags & WITH_FLAGS != 0;
    // The other command hands over a registered file.
    let is_data = raw.address == 0 && raw.address_3 == 0 && raw.group == 0;
    if !is_data || raw.operation_flags & !WITH_FLAGS != 0 || (raw.file_index != 0 && !with_flags) {
        return Err(libc::EINVAL);
    }
    let flags = with_flags.then_some(raw.file_index);
    Ok(Message::MsgRing { ring: raw.fd, token: raw.offset, result: raw.length as i32, flags })
}
