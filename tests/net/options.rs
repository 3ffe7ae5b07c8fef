//! Options of sockets: what is set is read again, by std's and socket2's calls, too.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use annulus::net::{SocketAddr, TcpListener, TcpSocket, UdpSocket};
use socket2::SockRef;

use crate::common::{in_own_process, own_network, run};
use crate::{has_ipv6, tcp_pair};

#[test]
fn options_of_a_connection_are_read_as_they_were_set_and_as_socket2_reads_them() {
    run(async || {
        let (stream, _theirs) = tcp_pair().await;
        for value in [true, false] {
            stream.set_keepalive(value).unwrap();
            stream.set_cork(value).unwrap();
            stream.set_quickack(value).unwrap();
            stream.set_freebind(value).unwrap();
            let other = SockRef::from(&stream);
            assert_eq!((stream.keepalive().unwrap(), other.keepalive().unwrap()), (value, value));
            assert_eq!((stream.cork().unwrap(), other.tcp_cork().unwrap()), (value, value));
            assert_eq!((stream.quickack().unwrap(), other.tcp_quickack().unwrap()), (value, value));
            assert_eq!((stream.freebind().unwrap(), other.freebind_v4().unwrap()), (value, value));
        }
        let other = SockRef::from(&stream);
        let (time, interval) = (Duration::from_secs(77), Duration::from_secs(5));
        stream.set_keepalive_time(time).unwrap();
        stream.set_keepalive_interval(interval).unwrap();
        stream.set_keepalive_retries(4).unwrap();
        assert_eq!(
            (
                stream.keepalive_time().unwrap(),
                stream.keepalive_interval().unwrap(),
                stream.keepalive_retries().unwrap()
            ),
            (time, interval, 4)
        );
        assert_eq!(
            (
                other.tcp_keepalive_time().unwrap(),
                other.tcp_keepalive_interval().unwrap(),
                other.tcp_keepalive_retries().unwrap()
            ),
            (time, interval, 4)
        );
        stream.set_user_timeout(Some(Duration::from_millis(1234))).unwrap();
        assert_eq!(stream.user_timeout().unwrap(), Some(Duration::from_millis(1234)));
        assert_eq!(other.tcp_user_timeout().unwrap(), Some(Duration::from_millis(1234)));
        stream.set_user_timeout(None).unwrap();
        assert_eq!(stream.user_timeout().unwrap(), None);
        stream.set_tos_v4(0x40).unwrap();
        assert_eq!((stream.tos_v4().unwrap(), other.tos_v4().unwrap()), (0x40, 0x40));
        stream.set_priority(3).unwrap();
        assert_eq!(stream.priority().unwrap(), 3);
        stream.set_incoming_cpu(0).unwrap();
        assert_eq!(stream.incoming_cpu().unwrap(), Some(0));
        assert_eq!(stream.device().unwrap(), None);
        assert!(stream.busy_poll().unwrap() < Duration::from_secs(1));
        assert!(stream.take_error().unwrap().is_none());
    });
}

#[test]
fn a_part_of_a_second_counts_as_one_and_nothing_is_refused() {
    run(async || {
        let (stream, _theirs) = tcp_pair().await;
        stream.set_keepalive_time(Duration::from_millis(1500)).unwrap();
        assert_eq!(stream.keepalive_time().unwrap(), Duration::from_secs(2));
        for time in [Duration::ZERO, Duration::from_secs(32_768), Duration::MAX] {
            let error = stream.set_keepalive_time(time).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{time:?}");
        }
        stream.set_user_timeout(Some(Duration::from_micros(1))).unwrap();
        assert_eq!(stream.user_timeout().unwrap(), Some(Duration::from_millis(1)));
    });
}

#[test]
fn room_is_granted_twice_for_the_kernels_books() {
    run(async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(20_000).unwrap();
        socket.set_recv_buffer_size(30_000).unwrap();
        let sizes = (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap());
        assert_eq!(sizes, (40_000, 60_000));
        let other = SockRef::from(&socket);
        assert_eq!(other.send_buffer_size().unwrap(), 40_000);
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.set_recv_buffer_size(50_000).unwrap();
        assert_eq!(udp.recv_buffer_size().unwrap(), 100_000);
    });
}

#[test]
fn ways_to_control_congestion_have_names() {
    run(async || {
        let socket = TcpSocket::new_v4().unwrap();
        let before = socket.congestion().unwrap();
        assert!(!before.is_empty());
        socket.set_congestion("reno").unwrap();
        assert_eq!(socket.congestion().unwrap(), "reno");
        assert_eq!(
            SockRef::from(&socket).tcp_congestion().unwrap().split(|byte| *byte == 0).next(),
            Some(&b"reno"[..])
        );
        socket.set_congestion(&before).unwrap();
        assert_eq!(socket.set_congestion("no-such-way").unwrap_err().kind(), ErrorKind::NotFound);
        for name in ["sixteen bytes...", "with\0zero"] {
            let error = socket.set_congestion(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("15 bytes"), "{error}");
        }
    });
}

#[test]
fn options_of_ipv6_are_read_as_they_were_set() {
    run(async || {
        if !has_ipv6() {
            return;
        }
        let socket = TcpSocket::new_v6().unwrap();
        let other = SockRef::from(&socket);
        for value in [true, false] {
            socket.set_only_v6(value).unwrap();
            assert_eq!((socket.only_v6().unwrap(), other.only_v6().unwrap()), (value, value));
            socket.set_auto_flow_label(value).unwrap();
            assert_eq!(socket.auto_flow_label().unwrap(), value);
            socket.set_freebind(value).unwrap();
            assert_eq!((socket.freebind().unwrap(), other.freebind_v6().unwrap()), (value, value));
        }
        socket.set_unicast_hops_v6(7).unwrap();
        assert_eq!((socket.unicast_hops_v6().unwrap(), other.unicast_hops_v6().unwrap()), (7, 7));
        socket.set_tclass_v6(0x20).unwrap();
        assert_eq!((socket.tclass_v6().unwrap(), other.tclass_v6().unwrap()), (0x20, 0x20));
        let socket = TcpSocket::new_v6().unwrap();
        socket.set_only_v6(true).unwrap();
        socket.bind("[::]:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let _listener = socket.listen(4).unwrap();
        let v4 = TcpListener::bind(("0.0.0.0", port)).await;
        assert!(v4.is_ok(), "IPv4 is left alone: {v4:?}");
    });
}

#[test]
fn a_flow_label_that_was_allowed_is_that_of_the_connection() {
    run(async || {
        if !has_ipv6() {
            return;
        }
        let label = 0x1_2345u32;
        let to = |label: u32| {
            SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, label.to_be(), 0))
        };
        let socket = UdpSocket::bind("[::1]:0").await.unwrap();
        socket.connect(to(label)).await.unwrap();
        let flow = |address| match address {
            SocketAddr::V6(address) => address.flowinfo(),
            SocketAddr::V4(_) => panic!("{address}"),
        };
        assert_eq!(flow(socket.peer_addr().unwrap()), 0, "nobody has allowed it");
        let socket = UdpSocket::bind("[::1]:0").await.unwrap();
        socket.allow_flow_label(label, Ipv6Addr::LOCALHOST).unwrap();
        socket.connect(to(label)).await.unwrap();
        assert_eq!(flow(socket.peer_addr().unwrap()), label.to_be());
        for label in [0, 1 << 20] {
            let error = socket.allow_flow_label(label, Ipv6Addr::LOCALHOST).unwrap_err();
            assert!(error.to_string().contains("20 bits"), "{error}");
        }
    });
}

#[test]
fn a_socket_that_is_bound_to_an_interface_hears_that_one_only() {
    in_own_process(|| {
        if !own_network() {
            return;
        }
        run(async || {
            let socket = UdpSocket::new_v4().unwrap();
            socket.bind_device(Some(b"left")).unwrap();
            assert_eq!(socket.device().unwrap().as_deref(), Some(&b"left"[..]));
            socket.bind_to("0.0.0.0:0".parse().unwrap()).unwrap();
            let port = socket.local_addr().unwrap().port();
            let sender = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            // What goes to an address of this machine comes by the loopback.
            sender.send_to(b"unheard", ("127.0.0.1", port)).unwrap();
            socket.bind_device(None).unwrap();
            assert_eq!(socket.device().unwrap(), None);
            sender.send_to(b"heard", ("127.0.0.1", port)).unwrap();
            assert_eq!(socket.recv(vec![0; 10]).await.unwrap().1, b"heard");
            let error = socket.bind_device(Some(b"no-such-one")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
            let error = socket.bind_device(Some(&[b'x'; 16])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn what_takes_a_privilege_is_refused_or_read_as_it_was_set() {
    run(async || {
        let socket = TcpSocket::new_v4().unwrap();
        for (set, expected) in [
            (socket.set_mark(42), socket.mark().unwrap() == 42),
            (socket.set_transparent(true), socket.transparent().unwrap()),
            (
                socket.set_busy_poll(Duration::from_micros(50)),
                socket.busy_poll().unwrap() == Duration::from_micros(50),
            ),
        ] {
            match set {
                Ok(()) => assert!(expected),
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            }
        }
    });
}
