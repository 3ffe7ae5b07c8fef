//! Child processes.
//!
//! Each test runs on a thread with a descriptor table of its own and fails if it leaves a
//! descriptor behind; see `common`.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod builder;
mod errors;
mod orphans;
mod pipes;
mod waits;

use annulus::process::Command;

/// A shell that runs this.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Is there a process with this id, if only one that has ended and waits to be asked for its
/// status?
fn exists(id: u32) -> bool {
    // SAFETY: the call sends nothing, and takes no memory.
    unsafe { libc::kill(id as i32, 0) == 0 }
}
