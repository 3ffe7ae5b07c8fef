//! Receiving in buffers of the runtime: bytes, bounds, counters, ends.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use annulus::buf::Chunk;
use annulus::fs::File;
use annulus::net::{TcpListener, TcpStream, UnixStream};
use annulus::{Builder, Metrics, RingKind, metrics, spawn};
use futures_util::{StreamExt, TryStreamExt};
use socket2::SockRef;

use crate::common::{
    Random, apart, become_ordinary, build_runtime, in_own_process, poll_in_task, run, seed, size,
    turns,
};

pub(super) fn pair() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    (UnixStream::from(ours), theirs)
}

/// Runs a future on a runtime with these buffers, and checks what must hold after every program.
pub(super) fn run_with<T: Send>(builder: Builder, test: impl AsyncFnOnce() -> T + Send) -> T {
    apart(|| {
        let runtime = build_runtime(builder);
        let output = runtime.block_on(test());
        assert_eq!(runtime.metrics().stale_completions, 0);
        output
    })
}

pub(super) async fn echo(stream: UnixStream) -> std::io::Result<()> {
    let mut chunks = stream.chunks();
    while let Some(chunk) = chunks.next().await {
        stream.write_all(chunk?).await?;
    }
    Ok(())
}

/// A stream of numbers that differ at every place, from `position` on.
pub(super) fn pattern(position: u64, length: usize) -> Vec<u8> {
    (position..position + length as u64)
        .map(|place| (place ^ place >> 8 ^ place >> 16 ^ place >> 24) as u8)
        .collect()
}

#[test]
fn an_echo_of_chunks_gives_back_what_it_got_and_holds_nothing_after() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let echo = spawn(echo(theirs));
        for round in 0..1000usize {
            let sent =
                ours.write_all(pattern(round as u64, 1 + round * 37 % 40_000)).await.unwrap();
            assert_eq!(ours.read_exact(vec![0; sent.len()]).await.unwrap(), sent);
        }
        drop(ours);
        echo.await.unwrap().unwrap();
        let Metrics { chunk_buffers, chunk_buffers_lent, chunk_copies, .. } = metrics();
        assert_eq!((chunk_buffers, chunk_buffers_lent, chunk_copies), (256, 0, 0));
    });
}

#[test]
fn a_long_stream_comes_through_the_buffers_bit_for_bit() {
    let total = size(64 << 20);
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = thread::spawn(move || {
            let mut peer = std::net::TcpStream::connect(address).unwrap();
            let mut sent = 0;
            while sent < total {
                let part = pattern(sent, (total - sent).min(1 << 20) as usize);
                peer.write_all(&part).unwrap();
                sent += part.len() as u64;
            }
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut received = 0;
        let mut chunks = stream.chunks();
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            assert!(!chunk.is_empty());
            assert_eq!(chunk, pattern(received, chunk.len()), "at {received}");
            received += chunk.len() as u64;
        }
        assert_eq!(received, total);
        assert!(chunks.next().await.is_none(), "it stays at its end");
        sender.join().unwrap();
        println!("{:?}", metrics());
        assert_eq!(metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn large_messages_on_many_connections_come_back_from_the_buffers_that_are_there() {
    const CONNECTIONS: u64 = 150;
    const LENGTH: usize = 16 * 1024;

    run(async || {
        let ask = |number| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            drop(spawn(echo(theirs)));
            spawn(async move {
                for round in 0..20 {
                    let sent = ours
                        .write_all(pattern(number * 1_000_000 + round * 100_000, LENGTH))
                        .await
                        .unwrap();
                    assert!(ours.read_exact(vec![0; LENGTH]).await.unwrap() == sent);
                }
            })
        };
        let clients: Vec<_> = (0..CONNECTIONS).map(ask).collect();
        for client in clients {
            client.await.unwrap();
        }
        let Metrics { chunk_buffers_lent, chunk_copies, chunk_exhaustions, chunk_growths, .. } =
            metrics();
        println!("{chunk_exhaustions} exhaustions, {chunk_growths} growths");
        assert_eq!((chunk_buffers_lent, chunk_copies), (0, 0));
    });
}

#[test]
fn nothing_is_lost_and_nothing_spins_when_all_chunks_are_kept() {
    const TOTAL: usize = 4 << 20;
    run_with(Builder::new().chunk_size(1024).chunks(4..=16), async || {
        let (stream, mut peer) = pair();
        let sender = thread::spawn(move || peer.write_all(&pattern(0, TOTAL)).unwrap());
        let kept: Vec<Chunk> = stream.chunks().try_collect().await.unwrap();
        sender.join().unwrap();
        assert_eq!(kept.concat(), pattern(0, TOTAL));
        let metrics = metrics();
        println!("{metrics:?}");
        assert_eq!((metrics.chunk_buffers, metrics.chunk_growths), (16, 2));
        assert_eq!(metrics.chunk_buffers_lent + metrics.chunk_copies, kept.len() as u64);
        // Each enter brought something: a chunk, or the end of a receive that found no buffer.
        assert!(
            metrics.enters <= 2 * (kept.len() as u64 + metrics.chunk_exhaustions + metrics.cancels),
            "{metrics:?}"
        );
        drop(kept);
        assert_eq!(annulus::metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn many_streams_share_few_buffers_and_all_come_to_their_end() {
    const STREAMS: usize = 40;
    const TOTAL: usize = 256 << 10;
    run_with(Builder::new().chunk_size(512).chunks(1..=4), async || {
        let (streams, peers): (Vec<_>, Vec<_>) = (0..STREAMS).map(|_| pair()).unzip();
        let senders: Vec<_> = peers
            .into_iter()
            .map(|mut peer| thread::spawn(move || peer.write_all(&pattern(0, TOTAL)).unwrap()))
            .collect();
        let tasks: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                spawn(async move {
                    let mut received = Vec::new();
                    let mut chunks = stream.chunks();
                    while let Some(chunk) = chunks.try_next().await.unwrap() {
                        received.extend_from_slice(&chunk);
                    }
                    assert_eq!(received, pattern(0, TOTAL));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        println!("{:?}", metrics());
        assert_eq!((metrics().chunk_buffers, metrics().chunk_buffers_lent), (4, 0));
    });
}

#[test]
fn a_stream_that_nobody_polls_is_stopped_and_its_peer_waits() {
    run(async || {
        let (stream, peer) = pair();
        peer.set_nonblocking(true).unwrap();
        let mut chunks = stream.chunks();
        assert!(futures_util::poll!(chunks.next()).is_pending());
        // Small messages, so that the socket takes many.
        let mut sent = 0u64;
        let mut idle = 0;
        while idle < 20 {
            match (&peer).write(&pattern(sent, 100)) {
                Ok(count) => (sent, idle) = (sent + count as u64, 0),
                Err(_) => idle += 1,
            }
            turns(1).await;
        }
        let held = metrics().chunk_buffers_lent;
        assert!((40..=80).contains(&held), "{held} chunks wait, and {sent} bytes were sent");
        let enters = metrics().enters;
        turns(1).await;
        assert!(metrics().enters - enters < 10, "and nothing spins");
        drop(peer);
        let mut received = 0;
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            assert_eq!(chunk, pattern(received, chunk.len()));
            received += chunk.len() as u64;
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn a_stalled_stream_keeps_no_other_from_its_buffers() {
    run_with(Builder::new().chunk_size(1024).chunks(8..=8), async || {
        let stalled: Vec<_> = (0..8).map(|_| pair()).collect();
        let mut stopped: Vec<_> = stalled.iter().map(|(stream, _)| stream.chunks()).collect();
        for (chunks, (_, peer)) in stopped.iter_mut().zip(&stalled) {
            assert!(futures_util::poll!(chunks.next()).is_pending());
            peer.set_nonblocking(true).unwrap();
        }
        for _ in 0..30 {
            for (_, peer) in &stalled {
                let _ = (&*peer).write(&[7; 4096]);
            }
            turns(1).await;
        }
        let (stream, mut peer) = pair();
        let lively = spawn(echo(stream));
        for round in 0..100 {
            peer.write_all(&pattern(round, 900)).unwrap();
            turns(4).await;
            let mut answer = vec![0; 900];
            peer.set_nonblocking(true).unwrap();
            peer.read_exact(&mut answer).unwrap();
            peer.set_nonblocking(false).unwrap();
            assert_eq!(answer, pattern(round, 900));
        }
        drop(peer);
        lively.await.unwrap().unwrap();
        println!("{:?}", metrics());
    });
}

#[test]
fn a_peer_that_sends_one_byte_at_a_time_is_served() {
    run(async || {
        let (stream, mut peer) = pair();
        SockRef::from(&peer).set_send_buffer_size(1 << 20).unwrap();
        let mut chunks = stream.chunks();
        let mut kept = Vec::new();
        for round in 0..2000usize {
            peer.write_all(&[round as u8]).unwrap();
            kept.push(chunks.try_next().await.unwrap().unwrap());
        }
        assert!(kept.iter().enumerate().all(|(round, chunk)| *chunk == [round as u8]));
        let metrics = metrics();
        assert_eq!(metrics.chunk_buffers, 1024, "as many as may be");
        assert_eq!(metrics.chunk_buffers_lent + metrics.chunk_copies, 2000);
    });
}

#[test]
fn forgotten_chunks_cost_three_quarters_of_the_buffers_at_most() {
    // Not lost for a leak detector.
    static FORGOTTEN: std::sync::Mutex<Vec<Chunk>> = std::sync::Mutex::new(Vec::new());
    run_with(Builder::new().chunk_size(64).chunks(8..=32), async || {
        let (stream, mut peer) = pair();
        let mut chunks = stream.chunks();
        for round in 0..1000usize {
            peer.write_all(&[round as u8; 8]).unwrap();
            let chunk = chunks.try_next().await.unwrap().unwrap();
            assert_eq!(chunk, [round as u8; 8]);
            if round < 100 {
                FORGOTTEN.lock().unwrap().push(chunk);
            }
        }
        let metrics = metrics();
        assert_eq!((metrics.chunk_buffers, metrics.chunk_buffers_lent), (32, 24));
        assert_eq!(metrics.chunk_buffers_most_lent, 25);
    });
}

#[test]
fn the_buffers_shrink_back_when_they_are_not_needed() {
    run_with(Builder::new().chunk_size(64).chunks(4..=64), async || {
        let (stream, mut peer) = pair();
        let mut chunks = stream.chunks();
        let mut kept = Vec::new();
        for _ in 0..48 {
            peer.write_all(b"kept").unwrap();
            kept.push(chunks.try_next().await.unwrap().unwrap());
        }
        assert_eq!(metrics().chunk_buffers, 64);
        drop(kept);
        for _ in 0..5000 {
            peer.write_all(b"gone").unwrap();
            assert_eq!(chunks.try_next().await.unwrap().unwrap(), b"gone");
        }
        assert_eq!(
            (metrics().chunk_buffers, metrics().chunk_growths, metrics().chunk_shrinkings),
            (4, 4, 4)
        );
    });
}

#[test]
fn chunks_are_kept_beyond_their_runtime_and_dropped_on_other_threads() {
    apart(|| {
        let mut kept = Vec::new();
        {
            let runtime = build_runtime(Builder::new());
            runtime.block_on(async {
                let (stream, mut peer) = pair();
                for round in 0..100u8 {
                    peer.write_all(&[round; 10]).unwrap();
                    kept.push(stream.read_chunk().await.unwrap());
                }
                let there = kept.split_off(50);
                thread::spawn(move || {
                    assert!(there.iter().zip(50..).all(|(chunk, round)| *chunk == [round; 10]))
                })
                .join()
                .unwrap();
                turns(1).await;
                assert_eq!(metrics().chunk_buffers_lent, 50);
            });
        }
        assert!(kept.iter().zip(0..).all(|(chunk, round)| *chunk == [round; 10]));
        thread::spawn(move || drop(kept)).join().unwrap();
    });
}

#[test]
fn a_stream_ends_at_its_end_and_after_an_error() {
    run(async || {
        let (stream, mut peer) = pair();
        peer.write_all(b"last words").unwrap();
        drop(peer);
        let mut chunks = stream.chunks();
        assert_eq!(chunks.next().await.unwrap().unwrap(), b"last words");
        assert!(chunks.next().await.is_none());
        assert!(chunks.next().await.is_none());
        assert!(stream.read_chunk().await.unwrap().is_empty());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let mut chunks = server.chunks();
        assert!(futures_util::poll!(chunks.next()).is_pending());
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        client.close().await.unwrap();
        assert_eq!(
            chunks.next().await.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        assert!(chunks.next().await.is_none());
        assert_eq!(server.read(vec![0; 8]).await.unwrap().0, 0, "the end has given up its turn");
    });
}

#[test]
fn the_halves_of_a_stream_receive_chunks_too() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = theirs.into_split();
        let echo = spawn(async move {
            let mut chunks = reader.chunks();
            while let Some(chunk) = chunks.try_next().await.unwrap() {
                writer.write_all(chunk).await.unwrap();
            }
        });
        ours.write_all("through both halves").await.unwrap();
        assert_eq!(ours.read_chunk().await.unwrap(), b"through both halves");
        drop(ours);
        echo.await.unwrap();
    });
}

#[test]
fn a_pipe_is_read_in_chunks_and_a_regular_file_is_refused() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = File::from(OwnedFd::from(reader));
        let mut chunks = reader.chunks();
        for line in ["one", "two", "three"] {
            writer.write_all(line.as_bytes()).unwrap();
            assert_eq!(chunks.try_next().await.unwrap().unwrap(), line);
        }
        drop(writer);
        assert!(chunks.next().await.is_none());
        drop(chunks);
        assert!(reader.read_chunk().await.unwrap().is_empty());

        let file = File::open("/proc/self/exe").await.unwrap();
        for error in
            [file.chunks().next().await.unwrap().unwrap_err(), file.read_chunk().await.unwrap_err()]
        {
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("read at an offset"), "{error}");
        }
    });
}

#[test]
fn chunks_of_random_sizes_between_threads_arrive_in_order() {
    let random = Random::new(seed());
    run_with(
        Builder::new().chunk_size(1 + 64 * random.up_to(64)).chunks(2..=random.up_to(20) + 2),
        async || {
            let (stream, mut peer) = pair();
            let lengths: Vec<usize> = (0..500).map(|_| random.up_to(5000)).collect();
            let total: usize = lengths.iter().sum();
            let sender = thread::spawn(move || {
                let mut position = 0;
                for length in lengths {
                    peer.write_all(&pattern(position, length)).unwrap();
                    position += length as u64;
                }
            });
            let (send, receive) = std::sync::mpsc::channel::<(u64, Chunk)>();
            let checker = thread::spawn(move || {
                while let Ok((position, chunk)) = receive.recv() {
                    assert_eq!(chunk, pattern(position, chunk.len()));
                }
            });
            let mut position = 0;
            let mut chunks = stream.chunks();
            while let Some(mut chunk) = chunks.try_next().await.unwrap() {
                if random.chance(3) {
                    let first = chunk.split_to(random.below(chunk.len() + 1));
                    send.send((position, first.clone())).unwrap();
                    position += first.len() as u64;
                }
                let length = chunk.len() as u64;
                send.send((position, chunk)).unwrap();
                position += length;
            }
            assert_eq!(position, total as u64);
            drop(send);
            checker.join().unwrap();
            sender.join().unwrap();
            turns(1).await;
            assert_eq!(metrics().chunk_buffers_lent, 0);
        },
    );
}

#[test]
fn chunks_out_of_bounds_are_refused() {
    for builder in [
        Builder::new().chunk_size(63),
        Builder::new().chunk_size((8 << 20) + 1),
        Builder::new().chunks(0..=8),
        #[allow(clippy::reversed_empty_ranges)]
        Builder::new().chunks(9..=8),
        Builder::new().chunks(1..=32_769),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn where_locked_memory_is_short_the_buffers_are_handed_over_one_by_one_and_nothing_else_changes() {
    in_own_process(|| {
        become_ordinary(64 << 10);
        // A queue of half a megabyte, which the kernel would have to lock.
        let runtime = build_runtime(
            Builder::new().ring(RingKind::Kernel).entries(64).chunk_size(1000).chunks(16..=32_768),
        );
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let echo = spawn(echo(theirs));
            for round in 0..1000usize {
                let sent =
                    ours.write_all(pattern(round as u64, 1 + round * 37 % 40_000)).await.unwrap();
                assert_eq!(ours.read_exact(vec![0; sent.len()]).await.unwrap(), sent);
            }
            drop(ours);
            echo.await.unwrap().unwrap();
            println!("{:?}", metrics());
            assert_eq!(metrics().chunk_buffers_lent, 0);
            let enters = metrics().enters;
            turns(3).await;
            assert!(metrics().enters < enters + 10, "nothing spins");
        });
        let refused =
            runtime.ring().refused().iter().find(|refusal| refusal.what() == "REGISTER_PBUF_RING");
        assert_eq!(refused.expect("too much to lock").errno(), libc::ENOMEM);
        assert_eq!(runtime.metrics().stale_completions, 0);
    });
}

#[test]
fn a_stream_that_outlives_its_runtime_goes_on_in_another_and_loses_nothing() {
    apart(|| {
        let (stream, mut peer) = pair();
        let mut chunks = stream.chunks();
        let first = build_runtime(Builder::new().chunks(1..=2));
        peer.write_all(b"one ").unwrap();
        let one = first.block_on(chunks.try_next()).unwrap().unwrap();
        for part in [&b"two "[..], b"three ", b"four "] {
            peer.write_all(part).unwrap();
            first.block_on(turns(2));
        }
        drop(first);
        peer.write_all(b"five").unwrap();
        drop(peer);
        let second = build_runtime(Builder::new());
        let rest: Vec<Chunk> = second.block_on(chunks.try_collect()).unwrap();
        drop(second);
        assert_eq!(one, b"one ");
        assert_eq!(rest.concat(), b"two three four five");
    });
}

/// Notes that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whoever_has_polled_a_stream_last_is_woken_whoever_has_polled_it_before() {
    let random = Random::new(seed());
    run(async move || {
        let (ours, mut theirs) = pair();
        let mut chunks = ours.chunks();
        for round in 0..size(500) {
            let flags: Vec<Arc<Flag>> = (0..random.below(3)).map(|_| Arc::default()).collect();
            if random.below(2) == 0 {
                assert!(poll_in_task(&mut chunks.next()).await.is_pending());
            }
            for flag in &flags {
                let waker = Waker::from(Arc::clone(flag));
                assert!(chunks.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
            }
            turns(random.below(3)).await;
            match flags.last() {
                Some(last) if random.below(2) == 0 => {
                    theirs.write_all(&[round as u8]).unwrap();
                    // More turns than a byte takes that is there.
                    turns(100).await;
                    assert!(last.0.load(Ordering::Relaxed), "round {round}");
                }
                _ => {
                    assert!(poll_in_task(&mut chunks.next()).await.is_pending());
                    theirs.write_all(&[round as u8]).unwrap();
                }
            }
            assert_eq!(chunks.next().await.unwrap().unwrap(), [round as u8]);
        }
    });
}
