//! TCP connections: transfers, ends, errors.

use std::io::{ErrorKind, Read, Write};
use std::net as std_net;
use std::thread;

use annulus::buf::{IoBuf, IoBufMut};
use annulus::net::{Shutdown, TcpListener, TcpStream};
use socket2::SockRef;

use crate::common::{Random, in_own_process, run, seed};
use crate::{LONG, echo, has_ipv6, tcp_pair};

async fn talks(address: &str) {
    let listener = TcpListener::bind(address).await.unwrap();
    let local = listener.local_addr().unwrap();
    assert_ne!(local.port(), 0);
    let client = thread::spawn(move || {
        let mut stream = std_net::TcpStream::connect(local).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        (stream.local_addr().unwrap(), answer)
    });
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!((server.local_addr().unwrap(), server.peer_addr().unwrap()), (local, peer));
    let ping = server.read_exact(vec![0; 4]).await.unwrap();
    assert_eq!(ping, b"ping");
    server.write_all("pong").await.unwrap();
    server.close().await.unwrap();
    assert_eq!(client.join().unwrap(), (peer, b"pong".to_vec()));

    let std = std_net::TcpListener::bind(address).unwrap();
    let address = std.local_addr().unwrap();
    let server = thread::spawn(move || echo(std.accept().unwrap().0));
    let client = TcpStream::connect(address).await.unwrap();
    assert_eq!(client.peer_addr().unwrap(), address);
    client.write_all("there and back").await.unwrap();
    assert_eq!(client.read_exact(vec![0; 14]).await.unwrap(), b"there and back");
    client.shutdown(Shutdown::Write).await.unwrap();
    assert_eq!(client.read(vec![0; 14]).await.unwrap().0, 0);
    server.join().unwrap().unwrap();
}

#[test]
fn streams_talk_to_blocking_peers_over_ipv4() {
    run(async || talks("127.0.0.1:0").await);
}

#[test]
fn streams_talk_to_blocking_peers_over_ipv6() {
    run(async || {
        if has_ipv6() {
            talks("[::1]:0").await;
        }
    });
}

#[test]
fn a_read_waits_for_a_byte_fills_from_the_start_and_sets_the_length() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let waiting = ours.read(b"old content".to_vec());
        let writer = thread::spawn(move || {
            theirs.write_all(b"new").unwrap();
            theirs
        });
        let (count, buffer) = waiting.await.unwrap();
        assert_eq!((count, &buffer[..]), (3, &b"new"[..]));
        let mut theirs = writer.join().unwrap();
        theirs.write_all(b"0123456789").unwrap();
        let (count, buffer) = ours.read(vec![7; 4].into_boxed_slice()).await.unwrap();
        assert_eq!((count, &buffer[..]), (4, &b"0123"[..]), "no more than fits");
        let (count, buffer) = ours.read(vec![0; 100]).await.unwrap();
        assert_eq!((count, &buffer[..]), (6, &b"456789"[..]), "the rest is still there");
    });
}

#[test]
fn read_append_keeps_what_the_buffer_holds() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.write_all(b"tail").unwrap();
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(b"head ");
        let (count, buffer) = ours.read_append(buffer).await.unwrap();
        assert_eq!((count, &buffer[..]), (4, &b"head tail"[..]));
        let full = ours.read_append(vec![1, 2, 3]).await.unwrap_err();
        assert_eq!((full.kind(), full.into_buffer()), (ErrorKind::InvalidInput, vec![1, 2, 3]));
        drop(theirs);
        let (count, buffer) = ours.read_append(buffer).await.unwrap();
        assert_eq!(
            (count, &buffer[..]),
            (0, &b"head tail"[..]),
            "the end of the stream changes nothing"
        );
    });
}

#[test]
fn read_exact_collects_bytes_that_come_one_by_one_or_says_how_far_it_came() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let writer = thread::spawn(move || {
            theirs.set_nodelay(true).unwrap();
            for byte in 0..100u8 {
                theirs.write_all(&[byte]).unwrap();
                thread::yield_now();
            }
        });
        assert_eq!(ours.read_exact(vec![0; 60]).await.unwrap(), (0..60).collect::<Vec<u8>>());
        let error = ours.read_exact(vec![7; 50]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error(), error.transferred()),
            (ErrorKind::UnexpectedEof, None, 40)
        );
        assert_eq!(error.into_buffer(), (60..100).collect::<Vec<u8>>());
        let error = ours.read_exact(vec![7; 5]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.transferred(), error.into_buffer()),
            (ErrorKind::UnexpectedEof, 0, vec![7; 5])
        );
        writer.join().unwrap();
    });
}

#[test]
fn vectored_transfers_go_through_the_buffers_in_order() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let (count, back) = ours.write_vectored(vec!["one ", "", "two ", "three"]).await.unwrap();
        assert_eq!((count, back), (13, vec!["one ", "", "two ", "three"]));
        let mut received = [0; 13];
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"one two three");
        theirs.write_all(b"0123456789").unwrap();
        let (count, buffers) = ours
            .read_vectored(vec![vec![9; 3], Vec::new(), vec![9; 100], vec![9; 7]])
            .await
            .unwrap();
        assert_eq!(
            (count, buffers),
            (10, vec![b"012".to_vec(), vec![], b"3456789".to_vec(), vec![9; 7]])
        );

        let (count, back) = ours.write_vectored(vec![b"ab".to_vec(); 1500]).await.unwrap();
        assert_eq!((count, back.len()), (2048, 1500), "1024 buffers take part");
        let mut received = [0; 2048];
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(received[..], b"ab".repeat(1024));
        theirs.write_all(&received).unwrap();
        let (mut left, mut turns) = (2048, 0);
        while left > 0 {
            let (count, buffers) = ours.read_vectored(vec![vec![0; 1]; 1500]).await.unwrap();
            assert!(count <= 1024 && buffers[count..].iter().all(|buffer| *buffer == [0]));
            (left, turns) = (left - count, turns + 1);
        }
        assert!(turns >= 2);
    });
}

#[test]
fn a_read_into_a_buffer_without_room_is_invalid_input() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.write_all(b"x").unwrap();
        assert_eq!(ours.read(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(ours.read(vec![1].spare()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            ours.read_vectored(Vec::<Vec<u8>>::new()).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            ours.read_vectored(vec![Vec::new(), Vec::new()]).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(ours.read(vec![0; 8]).await.unwrap(), (1, b"x".to_vec()), "nothing was lost");
    });
}

#[test]
fn read_exact_into_a_buffer_without_room_is_done_at_once_even_if_nothing_comes() {
    run(async || {
        let (ours, _theirs) = tcp_pair().await;
        let (std, _peer) = (std_net::TcpStream::connect(ours.peer_addr().unwrap()), ());
        drop(std);
        let outcome = ours.read_exact(Vec::new()).timeout(crate::SHORT * 10).await;
        assert_eq!(
            outcome.map_err(|error| error.kind()),
            Ok(Vec::new()),
            "as std's `read_exact`, which does not even ask the kernel"
        );
    });
}

#[test]
fn room_behind_more_empty_buffers_than_one_call_takes_is_no_end_of_stream() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        theirs.write_all(b"content").unwrap();
        let mut buffers = vec![Vec::new(); 1024];
        buffers.push(vec![0; 4]);
        let outcome = ours
            .read_vectored(buffers)
            .timeout(LONG)
            .await
            .map(|(count, _)| count)
            .map_err(|error| error.kind());
        assert!(
            matches!(outcome, Ok(1..) | Err(ErrorKind::InvalidInput)),
            "Ok(0) would mean the end of the stream, but: {outcome:?}"
        );
    });
}

#[test]
fn a_write_of_nothing_succeeds_and_sends_nothing() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        assert_eq!(ours.write("").await.unwrap(), (0, ""));
        assert_eq!(ours.write_all(Vec::new()).await.unwrap(), b"");
        assert_eq!(ours.write_vectored(vec!["", ""]).await.unwrap().0, 0);
        assert_eq!(ours.write_vectored(Vec::<String>::new()).await.unwrap().0, 0);
        ours.write_all("x").await.unwrap();
        ours.close().await.unwrap();
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"x");
    });
}

#[test]
fn several_mebibytes_reach_a_slow_reader_whole_and_in_order() {
    const LENGTH: usize = 6 << 20;
    let random = Random::new(seed());
    let content = random.bytes(LENGTH);
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        SockRef::from(&ours).set_send_buffer_size(32 * 1024).unwrap();
        let reader = thread::spawn(move || {
            let mut received = Vec::with_capacity(2 * LENGTH);
            let mut buffer = vec![0; 20_000];
            loop {
                let count = theirs.read(&mut buffer[..random.up_to(20_000)]).unwrap();
                if count == 0 {
                    return received;
                }
                received.extend_from_slice(&buffer[..count]);
                thread::yield_now();
            }
        });
        let sent = ours.write_all(content.clone()).await.unwrap();
        assert!(sent == content);
        let (mut rest, mut writes) = (sent.slice(..), 0);
        while !rest.is_empty() {
            let (count, slice) = ours.write(rest).await.unwrap();
            assert!(count > 0);
            let begin = slice.begin() + count;
            (rest, writes) = (slice.into_inner().slice(begin..), writes + 1);
        }
        assert!(writes > 1, "a write of {LENGTH} bytes into a small window is short");
        ours.shutdown(Shutdown::Write).await.unwrap();
        let received = reader.join().unwrap();
        assert!(
            received.len() == 2 * LENGTH
                && received[..LENGTH] == content
                && received[LENGTH..] == content
        );
    });
}

#[test]
fn several_mebibytes_from_a_fast_writer_arrive_whole_and_in_order() {
    const LENGTH: usize = 6 << 20;
    let random = Random::new(seed());
    let content = random.bytes(LENGTH);
    let sent = content.clone();
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let writer = thread::spawn(move || theirs.write_all(&sent).unwrap());
        let mut received = Vec::with_capacity(LENGTH);
        while received.len() < LENGTH {
            let most = random.up_to(30_000).min(LENGTH - received.len());
            match random.next() % 3 {
                0 => received.extend(ours.read(vec![0; most]).await.unwrap().1),
                1 => received
                    .extend(ours.read_exact(vec![0; most].into_boxed_slice()).await.unwrap()),
                _ => {
                    let halves = vec![vec![0; most / 2], vec![0; most - most / 2]];
                    let (count, buffers) = ours.read_vectored(halves).await.unwrap();
                    received.extend(buffers.concat().into_iter().take(count));
                }
            }
        }
        assert!(received == content);
        writer.join().unwrap();
        assert_eq!(ours.read(vec![0; 1]).await.unwrap().0, 0);
    });
}

#[test]
fn ending_the_writing_direction_leaves_the_other_open() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        ours.write_all("last words").await.unwrap();
        ours.shutdown(Shutdown::Write).await.unwrap();
        let mut received = String::new();
        theirs.read_to_string(&mut received).unwrap();
        assert_eq!(received, "last words");
        let error = ours.write(b"more".to_vec()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::BrokenPipe, Some(libc::EPIPE))
        );
        assert_eq!(error.into_buffer(), b"more");
        theirs.write_all(b"answer").unwrap();
        assert_eq!(ours.read(vec![0; 100]).await.unwrap(), (6, b"answer".to_vec()));
        theirs.shutdown(Shutdown::Write).unwrap();
        for _ in 0..3 {
            let (count, buffer) = ours.read(vec![7; 4]).await.unwrap();
            assert_eq!((count, buffer.len()), (0, 0), "the end of the stream stays");
        }
    });
}

#[test]
fn shutting_down_the_reading_direction_ends_a_waiting_read() {
    run(async || {
        let (ours, _theirs) = tcp_pair().await;
        let (read, shut) =
            futures_util::future::join(ours.read(vec![0; 4]), ours.shutdown(Shutdown::Both)).await;
        assert_eq!((read.unwrap().0, shut.unwrap()), (0, ()));
    });
}

/// Ends a connection in the way that the other side sees as an error.
fn reset(stream: std_net::TcpStream) {
    SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn a_peer_that_resets_is_econnreset_with_the_buffer() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        reset(theirs);
        let error = ours.read(vec![1, 2, 3]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::ConnectionReset, Some(libc::ECONNRESET))
        );
        assert_eq!(error.into_buffer(), [1, 2, 3]);

        let (ours, theirs) = tcp_pair().await;
        reset(theirs);
        let error = ours.write_all("into the void").await.unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)), "{error}");
        assert_eq!((error.transferred(), error.into_buffer()), (0, "into the void"));
        assert_eq!(
            ours.take_error().unwrap().map(|error| error.kind()),
            None,
            "the write has taken the error"
        );
    });
}

#[test]
fn an_exact_read_that_a_reset_cuts_short_is_econnreset_with_what_had_come() {
    run(async || {
        for all_there in [false, true] {
            let (ours, mut theirs) = tcp_pair().await;
            theirs.write_all(b"half").unwrap();
            let mut waiting = ours.read_exact(vec![0; 8]);
            if !all_there {
                // The read has taken the first half when the reset comes.
                assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
                annulus::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            reset(theirs);
            let error = waiting.await.unwrap_err();
            assert_eq!(
                (error.transferred(), error.raw_os_error()),
                (4, Some(libc::ECONNRESET)),
                "no mere end of the stream: {error}"
            );
            assert_eq!(error.into_buffer(), b"half");
        }
    });
}

#[test]
fn a_write_to_a_peer_that_has_gone_is_epipe_and_never_a_signal() {
    in_own_process(|| {
        // Rust programs ignore SIGPIPE; C programs with Rust in them do not.
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        run(async || {
            for way in 0..3 {
                let (ours, theirs) = tcp_pair().await;
                reset(theirs);
                assert_eq!(
                    ours.read(vec![0; 1]).await.unwrap_err().raw_os_error(),
                    Some(libc::ECONNRESET)
                );
                let errno = match way {
                    0 => ours.write("x").await.unwrap_err().raw_os_error(),
                    1 => ours.write_all("x").await.unwrap_err().raw_os_error(),
                    _ => ours.write_vectored(vec!["x"]).await.unwrap_err().raw_os_error(),
                };
                assert_eq!(errno, Some(libc::EPIPE));
            }
            let (ours, theirs) = annulus::net::UnixStream::pair().unwrap();
            theirs.close().await.unwrap();
            assert_eq!(ours.write("x").await.unwrap_err().raw_os_error(), Some(libc::EPIPE));
            assert_eq!(ours.write_all("x").await.unwrap_err().raw_os_error(), Some(libc::EPIPE));
            assert_eq!(
                ours.write_vectored(vec!["x"]).await.unwrap_err().raw_os_error(),
                Some(libc::EPIPE)
            );
        });
    });
}

#[test]
fn two_hundred_clients_each_get_their_own_answer() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..8u8)
            .map(|thread| {
                thread::spawn(move || {
                    let streams: Vec<_> =
                        (0..25).map(|_| std_net::TcpStream::connect(address).unwrap()).collect();
                    for (number, mut stream) in streams.into_iter().enumerate() {
                        let question = [thread, number as u8, 42];
                        stream.write_all(&question).unwrap();
                        let mut answer = [0; 3];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(answer, question);
                    }
                })
            })
            .collect();
        let mut tasks = Vec::new();
        for _ in 0..200 {
            let (stream, peer) = listener.accept().await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), peer);
            tasks.push(annulus::spawn(async move {
                let question = stream.read_exact(vec![0; 3]).await.unwrap();
                stream.write_all(question).await.unwrap();
                assert_eq!(stream.read(vec![0; 1]).await.unwrap().0, 0);
                stream.close().await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for client in clients {
            client.join().unwrap();
        }
    });
}

#[test]
fn sockets_of_std_can_be_adopted_blocking_or_not() {
    run(async || {
        for nonblocking in [false, true] {
            let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            listener.set_nonblocking(nonblocking).unwrap();
            let listener = TcpListener::from(listener);
            let client = std_net::TcpStream::connect(address).unwrap();
            client.set_nonblocking(nonblocking).unwrap();
            let client = TcpStream::from(client);
            let (server, _) = listener.accept().await.unwrap();
            // A second accept and both reads have to wait.
            let later =
                annulus::spawn(async move { listener.accept().await.map(|(stream, _)| stream) });
            let waiting =
                annulus::spawn(
                    async move { (client.read_exact(vec![0; 4]).await.unwrap(), client) },
                );
            annulus::yield_now().await;
            let second = std_net::TcpStream::connect(address).unwrap();
            server.write_all("ping").await.unwrap();
            let (ping, client) = waiting.await.unwrap();
            assert_eq!(ping, b"ping");
            drop((later.await.unwrap().unwrap(), second));

            // Much more than fits: the write has to wait as well.
            let flood = annulus::spawn(async move {
                client.write_all(vec![7; 8 << 20]).await.map(|buffer| buffer.len())
            });
            let mut left = 8 << 20;
            while left > 0 {
                left -= server.read(Vec::with_capacity(100_000)).await.unwrap().0;
            }
            assert_eq!(flood.await.unwrap().unwrap(), 8 << 20);
        }
    });
}

#[test]
fn options_of_a_stream_are_those_that_std_sees() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if address.starts_with('[') && !has_ipv6() {
                continue;
            }
            let listener = std_net::TcpListener::bind(address).unwrap();
            let std = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ours = TcpStream::from(std.try_clone().unwrap());
            assert_eq!(
                (ours.local_addr().unwrap(), ours.peer_addr().unwrap()),
                (std.local_addr().unwrap(), std.peer_addr().unwrap())
            );
            for nodelay in [true, false] {
                ours.set_nodelay(nodelay).unwrap();
                assert_eq!((ours.nodelay().unwrap(), std.nodelay().unwrap()), (nodelay, nodelay));
            }
            for ttl in [1, 64, 255] {
                ours.set_ttl(ttl).unwrap();
                assert_eq!((ours.ttl().unwrap(), std.ttl().unwrap()), (ttl, ttl));
            }
            assert_eq!(ours.set_ttl(256).unwrap_err().kind(), std.set_ttl(256).unwrap_err().kind());
            for linger in [Some(LONG), None] {
                ours.set_linger(linger).unwrap();
                assert_eq!(ours.linger().unwrap(), linger);
                assert_eq!(SockRef::from(&std).linger().unwrap(), linger);
            }
            assert!(ours.take_error().unwrap().is_none());
        }
    });
}

#[test]
fn a_peer_that_has_gone_has_no_address_and_leaves_nothing_to_shut_down() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        let std =
            std_net::TcpStream::from(std::os::fd::AsFd::as_fd(&ours).try_clone_to_owned().unwrap());
        reset(theirs);
        ours.read(vec![0; 1]).await.unwrap_err();
        assert_eq!(ours.peer_addr().unwrap_err().kind(), std.peer_addr().unwrap_err().kind());
        assert_eq!(ours.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        // Nothing is left to shut down, which is no error, as in tokio.
        assert_eq!(std.shutdown(Shutdown::Write).unwrap_err().kind(), ErrorKind::NotConnected);
        for how in [Shutdown::Write, Shutdown::Read, Shutdown::Both] {
            ours.shutdown(how).await.unwrap();
        }
    });
}
