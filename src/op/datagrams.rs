//! The stream of a socket's datagrams, by multishot recvmsg. recvmsg(2),
//! io_uring_prep_recvmsg_multishot(3).
//!
//! Each datagram comes in a buffer of the runtime, behind a header and its address, which the
//! kernel puts there in one piece.
//!
//! # Safety
//! The entry names a static structure, which is only read, and the group of the runtime's pool,
//! whose buffers the driver keeps until the ring is gone.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use futures_util::stream::FusedStream;
use io_uring::opcode;

use super::chunks::UNCLAIMED;
use crate::buf::Chunk;
use crate::driver::{Arrival, BUFFER_GROUP};
use crate::inflight::{Handle, Lane, Left, MultishotStream, Received};
use crate::runtime::current;

/// `struct io_uring_recvmsg_out`: the lengths of the name, of the control data and of the payload,
/// and the flags.
const HEADER: usize = 16;
/// Room for the larger of the two addresses.
const NAME: usize = size_of::<libc::sockaddr_in6>();

/// How the kernel is to divide a buffer.
struct Shape(libc::msghdr);

// SAFETY: nobody writes it, and its pointers are null.
unsafe impl Sync for Shape {}

static SHAPE: Shape = {
    // SAFETY: zeroes are a message header without anything.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_namelen = NAME as libc::socklen_t;
    Shape(message)
};

/// One datagram of [`datagrams`](crate::net::UdpSocket::datagrams).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Datagram {
    /// What it holds, in a buffer of the runtime.
    pub chunk: Chunk,
    /// Where it came from.
    pub from: SocketAddr,
    /// It was longer than the buffer had room for, and the rest of it is lost.
    pub truncated: bool,
}

/// The stream of `datagrams()`: datagrams as they come, for ever, each in a buffer of the runtime.
///
/// One receive stays armed in the ring, and holds no buffer while nothing comes. A datagram has
/// room for the [size of a chunk](crate::Builder::chunk_size) less 44 bytes, 16,340 by default;
/// what is longer is cut off, which [`Datagram::truncated`] tells. A stream that is not polled is
/// stopped after about 40 datagrams; the kernel keeps what it has room for, and drops the rest.
///
/// Dropping it loses none that was received: they wait in the socket for the next receive. From its
/// first poll until it is dropped other receives of the socket wait. An error does not end it.
#[must_use = "a stream does nothing until it is polled"]
pub struct Datagrams<'h> {
    receive: MultishotStream<Messages>,
    handle: PhantomData<&'h ()>,
}

impl<'h> Datagrams<'h> {
    pub(crate) fn new(handle: &'h Handle) -> Datagrams<'h> {
        Datagrams { receive: MultishotStream::new(handle, Messages), handle: PhantomData }
    }

    /// Takes what is left in the lane, or arms the receive.
    fn begin(&mut self, context: &Context<'_>) -> Poll<io::Result<Datagram>> {
        ready!(self.receive.poll_turn(context));
        if self.receive.lane().has_left() {
            match self.receive.lane().take_left() {
                Some(Left::Datagram { bytes, from }) => {
                    return Poll::Ready(Ok(Datagram {
                        chunk: Chunk::copied(&bytes),
                        from,
                        truncated: false,
                    }));
                }
                Some(Left::Failed(errno)) => {
                    return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
                }
                _ => {}
            }
        }
        current().pool()?;
        let entry = opcode::RecvMsgMulti::new(
            self.receive.handle().target(),
            &raw const SHAPE.0,
            BUFFER_GROUP,
        )
        .build();
        // SAFETY: the entry names a static structure, the pool's group, and the handle's
        // descriptor.
        match unsafe { self.receive.arm(entry, UNCLAIMED, context) } {
            Ok(()) => Poll::Pending,
            Err(errno) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
        }
    }
}

/// What an arrival means. `None`: nothing, and the receive goes on or is armed again.
fn received(arrival: Arrival) -> Option<io::Result<Datagram>> {
    match (arrival.completion.result, arrival.chunk) {
        (0.., Some(chunk)) => Some(parse(chunk)),
        (0.., None) => None,
        (result, _) => match -result {
            libc::ECANCELED | libc::EINTR | libc::ENOBUFS => None,
            // The kernel has no multishot recvmsg: there is nothing else that it could mind.
            libc::EINVAL => Some(Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))),
            errno => Some(Err(io::Error::from_raw_os_error(errno))),
        },
    }
}

/// Finds the datagram in a buffer.
fn parse(mut chunk: Chunk) -> io::Result<Datagram> {
    let word = |at: usize| {
        chunk.get(at..at + 4).map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("4 bytes")))
    };
    let (Some(_), Some(flags)) = (word(0), word(12)) else {
        return Err(io::Error::other("a datagram without its header"));
    };
    let from = chunk.get(HEADER..HEADER + NAME).and_then(address);
    let from = from.ok_or_else(|| {
        io::Error::other("a datagram from an address that is neither IPv4 nor IPv6")
    })?;
    chunk.advance(HEADER + NAME);
    Ok(Datagram { chunk, from, truncated: flags & libc::MSG_TRUNC as u32 != 0 })
}

/// Reads a `sockaddr_in` or a `sockaddr_in6`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([name[2], name[3]]);
    let native = |at: usize| u32::from_ne_bytes(name[at..at + 4].try_into().expect("4 bytes"));
    match i32::from(u16::from_ne_bytes([name[0], name[1]])) {
        libc::AF_INET => {
            let octets: [u8; 4] = name[4..8].try_into().expect("4 bytes");
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = name[8..24].try_into().expect("16 bytes");
            // std does not turn the flow label either.
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(octets),
                port,
                native(4),
                native(24),
            )))
        }
        _ => None,
    }
}

/// The datagrams of a socket.
struct Messages;

impl Received for Messages {
    /// Keeps what came for the next receive.
    fn leave(lane: Lane<'_>, arrival: Arrival) {
        let result = arrival.completion.result();
        match (result, arrival.chunk) {
            (Ok(_), Some(chunk)) => {
                if let Ok(Datagram { chunk, from, .. }) = parse(chunk) {
                    lane.leave(Left::Datagram { bytes: chunk.to_vec(), from });
                }
            }
            (Err(error), _) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                lane.leave_error(&error)
            }
            _ => {}
        }
    }
}

impl Stream for Datagrams<'_> {
    type Item = io::Result<Datagram>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Datagram>>> {
        loop {
            if !self.receive.is_armed() {
                return Poll::Ready(Some(ready!(self.begin(context))));
            }
            if let Some(item) = received(ready!(self.receive.poll_arrival(context))) {
                return Poll::Ready(Some(item));
            }
        }
    }
}

/// It never ends.
impl FusedStream for Datagrams<'_> {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl Unpin for Datagrams<'_> {}

impl fmt::Debug for Datagrams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("socket", self.receive.handle()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_socket2_reads_them() {
        for text in ["127.0.0.1:80", "[2001:db8::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().expect("an address");
            let raw = socket2::SockAddr::from(address);
            let mut bytes = [0; NAME];
            // SAFETY: the address holds as many initialised bytes as its length says.
            let given = unsafe {
                std::slice::from_raw_parts(raw.as_ptr().cast::<u8>(), raw.len() as usize)
            };
            bytes[..given.len()].copy_from_slice(given);
            assert_eq!(super::address(&bytes), Some(address));
        }
        assert_eq!(address(&[0; NAME]), None);
    }
}
