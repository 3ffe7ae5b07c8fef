//! Unix connections that keep messages apart.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;

use annulus::net::{Shutdown, UnixSeqpacket, UnixSeqpacketListener};
use futures_util::StreamExt;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::LONG;
use crate::common::{poll_in_task, run, scratch_dir, turns};

#[test]
fn messages_of_a_connection_stay_apart() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("socket");
        let listener = UnixSeqpacketListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let client = UnixSeqpacket::connect(&path).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert!(peer.is_unnamed() && server.peer_addr().unwrap().is_unnamed());
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        for message in ["one", "", "three"] {
            assert_eq!(client.send(message).await.unwrap(), (message.len(), message));
        }
        for message in ["one", "", "three"] {
            let (count, buffer) = server.recv(vec![0; 16]).await.unwrap();
            assert_eq!(&buffer[..count], message.as_bytes());
        }
        client.shutdown(Shutdown::Write).await.unwrap();
        assert_eq!(server.recv(vec![0; 16]).await.unwrap().0, 0, "the end");
        server.send("still").await.unwrap();
        assert_eq!(client.recv(vec![0; 16]).await.unwrap(), (5, b"still".to_vec()));
        server.close().await.unwrap();
        let error = client.send("nobody").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        listener.close().await.unwrap();
        assert!(path.exists());
        let error = UnixSeqpacketListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "a stale path");
        let error = UnixSeqpacket::connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_message_that_is_longer_than_the_buffer_is_an_error_with_its_first_part() {
    run(async || {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        for _ in 0..3 {
            a.send("long one").await.unwrap();
        }
        let error = b.recv(vec![0; 4]).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EMSGSIZE), 4));
        assert_eq!(error.into_buffer(), b"long");
        let message = b.recv_with_fds(vec![0; 4]).await.unwrap();
        assert!(message.truncated && message.buffer == b"long");
        // Also if the receive that had too little room was dropped.
        let mut dropped = Box::pin(b.recv(vec![0; 4]));
        assert!(poll_in_task(&mut dropped).await.is_pending());
        turns(2).await;
        drop(dropped);
        let error = b.recv(vec![0; 16]).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EMSGSIZE), 4));
    });
}

#[test]
fn a_dropped_receive_leaves_its_message_to_the_next() {
    run(async || {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        for stage in 0..5 {
            let mut receive = Box::pin(b.recv(vec![0; 16]));
            if stage > 0 {
                assert!(poll_in_task(&mut receive).await.is_pending());
            }
            a.send("first").await.unwrap();
            a.send("second").await.unwrap();
            turns(stage).await;
            drop(receive);
            assert_eq!(b.recv(vec![0; 16]).await.unwrap(), (5, b"first".to_vec()));
            assert_eq!(b.recv(vec![0; 16]).await.unwrap(), (6, b"second".to_vec()));
        }
    });
}

#[test]
fn a_listener_takes_connections_by_address_and_as_a_stream() {
    run(async || {
        let name = format!("annulus-seqpacket-test-{}", std::process::id());
        let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixSeqpacketListener::bind_addr(&address).unwrap();
        let mut incoming = listener.incoming();
        for _ in 0..3 {
            let client = UnixSeqpacket::connect_addr(&address).await.unwrap();
            let server = incoming.next().await.unwrap().unwrap();
            client.send("x").await.unwrap();
            assert_eq!(server.recv(vec![0; 2]).await.unwrap(), (1, b"x".to_vec()));
            assert_eq!(server.peer_cred().unwrap().pid(), Some(std::process::id() as i32));
        }
        drop(incoming);
        // A dropped accept takes one connection for the next call.
        let mut accept = Box::pin(listener.accept());
        assert!(poll_in_task(&mut accept).await.is_pending());
        let client = UnixSeqpacket::connect_addr(&address).await.unwrap();
        turns(2).await;
        drop(accept);
        let (server, _) = listener.accept().timeout(LONG).await.unwrap();
        server.send("y").await.unwrap();
        assert_eq!(client.recv(vec![0; 2]).await.unwrap(), (1, b"y".to_vec()));
    });
}

#[test]
fn descriptors_are_taken_over_if_they_are_of_this_kind_and_given_back() {
    run(async || {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let ours = UnixSeqpacket::from_fd(OwnedFd::from(ours)).unwrap();
        theirs.send(b"x").unwrap();
        assert_eq!(ours.recv(vec![0; 2]).await.unwrap(), (1, b"x".to_vec()));
        let back = Socket::from(ours.into_fd().await);
        back.send(b"y").unwrap();
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let name = format!("\0annulus-seqpacket-adopted-{}", std::process::id());
        listener.bind(&SockAddr::unix(&name).unwrap()).unwrap();
        listener.listen(1).unwrap();
        let listener = UnixSeqpacketListener::from(OwnedFd::from(listener));
        let client = UnixSeqpacket::connect(&name).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        drop((client, server));
        drop(listener.into_fd().await);
        let (stream, _other) = std_unix::UnixStream::pair().unwrap();
        let error = UnixSeqpacket::from_fd(OwnedFd::from(stream)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error =
            annulus::net::UnixStream::from_std(std_unix::UnixStream::from(OwnedFd::from(theirs)));
        assert!(error.unwrap_err().to_string().contains("UnixSeqpacket"));
    });
}
