//! A whole in parts, each for another operation at the same time: a vector that reads fill, and a
//! buffer that writes read.
//!
//! # Safety
//! The parts of a vector lie in its spare capacity and do not overlap, and nobody else reads or
//! writes there. They are counted, and the memory is freed, or becomes a vector again, after the
//! last of them has gone. What is initialised is counted from the front: only bytes of parts that
//! came back.
//!
//! The parts of a buffer only read it, as clones of an `Rc` do.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;

use super::{IoBuf, IoBufMut};

/// A vector whose spare capacity is filled in parts.
pub(crate) struct VecInParts {
    memory: Rc<Memory>,
    /// Where the next part begins.
    next: usize,
    /// How many bytes from the front are initialised.
    filled: usize,
}

/// The block of a vector.
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

impl VecInParts {
    pub(crate) fn new(vector: Vec<u8>) -> VecInParts {
        let mut vector = ManuallyDrop::new(vector);
        let length = vector.len();
        let start = NonNull::new(vector.as_mut_ptr()).expect("a vector's pointer is not null");
        let memory = Rc::new(Memory { start, capacity: vector.capacity() });
        VecInParts { memory, next: length, filled: length }
    }

    /// The part behind those that were taken, empty, of `length` bytes or what there is.
    pub(crate) fn take(&mut self, length: usize) -> Part {
        let start = self.next;
        let capacity = length.min(self.memory.capacity - start);
        self.next += capacity;
        Part { memory: Rc::clone(&self.memory), start, capacity, length: 0 }
    }

    /// Takes a part back. What it holds counts if nothing before it is missing.
    pub(crate) fn give_back(&mut self, part: Part) {
        assert!(Rc::ptr_eq(&self.memory, &part.memory), "a part comes back to its own vector");
        if part.start == self.filled {
            self.filled += part.length;
        }
    }

    /// The vector, up to the first byte that is missing. It is copied if a part is still out.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match Rc::try_unwrap(self.memory) {
            Ok(memory) => {
                let memory = ManuallyDrop::new(memory);
                // SAFETY: the block is that of a vector with this capacity, its first `filled`
                // bytes are initialised, and this was its last owner, which is not dropped.
                unsafe { Vec::from_raw_parts(memory.start.as_ptr(), self.filled, memory.capacity) }
            }
            Err(memory) => {
                // SAFETY: these bytes are initialised. No part that is out overlaps them, since
                // those who counted for them came back.
                let filled =
                    unsafe { std::slice::from_raw_parts(memory.start.as_ptr(), self.filled) };
                filled.to_vec()
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the block is that of a vector with this capacity, and this was its last owner.
        drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), 0, self.capacity) });
    }
}

/// A part of a [`VecInParts`].
pub(crate) struct Part {
    memory: Rc<Memory>,
    start: usize,
    capacity: usize,
    length: usize,
}

// SAFETY: the part has a share in the memory, which stays where it is until all shares are gone.
unsafe impl IoBuf for Part {
    fn as_init_ptr(&self) -> *const u8 {
        self.memory.start.as_ptr().wrapping_add(self.start)
    }

    fn init_len(&self) -> usize {
        self.length
    }
}

// SAFETY: as above, and the bytes from `start` on, `capacity` of them, belong to this part alone.
unsafe impl IoBufMut for Part {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.start.as_ptr().wrapping_add(self.start)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity);
        self.length = len;
    }
}

/// A part of a buffer that others read, too.
pub(crate) struct SharedPart<B> {
    whole: Rc<B>,
    range: Range<usize>,
}

impl<B: IoBuf> SharedPart<B> {
    /// # Panics
    /// If the range is not within the initialised bytes.
    pub(crate) fn new(whole: &Rc<B>, range: Range<usize>) -> SharedPart<B> {
        assert!(range.start <= range.end && range.end <= whole.init_len(), "a part of the whole");
        SharedPart { whole: Rc::clone(whole), range }
    }
}

// SAFETY: the whole is kept by this share, nobody can take it by value or `&mut` meanwhile, and so
// its bytes stay as and where they are.
unsafe impl<B: IoBuf> IoBuf for SharedPart<B> {
    fn as_init_ptr(&self) -> *const u8 {
        self.whole.as_init_ptr().wrapping_add(self.range.start)
    }

    fn init_len(&self) -> usize {
        self.range.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(part: &mut Part, bytes: &[u8]) {
        // SAFETY: there is room for them, and the part is written by nobody else.
        unsafe {
            part.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            part.set_init_len(bytes.len());
        }
    }

    fn three_parts() -> (VecInParts, [Part; 3]) {
        let mut vector = Vec::with_capacity(10);
        vector.extend_from_slice(b"ab");
        let capacity = vector.capacity();
        let mut whole = VecInParts::new(vector);
        let mut parts = [whole.take(3), whole.take(3), whole.take(100)];
        assert_eq!(parts[2].capacity(), capacity - 8, "no more than there is");
        fill(&mut parts[0], b"cde");
        fill(&mut parts[1], b"f");
        (whole, parts)
    }

    #[test]
    fn parts_become_the_vector_again_up_to_what_is_missing() {
        let (mut whole, [first, second, third]) = three_parts();
        whole.give_back(first);
        whole.give_back(second);
        whole.give_back(third);
        assert_eq!(whole.into_vec(), b"abcdef");
        let (mut whole, [first, second, third]) = three_parts();
        whole.give_back(second);
        whole.give_back(first);
        drop(third);
        assert_eq!(whole.into_vec(), b"abcde", "in order only");
    }

    #[test]
    fn a_part_that_is_still_out_keeps_the_memory_and_the_vector_is_a_copy() {
        let (mut whole, [first, second, mut third]) = three_parts();
        whole.give_back(first);
        let copy = whole.into_vec();
        assert_eq!(copy, b"abcde");
        fill(&mut third, b"x");
        assert_eq!((second.as_init(), third.as_init()), (&b"f"[..], &b"x"[..]));
    }

    #[test]
    fn the_parts_of_a_buffer_outlive_their_maker() {
        let whole = Rc::new(b"0123456789".to_vec());
        let part = SharedPart::new(&whole, 3..6);
        drop(whole);
        assert_eq!(part.as_init(), b"345");
    }
}
