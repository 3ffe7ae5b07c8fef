//! The engine of the software ring: links, linked timeouts, multishot requests, provided buffers,
//! cancels, messages and the completion queue's overflow, each in a file.

mod cancel;
mod chains;
mod completions;
mod execute;
mod groups;
mod leeway;
mod mailbox;
mod messages;
mod running;
mod table;
mod timers;

pub(crate) use execute::Engine;
