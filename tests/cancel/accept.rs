//! A dropped accept never loses a connection.

// One test lowers a limit of its process.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::time::Duration;

use annulus::net::{TcpListener, UnixListener};
use annulus::time;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, pin_mut};

use crate::common::{Random, open_descriptors, run, seed, size};
use crate::{start_and_drop, turn};

/// A client that sends one byte, and the byte that the server got.
async fn serve_one(listener: &TcpListener, client: &mut StdStream, byte: u8) {
    client.write_all(&[byte]).unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(stream.read_exact(vec![0; 1]).await.unwrap(), [byte]);
}

#[test]
fn a_connection_that_a_dropped_accept_took_goes_to_the_next_one() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for turns in 0..4 {
            let mut client = None;
            let mut accept = Box::pin(listener.accept());
            assert!(futures_util::poll!(&mut accept).is_pending());
            for turn_number in 0..turns {
                if turn_number == turns / 2 {
                    client = Some(StdStream::connect(listener.local_addr().unwrap()).unwrap());
                }
                turn().await;
            }
            drop(accept);
            let mut client = client
                .unwrap_or_else(|| StdStream::connect(listener.local_addr().unwrap()).unwrap());
            serve_one(&listener, &mut client, turns as u8).await;
        }
    });
}

#[test]
fn a_parked_accept_takes_one_connection_and_the_backlog_keeps_the_rest_in_order() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(start_and_drop(listener.accept(), 2).await.is_none());
        let before = annulus::metrics().operations_in_flight;
        let mut clients: Vec<_> =
            (0..10).map(|_| StdStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        for _ in 0..5 {
            turn().await;
        }
        assert_eq!(before, 1, "one accept is parked");
        assert_eq!(annulus::metrics().operations_in_flight, 0, "and it ended with one connection");
        for (number, client) in clients.iter_mut().enumerate() {
            serve_one(&listener, client, number as u8).await;
        }
    });
}

#[test]
fn a_listener_that_goes_closes_what_nobody_claimed_and_ends_what_is_parked() {
    run(async || {
        let before = open_descriptors();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(start_and_drop(listener.accept(), 2).await.is_none());
        let mut client = StdStream::connect(address).unwrap();
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        drop(listener);
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "the unclaimed connection is closed");
        drop(client);
        assert_eq!(open_descriptors(), before);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(start_and_drop(listener.accept(), 2).await.is_none());
        listener.close().await.unwrap();
        assert_eq!(annulus::metrics().operations_in_flight, 0);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn accepts_that_wait_at_the_same_time_each_get_a_connection() {
    run(async || {
        let listener = std::rc::Rc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let listener = std::rc::Rc::clone(&listener);
                annulus::spawn(async move { listener.accept().await.unwrap().1 })
            })
            .collect();
        turn().await;
        // One that waits its turn, and one that is in flight, go away.
        waiting[0].abort();
        waiting[3].abort();
        let clients: Vec<_> =
            (0..6).map(|_| StdStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let mut peers = Vec::new();
        for task in waiting {
            peers.extend(task.await.ok());
        }
        let mut expected: Vec<_> =
            clients.iter().map(|client| client.local_addr().unwrap()).collect();
        peers.sort();
        expected.sort();
        assert_eq!(peers, expected);
    });
}

#[test]
fn a_cancelled_accept_and_one_that_timed_out_leave_the_connection_to_the_next() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let late = listener.accept().timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        assert!(time::timeout(Duration::from_millis(1), listener.accept()).await.is_err());
        let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        serve_one(&listener, &mut client, 9).await;
    });
}

#[test]
fn select_between_accept_and_a_timer_serves_every_connection() {
    let connections = size(100_000);
    let random = Random::new(seed());
    run(async || {
        // An abstract Unix name: TCP would run out of ports at this rate.
        let name = format!("\0annulus-lossless-{}", std::process::id());
        let listener = UnixListener::bind(&name).unwrap();
        let clients = std::thread::spawn(move || {
            let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
            for number in 0..connections {
                let mut client = StdUnixStream::connect_addr(&address).unwrap();
                client.write_all(&number.to_le_bytes()).unwrap();
                if number % 64 == 0 {
                    // The server's answer keeps the backlog from filling up with all of them.
                    client.read_exact(&mut [0]).unwrap();
                }
            }
        });
        let (mut served, mut sum, mut timer_won) = (0, 0u64, 0u64);
        while served < connections {
            let accept = listener.accept();
            // Zero is one turn of the ring, about as long as an accept takes.
            let sleep =
                time::sleep(Duration::from_micros((random.below(2) * random.below(1500)) as u64));
            pin_mut!(accept, sleep);
            match select(accept, sleep).await {
                Either::Left((accepted, _)) => {
                    let (stream, _) = accepted.unwrap();
                    let number = stream.read_exact(vec![0; 8]).await.unwrap();
                    sum += u64::from_le_bytes(number.try_into().unwrap());
                    served += 1;
                    let _ = stream.write_all("!").await;
                }
                Either::Right(_) => timer_won += 1,
            }
        }
        clients.join().unwrap();
        println!("{served} connections, the timer won {timer_won} times");
        assert_eq!(sum, connections * (connections - 1) / 2, "each connection once");
    });
}

#[test]
fn the_stream_of_connections_brings_each_once_and_hands_the_rest_to_accept() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = || StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut clients: Vec<_> = (0..20).map(|_| connect()).collect();
        let mut incoming = listener.incoming();
        let mut served = Vec::new();
        for _ in 0..5 {
            served.push(incoming.next().await.unwrap().unwrap());
        }
        clients.push(connect());
        turn().await;
        drop(incoming);
        for _ in 5..10 {
            served.push(listener.accept().await.unwrap().0);
        }
        let mut incoming = listener.incoming();
        while served.len() < clients.len() {
            served.push(incoming.next().await.unwrap().unwrap());
        }
        let mut peers: Vec<_> = served.iter().map(|stream| stream.peer_addr().unwrap()).collect();
        let mut expected: Vec<_> =
            clients.iter().map(|client| client.local_addr().unwrap()).collect();
        peers.sort();
        expected.sort();
        assert_eq!(peers, expected);
    });
}

#[test]
fn the_stream_stops_at_its_limit_and_goes_on_when_connections_are_claimed() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = || StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let before = open_descriptors().len();
        let mut incoming = listener.incoming().limit(4);
        let mut clients = vec![connect()];
        let mut served = vec![incoming.next().await.unwrap().unwrap()];
        // One after the other, since what one system call accepts comes whole.
        for _ in 0..30 {
            clients.push(connect());
            turn().await;
        }
        let accepted = open_descriptors().len() - before - clients.len();
        assert!(
            (4..12).contains(&accepted),
            "{accepted} connections were accepted with a limit of 4 and one claimed"
        );
        while served.len() < clients.len() {
            served.push(incoming.next().await.unwrap().unwrap());
        }
    });
}

#[test]
fn want_of_descriptors_neither_ends_nor_spins_the_stream() {
    crate::common::in_own_process(|| {
        annulus::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut clients: Vec<_> = (0..8)
                .map(|_| StdStream::connect(listener.local_addr().unwrap()).unwrap())
                .collect();
            let limit = open_descriptors().len() as u64 + 2;
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: the call reads the structure and keeps nothing. This process runs this test
            // alone.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let mut incoming = listener.incoming();
            let (mut served, mut failures) = (0, 0);
            let before = annulus::metrics().enters;
            let mut held = Vec::new();
            while served < clients.len() {
                match incoming.next().await.unwrap() {
                    Ok(stream) => {
                        held.push(stream);
                        served += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                        failures += 1;
                        if failures % 3 == 0 {
                            held.clear();
                        }
                    }
                }
            }
            assert!(failures >= 3, "the limit was met");
            let enters = annulus::metrics().enters - before;
            assert!(enters < 40 * (failures + 1), "{enters} enters for {failures} failures");
            drop(held);
            // The clients block this thread, so the closes must be on their way.
            turn().await;
            for client in &mut clients {
                assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "each was accepted and closed");
            }
        });
    });
}

#[test]
fn a_stream_dropped_at_random_loses_no_connection() {
    let connections = size(20_000).min(100_000);
    let random = Random::new(seed());
    run(async || {
        let name = format!("\0annulus-incoming-{}", std::process::id());
        let listener = UnixListener::bind(&name).unwrap();
        let clients = std::thread::spawn(move || {
            let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
            for number in 0..connections {
                let mut client = StdUnixStream::connect_addr(&address).unwrap();
                client.write_all(&number.to_le_bytes()).unwrap();
            }
        });
        let (mut served, mut sum) = (0, 0u64);
        while served < connections {
            let mut incoming = listener.incoming().limit(1 + random.below(8));
            for _ in 0..random.below(20) {
                let sleep = time::sleep(Duration::ZERO);
                pin_mut!(sleep);
                let Either::Left((accepted, _)) = select(incoming.next(), sleep).await else {
                    continue;
                };
                let number = accepted.unwrap().unwrap().read_exact(vec![0; 8]).await.unwrap();
                sum += u64::from_le_bytes(number.try_into().unwrap());
                served += 1;
            }
        }
        clients.join().unwrap();
        assert_eq!(sum, connections * (connections - 1) / 2, "each connection once");
    });
}
