//! The three streams that a program is started with, and writes to a file at the position that it
//! shares with others. fcntl(2), write(2).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::{Descriptor, NoSignalOfLargeFiles, Status, duplicate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandardStream {
    Input,
    Output,
    Error,
}

/// A descriptor of its own for a standard stream, close-on-exec. The open file is the same, and its
/// flags are left as they are.
pub(crate) fn standard_stream(stream: StandardStream) -> io::Result<Descriptor> {
    match stream {
        StandardStream::Input => duplicate(io::stdin().as_fd()),
        StandardStream::Output => duplicate(io::stdout().as_fd()),
        StandardStream::Error => duplicate(io::stderr().as_fd()),
    }
    .map(Descriptor::from)
}

/// A file whose position others move, too: write(2) takes turns with theirs.
#[derive(Debug)]
pub(crate) struct SharedPosition(File);

impl SharedPosition {
    /// Of a regular file. `None`: it is something else.
    pub(crate) fn of(descriptor: &Descriptor) -> io::Result<Option<SharedPosition>> {
        let status = Status::of(descriptor.as_fd());
        if status.is_none_or(|status| status.file_type != libc::S_IFREG) {
            return Ok(None);
        }
        let own: OwnedFd = duplicate(descriptor.as_fd())?;
        Ok(Some(SharedPosition(own.into())))
    }

    /// Writes once, or until all is written; how much was, and what ended it. Waits for the disk.
    pub(crate) fn write(&self, bytes: &[u8], all: bool) -> (usize, io::Result<()>) {
        // A file that is too long is an error, as on the ring.
        let _signal = NoSignalOfLargeFiles::here();
        let mut written = 0;
        while written < bytes.len() {
            match (&self.0).write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return (written, Err(error)),
            }
            if !all {
                break;
            }
        }
        (written, Ok(()))
    }
}
