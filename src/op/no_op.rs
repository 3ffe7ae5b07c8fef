//! The operation that does nothing: what the loop itself costs. `IORING_OP_NOP`, io_uring_enter(2).
//!
//! # Safety
//! The only unsafe item is the promise of an operation that names no memory and no descriptor.

use std::io;

use io_uring::{opcode, squeue};

use crate::inflight::{Link, Op, Operation, Step};
use crate::ring::Completion;

/// Does nothing, by way of the ring.
pub struct NoOp;

/// One empty round through the ring, for measuring what the loop costs: it is queued, submitted
/// with its tick's batch, completed by the kernel, and wakes its task, as any operation.
///
/// Dropping it cancels it, which makes no difference to anybody.
///
/// ```
/// # annulus::block_on(async {
/// let before = annulus::metrics();
/// futures_util::future::join_all((0..64).map(|_| annulus::no_op())).await;
/// let after = annulus::metrics();
/// assert_eq!(after.operations - before.operations, 64);
/// assert!(after.enters - before.enters <= 1);
/// # });
/// ```
///
/// # Errors
/// None that this kernel knows of; the result is the kernel's own.
#[inline]
pub fn no_op() -> Op<'static, NoOp> {
    Op::new(NoOp)
}

// SAFETY: the entry names no memory and no descriptor.
#[allow(unsafe_code)]
unsafe impl Operation for NoOp {
    type Output = io::Result<()>;

    fn entry(&mut self) -> squeue::Entry {
        opcode::Nop::new().build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}

impl Link for NoOp {
    fn may_be_followed(&self) -> bool {
        true
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}
