//! Operations that end before their time: deadlines, cancels, dropped futures.

use std::io::{ErrorKind, Read, Write};
use std::net as std_net;
use std::thread;
use std::time::{Duration, Instant};

use annulus::net::{ListenOptions, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use futures_util::FutureExt;
use socket2::SockRef;

use crate::common::{Random, run, scratch_dir, seed};
use crate::{LONG, SHORT, tcp_pair};

#[test]
fn a_read_with_nothing_coming_times_out_with_its_buffer_and_leaves_the_stream_in_order() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        for _ in 0..3 {
            let late = ours.read(vec![1, 2, 3]).timeout(SHORT).await.unwrap_err();
            assert_eq!(
                (late.kind(), late.transferred(), late.into_buffer()),
                (ErrorKind::TimedOut, 0, vec![1, 2, 3])
            );
        }
        let late = ours.read(vec![1, 2, 3]).deadline(Instant::now()).await.unwrap_err();
        assert_eq!((late.kind(), late.into_buffer()), (ErrorKind::TimedOut, vec![1, 2, 3]));
        let late = ours.read_vectored(vec![vec![1], vec![2]]).timeout(SHORT).await.unwrap_err();
        assert_eq!(
            (late.kind(), late.into_buffer()),
            (ErrorKind::TimedOut, vec![vec![1], vec![2]])
        );
        theirs.write_all(b"late but whole").unwrap();
        assert_eq!(ours.read(vec![0; 100]).timeout(LONG).await.unwrap().1, b"late but whole");
        ours.write_all("answer").timeout(LONG).await.unwrap();
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    });
}

#[test]
fn a_read_that_was_there_in_time_is_no_time_out_and_an_error_of_another_kind_stays() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        let error = ours.read(vec![0; 4]).timeout(LONG).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        let refused = ours.read(Vec::new()).timeout(Duration::ZERO).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn an_exact_read_that_times_out_keeps_what_it_has() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.write_all(b"half").unwrap();
        let late = ours.read_exact(vec![7; 8]).timeout(SHORT).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let transferred = late.transferred();
        let mut buffer = late.into_buffer();
        buffer.truncate(transferred);
        theirs.write_all(b"rest").unwrap();
        drop(theirs);
        let rest = ours.read_exact(vec![0; 8 - transferred]).await.unwrap();
        assert_eq!([buffer, rest].concat(), b"halfrest", "each byte is in one of the two");
    });
}

#[test]
fn a_write_that_times_out_says_how_much_the_peer_will_see() {
    const LENGTH: usize = 16 << 20;
    let content = Random::new(seed()).bytes(LENGTH);
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        SockRef::from(&ours).set_send_buffer_size(32 * 1024).unwrap();
        let late = ours.write_all(content.clone()).timeout(SHORT).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let transferred = late.transferred();
        assert!(0 < transferred && transferred < LENGTH, "{transferred}");
        assert!(late.into_buffer() == content);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).unwrap();
            received
        });
        ours.write_all("the end").await.unwrap();
        ours.close().await.unwrap();
        let received = reader.join().unwrap();
        assert_eq!(received.len(), transferred + 7);
        assert!(
            received[..transferred] == content[..transferred] && received.ends_with(b"the end")
        );
    });
}

#[test]
fn accept_and_receive_time_out_and_work_afterwards() {
    let scratch = scratch_dir();
    run(async || {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unix = UnixListener::bind(scratch.path().join("socket")).unwrap();
        for _ in 0..3 {
            assert_eq!(tcp.accept().timeout(SHORT).await.unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(unix.accept().timeout(SHORT).await.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        let client = std_net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert_eq!(tcp.accept().timeout(LONG).await.unwrap().1, client.local_addr().unwrap());
        let _client =
            std::os::unix::net::UnixStream::connect(scratch.path().join("socket")).unwrap();
        unix.accept().timeout(LONG).await.unwrap();

        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let late = udp.recv_from(vec![1, 2, 3]).timeout(SHORT).await.unwrap_err();
        assert_eq!((late.kind(), late.into_buffer()), (ErrorKind::TimedOut, vec![1, 2, 3]));
        let late = udp.recv(vec![1, 2, 3]).timeout(SHORT).await.unwrap_err();
        assert_eq!((late.kind(), late.into_buffer()), (ErrorKind::TimedOut, vec![1, 2, 3]));
        let std = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
        std.send_to(b"datagram", udp.local_addr().unwrap()).unwrap();
        let (count, from, buffer) = udp.recv_from(vec![0; 100]).timeout(LONG).await.unwrap();
        assert_eq!((count, from, &buffer[..]), (8, std.local_addr().unwrap(), &b"datagram"[..]));
    });
}

#[test]
fn a_cancelled_read_gives_its_own_result_either_way() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let error = ours.read(vec![1, 2, 3]).cancel().await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::ECANCELED), vec![1, 2, 3]),
            "never submitted"
        );

        let mut read = ours.read(vec![1, 2, 3]);
        assert!((&mut read).now_or_never().is_none());
        annulus::yield_now().await;
        let error = read.cancel().await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::ECANCELED), vec![1, 2, 3]),
            "in flight, nothing came"
        );

        let mut read = ours.read(vec![0; 16]);
        assert!((&mut read).now_or_never().is_none());
        let in_flight = annulus::metrics().operations_in_flight;
        theirs.write_all(b"won").unwrap();
        while annulus::metrics().operations_in_flight == in_flight {
            annulus::yield_now().await;
        }
        assert_eq!(
            read.cancel().await.unwrap(),
            (3, b"won".to_vec()),
            "its completion was there first"
        );

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut accept = listener.accept();
        assert!((&mut accept).now_or_never().is_none());
        annulus::yield_now().await;
        assert_eq!(accept.cancel().await.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let mut accept = listener.accept();
        assert!((&mut accept).now_or_never().is_none());
        let in_flight = annulus::metrics().operations_in_flight;
        let client = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        while annulus::metrics().operations_in_flight == in_flight {
            annulus::yield_now().await;
        }
        assert_eq!(accept.cancel().await.unwrap().1, client.local_addr().unwrap());
    });
}

#[test]
fn no_byte_is_lost_in_races_between_data_and_deadlines_or_cancels() {
    const ROUNDS: usize = 2000;
    let random = Random::new(seed());
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.set_nodelay(true).unwrap();
        let pace = Random::new(random.next());
        let content = random.bytes(ROUNDS);
        let sent = content.clone();
        let writer = thread::spawn(move || {
            for byte in sent {
                theirs.write_all(&[byte]).unwrap();
                for _ in 0..pace.up_to(40) {
                    std::hint::spin_loop();
                    thread::yield_now();
                }
            }
        });
        let (mut received, mut ended) = (Vec::new(), 0);
        loop {
            let most = random.up_to(4);
            let outcome = match random.next() % 3 {
                0 => {
                    ours.read(vec![0; most])
                        .timeout(Duration::from_micros(random.next() % 200))
                        .await
                }
                1 => ours.read(vec![0; most]).cancel().await,
                _ => {
                    let mut read = ours.read(vec![0; most]);
                    for _ in 0..random.next() % 3 {
                        if (&mut read).now_or_never().is_some_and(|early| {
                            received.extend(early.unwrap().1);
                            true
                        }) {
                            read = ours.read(vec![0; most]);
                        }
                        annulus::yield_now().await;
                    }
                    read.cancel().await
                }
            };
            match outcome {
                Ok((0, _)) => break,
                Ok((_, bytes)) => received.extend(bytes),
                Err(error) => {
                    assert!(
                        error.kind() == ErrorKind::TimedOut
                            || error.raw_os_error() == Some(libc::ECANCELED),
                        "{error:?}"
                    );
                    assert_eq!(error.into_buffer(), vec![0; most]);
                    ended += 1;
                }
            }
        }
        println!("{ended} reads ended without a byte");
        assert!(received == content, "{} of {ROUNDS} bytes", received.len());
        writer.join().unwrap();
    });
}

#[test]
fn dropped_accepts_and_reads_leave_no_descriptor_and_the_sockets_in_order() {
    // `run` compares the descriptors.
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for round in 0..100 {
            // Ready at its first poll only where an accept that was dropped earlier had taken a
            // connection.
            drop(listener.accept().now_or_never());
            if round % 3 == 0 {
                // The dropped accept may win this connection, and closes it then.
                drop(std_net::TcpStream::connect(address).unwrap());
            }
            if round % 7 == 0 {
                annulus::yield_now().await;
            }
        }
        while listener.accept().timeout(SHORT).await.is_ok() {}
        let client = std_net::TcpStream::connect(address).unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        for _ in 0..100 {
            assert!(server.read(vec![0; 64]).now_or_never().is_none());
            assert!(server.read_vectored(vec![vec![0; 64]]).now_or_never().is_none());
        }
        while annulus::metrics().operations_in_flight > 0 {
            annulus::yield_now().await;
        }
        (&client).write_all(b"still works").unwrap();
        assert_eq!(server.read(vec![0; 64]).await.unwrap().1, b"still works");
        assert!(server.read(vec![0; 64]).now_or_never().is_none());
        server.close().await.unwrap();
        assert_eq!(
            (&client).read(&mut [0; 1]).unwrap(),
            0,
            "a dropped read does not keep the connection open"
        );
    });
}

#[test]
fn a_dropped_stream_with_a_dropped_read_is_closed() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        assert!(ours.read(vec![0; 64]).now_or_never().is_none());
        drop(ours);
        let peer = thread::spawn(move || theirs.read(&mut [0; 1]).unwrap());
        while !peer.is_finished() {
            annulus::yield_now().await;
        }
        assert_eq!(peer.join().unwrap(), 0);
    });
}

#[test]
fn dropped_connects_leave_no_descriptor() {
    run(async || {
        // A listener that takes nobody: once its queue is full, further connects wait.
        let listener = ListenOptions::new().backlog(0).bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut attempts: Vec<_> = (0..8).map(|_| Box::pin(TcpStream::connect(address))).collect();
        for attempt in &mut attempts {
            assert!(attempt.now_or_never().is_none(), "a connect is never ready at its first poll");
        }
        annulus::yield_now().await;
        drop(attempts);
        for _ in 0..50 {
            assert!(TcpStream::connect(address).now_or_never().is_none());
        }
        let late = annulus::time::timeout(SHORT, async {
            // Without end: as many as fit, then one that waits.
            let mut streams = Vec::new();
            loop {
                streams.push(TcpStream::connect(address).await.unwrap());
            }
        });
        assert!(late.await.is_err());
    });
}

#[test]
fn a_dropped_connect_to_a_full_unix_socket_leaves_no_descriptor_and_no_worker() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("socket");
        let listener =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let first = UnixStream::connect(&path).await.unwrap();
        for _ in 0..4 {
            let waiting = annulus::time::timeout(SHORT, UnixStream::connect(&path)).await;
            assert!(waiting.is_err(), "the queue holds one");
        }
        let third = annulus::spawn({
            let path = path.clone();
            async move { UnixStream::connect(&path).await }
        });
        annulus::yield_now().await;
        // Takes the first and whatever the dropped ones left, so that the last finds a place.
        listener.set_nonblocking(true).unwrap();
        while !third.is_finished() {
            let _ = listener.accept();
            annulus::yield_now().await;
        }
        third.await.unwrap().unwrap();
        drop(first);
    });
}

#[test]
fn a_stream_that_lingers_when_it_is_dropped_does_not_hold_up_the_loop() {
    run(async || {
        for by_drop in [true, false] {
            let (ours, theirs) = tcp_pair().await;
            // As long as nobody reads, closing waits for this time, wherever it happens.
            ours.set_linger(Some(LONG)).unwrap();
            while ours.write(vec![1; 1 << 20]).timeout(SHORT).await.is_ok() {}
            let (left, right) = UnixStream::pair().unwrap();
            let start = Instant::now();
            let closing = match by_drop {
                true => {
                    drop(ours);
                    None
                }
                false => Some(annulus::spawn(ours.close())),
            };
            for round in 0..100 {
                right.write_all(vec![round; 10]).await.unwrap();
                assert_eq!(left.read_exact(vec![0; 10]).await.unwrap(), [round; 10]);
            }
            assert!(start.elapsed() < LONG, "the loop waits with the stream");
            // A reset ends the lingering.
            drop(theirs);
            if let Some(closing) = closing {
                closing.await.unwrap().unwrap();
            }
            crate::common::quiet().await;
        }
    });
}
