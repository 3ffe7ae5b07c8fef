//! The deliveries of a turn: who is told of the completions that it brought, once the driver is no
//! longer borrowed.

use std::any::Any;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use crate::buf::Chunk;
use crate::ring::Completion;
use crate::unwind::FirstPanic;

/// An operation whose future is gone. The slot keeps it, and with it the memory that the kernel
/// uses, until the last completion.
pub(crate) trait Orphan {
    /// Turns the last completion into a value, and drops it.
    fn finish(self: Box<Self>, completion: Completion);

    /// Gives up what a zero-copy send does not need until its notification: all but its memory.
    /// Called with its result.
    fn let_go(&mut self, completion: Completion) -> Option<Box<dyn Any>>;
}

/// Who gets the completions of a multishot operation whose future is gone.
pub(crate) trait Successor {
    /// Takes one completion, with the buffer that it took.
    fn take_over(&self, arrival: Arrival);
}

/// One completion of a multishot operation.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) completion: Completion,
    /// The buffer that it took, which goes back when this is dropped.
    pub(crate) chunk: Option<Chunk>,
}

/// What a turn brought, to be delivered when the driver is no longer borrowed: all of it may run
/// user code.
#[derive(Default)]
pub(crate) struct Deliveries {
    pub(super) wakers: Vec<Waker>,
    pub(super) orphans: VecDeque<(Box<dyn Orphan>, Completion)>,
    pub(super) handed_over: VecDeque<(Rc<dyn Successor>, Arrival)>,
    pub(super) let_go: VecDeque<Box<dyn Any>>,
}

impl Deliveries {
    /// Wakes the futures and finishes the orphans, and is empty after. The first panic on the way
    /// comes out when all are served.
    ///
    /// `wake` wakes; it may know a shorter way than [`Waker::wake`].
    #[inline]
    pub(crate) fn deliver(&mut self, wake: impl Fn(Waker)) {
        let others =
            !(self.orphans.is_empty() && self.handed_over.is_empty() && self.let_go.is_empty());
        if self.wakers.len() <= 1 && !others {
            // Should it panic, nobody is left to be served.
            return self.wakers.pop().into_iter().for_each(wake);
        }
        let mut panic = FirstPanic::default();
        let mut wakers = self.wakers.drain(..);
        while wakers.len() > 0 {
            panic.run(|| wakers.by_ref().for_each(&wake));
        }
        drop(wakers);
        if others {
            self.deliver_others(&mut panic);
        }
        panic.resume();
    }

    /// All that has no waker.
    #[cold]
    fn deliver_others(&mut self, panic: &mut FirstPanic) {
        while let Some((orphan, completion)) = self.orphans.pop_front() {
            panic.run(|| orphan.finish(completion));
        }
        while let Some((successor, arrival)) = self.handed_over.pop_front() {
            panic.run(|| successor.take_over(arrival));
        }
        while let Some(given_up) = self.let_go.pop_front() {
            panic.run(|| drop(given_up));
        }
    }

    /// Adds who is woken for another reason.
    pub(crate) fn wake_all(&mut self, wakers: impl Iterator<Item = Waker>) {
        self.wakers.extend(wakers);
    }
}
