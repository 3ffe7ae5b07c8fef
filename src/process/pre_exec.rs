//! What a child does before it becomes another program. exec(3).
//!
//! # Safety
//! The caller promises that the closure may run between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;

use super::Command;

impl Command {
    /// Runs a closure in the child, after the fork and before its program begins. std's
    /// [`pre_exec`](CommandExt::pre_exec).
    ///
    /// Its error becomes that of [`spawn`](Command::spawn). Several run in the order in which they
    /// were added. The child starts by `fork` then, which takes longer in a large process.
    ///
    /// # Safety
    /// The child is a copy of the process with one thread. The closure may call only what may be
    /// called in a signal handler (signal-safety(7)): no allocation, no lock, no environment.
    /// Nothing of this crate may be used in it: the memory of rings is not there.
    pub unsafe fn pre_exec<F>(&mut self, function: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller's promise.
        unsafe { self.as_std_mut().pre_exec(function) };
        self
    }
}
