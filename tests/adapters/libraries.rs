//! What tokio, tokio-util and futures build on their traits, over the adapters.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use annulus::io::PollStream;
use annulus::net::UnixStream;
use annulus::{spawn, time};
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec, LinesCodec};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::io::{ReaderStream, StreamReader};

use super::account::pattern;
use super::common::{Random, run, seed};

type Polled = PollStream<UnixStream>;

/// More than the kernel and the adapter hold.
const MANY: usize = 3_000_000;

fn pair() -> (Polled, Polled) {
    let (one, other) = UnixStream::pair().expect("a pair");
    (one.into_poll(), other.into_poll())
}

/// Sends back what comes, and ends when that ends.
async fn echo(stream: Polled) {
    let (reader, writer) = stream.into_split();
    let mut writer = writer;
    futures_util::io::copy_buf(reader, &mut writer).await.expect("the peer is there");
    futures_util::AsyncWriteExt::close(&mut writer).await.expect("the peer is there");
}

#[test]
fn tokio_split_carries_both_directions_on_two_tasks() {
    run(async || {
        let (ours, theirs) = pair();
        let echo = spawn(echo(theirs));
        let (mut reader, mut writer) = tokio::io::split(ours);
        let writes = spawn(async move {
            writer.write_all(&pattern(0, MANY)).await.expect("the peer is there");
            writer.shutdown().await.expect("the peer is there");
            writer
        });
        let mut found = Vec::new();
        reader.read_to_end(&mut found).await.expect("the peer is there");
        assert!(found == pattern(0, MANY));
        let writer = writes.await.expect("no panic");
        assert!(reader.is_pair_of(&writer));
        echo.await.expect("no panic");
    });
}

#[test]
fn futures_split_carries_both_directions_on_two_tasks() {
    use futures_util::{AsyncReadExt, AsyncWriteExt};
    run(async || {
        let (ours, theirs) = pair();
        let echo = spawn(echo(theirs));
        let (mut reader, mut writer) = AsyncReadExt::split(ours);
        let writes = spawn(async move {
            writer.write_all(&pattern(0, MANY)).await.expect("the peer is there");
            writer.close().await.expect("the peer is there");
        });
        let mut found = Vec::new();
        AsyncReadExt::read_to_end(&mut reader, &mut found).await.expect("the peer is there");
        assert!(found == pattern(0, MANY));
        writes.await.expect("no panic");
        echo.await.expect("no panic");
    });
}

#[test]
fn tokio_copies_in_both_directions_through_a_proxy() {
    run(async || {
        let ((client, mut front), (mut back, server)) = (pair(), pair());
        let proxy =
            spawn(async move { tokio::io::copy_bidirectional(&mut front, &mut back).await });
        let server = spawn(echo(server));
        let (mut reader, mut writer) = client.into_split();
        let writes = spawn(async move {
            for start in (0..MANY).step_by(70_001) {
                let length = (MANY - start).min(70_001);
                let bytes = pattern(start as u64, length);
                writer.write_all(&bytes).await.expect("the peer is there");
            }
            writer.shutdown().await.expect("the peer is there");
        });
        let mut found = Vec::new();
        reader.read_to_end(&mut found).await.expect("the peer is there");
        assert!(found == pattern(0, MANY));
        writes.await.expect("no panic");
        server.await.expect("no panic");
        let copied = proxy.await.expect("no panic").expect("both ends are there");
        assert_eq!(copied, (MANY as u64, MANY as u64));
    });
}

#[test]
fn frames_of_tokio_util_go_both_ways() {
    let random = Random::new(seed());
    run(async || {
        let (ours, theirs) = pair();
        let mut theirs = Framed::new(theirs, LengthDelimitedCodec::new());
        let server = spawn(async move {
            while let Some(frame) = theirs.next().await {
                theirs.send(frame.expect("a frame").freeze()).await.expect("the peer is there");
            }
        });
        let mut ours = Framed::new(ours, LengthDelimitedCodec::new());
        for round in 0..200 {
            let frame = pattern(round, random.below(100_000));
            ours.send(Bytes::from(frame.clone())).await.expect("the peer is there");
            assert!(ours.next().await.expect("an answer").expect("a frame") == frame);
        }
        SinkExt::<Bytes>::close(&mut ours).await.expect("the peer is there");
        assert!(ours.next().await.is_none());
        server.await.expect("no panic");
    });
}

#[test]
fn lines_are_the_same_by_every_library() {
    let random = Random::new(seed());
    let lines: Vec<String> =
        (0..500).map(|line| format!("{line} {}", "x".repeat(random.below(500)))).collect();
    run(async || {
        for library in 0..4 {
            let (ours, theirs) = pair();
            let sent = lines.clone();
            let sends = spawn(async move {
                let mut sink = FramedWrite::new(theirs, LinesCodec::new());
                for line in sent {
                    sink.feed(line).await.expect("the peer is there");
                }
                SinkExt::<String>::close(&mut sink).await.expect("the peer is there");
            });
            let found: Vec<String> = match library {
                0 => {
                    let lines = FramedRead::new(ours, LinesCodec::new());
                    lines.try_collect().await.expect("lines")
                }
                // The adapter is a buffered reader by itself.
                1 => {
                    let lines = futures_util::AsyncBufReadExt::lines(ours);
                    lines.try_collect().await.expect("lines")
                }
                2 => {
                    let (mut lines, mut found) = (ours.lines(), Vec::new());
                    while let Some(line) = lines.next_line().await.expect("lines") {
                        found.push(line);
                    }
                    found
                }
                _ => {
                    let buffered = futures_util::io::BufReader::with_capacity(100, ours);
                    let lines = futures_util::AsyncBufReadExt::lines(buffered);
                    lines.try_collect().await.expect("lines")
                }
            };
            assert_eq!(found, lines);
            sends.await.expect("no panic");
        }
    });
}

#[test]
fn the_compatibility_layers_of_tokio_util_stack() {
    run(async || {
        let (ours, theirs) = pair();
        let echo = spawn(echo(theirs));
        // The traits of futures, as those of tokio, as those of futures again.
        let ours = FuturesAsyncReadCompatExt::compat(ours);
        let ours = TokioAsyncReadCompatExt::compat(ours);
        let (mut reader, mut writer) = futures_util::AsyncReadExt::split(ours);
        let writes = spawn(async move {
            use futures_util::AsyncWriteExt;
            writer.write_all(&pattern(0, MANY)).await.expect("the peer is there");
            writer.close().await.expect("the peer is there");
        });
        let mut found = vec![0; MANY];
        futures_util::AsyncReadExt::read_exact(&mut reader, &mut found).await.expect("all of it");
        assert!(found == pattern(0, MANY));
        writes.await.expect("no panic");
        echo.await.expect("no panic");
    });
}

#[test]
fn streams_of_bytes_are_readers_and_readers_are_streams() {
    run(async || {
        let (ours, mut theirs) = pair();
        let sends = spawn(async move {
            theirs.write_all(&pattern(0, 100_000)).await.expect("the peer is there");
            // What a drop leaves is sent all the same.
        });
        let stream = ReaderStream::with_capacity(ours, 777);
        let mut reader = StreamReader::new(stream);
        let mut found = Vec::new();
        reader.read_to_end(&mut found).await.expect("the peer is there");
        assert!(found == pattern(0, 100_000));
        sends.await.expect("no panic");
    });
}

/// A conversation that ends the same over any two ends: what the client has found.
async fn conversation<S>(client: S, server: S, seed: u64) -> Vec<Vec<u8>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let server = spawn(async move {
        let mut server = tokio::io::BufStream::new(server);
        while let Ok(length) = server.read_u32().await {
            let mut bytes = vec![0; length as usize];
            server.read_exact(&mut bytes).await.expect("a message");
            bytes.reverse();
            server.write_u32(length).await.expect("the peer is there");
            server.write_all(&bytes).await.expect("the peer is there");
            server.flush().await.expect("the peer is there");
        }
        server.shutdown().await.expect("the peer is there");
    });
    let (random, mut found) = (Random::new(seed), Vec::new());
    let mut client = tokio::io::BufReader::new(client);
    for _ in 0..100 {
        let message = random.bytes(random.below(20_000));
        client.write_u32(message.len() as u32).await.expect("the peer is there");
        client.write_all(&message).await.expect("the peer is there");
        client.flush().await.expect("the peer is there");
        let length = client.read_u32().await.expect("an answer");
        let mut answer = vec![0; length as usize];
        client.read_exact(&mut answer).await.expect("an answer");
        found.push(answer);
    }
    client.shutdown().await.expect("the peer is there");
    assert_eq!(client.read(&mut [0; 10]).await.expect("the end"), 0);
    server.await.expect("no panic");
    found
}

#[test]
fn a_conversation_is_the_one_that_tokio_has_in_memory() {
    let seed = seed();
    run(async || {
        let (client, server) = tokio::io::duplex(1000);
        let in_memory = conversation(client, server, seed).await;
        let (client, server) = pair();
        assert!(conversation(client, server, seed).await == in_memory);
    });
}

#[test]
fn a_read_that_loses_a_select_loses_no_bytes() {
    run(async || {
        let (mut ours, theirs) = pair();
        let sends = spawn(async move {
            let mut theirs = theirs;
            for start in (0..200_000).step_by(1000) {
                theirs.write_all(&pattern(start, 1000)).await.expect("the peer is there");
                theirs.flush().await.expect("the peer is there");
                time::sleep(Duration::from_micros(50)).await;
            }
        });
        let (mut found, mut lost) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 300];
            let read = pin!(futures_util::AsyncReadExt::read(&mut ours, &mut buffer));
            let late = pin!(time::sleep(Duration::from_micros(10)));
            match select(late, read).await {
                Either::Left(_) => lost += 1,
                Either::Right((count, _)) => match count.expect("the peer is there") {
                    0 => break,
                    count => found.extend_from_slice(&buffer[..count]),
                },
            }
        }
        assert!(found == pattern(0, 200_000), "{} bytes, {lost} reads lost", found.len());
        sends.await.expect("no panic");
    });
}

#[test]
fn many_tasks_share_one_writer_behind_a_lock() {
    run(async || {
        let (ours, theirs) = pair();
        let writer = Rc::new(async_lock::Mutex::new(Framed::new(theirs, LinesCodec::new())));
        let tasks: annulus::JoinSet<()> = (0..50)
            .map(|task| {
                let writer = Rc::clone(&writer);
                async move {
                    for line in 0..20 {
                        let mut writer = writer.lock().await;
                        writer.send(format!("{task} {line}")).await.expect("the peer is there");
                    }
                }
            })
            .collect();
        let mut next = [0; 50];
        let mut lines = FramedRead::new(ours, LinesCodec::new());
        for _ in 0..50 * 20 {
            let line = lines.next().await.expect("a line").expect("text");
            let (task, line) = line.split_once(' ').expect("two numbers");
            let next = &mut next[task.parse::<usize>().expect("a number")];
            assert_eq!(line, next.to_string());
            *next += 1;
        }
        tasks.join_all().await;
    });
}
