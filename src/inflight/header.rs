//! The small structures that the kernel reads or fills in beside the buffer, in boxes that are used
//! again.
//!
//! Addresses and message headers must not move while an operation is in flight, but futures do. A
//! header is a box that goes back to its thread's pool, so operations that need one do not allocate
//! once the pool is warm.
//!
//! # Safety
//! The parts belong to the operation that holds the header, from its creation until after its last
//! completion. All pointers into them come from the one in the header, and no reference to them is
//! made.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::mem;
use std::ptr::{self, NonNull};

use crate::sys::control::{Control, Enclosed};
use crate::sys::{SockAddr, SockAddrStorage};

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
    /// Its memory stays with the parts, for the next operation that needs some.
    control: Control,
}

/// A box of [`Parts`] on loan from the pool. It is a pointer, since the kernel has others to the
/// same parts while an operation is in flight, and a `Box` claims to be the only one.
pub(crate) struct MessageHeader(NonNull<Parts>);

impl MessageHeader {
    fn new() -> MessageHeader {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let parts = pooled.unwrap_or_else(|| {
            // SAFETY: all zeroes is a value of each of these C structures.
            let (message, vector) = unsafe { (mem::zeroed(), mem::zeroed()) };
            let (address, address_length) = (SockAddrStorage::zeroed(), 0);
            Box::new(Parts {
                message,
                vector,
                address,
                address_length,
                control: Control::default(),
            })
        });
        MessageHeader(NonNull::from(Box::leak(parts)))
    }

    fn parts(&mut self) -> *mut Parts {
        self.0.as_ptr()
    }

    /// With room for any address.
    pub(crate) fn for_any_address() -> MessageHeader {
        MessageHeader::with_address(
            SockAddrStorage::zeroed(),
            size_of::<SockAddrStorage>() as libc::socklen_t,
        )
    }

    /// Without any address.
    pub(crate) fn for_no_address() -> MessageHeader {
        MessageHeader::with_address(SockAddrStorage::zeroed(), 0)
    }

    /// With an address to go to.
    pub(crate) fn for_address(address: &SockAddr) -> MessageHeader {
        // SAFETY: a `SockAddr` is one whole `SockAddrStorage` on the other side of this pointer.
        let storage = unsafe { address.as_ptr().cast::<SockAddrStorage>().read() };
        MessageHeader::with_address(storage, address.len())
    }

    fn with_address(address: SockAddrStorage, length: libc::socklen_t) -> MessageHeader {
        let mut header = MessageHeader::new();
        // SAFETY: the parts belong to the header, and the kernel does not know them yet.
        unsafe {
            (&raw mut (*header.parts()).address).write(address);
            (&raw mut (*header.parts()).address_length).write(length);
        }
        header
    }

    /// Where the address is.
    pub(crate) fn address(&mut self) -> *mut libc::sockaddr {
        // SAFETY: the parts belong to the header.
        unsafe { &raw mut (*self.parts()).address }.cast()
    }

    pub(crate) fn address_length(&self) -> libc::socklen_t {
        // SAFETY: the parts belong to the header. The kernel writes the length before its
        // completion, and this is asked before the start or after the end.
        unsafe { (*self.0.as_ptr()).address_length }
    }

    /// Where the length of the address is, for accept(2) to fill in.
    pub(crate) fn address_length_mut(&mut self) -> *mut libc::socklen_t {
        // SAFETY: the parts belong to the header.
        unsafe { &raw mut (*self.parts()).address_length }
    }

    /// The message header of sendmsg(2) and recvmsg(2): the buffers and, if asked for, the address.
    pub(crate) fn message(
        &mut self,
        buffers: &[libc::iovec],
        with_address: bool,
    ) -> *mut libc::msghdr {
        self.message_at(buffers.as_ptr(), buffers.len(), with_address)
    }

    /// As [`message`](MessageHeader::message), for a single buffer.
    pub(crate) fn message_of_one(
        &mut self,
        buffer: libc::iovec,
        with_address: bool,
    ) -> *mut libc::msghdr {
        // SAFETY: the parts belong to the header.
        let vector = unsafe { &raw mut (*self.parts()).vector };
        // SAFETY: as above, and the kernel does not know them, or has let go of them.
        unsafe { vector.write(buffer) };
        self.message_at(vector, 1, with_address)
    }

    fn message_at(
        &mut self,
        buffers: *const libc::iovec,
        count: usize,
        with_address: bool,
    ) -> *mut libc::msghdr {
        let address = if with_address { self.address() } else { ptr::null_mut() };
        let length = if with_address { self.address_length() } else { 0 };
        // SAFETY: the parts belong to the header.
        let message = unsafe { &raw mut (*self.parts()).message };
        // SAFETY: as above, and the kernel does not know them, or has let go of them.
        unsafe {
            (*message).msg_name = address.cast();
            (*message).msg_namelen = length;
            (*message).msg_iov = buffers.cast_mut();
            (*message).msg_iovlen = count as _;
            (*message).msg_control = ptr::null_mut();
            (*message).msg_controllen = 0;
            (*message).msg_flags = 0;
        }
        message
    }

    /// The control messages, to be filled before the start with those that go along, or with room
    /// for those that come.
    pub(crate) fn control(&mut self) -> &mut Control {
        // SAFETY: the parts belong to the header, and no pointer that the kernel has is to this
        // field: it has those to the memory that the field owns, until its completion.
        unsafe { &mut (*self.parts()).control }
    }

    /// Lets the message that was made last take the control messages along.
    pub(crate) fn with_control(&mut self) -> *mut libc::msghdr {
        let (address, length) = (self.control().address(), self.control().length());
        // SAFETY: the parts belong to the header.
        let message = unsafe { &raw mut (*self.parts()).message };
        // SAFETY: as above, and the kernel does not know them, or has let go of them.
        unsafe {
            (*message).msg_control = if length == 0 { ptr::null_mut() } else { address.cast() };
            (*message).msg_controllen = length as _;
        }
        message
    }

    /// Hands over the control messages that recvmsg(2) has filled in, once. What `keep` does not
    /// keep is closed.
    pub(crate) fn take_control(&mut self, keep: impl FnMut(Enclosed)) {
        // SAFETY: the parts belong to the header, and the kernel has let go of them.
        let length = unsafe { (*self.parts()).message.msg_controllen };
        self.control().take(length, keep);
    }

    /// The flags that recvmsg(2) has filled in.
    pub(crate) fn message_flags(&self) -> libc::c_int {
        // SAFETY: the parts belong to the header, and the kernel has let go of them.
        unsafe { (*self.0.as_ptr()).message.msg_flags }
    }

    /// The address that accept(2) has filled in.
    pub(crate) fn into_accepted_address(self) -> SockAddr {
        let length = self.address_length();
        self.into_socket_address(length)
    }

    /// The address that recvmsg(2) has filled in.
    pub(crate) fn into_message_address(mut self) -> SockAddr {
        // SAFETY: the parts belong to the header, and the kernel has let go of them.
        let length = unsafe { (*self.parts()).message.msg_namelen };
        self.into_socket_address(length)
    }

    fn into_socket_address(mut self, length: libc::socklen_t) -> SockAddr {
        // SAFETY: the parts belong to the header, and the kernel has let go of them.
        let address =
            unsafe { (&raw mut (*self.parts()).address).replace(SockAddrStorage::zeroed()) };
        let length = length.min(size_of::<SockAddrStorage>() as libc::socklen_t);
        // SAFETY: the kernel has filled in the storage and its length, and a storage without an
        // address is all zeroes.
        unsafe { SockAddr::new(address, length) }
    }
}

impl Drop for MessageHeader {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, and nobody uses it after this.
        let parts = unsafe { Box::from_raw(self.0.as_ptr()) };
        // Without a pool (the thread ends), or with a full one, the box is freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_LIMIT {
                pool.push(parts);
            }
        });
    }
}
