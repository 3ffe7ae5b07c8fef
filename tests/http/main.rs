//! HTTP: the server and the client.
//!
//! Each test runs on a thread with a descriptor table of its own and fails if it leaves a
//! descriptor behind; see `common`.
#![cfg(feature = "http")]
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod server;
