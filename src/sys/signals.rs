//! Signals of the process, counted in an eventfd by a handler. signal(7), sigaction(2).
//!
//! # Safety
//! The handler runs in the middle of anything. It makes two system calls, which may be made there
//! (signal-safety(7)), and looks at memory that only the registration owns. The
//! `signal-hook-registry` crate keeps `errno`, and drops the handler only when no thread runs it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use signal_hook_registry::SigId;

use super::descriptor::Descriptor;

/// A handler that adds one to an eventfd for each signal, until this is dropped. Others of the
/// process may have theirs for the same signal, and all are called.
#[derive(Debug)]
pub(crate) struct SignalCounter(SigId);

impl SignalCounter {
    /// The first handler of a signal takes the place of its default action, or calls whatever
    /// handler there was before.
    pub(crate) fn new(signal: i32, event: Descriptor) -> io::Result<SignalCounter> {
        if signal_hook_registry::FORBIDDEN.contains(&signal) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "signal {signal} cannot be listened for: the kernel lets nobody handle SIGKILL \
                     and SIGSTOP, and no program goes on after SIGILL, SIGFPE or SIGSEGV"
                ),
            ));
        }
        let owner = std::process::id();
        let count = move || {
            let one = 1u64;
            // A child between fork and exec has the handler, too, and the same eventfd. The counter
            // never comes to its maximum, at which the write would wait.
            // SAFETY: both calls may be made in a handler. The number is that of the descriptor
            // that this closure owns, and `one` lies on the handler's stack.
            unsafe {
                if libc::getpid() as u32 == owner {
                    libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
                }
            }
        };
        // SAFETY: the closure does what a handler may do: it takes no lock, allocates nothing and
        // does not panic.
        let id = unsafe { signal_hook_registry::register(signal, count) };
        id.map(SignalCounter).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("there is no signal {signal} that a program may handle"),
            ),
            _ => error,
        })
    }
}

impl Drop for SignalCounter {
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.0);
    }
}
