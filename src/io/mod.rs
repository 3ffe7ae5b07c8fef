//! What works on any descriptor: waiting until one is ready.

mod poll_fd;

pub use crate::op::poll::{Interest, Ready};
pub use poll_fd::PollFd;
