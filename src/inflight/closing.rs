//! The closing of a descriptor: at once where that does not wait, else by a thread of its own.
//!
//! close(2) gives the number up first, whatever it answers. Then it may wait: for the peer of a
//! socket that lingers, for the flush of a network or user-space file system, for a device. The
//! loop waits for none of these. io_uring's CLOSE is not used: a submitted close that answers
//! `ECANCELED` does not say whether it ran, and what comes after a drop would not find the file
//! closed.

use std::io;

use futures_channel::oneshot;

use crate::sys::{self, Descriptor, threads};

/// Closes what was dropped. Errors go nowhere, as in `Drop` of std's files. `at_once`: closing it
/// waits for nobody.
pub(super) fn close_dropped(descriptor: Descriptor, at_once: bool) {
    if at_once {
        drop(descriptor);
    } else {
        drop(close_on_thread(descriptor));
    }
}

/// Closes, and waits as long as that takes. The number is given up whatever the outcome, also if
/// this is dropped.
pub(super) async fn close(descriptor: Descriptor, at_once: bool) -> io::Result<()> {
    if at_once || !threads::are_granted() {
        return descriptor.close();
    }
    // Without an outcome there was no thread this time, and nobody knows how it went.
    close_on_thread(descriptor).await.unwrap_or(Ok(()))
}

/// The thread is one of its own, and not of the pool: it has the descriptors of whoever starts it,
/// also where that thread has a table of its own. Where there is no thread to be had, the
/// descriptor is closed here, with the closure that nobody runs, however long that takes.
fn close_on_thread(descriptor: Descriptor) -> oneshot::Receiver<io::Result<()>> {
    let (tell, outcome) = oneshot::channel();
    let close = move || drop(tell.send(descriptor.close()));
    // Either way it is closed.
    sys::run_on_own_thread("annulus-close", close);
    outcome
}
