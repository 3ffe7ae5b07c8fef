//! The task that writes what a writer has taken: it starts with the first byte, and ends when
//! nothing is left, so a connection that waits has none.
//!
//! It first runs behind the poll that started it, in the same turn of the loop. So what one poll
//! writes piece by piece is one entry of the ring. It owns what it writes and a share of where it
//! goes, and goes on when the writer is dropped.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::rc::Rc;

use super::outgoing::{Awaited, Outgoing, wake};
use super::source::PollWrite;
use super::spare;
use crate::runtime::spawn;

struct Drain<S: PollWrite> {
    /// Nothing once the task has ended.
    target: Option<Rc<S>>,
    outgoing: Rc<RefCell<Outgoing>>,
}

/// Starts it, if it does not run.
pub(super) fn start<S: PollWrite>(target: &Rc<S>, outgoing: &Rc<RefCell<Outgoing>>) {
    if outgoing.borrow().drain.is_none() {
        let drain = Drain { target: Some(Rc::clone(target)), outgoing: Rc::clone(outgoing) };
        let task = spawn(drain.run());
        outgoing.borrow_mut().drain = Some(task);
    }
}

impl<S: PollWrite> Drain<S> {
    async fn run(mut self) {
        let Some(target) = self.target.take() else { return };
        // What was written is memory for what comes meanwhile.
        let mut written = Vec::new();
        loop {
            let batch = mem::replace(&mut self.outgoing.borrow_mut().next, written);
            if batch.is_empty() {
                spare::give_back(batch);
                break;
            }
            self.outgoing.borrow_mut().in_flight = true;
            wake(&self.outgoing, Awaited::Room);
            let result = target.write_out(batch).await;
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.in_flight = false;
            written = match result {
                Ok(written) => written,
                Err(error) => {
                    let (error, rest) = error.into_parts();
                    outgoing.fail(error);
                    rest
                }
            };
            written.clear();
        }
        let memory = mem::take(&mut self.outgoing.borrow_mut().next);
        spare::give_back(memory);
        self.target = Some(target);
    }
}

impl<S: PollWrite> Drop for Drain<S> {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.borrow_mut();
        let task = outgoing.drain.take();
        if !outgoing.is_idle() {
            outgoing.in_flight = false;
            outgoing.fail(io::Error::other("the runtime of this write has ended"));
        }
        let ends = outgoing.ends;
        drop(outgoing);
        drop(task);
        if let Some(mut target) = self.target.take()
            && ends
        {
            // A peer that has gone needs no end of stream.
            let _ = S::end_writing(&mut target);
        }
        wake(&self.outgoing, Awaited::End);
    }
}
