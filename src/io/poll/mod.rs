//! Streams of this crate for code that polls: the core under the adapters to the traits of other
//! crates.
//!
//! Those traits lend memory for one poll only, and an operation needs it for longer. So the core
//! reads into buffers of the runtime and lends them, and it copies what is written. `reader.rs` is
//! one direction, `writer.rs` the other, `stream.rs` both. The adapters only translate.

#[cfg(feature = "futures-io")]
mod for_futures_io;
#[cfg(feature = "hyper")]
mod for_hyper;
#[cfg(feature = "tokio-io")]
mod for_tokio;
mod reader;
mod source;
mod stream;
mod writer;

pub use reader::PollReader;
pub use source::{PollRead, PollWrite};
pub(crate) use source::{polls, polls_reads, polls_writes};
pub use stream::PollStream;
pub use writer::PollWriter;
