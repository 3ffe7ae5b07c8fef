//! Transfers between memory and a part of a file, or the next of a stream.

use std::os::fd::RawFd;

use super::common::Modifiers;
use super::raw::RawEntry;
use crate::ring::catalogue::TransferCode;
use crate::ring::memory::{self, Address};

/// A part of a file and of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) fd: RawFd,
    pub(crate) address: Address,
    pub(crate) length: u32,
    /// `u64::MAX`: at the file's own position.
    pub(crate) offset: u64,
    /// `RWF_*`
    pub(crate) flags: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferCall {
    Read(Transfer),
    Write(Transfer),
    /// `length` counts buffers.
    Readv(Transfer),
    Writev(Transfer),
}

#[inline(always)]
pub(super) fn decode(code: TransferCode, raw: &RawEntry) -> Result<(TransferCall, Modifiers), i32> {
    let transfer = Transfer {
        fd: raw.fd,
        address: raw.first_address(),
        length: raw.length,
        offset: raw.offset,
        flags: raw.operation_flags,
    };
    let modifiers = Modifiers { group: raw.selected_group(), ..Modifiers::default() };
    Ok(match code {
        TransferCode::Read | TransferCode::ReadFixed => (TransferCall::Read(transfer), modifiers),
        TransferCode::ReadMulti if modifiers.group.is_none() => return Err(libc::EINVAL),
        TransferCode::ReadMulti => {
            (TransferCall::Read(transfer), Modifiers { multishot: true, ..modifiers })
        }
        TransferCode::Write | TransferCode::WriteFixed => {
            (TransferCall::Write(transfer), modifiers)
        }
        TransferCode::Readv => (TransferCall::Readv(transfer), modifiers),
        TransferCode::Writev => (TransferCall::Writev(transfer), modifiers),
    })
}

impl TransferCall {
    pub(crate) fn transfer(&self) -> &Transfer {
        match self {
            TransferCall::Read(transfer)
            | TransferCall::Write(transfer)
            | TransferCall::Readv(transfer)
            | TransferCall::Writev(transfer) => transfer,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        match self {
            TransferCall::Write(_) | TransferCall::Writev(_) => true,
            TransferCall::Read(_) | TransferCall::Readv(_) => false,
        }
    }

    /// What is left to move, where it is one piece of memory.
    pub(super) fn piece_mut(&mut self) -> Option<&mut Transfer> {
        match self {
            TransferCall::Read(transfer) | TransferCall::Write(transfer) => Some(transfer),
            TransferCall::Readv(_) | TransferCall::Writev(_) => None,
        }
    }

    /// The bytes that are left to move, where it is one piece of memory.
    pub(crate) fn piece(&self) -> Option<u32> {
        match self {
            TransferCall::Read(transfer) | TransferCall::Write(transfer) => Some(transfer.length),
            TransferCall::Readv(_) | TransferCall::Writev(_) => None,
        }
    }

    /// The first `count` bytes are through.
    pub(super) fn skip(&mut self, count: u32) {
        if let Some(transfer) = self.piece_mut() {
            transfer.address = transfer.address.after(count);
            transfer.length -= count;
            if transfer.offset != u64::MAX {
                transfer.offset += u64::from(count);
            }
        }
    }

    /// Gives a read its memory.
    pub(super) fn set_buffer(&mut self, lent: Address, room: u32) {
        match self {
            TransferCall::Read(transfer) => (transfer.address, transfer.length) = (lent, room),
            TransferCall::Write(_) | TransferCall::Readv(_) | TransferCall::Writev(_) => {}
        }
    }

    /// `whole`: the bytes that it asked for at first, where it is one piece.
    pub(super) fn breaks_chain(&self, result: i32, whole: i64, modifiers: &Modifiers) -> bool {
        match self {
            // A multishot read asks for no length, and its end is no failure.
            TransferCall::Read(_) if modifiers.multishot => result < 0,
            TransferCall::Read(_) | TransferCall::Write(_) => i64::from(result) != whole,
            TransferCall::Readv(transfer) | TransferCall::Writev(transfer) => {
                result < 0
                    || result as u64 != memory::total_length(transfer.address, transfer.length)
            }
        }
    }
}
