//! Entries of the submission queue: the kernel's 64 bytes, decoded into a [`Request`].
//!
//! The families know what their fields mean; here is what holds for all operations. What is not
//! known is answered `EINVAL`, as an older kernel does. The fields are those of io_uring_enter(2).
//!
//! # Safety
//! Addresses stay numbers here: `ring/memory.rs` and `ring/host/` make memory of them. The only way
//! to one from an entry is [`decode`], whose caller vouches for it.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use io_uring::squeue;

use super::common::Modifiers;
use super::kinds::{self, Call, Request};
use super::raw::{ASYNC, BUFFER_SELECT, DRAIN, EntryFlags, FIXED_FILE, RawEntry};
use super::socket::SocketCall;
use super::transfer::TransferCall;
use crate::ring::catalogue::{FileCode, Opcode, SocketCode, TransferCode};

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
            Call::Socket(SocketCall::Recv(_) | SocketCall::Send(_))
                | Call::Transfer(TransferCall::Read(_) | TransferCall::Write(_))
        );
        (is_plain && is_transfer).then_some(call)
    }
}

/// The file of a read or write that stands for itself, where it is named by its descriptor.
pub(in crate::ring) fn file_of_transfer(entry: &squeue::Entry) -> Option<RawFd> {
    let raw = RawEntry::of(entry);
    let is_transfer = match raw.opcode() {
        Some(Opcode::Transfer(
            TransferCode::Read
            | TransferCode::Write
            | TransferCode::ReadFixed
            | TransferCode::WriteFixed
            | TransferCode::Readv
            | TransferCode::Writev,
        )) => true,
        Some(Opcode::Transfer(TransferCode::ReadMulti)) => false,
        Some(
            Opcode::Socket(_)
            | Opcode::Poll(_)
            | Opcode::File(_)
            | Opcode::Path(_)
            | Opcode::Time(_)
            | Opcode::Cancel(_)
            | Opcode::Message(_)
            | Opcode::KernelOnly(_),
        )
        | None => false,
    };
    (is_transfer && raw.flags == 0).then_some(raw.fd)
}

/// A send that ends with its first part, in the place of one that goes on until all is sent. Other
/// entries stay as they are.
pub(in crate::ring) fn in_parts(entry: &squeue::Entry) -> squeue::Entry {
    let mut raw = RawEntry::of(entry);
    if let Some(Opcode::Socket(SocketCode::Send | SocketCode::SendMsg | SocketCode::SendZc)) =
        raw.opcode()
    {
        raw.operation_flags &= !(libc::MSG_WAITALL as u32);
    }
    raw.to_entry()
}

/// A transfer on a stream socket that fails if it is short, and so ends its chain. Other entries
/// stay as they are.
pub(crate) fn in_whole(entry: &squeue::Entry) -> squeue::Entry {
    let mut raw = RawEntry::of(entry);
    if let Some(Opcode::Socket(SocketCode::Send | SocketCode::Recv)) = raw.opcode() {
        raw.operation_flags |= libc::MSG_WAITALL as u32;
    }
    raw.to_entry()
}

/// An entry that is tied to no other and has a completion of its own, in the place of one that says
/// otherwise.
pub(crate) fn untied(entry: &squeue::Entry) -> squeue::Entry {
    let mut raw = RawEntry::of(entry);
    raw.flags &= FIXED_FILE | ASYNC;
    raw.to_entry()
}

/// Does the next entry start only when this one has ended?
pub(crate) fn is_linked(entry: &squeue::Entry) -> bool {
    RawEntry::of(entry).flags().is_linked()
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
/// What the entry names stays valid as `inflight::Operation` demands, for as long as the submission
/// or a copy of it is executed.
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
        Some(
            Opcode::Transfer(TransferCode::Read | TransferCode::ReadMulti)
                | Opcode::Socket(SocketCode::Recv | SocketCode::RecvMsg)
        )
    );
    if raw.flags & BUFFER_SELECT != 0 && !selects {
        return Err(libc::EOPNOTSUPP);
    }
    opcode.ok_or(libc::EINVAL)
}

/// For tests, which execute nothing.
#[cfg(test)]
pub(super) fn decode_unexecuted(entry: &squeue::Entry) -> Decoded {
    // SAFETY: of all that the entry names only a timespec is read, and that now, which is a
    // variable of the caller's.
    unsafe { decode(entry) }
}
