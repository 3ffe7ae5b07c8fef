//! Buffers that are gone for long and peers that do not read: nothing is lost, nothing spins,
//! memory is bounded, and the counters tell.
//!
//! Enters are counted against what came, never a clock. A sleep only gives the loop time in which
//! it must do nothing.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread;

use annulus::buf::Chunk;
use annulus::net::UnixStream;
use annulus::{Builder, JoinHandle, Metrics, metrics, spawn, time};
use futures_util::TryStreamExt;

use super::chunks::{echo, pair, pattern, run_with};
use crate::SHORT;
use crate::common::{forget, quiet, turns};

/// Receives so many bytes, keeps their chunks, and gives the stream back.
fn keep(stream: UnixStream, total: usize) -> JoinHandle<(UnixStream, Vec<Chunk>)> {
    spawn(async move {
        let (mut kept, mut received) = (Vec::new(), 0);
        let mut chunks = stream.chunks();
        while received < total {
            let chunk = chunks.try_next().await.unwrap().expect("the peer sends all of it");
            received += chunk.len();
            kept.push(chunk);
        }
        drop(chunks);
        (stream, kept)
    })
}

/// Receives until the end of the stream, drops each chunk at once, and says how many there were.
fn check(stream: UnixStream, total: usize) -> JoinHandle<u64> {
    spawn(async move {
        let (mut count, mut received) = (0, 0);
        let mut chunks = stream.chunks();
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            assert_eq!(chunk, pattern(received as u64, chunk.len()), "at {received}");
            (count, received) = (count + 1, received + chunk.len());
        }
        assert_eq!(received, total);
        count
    })
}

/// Sends so many messages to an echo of its own, one after the other, and receives each.
async fn converse(rounds: u64, length: usize) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let echo = spawn(echo(theirs));
    for round in 0..rounds {
        let message = ours.write_all(pattern(round, length)).await.unwrap();
        assert_eq!(ours.read_exact(vec![0; length]).await.unwrap(), message);
    }
    drop(ours);
    echo.await.unwrap().unwrap();
}

/// The loop has nothing to do, and does nothing.
async fn assert_still() {
    turns(2).await;
    let enters = metrics().enters;
    time::sleep(SHORT).await;
    assert!(metrics().enters - enters < 10, "something spins: {:?}", metrics());
}

#[test]
fn while_chunks_hold_all_buffers_many_peers_go_on_and_nothing_spins_and_later_the_buffers_serve_again()
 {
    const HOLDERS: usize = 8;
    const HELD: usize = 16 << 10;
    const STREAMS: usize = 24;
    const FIRST: usize = 8 << 10;
    const TOTAL: usize = 256 << 10;

    run_with(Builder::new().chunk_size(512).chunks(4..=32), async || {
        let (streams, mut peers): (Vec<_>, Vec<_>) = (0..HOLDERS).map(|_| pair()).unzip();
        let holders: Vec<_> = streams.into_iter().map(|stream| keep(stream, HELD)).collect();
        peers.iter_mut().for_each(|peer| peer.write_all(&pattern(0, HELD)).unwrap());
        let mut held = Vec::new();
        for holder in holders {
            held.push(holder.await.unwrap());
        }
        let count: usize = held.iter().map(|(_, kept)| kept.len()).sum();
        let Metrics { chunk_buffers, chunk_buffers_lent, chunk_copies, chunk_growths, .. } =
            quiet().await;
        assert_eq!((chunk_buffers, chunk_growths), (32, 3), "as many as may be");
        assert_eq!(
            (chunk_buffers_lent, chunk_copies),
            (24, count as u64 - 24),
            "a quarter of the buffers is left for receives"
        );
        assert_still().await;

        let before = metrics();
        let mut checks = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..STREAMS {
            let (stream, mut peer) = pair();
            // More is there at the first receive than there are buffers.
            peer.write_all(&pattern(0, FIRST)).unwrap();
            senders.push(thread::spawn(move || {
                peer.write_all(&pattern(FIRST as u64, TOTAL - FIRST)).unwrap()
            }));
            checks.push(check(stream, TOTAL));
        }
        let mut received = 0;
        for check in checks {
            received += check.await.unwrap();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let after = quiet().await;
        println!("{received} chunks received from {before:?} to {after:?}");
        assert_eq!(
            after.chunk_copies - before.chunk_copies,
            received,
            "each was copied, so no buffer was kept"
        );
        assert_eq!((after.chunk_buffers, after.chunk_buffers_lent), (32, 24));
        let exhaustions = after.chunk_exhaustions - before.chunk_exhaustions;
        assert!(exhaustions > 0, "receives found no buffer, and were started again");
        // Each enter brought a chunk at least, and for the quarter that is left each stream was
        // started again once.
        let enters = after.enters - before.enters;
        assert!(
            enters <= received && exhaustions <= received * (STREAMS / 8) as u64,
            "{enters} enters, {exhaustions} exhaustions"
        );
        assert_still().await;

        for (_, kept) in &held {
            assert_eq!(kept.concat(), pattern(0, HELD), "what is held has not changed");
        }
        let streams: Vec<_> = held.into_iter().map(|(stream, _)| stream).collect();
        assert_eq!(metrics().chunk_buffers_lent, 0);
        // The streams of the holders go on, in buffers.
        let copies = metrics().chunk_copies;
        for (stream, peer) in streams.iter().zip(&mut peers) {
            for round in 0..100 {
                peer.write_all(&pattern(round, 300)).unwrap();
                assert_eq!(stream.read_chunk().await.unwrap(), pattern(round, 300));
            }
        }
        assert_eq!((metrics().chunk_copies, metrics().chunk_buffers_lent), (copies, 0));
    });
}

/// Sends to an echo and reads nothing, until nothing more is taken. Returns how much was.
async fn stuff(peers: &[StdUnixStream]) -> Vec<usize> {
    let mut sent = vec![0; peers.len()];
    peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let mut rounds_without = 0;
    while rounds_without < 20 {
        rounds_without += 1;
        for (mut peer, sent) in peers.iter().zip(&mut sent) {
            if let Ok(count) = peer.write(&pattern(*sent as u64, 700)) {
                *sent += count;
                rounds_without = 0;
            }
        }
        turns(1).await;
    }
    peers.iter().for_each(|peer| peer.set_nonblocking(false).unwrap());
    sent
}

/// Bytes that wait in a socket to be received.
fn unread(socket: &StdUnixStream) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes an integer.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut count) }, 0);
    count as usize
}

#[test]
fn peers_that_never_read_take_bounded_memory_and_stop_nobody_and_find_everything_when_they_read_at_last()
 {
    const STUCK: usize = 16;
    /// A stream is stopped when few chunks of it wait, and until then the kernel has brought one
    /// burst more.
    const MOST_HELD: usize = 80 * 1024;

    run_with(Builder::new().chunk_size(1024).chunks(8..=32), async || {
        let (streams, peers): (Vec<_>, Vec<_>) =
            (0..STUCK).map(|_| StdUnixStream::pair().unwrap()).unzip();
        let clones: Vec<_> = streams.iter().map(|stream| stream.try_clone().unwrap()).collect();
        let echoes: Vec<_> =
            streams.into_iter().map(|stream| spawn(echo(UnixStream::from(stream)))).collect();
        let sent = stuff(&peers).await;
        // What is neither in the kernel on the way here nor on the way back.
        let held = |((sent, stream), peer): ((&usize, &StdUnixStream), &StdUnixStream)| {
            sent - unread(stream) - unread(peer)
        };
        let held: Vec<usize> = sent.iter().zip(&clones).zip(&peers).map(held).collect();
        drop(clones);
        println!("{held:?} bytes are held");
        assert!(
            held.iter().all(|held| (1..=MOST_HELD).contains(held)),
            "each is stuck, and none has taken more"
        );
        let Metrics { chunk_buffers, chunk_buffers_lent, chunk_copies, chunk_exhaustions, .. } =
            metrics();
        println!(
            "{sent:?} bytes sent, {chunk_buffers_lent} buffers lent, {chunk_copies} copies, {chunk_exhaustions} exhaustions"
        );
        assert_eq!(chunk_buffers, 32, "as many as may be");
        assert!(chunk_buffers_lent <= 24, "a quarter of the buffers is left for receives");
        assert_still().await;

        let copies = metrics().chunk_copies;
        converse(200, 5000).await;
        println!("{} copies for the lively one", metrics().chunk_copies - copies);
        assert!(metrics().chunk_buffers_lent <= 24);

        let read = |(mut peer, sent): (StdUnixStream, usize)| {
            thread::spawn(move || {
                let mut received = vec![0; sent];
                peer.read_exact(&mut received).unwrap();
                assert_eq!(received, pattern(0, sent));
            })
        };
        let readers: Vec<_> = peers.into_iter().zip(sent).map(read).collect();
        for echo in echoes {
            echo.await.unwrap().unwrap();
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(quiet().await.chunk_buffers_lent, 0);
    });
}

#[test]
fn chunks_that_are_forgotten_cost_three_quarters_of_the_buffers_and_later_streams_go_on_with_copies()
 {
    run_with(Builder::new().chunk_size(64).chunks(8..=32), async || {
        for round in 0..100usize {
            let (stream, mut peer) = pair();
            peer.write_all(&pattern(round as u64, 40)).unwrap();
            let chunk = stream.read_chunk().await.unwrap();
            assert_eq!(chunk, pattern(round as u64, 40));
            forget(chunk);
        }
        let Metrics { chunk_buffers, chunk_buffers_lent, chunk_copies, .. } = metrics();
        assert_eq!((chunk_buffers, chunk_buffers_lent, chunk_copies), (32, 24, 76));

        converse(300, 1000).await;
        let Metrics {
            chunk_buffers,
            chunk_buffers_lent,
            chunk_buffers_most_lent,
            chunk_copies,
            ..
        } = quiet().await;
        assert_eq!((chunk_buffers, chunk_buffers_lent, chunk_buffers_most_lent), (32, 24, 25));
        assert!(chunk_copies >= 76 + 300 * 1000 / 64, "{chunk_copies} copies");
        assert_still().await;
    });
}
