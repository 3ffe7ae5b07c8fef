//! The buffers that receives take, handed to the kernel by a registered buffer ring, or by one
//! entry for each buffer.
//!
//! Either way the pool appends to the same [`BufferRing`]. Where the kernel takes it as it is
//! (Linux 5.19, and enough locked memory), there is nothing to do. Else this reads it in the
//! kernel's place and hands over each buffer by an operation, io_uring_prep_provide_buffers(3).

use std::collections::VecDeque;
use std::rc::Rc;

use io_uring::{opcode, squeue};

use super::seam::PROVIDED;
use crate::buf::{BufferEntry, BufferRing};

/// The buffers of one group.
#[derive(Debug)]
pub(super) struct Provided {
    pub(super) group: u16,
    pub(super) ring: Rc<BufferRing>,
    /// `None` where the kernel reads the ring itself.
    pub(super) handing: Option<Handing>,
}

/// What has been handed over one by one.
#[derive(Debug, Default)]
pub(super) struct Handing {
    /// The next position of the ring to hand over.
    head: u16,
    /// Under way, in the order in which their completions come.
    under_way: VecDeque<BufferEntry>,
    /// Those that the kernel had no memory for.
    refused: Vec<BufferEntry>,
}

impl Provided {
    /// The next buffer to be handed over. It must be pushed, or [put back](Provided::put_back).
    pub(super) fn next(&mut self) -> Option<squeue::Entry> {
        let handing = self.handing.as_mut()?;
        let buffer = match handing.refused.pop() {
            Some(buffer) => buffer,
            None if handing.head == self.ring.tail() => return None,
            None => {
                let buffer = self.ring.entry(handing.head);
                handing.head = handing.head.wrapping_add(1);
                buffer
            }
        };
        handing.under_way.push_back(buffer);
        let address = std::ptr::with_exposed_provenance_mut(buffer.address as usize);
        let length = i32::try_from(buffer.length).expect("no buffer is longer than 8 MiB");
        Some(
            opcode::ProvideBuffers::new(address, length, 1, self.group, buffer.id)
                .build()
                .user_data(PROVIDED),
        )
    }

    /// The last one found no room in the submission queue.
    pub(super) fn put_back(&mut self) {
        if let Some(handing) = &mut self.handing {
            handing.refused.extend(handing.under_way.pop_back());
        }
    }

    /// The kernel's answer to the one that is longest under way.
    pub(super) fn answered(&mut self, result: i32) {
        if let Some(handing) = &mut self.handing {
            let buffer = handing.under_way.pop_front();
            handing.refused.extend(buffer.filter(|_| result < 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{ChunkPool, ChunkPoolConfig};

    #[test]
    fn each_buffer_is_handed_over_once_and_again_when_it_was_refused_or_found_no_room() {
        let pool =
            ChunkPool::new(ChunkPoolConfig { size: 64, first: 3, most: 3 }, Default::default())
                .expect("memory");
        let mut provided =
            Provided { group: 0, ring: Rc::clone(pool.ring()), handing: Some(Handing::default()) };
        assert!(provided.next().is_some());
        provided.put_back();
        for _ in 0..3 {
            assert!(provided.next().is_some());
        }
        assert!(provided.next().is_none());
        provided.answered(0);
        provided.answered(-libc::ENOMEM);
        assert!(provided.next().is_some(), "the refused one again");
        assert!(provided.next().is_none());
        provided.answered(0);
        provided.answered(0);
        assert!(provided.next().is_none());
    }
}
