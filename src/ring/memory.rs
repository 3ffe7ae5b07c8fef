//! The memory that a request names: addresses, and the few structures that the software ring reads
//! and writes itself, as the kernel would. It makes no system call.
//!
//! # Safety
//! An [`Address`] comes out of an entry, whose caller vouches for what it names, or it is that of a
//! provided buffer, for which the owner of its group vouches. The memory stays valid, and untouched
//! by others where it is written, until the operation's last completion. The engine keeps a
//! request, and gives copies of it to workers, only until then. So each access below is to memory
//! of the operation that it is made for.
#![allow(unsafe_code)]

use std::ptr;

/// A number that stands for memory of the program, or 0 for none. Whoever decoded the entry has
/// vouched for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(u64);

impl Address {
    pub(super) const NONE: Address = Address(0);

    /// The caller has been vouched to for this memory: it decodes an entry, or lends a buffer.
    pub(super) fn vouched(number: u64) -> Address {
        Address(number)
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address of what follows the first `count` bytes.
    pub(crate) fn after(self, count: u32) -> Address {
        Address(self.0 + u64::from(count))
    }

    pub(super) fn pointer<T>(self) -> *mut T {
        ptr::with_exposed_provenance_mut(self.0 as usize)
    }
}

/// Reads a timeout's seconds and nanoseconds.
pub(super) fn timespec(time: Address) -> Option<(i64, i64)> {
    if time.is_null() {
        return None;
    }
    // SAFETY: the entry is being submitted, and the caller keeps its timespec valid at least during
    // that. It is two 64-bit numbers, perhaps not aligned.
    Some(unsafe { time.pointer::<[i64; 2]>().read_unaligned() }.into())
}

/// The bytes that so many vectors hold in all.
pub(super) fn total_length(vectors: Address, count: u32) -> u64 {
    let vectors = vectors.pointer::<libc::iovec>();
    // SAFETY: the vectors belong to the operation until its last completion, and there are `count`.
    let length = |index| unsafe { vectors.add(index).read() }.iov_len as u64;
    (0..count as usize).map(length).sum()
}

/// What stands in a provided buffer in front of a message: `struct io_uring_recvmsg_out`.
#[repr(C)]
pub(super) struct MessageHead {
    pub(super) name_length: u32,
    pub(super) control_length: u32,
    pub(super) payload_length: u32,
    pub(super) flags: u32,
}

impl MessageHead {
    pub(super) const LENGTH: u32 = size_of::<MessageHead>() as u32;

    /// The buffer is lent, and the caller has seen that it has room for the head.
    pub(super) fn write_to(self, buffer: Address) {
        // SAFETY: a provided buffer is lent until the completion that names it. It has room, and
        // need not be aligned.
        unsafe { buffer.pointer::<MessageHead>().write_unaligned(self) };
    }
}

/// A copy of the header of a message.
pub(super) fn message_header(message: Address) -> libc::msghdr {
    // SAFETY: the header belongs to the operation until its last completion.
    unsafe { message.pointer::<libc::msghdr>().read() }
}

/// Does a message have control messages, or room for some?
pub(super) fn has_control(message: Address) -> bool {
    !message.is_null() && message_header(message).msg_controllen > 0
}

/// How much room the head takes, with the name and the control data that the header asks for.
pub(super) fn length_of_head(message: Address) -> u32 {
    let header = message_header(message);
    let lengths = header.msg_namelen as usize + header.msg_controllen;
    u32::try_from(size_of::<MessageHead>() + lengths).unwrap_or(u32::MAX)
}

/// Copies back to a message's header what recvmsg(2) fills in.
pub(super) fn fill_in_header(message: Address, received: &libc::msghdr) {
    let header = message.pointer::<libc::msghdr>();
    // SAFETY: the header belongs to the operation until its last completion.
    unsafe {
        (*header).msg_namelen = received.msg_namelen;
        (*header).msg_controllen = received.msg_controllen;
        (*header).msg_flags = received.msg_flags;
    }
}
