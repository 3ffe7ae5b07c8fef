//! Signals of the process: names and rules are tokio's.
//!
//! A signal is counted in an eventfd by a handler, and a read of the ring waits for that. So the
//! handler makes two system calls and nothing else, no thread's signal mask changes, and children
//! inherit nothing. Each [`unix::Signal`] has a counter of its own: several in one program, on one
//! runtime or on many, all hear of each signal.
//!
//! # What a handler changes
//! The first listener for a signal takes the place of its default action, for the rest of the
//! process's life: dropping all listeners does not bring that back. A program that has once
//! listened for `SIGINT` and listens no more ignores Ctrl-C. Handlers of others, set before or by
//! the same library (`signal-hook-registry`, which tokio and `signal-hook` also use), are called as
//! well.
//!
//! ```no_run
//! # annulus::block_on(async {
//! println!("waiting for Ctrl-C");
//! annulus::signal::ctrl_c().await?;
//! println!("bye");
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

pub mod unix;

use std::io;

use unix::{SignalKind, signal};

/// Waits for the next `SIGINT`, which Ctrl-C in a terminal sends.
///
/// It listens from its first poll on. A signal that comes between two calls is not heard: to hear
/// each, keep a [`Signal`](unix::Signal) of [`SignalKind::interrupt`]. If it is dropped it stops to
/// listen, and the default action does not come back; see the [module page](self).
///
/// # Errors
/// As [`signal`].
pub async fn ctrl_c() -> io::Result<()> {
    signal(SignalKind::interrupt())?.recv().await;
    Ok(())
}
