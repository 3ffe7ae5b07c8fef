//! Waiting until a child has ended. waitid(2), pidfd_open(2).
//!
//! Its status stays where it is (`WNOWAIT`). An operation that took it could be dropped with it,
//! and nobody would ever learn how the child ended.
//!
//! # Safety
//! The entry names no memory: the kernel is asked for no information.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, squeue};

use super::poll::{Interest, Poll};
use crate::blocking::spawn_blocking;
use crate::inflight::{Op, Operation, Resource, Step};
use crate::ring::Completion;
use crate::sys;

/// Waits until a child has ended, whose id is not used again while nobody has taken its status. If
/// it is dropped, nothing has happened.
///
/// Without the operation it polls a descriptor of the process, and without such a descriptor a
/// thread waits.
pub(crate) async fn child_has_ended(id: u32) -> io::Result<()> {
    match WaitId::op(id).await {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        waited => return waited,
    }
    match sys::open_process(id) {
        Ok(process) => {
            let process = Resource::of_file(process);
            Poll::op(&process, Interest::READABLE).await.map(drop)
        }
        // None is left, or a filter refuses the call.
        Err(_) => spawn_blocking(move || sys::wait_for_child(id)).await?,
    }
}

/// Waits until a child has ended.
struct WaitId {
    id: u32,
}

impl WaitId {
    fn op(id: u32) -> Op<'static, WaitId> {
        Op::new(WaitId { id })
    }
}

// SAFETY: the entry names no memory and no descriptor.
unsafe impl Operation for WaitId {
    type Output = io::Result<()>;

    fn entry(&mut self) -> squeue::Entry {
        opcode::WaitId::new(libc::P_PID, self.id, libc::WEXITED | libc::WNOWAIT).build()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(completion.result().map(drop))
    }
}
