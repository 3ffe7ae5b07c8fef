//! The shares that keep a descriptor open: one for its resource, and one for each operation.
//!
//! A `Resource` (`resource.rs`) is what a file, a stream or a listener has, a [`Handle`] what each
//! of its operations has. The descriptor is closed when all of them have gone.
//!
//! # Safety
//! The descriptor in [`SharedDescriptor`] is open, and lent by its number, until
//! [`SharedDescriptor::give_up`]. That is called by the last of its owners, or by the resource when
//! only operations without futures are left: these make no further entries, and ask for the number
//! no more.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;

use io_uring::{squeue, types};

use super::closing;
use super::fixed_file::{FixedFile, Target};
use super::kept::{Direction, Kept};
use super::position::Position;
use crate::ring::FileKind;
use crate::runtime;
use crate::sys::{self, Descriptor};

/// What an operation has of a descriptor.
pub struct Handle {
    /// `None` only within `drop`.
    shared: Option<Rc<SharedDescriptor>>,
}

/// A few bytes for each connection that waits.
struct SharedDescriptor {
    /// `None` once it was given up.
    descriptor: Cell<Option<Descriptor>>,
    /// Somebody waits until it is the only one. A flag, since every operation that goes asks.
    is_awaited: Cell<bool>,
    /// A file that is read from front to back, without positions.
    is_stream: bool,
    /// A file that was opened with `O_DIRECT`, once somebody has asked.
    is_direct: Cell<Option<bool>>,
    /// How entries of transfers name it, from the first on.
    naming: Cell<Naming>,
    /// By direction: who keeps others out of the lane.
    held: [Cell<u32>; 2],
    /// Nothing until some of it is needed.
    rare: OnceCell<Box<Rare>>,
}

/// How do the entries of reads and writes of a file name it, and who makes them?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// It is a socket, whose operations are others.
    Socket,
    /// There was no transfer yet.
    Unknown,
    /// By its descriptor.
    Plain { closes_at_once: bool },
    /// By its descriptor, and a worker makes the transfer: it may wait whatever it is told.
    ByWorker,
    /// By its place in the ring's table of fixed files, once it was used often.
    Counted,
}

/// What a connection that only sends and receives does not need.
#[derive(Default)]
struct Rare {
    /// Waits until it is the only one.
    closer: Cell<Option<Waker>>,
    /// There was an operation that a worker of the kernel makes, and perhaps has not begun.
    is_looked_up_late: Cell<bool>,
    /// Resources besides the first, each of which owns the descriptor.
    more_owners: Cell<u32>,
    /// Is it a pipe? Known from the first write of a file without positions on.
    signals: OnceCell<bool>,
    /// Of a file, from its first transfer on.
    fixed_file: FixedFile,
    /// Of a file that is read or written where it stands.
    position: Position,
    /// By direction: what the lane keeps.
    kept: [OnceCell<Box<RefCell<Kept>>>; 2],
}

const _: () = assert!(size_of::<SharedDescriptor>() <= 24);

impl Handle {
    /// Of a socket.
    pub(super) fn of_socket(descriptor: Descriptor) -> Handle {
        Handle::of(descriptor, false, Naming::Socket)
    }

    /// Of a file, which may be a pipe or a terminal.
    pub(crate) fn of_file(descriptor: Descriptor) -> Handle {
        let is_stream = !sys::has_position(descriptor.as_fd());
        Handle::of(descriptor, is_stream, Naming::Unknown)
    }

    fn of(descriptor: Descriptor, is_stream: bool, naming: Naming) -> Handle {
        let shared = Rc::new(SharedDescriptor {
            descriptor: Cell::new(Some(descriptor)),
            is_awaited: Cell::new(false),
            is_stream,
            is_direct: Cell::new(None),
            naming: Cell::new(naming),
            held: Default::default(),
            rare: OnceCell::new(),
        });
        Handle { shared: Some(shared) }
    }

    /// Is this the only share?
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        Rc::strong_count(self.shared()) == 1
    }

    /// Wakes when this is the only share.
    pub(super) fn wake_when_alone(&self, waker: Waker) {
        self.shared().is_awaited.set(true);
        self.rare_or_new().closer.set(Some(waker));
    }

    /// One resource more owns the descriptor.
    pub(super) fn add_owner(&self) {
        let more = &self.rare_or_new().more_owners;
        more.set(more.get() + 1);
    }

    /// Do other resources own it?
    pub(super) fn has_more_owners(&self) -> bool {
        self.shared().rare.get().is_some_and(|rare| rare.more_owners.get() > 0)
    }

    /// One of several owners goes. `false`: there is only one.
    pub(super) fn leave_to_others(&self) -> bool {
        let has_more = self.has_more_owners();
        if has_more {
            let more = &self.rare_or_new().more_owners;
            more.set(more.get() - 1);
        }
        has_more
    }

    /// Has the ring let go of the number, though operations without futures are in flight?
    pub(super) fn let_go(&self) -> bool {
        let shared = self.shared();
        runtime::try_current().is_some_and(|core| core.let_go(shared.number()))
            && !shared.rare.get().is_some_and(|rare| rare.is_looked_up_late.get())
    }

    /// Does closing the descriptor wait for nobody?
    pub(super) fn closes_at_once(&self) -> bool {
        self.shared().closes_at_once()
    }

    /// Takes the descriptor out.
    pub(super) fn give_up(&self) -> Descriptor {
        self.shared().give_up()
    }

    #[inline]
    fn shared(&self) -> &Rc<SharedDescriptor> {
        self.shared.as_ref().expect("a handle has its share until it is dropped")
    }

    /// Is it a socket of this crate?
    pub(crate) fn is_socket(&self) -> bool {
        self.shared().naming.get() == Naming::Socket
    }

    /// Has it no positions, so that bytes once read do not come again?
    #[inline]
    pub(crate) fn is_stream(&self) -> bool {
        self.shared().is_stream
    }

    /// What a write of a file is told: that a pipe or socket which nobody reads sends no signal.
    #[inline]
    pub(crate) fn flags_of_write(&self) -> i32 {
        if self.is_stream() { self.flags_of_write_in_order() } else { 0 }
    }

    #[cold]
    fn flags_of_write_in_order(&self) -> i32 {
        let signals =
            *self.rare_or_new().signals.get_or_init(|| sys::signals_a_reader_gone(self.as_fd()));
        if signals { sys::without_signal() } else { 0 }
    }

    /// Is it a file that is read by way of the page cache, and by its descriptor?
    pub(crate) fn has_cache(&self) -> bool {
        if self.shared().naming.get() == Naming::Unknown {
            self.find_out_naming();
        }
        matches!(self.shared().naming.get(), Naming::Plain { .. })
            && !self.is_stream()
            && !self.is_direct()
    }

    /// Does it go around the page cache?
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.shared().is_direct.get().unwrap_or_else(|| self.find_out_whether_direct())
    }

    #[cold]
    fn find_out_whether_direct(&self) -> bool {
        let is_direct = !self.is_stream() && sys::is_direct(self.as_fd());
        self.shared().is_direct.set(Some(is_direct));
        is_direct
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

    #[inline]
    pub(super) fn position(&self) -> &Position {
        &self.rare_or_new().position
    }

    #[inline]
    fn rare_or_new(&self) -> &Rare {
        self.shared().rare.get_or_init(Box::default)
    }

    /// As the entries of reads and writes of files take it.
    #[inline]
    pub(crate) fn target_of_transfer(&self) -> Target {
        match self.shared().naming.get() {
            Naming::Plain { .. } | Naming::Socket => self.target_with(squeue::Flags::empty()),
            Naming::ByWorker => {
                Target { number: self.target_for_worker(), flags: squeue::Flags::ASYNC }
            }
            Naming::Counted => self.target_of_counted_transfer(),
            Naming::Unknown => {
                self.find_out_naming();
                self.target_of_transfer()
            }
        }
    }

    #[inline]
    fn target_with(&self, flags: squeue::Flags) -> Target {
        Target { number: self.target(), flags }
    }

    fn target_of_counted_transfer(&self) -> Target {
        let rare = self.rare_or_new();
        rare.fixed_file.here().unwrap_or_else(|| {
            rare.fixed_file.count(self.as_fd());
            self.target_with(squeue::Flags::empty())
        })
    }

    #[cold]
    fn find_out_naming(&self) {
        let kind = FileKind::of(self.as_fd());
        self.shared().naming.set(if kind.waits_regardless(self.is_stream()) {
            Naming::ByWorker
        } else if runtime::registers_files() {
            Naming::Counted
        } else {
            Naming::Plain {
                closes_at_once: kind != FileKind::Socket && kind.closes_at_once(self.as_fd()),
            }
        });
    }

    /// Do transfers of it wait whatever they are told, so that a worker makes them?
    pub(crate) fn is_for_workers(&self) -> bool {
        if self.shared().naming.get() == Naming::Unknown {
            self.find_out_naming();
        }
        self.shared().naming.get() == Naming::ByWorker
    }

    /// As entries take it that a worker of the kernel looks up when it begins, and not the
    /// submission: until they have ended the descriptor stays open.
    pub(crate) fn target_for_worker(&self) -> types::Fd {
        self.rare_or_new().is_looked_up_late.set(true);
        self.target()
    }

    /// Entries that name it stand behind others in a chain: the number is looked up when they
    /// begin, and until they have ended the descriptor stays open.
    pub(super) fn expect_late_look_up(&self) {
        self.rare_or_new().is_looked_up_late.set(true);
    }

    /// Was the descriptor given up? The last completions of operations without futures come after
    /// that, and must not ask for it.
    pub(crate) fn is_given_up(&self) -> bool {
        // SAFETY: the cell belongs to this thread, and the reference ends with this expression,
        // before anybody takes the descriptor out of it.
        unsafe { &*self.shared().descriptor.as_ptr() }.is_none()
    }

    /// Differs from that of any other descriptor which is open now.
    pub(super) fn identity(&self) -> usize {
        Rc::as_ptr(self.shared()).addr()
    }

    /// As all other entries take it.
    #[inline]
    pub(crate) fn target(&self) -> types::Fd {
        types::Fd(self.shared().number())
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

impl SharedDescriptor {
    #[inline]
    fn number(&self) -> RawFd {
        // SAFETY: the cell belongs to this thread, and the reference ends before anybody takes the
        // descriptor out of it.
        let descriptor = unsafe { &*self.descriptor.as_ptr() };
        descriptor.as_ref().expect("a descriptor that was given up is not used").as_raw_fd()
    }

    /// Does closing it wait for nobody?
    fn closes_at_once(&self) -> bool {
        match self.naming.get() {
            Naming::Plain { closes_at_once } => closes_at_once,
            Naming::Socket => !sys::lingers(self.borrowed()),
            Naming::Unknown | Naming::ByWorker | Naming::Counted => {
                FileKind::of(self.borrowed()).closes_at_once(self.borrowed())
            }
        }
    }

    fn borrowed(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open until it is given up, which does not happen while anybody
        // asks.
        unsafe { BorrowedFd::borrow_raw(self.number()) }
    }

    /// Takes the descriptor out. Its place in the ring's table is emptied first, so that it is the
    /// closing that closes the file.
    fn give_up(&self) -> Descriptor {
        if let Some(rare) = self.rare.get() {
            rare.fixed_file.give_back();
            rare.position.give_back(self.borrowed());
        }
        let descriptor = self.descriptor.take().expect("a descriptor is given up once");
        runtime::forget_descriptor(descriptor.as_raw_fd());
        descriptor
    }
}

impl Drop for SharedDescriptor {
    fn drop(&mut self) {
        if self.descriptor.get_mut().is_some() {
            let at_once = self.closes_at_once();
            closing::close_dropped(self.give_up(), at_once);
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared().borrowed()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.shared().number()
    }
}
