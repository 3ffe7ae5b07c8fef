//! The groups of provided buffers. A receive takes the first of its group, from the memory that the
//! kernel would read.

use std::rc::Rc;

use crate::buf::BufferRing;
use crate::ring::memory::Address;

/// A buffer that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Given back unused, to be taken before the next in the ring. A worker may hold one while
    /// later ones are taken, so the head cannot go back.
    returned: Vec<Buffer>,
}

impl Groups {
    pub(super) fn add(&mut self, number: u16, ring: Rc<BufferRing>) {
        self.groups.push(Group { number, ring, head: 0, returned: Vec::new() });
    }

    fn group(&mut self, number: u16) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.number == number)
    }

    /// Takes the first buffer of a group.
    pub(super) fn take(&mut self, number: u16) -> Option<Buffer> {
        let group = self.group(number)?;
        if let Some(buffer) = group.returned.pop() {
            return Some(buffer);
        }
        if group.head == group.ring.tail() {
            return None;
        }
        let entry = group.ring.entry(group.head);
        group.head = group.head.wrapping_add(1);
        Some(Buffer { address: Address::vouched(entry.address), room: entry.length, id: entry.id })
    }

    /// Gives back a buffer that was taken and not used.
    pub(super) fn give_back(&mut self, number: u16, buffer: Buffer) {
        if let Some(group) = self.group(number) {
            group.returned.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{ChunkPool, ChunkPoolConfig};

    #[test]
    fn a_buffer_that_is_given_back_late_is_the_one_that_is_taken_next() {
        let pool =
            ChunkPool::new(ChunkPoolConfig { size: 64, first: 3, most: 3 }, Default::default())
                .expect("memory");
        let mut groups = Groups::default();
        groups.add(0, Rc::clone(pool.ring()));
        let by_a_worker = groups.take(0).expect("three buffers");
        let by_a_receive = groups.take(0).expect("three buffers");
        groups.give_back(0, by_a_worker);
        assert_eq!(groups.take(0), Some(by_a_worker), "not the one that the receive has");
        let last = groups.take(0).expect("three buffers");
        assert!(last != by_a_worker && last != by_a_receive);
        assert_eq!(groups.take(0), None);
    }
}
