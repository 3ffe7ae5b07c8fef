//! An operation whose future is gone, kept until its last completion.
//!
//! # Safety
//! The slot owns the operation from the drop of its future on, as bytes in `MaybeUninit`. Its last
//! completion ends that: then it is an operation again, and is dropped.
#![allow(unsafe_code)]

use std::any::Any;
use std::mem::MaybeUninit;

use super::operation::{Operation, leave, tell_end};
use super::turns::Turn;
use crate::driver::Orphan;
use crate::ring::Completion;

/// The operation, with its turn.
pub(super) struct Orphaned<O: Operation> {
    pub(super) operation: MaybeUninit<O>,
    pub(super) turn: Option<Turn>,
}

impl<O: Operation> Orphan for Orphaned<O> {
    fn finish(self: Box<Self>, completion: Completion) {
        // SAFETY: `Op::drop` put it in initialised, and the driver calls this once, after the last
        // completion.
        let operation = unsafe { self.operation.assume_init() };
        if let Some(turn) = &self.turn {
            tell_end(turn, &operation, completion);
        }
        leave(operation, completion);
    }

    fn let_go(&mut self, completion: Completion) -> Option<Box<dyn Any>> {
        // SAFETY: it is initialised. The kernel works on what it points to and not on the
        // operation's own bytes, and only its handle and its counts are looked at.
        let operation = unsafe { self.operation.assume_init_mut() };
        let turn = self.turn.take();
        if let Some(turn) = &turn {
            tell_end(turn, operation, completion);
        }
        let handle =
            O::HABITS.notification.and_then(|notification| (notification.release)(operation));
        Some(Box::new((turn, handle)))
    }
}
