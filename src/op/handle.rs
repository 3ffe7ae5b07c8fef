//! Who keeps a descriptor open? The handle that a resource and its operations share.
//!
//! The number is given up only through the ring, behind everything queued before, when the last of them has gone: an operation in flight
//! never meets a number that has been closed and given to another file.
//!
//! # Safety
//! The only unsafe item is the promise of the closing operation, which owns its descriptor and names no memory.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use io_uring::{opcode, squeue, types};

use super::lane::{Direction, Lane};
use super::{Op, Operation, Step};
use crate::ring::Completion;
use crate::runtime;

/// A shared open descriptor.
pub struct Handle(Rc<Shared>);

struct Shared {
    /// `None` once it is on its way to be closed.
    descriptor: Option<OwnedFd>,
    /// Waits until it is the only one.
    closer: Cell<Option<Waker>>,
    inbound: Lane,
    outbound: Lane,
}

impl Handle {
    pub(crate) fn new(descriptor: OwnedFd) -> Handle {
        Handle(Rc::new(Shared { descriptor: Some(descriptor), closer: Cell::new(None), inbound: Lane::new(), outbound: Lane::new() }))
    }

    fn descriptor(&self) -> &OwnedFd {
        self.0.descriptor.as_ref().expect("only the last handle takes the descriptor out")
    }

    /// Where operations of one direction take turns.
    pub(super) fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Inbound => &self.0.inbound,
            Direction::Outbound => &self.0.outbound,
        }
    }

    /// As entries take it.
    pub(crate) fn target(&self) -> types::Fd {
        types::Fd(self.descriptor().as_raw_fd())
    }

    /// Waits for the end of operations whose futures were dropped, then closes the descriptor and says how that went.
    pub(crate) async fn close(self) -> io::Result<()> {
        let descriptor = self.into_descriptor().await;
        Op::new(Close { descriptor }).await
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    pub(crate) async fn into_descriptor(mut self) -> OwnedFd {
        let descriptor = poll_fn(|context| match Rc::get_mut(&mut self.0) {
            Some(shared) => Poll::Ready(shared.descriptor.take()),
            None => {
                self.0.closer.set(Some(context.waker().clone()));
                Poll::Pending
            }
        });
        descriptor.await.expect("only the last handle takes the descriptor out")
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle(Rc::clone(&self.0))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The last but one: whoever waits to be alone is, once this one is gone.
        if Rc::strong_count(&self.0) == 2
            && let Some(closer) = self.0.closer.take()
        {
            closer.wake();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.as_raw_fd()).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            match runtime::try_current() {
                Some(core) => core.close(descriptor),
                None => drop(descriptor),
            }
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().as_fd()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor().as_raw_fd()
    }
}

/// close(2).
struct Close {
    descriptor: OwnedFd,
}

// SAFETY: the entry names no memory, and the descriptor belongs to the operation.
#[allow(unsafe_code)]
unsafe impl Operation for Close {
    type Output = io::Result<()>;

    // Interrupted, the number is free all the same, and may be somebody else's by now.
    const RESTARTS: bool = false;

    fn entry(&mut self) -> squeue::Entry {
        opcode::Close::new(types::Fd(self.descriptor.as_raw_fd())).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(match -completion.result {
            // It never ran: dropping the descriptor closes it.
            libc::ECANCELED | libc::EOPNOTSUPP => Ok(()),
            // It ran, and the number is free even where it reports an error, which is then that of the file system's flush.
            _ => {
                let _ = self.descriptor.into_raw_fd();
                completion.result().map(drop)
            }
        })
    }
}
