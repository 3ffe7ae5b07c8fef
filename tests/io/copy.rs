//! Copying: all of it, in order, by the way that is told, and half-closed streams to their ends.

use std::io::ErrorKind;
use std::rc::Rc;

use annulus::io::{AsyncRead, AsyncWrite, BufWriter, CopiedBy, copy, copy_bidirectional, pipe};
use annulus::net::{Shutdown, TcpListener, TcpStream, UnixStream};
use annulus::spawn;

use crate::common::{Random, run, seed, turns};
use crate::tools::{Bits, polls};

#[test]
fn everything_is_copied_whatever_reader_and_writer_move_at_a_time() {
    let seed = seed();
    run(async move || {
        let random = Random::new(seed);
        for _ in 0..50 {
            let bytes = random.bytes(random.below(3000));
            let mut reader = Bits::of(&bytes, random.up_to(700)).waiting();
            let mut writer = BufWriter::with_capacity(512, Bits::of(b"", random.up_to(90)));
            let copied = copy(&mut reader, &mut writer).await.unwrap();
            assert_eq!((copied.bytes, copied.by), (bytes.len() as u64, CopiedBy::Buffer));
            let beneath = writer.into_inner();
            assert_eq!((beneath.flushes, beneath.bytes == bytes), (1, true));
        }
    });
}

#[test]
fn errors_of_both_sides_end_it() {
    run(async || {
        let (mut reader, mut sink) = (Bits::of(b"abc", 2).failing(0), Vec::new());
        let error = copy(&mut reader, &mut sink).await.unwrap_err();
        assert_eq!((error.raw_os_error(), &sink[..]), (Some(libc::EIO), &b"abc"[..]));

        let mut writer = Bits::of(b"", 2).failing(5);
        let error = copy(&mut &b"0123456789"[..], &mut writer).await.unwrap_err();
        assert_eq!((error.raw_os_error(), &writer.bytes[..]), (Some(libc::EIO), &b"01234"[..]));

        // What came before a reset is written.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all("before").await.unwrap();
        let mut copied = Vec::new();
        assert!(polls(copy(&mut server, &mut copied), 1).await.is_none());
        turns(3).await;
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        let error = copy(&mut server, &mut copied).await.unwrap_err();
        assert_eq!((error.kind(), &copied[..]), (ErrorKind::ConnectionReset, &b"before"[..]));
    });
}

#[test]
fn chunks_of_streams_and_pipes_go_on_as_they_came() {
    run(async || {
        let ((mut from, to), (ours, mut theirs)) = (pipe().unwrap(), UnixStream::pair().unwrap());
        let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 249) as u8).collect();
        let given = sent.clone();
        let write = spawn(async move {
            for part in given.chunks(70_001) {
                to.write_all(part.to_vec()).await.unwrap();
            }
        });
        let read = spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        let copied = copy(&mut from, &mut &ours).await.unwrap();
        assert_eq!((copied.bytes, copied.by), (2_000_000, CopiedBy::Chunks));
        ours.shutdown(Shutdown::Write).await.unwrap();
        write.await.unwrap();
        assert!(read.await.unwrap() == sent);
    });
}

#[test]
fn a_dropped_copy_that_waits_for_more_has_lost_nothing() {
    run(async || {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut all = Vec::new();
        for part in ["one", "two", "three"] {
            assert!(polls(copy(&mut ours, &mut all), 2).await.is_none());
            theirs.write_all(part).await.unwrap();
            turns(2).await;
        }
        drop(theirs);
        copy(&mut ours, &mut all).await.unwrap();
        assert_eq!(all, b"onetwothree");
    });
}

#[test]
fn two_streams_are_copied_into_each_other_until_both_have_ended() {
    run(async || {
        for first_ends_client in [true, false] {
            let (client, proxy_in) = UnixStream::pair().unwrap();
            let (proxy_out, server) = UnixStream::pair().unwrap();
            let proxy = spawn(async move { copy_bidirectional(&proxy_in, &proxy_out).await });
            let (mut first, mut second) =
                if first_ends_client { (client, server) } else { (server, client) };
            AsyncWrite::write_all(&mut first, "question").await.unwrap();
            AsyncWrite::shutdown(&mut first).await.unwrap();
            // Half-closed: the end arrives, and the answer still goes.
            let mut question = Vec::new();
            second.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            turns(3).await;
            assert!(!proxy.is_finished());
            let answer = vec![7; 1_000_000];
            let second = Rc::new(second);
            let writer = Rc::clone(&second);
            let write = spawn(async move { writer.write_all(answer).await.map(drop) });
            let mut received = Vec::new();
            while received.len() < 1_000_000 {
                received.extend_from_slice(&first.read_chunk().await.unwrap());
            }
            write.await.unwrap().unwrap();
            second.shutdown(Shutdown::Write).await.unwrap();
            let (there, back) = proxy.await.unwrap().unwrap();
            let (long, short) = if first_ends_client { (back, there) } else { (there, back) };
            assert_eq!((short.bytes, long.bytes), (8, 1_000_000));
            assert_eq!(first.read(vec![0; 1]).await.unwrap().0, 0);
        }
    });
}

#[test]
fn an_error_of_one_direction_ends_both() {
    run(async || {
        let (client, proxy_in) = UnixStream::pair().unwrap();
        let (proxy_out, server) = UnixStream::pair().unwrap();
        let proxy = spawn(async move { copy_bidirectional(&proxy_in, &proxy_out).await });
        turns(2).await;
        drop(server);
        // The other direction has ended; this one cannot be written.
        client.write_all("nobody").await.unwrap();
        let error = proxy.await.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        let ended = client.read(vec![0; 1]).await.map_or(0, |(count, _)| count);
        assert_eq!(ended, 0);
    });
}
