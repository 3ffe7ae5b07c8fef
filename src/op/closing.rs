//! How a descriptor is closed: at once where that does not wait, else by a thread of the pool.
//!
//! close(2) gives the number up first, whatever it answers. Then it may wait: for the peer of a
//! socket that lingers, for the flush of a network or user-space file system, for a device. The loop
//! waits for none of these. io_uring's CLOSE is not used: a submitted close that answers `ECANCELED`
//! does not say whether it ran, and what comes after a drop would not find the file closed.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use blocking::Task;

use crate::ring::FileKind;
use crate::sys;
use crate::threads;

/// Closes what was dropped. Errors go nowhere, as in `Drop` of std's files. `at_once`: closing it is known to wait for nobody.
pub(super) fn close_dropped(descriptor: OwnedFd, at_once: bool) {
    if at_once || closes_here(&descriptor) {
        drop(descriptor);
    } else {
        blocking::unblock(move || drop(descriptor)).detach();
    }
}

/// Closes, and waits as long as that takes. The number is given up whatever the outcome.
pub(super) async fn close(descriptor: OwnedFd) -> io::Result<()> {
    if closes_here(&descriptor) {
        return sys::close(descriptor);
    }
    OnThread(Some(blocking::unblock(move || sys::close(descriptor)))).await
}

/// Is it closed on this thread? If there is no other, it is, however long that takes.
fn closes_here(descriptor: &OwnedFd) -> bool {
    FileKind::of(descriptor.as_fd()).closes_at_once(descriptor.as_fd()) || !threads::are_granted()
}

/// Waits for a call on a thread. If this is dropped, the call is made all the same.
struct OnThread<T>(Option<Task<T>>);

impl<T> Future for OnThread<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let task = self.0.as_mut().expect("it is there until the drop");
        Pin::new(task).poll(context)
    }
}

impl<T> Drop for OnThread<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}
