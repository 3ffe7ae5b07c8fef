//! Sockets: against std's blocking sockets on threads, as real peers.
//!
//! Each test runs on a thread with a descriptor table of its own and fails if it leaves a
//! descriptor behind; see `common`. Threads that a test starts share that table. Tests that look up
//! names run in a process of their own, since that takes `spawn_blocking`.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod address;
mod adopt;
mod batches;
mod chunks;
mod closing;
mod credentials;
mod datagrams;
mod descriptors;
mod ending;
mod happy_eyeballs;
mod limits;
mod lingering;
mod messages;
mod multicast;
mod options;
mod peek;
mod pressure;
mod resolver;
mod seqpacket;
mod split;
mod tcp;
mod tcp_socket;
mod udp;
mod udp_pressure;
mod unix;
mod unix_datagram;
mod vsock;
mod zero_copy;

use std::io::{self, Read, Write};
use std::net as std_net;
use std::time::Duration;

use annulus::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Far longer than anything that is not stuck.
const LONG: Duration = Duration::from_secs(20);
/// Short, where the end of the time is what is tested.
const SHORT: Duration = Duration::from_millis(20);

/// A connection over the loopback with std's end.
async fn tcp_pair() -> (TcpStream, std_net::TcpStream) {
    let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (ours, theirs)
}

/// An address at which nobody listens, as long as the socket is kept: it is bound, so nobody else
/// gets the port.
fn refusing(domain: Domain) -> io::Result<(Socket, std_net::SocketAddr)> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    let address = if domain == Domain::IPV4 { "127.0.0.1:0" } else { "[::1]:0" };
    socket.bind(&SockAddr::from(address.parse::<std_net::SocketAddr>().unwrap()))?;
    let address = socket.local_addr()?.as_socket().unwrap();
    Ok((socket, address))
}

/// Is there a loopback for IPv6? Says so if not.
fn has_ipv6() -> bool {
    let bound = std_net::TcpListener::bind("[::1]:0");
    if let Err(error) = &bound {
        println!("skipped IPv6: no ::1 ({error})");
    }
    bound.is_ok()
}

/// Sends everything back until the other side ends.
fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
