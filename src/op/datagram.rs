//! Operations on datagram sockets that carry an address. recvmsg(2), sendmsg(2).
//!
//! # Safety
//! The buffer and the header belong to the operation, on the heap.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::file::{filled, needs_room, written};
use super::header::Header;
use super::{Handle, MOST_BYTES, Op, Operation, Step};
use crate::buf::{Error, IoBuf, IoBufMut};
use crate::ring::Completion;

/// Receives one datagram and says where it came from. What the buffer has no room for is lost.
pub struct ReceiveFrom<B> {
    socket: Handle,
    buffer: B,
    header: Header,
}

impl<B: IoBufMut> ReceiveFrom<B> {
    pub(crate) fn op(socket: &Handle, buffer: B) -> Op<'_, ReceiveFrom<B>> {
        let refused = needs_room(&buffer);
        Op::settled(ReceiveFrom { socket: socket.clone(), buffer, header: Header::for_any_address() }, refused)
    }
}

// SAFETY: the buffer and the header belong to the operation, on the heap; the handle keeps the descriptor open.
unsafe impl<B: IoBufMut> Operation for ReceiveFrom<B> {
    type Output = Result<(usize, SocketAddr, B), Error<B>>;

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.capacity().min(MOST_BYTES);
        let buffer = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: length };
        opcode::RecvMsg::new(self.socket.target(), self.header.message_of_one(buffer, true)).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let address = self.header.into_message_address();
        let received = filled(self.buffer, completion.result());
        Step::Done(received.and_then(|(count, buffer)| match address.as_socket() {
            Some(address) => Ok((count, address, buffer)),
            None => Err(Error::new(io::Error::other("a datagram from an address that is neither IPv4 nor IPv6"), buffer)),
        }))
    }
}

/// Sends one datagram to an address.
pub struct SendTo<B> {
    socket: Handle,
    buffer: B,
    header: Header,
}

impl<B: IoBuf> SendTo<B> {
    pub(crate) fn op(socket: &Handle, buffer: B, address: SocketAddr) -> Op<'_, SendTo<B>> {
        let header = Header::for_address(&SockAddr::from(address));
        Op::new(SendTo { socket: socket.clone(), buffer, header })
    }
}

// SAFETY: as for `ReceiveFrom`.
unsafe impl<B: IoBuf> Operation for SendTo<B> {
    type Output = Result<(usize, B), Error<B>>;

    fn entry(&mut self) -> squeue::Entry {
        let length = self.buffer.init_len().min(MOST_BYTES);
        let buffer = libc::iovec { iov_base: self.buffer.as_init_ptr().cast_mut().cast(), iov_len: length };
        let message = self.header.message_of_one(buffer, true);
        opcode::SendMsg::new(self.socket.target(), message).flags(libc::MSG_NOSIGNAL as u32).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(written(self.buffer, completion.result()))
    }
}
