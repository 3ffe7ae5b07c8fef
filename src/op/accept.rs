//! The operation that takes a connection from a listener. accept(2).
//!
//! # Safety
//! The address lies in the operation's header, on the heap. A descriptor that the kernel returns
//! belongs to the output from then on.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;

use io_uring::{opcode, squeue};

use crate::inflight::{
    Direction, Habits, Handle, Left, Manner, MessageHeader, Op, Operation, Resource, Step, Turns,
};
use crate::ring::{Completion, RingKind};
use crate::runtime;
use crate::sys::{self, Descriptor, SockAddr};

/// What an accepted connection becomes.
pub trait Accepted: Sized + 'static {
    /// The peer's address.
    type Address: 'static;

    /// Makes the stream and its peer's address.
    fn accepted(socket: Descriptor, peer: &SockAddr) -> io::Result<(Self, Self::Address)>;
}

/// A listener's own descriptor. An accept whose future was dropped goes on waiting in it, and ends
/// with it.
#[derive(Debug)]
pub(crate) struct Listening {
    resource: Resource,
    /// Made non-blocking, for this ring's sake only.
    is_nonblocking: bool,
}

impl Listening {
    pub(crate) fn new(resource: Resource) -> Listening {
        Listening { resource, is_nonblocking: false }
    }

    /// A listener of our own. The software ring accepts at once where the listener does not wait,
    /// and by a worker's thread where it does.
    pub(crate) fn of_own(socket: Descriptor) -> io::Result<Listening> {
        let is_nonblocking =
            runtime::try_current().is_some_and(|core| core.ring_kind() == RingKind::Software);
        if is_nonblocking {
            sys::set_nonblocking(&socket, true)?;
        }
        Ok(Listening { resource: Resource::new(socket), is_nonblocking })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.resource
    }

    pub(crate) async fn close(self) -> io::Result<()> {
        self.resource.close().await
    }

    /// Ends what is parked, waits for the end of operations whose futures were dropped, and gives
    /// up the descriptor as the user would have made it.
    pub(crate) async fn into_descriptor(self) -> Descriptor {
        let descriptor = self.resource.into_descriptor().await;
        if self.is_nonblocking {
            // It was set without an error, and nothing but a bad descriptor would be one.
            let _ = sys::set_nonblocking(&descriptor, false);
        }
        descriptor
    }
}

/// Takes one connection.
pub struct Accept<S> {
    listener: Handle,
    header: MessageHeader,
    stream: PhantomData<S>,
}

impl<S: Accepted> Accept<S> {
    pub(crate) fn op(listener: &Handle) -> Op<'_, Accept<S>> {
        Op::new(Accept {
            listener: listener.clone(),
            header: MessageHeader::for_any_address(),
            stream: PhantomData,
        })
    }
}

// SAFETY: the address and its length lie in the operation's header, on the heap; the handle keeps
// the descriptor open.
unsafe impl<S: Accepted> Operation for Accept<S> {
    type Output = io::Result<(S, S::Address)>;

    const TURNS: Option<Turns<Self>> =
        Some(Turns { claim: Self::claim, leave: Self::leave, ..Turns::of(Self::lane) });
    const HABITS: Habits<Self> = Habits { parks: true, ..Habits::USUAL };

    fn entry(&mut self) -> squeue::Entry {
        let address = self.header.address();
        let length = self.header.address_length_mut();
        opcode::Accept::new(self.listener.target(), address, length)
            .flags(libc::SOCK_CLOEXEC)
            .build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        if let Err(error) = completion.result() {
            return Step::Done(Err(error));
        }
        // SAFETY: the kernel has made this descriptor for this operation, and nobody else knows its
        // number.
        let socket = unsafe { Descriptor::of_number(completion.result) };
        Step::Done(S::accepted(socket, &self.header.into_accepted_address()))
    }
}

impl<S: Accepted> Accept<S> {
    fn lane(&self) -> Option<(&Handle, Direction, Manner)> {
        Some((&self.listener, Direction::Inbound, Manner::Alone))
    }

    fn claim(self) -> Step<Self> {
        match self.listener.lane(Direction::Inbound).take_left() {
            Some(Left::Connection(connection)) => match connection.downcast::<(S, S::Address)>() {
                Ok(connection) => Step::Done(Ok(*connection)),
                Err(_) => Step::Again(self),
            },
            _ => Step::Again(self),
        }
    }

    /// A connection waits for the next call. What else may have come, want of descriptors for
    /// example, the next call finds by itself.
    fn leave(self, completion: Completion) {
        let listener = self.listener.clone();
        if let Step::Done(Ok(connection)) = self.complete(completion) {
            listener.lane(Direction::Inbound).leave(Left::Connection(Box::new(connection)));
        }
    }
}
