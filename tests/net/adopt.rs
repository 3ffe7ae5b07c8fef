//! Sockets that were made elsewhere.

use std::fs;
use std::io::ErrorKind;
use std::net as std_net;
use std::os::fd::OwnedFd;
use std::os::unix::net as std_unix;
use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus::net::{
    TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixSeqpacket,
    UnixSeqpacketListener, UnixStream,
};
use socket2::{Domain, Socket, Type};

use crate::common::run;

/// A socket of a kind that there is no type for.
fn netlink() -> OwnedFd {
    Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, None).unwrap().into()
}

/// Sockets by what fits, and a file.
fn descriptors() -> Vec<(OwnedFd, &'static str)> {
    let socket = |domain, kind| OwnedFd::from(Socket::new(domain, kind, None).unwrap());
    vec![
        (socket(Domain::IPV4, Type::STREAM), "Tcp"),
        (socket(Domain::IPV6, Type::STREAM), "Tcp"),
        (socket(Domain::IPV4, Type::DGRAM), "Udp"),
        (socket(Domain::IPV6, Type::DGRAM), "Udp"),
        (socket(Domain::UNIX, Type::STREAM), "UnixStream"),
        (socket(Domain::UNIX, Type::DGRAM), "UnixDatagram"),
        (socket(Domain::UNIX, Type::SEQPACKET), "UnixSeqpacket"),
        (netlink(), "no type here fits"),
        (fs::File::open("Cargo.toml").unwrap().into(), "fs::File fits"),
    ]
}

/// What `from_std` says of each type.
fn adopt(descriptor: &OwnedFd) -> Vec<(&'static str, Option<std::io::Error>)> {
    let duplicate = || descriptor.try_clone().unwrap();
    vec![
        ("Tcp", TcpListener::from_std(duplicate().into()).err()),
        ("Tcp", TcpStream::from_std(duplicate().into()).err()),
        ("Udp", UdpSocket::from_std(duplicate().into()).err()),
        ("UnixStream", UnixListener::from_std(duplicate().into()).err()),
        ("UnixStream", UnixStream::from_std(duplicate().into()).err()),
        ("UnixDatagram", UnixDatagram::from_std(duplicate().into()).err()),
        ("UnixSeqpacket", UnixSeqpacketListener::from_fd(duplicate()).err()),
        ("UnixSeqpacket", UnixSeqpacket::from_fd(duplicate()).err()),
    ]
}

#[test]
fn a_socket_of_another_domain_or_type_is_refused_and_the_error_says_what_fits() {
    run(async || {
        for (descriptor, fits) in descriptors() {
            for (kind, error) in adopt(&descriptor) {
                match error {
                    None => assert_eq!(kind, fits),
                    Some(error) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidInput);
                        assert!(
                            kind != fits && error.to_string().contains(fits),
                            "{kind} for {fits}: {error}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn conversions_that_cannot_fail_panic_instead() {
    run(async || {
        let (datagrams, peer) = std_unix::UnixDatagram::pair().unwrap();
        peer.send(b"first").unwrap();
        let kept = datagrams.try_clone().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| UdpSocket::from(OwnedFd::from(datagrams))))
            .expect_err("no UDP socket");
        let words = panic.downcast_ref::<String>().expect("words");
        assert!(words.starts_with("annulus: ") && words.contains("UnixDatagram fits"), "{words}");
        // Nothing was taken from it.
        assert_eq!(kept.recv(&mut [0; 8]).unwrap(), 5);
    });
}

#[test]
fn what_fits_works_whether_it_blocks_or_not() {
    run(async || {
        for nonblocking in [false, true] {
            let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(nonblocking).unwrap();
            client.set_nonblocking(nonblocking).unwrap();
            let (server, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
            let client = TcpStream::from_std(client).unwrap();
            client.write_all("here").await.unwrap();
            assert_eq!(server.read_exact(vec![0; 4]).await.unwrap(), b"here");
        }
    });
}
