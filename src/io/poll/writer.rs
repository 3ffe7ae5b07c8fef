//! Writing by polls: bytes are taken only together with the promise to write them.
//!
//! What is taken is copied, and a task writes it (`drain.rs`). A socket for which nothing else is
//! under way is asked first to take it at once, from where it lies: large slices when they are
//! written, and what was copied when it is flushed.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::drain;
use super::outgoing::{Awaited, Outgoing, wait};
use super::source::PollWrite;
use crate::exec::Budget;
use crate::inflight::Direction;
use crate::sys;

/// From how many bytes on a socket is asked at once, so that they are not copied. Fewer wait for
/// what the same poll writes behind them.
const LARGE: usize = 8 << 10;

/// The writing direction of a stream, half, pipe or file, for code that polls; from `into_poll`.
///
/// It is what libraries take that are written against the traits of futures-io, tokio or hyper:
/// with the feature `futures-io`, `tokio-io` or `hyper` it implements theirs. The methods here are
/// for code without them.
///
/// # The promise
/// Bytes that were taken are written, without a flush, from this turn of the loop on. What one poll
/// writes goes out together. At most 64 KiB wait while others are under way; then `poll_write` is
/// pending, and no call is pending that has taken bytes. A writer for which nothing is under way
/// holds no memory for bytes.
///
/// # One task
/// One waker is kept, that of the last call that was pending. So one task at a time uses the
/// writer; the reading direction has a waker of its own.
///
/// # Dropping
/// Dropping a future that polls it loses nothing: the bytes are here, and not in the future. When
/// the writer is dropped, what it has taken is still written, as a socket of the kernel does it,
/// and then the descriptor is closed: it may stay open as long as a peer does not read.
/// [`abort`](PollWriter::abort) does not wait. What is not written when the runtime ends is lost: a
/// flush before says whether it was written.
///
/// ```
/// use std::future::poll_fn;
///
/// # annulus::block_on(async {
/// let (reader, writer) = annulus::io::pipe()?;
/// let mut writer = writer.into_poll();
/// assert_eq!(poll_fn(|context| writer.poll_write(context, b"through")).await?, 7);
/// poll_fn(|context| writer.poll_shutdown(context)).await?;
/// assert_eq!(reader.read_exact(vec![0; 7]).await?, b"through");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct PollWriter<S: PollWrite> {
    target: Rc<S>,
    outgoing: Rc<RefCell<Outgoing>>,
    ending: Ending,
    /// It is half of a stream, so its drop is the end of the direction.
    is_half: bool,
    /// How often the socket may still be asked at once without a wait in between.
    at_once: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    NotAsked,
    /// All is written first.
    Asked,
    Done,
}

impl<S: PollWrite> PollWriter<S> {
    pub(crate) fn new(target: S) -> PollWriter<S> {
        PollWriter::of_shared(Rc::new(target))
    }

    pub(super) fn of_shared(target: Rc<S>) -> PollWriter<S> {
        PollWriter {
            target,
            outgoing: Rc::default(),
            ending: Ending::NotAsked,
            is_half: false,
            at_once: Budget::default(),
        }
    }

    pub(super) fn into_half(mut self) -> PollWriter<S> {
        self.is_half = true;
        self
    }

    /// What is written to, for its addresses and options. To write through it as well would mix up
    /// the order.
    pub fn get_ref(&self) -> &S {
        &self.target
    }

    /// Takes bytes, and returns how many: at least one, unless there is none. They are on their way
    /// from then on.
    ///
    /// # Errors
    /// Those of earlier writes, once; then `BrokenPipe`. `BrokenPipe` after a shutdown.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// Takes bytes of several slices, one after the other, and returns how many. They are on their
    /// way from then on.
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
        if self.ending != Ending::NotAsked {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut count = 0;
        if length >= LARGE && takes_at_once(&*self.target, &outgoing, &mut self.at_once) {
            count = outgoing.send_at_once(self.target.outbound(), slices)?;
        }
        count += outgoing.copy(slices, count);
        let is_done = outgoing.next.is_empty();
        drop(outgoing);
        if count == 0 {
            return self.wait(Awaited::Room, context);
        }
        if !is_done {
            drain::start(&self.target, &self.outgoing);
        }
        Poll::Ready(Ok(count))
    }

    /// Waits until all bytes that were taken have been written, to the kernel, not to the peer.
    ///
    /// # Errors
    /// Those of earlier writes, once.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.take_error()?;
        if !outgoing.next.is_empty() && takes_at_once(&*self.target, &outgoing, &mut self.at_once) {
            outgoing.send_at_once(self.target.outbound(), &[])?;
        }
        if outgoing.is_idle() {
            return Poll::Ready(Ok(()));
        }
        drop(outgoing);
        self.wait(Awaited::End, context)
    }

    /// Waits until all bytes that were taken have been written, then ends the writing direction:
    /// the peer sees the end of the stream. Of a pipe it closes this end; of a file and a standard
    /// stream it ends nothing. It does not wait for the peer, and once it has ended the direction
    /// it has no further effect.
    ///
    /// # Errors
    /// Those of earlier writes and of shutdown(2), once. A peer that has reset the connection is
    /// none here.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending == Ending::Done {
            return Poll::Ready(Ok(()));
        }
        self.ending = Ending::Asked;
        ready!(self.poll_flush(context))?;
        self.ending = Ending::Done;
        Poll::Ready(S::end_writing(&mut self.target))
    }

    /// Waits until all is written, and returns what is written to. `None`: the other direction
    /// has it still, and this one ends as if it were dropped.
    ///
    /// If the future is dropped, so is the writer.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn into_inner(mut self) -> io::Result<Option<S>> {
        self.finish().await?;
        Ok(match Rc::strong_count(&self.target) {
            1 => Rc::into_inner(self.into_target()),
            _ => None,
        })
    }

    /// Gives up what is not written yet, and resets a TCP connection when it is closed, which is
    /// with this call unless the other direction is there still; `SO_LINGER` in socket(7).
    ///
    /// Any first part of what was taken may have been written.
    pub fn abort(mut self) {
        self.is_half = false;
        let task = self.outgoing.borrow_mut().drain.take();
        if self.target.outbound().is_socket() {
            // Where there is no such option nothing is reset.
            let _ = sys::option::LINGER.set(self.target.outbound(), Some(Duration::ZERO));
        }
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Waits until the task that writes has ended, and with it its share of the target.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_idle(context)).await;
        self.outgoing.borrow_mut().take_error()
    }

    /// Waits until nothing is under way. Errors are for those who write.
    pub(super) fn poll_idle(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.outgoing.borrow().drain.is_none() {
            return Poll::Ready(());
        }
        self.wait(Awaited::End, context)
    }

    /// What is written to, without the end that a drop means.
    pub(super) fn into_target(mut self) -> Rc<S> {
        self.is_half = false;
        Rc::clone(&self.target)
    }

    fn wait<T>(&mut self, awaited: Awaited, context: &Context<'_>) -> Poll<T> {
        self.at_once.refill();
        wait(&self.outgoing, awaited, context);
        Poll::Pending
    }
}

/// May a socket be asked now? Not while other bytes are before these, as those of a write that was
/// dropped; and not for ever, since a task that never waits lets no other run.
fn takes_at_once(target: &impl PollWrite, outgoing: &Outgoing, at_once: &mut Budget) -> bool {
    let target = target.outbound();
    !outgoing.in_flight
        && !at_once.is_spent()
        && target.is_socket()
        && target.lane(Direction::Outbound).is_quiet()
        && at_once.take()
}

impl<S: PollWrite> Drop for PollWriter<S> {
    fn drop(&mut self) {
        if !self.is_half || self.ending == Ending::Done {
            return;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.ends = true;
        let is_writing = outgoing.drain.is_some();
        drop(outgoing);
        if !is_writing {
            // A peer that has gone needs no end of stream.
            let _ = S::end_writing(&mut self.target);
        }
    }
}

crate::io::writes_for_libraries!([S: PollWrite] PollWriter<S>);

impl<S: PollWrite> Unpin for PollWriter<S> {}

impl<S: PollWrite> fmt::Debug for PollWriter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollWriter").field("target", self.target.outbound()).finish_non_exhaustive()
    }
}
