//! TCP sockets that are prepared before they connect or listen.

use std::io::ErrorKind;
use std::net as std_net;
use std::os::fd::OwnedFd;
use std::time::Duration;

use annulus::net::{SocketAddr, TcpListener, TcpSocket, TcpStream};
use futures_util::future::join;

use crate::common::{in_own_process, open_descriptors, run};
use crate::{LONG, has_ipv6, refusing};

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[test]
fn a_prepared_socket_listens_and_another_connects_from_its_own_port() {
    run(async || {
        for (address, make) in [
            ("127.0.0.1:0", TcpSocket::new_v4 as fn() -> std::io::Result<TcpSocket>),
            ("[::1]:0", TcpSocket::new_v6),
        ] {
            if address.starts_with('[') && !has_ipv6() {
                continue;
            }
            let address: SocketAddr = address.parse().unwrap();
            let socket = make().unwrap();
            socket.set_reuseaddr(true).unwrap();
            assert_eq!(socket.local_addr().unwrap().port(), 0);
            socket.bind(address).unwrap();
            let bound = socket.local_addr().unwrap();
            let listener = socket.listen(16).unwrap();
            assert_eq!(listener.local_addr().unwrap(), bound);
            let socket = make().unwrap();
            socket.bind(address).unwrap();
            let here = socket.local_addr().unwrap();
            assert_ne!(here.port(), 0);
            let (client, accepted) = join(socket.connect(bound), listener.accept()).await;
            let (client, (server, peer)) = (client.unwrap(), accepted.unwrap());
            assert_eq!((peer, client.local_addr().unwrap()), (here, here));
            client.write_all("ping").await.unwrap();
            assert_eq!(server.read_exact(vec![0; 4]).await.unwrap(), b"ping");
        }
    });
}

#[test]
fn options_that_were_set_before_are_those_of_the_connection() {
    run(async || {
        let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_keepalive(true).unwrap();
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.set_ttl(9).unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap() && stream.keepalive().unwrap());
        assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
        assert_eq!(stream.ttl().unwrap(), 9);
    });
}

#[test]
fn a_connection_takes_over_the_options_of_its_listener() {
    run(async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let listener = socket.listen(4).unwrap();
        listener.set_nodelay(true).unwrap();
        listener.set_keepalive(true).unwrap();
        listener.set_keepalive_time(Duration::from_secs(33)).unwrap();
        let _client = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(stream.nodelay().unwrap() && stream.keepalive().unwrap());
        assert_eq!(stream.keepalive_time().unwrap(), Duration::from_secs(33));
    });
}

#[test]
fn an_attempt_that_fails_or_is_dropped_closes_its_socket() {
    run(async || {
        let (_kept, nobody) = refusing(socket2::Domain::IPV4).unwrap();
        let error = TcpSocket::new_v4().unwrap().connect(nobody).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connect =
            Box::pin(TcpSocket::new_v4().unwrap().connect(listener.local_addr().unwrap()));
        let _ = futures_util::poll!(&mut connect);
        drop(connect);
        let never = Box::pin(TcpSocket::new_v4().unwrap().connect(nobody));
        drop(never);
        // The runner sees to it that no descriptor is left.
    });
}

#[test]
fn errors_of_binding_and_listening_are_the_kernels() {
    run(async || {
        let taken = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        let error = socket.bind(taken.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        assert_eq!(socket.bind(elsewhere).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        socket.set_freebind(true).unwrap();
        socket.bind(elsewhere).unwrap();
        let wrong = "[::1]:0".parse().unwrap();
        assert!(TcpSocket::new_v4().unwrap().bind(wrong).is_err());
        // Nothing is pending on a socket that has done nothing.
        assert!(TcpSocket::new_v4().unwrap().take_error().unwrap().is_none());
    });
}

#[test]
fn several_sockets_share_a_port_if_all_of_them_say_so() {
    run(async || {
        let bind = |address| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseport(true).unwrap();
            assert!(socket.reuseport().unwrap());
            socket.bind(address).map(|()| socket.listen(4).unwrap())
        };
        let first: TcpListener = bind(loopback()).unwrap();
        let address = first.local_addr().unwrap();
        let _second = bind(address).unwrap();
        let alone = TcpSocket::new_v4().unwrap();
        assert_eq!(alone.bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_socket_of_std_becomes_one_and_other_kinds_are_refused() {
    run(async || {
        let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let made =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let socket = TcpSocket::from_std_stream(made.into()).unwrap();
        let stream: TcpStream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        let udp = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let wrong = std_net::TcpStream::from(OwnedFd::from(udp));
        let error = TcpSocket::from_std_stream(wrong).unwrap_err();
        assert!(error.to_string().contains("UdpSocket fits"), "{error}");
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let address = socket.local_addr().unwrap();
        let std = std_net::TcpListener::from(OwnedFd::from(socket));
        assert_eq!(std.local_addr().unwrap(), address);
    });
}

#[test]
fn fast_open_carries_the_first_write_and_tells_a_refusal_then() {
    run(async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        socket.set_fastopen(8).unwrap();
        assert_eq!(socket.fastopen().unwrap(), 8);
        let listener = socket.listen(8).unwrap();
        for _ in 0..3 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_fastopen_connect(true).unwrap();
            assert!(socket.fastopen_connect().unwrap());
            let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all("first").timeout(LONG).await.unwrap();
            let (server, _) = listener.accept().timeout(LONG).await.unwrap();
            assert_eq!(server.read_exact(vec![0; 5]).await.unwrap(), b"first");
            server.write_all("second").await.unwrap();
            assert_eq!(client.read_exact(vec![0; 6]).await.unwrap(), b"second");
        }
    });
}

#[test]
fn want_of_descriptors_is_an_error_that_leaves_nothing_behind() {
    in_own_process(|| {
        run(async || {
            let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
            let last = TcpSocket::new_v4().unwrap();
            let before = open_descriptors().len();
            let mut all = Vec::new();
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: the limit outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let error = loop {
                match TcpSocket::new_v4() {
                    Ok(socket) => all.push(socket),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            let error = annulus::net::UdpSocket::new_v4().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            // What is there goes on.
            let stream = last.connect(listener.local_addr().unwrap()).await.unwrap();
            drop(all);
            assert_eq!(open_descriptors().len(), before);
            stream.close().await.unwrap();
        });
    });
}
