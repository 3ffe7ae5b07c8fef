//! The lanes of a descriptor, and what they keep: the data of `turns.rs`.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Weak;
use std::task::Waker;

use crate::buf::Chunk;
use crate::driver::Token;
use crate::exec::Budget;
use crate::runtime::Core;
use crate::sys::control::Details;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the descriptor.
    Inbound,
    /// To it.
    Outbound,
}

/// How operations of one kind share a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// One at a time.
    Alone,
    /// Any number at a time, but none while a dropped one is in flight.
    AfterDropped,
}

/// What a dropped operation left for the next one.
pub(crate) enum Left {
    /// Bytes of a stream, from `start` on.
    Bytes { bytes: Vec<u8>, start: usize },
    /// Bytes of a stream, in a buffer of the runtime.
    Chunk(Chunk),
    /// One datagram, where it came from, and what else was told of it.
    Datagram { bytes: Vec<u8>, from: SocketAddr, details: Details },
    /// Bytes of a Unix socket, with the rest that its operation knows: what came along with them.
    Message { bytes: Vec<u8>, rest: Box<dyn Any> },
    /// A connection with its address, of the type that the listener's operation knows.
    Connection(Box<dyn Any>),
    /// An error that the kernel reports only once.
    Failed(i32),
}

/// What a lane keeps once somebody has waited in it or something was left there.
#[derive(Default)]
pub(super) struct Kept {
    /// Who waits, in order. The first is woken when the lane is free, and leaves when it is polled.
    pub(super) queue: VecDeque<(u64, Waker)>,
    pub(super) last_ticket: u64,
    pub(super) left: VecDeque<Left>,
    /// A dropped operation that goes on waiting for the next one's sake.
    pub(super) parked: Option<(Weak<Core>, Token)>,
    /// How dropped operations ended: counts, or negative errnos.
    pub(super) results: VecDeque<isize>,
    /// Who waits until no dropped operation is in flight.
    pub(super) quiescing: Vec<Waker>,
    /// How much may still be claimed of what is left in one go.
    pub(super) budget: Budget,
}
