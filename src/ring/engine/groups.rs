//! Which provided buffer does a receive take? The first of its group, from the memory that the kernel would read.

use std::rc::Rc;

use crate::buf::BufferRing;
use crate::ring::sqe::Address;

/// A buffer that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub(super) address: Address,
    pub(super) room: u32,
    pub(super) id: u16,
}

/// The groups of provided buffers.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    number: u16,
    ring: Rc<BufferRing>,
    /// The next position to take from.
    head: u16,
}

impl Groups {
    pub(super) fn add(&mut self, number: u16, ring: Rc<BufferRing>) {
        self.groups.push(Group { number, ring, head: 0 });
    }

    fn group(&mut self, number: u16) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.number == number)
    }

    /// Takes the first buffer of a group.
    pub(super) fn take(&mut self, number: u16) -> Option<Buffer> {
        let group = self.group(number)?;
        if group.head == group.ring.tail() {
            return None;
        }
        let entry = group.ring.entry(group.head);
        group.head = group.head.wrapping_add(1);
        Some(Buffer { address: Address::of_buffer(entry.address), room: entry.length, id: entry.id })
    }

    /// Gives back the buffer that was taken last, before another is taken.
    pub(super) fn give_back(&mut self, number: u16) {
        if let Some(group) = self.group(number) {
            group.head = group.head.wrapping_sub(1);
        }
    }
}
