//! The 64 bytes of an entry, as numbers.
//!
//! # Safety
//! An entry is copied into a structure of the same size whose fields are all integers, and back;
//! any bytes make a valid one. Addresses stay numbers here.
#![allow(unsafe_code)]

use io_uring::squeue;

use crate::ring::catalogue::Opcode;
use crate::ring::memory::Address;

/// `struct io_uring_sqe`, by the names that most operations give its fields.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct RawEntry {
    opcode: u8,
    pub(super) flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) operation_flags: u32,
    pub(super) token: u64,
    pub(super) group: u16,
    pub(super) personality: u16,
    pub(super) file_index: u32,
    pub(super) address_3: u64,
    _reserved: u64,
}

const _: () = assert!(size_of::<RawEntry>() == 64 && size_of::<squeue::Entry>() == 64);
const _: () = assert!(align_of::<RawEntry>() == 8 && align_of::<squeue::Entry>() == 8);

impl RawEntry {
    pub(super) fn of(entry: &squeue::Entry) -> RawEntry {
        // SAFETY: both are 64 plain bytes, the entry's are all initialised, and it is borrowed for
        // the call.
        unsafe { std::ptr::from_ref(entry).cast::<RawEntry>().read() }
    }

    pub(super) fn to_entry(self) -> squeue::Entry {
        // SAFETY: both are 64 plain bytes, any of which make a valid entry, and `self` lies on this
        // stack.
        unsafe { std::ptr::from_ref(&self).cast::<squeue::Entry>().read() }
    }

    #[inline]
    pub(super) fn opcode(&self) -> Option<Opcode> {
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

    /// That of operations which name three, in a field of its own.
    pub(super) fn third_address(&self) -> Address {
        Address::vouched(self.address_3)
    }

    /// The group of provided buffers that its memory comes from.
    pub(super) fn selected_group(&self) -> Option<u16> {
        (self.flags & BUFFER_SELECT != 0).then_some(self.group)
    }

    /// Are the fields 0 that no other method tells of?
    pub(super) fn has_nothing_else(&self) -> bool {
        (self.ioprio, self.group, self.personality, self._reserved) == (0, 0, 0, 0)
    }

    /// Refuses what an operation does not know of the bits that many use for modifiers.
    pub(super) fn allow_modifiers(&self, known: u16) -> Result<(), i32> {
        if self.ioprio & !known != 0 { Err(libc::EINVAL) } else { Ok(()) }
    }
}

/// A field in which an operation has two numbers, in the order of memory.
pub(super) fn halves(field: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = field.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// `IOSQE_*` flags: where a request stands among others, and not what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EntryFlags {
    bits: u8,
}

pub(super) const FIXED_FILE: u8 = 1 << 0;
pub(super) const DRAIN: u8 = 1 << 1;
const LINK: u8 = 1 << 2;
const HARD_LINK: u8 = 1 << 3;
pub(super) const ASYNC: u8 = 1 << 4;
pub(super) const BUFFER_SELECT: u8 = 1 << 5;
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

    /// All but whether a worker has it.
    pub(super) fn bits_but_async(self) -> u8 {
        self.bits & !ASYNC
    }

    /// Is a success not worth a completion?
    pub(crate) fn is_quiet(self) -> bool {
        self.bits & SKIP_SUCCESS != 0
    }

    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.bits = if quiet { self.bits | SKIP_SUCCESS } else { self.bits & !SKIP_SUCCESS };
    }
}
