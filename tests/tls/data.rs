//! Bytes that go both ways.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};

use annulus::io::{AsyncRead, AsyncWrite};
use annulus::tls::rustls::version::{TLS12, TLS13};
use annulus::tls::{ReadHalf, WriteHalf};
use futures_util::future::{join, try_join4};
use sha2::{Digest, Sha256};

use crate::Sides;
use crate::common::{Random, poll_in_task, run_here, seed, turns};
use crate::pipe::{Pipe, pair};

/// Writes random bytes in pieces of random sizes, sometimes flushes, shuts down, and tells the hash
/// of all.
async fn write_at_random(
    mut writer: WriteHalf<Pipe>,
    random: Random,
    total: usize,
) -> io::Result<Vec<u8>> {
    let (mut hash, mut left) = (Sha256::new(), total);
    while left > 0 {
        let most = [10, 2000, 100_000][random.below(3)];
        let bytes = random.bytes(random.up_to(most).min(left));
        let (count, bytes) = writer.write(bytes).await?;
        hash.update(&bytes[..count]);
        left -= count;
        if random.below(10) == 0 {
            writer.flush().await?;
        }
    }
    writer.shutdown().await?;
    Ok(hash.finalize().to_vec())
}

/// Reads to the clean end with buffers of random sizes, and tells the hash and the count.
async fn read_at_random(
    mut reader: ReadHalf<Pipe>,
    random: Random,
) -> io::Result<(Vec<u8>, usize)> {
    let (mut hash, mut total) = (Sha256::new(), 0);
    loop {
        let most = [5, 500, 50_000][random.below(3)];
        let (count, buffer) = reader.read(Vec::with_capacity(random.up_to(most))).await?;
        if count == 0 {
            return Ok((hash.finalize().to_vec(), total));
        }
        assert_eq!(count, buffer.len());
        hash.update(&buffer);
        total += count;
    }
}

#[test]
fn bytes_of_any_sizes_go_both_ways_at_once_over_a_moody_stream() {
    let random = Random::new(seed());
    let another = || Random::new(random.next());
    for version in [&TLS12, &TLS13] {
        let sides = Sides::of_version(version);
        for (most, total) in [(1, 2000), (700, 300_000), (1_000_000, 300_000)] {
            let exchange = run_here(async {
                let (client, server) = sides.shake_hands(pair(most, Some(another()))).await?;
                assert_eq!(client.protocol_version(), Some(version.version));
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                let (there, back, read_there, read_back) = try_join4(
                    write_at_random(client_writes, another(), total),
                    write_at_random(server_writes, another(), total),
                    read_at_random(server_reads, another()),
                    read_at_random(client_reads, another()),
                )
                .await?;
                assert_eq!(read_there, (there, total));
                assert_eq!(read_back, (back, total));
                io::Result::Ok(())
            });
            exchange.unwrap_or_else(|error| panic!("{most} bytes on their way: {error:?}"));
        }
    }
}

#[test]
fn what_is_accepted_goes_out_without_a_flush_and_after_a_drop() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(1000, None)).await?;
        // More than the stream below takes, and nobody polls the client any more.
        let (count, _) = client.write(vec![7; 50_000]).await?;
        assert_eq!(count, 50_000);
        server.read_exact(vec![0; 50_000]).await?;

        let (count, _) = client.write(vec![8; 50_000]).await?;
        drop(client);
        assert_eq!(server.read_exact(vec![0; count]).await?, vec![8; count]);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_peer_that_does_not_read_stops_the_writer_at_a_bound() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(1000, None)).await?;
        let mut accepted = 0;
        loop {
            let mut write = pin!(client.write(vec![7; 10_000]));
            match poll_in_task(&mut write).await {
                std::task::Poll::Ready(result) => accepted += result?.0,
                std::task::Poll::Pending => break,
            }
            assert!(accepted < 200_000);
            turns(2).await;
        }
        // The dropped write has written nothing.
        let rest = async {
            client.shutdown().await?;
            io::Result::Ok(client)
        };
        let mut read = Vec::new();
        let (_client, count) = join(rest, server.read_to_end(&mut read)).await;
        assert_eq!(count?, accepted);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn several_slices_are_one_write() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(100_000, None)).await?;
        let slices = [b"a head".as_slice(), b"", b", and a body"].map(IoSlice::new);
        let write = poll_fn(|context| {
            futures_io::AsyncWrite::poll_write_vectored(Pin::new(&mut client), context, &slices)
        });
        assert_eq!(write.await?, 18);
        // In one record, so in one read.
        let (_, read) = server.read(Vec::with_capacity(100)).await?;
        assert_eq!(read, b"a head, and a body");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_read_without_room_is_no_end() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(100_000, None)).await?;
        client.write_all("text").await?;
        let refused = server.read(Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let read = poll_fn(|context| {
            futures_io::AsyncRead::poll_read(Pin::new(&mut server), context, &mut [])
        });
        assert_eq!(read.await?, 0);
        assert_eq!(server.read_exact(vec![0; 4]).await?, b"text");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
// What is not to be done, and harms nothing.
#[allow(clippy::await_holding_refcell_ref)]
fn bytes_go_out_while_somebody_looks_at_the_stream_below() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(1000, None)).await?;
        client.write_all(vec![7; 5000]).await?;
        let below = client.get_ref();
        turns(3).await;
        assert!(!below.is_stalled.get());
        drop(below);
        server.read_exact(vec![0; 5000]).await?;
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn halves_become_a_stream_again_and_those_of_two_streams_do_not() {
    let sides = Sides::new();
    run_here(async {
        let (client, server) = sides.shake_hands(pair(1000, None)).await?;
        let (client_reads, client_writes) = client.into_split();
        let (server_reads, server_writes) = server.into_split();
        let refused = client_reads.reunite(server_writes).unwrap_err();
        assert_eq!(refused.to_string(), "the halves are not of one stream");
        let mut client = refused.0.reunite(client_writes).unwrap();
        let mut server = server_reads.reunite(refused.1).unwrap();
        client.write_all("text").await?;
        assert_eq!(server.read_exact(vec![0; 4]).await?, b"text");
        io::Result::Ok(())
    })
    .unwrap();
}

#[cfg(feature = "tokio-io")]
#[test]
fn the_traits_of_tokio_read_and_write() {
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(1000, None)).await?;
        assert!(AsyncWrite::is_write_vectored(&client));
        let write =
            poll_fn(|context| AsyncWrite::poll_write(Pin::new(&mut client), context, b"some text"));
        assert_eq!(write.await?, 9);
        poll_fn(|context| AsyncWrite::poll_shutdown(Pin::new(&mut client), context)).await?;
        let mut memory = [0; 100];
        let mut buffer = ReadBuf::new(&mut memory);
        buffer.put_slice(b"read: ");
        loop {
            let before = buffer.filled().len();
            poll_fn(|context| AsyncRead::poll_read(Pin::new(&mut server), context, &mut buffer))
                .await?;
            if buffer.filled().len() == before {
                break;
            }
        }
        assert_eq!(buffer.filled(), b"read: some text");
        io::Result::Ok(())
    })
    .unwrap();
}

#[cfg(feature = "hyper")]
#[test]
fn the_traits_of_hyper_read_and_write() {
    use hyper::rt::{Read, ReadBuf, Write};
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(1000, None)).await?;
        assert!(Write::is_write_vectored(&client));
        let slices = [b"some ".as_slice(), b"text"].map(IoSlice::new);
        let write =
            poll_fn(|context| Write::poll_write_vectored(Pin::new(&mut client), context, &slices));
        assert_eq!(write.await?, 9);
        poll_fn(|context| Write::poll_flush(Pin::new(&mut client), context)).await?;
        poll_fn(|context| Write::poll_shutdown(Pin::new(&mut client), context)).await?;
        let mut memory = [0; 100];
        let mut buffer = ReadBuf::new(&mut memory);
        loop {
            let before = buffer.filled().len();
            poll_fn(|context| Read::poll_read(Pin::new(&mut server), context, buffer.unfilled()))
                .await?;
            if buffer.filled().len() == before {
                break;
            }
        }
        assert_eq!(buffer.filled(), b"some text");
        io::Result::Ok(())
    })
    .unwrap();
}
