//! The memory that the kernel may read or write, and for how long.
//!
//! Two traits, and their implementations for the owners of bytes in the standard library and, as a
//! feature, in `bytes`. What is done with the memory, and when the owner gets it back, is the
//! operations' affair.
//!
//! # Safety
//! The pointers go into submission queue entries, so safe code elsewhere relies on what is written
//! in the two traits. Each implementation here is for a type that holds its bytes on the heap, or
//! for the whole life of the program, and never inside itself; the owner is always the value
//! itself, and what ends the kernel's use of its memory is the last completion of the operation
//! that holds the value.
#![allow(unsafe_code)]

use super::Slice;
use std::ops::RangeBounds;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

/// Where a buffer lies: in memory that is registered with which ring, and under which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    pub(crate) ring: u64,
    pub(crate) number: u16,
}

/// A buffer that the kernel can read from.
///
/// An operation takes such a value, keeps it until the kernel is done, and gives it back.
///
/// # Safety
/// An operation only moves the value, and calls `&self` methods of this trait, until it gives the
/// value back or drops it; a [`Slice`] lends out `&B` besides. As long as nothing more is done with
/// a value:
///
/// - `as_init_ptr` gives the same address and `init_len` the same length every time, wherever the
///   value has been moved to. So the bytes must not lie in the value itself (`[u8; N]` will not
///   do).
/// - The address is not null, and the `init_len` bytes from it are initialised, in one allocation,
///   and may be read through the pointer by other threads and by the kernel, at any moment, even
///   while no Rust code runs.
/// - Nobody writes these bytes. Others may read them, as the clones of an [`Arc`] do.
/// - Nothing but dropping the value, or a method that takes it by value or `&mut`, frees or moves
///   them. The value may be forgotten, and then they stay for ever.
///
/// # When the methods are called
/// An operation calls them before it starts and after it has ended. One that goes on in parts, as
/// `write_all` does after a short write, calls them again between two parts. The kernel does not
/// use the memory at these moments.
///
/// A method that panics ends its operation: the panic goes to whoever polls it, and the value is
/// dropped. Nothing stays in flight, and the descriptor can be used on.
///
/// # Which methods may be overridden
/// `as_init`, if it gives the same bytes as [`as_init_ptr`](IoBuf::as_init_ptr) and
/// [`init_len`](IoBuf::init_len) say, and [`slice`](IoBuf::slice), [`spare`](IoBufMut::spare) and
/// [`put`](IoBufMut::put), if they do what is said there. No unsafe code of this crate rests on
/// these. `registration` is for the pools of this crate; a type that holds one of their buffers may
/// hand on what that says.
#[diagnostic::on_unimplemented(
    note = "pass an owned buffer (`Vec<u8>`, `Box<[u8]>`, ...) by value; it comes back with the result"
)]
pub unsafe trait IoBuf: 'static {
    /// Where the bytes start. It stays the same while the value is moved.
    fn as_init_ptr(&self) -> *const u8;

    /// How many bytes are initialised, counted from the start. A write writes these.
    fn init_len(&self) -> usize;

    /// Where the kernel knows the memory already. Only buffers of a pool have that.
    #[doc(hidden)]
    fn registration(&self) -> Option<Registration> {
        None
    }

    /// The initialised bytes.
    fn as_init(&self) -> &[u8] {
        // SAFETY: the value owns the bytes and is borrowed for as long as the slice lives, so they
        // stay initialised, in place and unwritten; the borrow ends with the slice. The contract of
        // the trait promises all of it.
        unsafe { std::slice::from_raw_parts(self.as_init_ptr(), self.init_len()) }
    }

    /// Limits operations to a part of the buffer, and owns the whole: [`Slice::into_inner`] gives
    /// it back.
    ///
    /// The range may end after the initialised bytes, and reading into the slice then fills it up
    /// to there, as far as there is capacity; with an open end, all the capacity there is.
    ///
    /// `Bytes` has a method of this name that only borrows. While this trait is in scope
    /// `bytes.slice(..)` means the one here, since it takes the value itself; write
    /// `Bytes::slice(&bytes, ..)` for the other.
    ///
    /// ```
    /// use annulus::buf::IoBuf;
    ///
    /// let header = Box::new([0u8; 64]).slice(..16);
    /// assert_eq!(header.len(), 16);
    /// assert_eq!(header.into_inner().len(), 64);
    /// ```
    ///
    /// # Panics
    /// If the range starts after the initialised bytes (there would be a gap of unknown bytes
    /// before what is read), or after its own end.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// A buffer that the kernel can write to.
///
/// # Safety
/// In addition to the rules of [`IoBuf`]:
///
/// - `as_mut_ptr` gives the address of `as_init_ptr`, and may be used to write `capacity` bytes
///   from there. As long as the value is only moved or lent out as `&`, the capacity is the same
///   number every time, and never below `init_len`.
/// - From when a value is given to an operation until the operation gives it back or drops it,
///   nobody but the holder of that pointer reads or writes these bytes, whether initialised or not;
///   so a buffer that shares them will not do. The operation for its part calls nothing on the
///   value then, and keeps it in `MaybeUninit`, so that a `Box` asserts nothing when it is moved.
/// - After `set_init_len(len)` the length is at least `len`, and neither the bytes nor their
///   address have changed.
#[diagnostic::on_unimplemented(
    note = "pass an owned buffer (`Vec<u8>`, `Box<[u8]>`, ...) by value; it comes back with the result"
)]
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes start, for writing `capacity` bytes.
    fn as_mut_ptr(&mut self) -> *mut u8;

    /// How many bytes can be written from the start, initialised or not. A read may fill all of
    /// them.
    fn capacity(&self) -> usize;

    /// Says that the first `len` bytes hold data now.
    ///
    /// A buffer with a length of its own (`Vec`, `BytesMut`,
    /// [`AlignedBuffer`](super::AlignedBuffer)) sets it to `len`, shorter or longer. One that is
    /// always initialised as a whole has nothing to do. A [`Slice`] makes its parent longer if need
    /// be, and never shorter.
    ///
    /// # Safety
    /// The first `len` bytes are initialised, and `len` is not above the capacity.
    unsafe fn set_init_len(&mut self, len: usize);

    /// Copies as many of `bytes` as there is room for to the buffer's beginning, sets the length to
    /// that, and returns it: what a read into this buffer does that got these bytes.
    ///
    /// ```
    /// use annulus::buf::IoBufMut;
    ///
    /// let mut buffer = Vec::with_capacity(16);
    /// assert_eq!(buffer.put(b"abc"), 3);
    /// assert_eq!(buffer, b"abc");
    /// ```
    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity());
        // SAFETY: the value owns `capacity` bytes from its pointer on and is borrowed mutably until
        // the end of this call, so `bytes`, which is borrowed too, lies elsewhere; the first
        // `count` bytes are initialised then.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_mut_ptr(), count);
            self.set_init_len(count);
        }
        count
    }

    /// The part after the initialised bytes: reading into it appends.
    ///
    /// ```
    /// use annulus::buf::{IoBuf, IoBufMut};
    ///
    /// let mut buffer = Vec::with_capacity(64);
    /// buffer.extend_from_slice(b"kept");
    /// let spare = buffer.spare();
    /// assert_eq!(spare.init_len(), 0);
    /// assert!(spare.capacity() >= 60);
    /// assert_eq!(spare.into_inner(), b"kept");
    /// ```
    fn spare(self) -> Slice<Self>
    where
        Self: Sized,
    {
        let begin = self.init_len();
        self.slice(begin..)
    }
}

// SAFETY: the vector owns the heap block, and only growing, shrinking or dropping it frees the
// block, none of which a move does.
unsafe impl IoBuf for Vec<u8> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; no one else has a pointer to the block, and `Vec::as_mut_ptr` is good for the
// whole capacity.
unsafe impl IoBufMut for Vec<u8> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        Vec::as_mut_ptr(self)
    }

    fn capacity(&self) -> usize {
        Vec::capacity(self)
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        // SAFETY: the vector owns the bytes; the caller promises that `len` of them are initialised
        // and that there are so many.
        unsafe { self.set_len(len) }
    }
}

// SAFETY: the box owns the heap block until it is dropped; a move copies only the pointer.
unsafe impl IoBuf for Box<[u8]> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above, and a box is the only owner of its block. All of it is always initialised, so
// length and capacity are one.
unsafe impl IoBufMut for Box<[u8]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        <[u8]>::as_mut_ptr(self)
    }

    fn capacity(&self) -> usize {
        self.len()
    }

    unsafe fn set_init_len(&mut self, _len: usize) {}
}

// SAFETY: the box owns the heap block until it is dropped; a move copies only the pointer.
unsafe impl<const N: usize> IoBuf for Box<[u8; N]> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        N
    }
}

// SAFETY: as above, and a box is the only owner of its block. All of it is always initialised, so
// length and capacity are one.
unsafe impl<const N: usize> IoBufMut for Box<[u8; N]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        <[u8]>::as_mut_ptr(self.as_mut_slice())
    }

    fn capacity(&self) -> usize {
        N
    }

    unsafe fn set_init_len(&mut self, _len: usize) {}
}

// SAFETY: the string owns its heap block as a `Vec` does. It is not `IoBufMut`, since the kernel
// does not keep to UTF-8.
unsafe impl IoBuf for String {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the box owns the heap block until it is dropped; a move copies only the pointer.
unsafe impl IoBuf for Box<str> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the bytes are borrowed for the whole life of the program, so nobody frees or writes them.
unsafe impl IoBuf for &'static [u8] {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: nobody owns the bytes and nothing ends the borrow: a static never moves, is never freed,
// and is not written while it is shared.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        N
    }
}

// SAFETY: the bytes are borrowed for the whole life of the program, so nobody frees or writes them.
unsafe impl IoBuf for &'static str {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the count that this value holds keeps the heap block, and keeps `Rc::get_mut` of other
// clones from writing it, until it is dropped.
unsafe impl IoBuf for Rc<[u8]> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the count that this value holds keeps the heap block, and keeps `Arc::get_mut` of other
// clones from writing it, until it is dropped.
unsafe impl IoBuf for Arc<[u8]> {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the bytes are on the heap, or static, or with an owner on the heap whose slice `Bytes`
// itself takes to be fixed; they are shared and never written as long as this handle lives.
#[cfg(feature = "bytes")]
unsafe impl IoBuf for bytes::Bytes {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: this handle keeps the heap block, and only methods that take it by value or `&mut` move
// to another.
#[cfg(feature = "bytes")]
unsafe impl IoBuf for bytes::BytesMut {
    fn as_init_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; other handles may share the block, but the `capacity` bytes from this one's
// start belong to it alone.
#[cfg(feature = "bytes")]
unsafe impl IoBufMut for bytes::BytesMut {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        // A pointer from `&mut [u8]` would be good for the initialised bytes only, so the buffer is
        // emptied for a moment: then all of it is spare.
        let len = self.len();
        // SAFETY: no bytes are claimed to be initialised.
        unsafe { self.set_len(0) };
        let start = self.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: these bytes were initialised before, and nothing has been written in between.
        unsafe { self.set_len(len) };
        start
    }

    fn capacity(&self) -> usize {
        bytes::BytesMut::capacity(self)
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        // SAFETY: this handle owns the bytes; the caller promises that `len` of them are
        // initialised and that there are so many.
        unsafe { self.set_len(len) }
    }
}
