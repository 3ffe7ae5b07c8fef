//! Entries of the submission queue: the kernel's 64 bytes, decoded into a [`Request`].
//!
//! The families know what their fields mean; here is what holds for all operations. What is not
//! known is answered `EINVAL`, as an older kernel does. The fields are those of io_uring_enter(2).
//!
//! # Safety
//! An entry is copied into a structure of the same size whose fields are all integers; any bytes
//! make a valid one. Addresses stay numbers here: `ring/memory.rs` and `ring/host/calls.rs` make
//! memory of them. The only way to one from an entry is [`decode`], whose caller vouches for it.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use io_uring::squeue;

use super::kinds::{self, Call, Modifiers, Request};
use super::{SocketCall, TransferCall};
use crate::ring::catalogue::{FileCode, Opcode, SocketCode, TransferCode};
use crate::ring::memory::Address;

/// `struct io_uring_sqe`, by the names that most operations give its fields.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct RawEntry {
    opcode: u8,
    flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) operation_flags: u32,
    token: u64,
    pub(super) group: u16,
    personality: u16,
    pub(super) file_index: u32,
    pub(super) address_3: u64,
    _reserved: u64,
}

const _: () = assert!(size_of::<RawEntry>() == 64 && size_of::<squeue::Entry>() == 64);
const _: () = assert!(align_of::<RawEntry>() == 8 && align_of::<squeue::Entry>() == 8);

impl RawEntry {
    fn of(entry: &squeue::Entry) -> RawEntry {
        // SAFETY: both are 64 plain bytes, the entry's are all initialised, and it is borrowed for
        // the call.
        unsafe { std::ptr::from_ref(entry).cast::<RawEntry>().read() }
    }

    fn opcode(&self) -> Option<Opcode> {
        Opcode::of(self.opcode)
    }

    pub(super) fn flags(&self) -> EntryFlags {
        EntryFlags { bits: self.flags }
    }

    pub(super) fn first_address(&self) -> Address {
        Address::vouched(self.address)
    }

    /// That of operations which name two, in the field of the offset.
    pub(super) fn second_address(&self) -> Address {
        Address::vouched(self.offset)
    }

    /// The group of provided buffers that its memory comes from.
    pub(super) fn selected_group(&self) -> Option<u16> {
        (self.flags & BUFFER_SELECT != 0).then_some(self.group)
    }

    /// Refuses what an operation does not know of the bits that many use for modifiers.
    pub(super) fn allow_modifiers(&self, known: u16) -> Result<(), i32> {
        if self.ioprio & !known != 0 { Err(libc::EINVAL) } else { Ok(()) }
    }
}

/// `IOSQE_*` flags: where a request stands among others, and not what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EntryFlags {
    bits: u8,
}

const FIXED_FILE: u8 = 1 << 0;
const DRAIN: u8 = 1 << 1;
const LINK: u8 = 1 << 2;
const HARD_LINK: u8 = 1 << 3;
const ASYNC: u8 = 1 << 4;
const BUFFER_SELECT: u8 = 1 << 5;
const SKIP_SUCCESS: u8 = 1 << 6;

impl EntryFlags {
    /// Does the next entry start only when this one has ended?
    pub(crate) fn is_linked(self) -> bool {
        self.bits & (LINK | HARD_LINK) != 0
    }

    /// Does the chain go on even if this one fails?
    pub(crate) fn goes_on(self) -> bool {
        self.bits & HARD_LINK != 0
    }

    /// Does it belong on a worker from the start?
    pub(crate) fn is_async(self) -> bool {
        self.bits & ASYNC != 0
    }

    /// Is a success not worth a completion?
    pub(crate) fn is_quiet(self) -> bool {
        self.bits & SKIP_SUCCESS != 0
    }

    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.bits = if quiet { self.bits | SKIP_SUCCESS } else { self.bits & !SKIP_SUCCESS };
    }
}

/// One entry, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submission {
    pub(crate) token: u64,
    pub(crate) flags: EntryFlags,
    pub(crate) request: Request,
    pub(crate) modifiers: Modifiers,
}

impl Submission {
    /// A transfer of the simplest kind, of which a completion is all that comes.
    #[inline]
    pub(crate) fn plain_transfer(&mut self) -> Option<&mut Call> {
        let is_plain = self.modifiers == Modifiers::default() && !self.flags.is_quiet();
        let Request::Call(call) = &mut self.request else { return None };
        let is_transfer = matches!(
            call,
            Call::Socket(SocketCall::Recv(_) | SocketCall::Send(_)) | Call::Transfer(TransferCall::Read(_) | TransferCall::Write(_))
        );
        (is_plain && is_transfer).then_some(call)
    }
}

/// The file of a read or write that stands for itself, where it is named by its descriptor.
pub(in crate::ring) fn file_of_transfer(entry: &squeue::Entry) -> Option<RawFd> {
    let raw = RawEntry::of(entry);
    let is_transfer = match raw.opcode() {
        Some(Opcode::Transfer(code)) => code != TransferCode::ReadMulti,
        _ => false,
    };
    (is_transfer && raw.flags == 0).then_some(raw.fd)
}

/// A send that ends with its first part, in the place of one that goes on until all is sent. Other entries stay as they are.
pub(in crate::ring) fn in_parts(entry: &squeue::Entry) -> squeue::Entry {
    let mut raw = RawEntry::of(entry);
    if let Some(Opcode::Socket(SocketCode::Send | SocketCode::SendMsg | SocketCode::SendZc)) = raw.opcode() {
        raw.operation_flags &= !(libc::MSG_WAITALL as u32);
    }
    // SAFETY: both are 64 plain bytes, any of which make a valid entry, and `raw` lies on this stack.
    unsafe { std::ptr::from_ref(&raw).cast::<squeue::Entry>().read() }
}

/// The descriptor that an entry closes.
pub(in crate::ring) fn file_that_closes(entry: &squeue::Entry) -> Option<RawFd> {
    let raw = RawEntry::of(entry);
    (raw.opcode() == Some(Opcode::File(FileCode::Close)) && raw.file_index == 0).then_some(raw.fd)
}

/// What is left of a refused entry: whose it is, what it was in its chain, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) token: u64,
    pub(crate) flags: EntryFlags,
    pub(crate) errno: i32,
}

/// An entry that was decoded, or why it was not.
pub(crate) type Decoded = Result<Submission, Refused>;

/// Decodes an entry.
///
/// # Safety
/// What the entry names stays valid as `op::Operation` demands, for as long as the submission or a
/// copy of it is executed.
pub(crate) unsafe fn decode(entry: &squeue::Entry) -> Decoded {
    let raw = RawEntry::of(entry);
    let (token, flags) = (raw.token, raw.flags());
    match check(&raw).and_then(|opcode| kinds::decode(opcode, &raw)) {
        Ok((request, modifiers)) => Ok(Submission { token, flags, request, modifiers }),
        Err(errno) => Err(Refused { token, flags, errno }),
    }
}

/// What holds for all operations.
fn check(raw: &RawEntry) -> Result<Opcode, i32> {
    if raw.flags & DRAIN != 0 || raw.flags >> 7 != 0 || raw.personality != 0 {
        return Err(libc::EINVAL);
    }
    // No table of registered files.
    if raw.flags & FIXED_FILE != 0 {
        return Err(libc::EBADF);
    }
    let opcode = raw.opcode();
    let selects = matches!(
        opcode,
        Some(Opcode::Transfer(TransferCode::Read | TransferCode::ReadMulti) | Opcode::Socket(SocketCode::Recv | SocketCode::RecvMsg))
    );
    if raw.flags & BUFFER_SELECT != 0 && !selects {
        return Err(libc::EOPNOTSUPP);
    }
    opcode.ok_or(libc::EINVAL)
}

/// For tests, which execute nothing.
#[cfg(test)]
pub(super) fn decode_unexecuted(entry: &squeue::Entry) -> Decoded {
    // SAFETY: of all that the entry names only a timespec is read, and that now, which is a variable
    // of the caller's.
    unsafe { decode(entry) }
}
