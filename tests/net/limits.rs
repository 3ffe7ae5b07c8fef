//! The limit on descriptors.

use std::io::{ErrorKind, Read, Write};
use std::net as std_net;

use annulus::net::{TcpListener, TcpStream, UnixStream};

use crate::common::{in_own_process, open_descriptors, run, turns};

/// Sets this process's limit such that as many more descriptors can be opened. The limit bounds the
/// number, so gaps below count.
pub(crate) fn leave_room_for(count: usize) {
    let open = open_descriptors();
    let limit = (0..).scan(0, |free, number| {
        *free += usize::from(!open.contains_key(&number));
        Some((*free, number))
    });
    let (_, last) = limit.into_iter().find(|(free, _)| *free == count + 1).unwrap();
    set_limit(last as u64);
}

pub(crate) fn set_limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is exclusively borrowed for the calls. This process has no other test.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn a_read_chunk_without_memory_for_buffers_says_so_and_loses_nothing() {
    in_own_process(|| {
        // More address space than is left.
        let builder = annulus::Builder::new().chunk_size(1 << 20).chunks(4096..=4096);
        builder.build().expect("a ring").block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all("not lost").await.unwrap();
            let unlimited = limit_address_space(2 << 30);
            for _ in 0..3 {
                let error = theirs.read_chunk().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{error}");
                // One that is dropped leaves no error for the next.
                assert!(futures_util::poll!(Box::pin(theirs.read_chunk())).is_pending());
                turns(2).await;
            }
            limit_address_space(unlimited);
            assert_eq!(theirs.read_chunk().await.unwrap(), b"not lost");
        });
    });
}

/// Sets how much memory this process may map, and returns what the limit was.
fn limit_address_space(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is exclusively borrowed for the calls. This process has no other test.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, soft);
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        before
    }
}

#[test]
fn an_accept_without_a_descriptor_is_emfile_and_loses_no_connection() {
    const CLIENTS: usize = 10;
    in_own_process(|| {
        run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut clients: Vec<_> =
                (0..CLIENTS).map(|_| std_net::TcpStream::connect(address).unwrap()).collect();
            leave_room_for(2);
            let mut served = vec![false; CLIENTS];
            let mut open: Vec<(TcpStream, std_net::SocketAddr)> =
                vec![listener.accept().await.unwrap(), listener.accept().await.unwrap()];
            while served.iter().any(|served| !served) {
                for _ in 0..3 {
                    let error = listener.accept().await.unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                }
                let error = TcpStream::connect(address).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                let error = UnixStream::pair().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                let (stream, peer) = open.remove(0);
                let index =
                    clients.iter().position(|client| client.local_addr().unwrap() == peer).unwrap();
                stream.write_all("served").await.unwrap();
                stream.close().await.unwrap();
                let mut answer = [0; 6];
                clients[index].read_exact(&mut answer).unwrap();
                assert!(!std::mem::replace(&mut served[index], true), "each client once");
                if served.iter().filter(|served| **served).count() + open.len() < CLIENTS {
                    open.push(listener.accept().await.unwrap());
                } else {
                    // Nobody waits any more: a new client, which is itself a descriptor, shows that
                    // the listener goes on.
                    leave_room_for(1);
                    clients.push(std_net::TcpStream::connect(address).unwrap());
                    let error = listener.accept().await.unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    set_limit(1024);
                    let (last, peer) = listener.accept().await.unwrap();
                    assert_eq!(peer, clients[CLIENTS].local_addr().unwrap());
                    drop(last);
                    break;
                }
            }
            set_limit(1024);
            for (stream, peer) in open {
                let index =
                    clients.iter().position(|client| client.local_addr().unwrap() == peer).unwrap();
                stream.write_all("served").await.unwrap();
                assert!(!std::mem::replace(&mut served[index], true), "each client once");
            }
            assert!(served.iter().all(|served| *served), "{served:?}");
            clients[0].write_all(b"x").unwrap();
        });
    });
}

#[test]
fn a_file_without_a_descriptor_is_emfile() {
    in_own_process(|| {
        run(async || {
            leave_room_for(1);
            let one = annulus::fs::File::open("/dev/null").await.unwrap();
            let error = annulus::fs::File::open("/dev/null").await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert_ne!(error.kind(), ErrorKind::NotFound);
            one.close().await.unwrap();
            annulus::fs::File::open("/dev/null").await.unwrap();
            set_limit(1024);
        });
    });
}

#[test]
fn descriptors_that_were_just_dropped_are_there_for_the_next_socket() {
    in_own_process(|| {
        run(async || {
            leave_room_for(20);
            for _ in 0..10 {
                let mut pairs = Vec::new();
                while let Ok(pair) = UnixStream::pair() {
                    pairs.push(pair);
                }
                assert!(pairs.len() >= 9, "{} pairs fit", pairs.len());
                drop(pairs);
            }
        });
    });
}

#[test]
fn a_connect_that_fails_for_want_of_descriptors_lets_the_ring_turn() {
    in_own_process(|| {
        run(async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            leave_room_for(4);
            let mut held: Vec<_> = std::iter::from_fn(|| UnixStream::pair().ok()).collect();
            // With its read dropped in flight, a stream goes only when the ring has turned, so
            // connecting at once fails some times.
            for (stream, _) in &held {
                let _ = futures_util::poll!(Box::pin(stream.read(vec![0; 1])));
            }
            held.clear();
            let mut tries = 1;
            while TcpStream::connect(address).await.is_err() {
                tries += 1;
                assert!(tries < 100, "the closes never go out");
            }
        });
    });
}
