//! The share of a file, a stream or a listener in its descriptor, which is closed with it.
//!
//! A file can be cloned. Then each of the clones owns the descriptor, and it is closed with the
//! last.
//! If it goes while operations without futures are in flight, they are cancelled, and the
//! descriptor is closed as soon as no entry that names it is on its way to the kernel.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::task::Poll;

use super::closing;
use super::handle::Handle;
use super::kept::Direction;
use crate::sys::Descriptor;

/// The first of the handles of a descriptor.
pub(crate) struct Resource(Handle);

impl Resource {
    /// Of a socket.
    pub(crate) fn new(descriptor: Descriptor) -> Resource {
        Resource(Handle::of_socket(descriptor))
    }

    /// Of a file, which may be a pipe or a terminal.
    pub(crate) fn of_file(descriptor: Descriptor) -> Resource {
        Resource(Handle::of_file(descriptor))
    }

    /// One owner more of the same descriptor.
    pub(crate) fn share(&self) -> Resource {
        self.add_owner();
        Resource(self.0.clone())
    }

    /// Waits for the end of operations whose futures were dropped, then closes the descriptor and
    /// says how that went, unless others own it.
    pub(crate) async fn close(self) -> io::Result<()> {
        if self.is_left_to_others().await {
            return Ok(());
        }
        self.wait_alone().await;
        let at_once = self.closes_at_once();
        closing::close(self.give_up(), at_once).await
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    pub(crate) async fn into_descriptor(self) -> Descriptor {
        self.wait_alone().await;
        self.give_up()
    }

    /// Waits for the end of operations whose futures were dropped, if others own the descriptor,
    /// too. Do they still own it then?
    pub(crate) async fn is_left_to_others(&self) -> bool {
        if self.has_more_owners() {
            for direction in [Direction::Inbound, Direction::Outbound] {
                poll_fn(|context| self.lane(direction).poll_quiet(context)).await;
            }
        }
        self.has_more_owners()
    }

    async fn wait_alone(&self) {
        self.lane(Direction::Inbound).cancel_parked();
        poll_fn(|context| {
            // Before the look, since it is user code, which may change what there is to see.
            let waker = context.waker().clone();
            if self.is_alone() {
                return Poll::Ready(());
            }
            self.wake_when_alone(waker);
            Poll::Pending
        })
        .await;
    }

    /// The resource goes, and operations without futures are in flight. They are cancelled now, and
    /// not with the next turn.
    #[cold]
    fn close_early(&self) {
        if self.leave_to_others() {
            return;
        }
        self.lane(Direction::Inbound).cancel_parked();
        if self.let_go() {
            let at_once = self.closes_at_once();
            closing::close_dropped(self.give_up(), at_once);
        }
    }
}

impl Drop for Resource {
    #[inline]
    fn drop(&mut self) {
        if !self.is_alone() {
            self.close_early();
        }
    }
}

impl Deref for Resource {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
