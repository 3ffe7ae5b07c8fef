//! Operations on the extended attributes of a file: reading one, and setting one. getxattr(2),
//! fgetxattr(2), setxattr(2), fsetxattr(2).
//!
//! # Safety
//! Paths, names and values belong to the operations, on the heap.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;

use io_uring::{opcode, squeue};

use crate::inflight::{Direction, Habits, Handle, Manner, Op, Operation, Step, Turns};
use crate::ring::Completion;

/// Room for most values.
const USUAL_VALUE: usize = 256;
/// Room for any (`XATTR_SIZE_MAX`).
const LONGEST_VALUE: usize = 64 * 1024;

/// Whose attribute it is.
enum Owner {
    File(Handle),
    Path(CString),
}

impl Owner {
    fn of(file: &Handle) -> Owner {
        Owner::File(file.clone())
    }
}

/// Reads an attribute.
pub(crate) struct GetXattr {
    owner: Owner,
    name: CString,
    value: Vec<u8>,
}

impl GetXattr {
    pub(crate) fn of_file(file: &Handle, name: CString) -> Op<'_, GetXattr> {
        Op::new(GetXattr { owner: Owner::of(file), name, value: Vec::with_capacity(USUAL_VALUE) })
    }

    pub(crate) fn of_path(path: CString, name: CString) -> Op<'static, GetXattr> {
        let (owner, value) = (Owner::Path(path), Vec::with_capacity(USUAL_VALUE));
        Op::new(GetXattr { owner, name, value })
    }
}

// SAFETY: path, name and value belong to the operation, on the heap; the handle keeps the
// descriptor open.
unsafe impl Operation for GetXattr {
    /// `None`: there is no such attribute.
    type Output = io::Result<Option<Vec<u8>>>;

    fn entry(&mut self) -> squeue::Entry {
        let (name, value) = (self.name.as_ptr(), self.value.as_mut_ptr().cast());
        let room = self.value.capacity() as u32;
        match &self.owner {
            Owner::File(file) => {
                opcode::FGetXattr::new(file.target_for_worker(), name, value, room).build()
            }
            Owner::Path(path) => opcode::GetXattr::new(name, value, path.as_ptr(), room).build(),
        }
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        match -completion.result {
            libc::ENODATA => Step::Done(Ok(None)),
            // The value is longer than there is room.
            libc::ERANGE if self.value.capacity() < LONGEST_VALUE => {
                self.value = Vec::with_capacity(LONGEST_VALUE);
                Step::Again(self)
            }
            _ => Step::Done(completion.result().map(|count| {
                assert!(count <= self.value.capacity(), "more is reported than there is room");
                // SAFETY: the kernel has written so many bytes of the value, and has ended.
                unsafe { self.value.set_len(count) };
                Some(self.value)
            })),
        }
    }
}

/// Sets an attribute.
pub(crate) struct SetXattr {
    owner: Owner,
    name: CString,
    value: Vec<u8>,
    flags: i32,
}

impl SetXattr {
    pub(crate) fn of_file(
        file: &Handle,
        name: CString,
        value: Vec<u8>,
        flags: i32,
    ) -> Op<'_, SetXattr> {
        let refused = SetXattr::too_long(&value);
        Op::settled(SetXattr { owner: Owner::of(file), name, value, flags }, refused)
    }

    pub(crate) fn of_path(
        path: CString,
        name: CString,
        value: Vec<u8>,
        flags: i32,
    ) -> Op<'static, SetXattr> {
        let refused = SetXattr::too_long(&value);
        Op::settled(SetXattr { owner: Owner::Path(path), name, value, flags }, refused)
    }

    /// As the kernel says of every longer value; its entries have 32 bits for the length.
    fn too_long(value: &[u8]) -> Option<i32> {
        (value.len() > LONGEST_VALUE).then_some(-libc::E2BIG)
    }
}

// SAFETY: as for `GetXattr`.
unsafe impl Operation for SetXattr {
    type Output = io::Result<()>;

    const TURNS: Option<Turns<Self>> = Some(Turns::of(Self::lane));
    const HABITS: Habits<Self> = Habits { restarts: Self::restarts, ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        let (name, value) = (self.name.as_ptr(), self.value.as_ptr().cast());
        let length = self.value.len() as u32;
        match &self.owner {
            Owner::File(file) => {
                opcode::FSetXattr::new(file.target_for_worker(), name, value, length)
                    .flags(self.flags)
                    .build()
            }
            Owner::Path(path) => {
                opcode::SetXattr::new(name, value, path.as_ptr(), length).flags(self.flags).build()
            }
        }
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl SetXattr {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        match &self.owner {
            Owner::File(file) => Some((file, Direction::Outbound, Manner::AfterDropped)),
            Owner::Path(_) => None,
        }
    }

    /// A second run would find what the first has made.
    fn restarts(&self) -> bool {
        self.flags & libc::XATTR_CREATE == 0
    }
}
