//! What programs made at random come to seldom: bounds, long transfers, halves on two tasks, and
//! streams that are taken out of the adapter.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use annulus::spawn;
use annulus::time::sleep;
use futures_io::{AsyncBufRead, AsyncWrite};
use futures_util::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt};
use socket2::Socket;

use super::account::pattern;
use super::common::{Random, run, seed, turns};
use super::sockets::{tcp_pair, unix_pair};

/// What the kernel holds for a socket, in all its buffers, and the adapter beside it, is less.
const BOUND: usize = 12 << 20;
/// Turns in which nothing moves, after which nothing will.
const IDLE: usize = 200;

#[test]
fn what_is_read_ahead_is_bounded() {
    async fn check(mut ours: impl AsyncBufRead + Unpin, mut theirs: Socket) {
        theirs.set_nonblocking(true).expect("a socket");
        theirs.write_all(b"first").expect("room");
        // A chunk that is looked at and never taken.
        ours.fill_buf().await.expect("the peer is there");
        let (bytes, mut sent, mut idle) = (vec![7; 65_536], 0, 0);
        while idle < IDLE {
            match theirs.write(&bytes) {
                Ok(count) => (sent, idle) = (sent + count, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    idle += 1;
                }
            }
            assert!(sent < BOUND, "it is read ahead without a bound");
            turns(1).await;
        }
    }
    run(async || {
        let (ours, theirs) = tcp_pair();
        check(ours.into_poll(), theirs).await;
        let (ours, theirs) = unix_pair();
        check(ours.into_poll(), theirs).await;
    });
}

#[test]
fn what_is_accepted_for_a_peer_that_never_reads_is_bounded() {
    async fn check(mut ours: impl AsyncWrite + Unpin) {
        let (bytes, mut accepted, mut idle) = (vec![7; 100_000], 0, 0);
        while idle < IDLE {
            match ours.write(&bytes).now_or_never() {
                Some(count) => (accepted, idle) = (accepted + count.expect("it is there"), 0),
                None => idle += 1,
            }
            assert!(accepted < BOUND, "it is accepted without a bound");
            turns(1).await;
        }
        assert!(ours.flush().now_or_never().is_none(), "nobody has read it");
    }
    run(async || {
        let (ours, _theirs) = tcp_pair();
        check(ours.into_poll()).await;
        let (ours, _theirs) = unix_pair();
        check(ours.into_poll()).await;
    });
}

/// Reads slowly, on a thread, until the end.
fn slow_reader(mut socket: Socket, seed: u64) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (random, mut found) = (Random::new(seed), Vec::new());
        let mut buffer = vec![0; 200_000];
        loop {
            let room = random.up_to(200_000);
            match socket.read(&mut buffer[..room]).expect("the peer is there") {
                0 => return found,
                count => found.extend_from_slice(&buffer[..count]),
            }
            thread::yield_now();
        }
    })
}

/// Writes of every size, also of more than a socket takes, in one slice and in many.
async fn write_much(writer: &mut (impl AsyncWrite + Unpin), random: &Random) -> u64 {
    let mut written = 0;
    for _ in 0..60 {
        let length = match random.below(3) {
            0 => random.up_to(600_000),
            1 => random.up_to(70_000),
            _ => random.up_to(100),
        };
        let bytes = pattern(written, length);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (first, second) = rest.split_at(random.below(rest.len()));
            let slices = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
            let count = match random.chance(2) {
                true => writer.write(rest).await,
                false => writer.write_vectored(&slices).await,
            };
            rest = &rest[count.expect("the peer is there")..];
        }
        written += length as u64;
        if random.chance(10) {
            writer.flush().await.expect("the peer is there");
        }
    }
    written
}

#[test]
fn large_writes_arrive_whole_and_in_order_at_a_slow_reader() {
    let random = Random::new(seed());
    run(async || {
        let (tcp, their_tcp) = tcp_pair();
        let (unix, their_unix) = unix_pair();
        their_tcp.set_nonblocking(false).expect("a socket");
        let readers =
            [slow_reader(their_tcp, random.next()), slow_reader(their_unix, random.next())];
        // The streams are dropped with bytes that were never flushed.
        let written = [
            write_much(&mut tcp.into_poll(), &random).await,
            write_much(&mut unix.into_poll(), &random).await,
        ];
        for (reader, written) in readers.into_iter().zip(written) {
            while !reader.is_finished() {
                sleep(Duration::from_micros(100)).await;
            }
            let found = reader.join().expect("no panic");
            assert!(found == pattern(0, written as usize), "{} of {written}", found.len());
        }
    });
}

#[test]
fn halves_on_two_tasks_do_not_wait_for_each_other() {
    run(async || {
        let (ours, theirs) = unix_pair();
        let theirs = annulus::net::UnixStream::from_std(theirs.into()).expect("a stream");
        // Both write before they read, more than anybody holds, so that reading must go on
        // meanwhile.
        let ends = [ours, theirs].map(|stream| {
            let (mut reader, mut writer) = stream.into_poll().into_split();
            let writes = spawn(async move {
                writer.write_all(&pattern(0, 4_000_000)).await.expect("the peer is there");
                // The drop of this half is its end.
            });
            let reads = spawn(async move {
                let mut found = Vec::new();
                reader.read_to_end(&mut found).await.expect("the peer is there");
                assert!(found == pattern(0, 4_000_000));
            });
            [writes, reads]
        });
        for task in ends.into_iter().flatten() {
            task.await.expect("no panic");
        }
    });
}

/// By the stream's own read.
async fn more(stream: &annulus::net::UnixStream) -> Option<Vec<u8>> {
    let (count, bytes) = stream.read(vec![0; 5000]).await.expect("the peer was there");
    (count > 0).then(|| bytes[..count].to_vec())
}

#[test]
fn a_stream_that_is_taken_out_behind_a_head_has_what_follows_it() {
    let random = Random::new(seed());
    run(async || {
        for _ in 0..50 {
            let (ours, mut theirs) = unix_pair();
            let body = pattern(0, random.below(60_000));
            theirs.write_all(b"GET / HTTP/1.1\r\nUpgrade: other\r\n\r\n").expect("room");
            theirs.write_all(&body).expect("room");
            drop(theirs);
            let mut ours = ours.into_poll();
            let mut lines = 0;
            while lines < 3 {
                let mut line = String::new();
                ours.read_line(&mut line).await.expect("the peer is there");
                lines += 1;
            }
            let ours = ours.into_inner().await.expect("nothing was written");
            let mut found = Vec::new();
            while let Some(bytes) = more(&ours).await {
                found.extend_from_slice(&bytes);
            }
            assert!(found == body, "{} of {} bytes", found.len(), body.len());
        }
    });
}

#[test]
fn what_a_library_has_read_ahead_goes_back_in_front() {
    run(async || {
        let (ours, mut theirs) = unix_pair();
        theirs.write_all(b"onetwothree").expect("room");
        drop(theirs);
        let mut ours = ours.into_poll();
        let mut ahead = [0; 6];
        ours.read_exact(&mut ahead).await.expect("the peer was there");
        ours.unread(ahead[3..].to_vec());
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.expect("the peer was there");
        assert_eq!(rest, "twothree");
    });
}

#[test]
fn a_head_and_a_body_of_one_poll_are_one_send() {
    run(async || {
        // A datagram for each send would show them; sequenced packets are no stream, so the count
        // of what the ring was given has to do.
        let (ours, _theirs) = unix_pair();
        let mut ours = ours.into_poll();
        turns(3).await;
        let before = annulus::metrics().submissions;
        poll_fn(|context| {
            for part in [&b"head"[..], b"body", b"trailer"] {
                assert!(Pin::new(&mut ours).poll_write(context, part).is_ready());
            }
            std::task::Poll::Ready(())
        })
        .await;
        // A flush would send at once, past the ring.
        turns(2).await;
        assert_eq!(annulus::metrics().submissions - before, 1);
    });
}
