//! Unix streams.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use annulus::net::{Shutdown, UnixListener, UnixStream};

use crate::common::{Random, run, scratch_dir, seed, turns};
use crate::{LONG, SHORT, echo};

/// A name in the abstract space that nobody else has.
fn abstract_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("annulus-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn streams_talk_to_blocking_peers_at_a_path() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let client = thread::spawn({
            let path = path.clone();
            move || {
                let mut stream = std_unix::UnixStream::connect(path).unwrap();
                stream.write_all(b"ping").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            }
        });
        let (server, peer) = listener.accept().await.unwrap();
        assert!(peer.is_unnamed() && server.peer_addr().unwrap().is_unnamed());
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
        assert_eq!(server.read_exact(vec![0; 4]).await.unwrap(), b"ping");
        server.write_all("pong").await.unwrap();
        server.close().await.unwrap();
        assert_eq!(client.join().unwrap(), "pong");
        listener.close().await.unwrap();
        assert!(path.exists(), "the path stays, as in std");
        std::fs::remove_file(&path).unwrap();

        let std = std_unix::UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || echo(std.accept().unwrap().0));
        let client = UnixStream::connect(&path).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        assert!(client.local_addr().unwrap().is_unnamed());
        client.write_all("there and back").await.unwrap();
        assert_eq!(client.read_exact(vec![0; 14]).await.unwrap(), b"there and back");
        client.shutdown(Shutdown::Write).await.unwrap();
        assert_eq!(client.read(vec![0; 14]).await.unwrap().0, 0);
        server.join().unwrap().unwrap();
        assert!(client.take_error().unwrap().is_none());
    });
}

#[test]
fn a_client_that_has_a_path_is_known_by_it() {
    let scratch = scratch_dir();
    run(async || {
        let (server_path, client_path) =
            (scratch.path().join("server"), scratch.path().join("client"));
        let listener = UnixListener::bind(&server_path).unwrap();
        let client =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        client.bind(&socket2::SockAddr::unix(&client_path).unwrap()).unwrap();
        client.connect(&socket2::SockAddr::unix(&server_path).unwrap()).unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.as_pathname(), Some(&*client_path));
        assert_eq!(server.peer_addr().unwrap().as_pathname(), Some(&*client_path));
        // The next one is unnamed: nothing of the last address is left over.
        let _client = std_unix::UnixStream::connect(&server_path).unwrap();
        assert!(listener.accept().await.unwrap().1.is_unnamed());
    });
}

#[test]
fn a_path_that_begins_with_nul_is_a_name_in_the_abstract_space() {
    run(async || {
        let name = abstract_name();
        let path = format!("\0{name}");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        let ours = UnixStream::connect(&path).await.unwrap();
        assert_eq!(ours.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(server.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        let address = std_unix::SocketAddr::from_abstract_name(&name).unwrap();
        let _std = std_unix::UnixStream::connect_addr(&address).unwrap();
        listener.accept().await.unwrap();
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        listener.close().await.unwrap();
        let error = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::ECONNREFUSED),
            "the name goes with the listener"
        );
    });
}

/// A blocking socket bound to exactly these bytes, which std and socket2 may refuse, and connected.
fn client_bound_to(name: &[u8], server: &Path) -> socket2::Socket {
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    for (place, byte) in address.sun_path.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let length =
        (std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len()) as libc::socklen_t;
    // SAFETY: the address outlives the call and is at least as long as the length says.
    let bound = unsafe { libc::bind(client.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    client.connect(&socket2::SockAddr::unix(server).unwrap()).unwrap();
    client
}

#[test]
fn a_client_with_an_abstract_name_is_accepted_and_known_by_it() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("server");
        let listener = UnixListener::bind(&path).unwrap();
        let name = abstract_name();
        let _client = client_bound_to(format!("\0{name}").as_bytes(), &path);
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.as_abstract_name(), Some(name.as_bytes()));
        assert_eq!(server.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
    });
}

#[test]
fn a_client_whose_path_fills_the_address_to_its_last_byte_does_not_disturb_the_listener() {
    run(async || {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let path = directory.path().join("server");
        let name = directory.path().join("x".repeat(108 - directory.path().as_os_str().len() - 1));
        let listener = UnixListener::bind(&path).unwrap();
        let _client = client_bound_to(name.as_os_str().as_bytes(), &path);
        let (server, peer) = listener.accept().await.unwrap();
        // std can tell this path, though it would not take it.
        assert!(peer.as_pathname().is_none_or(|path| path == name), "{peer:?}");
        drop(server.peer_addr());
        drop(server);
        let _next = std_unix::UnixStream::connect(&path).unwrap();
        assert!(listener.accept().await.unwrap().1.is_unnamed());
    });
}

#[test]
fn the_ends_of_a_pair_are_connected_and_unnamed() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        for end in [&a, &b] {
            assert!(
                end.local_addr().unwrap().is_unnamed() && end.peer_addr().unwrap().is_unnamed()
            );
        }
        let (sent, received) =
            futures_util::future::join(a.write_all("across"), b.read_exact(vec![0; 6])).await;
        assert_eq!((sent.unwrap(), received.unwrap()), ("across", b"across".to_vec()));
        b.close().await.unwrap();
        assert_eq!(a.read(vec![0; 6]).await.unwrap().0, 0);
        let error = a.write_all(vec![1, 2, 3]).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.transferred(), error.into_buffer()),
            (Some(libc::EPIPE), 0, vec![1, 2, 3])
        );
    });
}

#[test]
fn paths_that_will_not_do_are_refused_as_in_std() {
    let scratch = scratch_dir();
    run(async || {
        let taken = scratch.path().join("taken");
        std::fs::write(&taken, "").unwrap();
        let dead = scratch.path().join("dead");
        drop(std_unix::UnixListener::bind(&dead).unwrap());
        let (missing, below) =
            (scratch.path().join("missing"), scratch.path().join("missing/below"));
        let long: PathBuf = format!("/tmp/{}", "x".repeat(103)).into();
        for path in [&taken, &dead, &below, &long] {
            let ours = UnixListener::bind(path).unwrap_err();
            let std = std_unix::UnixListener::bind(path).unwrap_err();
            assert_eq!(
                (ours.kind(), ours.raw_os_error()),
                (std.kind(), std.raw_os_error()),
                "bind {}",
                path.display()
            );
        }
        for path in [&taken, &dead, &missing, &below, &long] {
            let ours = UnixStream::connect(path).await.unwrap_err();
            let std = std_unix::UnixStream::connect(path).unwrap_err();
            assert_eq!(
                (ours.kind(), ours.raw_os_error()),
                (std.kind(), std.raw_os_error()),
                "connect {}",
                path.display()
            );
        }
        assert_eq!(UnixListener::bind(&taken).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(UnixStream::connect(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            UnixStream::connect(&dead).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(UnixListener::bind(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            UnixStream::connect("").await.unwrap_err().kind(),
            std_unix::UnixStream::connect("").unwrap_err().kind()
        );
    });
}

#[test]
fn a_path_with_a_nul_byte_inside_is_invalid_input_and_makes_no_socket() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("before\0after");
        assert_eq!(
            std_unix::UnixListener::bind(&path).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "std"
        );
        let ours = UnixListener::bind(&path).map_err(|error| error.kind()).map(|_| ());
        let names: Vec<_> = std::fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(
            (ours, names),
            (Err(ErrorKind::InvalidInput), vec![]),
            "the kernel would end the path at the NUL"
        );
        assert_eq!(UnixStream::connect(&path).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn the_longest_path_works() {
    run(async || {
        // In a directory with a short name, since the one under target may be too long already.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let length = 107 - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("x".repeat(length));
        assert_eq!(path.as_os_str().len(), 107);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let client = UnixStream::connect(&path).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
    });
}

#[test]
fn vectored_transfers_go_through_the_buffers_in_order() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let (count, back) = a.write_vectored(vec!["one ", "", "two ", "three"]).await.unwrap();
        assert_eq!((count, back), (13, vec!["one ", "", "two ", "three"]));
        let (count, buffers) =
            b.read_vectored(vec![vec![9; 5], Vec::new(), vec![9; 100], vec![9; 7]]).await.unwrap();
        assert_eq!(
            (count, buffers),
            (13, vec![b"one t".to_vec(), vec![], b"wo three".to_vec(), vec![9; 7]])
        );
        assert_eq!(
            b.read_vectored(vec![Vec::new()]).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let (count, _) = a.write_vectored(vec![b"ab".to_vec(); 1025]).await.unwrap();
        assert_eq!(count, 2048);
    });
}

#[test]
fn reads_without_room_are_refused_and_exact_ones_done_at_once() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        assert_eq!(a.read(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let outcome = a.read_exact(Vec::new()).timeout(SHORT * 10).await;
        assert_eq!(outcome.map_err(|error| error.kind()), Ok(Vec::new()), "as std's `read_exact`");
        drop(b);
    });
}

#[test]
fn several_mebibytes_arrive_whole_and_in_order() {
    const LENGTH: usize = 4 << 20;
    let content = Random::new(seed()).bytes(LENGTH);
    run(async || {
        let (ours, theirs) = std_unix::UnixStream::pair().unwrap();
        for stream in [&ours, &theirs] {
            stream.set_nonblocking(false).unwrap();
        }
        let peer = thread::spawn(move || echo(theirs));
        ours.set_nonblocking(true).unwrap();
        let (reader, writer) = UnixStream::from(ours).into_split();
        let sent = content.clone();
        let writing =
            annulus::spawn(async move { writer.write_all(sent).await.map(|sent| sent.len()) });
        let mut received = Vec::with_capacity(LENGTH + 1);
        loop {
            let count;
            (count, received) = reader.read_append(received).await.unwrap();
            if count == 0 {
                break;
            }
        }
        assert_eq!(writing.await.unwrap().unwrap(), LENGTH);
        assert!(received == content);
        peer.join().unwrap().unwrap();
    });
}

#[test]
fn connecting_to_a_full_queue_waits_for_a_place() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("socket");
        let listener =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let listener =
            UnixListener::from(std_unix::UnixListener::from(std::os::fd::OwnedFd::from(listener)));
        let clients: Vec<_> = (0..4)
            .map(|number: u8| {
                let path = path.clone();
                annulus::spawn(async move {
                    let stream = UnixStream::connect(path).await.unwrap();
                    stream.write_all(vec![number]).await.unwrap();
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for _ in 0..4 {
            let (server, _) = listener.accept().timeout(LONG).await.unwrap();
            numbers.push(server.read_exact(vec![0; 1]).await.unwrap()[0]);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3]);
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn a_listener_of_std_can_be_adopted_blocking_or_not() {
    let scratch = scratch_dir();
    run(async || {
        for nonblocking in [false, true] {
            let path = scratch.path().join(format!("socket-{nonblocking}"));
            let std = std_unix::UnixListener::bind(&path).unwrap();
            std.set_nonblocking(nonblocking).unwrap();
            let listener = UnixListener::from(std);
            let waiting =
                annulus::spawn(async move { listener.accept().await.map(|(stream, _)| stream) });
            annulus::yield_now().await;
            let mut client = std_unix::UnixStream::connect(&path).unwrap();
            let server = waiting.await.unwrap().unwrap();
            client.write_all(b"x").unwrap();
            assert_eq!(server.read_exact(vec![0; 1]).await.unwrap(), b"x");
        }
    });
}

#[test]
fn a_peer_that_reads_no_more_ends_a_write_that_waits() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // More than the socket takes.
        let error = {
            let write = ours.write_all(vec![7; 8 << 20]);
            let stop = async {
                turns(3).await;
                socket2::SockRef::from(&theirs).shutdown(Shutdown::Read).unwrap();
            };
            futures_util::future::join(write, stop).await.0.unwrap_err()
        };
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        assert!(error.transferred() < 8 << 20);
    });
}
