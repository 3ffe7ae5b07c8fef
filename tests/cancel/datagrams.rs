//! A dropped receive never loses a datagram.

use annulus::net::UdpSocket;

use crate::common::{Random, run, seed, size};
use crate::{start_and_drop, turn};

#[test]
fn a_datagram_that_a_dropped_receive_got_goes_to_the_next_one_whole_and_with_its_address() {
    run(async || {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for turns in 0..4 {
            let mut receive = Box::pin(receiver.recv_from(vec![0; 64]));
            assert!(futures_util::poll!(&mut receive).is_pending());
            sender.send_to("first", receiver.local_addr().unwrap()).await.unwrap();
            sender.send_to("", receiver.local_addr().unwrap()).await.unwrap();
            for _ in 0..turns {
                turn().await;
            }
            drop(receive);
            let (count, from, buffer) = receiver.recv_from(vec![0; 64]).await.unwrap();
            assert_eq!((&buffer[..count], from), (&b"first"[..], sender.local_addr().unwrap()));
            let (count, _) = receiver.recv(vec![0; 64]).await.unwrap();
            assert_eq!(count, 0, "an empty datagram is one too");
        }
    });
}

#[test]
fn what_the_next_buffer_has_no_room_for_is_cut_off_as_the_kernel_does() {
    run(async || {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sender.connect(receiver.local_addr().unwrap()).await.unwrap();
        sender.send("long one").await.unwrap();
        sender.send("next").await.unwrap();
        assert!(start_and_drop(receiver.recv(vec![0; 64]), 2).await.is_none());
        assert_eq!(receiver.recv(vec![0; 4]).await.unwrap(), (4, b"long".to_vec()));
        assert_eq!(receiver.recv(vec![0; 4]).await.unwrap(), (4, b"next".to_vec()));
    });
}

#[test]
fn datagrams_come_in_order_through_receives_dropped_at_random() {
    let total = size(20_000).min(1_000_000);
    let random = Random::new(seed());
    run(async || {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sender.connect(receiver.local_addr().unwrap()).await.unwrap();
        for number in 0..total {
            sender.send(number.to_le_bytes().to_vec()).await.unwrap();
            let mut received = None;
            while received.is_none() && random.below(2) == 0 {
                received = start_and_drop(receiver.recv_from(vec![0; 8]), random.below(3)).await;
            }
            let received = match received {
                Some(received) => received,
                None => receiver.recv_from(vec![0; 8]).await,
            };
            assert_eq!(received.unwrap().2, number.to_le_bytes());
        }
    });
}
