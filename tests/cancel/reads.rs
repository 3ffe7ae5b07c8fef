//! A dropped read never loses a byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::net::UnixStream;
use annulus::time;

use crate::common::{Random, run, seed, size};
use crate::{start_and_drop, turn};

fn pair() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (UnixStream::from(ours), theirs)
}

#[test]
fn bytes_that_a_dropped_read_got_go_to_the_next_one_whatever_its_size() {
    run(async || {
        for turns in 0..4 {
            let (stream, mut peer) = pair();
            let mut read = Box::pin(stream.read(vec![0; 64]));
            assert!(futures_util::poll!(&mut read).is_pending());
            peer.write_all(b"0123456789").unwrap();
            for _ in 0..turns {
                turn().await;
            }
            drop(read);
            let (count, buffer) = stream.read(vec![0; 3]).await.unwrap();
            assert_eq!(&buffer[..count], b"012", "{turns} turns");
            peer.write_all(b"abc").unwrap();
            let all = stream.read_exact(Vec::with_capacity(10).slice(..10)).await.unwrap();
            assert_eq!(&all[..], b"3456789abc", "{turns} turns");
        }
    });
}

#[test]
fn an_exact_read_that_is_dropped_midway_gives_back_what_it_had() {
    run(async || {
        let (stream, mut peer) = pair();
        let mut read = Box::pin(stream.read_exact(vec![0; 100]));
        assert!(futures_util::poll!(&mut read).is_pending());
        for part in [&b"one "[..], b"two ", b"three "] {
            peer.write_all(part).unwrap();
            turn().await;
            turn().await;
            assert!(futures_util::poll!(&mut read).is_pending());
        }
        drop(read);
        peer.write_all(b"four").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        loop {
            let (count, buffer) = stream.read(vec![0; 5]).await.unwrap();
            if count == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(all, b"one two three four");
    });
}

#[test]
fn a_vectored_read_hands_over_and_takes_over() {
    run(async || {
        let (stream, mut peer) = pair();
        let mut read = Box::pin(stream.read_vectored(vec![vec![0; 2], vec![0; 3], vec![0; 100]]));
        assert!(futures_util::poll!(&mut read).is_pending());
        peer.write_all(b"abcdefghij").unwrap();
        turn().await;
        turn().await;
        drop(read);
        let (count, buffers) = stream.read_vectored(vec![vec![0; 4], vec![0; 4]]).await.unwrap();
        assert_eq!((count, buffers), (8, vec![b"abcd".to_vec(), b"efgh".to_vec()]));
        let (count, buffer) = stream.read(vec![0; 9]).await.unwrap();
        assert_eq!((count, &buffer[..2]), (2, &b"ij"[..]));
    });
}

#[test]
fn halves_and_the_reunited_stream_hand_over_too() {
    run(async || {
        let (stream, mut peer) = pair();
        let (reader, writer) = stream.into_split();
        peer.write_all(b"split").unwrap();
        assert!(start_and_drop(reader.read(vec![0; 64]), 2).await.is_none());
        let stream = reader.reunite(writer).unwrap();
        assert_eq!(stream.read_exact(vec![0; 5]).await.unwrap(), b"split");
    });
}

#[test]
fn reads_that_wait_at_the_same_time_take_turns_in_order() {
    run(async || {
        let (stream, mut peer) = pair();
        let (first, second) = (stream.read_exact(vec![0; 4]), stream.read_exact(vec![0; 4]));
        let write = async {
            turn().await;
            peer.write_all(b"ab").unwrap();
            turn().await;
            peer.write_all(b"cdefgh").unwrap();
        };
        let (first, second, ()) = futures_util::join!(first, second, write);
        assert_eq!((first.unwrap(), second.unwrap()), (b"abcd".to_vec(), b"efgh".to_vec()));
    });
}

#[test]
fn a_read_that_waits_its_turn_can_be_dropped_cancelled_and_timed_out() {
    run(async || {
        let (stream, mut peer) = pair();
        let mut first = Box::pin(stream.read(vec![0; 8]));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(start_and_drop(stream.read(vec![0; 8]), 1).await.is_none());
        let mut second = stream.read(vec![0; 8]);
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(second.cancel().await.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let late = stream.read(vec![0; 8]).timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        let third = stream.read(vec![0; 8]);
        peer.write_all(b"for the 1st").unwrap();
        assert_eq!(first.await.unwrap().1, b"for the ");
        assert_eq!(third.await.unwrap().0, 3);
    });
}

#[test]
fn an_error_that_the_kernel_tells_once_is_told_to_the_next_read() {
    run(async || {
        let listener = annulus::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut read = Box::pin(stream.read(vec![0; 8]));
        assert!(futures_util::poll!(&mut read).is_pending());
        turn().await;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        drop(read);
        let error = stream.read(vec![0; 8]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert_eq!(stream.read(vec![0; 8]).await.unwrap().0, 0, "and only once");
    });
}

/// A stream read through futures that are dropped or timed out at random arrives bit for bit.
#[test]
fn a_stream_read_through_dropped_and_timed_out_reads_arrives_whole() {
    let total = size(256 * 1024 * 1024);
    let random = Random::new(seed());
    run(async || {
        let (stream, mut peer) = pair();
        let seed = random.next();
        let writer = std::thread::spawn(move || {
            let mut bytes = Bytes(seed);
            let random = Random::new(seed);
            let mut sent = 0;
            while sent < total {
                let part = (1 + random.below(64 * 1024) as u64).min(total - sent);
                let chunk: Vec<u8> = (0..part).map(|_| bytes.next()).collect();
                peer.write_all(&chunk).unwrap();
                sent += part;
            }
        });
        let mut expected = Bytes(seed);
        let (mut received, mut dropped) = (0, 0u64);
        while received < total {
            let room = 1 + random.below(96 * 1024);
            let chunk = match random.below(5) {
                0 => match start_and_drop(stream.read(Vec::with_capacity(room)), random.below(3))
                    .await
                {
                    Some(read) => read.unwrap().1,
                    None => {
                        dropped += 1;
                        continue;
                    }
                },
                1 => {
                    let exact = stream.read_exact(Vec::with_capacity(room));
                    match time::timeout(Duration::from_micros(random.below(900) as u64), exact)
                        .await
                    {
                        Ok(Ok(chunk)) => chunk,
                        Ok(Err(error)) => error.into_buffer(),
                        Err(_) => {
                            dropped += 1;
                            continue;
                        }
                    }
                }
                2 => match stream
                    .read_exact(Vec::with_capacity(room))
                    .timeout(Duration::from_micros(random.below(900) as u64))
                    .await
                {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        let count = error.transferred();
                        error.into_buffer()[..count].to_vec()
                    }
                },
                _ => stream.read(Vec::with_capacity(room)).await.unwrap().1,
            };
            for byte in &chunk {
                assert_eq!(
                    *byte,
                    expected.next(),
                    "after {received} bytes and {dropped} dropped reads"
                );
            }
            received += chunk.len() as u64;
        }
        writer.join().unwrap();
        println!("{received} bytes, {dropped} reads dropped");
    });
}

/// A stream of bytes in which none follows from its position alone.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 56) as u8
    }
}

#[test]
fn what_is_left_when_a_stream_goes_goes_with_it() {
    run(async || {
        let (stream, mut peer) = pair();
        peer.write_all(b"unread").unwrap();
        assert!(start_and_drop(stream.read(vec![0; 64]), 2).await.is_none());
        drop(stream);
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        assert_eq!(peer.read(&mut [0]).unwrap_or(0), 0);
    });
}

#[test]
fn a_pipe_that_is_read_as_a_file_hands_over_too() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let file = annulus::fs::File::from(std::os::fd::OwnedFd::from(reader));
        for turns in 0..4 {
            let mut read = Box::pin(file.read_at(vec![0; 64], 0));
            assert!(futures_util::poll!(&mut read).is_pending());
            writer.write_all(b"0123456789").unwrap();
            for _ in 0..turns {
                turn().await;
            }
            drop(read);
            let (count, buffer) = file.read_at(vec![0; 3], 0).await.unwrap();
            assert_eq!(&buffer[..count], b"012", "{turns} turns");
            let (count, buffers) =
                file.read_vectored_at(vec![vec![0; 2], vec![0; 1]], 0).await.unwrap();
            assert_eq!((count, buffers), (3, vec![b"34".to_vec(), b"5".to_vec()]));
            let mut exact = Box::pin(file.read_exact_at(vec![0; 8], 0));
            assert!(futures_util::poll!(&mut exact).is_pending());
            for _ in 0..turns {
                turn().await;
            }
            drop(exact);
            writer.write_all(b"abc").unwrap();
            assert_eq!(
                file.read_exact_at(vec![0; 7], 0).await.unwrap(),
                b"6789abc",
                "{turns} turns"
            );
        }
    });
}
