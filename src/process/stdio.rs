//! The ends of the pipes to a child.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use crate::io::{PipeReader, PipeWriter};
use crate::sys;

/// The pipe to a child's standard input.
///
/// The child sees the end when this is dropped. When the child has closed its end, a write fails
/// with `BrokenPipe`.
pub type ChildStdin = PipeWriter;

/// The pipe from a child's standard output. It is not made non-blocking, on neither side.
pub type ChildStdout = PipeReader;

/// The pipe from a child's standard error.
pub type ChildStderr = PipeReader;

/// So that the output of one child is the input of the next. It fails with `EMFILE` if the process
/// may have no further descriptor. What a dropped read of the pipe took is not carried over.
impl TryFrom<PipeReader> for Stdio {
    type Error = io::Error;

    fn try_from(reader: PipeReader) -> io::Result<Stdio> {
        sys::duplicate(reader.as_fd()).map(Stdio::from)
    }
}

/// So that a child writes into a pipe that somebody reads.
impl TryFrom<PipeWriter> for Stdio {
    type Error = io::Error;

    fn try_from(writer: PipeWriter) -> io::Result<Stdio> {
        sys::duplicate(writer.as_fd()).map(Stdio::from)
    }
}

/// An end that std has made.
pub(super) fn reader(end: impl Into<OwnedFd>) -> PipeReader {
    end.into().into()
}

pub(super) fn writer(end: impl Into<OwnedFd>) -> PipeWriter {
    end.into().into()
}
