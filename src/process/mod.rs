//! Child processes: std's builder, with pipes and waits of the ring.
//!
//! ```
//! use annulus::process::Command;
//!
//! # annulus::block_on(async {
//! let output = Command::new("echo").arg("hello").output().await?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"hello\n");
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
//!
//! # Who does it
//! [`Command::spawn`] starts the child at once, on the loop's thread, as std does: the C library
//! makes a `vfork`, which returns when the child has begun its program. That took 0.06 ms (measured
//! on Linux 6.18), in a process of a gigabyte, too. It is not given to another thread, which costs
//! as much, and since the kernel ties some things to the thread that starts a child
//! (`PR_SET_PDEATHSIG`, and what a thread has of its own: a table of descriptors, a directory).
//!
//! With [`pre_exec`](Command::pre_exec), [`uid`](Command::uid) or [`gid`](Command::gid), or a
//! `PATH` that was set, it is a `fork`, which copies the tables of the process's memory: 0.14 ms in
//! a small process, and 30 ms with a gigabyte, for which the loop stands still. A large program
//! that needs one of these starts its children by std's [`Command`](std::process::Command) and
//! [`spawn_blocking`](crate::spawn_blocking).
//!
//! A thread with a kernel ring keeps the signal `SIGXFSZ` from itself, so that a write beyond the
//! limit on the size of files (`RLIMIT_FSIZE`) is an error and not the end of the process. Children
//! that this module starts get that signal as usual. Those that a library starts there by std's
//! `Command` inherit that it is blocked.
//!
//! [`Child::wait`] waits by the ring (WAITID, Linux 6.7; before that and on the software ring it
//! polls a pidfd). No handler for `SIGCHLD` is set, and none of the program's is in the way.
//!
//! # No zombies
//! A child that has ended stays in the process table until somebody takes its status.
//! [`wait`](Child::wait), [`try_wait`](Child::try_wait) and
//! [`wait_with_output`](Child::wait_with_output) take it. A dropped [`Child`] is waited for without
//! you: by a task of the runtime, and when that ends, or there is none, by a thread that sleeps
//! until then. So the child goes on, and nothing is left of it after its end. The program need not
//! wait for these: children that still run when it ends become those of the system's first process.
//! Only a forgotten `Child` (`mem::forget`) stays.

mod child;
mod command;
mod orphans;
mod pre_exec;
mod stdio;

pub use child::Child;
pub use command::Command;
pub use std::process::{ExitStatus, Output, Stdio};
pub use stdio::{ChildStderr, ChildStdin, ChildStdout};
