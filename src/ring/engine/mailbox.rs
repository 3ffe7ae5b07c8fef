//! The mailboxes by which software rings of this process are reached.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ring::seam::Completion;
use crate::ring::unpark::Unparker;
use crate::ring::world::World;

/// The mailboxes of the software rings of this process.
static MAILBOXES: Mutex<Vec<Arc<Mailbox>>> = Mutex::new(Vec::new());

/// What others have posted to a ring, however much it is: as with the completion queue's overflow,
/// nothing is lost.
#[derive(Debug)]
struct Mailbox {
    /// The descriptor by which others name the ring.
    ring: RawFd,
    messages: Mutex<Vec<Completion>>,
    has_messages: AtomicBool,
    owner: Unparker,
}

/// A ring's own mailbox. It goes before the ring's descriptor, whose number is then somebody
/// else's.
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

    /// Posts to a software ring of this process, this one included. `false`: there is none of that
    /// number.
    pub(super) fn post(&self, ring: RawFd, message: Completion) -> bool {
        // Until the lock is given back no ring closes, so that the unparker of none outlives it.
        let mailboxes = lock(&MAILBOXES);
        let own = Some(&self.0).filter(|own| own.ring == ring);
        let Some(mailbox) = own.or_else(|| mailboxes.iter().find(|mailbox| mailbox.ring == ring))
        else {
            return false;
        };
        lock(&mailbox.messages).push(message);
        mailbox.has_messages.store(true, Ordering::Release);
        // This one looks before it waits.
        own.is_some() || mailbox.owner.unpark()
    }

    #[inline]
    pub(super) fn has_messages(&self) -> bool {
        self.0.has_messages.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Vec<Completion> {
        self.0.has_messages.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.0.messages))
    }
}

impl Drop for OwnMailbox {
    fn drop(&mut self) {
        lock(&MAILBOXES).retain(|mailbox| !Arc::ptr_eq(mailbox, &self.0));
    }
}
