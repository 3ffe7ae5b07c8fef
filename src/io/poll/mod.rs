//! Streams of this crate for code that polls: the core under the adapters to the traits of other
//! crates.
//!
//! Those traits lend memory for one poll only, and an operation needs it for longer. So the core
//! reads into buffers of the runtime and lends them, and it copies what is written. `reader.rs` is
//! one direction, `writer.rs` the other, `stream.rs` both. `for_libraries.rs` translates.

mod drain;
mod for_libraries;
mod outgoing;
mod reader;
mod source;
mod spare;
mod stream;
mod writer;

pub(crate) use for_libraries::{lends_for_libraries, reads_for_libraries, writes_for_libraries};
pub use reader::PollReader;
pub use source::{PollRead, PollWrite};
pub(crate) use source::{end_of_socket, into_poll, reads_by_polls, writes_by_polls};
pub use stream::PollStream;
pub use writer::PollWriter;
