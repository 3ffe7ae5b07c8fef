//! The queue of addresses in shared memory by which buffers are lent to the ring,
//! io_uring_provided_buffers(7).
//!
//! The owner appends buffers and moves the tail; whoever executes receives takes from the head, and
//! says in the completion which one it took. The layout is the kernel's
//! (`struct io_uring_buf_ring`), but nothing here needs the kernel: any source of completions can
//! read the same memory. What the buffers are is the pool's business.
//!
//! # Safety
//! The queue owns its mapping until it is dropped. Only the owning thread writes entries, and only
//! those between the tail and the head, which the taker does not look at; the tail is stored with
//! release and loaded with acquire. The tail lies in the unused last two bytes of the first entry,
//! so entries are written field by field and never as a whole.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use super::mapping::Mapping;

/// One buffer in the queue: `struct io_uring_buf`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferEntry {
    pub(crate) address: u64,
    pub(crate) length: u32,
    /// What the completion says in its upper 16 flag bits.
    pub(crate) id: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<BufferEntry>() == 16);

/// Most places that the kernel allows.
pub(crate) const MOST_ENTRIES: usize = 1 << 15;

/// The queue of buffers that receives may take.
#[derive(Debug)]
pub(crate) struct BufferRing {
    memory: Mapping,
    places: u16,
    /// The owner's copy: counts appended buffers and wraps.
    tail: Cell<u16>,
}

impl BufferRing {
    /// A queue for `buffers` buffers, at most [`MOST_ENTRIES`]; its length is the next power of
    /// two.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn new(buffers: usize) -> io::Result<BufferRing> {
        let places = buffers.next_power_of_two();
        assert!(places <= MOST_ENTRIES, "a buffer ring has at most {MOST_ENTRIES} places");
        let memory = Mapping::new(places * size_of::<BufferEntry>())?;
        Ok(BufferRing { memory, places: places as u16, tail: Cell::new(0) })
    }

    /// Where it begins, aligned to a page.
    pub(crate) fn address(&self) -> u64 {
        self.memory.start().as_ptr().expose_provenance() as u64
    }

    /// How many places it has: a power of two.
    pub(crate) fn places(&self) -> u16 {
        self.places
    }

    fn place(&self, position: u16) -> NonNull<BufferEntry> {
        let index = usize::from(position & (self.places - 1));
        // SAFETY: the index is below the number of places, for which the mapping has room.
        unsafe { self.memory.start().cast::<BufferEntry>().add(index) }
    }

    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the two bytes lie within the first entry, are aligned, live as long as the
        // mapping, and nobody writes them but by this.
        unsafe { AtomicU16::from_ptr(&raw mut (*self.place(0).as_ptr()).reserved) }
    }

    /// Lends a buffer. There must be a free place: whoever lends counts.
    #[inline]
    pub(crate) fn append(&self, address: NonNull<u8>, length: u32, id: u16) {
        let tail = self.tail.get();
        let place = self.place(tail).as_ptr();
        // SAFETY: the place is in the mapping, and not among those that the taker reads before it
        // has seen the new tail. The field that holds the tail is left alone.
        unsafe {
            (&raw mut (*place).address).write(address.as_ptr().expose_provenance() as u64);
            (&raw mut (*place).length).write(length);
            (&raw mut (*place).id).write(id);
        }
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        self.shared_tail().store(tail, Ordering::Release);
    }

    /// How many buffers were ever appended, wrapping: a taker's head is never ahead of it, and both
    /// are compared by difference.
    pub(crate) fn tail(&self) -> u16 {
        self.shared_tail().load(Ordering::Acquire)
    }

    /// The buffer at a position between a taker's head and the [`tail`](BufferRing::tail).
    pub(crate) fn entry(&self, position: u16) -> BufferEntry {
        let place = self.place(position).as_ptr();
        // SAFETY: the place is in the mapping and below the tail, so it was written before the tail
        // was moved past it, and the owner writes it again only after the taker has given the
        // buffer back. The owner's thread is this one, since a buffer ring is not `Sync`.
        unsafe {
            BufferEntry {
                address: (*place).address,
                length: (*place).length,
                id: (*place).id,
                reserved: 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_as_they_were_appended_while_the_tail_wraps() {
        let ring = BufferRing::new(5).expect("memory");
        assert_eq!(ring.places(), 8);
        assert_eq!(ring.address() % 4096, 0);
        let mut head = 0u16;
        for round in 0..70_000u32 {
            let mut byte = round as u8;
            let start = NonNull::from(&mut byte);
            ring.append(start, round, round as u16);
            ring.append(start, round + 1, !(round as u16));
            assert_eq!(ring.tail().wrapping_sub(head), 2);
            let first = ring.entry(head);
            assert_eq!(
                (first.address, first.length, first.id),
                (start.as_ptr() as u64, round, round as u16)
            );
            let second = ring.entry(head.wrapping_add(1));
            assert_eq!((second.length, second.id), (round + 1, !(round as u16)));
            head = head.wrapping_add(2);
        }
    }
}
