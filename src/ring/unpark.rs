//! The end of a ring's wait by another thread: one message that becomes a completion.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::{opcode, types};

use crate::sys;

/// How often a kick that was refused for want of memory is tried again. The wake itself waits in
/// the inbox, for the next kick or any other completion.
const UNPARK_ATTEMPTS: u32 = 1000;

/// Ends a wait of the ring that it came from. Its owner must drop it before that ring closes: the
/// number in it is the ring's own.
#[derive(Debug)]
pub(crate) enum Unparker {
    /// The synchronous `MSG_RING` register call (Linux 6.13): needs no ring and no descriptor on
    /// this side.
    Message { ring: RawFd, token: u64 },
    /// An eventfd that the ring polls.
    Event(Arc<File>),
}

impl Unparker {
    /// `false`: it was refused to the end, and the ring waits on.
    pub(crate) fn unpark(&self) -> bool {
        for _ in 0..UNPARK_ATTEMPTS {
            let sent = match self {
                Unparker::Message { ring, token } => send_message(*ring, *token),
                Unparker::Event(event) => add_one(event),
            };
            match sent {
                Ok(()) => return true,
                Err(_) => std::thread::yield_now(),
            }
        }
        false
    }
}

/// Posts `token` to `ring`; also how set-up finds out whether the kernel has the call.
pub(crate) fn send_message(ring: RawFd, token: u64) -> io::Result<()> {
    sys::send_msg_ring(&mut opcode::MsgRingData::new(types::Fd(ring), 0, token, None).build())
}

fn add_one(mut event: &File) -> io::Result<()> {
    match event.write_all(&1u64.to_ne_bytes()) {
        // The counter is at its maximum: the poll is long since due.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}
