//! Unix datagrams.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;
use std::path::PathBuf;
use std::time::Duration;

use annulus::net::{Shutdown, UnixDatagram, UnixSeqpacket};
use annulus::time;

use crate::LONG;
use crate::common::{Random, poll_in_task, quiet, run, scratch_dir, seed, turns};

#[test]
fn datagrams_go_to_paths_and_come_with_the_address_of_their_sender() {
    let scratch = scratch_dir();
    run(async || {
        let (here, there) = (scratch.path().join("here"), scratch.path().join("there"));
        let ours = UnixDatagram::bind(&here).unwrap();
        let theirs = std_unix::UnixDatagram::bind(&there).unwrap();
        assert_eq!(ours.local_addr().unwrap().as_pathname(), Some(&*here));
        assert_eq!(ours.send_to("ping", &there).await.unwrap(), (4, "ping"));
        let mut buffer = [0; 16];
        let (count, from) = theirs.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from.as_pathname()), (&b"ping"[..], Some(&*here)));
        theirs.send_to(b"pong", &here).unwrap();
        let (count, from, buffer) = ours.recv_from(vec![0; 16]).await.unwrap();
        assert_eq!((count, &buffer[..], from.as_pathname()), (4, &b"pong"[..], Some(&*there)));
        let unbound = UnixDatagram::unbound().unwrap();
        assert!(unbound.local_addr().unwrap().is_unnamed());
        unbound.send_to("", &here).await.unwrap();
        let (count, from, _) = ours.recv_from(vec![0; 16]).await.unwrap();
        assert!(count == 0 && from.is_unnamed(), "an empty datagram is one too");
    });
}

#[test]
fn names_in_the_abstract_space_can_be_bound_connected_and_sent_to() {
    run(async || {
        let name = format!("annulus-datagram-test-{}", std::process::id());
        let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        let server = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(server.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        assert_eq!(UnixDatagram::bind_addr(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The kernel chooses a name.
        let unnamed = std_unix::SocketAddr::from_pathname("").unwrap();
        let client = UnixDatagram::bind_addr(&unnamed).unwrap();
        let own = client.local_addr().unwrap();
        assert!(own.as_abstract_name().is_some());
        client.send_to_addr("one", &address).await.unwrap();
        client.connect_addr(&address).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        client.send("two").await.unwrap();
        client.connect(format!("\0{name}")).await.unwrap();
        for expected in ["one", "two"] {
            let (count, from, buffer) = server.recv_from(vec![0; 8]).await.unwrap();
            assert_eq!(&buffer[..count], expected.as_bytes());
            assert_eq!(from.as_abstract_name(), own.as_abstract_name());
        }
        server.send_to_addr("back", &own).await.unwrap();
        assert_eq!(client.recv(vec![0; 8]).await.unwrap(), (4, b"back".to_vec()));
    });
}

#[test]
fn the_ends_of_a_pair_talk_and_a_peer_that_has_gone_is_an_error_without_a_signal() {
    run(async || {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send("across").await.unwrap();
        assert_eq!(b.recv(vec![0; 8]).await.unwrap(), (6, b"across".to_vec()));
        b.close().await.unwrap();
        let std = {
            let (a, b) = std_unix::UnixDatagram::pair().unwrap();
            drop(b);
            a.send(b"nobody").unwrap_err()
        };
        let error = a.send("nobody").await.unwrap_err();
        assert_eq!((error.raw_os_error(), *error.buffer()), (std.raw_os_error(), "nobody"));
        let alone = UnixDatagram::unbound().unwrap();
        let error = alone.send("nobody").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
        let (a, _b) = UnixDatagram::pair().unwrap();
        a.shutdown(Shutdown::Write).await.unwrap();
        assert_eq!(a.send("shut").await.unwrap_err().raw_os_error(), Some(libc::EPIPE));
        assert!(a.take_error().unwrap().is_none());
    });
}

#[test]
fn paths_that_will_not_do_are_refused_as_in_std() {
    let scratch = scratch_dir();
    run(async || {
        let dead = scratch.path().join("dead");
        drop(std_unix::UnixDatagram::bind(&dead).unwrap());
        let missing = scratch.path().join("missing");
        let long: PathBuf = format!("/tmp/{}", "x".repeat(103)).into();
        let with_nul = scratch.path().join("before\0after");
        let (ours, std) =
            (UnixDatagram::unbound().unwrap(), std_unix::UnixDatagram::unbound().unwrap());
        for path in [&dead, &missing, &long, &with_nul] {
            let kind = std.send_to(b"x", path).unwrap_err().kind();
            let error = ours.send_to("x", path).await.unwrap_err();
            assert_eq!((error.kind(), *error.buffer()), (kind, "x"), "send to {}", path.display());
            let kind = std.connect(path).unwrap_err().kind();
            assert_eq!(ours.connect(path).await.unwrap_err().kind(), kind, "{}", path.display());
        }
        for path in [&dead, &long, &with_nul] {
            let kind = std_unix::UnixDatagram::bind(path).unwrap_err().kind();
            assert_eq!(UnixDatagram::bind(path).unwrap_err().kind(), kind, "{}", path.display());
        }
        assert_eq!(UnixDatagram::bind(&dead).unwrap_err().kind(), ErrorKind::AddrInUse);
        let long_name = format!("\0{}", "x".repeat(108));
        assert_eq!(UnixDatagram::bind(&long_name).unwrap_err().kind(), ErrorKind::InvalidInput);
        let error = ours.send_to("x", &long_name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let no_room = ours.recv(Vec::new()).await.unwrap_err();
        assert_eq!(no_room.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn what_a_buffer_has_no_room_for_is_cut_off_and_told_where_it_is_asked_for() {
    run(async || {
        let (a, b) = UnixDatagram::pair().unwrap();
        for _ in 0..4 {
            a.send("long one").await.unwrap();
        }
        assert_eq!(b.recv(vec![0; 4]).await.unwrap(), (4, b"long".to_vec()));
        let message = b.recv_with_fds(vec![0; 4]).await.unwrap();
        assert_eq!((message.count, &message.buffer[..]), (4, &b"long"[..]));
        assert!(message.truncated);
        let message = b.recv_with_fds(vec![0; 8]).await.unwrap();
        assert!(!message.truncated && message.descriptors.is_empty());
        // Cut off twice: by the room of the dropped receive, and by that of the next.
        let mut dropped = Box::pin(b.recv(vec![0; 8]));
        assert!(poll_in_task(&mut dropped).await.is_pending());
        turns(2).await;
        drop(dropped);
        let message = b.recv_with_fds(vec![0; 4]).await.unwrap();
        assert_eq!((message.count, message.truncated), (4, true));
    });
}

#[test]
fn a_send_waits_for_room_and_a_dropped_one_is_never_behind_a_later_one() {
    run(async || {
        let (a, b) = UnixDatagram::pair().unwrap();
        // As many as the peer has room for.
        let mut sent = 0u32;
        while a.send(sent.to_le_bytes().to_vec()).timeout(crate::SHORT).await.is_ok() {
            sent += 1;
        }
        let mut waiting = Box::pin(a.send(sent.to_le_bytes().to_vec()));
        assert!(poll_in_task(&mut waiting).await.is_pending());
        turns(2).await;
        drop(waiting);
        let last = a.send(u32::MAX.to_le_bytes().to_vec());
        let receive = async {
            let mut numbers = Vec::new();
            loop {
                let (_, buffer) = b.recv(vec![0; 4]).timeout(LONG).await.unwrap();
                numbers.push(u32::from_le_bytes(buffer.try_into().unwrap()));
                if numbers.last() == Some(&u32::MAX) {
                    return numbers;
                }
            }
        };
        let (last, numbers) = futures_util::future::join(last, receive).await;
        last.unwrap();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert!(numbers.len() as u32 - sent <= 2);
    });
}

/// Sends until the peer has no room, lets one more wait, makes room, and looks at what comes.
macro_rules! the_send_that_waited_arrives_whole {
    ($a:ident, $b:ident, $send:expr) => {{
        let send = $send;
        let mut sent = 0;
        while send("fill").timeout(crate::SHORT).await.is_ok() {
            sent += 1;
        }
        let mut waiting = Box::pin(send("last"));
        assert!(poll_in_task(&mut waiting).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut waiting).await.is_pending());
        for _ in 0..sent {
            assert_eq!($b.recv(vec![0; 9]).timeout(LONG).await.unwrap(), (4, b"fill".to_vec()));
        }
        assert_eq!(waiting.await.unwrap(), (4, "last"));
        assert_eq!($b.recv(vec![0; 9]).timeout(LONG).await.unwrap(), (4, b"last".to_vec()));
    }};
}

#[test]
fn a_message_that_waited_for_room_arrives_whole() {
    run(async || {
        let none: [OwnedFd; 0] = [];
        let (a, b) = UnixDatagram::pair().unwrap();
        the_send_that_waited_arrives_whole!(a, b, |text| a.send(text));
        the_send_that_waited_arrives_whole!(a, b, |text| a.send_with_fds(text, &none));
        let (a, b) = UnixSeqpacket::pair().unwrap();
        the_send_that_waited_arrives_whole!(a, b, |text| a.send(text));
        the_send_that_waited_arrives_whole!(a, b, |text| a.send_with_fds(text, &none));
    });
}

#[test]
fn a_message_that_waited_behind_those_of_others_arrives_whole() {
    run(async || {
        let name = format!("annulus-datagram-others-{}", std::process::id());
        let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        for stage in 0..4 {
            let full = UnixDatagram::bind_addr(&address).unwrap();
            let (connected, unconnected) =
                (UnixDatagram::unbound().unwrap(), UnixDatagram::unbound().unwrap());
            connected.connect_addr(&address).await.unwrap();
            let other = std_unix::UnixDatagram::unbound().unwrap();
            other.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while other.send_to_addr(b"fill", &address).is_ok() {
                sent += 1;
            }
            let mut to_peer = Box::pin(connected.send("to the peer"));
            let mut to_address = Box::pin(unconnected.send_to_addr("to the address", &address));
            assert!(poll_in_task(&mut to_peer).await.is_pending());
            assert!(poll_in_task(&mut to_address).await.is_pending());
            turns(stage * 3).await;
            for _ in 0..sent {
                let fill = full.recv(vec![0; 20]).timeout(LONG).await.unwrap();
                assert_eq!(fill, (4, b"fill".to_vec()));
            }
            let (one, other) = futures_util::future::join(to_peer, to_address).await;
            assert_eq!((one.unwrap().0, other.unwrap().0), (11, 14));
            let mut lengths = [
                full.recv(vec![0; 20]).timeout(LONG).await.unwrap().0,
                full.recv(vec![0; 20]).timeout(LONG).await.unwrap().0,
            ];
            lengths.sort_unstable();
            assert_eq!(lengths, [11, 14]);
        }
    });
}

#[test]
fn a_send_to_an_address_waits_for_room_there_and_others_go_on() {
    run(async || {
        let name = format!("annulus-datagram-full-{}", std::process::id());
        let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        let full = UnixDatagram::bind_addr(&address).unwrap();
        let ours = UnixDatagram::unbound().unwrap();
        let mut sent = 0u32;
        while ours.send_to_addr("fill", &address).timeout(crate::SHORT).await.is_ok() {
            sent += 1;
        }
        let mut waiting = Box::pin(ours.send_to_addr("last", &address));
        assert!(poll_in_task(&mut waiting).await.is_pending());
        // The loop goes on meanwhile.
        let (a, b) = UnixDatagram::pair().unwrap();
        for _ in 0..10 {
            a.send("x").await.unwrap();
            b.recv(vec![0; 1]).await.unwrap();
        }
        assert!(poll_in_task(&mut waiting).await.is_pending());
        let before = annulus::metrics();
        time::sleep(Duration::from_millis(100)).await;
        let turns = annulus::metrics().enters - before.enters;
        assert!(turns < 1000, "it asks again and again: {turns} turns in 100 ms");
        for _ in 0..sent {
            assert_eq!(full.recv(vec![0; 9]).timeout(LONG).await.unwrap(), (4, b"fill".to_vec()));
        }
        assert_eq!(waiting.await.unwrap(), (4, "last"));
        assert_eq!(full.recv(vec![0; 9]).await.unwrap(), (4, b"last".to_vec()));
    });
}

#[test]
fn datagrams_come_in_order_through_receives_dropped_at_random() {
    let random = Random::new(seed());
    run(async || {
        let (a, b) = UnixDatagram::pair().unwrap();
        for number in 0..2000u32 {
            a.send(number.to_le_bytes().to_vec()).await.unwrap();
            let mut received = None;
            while received.is_none() && random.below(2) == 0 {
                let mut receive = b.recv_from(vec![0; 4]);
                match poll_in_task(&mut receive).await {
                    std::task::Poll::Ready(output) => received = Some(output.unwrap()),
                    std::task::Poll::Pending => turns(random.below(3)).await,
                }
            }
            let (count, _, buffer) = match received {
                Some(received) => received,
                None => b.recv_from(vec![0; 4]).await.unwrap(),
            };
            assert_eq!((count, &buffer[..]), (4, &number.to_le_bytes()[..]));
        }
        quiet().await;
    });
}

#[test]
fn sockets_of_std_are_taken_over_and_given_back() {
    run(async || {
        for nonblocking in [false, true] {
            let (ours, theirs) = std_unix::UnixDatagram::pair().unwrap();
            ours.set_nonblocking(nonblocking).unwrap();
            let ours = UnixDatagram::from(ours);
            let mut receive = Box::pin(ours.recv(vec![0; 8]));
            assert!(poll_in_task(&mut receive).await.is_pending());
            theirs.send(b"x").unwrap();
            assert_eq!(receive.await.unwrap(), (1, b"x".to_vec()));
            let std = ours.into_std().await;
            std.send(b"y").unwrap();
            let mut buffer = [0; 8];
            assert_eq!(theirs.recv(&mut buffer).unwrap(), 1);
        }
        let (stream, _other) = std_unix::UnixStream::pair().unwrap();
        let stream = std_unix::UnixDatagram::from(OwnedFd::from(stream));
        let error = UnixDatagram::from_std(stream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("UnixStream"), "{error}");
    });
}
