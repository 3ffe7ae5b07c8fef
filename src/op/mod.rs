//! The operations, one family a file.
//!
//! What they share is in `inflight/`.
// Users see operations only inside `Op`, `Cancel` and `Deadline`, which have their own.
#![allow(missing_debug_implementations)]

pub(crate) mod accept;
mod alignment;
mod batch;
pub(crate) mod cached;
mod changes;
pub(crate) mod chunks;
pub mod custom;
pub(crate) mod datagram;
mod datagrams;
pub(crate) mod event;
pub(crate) mod extent;
pub(crate) mod file;
pub(crate) mod futex;
mod incoming;
pub(crate) mod message;
mod no_op;
pub(crate) mod open;
pub(crate) mod path;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod read_to_end;
pub(crate) mod socket;
pub(crate) mod unix_message;
pub(crate) mod vectored;
pub(crate) mod xattr;
pub(crate) mod zero_copy;

pub use batch::SendBatch;
pub use changes::Changes;
pub use chunks::Chunks;
pub use datagrams::{Datagram, Datagrams, Message, Messages};
pub use incoming::Incoming;
pub use message::{Ecn, MessageInfo, MessageOptions};
pub use no_op::no_op;
pub use unix_message::UnixMessage;
pub use zero_copy::Sent;
