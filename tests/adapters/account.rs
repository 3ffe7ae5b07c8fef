//! What a stream has promised by its answers: each answer is entered, and one that breaks a promise
//! is refused.
//!
//! The rules are those of a kernel socket behind the three families of traits. Bytes that were
//! accepted arrive, in order, once each, and nothing else does. The end of the stream comes after
//! the last byte and stays. An error is reported once; then reads say the end, and writes
//! `BrokenPipe`. Where a kernel may answer in two ways, both are right here.

use std::io::{self, ErrorKind};
use std::task::Poll;

use super::subject::Taken;

/// Why a program ended early: the promise that was broken.
pub(crate) type Refusal = String;

/// The bytes of one direction: the byte at each place can be told from those around it.
pub(crate) fn pattern(start: u64, length: usize) -> Vec<u8> {
    (start..start + length as u64)
        .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

#[track_caller]
fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(why.into())
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Bytes that the peer has sent, and how many of them were read.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) read_ended: bool,
    read_failed: bool,
    /// The reading direction was dropped.
    pub(crate) reading_dropped: bool,

    /// Bytes that were taken for sending, and how many of them the peer has.
    pub(crate) accepted: u64,
    pub(crate) received: u64,
    pub(crate) shutdown_begun: bool,
    pub(crate) shutdown_done: bool,
    pub(crate) write_failed: bool,
    pub(crate) peer_saw_end: bool,
    /// The writing direction was dropped.
    pub(crate) writing_dropped: bool,

    /// What the peer has done.
    pub(crate) finished: bool,
    pub(crate) closed: bool,
    pub(crate) reset: bool,
    /// Bytes were on their way to the peer when it reset, so that writing may have met it first.
    pub(crate) reset_met_bytes: bool,
}

impl Account {
    /// Nothing of what is written arrives any more.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.closed || self.reset
    }

    /// The stream is in a new adapter, which asks the kernel again.
    pub(crate) fn was_taken_out(&mut self) {
        self.reset_met_bytes |= self.read_failed;
        (self.read_ended, self.read_failed) = (false, false);
    }

    /// Does a read have something to say?
    pub(crate) fn is_readable(&self) -> bool {
        self.sent > self.delivered || self.finished || self.peer_is_gone()
    }

    /// Is there nothing to come?
    pub(crate) fn read_is_over(&self) -> bool {
        self.read_ended || self.read_failed
    }

    /// Enters what a read with room for a byte or more has answered.
    pub(crate) fn read(&mut self, answer: &Poll<io::Result<&[u8]>>) -> Result<(), Refusal> {
        match answer {
            Poll::Pending if self.read_is_over() => refuse("a read waits after the end"),
            Poll::Pending => Ok(()),
            Poll::Ready(Ok([])) => self.end_of_stream(),
            Poll::Ready(Ok(bytes)) => {
                if self.read_is_over() {
                    return refuse("bytes after the end");
                }
                self.compare(bytes)?;
                self.delivered += bytes.len() as u64;
                Ok(())
            }
            Poll::Ready(Err(error)) => self.read_error(error),
        }
    }

    /// Compares bytes that stand at the front of the stream.
    pub(crate) fn compare(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let left = self.sent - self.delivered;
        if bytes.len() as u64 > left {
            return refuse(format!("{} bytes were read, and {left} are on the way", bytes.len()));
        }
        if bytes != pattern(self.delivered, bytes.len()) {
            return refuse(format!("other bytes than were sent, behind {}", self.delivered));
        }
        Ok(())
    }

    fn end_of_stream(&mut self) -> Result<(), Refusal> {
        let all_read = self.delivered == self.sent;
        let is_end = (self.finished || self.closed) && all_read;
        // The kernel reports an error of the socket once, to whichever direction asks first.
        let was_told = self.reset && (self.write_failed || self.reset_met_bytes);
        // A close with bytes that it has not read, or that come later, is a reset.
        let may_be_reset = self.closed && self.accepted > self.received;
        if !(self.read_is_over() || is_end || was_told || may_be_reset) {
            return refuse(format!(
                "the end of the stream behind {} of {} bytes, and the peer {}",
                self.delivered,
                self.sent,
                if self.reset { "has reset" } else { "has not ended it" }
            ));
        }
        self.read_ended = true;
        Ok(())
    }

    fn read_error(&mut self, error: &io::Error) -> Result<(), Refusal> {
        let may_be_reset = self.closed && self.accepted > self.received;
        if self.read_is_over() {
            return refuse(format!("a read fails after the end: {error}"));
        }
        if !(self.reset || may_be_reset) {
            return refuse(format!("a read fails for no reason: {error}"));
        }
        if error.kind() != ErrorKind::ConnectionReset {
            return refuse(format!("a reset is told as {error}"));
        }
        self.read_failed = true;
        Ok(())
    }

    /// Enters what a write of so many bytes has answered.
    pub(crate) fn write(
        &mut self,
        total: usize,
        answer: &Poll<io::Result<usize>>,
    ) -> Result<(), Refusal> {
        match answer {
            Poll::Pending if total == 0 => refuse("a write of nothing waits"),
            Poll::Pending if self.write_failed || self.shutdown_done => {
                refuse("a write waits after the end")
            }
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(count)) if *count > total => {
                refuse(format!("{count} of {total} bytes written"))
            }
            Poll::Ready(Ok(0)) if total > 0 => refuse("a write takes nothing and says so by a 0"),
            Poll::Ready(Ok(0)) => Ok(()),
            Poll::Ready(Ok(_)) if self.shutdown_done => refuse("a write after the shutdown"),
            Poll::Ready(Ok(_)) if self.write_failed => refuse("a write goes after an error"),
            Poll::Ready(Ok(count)) => {
                self.accepted += *count as u64;
                self.reset_met_bytes |= self.reset;
                Ok(())
            }
            Poll::Ready(Err(error)) => self.write_error("a write", error),
        }
    }

    fn write_error(&mut self, who: &str, error: &io::Error) -> Result<(), Refusal> {
        let is_broken_pipe = error.kind() == ErrorKind::BrokenPipe;
        if self.write_failed && !is_broken_pipe {
            return refuse(format!("{who} fails a second time, as {error}"));
        }
        let by_own_end = self.shutdown_begun && is_broken_pipe;
        if !(self.peer_is_gone() || by_own_end || self.write_failed) {
            return refuse(format!("{who} fails for no reason: {error}"));
        }
        let usual = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::NotConnected];
        if !usual.contains(&error.kind()) {
            return refuse(format!("{who} fails as {error}"));
        }
        // A write after a shutdown that goes well is no error of the connection.
        self.write_failed |= self.peer_is_gone() && !by_own_end;
        Ok(())
    }

    pub(crate) fn flush(&mut self, answer: &Poll<io::Result<()>>) -> Result<(), Refusal> {
        match answer {
            Poll::Pending if self.write_failed && !self.shutdown_begun => {
                refuse("a flush waits after an error")
            }
            Poll::Pending if self.shutdown_done => refuse("a flush waits after the shutdown"),
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => self.write_error("a flush", error),
        }
    }

    pub(crate) fn shutdown(&mut self, answer: &Poll<io::Result<()>>) -> Result<(), Refusal> {
        let before = self.shutdown_done;
        self.shutdown_begun = true;
        match answer {
            Poll::Pending if before => refuse("a second shutdown waits"),
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.shutdown_done = true;
                Ok(())
            }
            Poll::Ready(Err(error)) if before => {
                refuse(format!("a second shutdown fails: {error}"))
            }
            Poll::Ready(Err(error)) if self.peer_is_gone() => self.write_error("a shutdown", error),
            Poll::Ready(Err(error)) => refuse(format!("a shutdown fails: {error}")),
        }
    }

    /// Enters what the peer has found.
    pub(crate) fn received(&mut self, taken: &Taken) -> Result<(), Refusal> {
        match taken {
            Taken::Nothing => Ok(()),
            Taken::Bytes(bytes) => {
                let left = self.accepted - self.received;
                if bytes.len() as u64 > left {
                    return refuse(format!(
                        "the peer has {} bytes more, and {left} were accepted",
                        bytes.len()
                    ));
                }
                if *bytes != pattern(self.received, bytes.len()) {
                    return refuse(format!(
                        "the peer has other bytes than were written, behind {}",
                        self.received
                    ));
                }
                self.received += bytes.len() as u64;
                Ok(())
            }
            Taken::End => {
                if !(self.shutdown_begun || self.writing_dropped) {
                    return refuse("the peer has an end that nobody has sent");
                }
                if self.received < self.accepted {
                    return refuse(format!(
                        "the peer has the end behind {} of {} bytes",
                        self.received, self.accepted
                    ));
                }
                self.peer_saw_end = true;
                Ok(())
            }
            // Who closes a socket with bytes that it has not read resets.
            Taken::Broken if self.reading_dropped && self.unread() => {
                self.peer_saw_end = true;
                Ok(())
            }
            Taken::Broken => refuse("the peer is reset"),
        }
    }

    /// Bytes of the peer were not read, or may yet come to nobody.
    pub(crate) fn unread(&self) -> bool {
        self.delivered < self.sent
    }
}
