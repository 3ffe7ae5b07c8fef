//! The stream of a descriptor's changes of readiness: a multishot poll while somebody polls it.
//! poll(2), io_uring_multishot(7).
//!
//! The kernel looks when it is armed, and afterwards tells what wakes it, as an edge-triggered
//! epoll does. What was told of a dropped stream is not kept, and none is lost for it: who arms
//! looks anew. The same holds for a poll that the kernel has ended or that was stopped since too
//! much was unclaimed.
//!
//! # Safety
//! The entry names no memory.
#![allow(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;
use io_uring::opcode;

use super::poll::{self, Interest, Ready};
use crate::driver::Arrival;
use crate::inflight::{Handle, Lane, MultishotStream, Op, Received};

/// Events that wait for their stream to be polled at which it is stopped. All of them are one item.
const UNCLAIMED: u16 = 32;

/// The stream of [`changes`](crate::io::PollFd::changes): the events of a descriptor, as they come.
///
/// One poll stays armed in the ring and brings event after event. Those that came since the last
/// item are one item.
///
/// It ends (`None`) after an error. Dropping it cancels the poll, and nothing is lost: whoever
/// waits next looks anew.
#[must_use = "a stream does nothing until it is polled"]
pub struct Changes<'h> {
    poll: MultishotStream<Events>,
    interest: Interest,
    /// One wait after the other, where the kernel has no poll that goes on.
    one_by_one: Option<Op<'h, poll::Poll>>,
    ended: bool,
}

/// What a poll tells.
struct Events;

impl Received for Events {
    /// Nobody misses it: whoever waits next looks anew.
    fn leave(_: Lane<'_>, _: Arrival) {}
}

impl<'h> Changes<'h> {
    pub(crate) fn new(handle: &'h Handle, interest: Interest) -> Changes<'h> {
        let poll = MultishotStream::new(handle, Events);
        Changes { poll, interest, one_by_one: None, ended: false }
    }

    fn go_on_one_by_one(&mut self) {
        self.one_by_one = Some(poll::Poll::op(self.poll.handle(), self.interest));
    }

    fn arm(&mut self, context: &Context<'_>) -> io::Result<()> {
        let target = self.poll.handle().target();
        let entry = opcode::PollAdd::new(target, self.interest.mask()).multi(true).build();
        // SAFETY: the entry names no memory, and the handle's descriptor.
        unsafe { self.poll.arm(entry, UNCLAIMED, context) }.map_err(io::Error::from_raw_os_error)
    }

    /// The events that have come, joined, or an error.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let mut events = None;
        loop {
            if let Some(wait) = &mut self.one_by_one {
                let ready = ready!(Pin::new(wait).poll(context));
                self.go_on_one_by_one();
                return Poll::Ready(ready);
            }
            if !self.poll.is_armed() {
                self.arm(context)?;
            }
            let Poll::Ready(arrival) = self.poll.poll_arrival(context) else {
                return events.map_or(Poll::Pending, |events| Poll::Ready(Ok(events)));
            };
            match arrival.completion.result() {
                Ok(mask) => match self.interest.answered_by(mask as u32) {
                    Some(ready) => events = Some(events.map_or(ready, |events| ready | events)),
                    // Another poll would end at once for the same, and so on.
                    None if !self.poll.is_armed() => self.go_on_one_by_one(),
                    None => {}
                },
                Err(error) => match error.raw_os_error() {
                    // Stopped since too much was unclaimed: it is armed again.
                    Some(libc::ECANCELED | libc::EINTR) => {}
                    // Before Linux 5.13. Of a descriptor that cannot be polled a wait says the
                    // same.
                    Some(libc::EINVAL) => self.go_on_one_by_one(),
                    _ if events.is_none() => return Poll::Ready(Err(error)),
                    // The next poll finds out anew.
                    _ => {}
                },
            }
            if let Some(events) = events
                && !self.poll.is_armed()
            {
                return Poll::Ready(Ok(events));
            }
        }
    }
}

impl Stream for Changes<'_> {
    type Item = io::Result<Ready>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Ready>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_events(context));
        self.ended = item.is_err();
        Poll::Ready(Some(item))
    }
}

impl FusedStream for Changes<'_> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Unpin for Changes<'_> {}

impl fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("descriptor", self.poll.handle())
            .field("interest", &self.interest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;

    use futures_util::StreamExt;

    use super::*;
    use crate::inflight::Resource;

    async fn next(changes: &mut Changes<'_>) -> Ready {
        changes.next().await.expect("it goes on").expect("no error")
    }

    #[test]
    fn where_no_poll_goes_on_there_is_one_after_the_other() {
        crate::block_on(async {
            let (mut reader, mut writer) = io::pipe().expect("a pipe");
            let copy = reader.try_clone().expect("a descriptor");
            let resource = Resource::of_file(OwnedFd::from(copy).into());
            let mut changes = Changes::new(&resource, Interest::READABLE);
            changes.go_on_one_by_one();
            for _ in 0..3 {
                writer.write_all(b"x").expect("there is room");
                assert!(next(&mut changes).await.is_readable());
                reader.read_exact(&mut [0]).expect("it is there");
            }
            assert!(futures_util::poll!(changes.next()).is_pending());
            drop(writer);
            assert!(next(&mut changes).await.is_read_closed());
        });
    }
}
