//! Connecting to several addresses of which some do not answer: RFC 8305.

use std::io::ErrorKind;
use std::net as std_net;
use std::time::{Duration, Instant};

use annulus::net::TcpStream;
use annulus::time;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::common::{in_own_process, open_descriptors, poll_in_task, quiet, run, turns};
use crate::limits::{leave_room_for, set_limit};
use crate::{has_ipv6, refusing};

/// RFC 8305, section 5.
const DELAY: Duration = Duration::from_millis(250);

/// A listener that answers nobody any more: its queue is full. The connections in it go with it.
struct BlackHole {
    _listener: Socket,
    _waiting: Vec<Socket>,
    address: std_net::SocketAddr,
}

fn black_hole(domain: Domain) -> BlackHole {
    let (listener, address) = refusing(domain).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let full = socket.connect_timeout(&SockAddr::from(address), Duration::from_millis(100));
        waiting.push(socket);
        if full.is_err() {
            return BlackHole { _listener: listener, _waiting: waiting, address };
        }
        assert!(waiting.len() < 100, "the queue has no end");
    }
}

fn listening(address: &str) -> (std_net::TcpListener, std_net::SocketAddr) {
    let listener = std_net::TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn an_address_that_does_not_answer_delays_the_next_by_a_quarter_of_a_second() {
    run(async || {
        let hole = black_hole(Domain::IPV4);
        let (listener, good) = listening("127.0.0.1:0");
        let before = open_descriptors();
        let began = Instant::now();
        let stream = TcpStream::connect(vec![hole.address, good]).await.unwrap();
        assert!(began.elapsed() >= DELAY);
        assert_eq!(stream.peer_addr().unwrap(), good);
        let (_server, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        drop((stream, _server));
        // The loser is closed with the win.
        quiet().await;
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn the_first_address_wins_if_it_answers_and_nobody_else_is_asked() {
    run(async || {
        let (_first, first) = listening("127.0.0.1:0");
        let (second_listener, second) = listening("127.0.0.1:0");
        let stream = TcpStream::connect(vec![first, second]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), first);
        second_listener.set_nonblocking(true).unwrap();
        assert_eq!(second_listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn the_other_family_comes_second() {
    run(async || {
        if !has_ipv6() {
            return;
        }
        let (hole, other_hole) = (black_hole(Domain::IPV6), black_hole(Domain::IPV6));
        let (_listener, good) = listening("127.0.0.1:0");
        let began = Instant::now();
        let list = vec![hole.address, other_hole.address, good];
        let stream = TcpStream::connect(list).await.unwrap();
        let took = began.elapsed();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(took >= DELAY);
        // The order as given takes two delays at the least. A busy machine may take as long, too.
        println!("one delay is 250 ms, and it took {took:?}");
    });
}

#[test]
fn an_attempt_that_fails_lets_the_next_begin_at_once() {
    run(async || {
        let (_socket, refused) = refusing(Domain::IPV4).unwrap();
        let (_listener, good) = listening("127.0.0.1:0");
        // A hundred delays would be longer than any test may take.
        let mut list = vec![refused; 500];
        list.push(good);
        let stream = TcpStream::connect(list).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
    });
}

#[test]
fn an_attempt_that_waits_goes_on_while_others_fail_and_its_error_is_the_last() {
    run(async || {
        let hole = black_hole(Domain::IPV4);
        let (_socket, refused) = refusing(Domain::IPV4).unwrap();
        let list = vec![hole.address, refused, refused];
        let mut connect = Box::pin(TcpStream::connect(list));
        let waited = time::timeout(DELAY * 2, &mut connect).await;
        assert!(waited.is_err(), "the first address may still answer: {waited:?}");
        drop(connect);
        quiet().await;
    });
}

#[test]
fn a_connect_that_is_dropped_leaves_nothing_open_at_any_stage() {
    run(async || {
        let holes = [black_hole(Domain::IPV4), black_hole(Domain::IPV4)];
        let list: Vec<_> = holes.iter().map(|hole| hole.address).collect();
        let before = open_descriptors();
        for stage in 0..4 {
            let mut connect = Box::pin(TcpStream::connect(list.clone()));
            if stage > 0 {
                assert!(poll_in_task(&mut connect).await.is_pending());
            }
            turns(stage).await;
            if stage == 3 {
                // Both attempts are under way.
                assert!(time::timeout(DELAY + DELAY / 2, &mut connect).await.is_err());
                assert_eq!(open_descriptors().len(), before.len() + 2);
            }
            drop(connect);
            quiet().await;
            assert_eq!(open_descriptors(), before, "dropped at stage {stage}");
        }
    });
}

#[test]
fn a_connect_has_a_time_limit() {
    run(async || {
        let hole = black_hole(Domain::IPV4);
        let error = TcpStream::connect_timeout(&hole.address, crate::SHORT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = TcpStream::connect_timeout(&hole.address, Duration::ZERO).await.unwrap_err();
        let std = std_net::TcpStream::connect_timeout(&hole.address, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), std.kind());
        let (_listener, good) = listening("127.0.0.1:0");
        let stream = TcpStream::connect_timeout(&good, crate::LONG).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let (_socket, refused) = refusing(Domain::IPV4).unwrap();
        let error = TcpStream::connect_timeout(&refused, crate::LONG).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn want_of_descriptors_is_told_whatever_the_addresses() {
    in_own_process(|| {
        run(async || {
            let (_listener, good) = listening("127.0.0.1:0");
            let hole = black_hole(Domain::IPV4);
            leave_room_for(0);
            for list in [vec![good], vec![good, good]] {
                let error = TcpStream::connect(list).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            }
            // One number, which the first attempt has. It has the time that it takes.
            set_limit(u64::MAX);
            leave_room_for(1);
            let mut connect = Box::pin(TcpStream::connect(vec![hole.address, good]));
            assert!(time::timeout(DELAY * 2, &mut connect).await.is_err());
            drop(connect);
            quiet().await;
            let stream = TcpStream::connect(vec![good, hole.address]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            set_limit(u64::MAX);
        });
    });
}
