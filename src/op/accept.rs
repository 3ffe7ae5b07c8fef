//! The operation that takes a connection from a listener. accept(2).
//!
//! # Safety
//! The address lies in the operation's header, on the heap. A descriptor that the kernel returns belongs to the output from then on.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::header::Header;
use super::{Handle, Op, Operation, Step};
use crate::ring::Completion;

/// What an accepted connection becomes.
pub trait Accepted: Sized + 'static {
    /// The peer's address.
    type Address;

    /// Makes the stream and its peer's address.
    fn accepted(socket: OwnedFd, peer: &SockAddr) -> io::Result<(Self, Self::Address)>;
}

/// Takes one connection.
pub struct Accept<S> {
    listener: Handle,
    header: Header,
    stream: PhantomData<S>,
}

impl<S: Accepted> Accept<S> {
    pub(crate) fn op(listener: &Handle) -> Op<'_, Accept<S>> {
        Op::new(Accept { listener: listener.clone(), header: Header::for_any_address(), stream: PhantomData })
    }
}

// SAFETY: the address and its length lie in the operation's header, on the heap; the handle keeps the descriptor open.
unsafe impl<S: Accepted> Operation for Accept<S> {
    type Output = io::Result<(S, S::Address)>;

    fn entry(&mut self) -> squeue::Entry {
        let address = self.header.address();
        let length = self.header.address_length_mut();
        opcode::Accept::new(self.listener.target(), address, length).flags(libc::SOCK_CLOEXEC).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        if let Err(error) = completion.result() {
            return Step::Done(Err(error));
        }
        // SAFETY: the kernel has made this descriptor for this operation, and nobody else knows its number.
        let socket = unsafe { OwnedFd::from_raw_fd(completion.result) };
        Step::Done(S::accepted(socket, &self.header.into_accepted_address()))
    }
}
