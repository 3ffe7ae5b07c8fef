//! Streams between virtual machines, over the loopback where the kernel has it.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use annulus::net::{Shutdown, VsockAddr, VsockListener, VsockStream};
use socket2::{Domain, Socket, Type};

use crate::common::{poll_in_task, quiet, run, turns};

/// A listener at a port that the kernel chooses, on every address. `None` without vsock.
fn listener() -> Option<VsockListener> {
    match VsockListener::bind(VsockAddr::new(VsockAddr::CID_ANY, VsockAddr::PORT_ANY)) {
        Ok(listener) => Some(listener),
        Err(error) => {
            println!("skipped: no vsock here ({error})");
            None
        }
    }
}

/// As [`listener`], with its address by the loopback. `None` without that.
fn listener_on_loopback() -> Option<(VsockListener, VsockAddr)> {
    let any = VsockAddr::new(VsockAddr::CID_LOCAL, VsockAddr::PORT_ANY);
    match VsockListener::bind(any) {
        Ok(listener) => {
            let address = listener.local_addr().unwrap();
            Some((listener, address))
        }
        Err(error) => {
            println!("skipped: no loopback of vsock here ({error})");
            None
        }
    }
}

#[test]
fn streams_talk_over_the_loopback() {
    run(async || {
        let Some((listener, address)) = listener_on_loopback() else { return };
        let client = VsockStream::connect(address).await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(client.peer_addr().unwrap(), address);
        client.write_all("ping").await.unwrap();
        assert_eq!(server.read_exact(vec![0; 4]).await.unwrap(), b"ping");
        let (reader, writer) = server.into_split();
        writer.write_all("pong").await.unwrap();
        assert_eq!(client.read_exact(vec![0; 4]).await.unwrap(), b"pong");
        client.shutdown(Shutdown::Write).await.unwrap();
        assert_eq!(reader.read(vec![0; 4]).await.unwrap().0, 0);
        let error = VsockListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_dropped_read_over_the_loopback_loses_nothing() {
    run(async || {
        let Some((listener, address)) = listener_on_loopback() else { return };
        let client = VsockStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for stage in 0..4 {
            let mut read = Box::pin(server.read(vec![0; 16]));
            assert!(poll_in_task(&mut read).await.is_pending());
            client.write_all("kept").await.unwrap();
            turns(stage).await;
            drop(read);
            assert_eq!(server.read_exact(vec![0; 4]).await.unwrap(), b"kept");
        }
    });
}

#[test]
fn a_port_that_the_kernel_chose_is_told() {
    run(async || {
        let Some(listener) = listener() else { return };
        let address = listener.local_addr().unwrap();
        assert_ne!(address.port(), VsockAddr::PORT_ANY);
        assert_eq!(address.to_string(), format!("{}:{}", address.cid(), address.port()));
        let error = VsockListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // Nobody comes.
        let mut accept = Box::pin(listener.accept());
        assert!(poll_in_task(&mut accept).await.is_pending());
        turns(2).await;
        drop(accept);
        assert!(listener.take_error().unwrap().is_none());
        listener.close().await.unwrap();
        drop(VsockListener::bind(address).unwrap());
    });
}

#[test]
fn a_connect_that_nobody_answers_fails_or_is_dropped_and_leaves_nothing_open() {
    run(async || {
        if listener().is_none() {
            return;
        }
        // A machine that does not exist, and a host on which nobody listens at that port.
        for cid in [0x7fff_fffe, VsockAddr::CID_HOST] {
            let address = VsockAddr::new(cid, 0x7fff_fffe);
            for stage in 0..3 {
                let mut connect = Box::pin(VsockStream::connect(address));
                let _ = poll_in_task(&mut connect).await;
                turns(stage).await;
                drop(connect);
                quiet().await;
            }
            let error = VsockStream::connect(address).await.unwrap_err();
            println!("{address}: {error}");
            let errno = error.raw_os_error().unwrap();
            assert!(![libc::EALREADY, libc::EINPROGRESS].contains(&errno), "it is under way");
        }
    });
}

#[test]
fn descriptors_are_taken_over_if_they_are_of_this_kind_and_given_back() {
    run(async || {
        let Some(listener) = listener() else { return };
        let address = listener.local_addr().unwrap();
        let listener = VsockListener::from_fd(listener.into_fd().await).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).unwrap();
        let stream = VsockStream::from(OwnedFd::from(socket));
        assert_eq!(stream.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        drop(stream.into_fd().await);
        let (other, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = VsockStream::from_fd(OwnedFd::from(other)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("UnixStream"), "{error}");
    });
}
