//! Messages, `IORING_OP_MSG_RING`: one ring posts a completion to another, through a mailbox that the
//! whole process knows of.
//!
//! A ring of the kernel is reached through the kernel, which since Linux 6.13 asks for no ring on this side. The kernel's rings cannot reach
//! this one: to them its descriptor is that of some file.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use io_uring::{opcode, types};

use super::Engine;
use crate::ring::request::{Call, Poll};
use crate::ring::world::{Attempt, World};
use crate::ring::{Completion, Unparker};
use crate::sys;

/// The mailboxes of the software rings of this process.
static MAILBOXES: Mutex<Vec<Arc<Mailbox>>> = Mutex::new(Vec::new());

/// What others have posted to a ring, however much it is: as with the completion queue's overflow, nothing is lost.
#[derive(Debug)]
struct Mailbox {
    /// The descriptor by which others name the ring.
    ring: RawFd,
    messages: Mutex<Vec<Completion>>,
    has_messages: AtomicBool,
    owner: Unparker,
}

/// A ring's own mailbox. It goes before the ring's descriptor, whose number is then somebody else's.
#[derive(Debug)]
pub(super) struct OwnMailbox(Arc<Mailbox>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnMailbox {
    pub(super) fn open(world: &dyn World) -> OwnMailbox {
        let mailbox = Arc::new(Mailbox {
            ring: world.descriptor(),
            messages: Mutex::default(),
            has_messages: AtomicBool::new(false),
            owner: world.unparker(),
        });
        lock(&MAILBOXES).push(Arc::clone(&mailbox));
        OwnMailbox(mailbox)
    }

    /// Posts to a software ring of this process, this one included. `false`: there is none of that number.
    fn post(&self, ring: RawFd, message: Completion) -> bool {
        // Until the lock is given back no ring closes, so that the unparker of none outlives it.
        let mailboxes = lock(&MAILBOXES);
        let own = Some(&self.0).filter(|own| own.ring == ring);
        let Some(mailbox) = own.or_else(|| mailboxes.iter().find(|mailbox| mailbox.ring == ring)) else { return false };
        lock(&mailbox.messages).push(message);
        mailbox.has_messages.store(true, Ordering::Release);
        // This one looks before it waits.
        own.is_some() || mailbox.owner.unpark()
    }

    #[inline]
    pub(super) fn has_messages(&self) -> bool {
        self.0.has_messages.load(Ordering::Acquire)
    }

    fn take(&self) -> Vec<Completion> {
        self.0.has_messages.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.0.messages))
    }
}

impl Drop for OwnMailbox {
    fn drop(&mut self) {
        lock(&MAILBOXES).retain(|mailbox| !Arc::ptr_eq(mailbox, &self.0));
    }
}

impl Engine {
    /// The answer of `MSG_RING`.
    pub(super) fn send_message(&mut self, ring: RawFd, message: Completion, flags: Option<u32>) -> i32 {
        if self.mailbox.post(ring, message) {
            return 0;
        }
        if self.world.attempt(&mut Call::Poll(Poll { fd: ring, mask: 0 })) == Attempt::Done(-libc::EBADF) {
            return -libc::EBADF;
        }
        let mut entry = opcode::MsgRingData::new(types::Fd(ring), message.result, message.token, flags).build();
        match sys::send_msg_ring(&mut entry).map_err(|error| error.raw_os_error()) {
            Ok(()) => 0,
            Err(Some(errno @ (libc::ENOMEM | libc::EOVERFLOW))) => -errno,
            // It is no ring, or one that only a ring of the kernel reaches.
            Err(_) => -libc::EBADFD,
        }
    }

    /// Posts what others have sent.
    #[inline]
    pub(super) fn take_messages(&mut self) {
        if self.mailbox.has_messages() {
            self.post_messages();
        }
    }

    #[cold]
    fn post_messages(&mut self) {
        for message in self.mailbox.take() {
            self.completions.post(message);
        }
    }
}
