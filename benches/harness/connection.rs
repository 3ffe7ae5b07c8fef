//! One connection of the load: the request that is under way on it, and the check of its reply.

use std::fmt::Debug;
use std::fs::File;
use std::time::Instant;

use super::Failure;
use super::random::Random;

/// What is said on connections: the requests, and which replies are the right ones.
pub(crate) trait Talk: Debug + Send + Sync {
    /// The request of this number. It does not change as long as the talk lives.
    fn request(&self, number: usize) -> &[u8];

    /// How long a reply is, more or less: receives are made for it.
    fn reply_size(&self) -> usize;

    /// Checks what has come of a reply, and books it; `true` when the reply is complete.
    fn check(&self, connection: &mut Connection, bytes: &[u8]) -> Result<bool, Failure>;
}

/// Messages are windows into one pattern, beginning at one of this many places.
const WINDOWS: usize = 4096;

/// The talk of an echo: every message comes back. Messages are cut from these bytes: no copy per
/// connection, yet a reply to another request does not match.
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
}

impl Talk for Pattern {
    fn request(&self, number: usize) -> &[u8] {
        let start = number % WINDOWS;
        &self.bytes[start..start + self.message_size]
    }

    fn reply_size(&self) -> usize {
        self.message_size
    }

    fn check(&self, connection: &mut Connection, bytes: &[u8]) -> Result<bool, Failure> {
        let rest = &self.request(connection.number)[connection.received..];
        if rest.get(..bytes.len()) != Some(bytes) {
            return Err(format!(
                "the server sent back other bytes than it got (message {})",
                connection.number
            )
            .into());
        }
        connection.received += bytes.len();
        Ok(connection.received == self.message_size)
    }
}

/// A connection with one request under way at the most.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: File,
    /// Which request is under way: no other one of all connections has the same.
    pub(crate) number: usize,
    step: usize,
    pub(crate) asked: Instant,
    pub(crate) sent: usize,
    /// How much of the reply has come, as the talk counts it.
    pub(crate) received: usize,
}

impl Connection {
    /// The `index`th of so many.
    pub(super) fn new(stream: File, index: usize, connections: usize) -> Connection {
        Connection {
            stream,
            number: index,
            step: connections,
            asked: Instant::now(),
            sent: 0,
            received: 0,
        }
    }

    /// The next request, whose reply is awaited since `asked`.
    pub(crate) fn begin(&mut self, asked: Instant) {
        self.number += self.step;
        self.asked = asked;
        self.sent = 0;
        self.received = 0;
    }
}
