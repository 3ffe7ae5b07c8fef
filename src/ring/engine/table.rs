//! The table of the requests in flight, by key, and an index by token for those who cancel.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::RawFd;

use slab::Slab;

use super::running::Running;
use crate::ring::world::RequestKey;

/// The requests that have begun, or wait in a chain, and have not ended.
#[derive(Debug, Default)]
pub(super) struct RequestTable {
    requests: Slab<Running>,
    generation: u32,
    by_token: HashMap<u64, RequestKey, BuildHasherDefault<TokenHasher>>,
    /// Two requests had the same token at one time: then the index does not know all.
    has_equal_tokens: bool,
}

fn index(key: RequestKey) -> usize {
    key.0 as u32 as usize
}

impl RequestTable {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Does any request name this descriptor?
    pub(super) fn uses(&self, fd: RawFd) -> bool {
        self.requests.iter().any(|(_, running)| running.request.fd() == Some(fd))
    }

    /// The key of the next request to be inserted.
    pub(super) fn next_key(&self) -> RequestKey {
        RequestKey(u64::from(self.generation) << 32 | self.requests.vacant_key() as u64)
    }

    /// Inserts a request that was made with the [next key](RequestTable::next_key).
    pub(super) fn insert(&mut self, running: Running) -> RequestKey {
        let key = running.key;
        debug_assert_eq!(key, self.next_key());
        self.has_equal_tokens |= self.by_token.insert(running.token, key).is_some();
        self.requests.insert(running);
        self.generation = self.generation.wrapping_add(1);
        key
    }

    pub(super) fn get(&self, key: RequestKey) -> Option<&Running> {
        self.requests.get(index(key)).filter(|running| running.key == key)
    }

    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Running> {
        self.requests.get_mut(index(key)).filter(|running| running.key == key)
    }

    pub(super) fn remove(&mut self, key: RequestKey) -> Option<Running> {
        self.get(key)?;
        let running = self.requests.remove(index(key));
        if self.by_token.get(&running.token) == Some(&key) {
            self.by_token.remove(&running.token);
        }
        Some(running)
    }

    /// A request with this token of which `is_meant` holds.
    pub(super) fn find(
        &self,
        token: u64,
        is_meant: impl Fn(&Running) -> bool,
    ) -> Option<RequestKey> {
        let indexed =
            self.by_token.get(&token).copied().filter(|key| self.get(*key).is_some_and(&is_meant));
        if indexed.is_some() || !self.has_equal_tokens {
            return indexed;
        }
        self.iter()
            .find(|running| running.token == token && is_meant(running))
            .map(|running| running.key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Running> {
        self.requests.iter().map(|(_, running)| running)
    }
}

/// Tokens are numbers in a row, of our own making.
#[derive(Debug, Default)]
pub(super) struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Knuth's multiplier spreads the low bits over the high ones, which the table looks at
        // first.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
