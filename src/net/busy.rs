//! Addresses and descriptors of dropped sockets that are in use until the ring has turned.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::runtime::Timer;

/// Binds, and lets the ring turn while the address is in use: by a socket that was dropped, and of
/// which an operation is still in flight.
pub(super) async fn once_free<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..TURNS_TO_CLOSE {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => turn().await,
            result => return result,
        }
    }
    bind()
}

/// Turns of the ring in which a cancelled operation ends.
const TURNS_TO_CLOSE: usize = 4;

/// Lets the ring turn once.
pub(super) async fn turn() {
    let mut timer = Timer::sleep(Duration::ZERO);
    poll_fn(|context| timer.poll(context)).await;
}
