//! Groups of UDP sockets, in a network of the test's own where the machine grants one.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

use annulus::net::UdpSocket;

use crate::common::{in_own_process, interface, own_network, run};
use crate::{LONG, SHORT, has_ipv6};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 7, 8, 9);
const LEFT_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x789);
const SOURCE_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 0, 0x789);
const LEFT_V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 7);

/// A receiver of what goes to a port, whatever its address.
fn receiver_v4() -> UdpSocket {
    let receiver = UdpSocket::new_v4().unwrap();
    receiver.bind_to("0.0.0.0:0".parse().unwrap()).unwrap();
    receiver
}

async fn hears_nothing(receiver: &UdpSocket) {
    let late = receiver.recv(vec![0; 9]).timeout(SHORT).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_member_of_a_group_hears_it_until_it_leaves() {
    in_own_process(|| {
        if !own_network() {
            return;
        }
        run(async || {
            let receiver = receiver_v4();
            let to = (GROUP_V4, receiver.local_addr().unwrap().port()).into();
            let sender = UdpSocket::bind("0.0.0.0:0").await.unwrap();
            sender.set_multicast_if_v4(LEFT_V4).unwrap();
            assert_eq!(sender.multicast_if_v4().unwrap(), LEFT_V4);
            receiver.join_multicast_v4(&GROUP_V4, &LEFT_V4).unwrap();
            let error = receiver.join_multicast_v4(&GROUP_V4, &LEFT_V4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "once is enough");
            sender.send_to("hello", to).await.unwrap();
            let (count, from, buffer) = receiver.recv_from(vec![0; 9]).timeout(LONG).await.unwrap();
            assert_eq!((&buffer[..count], from.ip()), (&b"hello"[..], LEFT_V4.into()));
            sender.set_multicast_loop_v4(false).unwrap();
            sender.send_to("outside", to).await.unwrap();
            hears_nothing(&receiver).await;
            sender.set_multicast_loop_v4(true).unwrap();
            receiver.leave_multicast_v4(&GROUP_V4, &LEFT_V4).unwrap();
            let error = receiver.leave_multicast_v4(&GROUP_V4, &LEFT_V4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
            sender.send_to("too late", to).await.unwrap();
            hears_nothing(&receiver).await;
        });
    });
}

#[test]
fn a_member_for_one_source_hears_no_other() {
    in_own_process(|| {
        if !own_network() {
            return;
        }
        run(async || {
            let group = Ipv4Addr::new(232, 7, 8, 9);
            let receiver = receiver_v4();
            let to = (group, receiver.local_addr().unwrap().port()).into();
            let sender = UdpSocket::bind("0.0.0.0:0").await.unwrap();
            sender.set_multicast_if_v4(LEFT_V4).unwrap();
            let other = Ipv4Addr::new(10, 9, 8, 99);
            receiver.join_ssm_v4(&other, &group, &LEFT_V4).unwrap();
            sender.send_to("unheard", to).await.unwrap();
            hears_nothing(&receiver).await;
            receiver.join_ssm_v4(&LEFT_V4, &group, &LEFT_V4).unwrap();
            sender.send_to("heard", to).await.unwrap();
            assert_eq!(receiver.recv(vec![0; 9]).timeout(LONG).await.unwrap().1, b"heard");
            receiver.leave_ssm_v4(&LEFT_V4, &group, &LEFT_V4).unwrap();
            receiver.leave_ssm_v4(&other, &group, &LEFT_V4).unwrap();
            sender.send_to("too late", to).await.unwrap();
            hears_nothing(&receiver).await;
        });
    });
}

#[test]
fn groups_of_ipv6_are_heard_by_their_interface_and_by_source() {
    in_own_process(|| {
        if !own_network() || !has_ipv6() {
            return;
        }
        run(async || {
            let left = interface("left");
            let receiver = UdpSocket::new_v6().unwrap();
            receiver.bind_to("[::]:0".parse().unwrap()).unwrap();
            let port = receiver.local_addr().unwrap().port();
            let sender = UdpSocket::new_v6().unwrap();
            sender.bind_to((LEFT_V6, 0).into()).unwrap();
            sender.set_multicast_if_v6(left).unwrap();
            assert_eq!(sender.multicast_if_v6().unwrap(), left);
            let to = SocketAddrV6::new(GROUP_V6, port, 0, left).into();
            receiver.join_multicast_v6(&GROUP_V6, left).unwrap();
            sender.send_to("hello", to).await.unwrap();
            let (count, from, buffer) = receiver.recv_from(vec![0; 9]).timeout(LONG).await.unwrap();
            assert_eq!((&buffer[..count], from.ip()), (&b"hello"[..], LEFT_V6.into()));
            receiver.leave_multicast_v6(&GROUP_V6, left).unwrap();
            assert!(receiver.leave_multicast_v6(&GROUP_V6, left).is_err());
            let to = SocketAddrV6::new(SOURCE_GROUP_V6, port, 0, left).into();
            let other = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 99);
            receiver.join_ssm_v6(&other, &SOURCE_GROUP_V6, left).unwrap();
            sender.send_to("unheard", to).await.unwrap();
            hears_nothing(&receiver).await;
            receiver.join_ssm_v6(&LEFT_V6, &SOURCE_GROUP_V6, left).unwrap();
            sender.send_to("heard", to).await.unwrap();
            assert_eq!(receiver.recv(vec![0; 9]).timeout(LONG).await.unwrap().1, b"heard");
            receiver.leave_ssm_v6(&LEFT_V6, &SOURCE_GROUP_V6, left).unwrap();
        });
    });
}

#[test]
fn a_broadcast_must_be_allowed_and_comes_to_all_who_share_the_port() {
    in_own_process(|| {
        if !own_network() {
            return;
        }
        run(async || {
            let bind = |port| {
                let socket = UdpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                assert!(socket.reuseaddr().unwrap());
                socket.bind_to((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
                socket
            };
            let first = bind(0);
            let port = first.local_addr().unwrap().port();
            let second = bind(port);
            let sender = UdpSocket::bind((LEFT_V4, 0)).await.unwrap();
            let to = (Ipv4Addr::new(10, 9, 8, 255), port).into();
            let error = sender.send_to("no", to).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            sender.set_broadcast(true).unwrap();
            assert!(sender.broadcast().unwrap());
            sender.send_to("to all", to).await.unwrap();
            for receiver in [&first, &second] {
                assert_eq!(receiver.recv(vec![0; 9]).timeout(LONG).await.unwrap().1, b"to all");
            }
        });
    });
}

#[test]
fn options_of_groups_are_read_as_they_were_set() {
    run(async || {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert!(socket.multicast_loop_v4().unwrap());
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 1);
        socket.set_multicast_ttl_v4(12).unwrap();
        socket.set_multicast_loop_v4(false).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 12);
        assert!(!socket.multicast_loop_v4().unwrap());
        let error = socket.join_multicast_v4(&LEFT_V4, &Ipv4Addr::LOCALHOST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "that is no group");
        if has_ipv6() {
            let socket = UdpSocket::bind("[::1]:0").await.unwrap();
            socket.set_multicast_hops_v6(12).unwrap();
            socket.set_multicast_loop_v6(false).unwrap();
            assert_eq!(socket.multicast_hops_v6().unwrap(), 12);
            assert!(!socket.multicast_loop_v6().unwrap());
        }
    });
}

#[test]
fn groups_work_on_the_loopback_without_a_network_of_ones_own() {
    run(async || {
        let receiver = receiver_v4();
        if let Err(error) = receiver.join_multicast_v4(&GROUP_V4, &Ipv4Addr::LOCALHOST) {
            println!("skipped: no groups on the loopback ({error})");
            return;
        }
        let to = (GROUP_V4, receiver.local_addr().unwrap().port()).into();
        let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sender.set_multicast_if_v4(Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to("hello", to).await.unwrap();
        assert_eq!(receiver.recv(vec![0; 9]).timeout(LONG).await.unwrap().1, b"hello");
    });
}
