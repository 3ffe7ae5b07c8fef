//! The groups of buffers that can be written with one call.
//!
//! Vectors and arrays of one kind of buffer, and tuples of different kinds, as a header and a body
//! are. What is done with them is the operations' affair.
//!
//! # Safety
//! A group owns its buffers, and each buffer keeps its own promise: its bytes do not lie in the
//! value, so moving the group moves none of them.
#![allow(unsafe_code)]

use super::IoBuf;

/// Several buffers that the kernel can read from, one after the other: `Vec<B>`, `[B; N]`, or a
/// tuple of up to four that may differ.
///
/// ```
/// use annulus::net::{TcpListener, TcpStream};
///
/// # annulus::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let stream = TcpStream::connect(listener.local_addr()?).await?;
/// let (header, body) = ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"hello".to_vec());
/// let (_header, body) = stream.write_all_vectored((header, body)).await?; // one call, no copy
/// assert_eq!(body, b"hello");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Safety
/// `for_each` gives the same addresses and lengths every time, however the value is moved, until a
/// buffer is taken out of it; each is what [`IoBuf`] promises of a buffer that the value owns.
#[diagnostic::on_unimplemented(
    note = "pass a vector or an array of owned buffers, or a tuple of up to four, by value; they come back with the result"
)]
pub unsafe trait IoBufs: 'static {
    /// Names the initialised bytes of each buffer in order, by address and length.
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize));

    /// How many bytes they hold together.
    fn total_len(&self) -> usize {
        let mut total = 0;
        self.for_each(&mut |_, length| total += length);
        total
    }

    /// A copy of at most `most` bytes of them, from the byte number `start` on.
    fn bytes_from(&self, mut start: usize, most: usize) -> Vec<u8> {
        let mut copy = Vec::with_capacity(most.min(self.total_len().saturating_sub(start)));
        self.for_each(&mut |address, length| {
            let skipped = start.min(length);
            let count = (length - skipped).min(most - copy.len());
            start -= skipped;
            // SAFETY: the value owns the `length` initialised bytes at this address, and is
            // borrowed until the end of this call; `skipped + count` is not above `length`.
            copy.extend_from_slice(unsafe {
                std::slice::from_raw_parts(address.wrapping_add(skipped), count)
            });
        });
        copy
    }
}

fn visit_one(buffer: &impl IoBuf, visit: &mut dyn FnMut(*const u8, usize)) {
    visit(buffer.as_init_ptr(), buffer.init_len());
}

// SAFETY: the vector owns its buffers, whose bytes lie elsewhere.
unsafe impl<B: IoBuf> IoBufs for Vec<B> {
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize)) {
        self.iter().for_each(|buffer| visit_one(buffer, visit));
    }
}

// SAFETY: the array owns its buffers, whose bytes lie elsewhere.
unsafe impl<B: IoBuf, const N: usize> IoBufs for [B; N] {
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize)) {
        self.iter().for_each(|buffer| visit_one(buffer, visit));
    }
}

// SAFETY: the tuple owns its buffers, whose bytes lie elsewhere; here and below.
unsafe impl<A: IoBuf, B: IoBuf> IoBufs for (A, B) {
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize)) {
        visit_one(&self.0, visit);
        visit_one(&self.1, visit);
    }
}

// SAFETY: as above.
unsafe impl<A: IoBuf, B: IoBuf, C: IoBuf> IoBufs for (A, B, C) {
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize)) {
        visit_one(&self.0, visit);
        visit_one(&self.1, visit);
        visit_one(&self.2, visit);
    }
}

// SAFETY: as above.
unsafe impl<A: IoBuf, B: IoBuf, C: IoBuf, D: IoBuf> IoBufs for (A, B, C, D) {
    fn for_each(&self, visit: &mut dyn FnMut(*const u8, usize)) {
        visit_one(&self.0, visit);
        visit_one(&self.1, visit);
        visit_one(&self.2, visit);
        visit_one(&self.3, visit);
    }
}
