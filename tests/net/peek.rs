//! Looking at what has come without taking it.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use annulus::net::{UdpSocket, UnixStream};
use futures_util::StreamExt;

use crate::common::{Pool, run, turns};
use crate::{LONG, SHORT, tcp_pair};

#[test]
fn what_was_peeked_at_is_read_again() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.write_all(b"question").unwrap();
        assert_eq!(ours.peek(vec![0; 4]).await.unwrap(), (4, b"ques".to_vec()));
        let (count, buffer) = ours.peek(Vec::with_capacity(100)).await.unwrap();
        assert_eq!((count, &buffer[..]), (8, &b"question"[..]));
        assert_eq!(ours.read(vec![0; 100]).await.unwrap().1, b"question");
        theirs.write_all(b"more").unwrap();
        let (reading, _writing) = ours.into_split();
        assert_eq!(reading.peek(vec![0; 100]).await.unwrap().1, b"more");
        assert_eq!(reading.read(vec![0; 100]).await.unwrap().1, b"more");
        drop(theirs);
        for _ in 0..2 {
            assert_eq!(reading.peek(vec![0; 100]).await.unwrap().0, 0, "the end");
        }
        assert_eq!(reading.read(vec![0; 100]).await.unwrap().0, 0);
    });
}

#[test]
fn a_peek_waits_for_the_first_byte_and_uses_no_time_for_it() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peek = ours.peek(vec![0; 8]);
        let late = ours.read(Vec::with_capacity(8));
        let send = async {
            turns(5).await;
            let flying = annulus::metrics().operations_in_flight;
            assert_eq!(flying, 1, "the read waits for its turn");
            theirs.write_all("abc").await.unwrap();
        };
        let (peeked, read, ()) = futures_util::join!(peek, late, send);
        assert_eq!((peeked.unwrap().1, read.unwrap().1), (b"abc".to_vec(), b"abc".to_vec()));
        let before = annulus::metrics().enters;
        let error = ours.peek(vec![0; 8]).timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(annulus::metrics().enters - before < 20, "it sleeps while it waits");
    });
}

#[test]
fn bytes_that_a_dropped_read_left_are_seen_and_stay() {
    run(async || {
        for rounds in 0..4 {
            let (ours, mut theirs) = tcp_pair().await;
            let mut read = Box::pin(ours.read(vec![0; 3]));
            assert!(futures_util::poll!(&mut read).is_pending());
            theirs.write_all(b"abcdef").unwrap();
            turns(rounds).await;
            drop(read);
            let (count, buffer) = ours.peek(vec![0; 2]).timeout(LONG).await.unwrap();
            assert_eq!(&buffer[..count], b"ab");
            // What is left is seen alone, else all is in the kernel still.
            let (count, buffer) = ours.peek(vec![0; 6]).await.unwrap();
            assert!(count == 3 || count == 6, "{count}");
            assert_eq!(buffer[..count], b"abcdef"[..count]);
            assert_eq!(ours.read_exact(vec![0; 6]).await.unwrap(), b"abcdef");
        }
    });
}

#[test]
fn a_chunk_that_was_left_is_seen_and_stays() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut chunks = ours.chunks();
        assert!(futures_util::poll!(chunks.next()).is_pending());
        theirs.write_all("in a chunk").await.unwrap();
        turns(2).await;
        drop(chunks);
        assert_eq!(ours.peek(vec![0; 4]).await.unwrap().1, b"in a");
        assert_eq!(ours.read_chunk().await.unwrap(), b"in a chunk");
    });
}

#[test]
fn a_dropped_peek_takes_nothing_and_gives_its_buffer_back() {
    run(async || {
        let pool = Pool::default();
        for rounds in 0..4 {
            let (ours, mut theirs) = tcp_pair().await;
            let mut peek = Box::pin(ours.peek(pool.empty(8)));
            assert!(futures_util::poll!(&mut peek).is_pending());
            theirs.write_all(b"kept").unwrap();
            turns(rounds).await;
            drop(peek);
            assert_eq!(ours.read_exact(vec![0; 4]).await.unwrap(), b"kept");
        }
        pool.assert_all_back();
        drop(tcp_pair().await.0.peek(pool.empty(8)));
        pool.assert_all_back();
    });
}

#[test]
fn a_peek_without_room_is_invalid_input_and_an_error_is_the_sockets() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        assert_eq!(ours.peek(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        let error = ours.peek(vec![1, 2]).timeout(LONG).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert_eq!(error.into_buffer(), [1, 2]);
    });
}

#[test]
fn a_datagram_that_was_peeked_at_is_received_again() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        theirs.connect(ours.local_addr().unwrap()).unwrap();
        let from = theirs.local_addr().unwrap();
        theirs.send(b"first").unwrap();
        theirs.send(b"second").unwrap();
        assert_eq!(ours.peek(vec![0; 3]).await.unwrap(), (3, b"fir".to_vec()));
        assert_eq!(ours.peek_from(vec![0; 9]).await.unwrap(), (5, from, b"first".to_vec()));
        assert_eq!(ours.recv_from(vec![0; 9]).await.unwrap(), (5, from, b"first".to_vec()));
        assert_eq!(ours.peek(vec![0; 9]).await.unwrap().1, b"second");
        assert_eq!(ours.recv(vec![0; 9]).await.unwrap().1, b"second");
        assert_eq!(ours.peek(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let late = ours.peek_from(vec![0; 9]).timeout(SHORT).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_datagram_that_a_dropped_receive_left_is_seen_and_stays() {
    run(async || {
        for rounds in 0..4 {
            let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            theirs.connect(ours.local_addr().unwrap()).unwrap();
            let from = theirs.local_addr().unwrap();
            let mut receive = Box::pin(ours.recv_from(vec![0; 9]));
            assert!(futures_util::poll!(&mut receive).is_pending());
            theirs.send(b"first").unwrap();
            theirs.send(b"second").unwrap();
            turns(rounds).await;
            drop(receive);
            for _ in 0..2 {
                assert_eq!(ours.peek_from(vec![0; 9]).await.unwrap(), (5, from, b"first".to_vec()));
                assert_eq!(ours.peek(vec![0; 2]).await.unwrap().1, b"fi");
            }
            // A dropped peek leaves it, too.
            let mut peek = Box::pin(ours.peek(vec![0; 9]));
            let _ = futures_util::poll!(&mut peek);
            turns(rounds).await;
            drop(peek);
            assert_eq!(ours.recv(vec![0; 9]).await.unwrap().1, b"first");
            assert_eq!(ours.recv(vec![0; 9]).await.unwrap().1, b"second");
        }
    });
}
