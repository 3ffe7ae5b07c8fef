//! The kinds of requests: what the machine is called for, and what a ring does by itself.
//!
//! Every question that the engine asks of a request is handed on to the request's family. No arm
//! stands for "all others", so the compiler asks each family about a new operation.

use std::os::fd::RawFd;

use super::cancel::{self, CancelRequest};
use super::common::Modifiers;
use super::file::{self, FileCall};
use super::message::{self, Message};
use super::path::{self, PathCall};
use super::poll::{self, Poll};
use super::raw::RawEntry;
use super::socket::{self, SocketCall};
use super::time::{self, TimeRequest};
use super::transfer::{self, TransferCall};
use crate::ring::catalogue::Opcode;
use crate::ring::memory::Address;

/// What an entry asks for. The variants of the families bear the names of the kernel's operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// A system call, sooner or later.
    Call(Call),
    Time(TimeRequest),
    Cancel(CancelRequest),
    Message(Message),
}

/// What the machine is called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Transfer(TransferCall),
    Socket(SocketCall),
    Poll(Poll),
    File(FileCall),
    Path(PathCall),
}

#[inline(always)]
pub(super) fn decode(opcode: Opcode, raw: &RawEntry) -> Result<(Request, Modifiers), i32> {
    let call = |call| (Request::Call(call), Modifiers::default());
    match opcode {
        Opcode::Transfer(code) => transfer::decode(code, raw)
            .map(|(transfer, modifiers)| (Request::Call(Call::Transfer(transfer)), modifiers)),
        Opcode::Socket(code) => socket::decode(code, raw)
            .map(|(socket, modifiers)| (Request::Call(Call::Socket(socket)), modifiers)),
        Opcode::Poll(code) => poll::decode(code, raw)
            .map(|(poll, modifiers)| (Request::Call(Call::Poll(poll)), modifiers)),
        Opcode::File(code) => file::decode(code, raw).map(|file| call(Call::File(file))),
        Opcode::Path(code) => path::decode(code, raw).map(|path| call(Call::Path(path))),
        Opcode::Time(code) => {
            time::decode(code, raw).map(|(time, modifiers)| (Request::Time(time), modifiers))
        }
        Opcode::Cancel(code) => {
            cancel::decode(code, raw).map(|cancel| (Request::Cancel(cancel), Modifiers::default()))
        }
        Opcode::Message(code) => message::decode(code, raw)
            .map(|message| (Request::Message(message), Modifiers::default())),
        Opcode::KernelOnly(_) => Err(libc::EINVAL),
    }
}

impl Request {
    pub(crate) fn call(&self) -> Option<&Call> {
        match self {
            Request::Call(call) => Some(call),
            Request::Time(_) | Request::Cancel(_) | Request::Message(_) => None,
        }
    }

    pub(crate) fn call_mut(&mut self) -> Option<&mut Call> {
        match self {
            Request::Call(call) => Some(call),
            Request::Time(_) | Request::Cancel(_) | Request::Message(_) => None,
        }
    }

    /// The descriptor that it works on, where it is one that may have to be waited for.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.call().and_then(Call::fd)
    }

    /// The bytes that it still asks for, where it is a transfer of one piece.
    pub(crate) fn length(&self) -> u32 {
        self.call().and_then(Call::piece).unwrap_or(0)
    }

    pub(crate) fn is_link_timeout(&self) -> bool {
        matches!(self, Request::Time(TimeRequest::LinkTimeout { .. }))
    }

    /// Does a chain break at this result? `whole`: the bytes that it asked for at first.
    pub(crate) fn breaks_chain(&self, result: i32, whole: i64, modifiers: &Modifiers) -> bool {
        match self {
            Request::Call(Call::Transfer(transfer)) => {
                transfer.breaks_chain(result, whole, modifiers)
            }
            Request::Call(Call::Socket(socket)) => socket.breaks_chain(result, whole),
            Request::Call(Call::File(file)) => file.breaks_chain(result),
            Request::Call(Call::Path(path)) => path.breaks_chain(result),
            Request::Time(time) => time.breaks_chain(result),
            Request::Call(Call::Poll(_)) | Request::Cancel(_) | Request::Message(_) => result < 0,
        }
    }
}

impl Call {
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match self {
            Call::Transfer(transfer) => Some(transfer.transfer().fd),
            Call::Socket(socket) => Some(socket.fd()),
            Call::Poll(poll) => Some(poll.fd),
            Call::File(file) => file.fd(),
            Call::Path(_) => None,
        }
    }

    /// The descriptor that it closes.
    pub(crate) fn closes(&self) -> Option<RawFd> {
        match self {
            Call::File(file) => file.closes(),
            Call::Transfer(_) | Call::Socket(_) | Call::Poll(_) | Call::Path(_) => None,
        }
    }

    /// Is a success a descriptor that was not there before?
    pub(crate) fn makes_descriptor(&self) -> bool {
        match self {
            Call::Socket(socket) => socket.makes_descriptor(),
            Call::Path(path) => path.makes_descriptor(),
            Call::Transfer(_) | Call::Poll(_) | Call::File(_) => false,
        }
    }

    /// Is it a send, which waits for room and not for input?
    pub(crate) fn is_output(&self) -> bool {
        match self {
            Call::Socket(socket) => socket.is_output(),
            Call::Transfer(_) | Call::Poll(_) | Call::File(_) | Call::Path(_) => false,
        }
    }

    /// The bytes that are left to move, where it is a transfer of one piece.
    pub(crate) fn piece(&self) -> Option<u32> {
        match self {
            Call::Transfer(transfer) => transfer.piece(),
            Call::Socket(socket) => socket.piece(),
            Call::Poll(_) | Call::File(_) | Call::Path(_) => None,
        }
    }

    /// The first `count` bytes of a transfer are through.
    pub(crate) fn skip(&mut self, count: u32) {
        match self {
            Call::Transfer(transfer) => transfer.skip(count),
            Call::Socket(socket) => socket.skip(count),
            Call::Poll(_) | Call::File(_) | Call::Path(_) => {}
        }
    }

    /// Gives a read or a receive its memory.
    pub(crate) fn set_buffer(&mut self, lent: Address, room: u32, is_multishot: bool) {
        match self {
            Call::Transfer(transfer) => transfer.set_buffer(lent, room),
            Call::Socket(socket) => socket.set_buffer(lent, room, is_multishot),
            Call::Poll(_) | Call::File(_) | Call::Path(_) => {}
        }
    }

    /// Did a shot bring what makes another worth while?
    pub(crate) fn brought_something(&self, result: i32) -> bool {
        match self {
            Call::Socket(socket) => socket.brought_something(result),
            Call::Transfer(_) | Call::Poll(_) | Call::File(_) | Call::Path(_) => result > 0,
        }
    }
}
