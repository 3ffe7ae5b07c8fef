//! Sockets: TCP, UDP, Unix and vsock sockets, with operations of the ring.
//!
//! Names and shapes are std's, and tokio's where std has none. All methods take `&self`. Reads and
//! writes take a buffer and give it back, with the result or with the error; see
//! [`buf`](crate::buf).
//!
//! At most one receive and one send of a stream are in flight at a time: the kernel would run two
//! operations of one direction in no particular order. Further ones wait for their turn, in the
//! order in which they were first polled.
//!
//! Options, addresses and the making of sockets are system calls that do not wait; everything else
//! is an operation of the ring. [The table of names](crate::docs::names) has each call of std and
//! tokio.
//!
//! Addresses that are names (`"localhost:80"`) are looked up off the loop, on the pool of
//! [`spawn_blocking`](crate::spawn_blocking); [`set_resolver`] puts another resolver in its place.
//!
//! # Dropping a future
//! A dropped operation is cancelled. If it won that race, what it received waits in the socket for
//! the next call of that direction: bytes and datagrams, and errors that the kernel reports only
//! once. A dropped `accept` is not cancelled; it takes one connection for the next `accept`. Writes
//! are not taken back, and later ones wait until the end of a dropped one is known. So `select!`
//! loops and [`time::timeout`](crate::time::timeout) lose nothing that was received. To have the
//! buffer and the outcome, end an operation with [`Op::cancel`](crate::Op::cancel) or
//! [`Op::timeout`](crate::Op::timeout).
//!
//! What waits goes with the value: a socket that is dropped, closed or turned into std's takes it
//! along. A future that was polled and is kept or forgotten keeps its turn. [The guide to
//! cancelling](crate::docs::cancellation) has a table of all operations.

mod address;
mod adopt;
mod as_io;
mod busy;
mod messages;
mod multicast;
mod options;
mod race;
mod resolver;
mod split;
mod stream;
mod tcp;
mod tcp_socket;
mod udp;
mod unix;
mod vsock;

pub use crate::op::{
    Ecn, Incoming, Message, MessageInfo, MessageOptions, Messages, SendBatch, Sent, UnixMessage,
};
pub use crate::sys::UCred;
pub use address::{ToSocketAddrs, lookup_host};
pub use resolver::{Resolver, SystemResolver, set_resolver};
pub use split::{ReadHalf, ReuniteError, WriteHalf};
pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
pub use tcp::{ListenOptions, TcpListener, TcpStream};
pub use tcp_socket::TcpSocket;
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixSeqpacket, UnixSeqpacketListener, UnixStream};
pub use vsock::{VsockAddr, VsockListener, VsockStream};
