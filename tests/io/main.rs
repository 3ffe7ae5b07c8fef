//! Code over any stream: the traits, and what is built on them. Readiness of any descriptor.
//!
//! Each test runs on a thread with a descriptor table of its own and fails if it leaves a
//! descriptor behind; see `common`.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod buf_reader;
mod buf_writer;
mod changes;
mod copy;
mod event_fd;
mod framing;
mod pipes;
mod poll;
mod poll_fd;
mod stdio;
mod tools;
mod traits;
