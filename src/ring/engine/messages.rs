//! Messages, `IORING_OP_MSG_RING`: one ring posts a completion to another, through a mailbox that
//! the whole process knows of.
//!
//! A ring of the kernel is reached through the kernel, which since Linux 6.13 asks for no ring on
//! this side. The kernel's rings cannot reach this one: to them its descriptor is that of some
//! file.

use std::os::fd::RawFd;

use io_uring::{opcode, types};

use super::execute::Engine;
use crate::ring::request::{Call, Poll};
use crate::ring::seam::Completion;
use crate::ring::world::Attempt;
use crate::sys;

impl Engine {
    /// The answer of `MSG_RING`.
    pub(super) fn send_message(
        &mut self,
        ring: RawFd,
        message: Completion,
        flags: Option<u32>,
    ) -> i32 {
        if self.mailbox.post(ring, message) {
            return 0;
        }
        if self.world.attempt(&mut Call::Poll(Poll { fd: ring, mask: 0 }))
            == Attempt::Done(-libc::EBADF)
        {
            return -libc::EBADF;
        }
        let mut entry =
            opcode::MsgRingData::new(types::Fd(ring), message.result, message.token, flags).build();
        match sys::send_msg_ring(&mut entry).map_err(|error| error.raw_os_error()) {
            Ok(()) => 0,
            Err(Some(errno @ (libc::ENOMEM | libc::EOVERFLOW))) => -errno,
            // It is no ring, or one that only a ring of the kernel reaches.
            Err(_) => -libc::EBADFD,
        }
    }

    /// Posts what others have sent.
    #[inline]
    pub(super) fn take_messages(&mut self) {
        if self.mailbox.has_messages() {
            self.post_messages();
        }
    }

    #[cold]
    fn post_messages(&mut self) {
        for message in self.mailbox.take() {
            self.completions.post(message);
        }
    }
}
