//! Tasks: spawning, joining, aborting, panics, wakes from everywhere, fairness.

#[path = "../common/mod.rs"]
mod common;

mod blocking;
mod panics;
mod tasks;
mod wakes;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Counts its drops.
#[derive(Clone, Default)]
pub(crate) struct Drops(Rc<Cell<usize>>);

impl Drops {
    pub(crate) fn guard(&self) -> Guard {
        Guard(Rc::clone(&self.0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }
}

pub(crate) struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Panics when it is dropped.
pub(crate) struct Bomb(pub(crate) &'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// A future that waits for ever and owns something.
pub(crate) async fn hold<T>(_owned: T) {
    std::future::pending::<()>().await;
}

/// A waker that can be taken out of the task it belongs to, and a count of polls.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    waker: Arc<Mutex<Option<Waker>>>,
    polls: Arc<AtomicUsize>,
}

impl Probe {
    /// A task that counts its polls and never ends.
    pub(crate) async fn pend(self) {
        poll_fn(|context| {
            self.polls.fetch_add(1, Ordering::SeqCst);
            *self.waker.lock().expect("no panic") = Some(context.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.lock().expect("no panic").clone().expect("it was polled")
    }

    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

/// A value that a thread sets and a future waits for.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Signal {
    pub(crate) fn set(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        if let Some(waker) = self.0.1.lock().expect("no panic").take() {
            waker.wake();
        }
    }

    pub(crate) fn wait(&self) -> impl Future<Output = ()> + use<> {
        let signal = self.clone();
        poll_fn(move |context| {
            *signal.0.1.lock().expect("no panic") = Some(context.waker().clone());
            if signal.0.0.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}
