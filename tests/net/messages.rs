//! Datagrams with what is told of them: addresses, ECN, segments, and what was cut off.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use annulus::Builder;
use annulus::net::{Ecn, MessageOptions, SocketAddr, UdpSocket};
use futures_util::StreamExt;

use crate::common::{Pool, apart, build_runtime, run, turns};
use crate::{LONG, has_ipv6};

/// A socket that is told everything, at an address, and one that sends.
async fn pair(address: &str) -> (UdpSocket, UdpSocket, SocketAddr) {
    let (ours, theirs) =
        (UdpSocket::bind(address).await.unwrap(), UdpSocket::bind(address).await.unwrap());
    ours.set_recv_pktinfo(true).unwrap();
    ours.set_recv_tos(true).unwrap();
    assert!(ours.recv_pktinfo().unwrap() && ours.recv_tos().unwrap());
    let here = ours.local_addr().unwrap();
    (ours, theirs, here)
}

fn addresses() -> Vec<&'static str> {
    let mut addresses = vec!["127.0.0.1:0"];
    if has_ipv6() {
        addresses.push("[::1]:0");
    }
    addresses
}

#[test]
fn address_interface_and_ecn_are_told_over_both_families() {
    run(async || {
        for address in addresses() {
            let (ours, theirs, here) = pair(address).await;
            for ecn in [Ecn::Ect0, Ecn::Ect1, Ecn::Ce, Ecn::NotEct] {
                let options = MessageOptions::new().to(here).ecn(ecn);
                assert_eq!(theirs.send_msg("text", &options).await.unwrap(), (4, "text"));
                let (count, info, buffer) = ours.recv_msg(Vec::with_capacity(9)).await.unwrap();
                assert_eq!((count, &buffer[..]), (4, &b"text"[..]));
                assert_eq!(info.from, theirs.local_addr().unwrap());
                assert_eq!((info.local, info.ecn()), (Some(here.ip()), Some(ecn)));
                assert_ne!(info.interface, Some(0));
                assert!(info.interface.is_some() && !info.truncated && !info.control_truncated);
                assert_eq!(info.segment_size, None);
            }
            let options = MessageOptions::new().to(here).traffic_class(0xb8).ecn(Ecn::Ect0);
            theirs.send_msg("text", &options).await.unwrap();
            let (_, info, _) = ours.recv_msg(vec![0; 9]).await.unwrap();
            assert_eq!(info.traffic_class, Some(0xba));
        }
    });
}

#[test]
fn nothing_is_told_that_was_not_asked_for() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        theirs.connect(ours.local_addr().unwrap()).await.unwrap();
        theirs.send_msg("to the peer", &MessageOptions::new().ecn(Ecn::Ce)).await.unwrap();
        let (count, info, _) = ours.recv_msg(vec![0; 20]).await.unwrap();
        assert_eq!((count, info.local, info.interface, info.traffic_class), (11, None, None, None));
        assert_eq!(info.ecn(), None);
    });
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    run(async || {
        let server = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        server.set_recv_pktinfo(true).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for last in [1, 2, 77] {
            let asked = IpAddr::from([127, 0, 0, last]);
            client.send_to("?", (asked, port).into()).await.unwrap();
            let (_, info, _) = server.recv_msg(vec![0; 9]).await.unwrap();
            assert_eq!(info.local, Some(asked));
            let answer = MessageOptions::new().to(info.from).source(asked);
            server.send_msg("!", &answer).await.unwrap();
            let (_, from, _) = client.recv_from(vec![0; 9]).await.unwrap();
            assert_eq!(from, (asked, port).into());
            // By an interface, with the address left to the kernel.
            let by = answer.interface(info.interface.unwrap());
            server.send_msg("!", &by).await.unwrap();
            assert_eq!(client.recv_from(vec![0; 9]).await.unwrap().1, (asked, port).into());
        }
        let elsewhere = MessageOptions::new()
            .to(client.local_addr().unwrap())
            .source(Ipv4Addr::new(192, 0, 2, 1).into());
        let error = server.send_msg("no", &elsewhere).await.unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENETUNREACH)), "{error}");
        assert_eq!(error.into_buffer(), "no");
    });
}

#[test]
fn an_ipv6_socket_tells_the_same_of_ipv4() {
    run(async || {
        if !has_ipv6() {
            return;
        }
        let ours = UdpSocket::new_v6().unwrap();
        ours.set_only_v6(false).unwrap();
        ours.bind_to("[::]:0".parse().unwrap()).unwrap();
        ours.set_recv_pktinfo(true).unwrap();
        ours.set_recv_tos(true).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = (Ipv4Addr::LOCALHOST, ours.local_addr().unwrap().port()).into();
        theirs.send_msg("text", &MessageOptions::new().to(to).ecn(Ecn::Ect1)).await.unwrap();
        let (_, info, _) = ours.recv_msg(vec![0; 9]).timeout(LONG).await.unwrap();
        assert_eq!(info.local, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(info.ecn(), Some(Ecn::Ect1));
        theirs.set_recv_tos(true).unwrap();
        let answer = MessageOptions::new().to(info.from).source(info.local.unwrap()).ecn(Ecn::Ce);
        ours.send_msg("back", &answer).await.unwrap();
        let (_, info, _) = theirs.recv_msg(vec![0; 9]).timeout(LONG).await.unwrap();
        assert_eq!((info.from, info.ecn()), (to, Some(Ecn::Ce)));
    });
}

#[test]
fn one_buffer_becomes_datagrams_of_a_length_and_they_come_together() {
    run(async || {
        for address in addresses() {
            let (ours, theirs, here) = pair(address).await;
            let sent: Vec<u8> = (0..1050u32).map(|number| number as u8).collect();
            let options = MessageOptions::new().to(here).segment_size(100);
            assert_eq!(theirs.send_msg(sent.clone(), &options).await.unwrap().0, 1050);
            for part in sent.chunks(100) {
                assert_eq!(ours.recv(vec![0; 2000]).await.unwrap().1, part);
            }
            ours.set_gro(true).unwrap();
            assert!(ours.gro().unwrap());
            theirs.send_msg(sent.clone(), &options.ecn(Ecn::Ect0)).await.unwrap();
            let mut received = Vec::new();
            while received.len() < sent.len() {
                let (count, info, buffer) = ours.recv_msg(vec![0; 65_535]).await.unwrap();
                // A datagram that comes alone has no segments.
                assert!(info.segment_size == Some(100) || count <= 100, "{info:?}");
                assert_eq!(info.ecn(), Some(Ecn::Ect0));
                received.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(received, sent);
            // More segments than the kernel cuts.
            let options = MessageOptions::new().to(here).segment_size(1);
            let error = theirs.send_msg(vec![0; 2000], &options).await.unwrap_err();
            assert_eq!((error.kind(), error.into_buffer().len()), (ErrorKind::InvalidInput, 2000));
        }
    });
}

#[test]
fn what_was_cut_off_is_told() {
    run(async || {
        let (ours, theirs, here) = pair("127.0.0.1:0").await;
        for (room, truncated) in [(3, true), (10, false), (11, false)] {
            theirs.send_to("0123456789", here).await.unwrap();
            let (count, info, _) = ours.recv_msg(vec![0; room]).await.unwrap();
            assert_eq!((count, info.truncated), (room.min(10), truncated));
            assert_eq!(info.local, Some(here.ip()));
        }
        assert_eq!(ours.recv_msg(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn control_messages_that_have_no_room_are_told() {
    run(async || {
        let (ours, theirs, here) = pair("127.0.0.1:0").await;
        // Whoever asks for everything by hand is told more than there is room for.
        for (level, option) in [
            (libc::IPPROTO_IP, libc::IP_RECVTTL),
            (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
        ] {
            let (one, number): (libc::c_int, _) = (1, ours.as_raw_fd());
            // SAFETY: the value outlives the call.
            let result =
                unsafe { libc::setsockopt(number, level, option, (&raw const one).cast(), 4) };
            assert_eq!(result, 0);
        }
        theirs.send_to("text", here).await.unwrap();
        let (count, info, _) = ours.recv_msg(vec![0; 9]).await.unwrap();
        assert_eq!((count, info.truncated, info.control_truncated), (4, false, true));
        let mut messages = ours.messages();
        theirs.send_to("text", here).await.unwrap();
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!((&message.chunk[..], message.info.control_truncated), (&b"text"[..], true));
    });
}

#[test]
fn messages_come_as_a_stream_with_all_that_is_told_of_them() {
    run(async || {
        for address in addresses() {
            let (ours, theirs, here) = pair(address).await;
            let mut messages = ours.messages();
            for round in 0..300usize {
                let sent = vec![round as u8; round * 13 % 4000];
                let ecn = if round % 2 == 0 { Ecn::Ect0 } else { Ecn::Ce };
                let options = MessageOptions::new().to(here).ecn(ecn);
                theirs.send_msg(sent.clone(), &options).await.unwrap();
                let message = messages.next().await.unwrap().unwrap();
                assert_eq!(message.chunk, sent);
                assert_eq!(message.info.from, theirs.local_addr().unwrap());
                assert_eq!(message.info.local, Some(here.ip()));
                assert_eq!(message.info.ecn(), Some(ecn));
                assert!(!message.info.truncated && !message.info.control_truncated);
            }
        }
        assert_eq!(annulus::metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn coalesced_datagrams_come_as_a_stream_where_chunks_have_room() {
    apart(|| {
        build_runtime(Builder::new().chunk_size(66_000)).block_on(async {
            let (ours, theirs, here) = pair("127.0.0.1:0").await;
            ours.set_gro(true).unwrap();
            let sent: Vec<u8> = (0..60_000u32).map(|number| (number / 7) as u8).collect();
            let options = MessageOptions::new().to(here).segment_size(1200);
            theirs.send_msg(sent.clone(), &options).await.unwrap();
            let (mut received, mut messages) = (Vec::new(), ours.messages());
            while received.len() < sent.len() {
                let message = messages.next().await.unwrap().unwrap();
                assert!(!message.info.truncated);
                assert!(message.info.segment_size == Some(1200) || message.chunk.len() <= 1200);
                received.extend_from_slice(&message.chunk);
            }
            assert_eq!(received, sent);
        });
    });
}

#[test]
fn a_message_that_is_too_long_is_cut_off_and_says_so() {
    apart(|| {
        build_runtime(Builder::new().chunk_size(256)).block_on(async {
            let (ours, theirs, here) = pair("127.0.0.1:0").await;
            let mut messages = ours.messages();
            for length in [99, 100, 101, 5000, 0, 1] {
                theirs.send_to(vec![7; length], here).await.unwrap();
                let message = messages.next().await.unwrap().unwrap();
                assert_eq!(
                    (message.chunk.len(), message.info.truncated),
                    (length.min(100), length > 100)
                );
                assert_eq!(message.info.local, Some(here.ip()));
            }
        });
    });
}

#[test]
fn a_dropped_receive_leaves_the_datagram_with_all_that_was_told_of_it() {
    run(async || {
        let pool = Pool::default();
        for rounds in 0..4 {
            let (ours, theirs, here) = pair("127.0.0.1:0").await;
            let mut receive = Box::pin(ours.recv_msg(pool.empty(9)));
            assert!(futures_util::poll!(&mut receive).is_pending());
            let options = MessageOptions::new().to(here).ecn(Ecn::Ce);
            theirs.send_msg("text", &options).await.unwrap();
            turns(rounds).await;
            drop(receive);
            let (_, info, buffer) = ours.recv_msg(vec![0; 9]).await.unwrap();
            assert_eq!((&buffer[..], info.ecn()), (&b"text"[..], Some(Ecn::Ce)));
            assert_eq!(info.local, Some(here.ip()));

            let mut messages = ours.messages();
            assert!(futures_util::poll!(messages.next()).is_pending());
            for _ in 0..3 {
                theirs.send_msg("more", &options).await.unwrap();
            }
            turns(rounds).await;
            drop(messages);
            let (_, info, buffer) = ours.recv_msg(vec![0; 9]).await.unwrap();
            assert_eq!((&buffer[..], info.ecn()), (&b"more"[..], Some(Ecn::Ce)));
            let message = ours.messages().next().await.unwrap().unwrap();
            assert_eq!((&message.chunk[..], message.info.ecn()), (&b"more"[..], Some(Ecn::Ce)));
            // What is left is a datagram for those, too, who want its bytes only.
            assert_eq!(ours.recv(vec![0; 9]).await.unwrap().1, b"more");
        }
        pool.assert_all_back();
    });
}

#[test]
fn a_dropped_send_goes_out_whole_or_not_at_all() {
    run(async || {
        let pool = Pool::default();
        let (ours, theirs, here) = pair("127.0.0.1:0").await;
        let options = MessageOptions::new().to(here);
        drop(theirs.send_msg(pool.filled("never polled"), &options));
        for rounds in 0..3 {
            let mut send = Box::pin(theirs.send_msg(pool.filled("perhaps"), &options));
            assert!(futures_util::poll!(&mut send).is_pending());
            turns(rounds).await;
            drop(send);
            theirs.send_msg("surely", &options).await.unwrap();
            loop {
                let (_, text) = ours.recv(vec![0; 20]).await.unwrap();
                match &text[..] {
                    b"perhaps" => {}
                    other => break assert_eq!(other, b"surely"),
                }
            }
        }
        pool.assert_all_back();
    });
}

#[test]
fn an_error_of_the_socket_comes_out_once() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        gone.connect("127.0.0.1:1").unwrap();
        ours.connect(gone.local_addr().unwrap()).await.unwrap();
        ours.send_msg("anybody?", &MessageOptions::new()).await.unwrap();
        let error = ours.recv_msg(vec![1, 2]).timeout(LONG).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(error.into_buffer(), [1, 2]);
        assert!(ours.take_error().unwrap().is_none());
    });
}
