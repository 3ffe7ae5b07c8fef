//! Pipes: what goes in comes out in order, however futures are dropped, and ends as it should.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;

use annulus::buf::IoBuf;
use annulus::io::{AsyncRead, AsyncWrite, PipeReader, PipeWriter, mkfifo, pipe};
use annulus::spawn;
use futures_util::StreamExt;

use crate::common::{in_own_process, poll_in_task, quiet, run, run_here, scratch_dir, turns};

fn is_nonblocking(end: &impl AsRawFd) -> bool {
    // SAFETY: the call takes no memory.
    let flags = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_GETFL) };
    assert!(flags >= 0);
    flags & libc::O_NONBLOCK != 0
}

/// Bytes in which a misplaced block shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8 ^ (index / 251) as u8).collect()
}

#[test]
fn bytes_go_through_in_order_by_all_methods_and_the_end_comes_with_the_last_writer() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        let second = writer.try_clone().unwrap();
        assert_eq!(writer.write("0123").await.unwrap(), (4, "0123"));
        writer.write_all("45").await.unwrap();
        writer.write_vectored(("6", "", b"78".to_vec())).await.unwrap();
        second.write_all_vectored(["9", "ab"]).await.unwrap();
        assert_eq!(reader.read_exact(vec![0; 3]).await.unwrap(), b"012");
        let (count, parts) = reader.read_vectored(vec![vec![0; 2], vec![0; 3]]).await.unwrap();
        assert_eq!((count, parts), (5, vec![b"34".to_vec(), b"567".to_vec()]));
        let mut kept = Vec::with_capacity(8);
        kept.push(b'x');
        let (count, kept) = reader.read_append(kept.slice(..2)).await.unwrap();
        assert_eq!((count, &kept.into_inner()[..]), (1, &b"x8"[..]));
        assert_eq!(reader.read_chunk().await.unwrap(), b"9ab");
        drop(writer);
        let mut read = reader.read(vec![0; 8]);
        assert!(poll_in_task(&mut read).await.is_pending());
        drop(second);
        assert_eq!(read.await.unwrap().0, 0);
        assert!(reader.read_chunk().await.unwrap().is_empty());
        let error = reader.read_exact(vec![0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(reader.read(Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn much_goes_through_a_small_pipe() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        let sent = pattern(3_000_000);
        let copy = sent.clone();
        let write = spawn(async move {
            let (first, rest) = (copy[..1_000_000].to_vec(), copy[1_000_000..].to_vec());
            writer.write_all(first).await.unwrap();
            let parts: Vec<_> = rest.chunks(1234).map(<[u8]>::to_vec).collect();
            writer.write_all_vectored(parts).await.unwrap();
        });
        let mut received = Vec::new();
        let mut chunks = reader.chunks();
        while let Some(chunk) = chunks.next().await {
            received.extend_from_slice(&chunk.unwrap());
        }
        write.await.unwrap();
        assert!(received == sent);
    });
}

#[test]
fn what_dropped_reads_of_every_kind_took_comes_with_the_next() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        for round in 0..4u8 {
            {
                let mut read = Box::pin(async {
                    match round {
                        0 => drop(reader.read(vec![0; 64]).await),
                        1 => drop(reader.read_exact(vec![0; 64]).await),
                        2 => drop(reader.read_vectored(vec![vec![0; 1], vec![0; 64]]).await),
                        _ => drop(reader.read_chunk().await),
                    }
                });
                assert!(poll_in_task(&mut read).await.is_pending());
                turns(1).await;
                writer.write_all(vec![b'a' + round; 3]).await.unwrap();
                turns(2).await;
            }
            writer.write_all(vec![b'A' + round; 2]).await.unwrap();
            let expected = [vec![b'a' + round; 3], vec![b'A' + round; 2]].concat();
            assert_eq!(reader.read_exact(vec![0; 5]).await.unwrap(), expected, "{round}");
        }
        quiet().await;
    });
}

#[test]
fn reads_that_wait_at_the_same_time_take_turns() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let reads: Vec<_> = (0..4)
            .map(|_| {
                let reader = Rc::clone(&reader);
                spawn(async move { reader.read_exact(vec![0; 3]).await.unwrap() })
            })
            .collect();
        turns(1).await;
        for byte in b"000111222333" {
            writer.write_all(vec![*byte]).await.unwrap();
        }
        for (read, byte) in reads.into_iter().zip(b'0'..) {
            assert_eq!(read.await.unwrap(), vec![byte; 3]);
        }
    });
}

#[test]
fn a_dropped_write_never_lands_after_a_later_one_and_its_end_is_told() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        writer.write_all(vec![b'a'; 65_536]).await.unwrap();
        // It waits for room.
        let mut waits = writer.write_all(vec![b'b'; 100_000]);
        assert!(poll_in_task(&mut waits).await.is_pending());
        turns(2).await;
        drop(waits);
        let writer = Rc::new(writer);
        let later = Rc::clone(&writer);
        let later = spawn(async move { later.write_all("END").await });
        let mut received = Vec::new();
        while !received.ends_with(b"END") {
            received.extend_from_slice(&reader.read_chunk().await.unwrap());
        }
        later.await.unwrap().unwrap();
        let mut middle = received[65_536..received.len() - 3].iter();
        assert!(middle.all(|byte| *byte == b'b'));
        assert_eq!(writer.quiesce().await.len(), 1);
    });
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_so_is_one_that_was_shut_down() {
    run(async || {
        let (reader, mut writer) = pipe().unwrap();
        let mut waits = writer.write_all(vec![0; 1 << 20]);
        assert!(poll_in_task(&mut waits).await.is_pending());
        turns(2).await;
        drop(reader);
        let error = waits.await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EPIPE), 65_536));
        assert_eq!(error.into_buffer().len(), 1 << 20);
        let error = writer.write("x").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        AsyncWrite::shutdown(&mut writer).await.unwrap();

        let (reader, mut writer) = pipe().unwrap();
        writer.write_all("last").await.unwrap();
        AsyncWrite::shutdown(&mut writer).await.unwrap();
        let mut bytes = Vec::new();
        let mut by_reference = &reader;
        by_reference.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"last");
        let error = writer.write_all_vectored(["x"]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    });
}

#[test]
fn ends_are_blocking_and_closed_on_exec_and_go_from_std_and_back() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        // Also after operations that waited.
        let mut read = reader.read(vec![0; 8]);
        assert!(poll_in_task(&mut read).await.is_pending());
        turns(1).await;
        writer.write_all("x").await.unwrap();
        read.await.unwrap();
        for end in [reader.as_fd(), writer.as_fd()] {
            assert!(!is_nonblocking(&end));
            // SAFETY: the call takes no memory.
            assert_eq!(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
        }
        let (mut reader, mut writer) = (reader.into_std().await, writer.into_std().await);
        writer.write_all(b"std").unwrap();
        let mut three = [0; 3];
        reader.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"std");
        let (reader, writer) = (PipeReader::from(reader), PipeWriter::from(writer));
        writer.write_all("again").await.unwrap();
        assert_eq!(reader.read_exact(vec![0; 5]).await.unwrap(), b"again");
        let reader = PipeReader::from(OwnedFd::from(reader.into_std().await));
        writer.close().await.unwrap();
        assert_eq!(reader.read(vec![0; 1]).await.unwrap().0, 0);
        reader.close().await.unwrap();
    });
}

#[test]
fn without_descriptors_there_is_no_pipe_and_nothing_leaks() {
    in_own_process(|| {
        run_here(async {
            // The threads of the software ring may open some first.
            let (reader, writer) = pipe().unwrap();
            writer.write_all("x").await.unwrap();
            reader.read(vec![0; 1]).await.unwrap();
            let next = reader.try_clone().unwrap().as_raw_fd();
            let limit = libc::rlimit { rlim_cur: next as u64 + 1, rlim_max: 4096 };
            // SAFETY: `limit` outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            for _ in 0..3 {
                let error = pipe().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                // The one that is left is left.
                let last = reader.try_clone().unwrap();
                assert_eq!(writer.try_clone().unwrap_err().raw_os_error(), Some(libc::EMFILE));
                drop(last);
            }
        });
    });
}

#[test]
fn a_named_pipe_is_made_opened_without_waiting_and_read_when_somebody_writes() {
    let scratch = scratch_dir();
    in_own_process(|| {
        run_here(async {
            let path = scratch.path().join("fifo");
            mkfifo(&path, 0o600).await.unwrap();
            assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
            let error = mkfifo(&path, 0o600).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);

            let error = PipeWriter::open(&path).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "nobody reads");
            for kind in 0..3 {
                let reader = PipeReader::open(&path).await.unwrap();
                assert!(!is_nonblocking(&reader));
                // It waits for a writer, and is no end of the stream.
                let mut read = Box::pin(async {
                    match kind {
                        0 => reader.read(vec![0; 8]).await.unwrap().1,
                        1 => reader.read_chunk().await.unwrap().to_vec(),
                        _ => reader.chunks().next().await.unwrap().unwrap().to_vec(),
                    }
                });
                assert!(poll_in_task(&mut read).await.is_pending());
                turns(3).await;
                assert!(poll_in_task(&mut read).await.is_pending(), "{kind}");
                let writer = PipeWriter::open(&path).await.unwrap();
                assert!(!is_nonblocking(&writer));
                writer.write_all("through").await.unwrap();
                assert!(read.await.starts_with(b"through"));
                drop(writer);
                assert_eq!(reader.read(vec![0; 8]).await.unwrap().0, 0, "the end");
            }

            let endless = PipeReader::open_endless(&path).await.unwrap();
            for text in ["first", "again"] {
                PipeWriter::open(&path).await.unwrap().write_all(text).await.unwrap();
                assert_eq!(endless.read_exact(vec![0; 5]).await.unwrap(), text.as_bytes());
            }
            let mut waits = endless.read(vec![0; 1]);
            assert!(poll_in_task(&mut waits).await.is_pending());
            turns(2).await;
            assert!(poll_in_task(&mut waits).await.is_pending());
        });
    });
}

#[test]
fn what_is_no_named_pipe_is_refused() {
    let scratch = scratch_dir();
    in_own_process(|| {
        run_here(async {
            let path = scratch.path().join("file");
            std::fs::write(&path, "content").unwrap();
            let error = PipeReader::open(&path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = PipeReader::open(scratch.path().join("none")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            for path in ["a\0b", ""] {
                assert!(PipeWriter::open(path).await.is_err());
                assert!(mkfifo(path, 0o600).await.is_err());
            }
        });
    });
}

fn has_writes_without_signal() -> bool {
    let (_reader, writer) = std::io::pipe().unwrap();
    let byte = libc::iovec { iov_base: [0u8; 1].as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: the vector and its byte, which is static, are read during the call only.
    unsafe { libc::pwritev2(writer.as_raw_fd(), &byte, 1, -1, 0x100) == 1 }
}

#[test]
fn a_write_that_nobody_reads_is_an_error_where_the_signal_has_its_default_action() {
    in_own_process(|| {
        if !has_writes_without_signal() {
            println!("skipped: this kernel has no RWF_NOSIGNAL");
            return;
        }
        // SAFETY: the call takes no memory of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        run_here(async {
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            for _ in 0..3 {
                let error = writer.write("x").await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
                assert!(writer.write_all_vectored(["x", "y"]).await.is_err());
            }
        });
    });
}
