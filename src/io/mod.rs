//! Traits for code over any stream, what is built on them, and waiting until a descriptor is
//! ready.
//!
//! [`AsyncRead`] and [`AsyncWrite`] are implemented by every stream, half, pipe and file of this
//! crate, by references to them, and by bytes in memory. Code that is written for them takes any of
//! these. Buffers go to an operation by value and come back, as everywhere here; see
//! [`buf`](crate::buf).
//!
//! The names are those of tokio and of the crate futures-io, and the traits are others: they own
//! their buffers, so a type of those crates does not implement them. The other way there are
//! adapters: `into_poll` makes a [`PollStream`] of a stream, which has the traits of those crates.
//!
//! | What for | Items |
//! |---|---|
//! | lines, and small writes | [`BufReader`], [`BufWriter`] |
//! | frames | [`FramedRead`], [`FramedWrite`] with [`LengthDelimited`], [`LinesCodec`], or a codec of your own |
//! | copies, proxies | [`copy`], [`copy_bidirectional`] |
//! | pipes | [`pipe()`], [`PipeReader::open`], [`PipeWriter::open`], [`mkfifo`] |
//! | standard streams | [`stdin`], [`stdout`], [`stderr`] |
//! | libraries that are written against the traits of futures-io, tokio or hyper | [`PollStream`], [`PollReader`], [`PollWriter`], from `into_poll` |
//! | other descriptors | [`PollFd`], [`EventFd`] |
//!
//! ```
//! use std::io;
//! use annulus::io::{AsyncRead, AsyncWrite};
//!
//! /// Sends back the first four bytes, from and to anything.
//! async fn echo_four(mut stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
//!     let four = stream.read_exact(vec![0; 4]).await?;
//!     stream.write_all(four).await?;
//!     stream.shutdown().await
//! }
//! ```
//!
//! # What copy does not do
//! [`copy`] of a file to a socket reads and writes. sendfile(2) and splice(2), on a thread, were
//! measured beside it and left out: 512 MiB of a cached file to TCP on the loopback device, another
//! process reads, two cores, medians of three rounds.
//!
//! | Way | GiB/s | CPU, s/GiB |
//! |---|---|---|
//! | [`copy`], 256 KiB at a time | 1.85 | 0.48 |
//! | the same with 64 KiB | 1.25 | 0.78 |
//! | the same with 1 MiB | 1.82 | 0.54 |
//! | sendfile, 1 MiB at a time | 2.04 | 0.43 |
//! | splice through a pipe of 1 MiB | 1.86 | 0.35 |
//!
//! The throughput is the same within the spread of the rounds (±10 %). The processor time that they
//! save has a price: a thread for each copy, as long as the peer takes, and no cancel reaches it.
//! `cargo bench --bench micro -- file_to_socket` measures copy and sendfile.

#[cfg(any(feature = "futures-io", feature = "tokio-io", feature = "hyper"))]
mod anchored;
mod buf_reader;
mod buf_writer;
mod by_reference;
mod chain;
mod codec;
mod copy;
mod event_fd;
mod framed;
mod length_delimited;
mod line_codec;
mod lines;
mod memory;
mod own_methods;
mod pipe;
mod pipe_methods;
mod poll;
mod poll_fd;
mod read;
mod stdio;
mod take;
mod unread;
mod write;

pub use crate::op::Changes;
pub use crate::op::poll::{Interest, Ready};
pub use buf_reader::BufReader;
pub use buf_writer::BufWriter;
pub use chain::Chain;
pub use codec::{Decoder, Encoder, FrameBytes};
pub use copy::{Copied, CopiedBy, copy, copy_bidirectional};
pub use event_fd::EventFd;
pub use framed::{FramedRead, FramedWrite};
pub use length_delimited::LengthDelimited;
pub use line_codec::LinesCodec;
pub use lines::{Lines, Split};
pub use memory::{Empty, Repeat, Sink, empty, repeat, sink};
pub(crate) use own_methods::{reads_by_own_methods, writes_by_own_methods};
pub use pipe::{PipeReader, PipeWriter, mkfifo, pipe};
pub use poll::{PollRead, PollReader, PollStream, PollWrite, PollWriter};
pub(crate) use poll::{
    end_of_socket, into_poll, lends_for_libraries, reads_by_polls, reads_for_libraries,
    writes_by_polls, writes_for_libraries,
};
pub use poll_fd::PollFd;
pub use read::AsyncRead;
pub use stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
pub use take::Take;
pub use write::AsyncWrite;
