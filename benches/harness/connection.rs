//! One connection of the load: the message that is under way on it, and the check of its reply.

use std::fs::File;
use std::time::Instant;

use super::Failure;
use super::random::Random;

/// Messages are windows into one pattern, beginning at one of this many places.
const WINDOWS: usize = 4096;

/// The bytes that messages are cut from: no copy per connection, yet a reply to another request
/// does not match.
#[derive(Debug)]
pub(super) struct Pattern {
    bytes: Vec<u8>,
    message_size: usize,
}

impl Pattern {
    pub(super) fn new(message_size: usize, seed: u64) -> Pattern {
        let mut random = Random::new(seed);
        Pattern {
            bytes: (0..message_size + WINDOWS).map(|_| random.next() as u8).collect(),
            message_size,
        }
    }

    pub(super) fn message_size(&self) -> usize {
        self.message_size
    }

    pub(super) fn message(&self, number: usize) -> &[u8] {
        let start = number % WINDOWS;
        &self.bytes[start..start + self.message_size]
    }
}

/// A connection with one message under way at the most.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: File,
    /// Which message is under way; counts up with each.
    pub(super) number: usize,
    pub(super) asked: Instant,
    pub(super) sent: usize,
    pub(super) received: usize,
}

impl Connection {
    pub(super) fn new(stream: File, number: usize) -> Connection {
        Connection { stream, number, asked: Instant::now(), sent: 0, received: 0 }
    }

    /// The next message, whose reply is awaited since `asked`.
    pub(super) fn begin(&mut self, asked: Instant) {
        self.number += 1;
        self.asked = asked;
        self.sent = 0;
        self.received = 0;
    }

    /// Checks what has come; `true` when the reply is complete.
    pub(super) fn check(&mut self, bytes: &[u8], pattern: &Pattern) -> Result<bool, Failure> {
        let rest = &pattern.message(self.number)[self.received..];
        if rest.get(..bytes.len()) != Some(bytes) {
            return Err(format!(
                "the server sent back other bytes than it got (message {})",
                self.number
            )
            .into());
        }
        self.received += bytes.len();
        Ok(self.received == pattern.message_size)
    }
}
