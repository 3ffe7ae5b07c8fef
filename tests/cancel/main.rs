//! Cancelling loses nothing: what a dropped future's operation brought waits in the resource for
//! the next call.

// Unwrapping is how a test fails, and its helpers with it.
#![allow(clippy::unwrap_used, missing_debug_implementations, missing_docs, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod accept;
mod chunks;
mod datagrams;
mod descriptors;
mod queues;
mod reads;
mod standing;
mod writes;

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;

/// One turn of the ring, at least.
pub async fn turn() {
    annulus::time::sleep(Duration::ZERO).await;
}

/// Polls a future once, gives the ring some turns, and drops it. What it took over from an earlier
/// one is ready at that poll.
pub async fn start_and_drop<F: Future + Unpin>(mut future: F, turns: usize) -> Option<F::Output> {
    if let Poll::Ready(output) = poll!(Pin::new(&mut future)) {
        return Some(output);
    }
    for _ in 0..turns {
        turn().await;
    }
    None
}
