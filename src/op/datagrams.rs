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
use super::message::MessageInfo;
use crate::buf::Chunk;
use crate::driver::{Arrival, BUFFER_GROUP};
use crate::inflight::{Handle, Lane, Left, MultishotStream, Received};
use crate::runtime::current;
use crate::sys::control::{self, Details, ROOM_OF_DATAGRAM};

/// `struct io_uring_recvmsg_out`: the lengths of the name, of the control data and of the payload,
/// and the flags.
const HEADER: usize = 16;
/// Room for the larger of the two addresses.
const NAME: usize = size_of::<libc::sockaddr_in6>();

/// How the kernel is to divide a buffer.
pub(crate) struct Shape(libc::msghdr);

// SAFETY: nobody writes it, and its pointers are null.
unsafe impl Sync for Shape {}

impl Shape {
    const fn with_control(room: usize) -> Shape {
        // SAFETY: zeroes are a message header without anything.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_namelen = NAME as libc::socklen_t;
        message.msg_controllen = room;
        Shape(message)
    }
}

/// What a stream asks for, and what its items are.
pub(crate) trait Kind: 'static {
    type Item;

    const SHAPE: &'static Shape;

    fn item(chunk: Chunk, from: SocketAddr, details: Details) -> Self::Item;
}

/// The bytes and the address.
pub(crate) struct Plain;

impl Kind for Plain {
    type Item = Datagram;

    const SHAPE: &'static Shape = {
        static SHAPE: Shape = Shape::with_control(0);
        &SHAPE
    };

    fn item(chunk: Chunk, from: SocketAddr, details: Details) -> Datagram {
        Datagram { chunk, from, truncated: details.is_cut_off }
    }
}

/// All that is told of a datagram.
pub(crate) struct Detailed;

impl Kind for Detailed {
    type Item = Message;

    const SHAPE: &'static Shape = {
        static SHAPE: Shape = Shape::with_control(ROOM_OF_DATAGRAM);
        &SHAPE
    };

    fn item(chunk: Chunk, from: SocketAddr, details: Details) -> Message {
        Message { chunk, info: MessageInfo::new(from, details) }
    }
}

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

/// One datagram of [`messages`](crate::net::UdpSocket::messages), with all that is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What it holds, in a buffer of the runtime.
    pub chunk: Chunk,
    /// Where it came from, where it was sent to, and so on.
    pub info: MessageInfo,
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
pub struct Datagrams<'h>(Receiving<'h, Plain>);

impl<'h> Datagrams<'h> {
    pub(crate) fn new(handle: &'h Handle) -> Datagrams<'h> {
        Datagrams(Receiving::new(handle))
    }
}

/// The stream of `messages()`: as [`Datagrams`], with all that is told of each datagram.
///
/// A datagram has 112 bytes less room here, 16,228 by default. With
/// [`set_gro`](crate::net::UdpSocket::set_gro) what comes may be up to 65,535 bytes long, so choose
/// a [size of chunks](crate::Builder::chunk_size) that has room for that.
#[must_use = "a stream does nothing until it is polled"]
pub struct Messages<'h>(Receiving<'h, Detailed>);

impl<'h> Messages<'h> {
    pub(crate) fn new(handle: &'h Handle) -> Messages<'h> {
        Messages(Receiving::new(handle))
    }
}

/// A stream of datagrams, with as much of each as its kind asks for.
struct Receiving<'h, K: Kind> {
    receive: MultishotStream<Arrivals<K>>,
    handle: PhantomData<&'h ()>,
}

impl<'h, K: Kind> Receiving<'h, K> {
    fn new(handle: &'h Handle) -> Receiving<'h, K> {
        Receiving {
            receive: MultishotStream::new(handle, Arrivals(PhantomData)),
            handle: PhantomData,
        }
    }

    /// Takes what is left in the lane, or arms the receive.
    fn begin(&mut self, context: &Context<'_>) -> Poll<io::Result<K::Item>> {
        ready!(self.receive.poll_turn(context));
        if self.receive.lane().has_left() {
            match self.receive.lane().take_left() {
                Some(Left::Datagram { bytes, from, details }) => {
                    return Poll::Ready(Ok(K::item(Chunk::copied(&bytes), from, details)));
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
            &raw const K::SHAPE.0,
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

    fn poll_item(&mut self, context: &Context<'_>) -> Poll<io::Result<K::Item>> {
        loop {
            if !self.receive.is_armed() {
                return Poll::Ready(ready!(self.begin(context)));
            }
            if let Some(item) = received::<K>(ready!(self.receive.poll_arrival(context))) {
                return Poll::Ready(item);
            }
        }
    }
}

/// What an arrival means. `None`: nothing, and the receive goes on or is armed again.
fn received<K: Kind>(arrival: Arrival) -> Option<io::Result<K::Item>> {
    match (arrival.completion.result, arrival.chunk) {
        (0.., Some(chunk)) => {
            Some(parse::<K>(chunk).map(|(chunk, from, details)| K::item(chunk, from, details)))
        }
        (0.., None) => None,
        (result, _) => match -result {
            libc::ECANCELED | libc::EINTR | libc::ENOBUFS => None,
            // The kernel has no multishot recvmsg: there is nothing else that it could mind.
            libc::EINVAL => Some(Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))),
            errno => Some(Err(io::Error::from_raw_os_error(errno))),
        },
    }
}

/// Finds the datagram in a buffer: its bytes, where it came from, and what else is told.
fn parse<K: Kind>(mut chunk: Chunk) -> io::Result<(Chunk, SocketAddr, Details)> {
    let word = |at: usize| {
        chunk.get(at..at + 4).map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("4 bytes")))
    };
    let (Some(told), Some(flags)) = (word(4), word(12)) else {
        return Err(io::Error::other("a datagram without its header"));
    };
    let mut details = Details::of_flags(flags as i32);
    let from = chunk.get(HEADER..HEADER + NAME).and_then(address);
    let room = K::SHAPE.0.msg_controllen;
    if room > 0 {
        let end = HEADER + NAME + room.min(told as usize);
        let bytes = chunk.get(HEADER + NAME..end).unwrap_or_default();
        // SAFETY: the kernel has written the control messages there. A chunk is parsed once, and
        // what is in front of its datagram is seen by nobody else.
        unsafe { control::take_from(bytes, |enclosed| details.add(enclosed)) };
    }
    let from = from.ok_or_else(|| {
        io::Error::other("a datagram from an address that is neither IPv4 nor IPv6")
    })?;
    chunk.advance(HEADER + NAME + room);
    Ok((chunk, from, details))
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
struct Arrivals<K>(PhantomData<K>);

impl<K: Kind> Received for Arrivals<K> {
    /// Keeps what came for the next receive.
    fn leave(lane: Lane<'_>, arrival: Arrival) {
        let result = arrival.completion.result();
        match (result, arrival.chunk) {
            (Ok(_), Some(chunk)) => {
                if let Ok((chunk, from, details)) = parse::<K>(chunk) {
                    lane.leave(Left::Datagram { bytes: chunk.to_vec(), from, details });
                }
            }
            (Err(error), _) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                lane.leave_error(&error)
            }
            _ => {}
        }
    }
}

/// What both streams are.
macro_rules! stream_of {
    ($name:ident, $item:ty) => {
        impl Stream for $name<'_> {
            type Item = io::Result<$item>;

            fn poll_next(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<io::Result<$item>>> {
                self.0.poll_item(context).map(Some)
            }
        }

        /// It never ends.
        impl FusedStream for $name<'_> {
            fn is_terminated(&self) -> bool {
                false
            }
        }

        impl Unpin for $name<'_> {}

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let socket = self.0.receive.handle();
                f.debug_struct(stringify!($name)).field("socket", socket).finish()
            }
        }
    };
}

stream_of!(Datagrams, Datagram);
stream_of!(Messages, Message);

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
