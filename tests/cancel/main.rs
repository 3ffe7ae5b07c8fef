//! Cancelling loses nothing: what a dropped future's operation brought waits in the resource for the next call.

// Unwrapping is how a test fails, and its helpers with it.
#![allow(clippy::unwrap_used, missing_debug_implementations, missing_docs, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod accept;
mod datagrams;
mod reads;
mod writes;

use std::env;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;

/// A small generator (xorshift) whose seed is printed, and taken from ANNULUS_SEED to repeat a run.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let from_clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = env::var("ANNULUS_SEED").map_or(from_clock, |seed| seed.parse().expect("ANNULUS_SEED is a number"));
        println!("ANNULUS_SEED={seed}");
        Random(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How much a stress test does: ANNULUS_STRESS, or what CI has time for.
pub fn size(in_ci: u64) -> u64 {
    env::var("ANNULUS_STRESS").map_or(in_ci, |size| size.parse().expect("ANNULUS_STRESS is a number"))
}

/// One turn of the ring, at least.
pub async fn turn() {
    annulus::time::sleep(Duration::ZERO).await;
}

/// Polls a future once, gives the ring some turns, and drops it. What it took over from an earlier one is ready at that poll.
pub async fn start_and_drop<F: Future + Unpin>(mut future: F, turns: usize) -> Option<F::Output> {
    if let Poll::Ready(output) = poll!(Pin::new(&mut future)) {
        return Some(output);
    }
    for _ in 0..turns {
        turn().await;
    }
    None
}
