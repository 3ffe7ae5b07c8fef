//! The check of an adopted socket: one of another family or kind would be used with the wrong
//! calls.

use std::io;
use std::os::fd::OwnedFd;

use crate::inflight::Resource;
use crate::sys::{Descriptor, Domain, Type, option};

/// What a type here stands for: a domain and a type, socket(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
    UnixSeqpacket,
    Vsock,
}

impl Kind {
    fn of(domain: Domain, kind: Type) -> Option<Kind> {
        match (domain, kind) {
            (Domain::IPV4 | Domain::IPV6, Type::STREAM) => Some(Kind::Tcp),
            (Domain::IPV4 | Domain::IPV6, Type::DGRAM) => Some(Kind::Udp),
            (Domain::UNIX, Type::STREAM) => Some(Kind::Unix),
            (Domain::UNIX, Type::DGRAM) => Some(Kind::UnixDatagram),
            (Domain::UNIX, Type::SEQPACKET) => Some(Kind::UnixSeqpacket),
            (Domain::VSOCK, Type::STREAM) => Some(Kind::Vsock),
            _ => None,
        }
    }

    fn types(self) -> &'static str {
        match self {
            Kind::Tcp => "TcpStream or TcpListener",
            Kind::Udp => "UdpSocket",
            Kind::Unix => "UnixStream or UnixListener",
            Kind::UnixDatagram => "UnixDatagram",
            Kind::UnixSeqpacket => "UnixSeqpacket or UnixSeqpacketListener",
            Kind::Vsock => "VsockStream or VsockListener",
        }
    }
}

/// Takes over a socket that exists, if it is of that kind.
pub(super) fn adopt(socket: impl Into<OwnedFd>, wanted: Kind) -> io::Result<Resource> {
    adopt_descriptor(socket, wanted).map(Resource::new)
}

/// As [`adopt`], for what is not used with the ring yet.
pub(super) fn adopt_descriptor(socket: impl Into<OwnedFd>, wanted: Kind) -> io::Result<Descriptor> {
    let socket = Descriptor::from(socket.into());
    let (domain, kind) = match (option::DOMAIN.get(&socket), option::TYPE.get(&socket)) {
        (Ok(domain), Ok(kind)) => (domain, kind),
        (Err(error), _) | (_, Err(error)) if error.raw_os_error() == Some(libc::ENOTSOCK) => {
            return Err(unfit("the descriptor is no socket: fs::File fits"));
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    match Kind::of(domain, kind) {
        Some(found) if found == wanted => Ok(socket),
        Some(found) => {
            Err(unfit(&format!("the socket is not of this type: {} fits", found.types())))
        }
        None => Err(unfit(&format!(
            "the socket is not of this type, and no type here fits (domain {domain:?}, type {kind:?})"
        ))),
    }
}

/// As [`adopt`], for conversions that cannot fail.
#[track_caller]
pub(super) fn adopt_surely(socket: impl Into<OwnedFd>, wanted: Kind) -> Resource {
    adopt(socket, wanted).unwrap_or_else(|error| panic!("annulus: {error}"))
}

fn unfit(sentence: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}
