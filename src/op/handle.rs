//! Who keeps a descriptor open? The handle that a resource and its operations share.
//!
//! The number is given up only through the ring, behind everything queued before, when the last of them has gone: an operation in flight
//! never meets a number that has been closed and given to another file.
//!
//! # Safety
//! The only unsafe item is the promise of the closing operation, which owns its descriptor and names no memory.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use io_uring::{squeue, types};

use super::lane::{Direction, Kept, Lane};
use super::place::{Place, Target};
use super::{Op, Operation, Step};
use crate::driver::closing;
use crate::ring::Completion;
use crate::runtime;
use crate::sys;

/// A shared open descriptor.
pub struct Handle {
    /// `None` only within `drop`.
    shared: Option<Rc<Shared>>,
}

/// A few bytes for each connection that waits.
struct Shared {
    /// `None` once it is on its way to be closed.
    descriptor: Option<OwnedFd>,
    /// Somebody waits until it is the only one. A flag, since every operation that goes asks.
    is_awaited: Cell<bool>,
    /// Closing it may take long: the socket lingers, see `SO_LINGER` in socket(7).
    lingers: Cell<bool>,
    /// A file that is read from front to back, without positions.
    is_stream: Cell<bool>,
    /// A file that was opened with `O_DIRECT`, once somebody has asked.
    is_direct: Cell<Option<bool>>,
    /// By direction: who keeps others out of the lane.
    held: [Cell<u32>; 2],
    /// Nothing until some of it is needed.
    rare: OnceCell<Box<Rare>>,
}

/// What a connection that only sends and receives does not need.
#[derive(Default)]
struct Rare {
    /// Waits until it is the only one.
    closer: Cell<Option<Waker>>,
    /// Of a file, from its first transfer on.
    place: Place,
    /// By direction: what the lane keeps.
    kept: [OnceCell<Box<RefCell<Kept>>>; 2],
}

const _: () = assert!(size_of::<Shared>() <= 24);

impl Handle {
    pub(crate) fn new(descriptor: OwnedFd) -> Handle {
        let shared = Rc::new(Shared {
            descriptor: Some(descriptor),
            is_awaited: Cell::new(false),
            lingers: Cell::new(false),
            is_stream: Cell::new(false),
            is_direct: Cell::new(None),
            held: Default::default(),
            rare: OnceCell::new(),
        });
        Handle { shared: Some(shared) }
    }

    #[inline]
    fn shared(&self) -> &Rc<Shared> {
        self.shared.as_ref().expect("a handle has its share until it is dropped")
    }

    /// Closing it will be left to a worker thread of the kernel, since it may take long.
    pub(crate) fn set_lingers(&self, lingers: bool) {
        self.shared().lingers.set(lingers);
    }

    /// The handle of a file, which may be a pipe or a terminal.
    pub(crate) fn of_file(descriptor: OwnedFd) -> Handle {
        let is_stream = !sys::has_position(descriptor.as_fd());
        let handle = Handle::new(descriptor);
        handle.shared().is_stream.set(is_stream);
        handle
    }

    /// Has it no positions, so that bytes once read do not come again?
    #[inline]
    pub(super) fn is_stream(&self) -> bool {
        self.shared().is_stream.get()
    }

    /// Does it go around the page cache?
    #[inline]
    pub(super) fn is_direct(&self) -> bool {
        self.shared().is_direct.get().unwrap_or_else(|| self.find_out_whether_direct())
    }

    #[cold]
    fn find_out_whether_direct(&self) -> bool {
        let is_direct = !self.is_stream() && sys::is_direct(self.as_fd());
        self.shared().is_direct.set(Some(is_direct));
        is_direct
    }

    #[inline]
    fn descriptor(&self) -> &OwnedFd {
        self.shared().descriptor.as_ref().expect("only the last handle takes the descriptor out")
    }

    /// Where operations of one direction take turns.
    #[inline]
    pub(super) fn lane(&self, direction: Direction) -> Lane<'_> {
        Lane::new(self, direction)
    }

    #[inline]
    pub(super) fn held(&self, direction: Direction) -> &Cell<u32> {
        &self.shared().held[direction as usize]
    }

    #[inline]
    pub(super) fn kept(&self, direction: Direction) -> Option<&RefCell<Kept>> {
        let kept = self.shared().rare.get()?.kept[direction as usize].get()?;
        Some(&**kept)
    }

    pub(super) fn kept_or_new(&self, direction: Direction) -> &RefCell<Kept> {
        self.rare_or_new().kept[direction as usize].get_or_init(Box::default)
    }

    fn rare_or_new(&self) -> &Rare {
        self.shared().rare.get_or_init(Box::default)
    }

    /// As the entries of reads and writes of files take it.
    #[inline]
    pub(super) fn target_of_transfer(&self) -> Target {
        let rare = self.shared().rare.get();
        rare.and_then(|rare| rare.place.here()).unwrap_or_else(|| self.target_of_counted_transfer())
    }

    #[cold]
    fn target_of_counted_transfer(&self) -> Target {
        self.rare_or_new().place.count(self.descriptor());
        Target { number: self.target(), flags: squeue::Flags::empty() }
    }

    /// As all other entries take it.
    #[inline]
    pub(crate) fn target(&self) -> types::Fd {
        types::Fd(self.descriptor().as_raw_fd())
    }

    /// Waits for the end of operations whose futures were dropped, and says how the writes among them ended.
    pub(crate) async fn quiesce(&self) -> Vec<io::Result<usize>> {
        for direction in [Direction::Inbound, Direction::Outbound] {
            poll_fn(|context| self.lane(direction).poll_quiet(context)).await;
        }
        self.lane(Direction::Outbound).take_results()
    }

    /// Waits for the end of operations whose futures were dropped, then closes the descriptor and says how that went.
    pub(crate) async fn close(self) -> io::Result<()> {
        let lingers = self.shared().lingers.get();
        let descriptor = self.into_descriptor().await;
        Op::new(Close { descriptor, lingers }).await
    }

    /// Waits for the end of operations whose futures were dropped, and gives up the descriptor.
    pub(crate) async fn into_descriptor(mut self) -> OwnedFd {
        let descriptor = poll_fn(|context| {
            // Before the look, since it is user code, which may change what there is to see.
            let waker = context.waker().clone();
            match self.shared.as_mut().and_then(Rc::get_mut) {
                Some(shared) => Poll::Ready(shared.descriptor.take()),
                None => {
                    self.shared().is_awaited.set(true);
                    self.rare_or_new().closer.set(Some(waker));
                    Poll::Pending
                }
            }
        });
        descriptor.await.expect("only the last handle takes the descriptor out")
    }
}

impl Handle {
    /// Whoever waits to be alone is, once this share is gone, if it is the last but one.
    #[cold]
    fn give_up_awaited(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        if Rc::strong_count(&shared) != 2 {
            return;
        }
        let closer = shared.rare.get().and_then(|rare| rare.closer.take());
        drop(shared);
        if let Some(closer) = closer {
            closer.wake();
        }
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Handle {
        Handle { shared: Some(Rc::clone(self.shared())) }
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        if self.shared.as_ref().is_some_and(|shared| shared.is_awaited.get()) {
            self.give_up_awaited();
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
        // First, so that it is the closing that closes the file.
        drop(self.rare.get_mut().map(|rare| mem::take(&mut rare.place)));
        if let Some(descriptor) = self.descriptor.take() {
            match runtime::try_current() {
                Some(core) => core.close(descriptor, self.lingers.get()),
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
    lingers: bool,
}

// SAFETY: the entry names no memory, and the descriptor belongs to the operation.
#[allow(unsafe_code)]
unsafe impl Operation for Close {
    type Output = io::Result<()>;

    /// Interrupted, the number is free all the same, and may be somebody else's by now.
    fn restarts(&self) -> bool {
        false
    }

    fn entry(&mut self) -> squeue::Entry {
        closing(&self.descriptor, self.lingers)
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
