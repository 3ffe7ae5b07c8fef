//! Tests: programs on kernels that lack operations. They are the same ones as elsewhere, on this
//! kernel's ring made to lack them, so that they take the software path while the rest stays with
//! the kernel.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use io_uring::opcode;

use crate::buf::ChunkPoolConfig;
use crate::net::{Ecn, MessageOptions, TcpListener, TcpStream, UdpSocket, UnixStream};
use crate::process::{Command, Stdio};
use crate::ring::catalogue::{self, OLDEST};
use crate::ring::{Config, Ring};
use crate::{JoinSet, Runtime, fs};

/// What came to the kernel since the oldest that is supported. SOCKET is nothing that we use, but
/// stands for its release.
fn later() -> Vec<u8> {
    catalogue::operations().filter(|row| row.since > OLDEST).map(|row| row.code).collect()
}

/// Kernels that lack some of them at random.
const RANDOM_KERNELS: u32 = 6;
const CONFIG: Config = Config::new(8, 64);

fn without(opcodes: &[u8]) -> Runtime {
    let ring = Ring::open_without(opcodes, &CONFIG).expect("a ring");
    Runtime::on(ring, &CONFIG, ChunkPoolConfig::default()).expect("a runtime")
}

/// Runs a program on rings that lack nothing, each operation, all, and some at random.
fn on_each(program: impl AsyncFn()) {
    let (random, later) = (RandomState::new(), later());
    let some = |round: u32| {
        let chosen = random.hash_one(round);
        later
            .iter()
            .enumerate()
            .filter(|(place, _)| chosen >> place & 1 != 0)
            .map(|(_, opcode)| *opcode)
            .collect()
    };
    let lacks = later
        .iter()
        .map(|opcode| vec![*opcode])
        .chain([vec![], later.clone()])
        .chain((0..RANDOM_KERNELS).map(some));
    for lack in lacks {
        // These are the seed, too.
        println!("without {lack:?}");
        let runtime = without(&lack);
        runtime.block_on(program());
        let metrics = runtime.block_on(async { crate::metrics() });
        assert_eq!(metrics.stale_completions, 0);
    }
}

/// One poll, after which the future's first operation has been started.
async fn start<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(futures_util::poll!(&mut future).is_pending());
    crate::yield_now().await;
}

#[test]
fn the_report_names_what_takes_the_software_path_and_a_recent_kernel_needs_none() {
    assert_eq!(without(&[]).ring().by_software(), [""; 0]);
    let names = [
        "SHUTDOWN",
        "RENAMEAT",
        "UNLINKAT",
        "MKDIRAT",
        "SYMLINKAT",
        "LINKAT",
        "FSETXATTR",
        "SETXATTR",
        "FGETXATTR",
        "GETXATTR",
        "FTRUNCATE",
        "multishot ACCEPT",
        "multishot RECV",
    ];
    let runtime = without(&later());
    assert_eq!(runtime.ring().by_software(), names);
    assert_eq!(runtime.ring().kind(), crate::RingKind::Kernel);
    assert!(
        runtime.ring().to_string().contains("by software: SHUTDOWN, RENAMEAT"),
        "{}",
        runtime.ring()
    );
    let runtime = without(&[opcode::Ftruncate::CODE]);
    assert_eq!(runtime.ring().by_software(), ["FTRUNCATE"]);
}

#[test]
fn children_are_waited_for_and_no_dropped_wait_takes_a_status() {
    on_each(async || {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("started");
        let input = child.stdin.take();
        start(child.wait()).await;
        drop(input);
        assert!(child.wait().await.expect("it ends").success());
    });
}

#[test]
fn files_and_directories_are_made_renamed_cut_and_removed() {
    let scratch = tempfile::tempdir().expect("a directory");
    on_each(async || {
        let directory = scratch.path().join("directory");
        fs::create_dir(&directory).await.expect("made");
        assert_eq!(
            fs::create_dir(&directory).await.expect_err("there").kind(),
            ErrorKind::AlreadyExists
        );
        let (one, two) = (directory.join("one"), directory.join("two"));
        fs::write(&one, "some bytes").await.expect("written");
        fs::rename(&one, &two).await.expect("renamed");
        assert_eq!(fs::rename(&one, &two).await.expect_err("gone").kind(), ErrorKind::NotFound);
        let file = fs::OpenOptions::new().write(true).open(&two).await.expect("opened");
        file.set_len(4).await.expect("cut");
        file.close().await.expect("closed");
        assert_eq!(fs::read_to_string(&two).await.expect("read"), "some");
        fs::hard_link(&two, &one).await.expect("one more name");
        assert_eq!(fs::metadata(&two).await.expect("known").nlink(), 2);
        fs::remove_file(&one).await.expect("removed");
        fs::symlink("two", &one).await.expect("a link");
        assert_eq!(fs::read_to_string(&one).await.expect("read"), "some");
        fs::remove_file(&one).await.expect("removed");
        fs::remove_file(&two).await.expect("removed");
        fs::remove_dir(&directory).await.expect("removed");
        assert!(!directory.exists());
    });
}

#[test]
fn descriptors_go_along_with_messages() {
    on_each(async || {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        for is_waiting in [false, true] {
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            let mut receive = pin!(theirs.recv_with_fds(vec![0; 16]));
            if is_waiting {
                assert!(futures_util::poll!(&mut receive).is_pending());
            }
            ours.send_with_fds("a pipe", &[&writer]).await.expect("sent");
            drop(writer);
            let message = receive.await.expect("received");
            assert_eq!((&message.buffer[..], message.descriptors.len()), (&b"a pipe"[..], 1));
            drop(message);
            assert_eq!(reader.read(&mut [0]).expect("a pipe"), 0, "no end is left open");
        }
    });
}

#[test]
fn chains_have_the_same_results_whoever_runs_their_members() {
    let scratch = tempfile::tempdir().expect("a directory");
    on_each(async || {
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true);
        let file = options.open(scratch.path().join("chained")).await.expect("made");
        let chains = (0..20u64).map(|number| {
            let file = &file;
            async move {
                let place = number * 8;
                let (grown, written, synced, read, end) = file
                    .set_len(20 * 8)
                    .then(file.write_all_at(vec![number as u8; 8], place))
                    .then(file.sync_data())
                    .then(file.read_exact_at(vec![0; 8], place))
                    .then(file.read_exact_at(vec![0; 8], 20 * 8))
                    .await;
                grown.and(synced).expect("grown and synced");
                assert_eq!(written.expect("written"), read.expect("read"));
                assert_eq!(end.expect_err("the end").kind(), ErrorKind::UnexpectedEof);
            }
        });
        futures_util::future::join_all(chains).await;
        let path = |name: &str| scratch.path().join(name);
        let (made, renamed, written, removed) = fs::create_dir(path("directory"))
            .then(fs::rename(path("chained"), path("directory/chained")))
            .then(file.write_all_at(vec![7; 8], 0))
            .then(fs::rename(path("directory/chained"), path("chained")))
            .await;
        written.expect("written");
        made.and(renamed).and(removed).expect("renamed twice");
        fs::remove_dir(path("directory")).await.expect("it is empty");
        let (written, cut, cancelled) = file
            .write_all_at("x", u64::MAX)
            .then(file.set_len(0))
            .then(file.write_all_at("y", 0))
            .await;
        assert_eq!(written.expect_err("no such offset").kind(), ErrorKind::InvalidInput);
        assert_eq!(cut.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(cancelled.expect_err("not begun").into_buffer(), "y");
        assert_eq!(file.metadata().await.expect("known").len(), 20 * 8);
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let ours = UnixStream::from(ours);
        theirs.write_all(b"header, body").expect("room");
        let (header, body, answer, end) = ours
            .read_exact(vec![0; 8])
            .then(ours.read_exact(vec![0; 4]))
            .then(ours.write_all("answer"))
            .then(ours.shutdown(Shutdown::Write))
            .await;
        assert_eq!(
            (&header.expect("came")[..], &body.expect("came")[..]),
            (&b"header, "[..], &b"body"[..])
        );
        answer.expect("sent");
        end.expect("shut down");
        let mut received = String::new();
        theirs.read_to_string(&mut received).expect("to the end");
        assert_eq!(received, "answer");
        file.set_len(0).await.expect("cut");
    });
}

#[test]
fn extended_attributes_are_set_and_read() {
    let scratch = tempfile::tempdir().expect("a directory");
    on_each(async || {
        let path = scratch.path().join("file");
        let file = fs::File::create(&path).await.expect("made");
        match file.set_xattr("user.one", "1").await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return println!("skipped: no extended attributes here");
            }
            outcome => outcome.expect("set"),
        }
        fs::set_xattr(&path, "user.two", vec![2; 1000]).await.expect("set");
        let two = file.get_xattr("user.two").await.expect("read");
        assert_eq!(two, Some(vec![2; 1000]));
        let one = fs::get_xattr(&path, "user.one").await.expect("read");
        assert_eq!(one.as_deref(), Some(&b"1"[..]));
        assert_eq!(fs::get_xattr(&path, "user.three").await.expect("asked"), None);
    });
}

#[test]
fn more_operations_than_either_queue_holds_all_end() {
    let scratch = tempfile::tempdir().expect("a directory");
    on_each(async || {
        let file = Rc::new(fs::File::create(scratch.path().join("file")).await.expect("made"));
        let mut tasks = JoinSet::new();
        for number in 0..300u64 {
            let (file, directory) = (Rc::clone(&file), scratch.path().join(number.to_string()));
            tasks.spawn(async move {
                fs::create_dir(&directory).await?;
                file.write_all_at(vec![1u8; 3], number * 3).await?;
                fs::remove_dir(&directory).await
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.expect("no panic").expect("done");
        }
        assert_eq!(file.metadata().await.expect("known").len(), 900);
    });
}

#[test]
fn a_stream_that_was_shut_down_tells_its_peer_and_still_receives() {
    on_each(async || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let (ours, mut theirs) = (UnixStream::from(ours), theirs);
        let receive = ours.read(vec![0; 8]);
        ours.shutdown(Shutdown::Write).await.expect("shut down");
        assert_eq!(theirs.read(&mut [0; 8]).expect("the end"), 0);
        theirs.write_all(b"late").expect("sent");
        let (count, buffer) = receive.await.expect("received");
        assert_eq!(&buffer[..count], b"late");
        ours.close().await.expect("closed");
    });
}

#[test]
fn connections_come_to_one_listener_after_the_other_on_the_same_number() {
    on_each(async || {
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("an address");
            let mut incoming = listener.incoming();
            start(incoming.next()).await;
            let begun = Instant::now();
            crate::time::sleep(Duration::from_millis(2)).await;
            assert!(
                begun.elapsed() >= Duration::from_millis(2),
                "a timer beside an accept on the software path is not early"
            );
            for number in 0..4u8 {
                let (client, stream) =
                    futures_util::join!(TcpStream::connect(address), incoming.next());
                let (client, stream) =
                    (client.expect("connected"), stream.expect("endless").expect("accepted"));
                client.write_all(vec![number]).await.expect("sent");
                assert_eq!(stream.read(vec![0; 4]).await.expect("received").1[0], number);
            }
            drop(incoming);
            let (client, accepted) =
                futures_util::join!(TcpStream::connect(address), listener.accept());
            assert_eq!(
                accepted.expect("accepted").1,
                client.expect("connected").local_addr().expect("an address")
            );
            listener.close().await.expect("closed");
        }
    });
}

#[test]
fn chunks_and_datagrams_come_in_buffers_of_the_runtime_on_numbers_that_were_used_before() {
    on_each(async || {
        for round in 0..20u8 {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
            let ours = UnixStream::from(ours);
            let mut chunks = ours.chunks();
            start(chunks.next()).await;
            theirs.write_all(&[round; 10]).expect("sent");
            assert_eq!(chunks.next().await.expect("more").expect("received"), [round; 10]);
            start(chunks.next()).await;
            drop(theirs);
            assert!(chunks.next().await.is_none());
            drop(chunks);
            // Closed behind the ring's back every other time.
            match round % 2 {
                0 => ours.close().await.expect("closed"),
                _ => drop(ours.into_std().await),
            }
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let mut datagrams = socket.datagrams();
        for length in 0..40 {
            sender
                .send_to(&vec![7; length], socket.local_addr().expect("an address"))
                .expect("sent");
            match datagrams.next().await.expect("endless") {
                Ok(datagram) => assert_eq!(
                    (datagram.chunk.len(), datagram.from),
                    (length, sender.local_addr().expect("an address"))
                ),
                Err(error) => panic!("{error}"),
            }
        }
        drop(datagrams);
        assert_eq!(crate::metrics().chunk_buffers_lent, 0);
    });
}

#[test]
fn datagrams_tell_their_address_and_ecn_and_batches_go_out() {
    on_each(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        ours.set_recv_pktinfo(true).expect("told");
        ours.set_recv_tos(true).expect("told");
        let theirs = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let here = ours.local_addr().expect("an address");
        let to = MessageOptions::new().to(here).ecn(Ecn::Ect0);
        let mut messages = ours.messages();
        for round in 0..5 {
            for sent in theirs.send_batch([(vec![round; 9], to), (vec![round; 3], to)]).await {
                sent.expect("sent");
            }
            for length in [9, 3] {
                let message = messages.next().await.expect("endless").expect("received");
                assert_eq!(message.chunk, vec![round; length]);
                assert_eq!(
                    (message.info.local, message.info.ecn()),
                    (Some(here.ip()), Some(Ecn::Ect0))
                );
            }
        }
        drop(messages);
        let mut waits = Box::pin(ours.recv_msg(vec![0; 20]));
        assert!(futures_util::poll!(&mut waits).is_pending());
        theirs.send_msg("cut in three", &to.segment_size(4)).await.expect("sent");
        let (_, info, buffer) = waits.await.expect("received");
        assert_eq!((&buffer[..], info.ecn()), (&b"cut "[..], Some(Ecn::Ect0)));
        assert_eq!(ours.peek(vec![0; 20]).await.expect("there").1, b"in t");
        for part in ["in t", "hree"] {
            assert_eq!(ours.recv_msg(vec![0; 20]).await.expect("received").2, part.as_bytes());
        }
        let late = ours.recv_msg(vec![0; 20]).timeout(Duration::from_millis(1)).await;
        assert_eq!(late.expect_err("nothing comes").kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn what_is_dropped_or_cancelled_ends_either_way_and_leaves_a_whole_result() {
    let scratch = tempfile::tempdir().expect("a directory");
    on_each(async || {
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        for round in 0..50 {
            std::fs::write(&one, "").expect("written");
            let mut rename = Box::pin(fs::rename(&one, &two));
            assert!(futures_util::poll!(&mut rename).is_pending());
            if round % 2 == 0 {
                crate::yield_now().await;
            }
            drop(rename);
            while crate::metrics().operations_in_flight > 0 {
                crate::time::sleep(Duration::from_micros(100)).await;
            }
            assert_ne!(one.exists(), two.exists(), "it happened, or it did not");
            let _ = (std::fs::remove_file(&one), std::fs::remove_file(&two));
        }
        let file = fs::File::create(&one).await.expect("made");
        for _ in 0..20 {
            match file.set_len(7).cancel().await {
                Ok(()) => {}
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
            }
        }
        file.set_len(9).timeout(Duration::from_secs(1000)).await.expect("in time");
        assert_eq!(file.metadata().await.expect("known").len(), 9);
        file.close().await.expect("closed");
        fs::remove_file(&one).await.expect("removed");
    });
}

#[test]
fn a_runtime_ends_with_operations_in_flight_on_both_sides() {
    let scratch = tempfile::tempdir().expect("a directory");
    for round in 0..20 {
        let runtime = without(&later());
        let directory = scratch.path().join(round.to_string());
        let begun = Instant::now();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            crate::spawn(
                async move { listener.incoming().next().await.map(|stream| stream.map(drop)) },
            );
            let (reader, writer) = UnixStream::pair().expect("a pair");
            crate::spawn(async move {
                reader.chunks().next().await.map(|chunk| (chunk.map(drop), writer))
            });
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
            crate::spawn(async move { socket.recv(vec![0; 8]).await.map(drop) });
            crate::spawn(async move { fs::create_dir(directory).await });
            for _ in 0..round % 3 {
                crate::yield_now().await;
            }
        });
        drop(runtime);
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing was left to be leaked");
    }
}

#[test]
fn a_wake_from_another_thread_ends_a_wait_beside_operations_on_the_software_path() {
    on_each(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut incoming = listener.incoming();
        start(incoming.next()).await;
        for number in 0..100 {
            assert_eq!(crate::spawn_blocking(move || number).await.expect("no panic"), number);
        }
    });
}

#[test]
fn a_long_write_goes_in_parts_where_the_kernel_would_lose_count_of_it() {
    const LENGTH: usize = 16 << 20;
    for (lacks, in_parts) in [(later(), true), (vec![], false)] {
        without(&lacks).block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let mut peer = std::net::TcpStream::connect(listener.local_addr().expect("bound"))
                .expect("connected");
            let (stream, _) = listener.accept().await.expect("accepted");
            let before = crate::metrics().operations;
            // Its window closes first, so that one part cannot be all.
            let late = stream
                .write_all(vec![7; LENGTH])
                .timeout(Duration::from_millis(20))
                .await
                .expect_err("nobody reads");
            let sent = late.transferred();
            assert!(0 < sent && sent < LENGTH, "{sent}");
            let operations = crate::metrics().operations - before;
            assert_eq!(operations > 1, in_parts, "{operations} operations");
            drop(stream);
            let reader = std::thread::spawn(move || {
                let mut received = Vec::new();
                peer.read_to_end(&mut received)
                    .map(|count| (count, received.iter().all(|byte| *byte == 7)))
            });
            crate::time::sleep(Duration::from_millis(1)).await;
            let (count, same) = reader.join().expect("it ran").expect("read");
            assert_eq!((count, same), (sent, true), "what the error counts is what the peer gets");
        });
    }
}
