//! What a writer has taken and the kernel has not: its bytes, its errors, and who waits for either.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::task::{Context, Waker};

use super::spare;
use crate::exec::{JoinHandle, share};
use crate::inflight::Handle;
use crate::sys;

/// Bytes that may wait to be written while others are under way: enough for the next send to be
/// worth its while. A connection whose peer does not read holds twice as much.
const LIMIT: usize = 64 << 10;

/// Most slices that are sent at once; hyper hands over no more.
const MOST_SLICES: usize = 64;

/// Shared by a writer and the task that writes for it.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Taken, and not given to the kernel.
    pub(super) next: Vec<u8>,
    /// The task that writes, from the first byte until nothing is left.
    pub(super) drain: Option<JoinHandle<()>>,
    /// It has given bytes to the kernel, and waits.
    pub(super) in_flight: bool,
    /// The writer is gone, and its direction ends behind the last byte.
    pub(super) ends: bool,
    /// What went wrong, until somebody is told.
    failed: Option<io::Error>,
    /// Nothing can be written any more.
    is_broken: bool,
    waiter: Option<(Awaited, Waker)>,
}

/// What a waker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Room for more bytes.
    Room,
    /// The end of all writes.
    End,
}

impl Outgoing {
    /// May bytes be taken?
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.take_error()?;
        if self.is_broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Tells what went wrong, once.
    pub(super) fn take_error(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Nothing can be written any more, and somebody has to be told.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.is_broken = true;
        self.failed = Some(error);
        self.forget_bytes();
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.in_flight && self.next.is_empty()
    }

    fn forget_bytes(&mut self) {
        spare::give_back(mem::take(&mut self.next));
    }

    /// Takes bytes behind the first `start` of these slices, as far as there is room.
    pub(super) fn copy(&mut self, slices: &[IoSlice<'_>], start: usize) -> usize {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>() - start;
        let count = length.min(LIMIT - self.next.len());
        if count == 0 {
            return 0;
        }
        if self.next.capacity() == 0 {
            self.next = spare::take();
        }
        self.next.reserve(count);
        let (mut skipped, mut room) = (start, count);
        for slice in slices {
            let passed = skipped.min(slice.len());
            let part = &slice[passed..];
            let part = &part[..part.len().min(room)];
            self.next.extend_from_slice(part);
            skipped -= passed;
            room -= part.len();
        }
        count
    }

    /// Sends what was taken and then these slices, as far as the socket takes them without a wait.
    /// Returns how much of the slices that was.
    pub(super) fn send_at_once(
        &mut self,
        socket: &Handle,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(MOST_SLICES)];
        let before = self.next.len();
        let sent = if before == 0 {
            sys::send_at_once(socket, slices)
        } else {
            let mut all = [IoSlice::new(&[]); MOST_SLICES + 1];
            all[0] = IoSlice::new(&self.next);
            all[1..=slices.len()].copy_from_slice(slices);
            sys::send_at_once(socket, &all[..=slices.len()])
        };
        match sent {
            Ok(count) if count >= before => {
                self.forget_bytes();
                Ok(count - before)
            }
            Ok(count) => {
                self.next.drain(..count);
                Ok(0)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => {
                    self.is_broken = true;
                    self.forget_bytes();
                    Err(error)
                }
            },
        }
    }

    /// Takes the waker, if that is what it waits for, or more.
    fn take_waiter(&mut self, happened: Awaited) -> Option<Waker> {
        self.waiter
            .take_if(|(awaited, _)| happened == Awaited::End || *awaited == happened)
            .map(|(_, waker)| waker)
    }
}

/// Wakes who waits for that. A waker is user code, so nothing is borrowed meanwhile.
pub(super) fn wake(outgoing: &RefCell<Outgoing>, happened: Awaited) {
    let waker = outgoing.borrow_mut().take_waiter(happened);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Has this task woken when that happens, and no other any more.
pub(super) fn wait(outgoing: &RefCell<Outgoing>, awaited: Awaited, context: &Context<'_>) {
    if let Some((before, waker)) = &mut outgoing.borrow_mut().waiter
        && waker.will_wake(context.waker())
    {
        *before = awaited;
        return;
    }
    let waker = share(context.waker());
    let before = outgoing.borrow_mut().waiter.replace((awaited, waker));
    drop(before);
}
