//! Calls on sockets: receives and sends, connections, and the end of a direction.

use std::os::fd::RawFd;

use super::common::{Modifiers, never_began};
use super::raw::RawEntry;
use crate::ring::catalogue::SocketCode;
use crate::ring::memory::{self, Address};

const POLL_FIRST: u16 = 1 << 0;
const MULTISHOT: u16 = 1 << 1;
const FIXED_BUFFER: u16 = 1 << 2;
const REPORT_USAGE: u16 = 1 << 3;
const ACCEPT_MULTISHOT: u16 = 1 << 0;
const ACCEPT_DONT_WAIT: u16 = 1 << 1;
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

/// Memory for or from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketTransfer {
    pub(crate) fd: RawFd,
    pub(crate) address: Address,
    pub(crate) length: u32,
    /// `MSG_*`
    pub(crate) flags: u32,
    /// Where to send it, for sockets that are not connected.
    pub(crate) peer: Address,
    pub(crate) peer_length: u16,
}

/// A provided buffer for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageBuffer {
    pub(crate) address: Address,
    pub(crate) room: u32,
    /// Bytes in front of the payload, for its lengths, the name and the control data. Only
    /// multishot receives have them in the buffer.
    pub(crate) head: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketCall {
    Recv(SocketTransfer),
    Send(SocketTransfer),
    /// `buffer`: the provided one.
    RecvMsg {
        fd: RawFd,
        message: Address,
        flags: u32,
        buffer: Option<MessageBuffer>,
    },
    SendMsg {
        fd: RawFd,
        message: Address,
        flags: u32,
    },
    Accept {
        fd: RawFd,
        address: Address,
        length: Address,
        flags: u32,
    },
    /// `begun`: what is left is to learn how it ended.
    Connect {
        fd: RawFd,
        address: Address,
        length: u32,
        begun: bool,
    },
    Shutdown {
        fd: RawFd,
        how: u32,
    },
}

#[inline(always)]
pub(super) fn decode(code: SocketCode, raw: &RawEntry) -> Result<(SocketCall, Modifiers), i32> {
    let (fd, address, flags) = (raw.fd, raw.first_address(), raw.operation_flags);
    let transfer = SocketTransfer {
        fd,
        address,
        length: raw.length,
        flags,
        peer: Address::NONE,
        peer_length: 0,
    };
    let to_peer = SocketTransfer {
        peer: raw.second_address(),
        peer_length: raw.file_index as u16,
        ..transfer
    };
    Ok(match code {
        SocketCode::Recv => (SocketCall::Recv(transfer), of_receive(raw)?),
        SocketCode::RecvMsg => {
            (SocketCall::RecvMsg { fd, message: address, flags, buffer: None }, of_receive(raw)?)
        }
        SocketCode::Send => (SocketCall::Send(to_peer), of_send(raw)?),
        SocketCode::SendMsg => (SocketCall::SendMsg { fd, message: address, flags }, of_send(raw)?),
        SocketCode::SendZc => (SocketCall::Send(to_peer), of_zero_copy(raw)?),
        SocketCode::SendMsgZc => {
            (SocketCall::SendMsg { fd, message: address, flags }, of_zero_copy(raw)?)
        }
        SocketCode::Accept => accept(raw)?,
        SocketCode::Connect if address.is_null() => return Err(libc::EFAULT),
        SocketCode::Connect => (
            SocketCall::Connect { fd, address, length: raw.offset as u32, begun: false },
            Modifiers::default(),
        ),
        SocketCode::Shutdown => {
            (SocketCall::Shutdown { fd, how: raw.length }, Modifiers::default())
        }
    })
}

#[inline]
fn of_receive(raw: &RawEntry) -> Result<Modifiers, i32> {
    raw.allow_modifiers(POLL_FIRST | MULTISHOT)?;
    let (group, multishot) = (raw.selected_group(), raw.ioprio & MULTISHOT != 0);
    // Each shot needs memory of its own, and all of it at once would never end.
    let waits_for_all = raw.operation_flags & libc::MSG_WAITALL as u32 != 0;
    if multishot && (group.is_none() || waits_for_all) {
        return Err(libc::EINVAL);
    }
    Ok(Modifiers {
        group,
        multishot,
        poll_first: raw.ioprio & POLL_FIRST != 0,
        ..Modifiers::default()
    })
}

fn of_send(raw: &RawEntry) -> Result<Modifiers, i32> {
    raw.allow_modifiers(POLL_FIRST)?;
    Ok(Modifiers { poll_first: raw.ioprio & POLL_FIRST != 0, ..Modifiers::default() })
}

fn of_zero_copy(raw: &RawEntry) -> Result<Modifiers, i32> {
    raw.allow_modifiers(POLL_FIRST | FIXED_BUFFER | REPORT_USAGE)?;
    if raw.flags().is_quiet() {
        return Err(libc::EINVAL);
    }
    Ok(Modifiers {
        poll_first: raw.ioprio & POLL_FIRST != 0,
        notifies: true,
        reports_usage: raw.ioprio & REPORT_USAGE != 0,
        ..Modifiers::default()
    })
}

fn accept(raw: &RawEntry) -> Result<(SocketCall, Modifiers), i32> {
    let known = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
    // A descriptor of the ring's own table is nothing that this side has.
    if raw.operation_flags & !known != 0 || raw.file_index != 0 {
        return Err(libc::EINVAL);
    }
    raw.allow_modifiers(ACCEPT_MULTISHOT | ACCEPT_DONT_WAIT | ACCEPT_POLL_FIRST)?;
    let modifiers = Modifiers {
        poll_first: raw.ioprio & ACCEPT_POLL_FIRST != 0,
        multishot: raw.ioprio & ACCEPT_MULTISHOT != 0,
        ..Modifiers::default()
    };
    let (address, length) = (raw.first_address(), raw.second_address());
    Ok((SocketCall::Accept { fd: raw.fd, address, length, flags: raw.operation_flags }, modifiers))
}

impl SocketCall {
    pub(crate) fn fd(&self) -> RawFd {
        match *self {
            SocketCall::Recv(SocketTransfer { fd, .. })
            | SocketCall::Send(SocketTransfer { fd, .. })
            | SocketCall::RecvMsg { fd, .. }
            | SocketCall::SendMsg { fd, .. }
            | SocketCall::Accept { fd, .. }
            | SocketCall::Connect { fd, .. }
            | SocketCall::Shutdown { fd, .. } => fd,
        }
    }

    /// Does it wait for room for output?
    pub(super) fn is_output(&self) -> bool {
        match self {
            SocketCall::Send(_) | SocketCall::SendMsg { .. } => true,
            SocketCall::Recv(_)
            | SocketCall::RecvMsg { .. }
            | SocketCall::Accept { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => false,
        }
    }

    /// Is a success a descriptor that was not there before?
    pub(super) fn makes_descriptor(&self) -> bool {
        match self {
            SocketCall::Accept { .. } => true,
            SocketCall::Recv(_)
            | SocketCall::Send(_)
            | SocketCall::RecvMsg { .. }
            | SocketCall::SendMsg { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => false,
        }
    }

    /// What is left to move, where it is one piece of memory.
    fn piece_mut(&mut self) -> Option<&mut SocketTransfer> {
        match self {
            SocketCall::Recv(transfer) | SocketCall::Send(transfer) => Some(transfer),
            SocketCall::RecvMsg { .. }
            | SocketCall::SendMsg { .. }
            | SocketCall::Accept { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => None,
        }
    }

    /// The bytes that are left to move, where it is one piece of memory.
    pub(crate) fn piece(&self) -> Option<u32> {
        match self {
            SocketCall::Recv(transfer) | SocketCall::Send(transfer) => Some(transfer.length),
            SocketCall::RecvMsg { .. }
            | SocketCall::SendMsg { .. }
            | SocketCall::Accept { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => None,
        }
    }

    /// The first `count` bytes are through.
    pub(super) fn skip(&mut self, count: u32) {
        if let Some(transfer) = self.piece_mut() {
            transfer.address = transfer.address.after(count);
            transfer.length -= count;
        }
    }

    /// Gives a receive its memory.
    pub(super) fn set_buffer(&mut self, lent: Address, room: u32, is_multishot: bool) {
        match self {
            SocketCall::Recv(transfer) => (transfer.address, transfer.length) = (lent, room),
            SocketCall::RecvMsg { message, buffer, .. } => {
                let head = is_multishot.then(|| memory::length_of_head(*message));
                *buffer = Some(MessageBuffer { address: lent, room, head });
            }
            SocketCall::Send(_)
            | SocketCall::SendMsg { .. }
            | SocketCall::Accept { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => {}
        }
    }

    /// Is the buffer that it was given too small for the head of a message?
    pub(crate) fn has_no_room(&self) -> bool {
        let small = |buffer: &MessageBuffer| buffer.head.is_some_and(|head| buffer.room < head);
        matches!(self, SocketCall::RecvMsg { buffer: Some(buffer), .. } if small(buffer))
    }

    /// Did a shot bring what makes another worth while?
    pub(super) fn brought_something(&self, result: i32) -> bool {
        match self {
            SocketCall::Accept { .. } => result >= 0,
            // Nothing behind the head is the end of a stream.
            SocketCall::RecvMsg { buffer: Some(buffer), .. } => {
                i64::from(result) > i64::from(buffer.head.unwrap_or(0))
            }
            SocketCall::RecvMsg { buffer: None, .. }
            | SocketCall::Recv(_)
            | SocketCall::Send(_)
            | SocketCall::SendMsg { .. }
            | SocketCall::Connect { .. }
            | SocketCall::Shutdown { .. } => result > 0,
        }
    }

    /// `whole`: the bytes that it asked for at first, where it is one piece.
    pub(super) fn breaks_chain(&self, result: i32, whole: i64) -> bool {
        let waits_for_all = |flags: u32| flags & libc::MSG_WAITALL as u32 != 0;
        match self {
            SocketCall::Recv(transfer) | SocketCall::Send(transfer)
                if waits_for_all(transfer.flags) =>
            {
                i64::from(result) < whole
            }
            SocketCall::Shutdown { .. } => never_began(result),
            SocketCall::Recv(_)
            | SocketCall::Send(_)
            | SocketCall::RecvMsg { .. }
            | SocketCall::SendMsg { .. }
            | SocketCall::Accept { .. }
            | SocketCall::Connect { .. } => result < 0,
        }
    }
}
