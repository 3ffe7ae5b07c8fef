//! Datagrams in buffers of the runtime.

use annulus::net::UdpSocket;
use annulus::{Builder, metrics};
use futures_util::StreamExt;

use crate::common::{apart, build_runtime, run, turns};

async fn socket(address: &str) -> (UdpSocket, std::net::UdpSocket) {
    let ours = UdpSocket::bind(address).await.unwrap();
    let theirs = std::net::UdpSocket::bind(address).unwrap();
    theirs.connect(ours.local_addr().unwrap()).unwrap();
    (ours, theirs)
}

#[test]
fn datagrams_come_whole_and_in_order_with_their_addresses_over_both_families() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (ours, theirs) = socket(address).await;
            let mut datagrams = ours.datagrams();
            for round in 0..500usize {
                let sent = vec![round as u8; round * 13 % 4000];
                theirs.send(&sent).unwrap();
                let datagram = datagrams.next().await.unwrap().unwrap();
                assert_eq!(
                    (datagram.from, datagram.truncated),
                    (theirs.local_addr().unwrap(), false)
                );
                assert_eq!(datagram.chunk, sent);
                ours.send_to(datagram.chunk, datagram.from).await.unwrap();
                let mut answer = vec![0; 4000];
                let count = theirs.recv(&mut answer).unwrap();
                assert_eq!(answer[..count], sent);
            }
        }
        assert_eq!(metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn a_datagram_that_is_too_long_is_cut_off_and_says_so() {
    apart(|| {
        build_runtime(Builder::new().chunk_size(144)).block_on(async {
            let (ours, theirs) = socket("127.0.0.1:0").await;
            let mut datagrams = ours.datagrams();
            for length in [99, 100, 101, 5000, 0, 1] {
                theirs.send(&vec![7; length]).unwrap();
                let datagram = datagrams.next().await.unwrap().unwrap();
                assert_eq!(
                    (datagram.chunk.len(), datagram.truncated),
                    (length.min(100), length > 100)
                );
            }
        });
    });
}

#[test]
fn datagrams_of_a_dropped_stream_wait_for_the_next_receive() {
    run(async || {
        for rounds in 0..4 {
            let (ours, theirs) = socket("127.0.0.1:0").await;
            let mut datagrams = ours.datagrams();
            assert!(futures_util::poll!(datagrams.next()).is_pending());
            for number in 0..3u8 {
                theirs.send(&[number; 8]).unwrap();
                turns(rounds).await;
            }
            drop(datagrams);
            let from = theirs.local_addr().unwrap();
            assert_eq!(ours.recv_from(vec![0; 8]).await.unwrap(), (8, from, vec![0; 8]));
            let mut datagrams = ours.datagrams();
            for number in 1..3u8 {
                let datagram = datagrams.next().await.unwrap().unwrap();
                assert_eq!((&datagram.chunk[..], datagram.from), (&[number; 8][..], from));
            }
        }
    });
}

#[test]
fn an_error_of_the_socket_comes_out_and_the_stream_goes_on() {
    run(async || {
        let (ours, theirs) = socket("127.0.0.1:0").await;
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.connect(gone.local_addr().unwrap()).await.unwrap();
        drop(gone);
        let mut datagrams = ours.datagrams();
        assert!(futures_util::poll!(datagrams.next()).is_pending());
        let _ = ours.send("nobody is there").await;
        assert_eq!(
            datagrams.next().await.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        ours.connect(theirs.local_addr().unwrap()).await.unwrap();
        theirs.send(b"somebody is").unwrap();
        assert_eq!(datagrams.next().await.unwrap().unwrap().chunk, b"somebody is");
    });
}
