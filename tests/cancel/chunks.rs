//! A dropped stream of chunks, or a dropped `read_chunk`, never loses a byte.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use annulus::buf::Chunk;
use annulus::fs::File;
use annulus::net::UnixStream;
use annulus::{metrics, spawn, time};
use futures_util::{StreamExt, TryStreamExt};

use crate::common::{Random, run, seed, size};
use crate::{start_and_drop, turn};

fn pair() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (UnixStream::from(ours), theirs)
}

#[test]
fn what_a_dropped_stream_had_received_goes_to_whatever_reads_next() {
    run(async || {
        for turns in 0..5 {
            let (stream, mut peer) = pair();
            let mut chunks = stream.chunks();
            assert!(futures_util::poll!(chunks.next()).is_pending());
            for part in [&b"one "[..], b"two ", b"three "] {
                peer.write_all(part).unwrap();
                if turns > 0 {
                    turn().await;
                }
            }
            for _ in 0..turns {
                turn().await;
            }
            drop(chunks);
            assert_eq!(stream.read_exact(vec![0; 2]).await.unwrap(), b"on", "{turns} turns");
            assert_eq!(stream.read_exact(vec![0; 5]).await.unwrap(), b"e two", "{turns} turns");
            peer.write_all(b"four").unwrap();
            drop(peer);
            let rest: Vec<_> = stream.chunks().try_collect().await.unwrap();
            assert_eq!(rest.concat(), b" three four", "{turns} turns");
        }
        assert_eq!(metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn what_a_dropped_read_left_comes_out_of_chunks() {
    run(async || {
        for turns in 0..4 {
            let (stream, mut peer) = pair();
            let mut read = Box::pin(stream.read(vec![0; 64]));
            assert!(futures_util::poll!(&mut read).is_pending());
            peer.write_all(b"before ").unwrap();
            for _ in 0..turns {
                turn().await;
            }
            drop(read);
            peer.write_all(b"after").unwrap();
            drop(peer);
            let all: Vec<_> = stream.chunks().try_collect().await.unwrap();
            assert_eq!(all.concat(), b"before after", "{turns} turns");
        }
    });
}

#[test]
fn what_a_large_dropped_read_left_comes_out_in_chunks_of_at_most_8_mib() {
    const LEFT: usize = 17 << 20;
    run(async || {
        let (stream, mut peer) = pair();
        let sent = Random::new(seed()).bytes(LEFT);
        let expected = sent.clone();
        let sender = std::thread::spawn(move || {
            peer.write_all(&sent).unwrap();
            peer
        });
        let mut read = Box::pin(stream.read_exact(vec![0; LEFT + 1]));
        while !sender.is_finished() {
            assert!(futures_util::poll!(&mut read).is_pending());
            turn().await;
        }
        drop(read);
        drop(sender.join().unwrap());
        let all: Vec<_> = stream.chunks().try_collect().await.unwrap();
        assert_eq!((all[0].len(), all[1].len()), (8 << 20, 8 << 20));
        assert!(all.concat() == expected);
    });
}

#[test]
fn a_dropped_read_chunk_leaves_its_bytes_for_the_next() {
    run(async || {
        for turns in 0..4 {
            let (stream, mut peer) = pair();
            peer.write_all(b"0123456789").unwrap();
            let first = start_and_drop(stream.read_chunk(), turns).await;
            assert!(first.is_none());
            assert_eq!(stream.read_exact(vec![0; 4]).await.unwrap(), b"0123", "{turns} turns");
            assert_eq!(stream.read_chunk().await.unwrap(), b"456789", "{turns} turns");
        }
    });
}

#[test]
fn a_read_that_is_dropped_beside_a_read_chunk_keeps_its_turn_when_that_one_ends() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = File::from(OwnedFd::from(reader));
        let mut read = Box::pin(reader.read_at(vec![0; 8], 0));
        assert!(futures_util::poll!(&mut read).is_pending());
        let mut chunk = reader.read_chunk();
        assert!(futures_util::poll!(&mut chunk).is_pending());
        let mut cancelled = Box::pin(chunk.cancel());
        assert!(futures_util::poll!(&mut cancelled).is_pending());
        turn().await;
        turn().await;
        drop(read);
        // It ends while the dropped one is in flight.
        assert_eq!(cancelled.await.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        turn().await;
        turn().await;
        writer.write_all(b"next").unwrap();
        assert_eq!(reader.read_chunk().await.unwrap(), b"next");
        writer.write_all(b"last").unwrap();
        assert_eq!(reader.read_chunk().await.unwrap(), b"last");
    });
}

#[test]
fn other_reads_wait_while_a_stream_of_chunks_is_there() {
    run(async || {
        let (stream, mut peer) = pair();
        let mut chunks = stream.chunks();
        assert!(futures_util::poll!(chunks.next()).is_pending());
        let mut read = Box::pin(stream.read(vec![0; 8]));
        assert!(futures_util::poll!(&mut read).is_pending());
        peer.write_all(b"first").unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap(), b"first");
        peer.write_all(b"second").unwrap();
        turn().await;
        turn().await;
        assert!(futures_util::poll!(&mut read).is_pending());
        drop(chunks);
        let (count, buffer) = read.await.unwrap();
        assert_eq!(&buffer[..count], b"second");
    });
}

#[test]
fn streams_that_are_dropped_at_random_lose_nothing() {
    let random = Random::new(seed());
    let total = size(4 << 20) as usize;
    run(async || {
        let (stream, mut peer) = pair();
        let sent = random.bytes(total);
        let expected = sent.clone();
        let sizes: Vec<usize> = (0..1000).map(|_| random.up_to(20_000)).collect();
        let sender = std::thread::spawn(move || {
            let mut rest = &sent[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    return;
                }
                let (part, after) = rest.split_at((*size).min(rest.len()));
                peer.write_all(part).unwrap();
                rest = after;
            }
        });
        let mut received = Vec::with_capacity(total);
        let mut drops = 0;
        while received.len() < total {
            drops += 1;
            match random.below(4) {
                0 => {
                    let mut chunks = stream.chunks();
                    for _ in 0..random.below(6) {
                        match time::timeout(
                            Duration::from_micros(random.below(300) as u64),
                            chunks.next(),
                        )
                        .await
                        {
                            Ok(Some(chunk)) => received.extend_from_slice(&chunk.unwrap()),
                            Ok(None) => break,
                            Err(_) => {}
                        }
                    }
                }
                1 => {
                    if let Some(chunk) = start_and_drop(stream.read_chunk(), random.below(3)).await
                    {
                        received.extend_from_slice(&chunk.unwrap());
                    }
                }
                2 => {
                    if let Some(read) =
                        start_and_drop(stream.read(vec![0; random.up_to(5000)]), random.below(3))
                            .await
                    {
                        let (count, buffer) = read.unwrap();
                        received.extend_from_slice(&buffer[..count]);
                    }
                }
                _ => {
                    let task = spawn({
                        let limit = Duration::from_micros(random.below(500) as u64);
                        async move { time::sleep(limit).await }
                    });
                    let chunk = stream.read_chunk().timeout(Duration::from_millis(1)).await;
                    received
                        .extend_from_slice(&chunk.unwrap_or_else(|error| nothing_if_late(&error)));
                    task.await.unwrap();
                }
            }
        }
        sender.join().unwrap();
        assert!(received == expected, "after {drops} drops");
        while metrics().operations_in_flight > 1 {
            turn().await;
        }
        assert_eq!(metrics().chunk_buffers_lent, 0, "after {drops} drops");
        println!("{drops} drops, {:?}", metrics());
    });
}

/// A read that came too late has brought nothing.
fn nothing_if_late(error: &std::io::Error) -> Chunk {
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    Chunk::default()
}

#[test]
fn a_task_that_is_aborted_among_chunks_and_a_runtime_that_ends_leave_nothing_behind() {
    run(async || {
        for turns in 0..4 {
            let (stream, mut peer) = pair();
            let task = spawn(async move {
                let mut chunks = stream.chunks();
                let mut kept = Vec::new();
                while let Some(chunk) = chunks.next().await {
                    kept.push(chunk);
                }
            });
            turn().await;
            peer.write_all(b"some").unwrap();
            for _ in 0..turns {
                turn().await;
            }
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        while metrics().chunk_buffers_lent > 0 {
            turn().await;
        }
        // This one is in flight at the end of the runtime.
        let (stream, mut peer) = pair();
        peer.write_all(b"some").unwrap();
        drop(spawn(async move {
            let mut chunks = stream.chunks();
            while let Some(Ok(_)) = chunks.next().await {}
        }));
        turn().await;
        drop(peer);
    });
}
