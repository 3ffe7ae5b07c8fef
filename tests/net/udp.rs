//! UDP.

use std::io::ErrorKind;
use std::net as std_net;

use annulus::net::{SocketAddr, UdpSocket};

use crate::common::run;
use crate::{LONG, has_ipv6};

/// A socket of ours and one of std.
async fn sockets(address: &str) -> (UdpSocket, SocketAddr, std_net::UdpSocket, SocketAddr) {
    let (ours, std) =
        (UdpSocket::bind(address).await.unwrap(), std_net::UdpSocket::bind(address).unwrap());
    let addresses = (ours.local_addr().unwrap(), std.local_addr().unwrap());
    (ours, addresses.0, std, addresses.1)
}

async fn datagrams_go_both_ways(address: &str) {
    let (ours, here, std, there) = sockets(address).await;
    assert_eq!(ours.send_to("question", there).await.unwrap(), (8, "question"));
    let mut buffer = [0; 100];
    assert_eq!(std.recv_from(&mut buffer).unwrap(), (8, here));
    assert_eq!(&buffer[..8], b"question");
    std.send_to(b"answer", here).unwrap();
    let (count, from, buffer) = ours.recv_from(b"old content".to_vec()).await.unwrap();
    assert_eq!((count, from, &buffer[..]), (6, there, &b"answer"[..]));

    assert_eq!(ours.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    ours.connect(there).await.unwrap();
    assert_eq!(ours.peer_addr().unwrap(), there);
    assert_eq!(ours.send(vec![1, 2, 3]).await.unwrap(), (3, vec![1, 2, 3]));
    let mut buffer = [0; 100];
    assert_eq!(std.recv(&mut buffer).unwrap(), 3);
    let stranger = std_net::UdpSocket::bind(address).unwrap();
    stranger.send_to(b"spam", here).unwrap();
    std.send_to(b"wanted", here).unwrap();
    assert_eq!(
        ours.recv(vec![0; 100]).await.unwrap(),
        (6, b"wanted".to_vec()),
        "a connected socket hears its peer only"
    );
    std.send_to(b"again", here).unwrap();
    let (count, from, _) = ours.recv_from(vec![0; 100]).await.unwrap();
    assert_eq!((count, from), (5, there));
    ours.close().await.unwrap();
}

#[test]
fn datagrams_go_both_ways_over_ipv4() {
    run(async || datagrams_go_both_ways("127.0.0.1:0").await);
}

#[test]
fn datagrams_go_both_ways_over_ipv6() {
    run(async || {
        if has_ipv6() {
            datagrams_go_both_ways("[::1]:0").await;
            let both = UdpSocket::bind("[::]:0").await.unwrap();
            let std = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
            std.send_to(b"from IPv4", ("127.0.0.1", both.local_addr().unwrap().port())).unwrap();
            match both.recv_from(vec![0; 100]).timeout(LONG).await {
                Ok((_, from, _)) => assert_eq!(
                    from.to_string(),
                    format!("[::ffff:127.0.0.1]:{}", std.local_addr().unwrap().port())
                ),
                Err(error) => println!("this system keeps IPv6 apart: {error}"),
            }
        }
    });
}

#[test]
fn what_a_datagram_has_no_room_for_is_cut_off() {
    run(async || {
        let (ours, here, std, there) = sockets("127.0.0.1:0").await;
        std.send_to(b"0123456789", here).unwrap();
        std.send_to(b"abcdefghij", here).unwrap();
        std.send_to(b"third", here).unwrap();
        let (count, from, buffer) = ours.recv_from(vec![7; 4]).await.unwrap();
        assert_eq!((count, from, &buffer[..]), (4, there, &b"0123"[..]));
        assert_eq!(ours.recv(vec![7; 6]).await.unwrap(), (6, b"abcdef".to_vec()));
        assert_eq!(ours.recv(vec![7; 6]).await.unwrap(), (5, b"third".to_vec()));
    });
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    run(async || {
        let (ours, here, std, there) = sockets("127.0.0.1:0").await;
        let mut buffer = [0; 10];
        assert_eq!(ours.send_to("", there).await.unwrap(), (0, ""));
        assert_eq!(std.recv_from(&mut buffer).unwrap(), (0, here));
        ours.connect(there).await.unwrap();
        assert_eq!(ours.send(Vec::new()).await.unwrap().0, 0);
        assert_eq!(std.recv_from(&mut buffer).unwrap(), (0, here));
        for _ in 0..2 {
            std.send_to(b"", here).unwrap();
        }
        let (count, from, buffer) = ours.recv_from(vec![7; 4]).await.unwrap();
        assert_eq!((count, from, buffer.len()), (0, there, 0));
        assert_eq!(ours.recv(vec![7; 4]).await.unwrap().0, 0);
        std.send_to(b"not the end", here).unwrap();
        assert_eq!(ours.recv(vec![7; 100]).await.unwrap().0, 11);
    });
}

#[test]
fn a_receive_without_room_is_invalid_input_and_takes_nothing() {
    run(async || {
        let (ours, here, std, _) = sockets("127.0.0.1:0").await;
        std.send_to(b"kept", here).unwrap();
        assert_eq!(ours.recv(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.recv_from(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.recv(vec![0; 10]).await.unwrap().1, b"kept");
    });
}

#[test]
fn a_datagram_to_nobody_is_refused_at_the_next_operation() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // A socket that is connected elsewhere hears nothing from here: its port is taken, and yet
        // nobody is there for us.
        let gone = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
        gone.connect("127.0.0.1:1").unwrap();
        ours.connect(gone.local_addr().unwrap()).await.unwrap();
        ours.send("anybody?").await.unwrap();
        let error = ours.recv(vec![1, 2, 3]).timeout(LONG).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED))
        );
        assert_eq!(error.into_buffer(), [1, 2, 3]);
        ours.send("anybody?").await.unwrap();
        let error = ours.send("again").await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::ECONNREFUSED), "again")
        );
        ours.send("anybody?").await.unwrap();
        assert_eq!(ours.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn errors_of_sending_keep_errno_and_buffer() {
    run(async || {
        let (ours, _, _std, there) = sockets("127.0.0.1:0").await;
        let error = ours.send_to(vec![7; 65_508], there).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer().len()),
            (Some(libc::EMSGSIZE), 65_508)
        );
        assert_eq!(ours.send_to(vec![7; 65_507], there).await.unwrap().0, 65_507);
        let error = ours.send("nowhere").await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::EDESTADDRREQ), "nowhere")
        );
        if has_ipv6() {
            let std = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let v6: SocketAddr = "[::1]:9".parse().unwrap();
            let expected = std.send_to(b"x", v6).unwrap_err();
            assert_eq!(
                ours.send_to("x", v6).await.unwrap_err().raw_os_error(),
                expected.raw_os_error()
            );
        }
    });
}

#[test]
fn many_datagrams_wait_their_turn() {
    run(async || {
        let (a, b) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        let to = b.local_addr().unwrap();
        let sending = annulus::spawn(async move {
            for number in 0..50u32 {
                a.send_to(number.to_le_bytes().to_vec(), to).await.unwrap();
            }
            a.local_addr().unwrap()
        });
        let mut froms = Vec::new();
        for number in 0..50u32 {
            let (count, from, buffer) = b.recv_from(Vec::with_capacity(64)).await.unwrap();
            assert_eq!((count, &buffer[..]), (4, &number.to_le_bytes()[..]));
            froms.push(from);
        }
        let from = sending.await.unwrap();
        assert!(froms.iter().all(|each| *each == from));
    });
}

#[test]
fn a_socket_of_std_can_be_adopted_and_has_its_options() {
    run(async || {
        for nonblocking in [false, true] {
            let std = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
            std.set_nonblocking(nonblocking).unwrap();
            let ours = UdpSocket::from(std.try_clone().unwrap());
            let here = ours.local_addr().unwrap();
            let waiting =
                annulus::spawn(async move { (ours.recv_from(vec![0; 10]).await.unwrap(), ours) });
            annulus::yield_now().await;
            let peer = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.send_to(b"late", here).unwrap();
            let ((count, from, _), ours) = waiting.await.unwrap();
            assert_eq!((count, from), (4, peer.local_addr().unwrap()));
            for broadcast in [true, false] {
                ours.set_broadcast(broadcast).unwrap();
                assert_eq!(
                    (ours.broadcast().unwrap(), std.broadcast().unwrap()),
                    (broadcast, broadcast)
                );
            }
            ours.set_ttl(17).unwrap();
            assert_eq!((ours.ttl().unwrap(), std.ttl().unwrap()), (17, 17));
        }
    });
}
