//! A slice: the part of a buffer that an operation sees.
//!
//! A view that owns the buffer it looks at, since an operation needs the whole to itself anyway. It
//! knows nothing of what kind of buffer it is.
//!
//! # Safety
//! A slice owns its parent and adds an offset to the parent's pointers, so the parent is the owner
//! of all memory here, and what it promises about address and length carries over. The offset is
//! never above the parent's initialised length: `new` checks it, `set_init_len` never shortens the
//! parent, and nothing else reaches the parent before `into_inner` ends the view. That is what
//! keeps unknown bytes out of the initialised part.
#![allow(unsafe_code)]

use super::io_buf::Registration;
use super::{IoBuf, IoBufMut};
use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};

/// A part of a buffer, made by [`IoBuf::slice`] and [`IoBufMut::spare`]; it can be given to every
/// operation in the buffer's place.
///
/// - A write writes the initialised bytes in the range.
/// - A read fills the range from its start, up to its end or the capacity of the buffer, whichever
///   comes first; the count that it returns is relative to the start of the slice. The buffer gets
///   longer if the read went beyond its initialised bytes, but never shorter: after a short read
///   the bytes behind the count are still the older ones, and [`Deref`] shows them too.
///
/// Slices can be sliced again; ranges are then relative to the outer slice.
///
/// ```
/// use annulus::buf::IoBuf;
///
/// let slice = b"0123456789".to_vec().slice(2..8).slice(1..);
/// assert_eq!(&slice[..], b"34567");
/// let buffer = slice.into_inner().into_inner();
/// assert_eq!(buffer, b"0123456789");
/// ```
// Not `Clone`: a parent's clone may have fewer initialised bytes than the parent, and begin would
// then lie behind them.
pub struct Slice<B> {
    buffer: B,
    begin: usize,
    /// `usize::MAX` for an open end: no buffer is that long, so it never cuts anything off.
    end: usize,
}

impl<B: IoBuf> Slice<B> {
    pub(super) fn new(buffer: B, range: impl RangeBounds<usize>) -> Self {
        let begin = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
        };
        let end = match range.end_bound() {
            Bound::Unbounded => usize::MAX,
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
        };
        let initialised = buffer.init_len();
        assert!(begin <= end, "a slice of a buffer starts at {begin} but ends at {end}");
        assert!(
            begin <= initialised,
            "a slice of a buffer starts at {begin}, but only {initialised} bytes are initialised"
        );
        Slice { buffer, begin, end }
    }
}

impl<B> Slice<B> {
    /// The whole buffer back.
    pub fn into_inner(self) -> B {
        self.buffer
    }

    /// The whole buffer, to look at.
    pub fn get_ref(&self) -> &B {
        &self.buffer
    }

    /// Where the slice starts in the buffer.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// Where the slice ends in the buffer, exclusive; `None` if it was made with an open end, and
    /// ends where the buffer does.
    ///
    /// This is the end that was asked for, which may lie after the initialised bytes, and even
    /// after the capacity.
    pub fn end(&self) -> Option<usize> {
        (self.end != usize::MAX).then_some(self.end)
    }
}

// SAFETY: the parent owns the bytes and is moved along with the slice, so its promises hold for any
// part of them; that begin is not above the parent's initialised length (see the module) puts the
// start in its allocation and makes every byte from there up to `init_len` initialised.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn as_init_ptr(&self) -> *const u8 {
        self.buffer.as_init_ptr().wrapping_add(self.begin)
    }

    fn init_len(&self) -> usize {
        self.end.min(self.buffer.init_len()) - self.begin
    }

    fn registration(&self) -> Option<Registration> {
        self.buffer.registration()
    }
}

// SAFETY: as above; begin + capacity is not above the parent's capacity, so the parent lets all of
// it be written.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buffer.as_mut_ptr().wrapping_add(self.begin)
    }

    fn capacity(&self) -> usize {
        self.end.min(self.buffer.capacity()) - self.begin
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        let reached = self.begin + len;
        if reached > self.buffer.init_len() {
            // SAFETY: the parent owns the bytes. Those before begin are initialised (see the
            // module), the caller promises it of the `len` after it, and that they are within the
            // slice's capacity, which is within the parent's.
            unsafe { self.buffer.set_init_len(reached) }
        }
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_init()
    }
}

impl<B: IoBuf> AsRef<[u8]> for Slice<B> {
    fn as_ref(&self) -> &[u8] {
        self.as_init()
    }
}

/// Leaves the bytes out: they may be many, and may be secret.
impl<B> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice")
            .field("begin", &self.begin)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}
