//! How a descriptor is closed: at once where that does not wait, else by a thread of its own.
//!
//! close(2) gives the number up first, whatever it answers. Then it may wait: for the peer of a
//! socket that lingers, for the flush of a network or user-space file system, for a device. The loop
//! waits for none of these. io_uring's CLOSE is not used: a submitted close that answers `ECANCELED`
//! does not say whether it ran, and what comes after a drop would not find the file closed.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use crate::sys;

/// Closes what was dropped. Errors go nowhere, as in `Drop` of std's files. `at_once`: closing it waits for nobody.
pub(super) fn close_dropped(descriptor: OwnedFd, at_once: bool) {
    if at_once {
        drop(descriptor);
    } else {
        SlowClose::begin(descriptor);
    }
}

/// Closes, and waits as long as that takes. The number is given up whatever the outcome, also if this is dropped.
pub(super) async fn close(descriptor: OwnedFd, at_once: bool) -> io::Result<()> {
    if at_once {
        return sys::close(descriptor);
    }
    let close = SlowClose::begin(descriptor);
    poll_fn(|context| {
        let waker = context.waker().clone();
        let mut state = close.lock();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                let before = state.waker.replace(waker);
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    })
    .await
}

/// A close that a thread makes. The thread is one of its own, and not of the pool: it has the descriptors of whoever starts it, also where that
/// thread has a table of its own.
#[derive(Default)]
struct SlowClose(Mutex<State>);

#[derive(Default)]
struct State {
    descriptor: Option<OwnedFd>,
    outcome: Option<io::Result<()>>,
    waker: Option<Waker>,
}

impl SlowClose {
    /// Where there is no thread to be had, it is closed here, however long that takes.
    fn begin(descriptor: OwnedFd) -> Arc<SlowClose> {
        let close = Arc::new(SlowClose(Mutex::new(State { descriptor: Some(descriptor), ..State::default() })));
        let theirs = Arc::clone(&close);
        let thread = thread::Builder::new().name("annulus-close".to_owned()).spawn(move || theirs.run());
        if thread.is_err() {
            close.run();
        }
        close
    }

    fn run(&self) {
        let Some(descriptor) = self.lock().descriptor.take() else { return };
        let outcome = sys::close(descriptor);
        let mut state = self.lock();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
