//! Several datagrams in one submission.

use std::io::ErrorKind;

use annulus::metrics;
use annulus::net::{Ecn, MessageOptions, UdpSocket};

use crate::common::{Pool, run, turns};

#[test]
fn a_batch_goes_out_in_order_by_one_submission() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = MessageOptions::new().to(ours.local_addr().unwrap());
        let before = metrics();
        let batch: Vec<_> = (0..40u8).map(|number| (vec![number; 100], to)).collect();
        let sent = theirs.send_batch(batch).await;
        let after = metrics();
        assert_eq!(after.operations - before.operations, 40);
        assert!(after.enters - before.enters <= 2, "{}", after.enters - before.enters);
        assert_eq!(sent.len(), 40);
        for (number, sent) in (0..40u8).zip(sent) {
            assert_eq!(sent.unwrap(), (100, vec![number; 100]));
            assert_eq!(ours.recv(vec![0; 200]).await.unwrap().1, [number; 100]);
        }
    });
}

#[test]
fn each_datagram_has_its_own_address_and_options() {
    run(async || {
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut receivers = Vec::new();
        for _ in 0..3 {
            let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            receiver.set_recv_tos(true).unwrap();
            receivers.push(receiver);
        }
        let marks = [Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
        let to = |index: usize| {
            let address = receivers[index].local_addr().unwrap();
            MessageOptions::new().to(address).ecn(marks[index])
        };
        for sent in theirs.send_batch((0..3).map(|index| ("text", to(index)))).await {
            sent.unwrap();
        }
        for (receiver, mark) in receivers.iter().zip(marks) {
            assert_eq!(receiver.recv_msg(vec![0; 9]).await.unwrap().1.ecn(), Some(mark));
        }
    });
}

#[test]
fn a_datagram_that_fails_tells_so_and_the_others_go_out() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = MessageOptions::new().to(ours.local_addr().unwrap());
        let nowhere = MessageOptions::new();
        let batch =
            [(vec![1; 10], to), (vec![2; 70_000], to), (vec![3; 10], nowhere), (vec![4; 10], to)];
        let mut sent = theirs.send_batch(batch).await.into_iter();
        assert_eq!(sent.next().unwrap().unwrap(), (10, vec![1; 10]));
        let error = sent.next().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(error.into_buffer(), vec![2; 70_000]);
        let error = sent.next().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDESTADDRREQ));
        assert_eq!(sent.next().unwrap().unwrap().0, 10);
        assert_eq!(ours.recv(vec![0; 20]).await.unwrap().1, [1; 10]);
        assert_eq!(ours.recv(vec![0; 20]).await.unwrap().1, [4; 10]);
        assert!(theirs.send_batch::<Vec<u8>>([]).await.is_empty());
    });
}

#[test]
fn a_dropped_batch_gives_its_buffers_back_and_later_sends_come_after_it() {
    run(async || {
        let pool = Pool::default();
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = MessageOptions::new().to(ours.local_addr().unwrap());
        drop(theirs.send_batch((0..5).map(|_| (pool.filled("never polled"), to))));
        for rounds in 0..3 {
            let mut batch = theirs.send_batch((0..5).map(|_| (pool.filled("perhaps"), to)));
            assert!(futures_util::poll!(&mut batch).is_pending());
            turns(rounds).await;
            drop(batch);
            theirs.send_msg("surely", &to).await.unwrap();
            let mut before = 0;
            loop {
                match &ours.recv(vec![0; 20]).await.unwrap().1[..] {
                    b"perhaps" => before += 1,
                    other => break assert_eq!(other, b"surely"),
                }
            }
            assert!(before <= 5);
            let late = ours.recv(vec![0; 20]).timeout(crate::SHORT).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut, "nothing of the batch comes later");
        }
        pool.assert_all_back();
    });
}
