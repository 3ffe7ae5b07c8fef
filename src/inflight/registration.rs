//! The registration of a pool's buffers with the kernel, and its end.
//!
//! A runtime has a table of registered memory. A pool takes a place in it for each of its areas,
//! and gives them back when its last share is gone, or with the runtime, whichever ends first.

use std::any::Any;
use std::io;
use std::rc::{Rc, Weak};

use crate::buf::{AlignedBuffer, BufferPool, Registration};
use crate::runtime::{self, Core};

impl BufferPool {
    /// A pool of `count` buffers of `size` bytes, registered with the current runtime if that can
    /// be had.
    ///
    /// Otherwise, and outside a runtime, the buffers are plain aligned memory, which does the same
    /// at the price of plain memory: [`is_registered`](BufferPool::is_registered) tells. Who asks a
    /// pool of no buffers for one waits for ever.
    ///
    /// # Panics
    /// If `size` does not fit into the address space.
    pub fn new(count: usize, size: usize) -> BufferPool {
        BufferPool::with(count, size, &mut register)
    }

    /// As [`new`](BufferPool::new), for those who rely on the registration.
    ///
    /// # Errors
    /// `OutOfMemory` when the memory would go over `RLIMIT_MEMLOCK`, with the limit and the ways to
    /// raise it; `InvalidInput` when the runtime has 16,384 pools (a GiB of a larger one counts as
    /// one), and for no buffers, empty ones, and ones over 1 GiB; `Unsupported` outside a runtime,
    /// on the software ring, and where there is no such table (before Linux 5.19). Nothing is kept
    /// then.
    pub fn registered(count: usize, size: usize) -> io::Result<BufferPool> {
        BufferPool::new(count, size).if_registered()
    }
}

fn register(areas: &mut [AlignedBuffer]) -> io::Result<(Registration, Box<dyn Any>)> {
    let core = runtime::try_current().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "buffers are registered with a runtime, and there is none here",
        )
    })?;
    if areas.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a pool without buffers has nothing to register",
        ));
    }
    let first = core.register_buffers(areas)?;
    let range = TableRange { core: Rc::downgrade(&core), first, count: areas.len() };
    Ok((Registration { ring: core.id(), number: first }, Box::new(range)))
}

/// The places of one pool in a runtime's table.
struct TableRange {
    core: Weak<Core>,
    first: u16,
    count: usize,
}

impl Drop for TableRange {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.forget_buffers(self.first, self.count);
        }
    }
}

/// The number of a buffer's area, if it is registered with the current runtime.
#[inline]
pub(crate) fn number_here(registration: Option<Registration>) -> Option<u16> {
    let registration = registration?;
    runtime::is_current(registration.ring).then_some(registration.number)
}
