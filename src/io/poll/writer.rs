//! Writing by polls: bytes are copied, and taken only together with the promise to send them.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::source::PollWrite;
use crate::runtime::spawn;

/// Bytes that may wait to be written while others are under way.
const LIMIT: usize = 64 << 10;

/// The writing direction of a stream, half, pipe or file, for code that polls.
pub struct PollWriter<S: PollWrite> {
    shared: Rc<S>,
    outgoing: Rc<RefCell<Outgoing>>,
    /// It is half of a stream, so its end is the end of the direction.
    ends: bool,
}

/// What is on its way. The drain task has a share in it.
#[derive(Default)]
struct Outgoing {
    /// Taken, and not yet given to the kernel.
    next: Vec<u8>,
    /// The task that writes.
    draining: bool,
    /// What went wrong, until somebody is told.
    failed: Option<io::Error>,
    /// Nothing can be written any more.
    is_broken: bool,
    ending: Ending,
    /// Waits for room, for the end of all writes, or for the end of the direction.
    waiter: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Ending {
    #[default]
    NotAsked,
    Asked,
    Done,
}

impl<S: PollWrite> PollWriter<S> {
    pub(crate) fn new(target: S) -> PollWriter<S> {
        PollWriter::of_shared(Rc::new(target))
    }

    pub(super) fn of_shared(shared: Rc<S>) -> PollWriter<S> {
        PollWriter { shared, outgoing: Rc::default(), ends: false }
    }

    /// What is written to, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        &self.shared
    }

    /// Takes bytes, and returns how many. They are on their way from then on.
    ///
    /// # Errors
    /// Those of earlier writes, once; then `BrokenPipe`.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// Takes bytes of several slices, and returns how many. They are on their way from then on.
    ///
    /// # Errors
    /// As [`poll_write`](PollWriter::poll_write).
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.check()?;
        let before = outgoing.next.len();
        for slice in slices {
            let room = LIMIT - outgoing.next.len();
            outgoing.next.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = outgoing.next.len() - before;
        if count == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            outgoing.waiter = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(outgoing);
        self.drain();
        Poll::Ready(Ok(count))
    }

    /// Waits until all bytes that were taken have been written.
    ///
    /// # Errors
    /// As [`poll_write`](PollWriter::poll_write).
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        if let Some(error) = outgoing.failed.take() {
            return Poll::Ready(Err(error));
        }
        if outgoing.draining {
            outgoing.waiter = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until all bytes that were taken have been written, then ends the writing direction.
    ///
    /// # Errors
    /// As [`poll_write`](PollWriter::poll_write).
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        if outgoing.ending == Ending::NotAsked {
            outgoing.ending = Ending::Asked;
        }
        drop(outgoing);
        self.drain();
        self.poll_flush(context)
    }

    /// Starts the task that writes, if there is something to do and it does not run.
    fn drain(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        let has_work = !outgoing.next.is_empty() || outgoing.ending == Ending::Asked;
        if has_work && !outgoing.draining {
            outgoing.draining = true;
            drop(outgoing);
            drop(spawn(write_out(Rc::clone(&self.shared), Rc::clone(&self.outgoing))));
        }
    }

    /// Waits until all is written, and returns the target.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub(super) async fn into_shared(mut self) -> io::Result<Rc<S>> {
        std::future::poll_fn(|context| self.poll_flush(context)).await?;
        self.ends = false;
        Ok(Rc::clone(&self.shared))
    }

    pub(super) fn into_half(mut self) -> PollWriter<S> {
        self.ends = true;
        self
    }
}

impl Outgoing {
    fn check(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None if self.is_broken || self.ending != Ending::NotAsked => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.is_broken = true;
        self.next = Vec::new();
    }
}

/// Writes until nothing is left to write.
async fn write_out<S: PollWrite>(target: Rc<S>, outgoing: Rc<RefCell<Outgoing>>) {
    loop {
        let batch = mem::take(&mut outgoing.borrow_mut().next);
        if batch.is_empty() {
            break;
        }
        wake(&outgoing);
        if let Err(error) = target.write_out(batch).await {
            outgoing.borrow_mut().fail(error.into());
        }
    }
    let ending = outgoing.borrow().ending;
    if ending == Ending::Asked {
        let ended = target.end_writing().await;
        let mut outgoing = outgoing.borrow_mut();
        outgoing.ending = Ending::Done;
        if let Err(error) = ended
            && !outgoing.is_broken
        {
            outgoing.fail(error);
        }
    }
    outgoing.borrow_mut().draining = false;
    wake(&outgoing);
}

fn wake(outgoing: &RefCell<Outgoing>) {
    let waiter = outgoing.borrow_mut().waiter.take();
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

impl<S: PollWrite> Drop for PollWriter<S> {
    fn drop(&mut self) {
        if self.ends && self.outgoing.borrow().ending == Ending::NotAsked {
            self.outgoing.borrow_mut().ending = Ending::Asked;
            self.drain();
        }
    }
}

impl<S: PollWrite> Unpin for PollWriter<S> {}

impl<S: PollWrite> fmt::Debug for PollWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollWriter").field("target", self.shared.outbound()).finish_non_exhaustive()
    }
}
