//! Requests: what the entries of a program ask for, for a ring that executes them itself.
//!
//! Each family of operations has a file, with the fields, the decoding and the rule for chains.

mod cancel;
mod common;
mod entry;
mod file;
mod kinds;
mod message;
mod path;
mod poll;
mod raw;
mod socket;
mod time;
mod transfer;
mod vetted;

pub(crate) use cancel::{CancelRequest, Target};
pub(crate) use common::{Modifiers, Waits};
pub(crate) use entry::{Decoded, Refused, Submission, decode, in_whole, is_linked, untied};
pub(super) use entry::{file_of_transfer, file_that_closes, in_parts};
pub(crate) use file::FileCall;
pub(crate) use kinds::{Call, Request};
pub(crate) use message::Message;
pub(crate) use path::PathCall;
pub(crate) use poll::Poll;
pub(crate) use raw::EntryFlags;
pub(crate) use socket::{MessageBuffer, SocketCall, SocketTransfer};
pub(super) use time::{TIMEOUT_ABSOLUTE, TIMEOUT_BOOTTIME, TIMEOUT_REALTIME};
pub(crate) use time::{TimeRequest, Timespec};
pub(crate) use transfer::{Transfer, TransferCall};
pub(crate) use vetted::{Memory, vet};

#[cfg(test)]
mod tests;
