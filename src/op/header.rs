//! Where do the small structures live that the kernel reads or fills in beside the buffer? In boxes that are used again.
//!
//! Addresses and message headers must not move while an operation is in flight, but futures do. A header is a box that goes back to its
//! thread's pool, so operations that need one do not allocate once the pool is warm.
//!
//! # Safety
//! The box belongs to the operation that holds the header, from its creation until after its last completion.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::mem;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

/// Most unused headers that a thread keeps, of about 220 bytes each.
const POOL_LIMIT: usize = 256;

thread_local! {
    // The boxes are what the pool is for: their addresses go to the kernel.
    #[allow(clippy::vec_box)]
    static POOL: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// What a message, an accept or a connect shares with the kernel.
struct Parts {
    message: libc::msghdr,
    vector: libc::iovec,
    address: SockAddrStorage,
    address_length: libc::socklen_t,
}

/// A box of [`Parts`] on loan from the pool.
pub(super) struct Header(Option<Box<Parts>>);

impl Header {
    fn new() -> Header {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        // SAFETY: all zeroes is a value of each of these C structures.
        Header(Some(pooled.unwrap_or_else(|| unsafe { Box::new(mem::zeroed()) })))
    }

    /// With room for any address.
    pub(super) fn for_any_address() -> Header {
        let mut header = Header::new();
        header.parts().address = SockAddrStorage::zeroed();
        header.parts().address_length = size_of::<SockAddrStorage>() as libc::socklen_t;
        header
    }

    /// With an address to go to.
    pub(super) fn for_address(address: &SockAddr) -> Header {
        let mut header = Header::new();
        header.parts().address_length = address.len();
        // SAFETY: a `SockAddr` is one whole `SockAddrStorage` on the other side of this pointer, and the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(address.as_ptr(), &mut header.parts().address, 1) };
        header
    }

    /// Where the address is.
    pub(super) fn address(&mut self) -> *mut libc::sockaddr {
        ptr::from_mut(&mut self.parts().address).cast()
    }

    pub(super) fn address_length(&self) -> libc::socklen_t {
        self.0.as_ref().map_or(0, |parts| parts.address_length)
    }

    /// Where the length of the address is, for accept(2) to fill in.
    pub(super) fn address_length_mut(&mut self) -> *mut libc::socklen_t {
        &mut self.parts().address_length
    }

    /// The message header of sendmsg(2) and recvmsg(2): the buffers and, if asked for, the address.
    pub(super) fn message(&mut self, buffers: &[libc::iovec], with_address: bool) -> *mut libc::msghdr {
        let address = if with_address { self.address() } else { ptr::null_mut() };
        let parts = self.parts();
        parts.message.msg_name = address.cast();
        parts.message.msg_namelen = if with_address { parts.address_length } else { 0 };
        parts.message.msg_iov = buffers.as_ptr().cast_mut();
        parts.message.msg_iovlen = buffers.len() as _;
        parts.message.msg_control = ptr::null_mut();
        parts.message.msg_controllen = 0;
        parts.message.msg_flags = 0;
        &mut parts.message
    }

    /// As [`message`](Header::message), for a single buffer.
    pub(super) fn message_of_one(&mut self, buffer: libc::iovec, with_address: bool) -> *mut libc::msghdr {
        self.parts().vector = buffer;
        let vector: *const libc::iovec = &self.parts().vector;
        // SAFETY: the vector is initialised and lies in the same box as the message.
        self.message(unsafe { std::slice::from_raw_parts(vector, 1) }, with_address)
    }

    /// The address that accept(2) has filled in.
    pub(super) fn into_accepted_address(self) -> SockAddr {
        let length = self.address_length();
        self.into_socket_address(length)
    }

    /// The address that recvmsg(2) has filled in.
    pub(super) fn into_message_address(mut self) -> SockAddr {
        let length = self.parts().message.msg_namelen;
        self.into_socket_address(length)
    }

    fn into_socket_address(mut self, length: libc::socklen_t) -> SockAddr {
        let mut address = SockAddrStorage::zeroed();
        mem::swap(&mut address, &mut self.parts().address);
        let length = length.min(size_of::<SockAddrStorage>() as libc::socklen_t);
        // SAFETY: the kernel has filled in the storage and its length, and a storage without an address is all zeroes.
        unsafe { SockAddr::new(address, length) }
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.as_mut().expect("a header has its box until it is dropped")
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        // Without a pool (the thread ends), or with a full one, the box is freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_LIMIT {
                pool.push(parts);
            }
        });
    }
}
