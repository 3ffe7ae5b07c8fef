//! Sockets: TCP, UDP and Unix streams, with operations of the ring.
//!
//! Names and shapes are std's, and tokio's where std has none. All methods take `&self`. Reads and writes take a buffer and give it back,
//! with the result or with the error; see [`buf`](crate::buf).
//!
//! At most one receive and one send of a stream are in flight at a time: the kernel would run two operations of one direction in no
//! particular order. Further ones wait for their turn, in the order in which they were first polled.
//!
//! Addresses that are names (`"localhost:80"`) are looked up off the loop, on the pool of [`spawn_blocking`](crate::spawn_blocking).
//!
//! # Dropping a future
//! A dropped operation is cancelled. If it won that race, what it received waits in the socket for the next call of that direction: bytes
//! and datagrams, and errors that the kernel reports only once. A dropped `accept` is not cancelled; it takes one connection for the next
//! `accept`. Writes are not taken back, and later ones wait until the fate of a dropped one is known. So `select!` loops and
//! [`time::timeout`](crate::time::timeout) lose nothing that was received. To have the buffer and the outcome, end an operation with
//! [`Op::cancel`](crate::Op::cancel) or [`Op::timeout`](crate::Op::timeout).
//!
//! What waits goes with the value: a socket that is dropped, closed or turned into std's takes it along. A future that was polled and is
//! kept or forgotten keeps its turn. [The guide to cancelling](crate::docs::cancellation) has a table of all operations.

mod address;
mod adopt;
mod split;
mod stream;
mod tcp;
mod udp;
mod unix;

pub use crate::op::{Incoming, Sent};
pub use address::{ToSocketAddrs, lookup_host};
pub use split::{ReadHalf, ReuniteError, WriteHalf};
pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
pub use tcp::{ListenOptions, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixStream};

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::runtime::Timer;

/// Binds, and lets the ring turn while the address is in use: by a socket that was dropped, and of
/// which an operation is still in flight.
async fn once_free<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
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
async fn turn() {
    let mut timer = Timer::sleep(Duration::ZERO);
    poll_fn(|context| timer.poll(context)).await;
}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn not_internet() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the socket's address is neither IPv4 nor IPv6")
}
