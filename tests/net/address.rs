//! Addresses to connect to and to listen at, and the options of listeners.

use std::io::ErrorKind;
use std::net as std_net;
use std::os::fd::AsRawFd;
use std::thread;

use annulus::net::{
    IpAddr, Ipv4Addr, ListenOptions, SocketAddr, TcpListener, TcpStream, UdpSocket, lookup_host,
};
use socket2::{Domain, SockRef};

use crate::common::{in_own_process, run};
use crate::{has_ipv6, refusing};

#[test]
fn connecting_where_nobody_listens_is_refused_with_the_errno() {
    run(async || {
        for domain in [Domain::IPV4, Domain::IPV6] {
            if domain == Domain::IPV6 && !has_ipv6() {
                continue;
            }
            let (_socket, address) = refusing(domain).unwrap();
            let error = TcpStream::connect(address).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.raw_os_error()),
                (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED))
            );
            let std = std_net::TcpStream::connect(address).unwrap_err();
            assert_eq!(std.raw_os_error(), error.raw_os_error());
        }
    });
}

#[test]
fn connecting_tries_one_address_after_the_other() {
    run(async || {
        let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let (_a, first) = refusing(Domain::IPV4).unwrap();
        let (_b, second) = refusing(Domain::IPV4).unwrap();
        let stream = TcpStream::connect(vec![first, second, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let stream = TcpStream::connect(&[good, first][..]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = TcpStream::connect(vec![first, second]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        let unreachable: SocketAddr = "255.255.255.255:1".parse().unwrap();
        let last = std_net::TcpStream::connect(unreachable).unwrap_err();
        let error = TcpStream::connect(vec![first, unreachable]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), last.raw_os_error(), "the last error stands for all");
    });
}

#[test]
fn an_empty_list_of_addresses_is_invalid_input_as_in_std() {
    run(async || {
        let none: Vec<SocketAddr> = Vec::new();
        let std = std_net::TcpStream::connect(&none[..]).unwrap_err().kind();
        assert_eq!(std, ErrorKind::InvalidInput);
        assert_eq!(TcpStream::connect(none.clone()).await.unwrap_err().kind(), std);
        assert_eq!(TcpListener::bind(none.clone()).await.unwrap_err().kind(), std);
        assert_eq!(UdpSocket::bind(none.clone()).await.unwrap_err().kind(), std);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(socket.connect(none.clone()).await.unwrap_err().kind(), std);
        assert_eq!(lookup_host(none).await.unwrap(), []);
    });
}

#[test]
fn text_that_is_no_address_is_refused_as_in_std() {
    in_own_process(|| {
        run(async || {
            for text in [
                "",
                "127.0.0.1",
                "localhost",
                "127.0.0.1:65536",
                "127.0.0.1:-1",
                "127.0.0.1:port",
                "[::1]",
                "[::1]:x",
                "::",
                "a\0b:80",
            ] {
                let std = std_net::TcpStream::connect(text).unwrap_err();
                let ours = TcpStream::connect(text).await.unwrap_err();
                assert_eq!(ours.kind(), std.kind(), "{text:?}: {ours} here, {std} in std");
                assert_eq!(
                    TcpListener::bind(text).await.unwrap_err().kind(),
                    std.kind(),
                    "{text:?}"
                );
                assert_eq!(
                    UdpSocket::bind(text.to_owned()).await.unwrap_err().kind(),
                    std.kind(),
                    "{text:?}"
                );
                assert_eq!(lookup_host(text).await.unwrap_err().kind(), std.kind(), "{text:?}");
            }
        });
    });
}

#[test]
fn names_are_looked_up() {
    in_own_process(|| {
        run(async || {
            let listener = TcpListener::bind(("localhost", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_loopback());
            let client = TcpStream::connect(("localhost", address.port())).await.unwrap();
            assert_eq!(client.peer_addr().unwrap(), address);
            let client = TcpStream::connect(format!("localhost:{}", address.port())).await.unwrap();
            assert_eq!(client.peer_addr().unwrap(), address);
            let std: Vec<_> =
                std_net::ToSocketAddrs::to_socket_addrs("localhost:80").unwrap().collect();
            assert_eq!(lookup_host("localhost:80").await.unwrap(), std);
            assert_eq!(lookup_host(("localhost", 80)).await.unwrap(), std);
        });
    });
}

#[test]
fn every_kind_of_address_is_taken() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let SocketAddr::V4(v4) = address else { panic!("{address}") };
        let port = address.port();
        let streams = [
            TcpStream::connect(address).await,
            TcpStream::connect(&address).await,
            TcpStream::connect(v4).await,
            TcpStream::connect(address.to_string()).await,
            TcpStream::connect(&address.to_string()).await,
            TcpStream::connect(address.to_string().as_str()).await,
            TcpStream::connect(("127.0.0.1", port)).await,
            TcpStream::connect((String::from("127.0.0.1"), port)).await,
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await,
            TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await,
            TcpStream::connect(([127, 0, 0, 1], port)).await,
            TcpStream::connect(vec![address]).await,
            TcpStream::connect(&[address][..]).await,
        ];
        for stream in streams {
            let stream = stream.unwrap();
            assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
        }
    });
}

#[test]
fn a_port_that_is_taken_is_addr_in_use() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for error in [
            TcpListener::bind(address).await.unwrap_err(),
            ListenOptions::new().reuse_port(true).bind(address).await.unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.raw_os_error()),
                (ErrorKind::AddrInUse, Some(libc::EADDRINUSE))
            );
        }
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = UdpSocket::bind(udp.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        let error = TcpListener::bind("192.0.2.1:0").await.unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            std_net::TcpListener::bind("192.0.2.1:0").unwrap_err().raw_os_error()
        );
    });
}

#[test]
fn a_listener_can_be_bound_again_while_its_connections_linger() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = std_net::TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        // The side that closes first is the one that lingers.
        server.close().await.unwrap();
        listener.close().await.unwrap();
        drop(client);
        match ListenOptions::new().reuse_address(false).bind(address).await {
            Err(refused) => assert_eq!(refused.kind(), ErrorKind::AddrInUse),
            // After a benchmark it may be full, net.ipv4.tcp_max_tw_buckets. Then nothing lingers,
            // and nothing is in the way.
            Ok(listener) => {
                println!("not shown: the kernel's table of connections in TIME_WAIT is full");
                listener.close().await.unwrap();
            }
        }
        TcpListener::bind(address).await.unwrap();
    });
}

#[test]
fn two_listeners_with_reuse_port_share_the_connections() {
    run(async || {
        let mut options = ListenOptions::new();
        options.reuse_port(true);
        let first = options.bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let second = options.bind(address).await.unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        let clients = thread::spawn(move || -> Vec<_> {
            (0..40).map(|_| std_net::TcpStream::connect(address).unwrap()).collect()
        });
        let taken = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
        let count = |listener: TcpListener, add: fn((i32, i32)) -> (i32, i32)| {
            let taken = std::rc::Rc::clone(&taken);
            annulus::spawn(async move {
                while listener.accept().await.is_ok() {
                    taken.set(add(taken.get()));
                }
            })
        };
        let tasks = [count(first, |(a, b)| (a + 1, b)), count(second, |(a, b)| (a, b + 1))];
        while taken.get().0 + taken.get().1 < 40 {
            annulus::yield_now().await;
        }
        println!("shares: {:?}", taken.get());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        assert_eq!(clients.join().unwrap().len(), 40);
    });
}

/// How many connections may wait at a listener: what the kernel tells of one in the place of
/// `tcpi_sacked`, tcp(7).
fn backlog_of(listener: &TcpListener) -> u32 {
    const SACKED: usize = 28;
    let mut info = [0u8; 104];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the array is exclusively borrowed for the call and as long as it says.
    let result = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    assert_eq!(result, 0);
    u32::from_ne_bytes(info[SACKED..SACKED + 4].try_into().unwrap())
}

#[test]
fn the_backlog_is_the_one_asked_for_or_what_the_system_allows() {
    run(async || {
        let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        for asked in [1, 7, 128] {
            let listener = ListenOptions::new().backlog(asked).bind("127.0.0.1:0").await.unwrap();
            assert_eq!(backlog_of(&listener), asked.min(most));
        }
        let listener = ListenOptions::new().backlog(u32::MAX).bind("127.0.0.1:0").await.unwrap();
        assert_eq!(backlog_of(&listener), most);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(backlog_of(&listener), most.min(1024));
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_too_unless_told_otherwise() {
    run(async || {
        if !has_ipv6() {
            return;
        }
        let both = ListenOptions::new().only_v6(false).bind("[::]:0").await.unwrap();
        let port = both.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (server, peer) = both.accept().await.unwrap();
        assert_eq!(
            peer.to_string(),
            format!("[::ffff:127.0.0.1]:{}", client.local_addr().unwrap().port())
        );
        assert_eq!(server.peer_addr().unwrap(), peer);

        let only = ListenOptions::new().only_v6(true).bind("[::]:0").await.unwrap();
        assert!(SockRef::from(&only).only_v6().unwrap());
        let port = only.local_addr().unwrap().port();
        // Free for IPv4, so the two do not meet. Somebody else may have taken it, which says the
        // same.
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(beside) => assert_eq!(beside.local_addr().unwrap().port(), port),
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        }
        TcpStream::connect(("::1", port)).await.unwrap();
        let v4 = ListenOptions::new().only_v6(true).bind("127.0.0.1:0").await.unwrap();
        assert!(v4.local_addr().unwrap().is_ipv4(), "the option means nothing there");
    });
}
