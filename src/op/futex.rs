//! Waiting for a number in memory to be another. futex(2), io_uring_enter(2).
//!
//! # Safety
//! The number lies where its owner promises to keep it, and the operation has the owner until its
//! last completion. The kernel only reads it, as an atomic.
#![allow(unsafe_code)]

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use io_uring::{opcode, squeue};

use crate::inflight::{Op, Operation, Step, Turns};
use crate::ring::Completion;
use crate::sys;

/// `FUTEX2_SIZE_U32` and `FUTEX2_PRIVATE`, futex2(2).
const SIZE_U32: u32 = 0x02;
const PRIVATE: u32 = libc::FUTEX_PRIVATE_FLAG as u32;
/// `FUTEX_BITSET_MATCH_ANY`: woken by whoever wakes.
const ANYBODY: u64 = 0xffff_ffff;

/// An owner of a number that can be waited for: `Arc<AtomicU32>`, `Rc<AtomicU32>`, `&'static
/// AtomicU32`, or one of your own, for memory that is shared with other processes.
///
/// # Safety
/// [`word`](FutexWord::word) gives the same reference each time, also after the owner was moved,
/// and what it refers to stays until the owner is dropped.
pub unsafe trait FutexWord: 'static {
    /// The number.
    fn word(&self) -> &AtomicU32;
}

// SAFETY: what an `Arc` refers to lies on the heap as long as the `Arc` does.
unsafe impl FutexWord for Arc<AtomicU32> {
    fn word(&self) -> &AtomicU32 {
        self
    }
}

// SAFETY: likewise.
unsafe impl FutexWord for Rc<AtomicU32> {
    fn word(&self) -> &AtomicU32 {
        self
    }
}

// SAFETY: it stays for ever.
unsafe impl FutexWord for &'static AtomicU32 {
    fn word(&self) -> &AtomicU32 {
        self
    }
}

/// Waits until somebody wakes it, if the number is what is expected.
pub struct FutexWait<W> {
    owner: W,
    expected: u32,
    is_shared: bool,
}

impl<W: FutexWord> FutexWait<W> {
    pub(crate) fn op(owner: W, expected: u32, is_shared: bool) -> Op<'static, FutexWait<W>> {
        Op::new(FutexWait { owner, expected, is_shared })
    }
}

// SAFETY: the number stays where it is while the operation has its owner, which `FutexWord`
// promises. Others may change it meanwhile, since it is an atomic.
unsafe impl<W: FutexWord> Operation for FutexWait<W> {
    type Output = io::Result<bool>;

    const TURNS: Option<Turns<Self>> = Some(Turns { leave: Self::leave, ..Turns::of(|_| None) });

    fn entry(&mut self) -> squeue::Entry {
        let flags = if self.is_shared { SIZE_U32 } else { SIZE_U32 | PRIVATE };
        let word = self.owner.word().as_ptr();
        opcode::FutexWait::new(word, self.expected.into(), ANYBODY, flags).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(match completion.result() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        })
    }
}

impl<W: FutexWord> FutexWait<W> {
    /// A wake that came to a dropped wait is another's.
    fn leave(self, completion: Completion) {
        if completion.result == 0 {
            // It cannot fail for a number that is there.
            let _ = sys::wake_waiters(self.owner.word(), 1, self.is_shared);
        }
    }
}
