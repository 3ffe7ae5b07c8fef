//! Chains: order, results, what ends the rest, cancelling and dropping, small rings.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::fs::{self, File, OpenOptions};
use annulus::net::UnixStream;
use annulus::{Builder, no_op};
use futures_util::future::{join, join_all};

use crate::common::{
    Pool, Random, bounded, build_runtime, in_own_process, poll_in_task, quiet, run, run_here,
    scratch_dir, seed, size, turn_on_software_ring, turns,
};

fn new_file(directory: &Path, name: &str) -> File {
    let options = std::fs::File::options().read(true).write(true).create(true).clone();
    File::from(options.open(directory.join(name)).expect("a file"))
}

fn pair() -> (UnixStream, unix::net::UnixStream) {
    let (ours, theirs) = unix::net::UnixStream::pair().expect("a pair");
    (UnixStream::from(ours), theirs)
}

/// A pipe as a file of ours, and the end of std's that reads it.
fn pipe() -> (File, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (File::from(OwnedFd::from(writer)), reader)
}

#[test]
fn each_member_sees_what_the_one_before_it_did() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        for round in 0..100u8 {
            let (written, synced, cut, read, grown) = file
                .write_all_at(vec![round; 8192], 0)
                .then(file.sync_data())
                .then(file.set_len(100))
                .then(file.read_exact_at(vec![0; 100].into_boxed_slice(), 0))
                .then(file.set_len(200))
                .await;
            assert_eq!(written.expect("written"), vec![round; 8192]);
            synced.expect("synced");
            cut.expect("cut");
            assert!(read.expect("read").iter().all(|byte| *byte == round));
            grown.expect("grown");
            assert_eq!(file.metadata().await.expect("known").len(), 200);
        }
    });
}

#[test]
fn the_whole_chain_goes_out_in_one_submission() {
    run_here(async {
        let mut chain = no_op().then(no_op()).then(no_op()).then(no_op());
        let before = annulus::metrics();
        assert!(poll_in_task(&mut chain).await.is_pending());
        assert_eq!(annulus::metrics().operations - before.operations, 4);
        let results = chain.await;
        assert!(matches!(results, (Ok(()), Ok(()), Ok(()), Ok(()))), "{results:?}");
        let after = annulus::metrics();
        assert!(after.enters - before.enters <= 2, "{} enters", after.enters - before.enters);
    });
}

#[test]
fn an_error_ends_the_rest_which_give_their_buffers_back() {
    let (directory, pool) = (scratch_dir(), Pool::default());
    run_here(async {
        let file = new_file(directory.path(), "file");
        let closed = OpenOptions::new().read(true).open(directory.path().join("file")).await;
        let read_only = closed.expect("opened");
        for round in 0..50u8 {
            let (first, second, third, fourth) = file
                .write_all_at(pool.filled([round; 10]), 0)
                .then(read_only.write_all_at(pool.filled([round; 20]), 0))
                .then(file.write_all_at(pool.filled([!round; 30]), 0))
                .then(file.read_at(pool.empty(40), 0))
                .await;
            assert_eq!(first.expect("written").len(), 10);
            let error = second.expect_err("not open for writing");
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            assert_eq!(error.into_buffer().len(), 20);
            let error = third.expect_err("not begun");
            assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::ECANCELED), 0));
            assert_eq!(error.into_buffer().len(), 30);
            assert_eq!(fourth.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
            let content = file.read_exact_at(vec![0; 10], 0).await.expect("read");
            assert_eq!(content, [round; 10]);
        }
        assert_eq!(file.metadata().await.expect("known").len(), 10);
    });
    pool.assert_all_back();
}

#[test]
fn what_is_refused_before_the_ring_sees_it_ends_the_rest_in_its_place() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        let (first, second, third) = file
            .write_all_at("first", 0)
            .then(file.write_all_at("second", u64::MAX))
            .then(file.write_all_at("third", 0))
            .await;
        assert_eq!(first.expect("written"), "first");
        assert_eq!(second.expect_err("no such offset").kind(), ErrorKind::InvalidInput);
        assert_eq!(third.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        // It would have been refused, but it was not asked.
        let failing = file.write_all_at("x", u64::MAX).then(file.read_at(Vec::new(), 0));
        let (first, second) = failing.await;
        assert_eq!(first.expect_err("no such offset").kind(), ErrorKind::InvalidInput);
        assert_eq!(second.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        // Nothing to do is a success.
        let (nothing, something) = file.read_exact_at(vec![0; 0], 0).then(file.sync_all()).await;
        assert!(nothing.is_ok() && something.is_ok());
    });
}

#[test]
fn a_file_gets_its_name_when_its_content_is_there() {
    let directory = scratch_dir();
    let (new, name) = (directory.path().join("new"), directory.path().join("name"));
    run_here(async {
        for round in 0..50u8 {
            let file = File::create(&new).await.expect("made");
            let parent = File::open(directory.path()).await.expect("opened");
            let (written, synced, renamed, kept) = file
                .write_all_at(vec![round; 1000], 0)
                .then(file.sync_data())
                .then(fs::rename(&new, &name))
                .then(parent.sync_all())
                .await;
            written.expect("written");
            synced.and(renamed).and(kept).expect("durable");
            assert_eq!(std::fs::read(&name).expect("there"), vec![round; 1000]);
            assert!(!new.exists());
        }
        let (made, removed, again) = fs::create_dir(&new)
            .then(fs::remove_file(directory.path().join("missing")))
            .then(fs::remove_dir(&new))
            .await;
        made.expect("made");
        assert_eq!(removed.expect_err("missing").kind(), ErrorKind::NotFound);
        assert_eq!(again.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        // A path that is none is refused when its turn comes, with what is wrong.
        let (linked, refused, never) = fs::hard_link(&name, directory.path().join("other"))
            .then(fs::rename("no\0path", &name))
            .then(fs::remove_dir(&new))
            .await;
        linked.expect("linked");
        let error = refused.expect_err("no path");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
        assert_eq!(never.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        fs::remove_dir(&new).await.expect("it is there");
    });
}

#[test]
fn a_failure_that_the_kernel_does_not_mark_ends_the_rest_too() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        file.write_all_at("content", 0).await.expect("written");
        let options = std::fs::File::open(directory.path().join("file"));
        let read_only = File::from(options.expect("opened"));
        let (no_file, _reader) = pipe();
        let missing = || directory.path().join("missing");
        let there = || directory.path().join("file");
        macro_rules! ends_the_rest {
            ($failing:expr) => {
                let (failed, cut, renamed) =
                    $failing.then(file.set_len(0)).then(fs::rename(there(), missing())).await;
                let error = failed.expect_err(stringify!($failing));
                assert_ne!(error.raw_os_error(), Some(libc::ECANCELED), stringify!($failing));
                for result in [cut, renamed] {
                    let error = result.expect_err(stringify!($failing));
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                }
                assert_eq!(std::fs::read(there()).expect("as it was"), b"content");
            };
        }
        ends_the_rest!(no_file.sync_data());
        ends_the_rest!(read_only.set_len(0));
        ends_the_rest!(fs::rename(missing(), there()));
        ends_the_rest!(fs::rename_noreplace(there(), there()));
        ends_the_rest!(fs::remove_file(missing()));
        ends_the_rest!(fs::remove_dir(there()));
        ends_the_rest!(fs::create_dir(there()));
        ends_the_rest!(fs::hard_link(missing(), there()));
        ends_the_rest!(fs::symlink("text", there()));
        ends_the_rest!(no_file.read_at(vec![0; 8], 0));
        ends_the_rest!(read_only.write_at("x", 0));
    });
}

#[test]
fn what_could_not_be_allocated_is_not_written_to() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        let vain = file.fallocate(fs::FallocateMode::Allocate, 0, 0);
        let (allocated, written) = vain.then(file.write_all_at("content", 0)).await;
        assert_eq!(allocated.expect_err("of nothing").raw_os_error(), Some(libc::EINVAL));
        assert_eq!(written.expect_err("ended").raw_os_error(), Some(libc::ECANCELED));
        assert_eq!(file.metadata().await.expect("known").len(), 0);
    });
}

#[test]
fn a_short_read_ends_the_rest_and_is_no_error_itself() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        file.write_all_at("0123456789", 0).await.expect("written");
        let read = |capacity| file.read_at(Vec::with_capacity(capacity).slice(..capacity), 4);
        for (capacity, count) in [(6, 6), (7, 6), (3, 3)] {
            let (read, write) = read(capacity).then(file.write_all_at("0", 0)).await;
            assert_eq!(read.expect("read").0, count);
            match count == capacity {
                true => drop(write.expect("written")),
                false => {
                    assert_eq!(write.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED))
                }
            }
        }
        let (end, write) = file.read_at(vec![0; 4], 10).then(file.write_all_at("0", 0)).await;
        assert_eq!(end.expect("the end").0, 0);
        assert_eq!(write.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        let (exact, write) =
            file.read_exact_at(vec![0; 20], 0).then(file.write_all_at("0", 0)).await;
        let error = exact.expect_err("it is shorter");
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::UnexpectedEof, 10));
        assert_eq!(write.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
    });
}

#[test]
fn a_write_that_takes_several_parts_is_whole_before_the_next_begins() {
    run_here(async {
        let (file, mut reader) = pipe();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let (first, second, third) = file
            .write_all_at(vec![1; 1 << 20], 0)
            .then(file.write_all_at(vec![2; 1 << 20], 0))
            .then(file.write_all_at(vec![3; 5], 0))
            .await;
        for (length, result) in [(1 << 20, first), (1 << 20, second), (5, third)] {
            assert_eq!(result.expect("written").len(), length);
        }
        drop(file);
        let all = reader.join().expect("no panic").expect("read");
        assert_eq!(all.len(), (2 << 20) + 5);
        assert!(all.is_sorted(), "each came after the one before it");
    });
}

#[test]
fn a_short_write_at_a_limit_ends_with_the_error_behind_it() {
    in_own_process(|| {
        const LIMIT: usize = 100_000;
        // SAFETY: the limit outlives the calls. This process has no other test.
        #[allow(unsafe_code)]
        unsafe {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0);
            limit.rlim_cur = LIMIT as u64;
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let directory = scratch_dir();
        run(async || {
            let file = new_file(directory.path(), "file");
            let (all, cut) = file.write_all_at(vec![1; 3 * LIMIT], 0).then(file.set_len(0)).await;
            let error = all.expect_err("beyond the limit");
            assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EFBIG), LIMIT));
            assert_eq!(cut.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
            assert_eq!(file.metadata().await.expect("known").len(), LIMIT as u64);
            let (some, cut) = file.write_at(vec![1; 2 * LIMIT], 0).then(file.set_len(0)).await;
            assert_eq!(some.expect("written").0, LIMIT);
            assert_eq!(cut.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
        });
    });
}

#[test]
fn writes_of_one_stream_go_out_in_order_and_nobody_comes_between() {
    run_here(async {
        let (ours, mut theirs) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        // Far more than the socket holds, and another that waits for its turn.
        let chain = ours
            .write_all(vec![1; 3 << 20])
            .then(ours.write(vec![2; 1 << 20]))
            .then(ours.write_all(vec![3; 1 << 20]));
        let ((first, second, third), other) = join(chain, ours.write_all(vec![4; 100])).await;
        assert!(first.is_ok() && third.is_ok() && other.is_ok());
        assert_eq!(second.expect("written").0, 1 << 20, "in a chain it is whole");
        drop(ours);
        let all = reader.join().expect("no panic").expect("read");
        assert_eq!(all.len(), (5 << 20) + 100);
        assert!(all.is_sorted());
    });
}

#[test]
fn a_request_and_its_answer_are_one_chain() {
    run_here(async {
        let (ours, mut theirs) = pair();
        let peer = std::thread::spawn(move || {
            let mut request = [0; 7];
            theirs.read_exact(&mut request).expect("a request");
            theirs.write_all(b"head").expect("sent");
            std::thread::yield_now();
            theirs.write_all(b"er, and the body").expect("sent");
            request
        });
        let (asked, header, body) = ours
            .write_all("request")
            .then(ours.read_exact(vec![0; 6]))
            .then(ours.read_exact(vec![0; 14]))
            .await;
        assert!(asked.is_ok());
        assert_eq!(header.expect("came"), b"header");
        assert_eq!(body.expect("came"), b", and the body");
        assert_eq!(&peer.join().expect("no panic"), b"request");
        // Now the peer has gone.
        let (asked, answer) = ours.write_all("more").then(ours.read(vec![0; 8])).await;
        assert_eq!(asked.expect_err("nobody").kind(), ErrorKind::BrokenPipe);
        assert_eq!(answer.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
    });
}

#[test]
fn a_chain_claims_what_a_dropped_read_has_left() {
    run_here(async {
        let (ours, mut theirs) = pair();
        let mut read = ours.read(vec![0; 100]);
        assert!(poll_in_task(&mut read).await.is_pending());
        turns(1).await;
        theirs.write_all(b"left behind").expect("room");
        quiet().await;
        drop(read);
        let (first, second) = ours.read_exact(vec![0; 4]).then(ours.read_exact(vec![0; 7])).await;
        assert_eq!(
            (&first.expect("left")[..], &second.expect("left")[..]),
            (&b"left"[..], &b" behind"[..])
        );
        let (sent, read) = ours.write_all("x").then(ours.read(vec![0; 8])).cancel().await;
        assert!(sent.is_err() && read.is_err());
    });
}

#[test]
fn what_a_dropped_chain_received_comes_with_the_next_reads() {
    run_here(async {
        for turns_before in 0..4 {
            let (ours, mut theirs) = pair();
            let mut chain = ours.read_exact(vec![0; 4]).then(ours.read_exact(vec![0; 4]));
            assert!(poll_in_task(&mut chain).await.is_pending());
            turns(1).await;
            theirs.write_all(b"abcdef").expect("room");
            turns(turns_before).await;
            drop(chain);
            theirs.write_all(b"gh").expect("room");
            assert_eq!(ours.read_exact(vec![0; 8]).await.expect("nothing is lost"), b"abcdefgh");
        }
    });
}

#[test]
fn what_members_had_received_that_ended_comes_with_the_next_reads_too() {
    run_here(async {
        let (ours, mut theirs) = pair();
        // The first ends in one submission with a part of the second, which goes on in another.
        let mut chain = ours.read_exact(vec![0; 4]).then(ours.read_exact(vec![0; 400]));
        theirs.write_all(b"abcdef").expect("room");
        assert!(poll_in_task(&mut chain).await.is_pending());
        for _ in 0..4 {
            turns(1).await;
            assert!(poll_in_task(&mut chain).await.is_pending());
        }
        drop(chain);
        theirs.write_all(b"gh").expect("room");
        assert_eq!(ours.read_exact(vec![0; 8]).await.expect("nothing is lost"), b"abcdefgh");

        // The second never begins: another write is before it.
        let (other, _full) = pair();
        let mut write = other.write_all(vec![0; 64 << 20]);
        assert!(poll_in_task(&mut write).await.is_pending());
        let mut chain =
            ours.read(vec![0; 8]).then(other.write_all("x")).then(ours.read(vec![0; 8]));
        theirs.write_all(b"answer").expect("room");
        for _ in 0..4 {
            assert!(poll_in_task(&mut chain).await.is_pending());
            turns(1).await;
        }
        drop(chain);
        let (count, buffer) = ours.read(vec![0; 3]).await.expect("it waits");
        assert_eq!((count, &buffer[..3]), (3, &b"ans"[..]));
        assert_eq!(ours.read_exact(vec![0; 3]).await.expect("the rest"), b"wer");
    });
}

#[test]
fn what_a_dropped_chain_had_read_of_a_pipe_comes_with_the_next_read() {
    run_here(async {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let (other, _full) = pair();
        let mut write = other.write_all(vec![0; 64 << 20]);
        assert!(poll_in_task(&mut write).await.is_pending());
        let pipe = File::from(OwnedFd::from(reader));
        writer.write_all(b"once").expect("room");
        let (one, rest) = (vec![0; 1], vec![0; 3]);
        let mut chain =
            pipe.read_at(one, 0).then(pipe.read_exact_at(rest, 0)).then(other.write_all("x"));
        for _ in 0..6 {
            assert!(poll_in_task(&mut chain).await.is_pending());
            turns(1).await;
        }
        drop(chain);
        assert_eq!(pipe.read_exact_at(vec![0; 4], 0).await.expect("it waits"), b"once");
    });
}

#[test]
fn cancelling_gives_all_buffers_back_and_says_how_far_each_came() {
    let pool = Pool::default();
    run_here(async {
        for turns_before in 0..4 {
            let (ours, mut theirs) = pair();
            let mut chain = ours
                .write_all(pool.filled(*b"out"))
                .then(ours.read_exact(pool.empty(8)))
                .then(ours.write_all(pool.filled(*b"never")));
            if turns_before > 0 {
                assert!(poll_in_task(&mut chain).await.is_pending());
                turns(turns_before).await;
                theirs.write_all(b"abc").expect("room");
                turns(turns_before).await;
            }
            let (sent, read, never) = chain.cancel().await;
            let error = read.expect_err("three of eight have come");
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            let came = error.transferred();
            match turns_before {
                0 => assert_eq!(sent.expect_err("not begun").raw_os_error(), Some(125)),
                _ => drop(sent.expect("sent")),
            }
            assert_eq!(never.expect_err("not begun").raw_os_error(), Some(libc::ECANCELED));
            if turns_before > 0 {
                assert_eq!(&error.into_buffer().as_init()[..came], &b"abc"[..came]);
                let rest = ours.read_exact(vec![0; 3 - came]);
                if came < 3 {
                    rest.await.expect("it waits in the socket");
                }
            }
        }
        assert_eq!(quiet().await.operations_in_flight, 0);
    });
    pool.assert_all_back();
}

#[test]
fn a_deadline_is_that_of_the_whole_chain() {
    run_here(async {
        let (ours, theirs) = pair();
        let (sent, read, never) = ours
            .write_all("out")
            .then(ours.read(vec![0; 8]))
            .then(ours.write_all("never"))
            .timeout(Duration::from_millis(5))
            .await;
        sent.expect("in time");
        assert_eq!(read.expect_err("nothing came").kind(), ErrorKind::TimedOut);
        assert_eq!(never.expect_err("not begun").kind(), ErrorKind::TimedOut);
        let long = std::time::Instant::now() + Duration::from_secs(1000);
        let (one, two) = no_op().then(no_op()).deadline(long).await;
        assert!(one.is_ok() && two.is_ok());
        drop(theirs);
    });
}

#[test]
fn writes_of_a_dropped_chain_never_land_after_later_ones() {
    let rounds = size(1000).min(100_000);
    let (random, pool) = (Random::new(seed()), Pool::default());
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path(), "file");
        for round in 0..rounds {
            let old = |length: usize| pool.filled(vec![round as u8; length]);
            let mut chain = file
                .write_all_at(old(32 * 1024), 0)
                .then(file.write_all_at(old(4 * 1024), 32 * 1024))
                .then(file.set_len(40 * 1024));
            if poll_in_task(&mut chain).await.is_pending() {
                turns(random.below(4)).await;
            }
            drop(chain);
            let new = vec![!(round as u8); 36 * 1024];
            file.write_all_at(new, 0).await.expect("written");
            file.set_len(36 * 1024).await.expect("cut");
            turns(1).await;
            let content = file.read_exact_at(vec![0; 36 * 1024], 0).await.expect("read");
            assert!(content.iter().all(|byte| *byte == !(round as u8)), "round {round}");
            assert_eq!(file.metadata().await.expect("known").len(), 36 * 1024);
        }
        assert_eq!(quiet().await.operations_in_flight, 0);
    });
    pool.assert_all_back();
}

#[test]
fn a_dropped_chain_sends_a_prefix_and_later_writes_follow_it() {
    let random = Random::new(seed());
    run_here(async {
        for _ in 0..50 {
            let (ours, mut theirs) = pair();
            let mut chain = ours.write_all(vec![1; 400_000]).then(ours.write_all(vec![2; 400_000]));
            assert!(poll_in_task(&mut chain).await.is_pending());
            turns(random.below(4)).await;
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).map(|_| all)
            });
            turns(random.below(4)).await;
            drop(chain);
            ours.write_all(vec![3; 100]).await.expect("sent");
            drop(ours);
            let all = reader.join().expect("no panic").expect("read");
            assert!(all.is_sorted() && all.ends_with(&[3; 100]));
            let ones = all.iter().filter(|byte| **byte == 1).count();
            assert!(ones == 400_000 || !all.contains(&2), "a prefix of the chain");
        }
    });
}

#[test]
fn chains_that_use_each_others_streams_in_the_other_order_all_end() {
    run_here(async {
        let ((one, mut read_one), (two, mut read_two)) = (pair(), pair());
        let forth = || one.write_all(vec![1; 300_000]).then(two.write_all(vec![1; 300_000]));
        let back = || two.write_all(vec![2; 300_000]).then(one.write_all(vec![2; 300_000]));
        let readers = std::thread::spawn(move || {
            let other = std::thread::spawn(move || {
                std::io::copy(&mut read_one, &mut std::io::sink()).expect("read")
            });
            let count = std::io::copy(&mut read_two, &mut std::io::sink()).expect("read");
            count + other.join().expect("no panic")
        });
        let chains = join(join_all((0..20).map(|_| forth())), join_all((0..20).map(|_| back())));
        let (forth, back) = chains.await;
        for (first, second) in forth.into_iter().chain(back) {
            assert!(first.is_ok() && second.is_ok());
        }
        drop((one, two));
        assert_eq!(readers.join().expect("no panic"), 2 * 2 * 20 * 300_000);
    });
}

#[test]
fn chains_longer_than_the_queue_and_more_than_it_holds_all_end_in_order() {
    let _turn = turn_on_software_ring();
    let directory = scratch_dir();
    for entries in [1, 2, 4, 8, 64] {
        bounded(|| {
            let runtime = build_runtime(Builder::new().entries(entries));
            runtime.block_on(async {
                let file = new_file(directory.path(), "file");
                file.set_len(200 * 8).await.expect("grown");
                let file = &file;
                let chains = (0..200u64).map(|number| async move {
                    let place = number * 8;
                    let write = |value: u8| file.write_all_at(vec![value; 8], place);
                    let (one, two, three, read, four, synced, five, last) = write(1)
                        .then(write(2))
                        .then(write(3))
                        .then(file.read_exact_at(vec![0; 8], place))
                        .then(write(4))
                        .then(no_op())
                        .then(write(5))
                        .then(file.read_exact_at(vec![0; 8], place))
                        .await;
                    assert!([one, two, three, four, five].iter().all(Result::is_ok));
                    synced.expect("done");
                    assert_eq!(read.expect("read"), [3; 8]);
                    assert_eq!(last.expect("read"), [5; 8]);
                });
                let single = (0..200).map(|_| async { no_op().await.expect("done") });
                join(join_all(chains), join_all(single)).await;
                assert_eq!(annulus::metrics().stale_completions, 0);
            });
        });
    }
}

#[test]
fn a_runtime_ends_with_chains_in_flight() {
    let _turn = turn_on_software_ring();
    let pool = Pool::default();
    for round in 0..4 {
        bounded(|| {
            let runtime = build_runtime(Builder::new());
            let kept = runtime.block_on(async {
                let (ours, theirs) = pair();
                let ours = std::rc::Rc::new(ours);
                let task = std::rc::Rc::clone(&ours);
                let (read, second) = (pool.empty(8), pool.empty(8));
                annulus::spawn(async move {
                    let (first, second) = task.read_exact(read).then(task.read_exact(second)).await;
                    drop((first, second));
                });
                turns(round).await;
                (ours, theirs)
            });
            let begun = std::time::Instant::now();
            drop(runtime);
            assert!(begun.elapsed() < Duration::from_secs(5), "nothing was left to be leaked");
            drop(kept);
        });
    }
    pool.assert_all_back();
}

#[test]
fn a_file_that_is_dropped_is_closed_when_the_members_behind_have_ended() {
    run_here(async {
        // The members behind look the number up when they begin, which must be the same file then.
        for turns_before in 0..3 {
            let directory = scratch_dir();
            let (ours, mut theirs) = pair();
            let file = new_file(directory.path(), "file");
            let mut chain =
                Box::pin(ours.read_exact(vec![0; 1]).then(file.write_all_at(vec![1; 4096], 0)));
            assert!(poll_in_task(&mut chain).await.is_pending());
            turns(turns_before).await;
            theirs.write_all(b"x").expect("room");
            drop(chain);
            drop((file, ours));
            let other = new_file(directory.path(), "other");
            quiet().await;
            turns(3).await;
            assert_eq!(other.metadata().await.expect("known").len(), 0);
        }
    });
}

#[test]
fn registered_files_and_files_that_ask_their_device_stand_in_chains() {
    let _turn = turn_on_software_ring();
    let directory = scratch_dir();
    for builder in [Builder::new().registered_files(true), Builder::new().iopoll(true)] {
        bounded(|| {
            build_runtime(builder.clone()).block_on(async {
                let path = directory.path().join("file");
                std::fs::write(&path, vec![0; 8192]).expect("a file");
                let direct = std::fs::File::options()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_DIRECT)
                    .open(&path);
                let Ok(file) = direct.map(File::from) else {
                    return println!("skipped: no O_DIRECT here");
                };
                let block = |value| {
                    let mut block = annulus::buf::AlignedBuffer::new(4096, 4096);
                    block.extend_from_slice(&[value; 4096]);
                    block
                };
                for round in 0..100 {
                    let (first, second, read) = file
                        .write_all_at(block(round), 0)
                        .then(file.write_all_at(block(!round), 4096))
                        .then(file.read_exact_at(annulus::buf::AlignedBuffer::new(8192, 4096), 0))
                        .await;
                    assert!(first.is_ok() && second.is_ok());
                    let read = read.expect("read");
                    assert!(read[..4096].iter().all(|byte| *byte == round));
                    assert!(read[4096..].iter().all(|byte| *byte == !round));
                }
            });
        });
    }
}
