//! Streams taken apart for two tasks.

use std::io::{Read, Write};
use std::thread;

use annulus::net::{Shutdown, TcpStream, UnixStream};

use crate::common::{Random, run, seed};
use crate::{SHORT, echo, tcp_pair};

#[test]
fn two_tasks_read_and_write_one_stream_at_a_time() {
    const LENGTH: usize = 2 << 20;
    let content = Random::new(seed()).bytes(LENGTH);
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        let peer = thread::spawn(move || echo(theirs));
        let (reader, writer) = ours.into_split();
        let sent = content.clone();
        let writing = annulus::spawn(async move {
            for part in sent.chunks(100_000) {
                writer.write_all(part.to_vec()).await.unwrap();
            }
        });
        let reading = annulus::spawn(async move {
            let mut received = Vec::with_capacity(LENGTH + 1);
            loop {
                let count;
                (count, received) = reader.read_append(received).await.unwrap();
                if count == 0 {
                    return received;
                }
            }
        });
        writing.await.unwrap();
        // The writing half has been dropped with its task, which ends the echo and with it the
        // reading.
        assert!(reading.await.unwrap() == content);
        peer.join().unwrap().unwrap();
    });
}

#[test]
fn dropping_the_writing_half_ends_the_stream_for_the_peer_only() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let (reader, writer) = ours.into_split();
        writer.write_all("all").await.unwrap();
        drop(writer);
        let mut received = String::new();
        theirs.read_to_string(&mut received).unwrap();
        assert_eq!(received, "all");
        theirs.write_all(b"answer").unwrap();
        assert_eq!(reader.read(vec![0; 100]).await.unwrap().1, b"answer");
        assert_eq!(reader.as_ref().peer_addr().unwrap(), theirs.local_addr().unwrap());
    });
}

#[test]
fn dropping_the_reading_half_leaves_the_writing_half_alone() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let (reader, writer) = ours.into_split();
        drop(reader);
        writer.write_all("one ").await.unwrap();
        writer.write_vectored(vec!["two"]).await.unwrap();
        writer.shutdown(Shutdown::Write).await.unwrap();
        let mut received = String::new();
        theirs.read_to_string(&mut received).unwrap();
        assert_eq!(received, "one two");
        assert_eq!(writer.as_ref().peer_addr().unwrap(), theirs.local_addr().unwrap());
    });
}

#[test]
fn halves_of_one_stream_become_it_again() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let (reader, writer) = ours.into_split();
        // An operation that was dropped keeps the descriptor, not the halves.
        reader.read(vec![0; 4]).timeout(SHORT).await.unwrap_err();
        assert!(futures_util::FutureExt::now_or_never(reader.read(vec![0; 4])).is_none());
        let stream = reader.reunite(writer).unwrap();
        stream.write_all("still open").await.unwrap();
        let mut received = [0; 10];
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"still open");
        stream.close().await.unwrap();
        assert_eq!(theirs.read(&mut received).unwrap(), 0);
    });
}

#[test]
fn halves_of_different_streams_come_back() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let (read_a, write_a) = a.into_split();
        let (read_b, write_b) = b.into_split();
        let error = read_a.reunite(write_b).unwrap_err();
        assert_eq!(error.to_string(), "the two halves are not of one stream");
        let annulus::net::ReuniteError(read_a, write_b) = error;
        write_b.write_all("nothing has been shut down").await.unwrap();
        assert_eq!(read_a.read(vec![0; 100]).await.unwrap().0, 26);
        let (a, b) = (read_a.reunite(write_a).unwrap(), read_b.reunite(write_b).unwrap());
        a.write_all("x").await.unwrap();
        assert_eq!(b.read_exact(vec![0; 1]).await.unwrap(), b"x");
    });
}

#[test]
fn the_connection_is_closed_when_both_halves_are_gone() {
    run(async || {
        let (ours, mut theirs): (TcpStream, _) = tcp_pair().await;
        let (reader, writer) = ours.into_split();
        drop(writer);
        drop(reader);
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
        annulus::yield_now().await;
        // The other end is closed, not only shut down: writing meets a reset sooner or later.
        while theirs.write_all(b"x").is_ok() {
            annulus::yield_now().await;
        }
    });
}
