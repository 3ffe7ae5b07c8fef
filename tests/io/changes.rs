//! The stream of a descriptor's changes of readiness.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::pin::pin;

use annulus::io::{Changes, Interest, PollFd, Ready};
use futures_util::stream::FusedStream;
use futures_util::{FutureExt, StreamExt};

use crate::common::{
    Random, assert_descriptors_are, in_flight, in_own_process, open_descriptors, poll_in_task,
    poll_once, quiet, run, runtime, scratch_dir, seed, turns,
};

/// Two ends that do not block.
fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// Reads until it would wait or there is no more, and tells how much that was.
fn drain(mut reader: impl Read) -> usize {
    let (mut buffer, mut total) = ([0; 4096], 0);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return total,
            Ok(length) => total += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn next(changes: &mut Changes<'_>) -> Ready {
    changes.next().await.expect("it goes on").unwrap()
}

async fn assert_nothing_comes(changes: &mut Changes<'_>) {
    for _ in 0..4 {
        let mut item = changes.next();
        let item = poll_in_task(&mut item).await;
        assert!(item.is_pending(), "{item:?}");
        turns(1).await;
    }
}

#[test]
fn many_events_are_told_by_one_entry_and_nothing_is_told_twice() {
    run(async || {
        let (ours, mut theirs) = pair();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        theirs.write_all(b"before").unwrap();
        let mut changes = descriptor.changes(Interest::READABLE);
        let before = annulus::metrics();
        assert!(next(&mut changes).await.is_readable());
        // Edge-triggered: what was left unread is not told again.
        assert_nothing_comes(&mut changes).await;
        assert_eq!(drain(&ours), 6);
        for _ in 0..50 {
            theirs.write_all(b"x").unwrap();
            let ready = next(&mut changes).await;
            assert!(ready.is_readable() && !ready.is_writable() && !ready.is_read_closed());
            assert_eq!(drain(&ours), 1);
        }
        assert_nothing_comes(&mut changes).await;
        let after = annulus::metrics();
        let submissions = after.submissions - before.submissions;
        assert_eq!(submissions, 1, "for 51 items");
    });
}

#[test]
fn events_that_nobody_took_are_one_item_and_too_many_of_them_lose_none() {
    run(async || {
        let (ours, mut theirs) = pair();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        let mut changes = descriptor.changes(Interest::READABLE);
        assert_nothing_comes(&mut changes).await;
        let cancels = annulus::metrics().cancels;
        for _ in 0..100 {
            theirs.write_all(b"x").unwrap();
            turns(1).await;
        }
        assert_eq!(annulus::metrics().cancels, cancels + 1, "it was stopped");
        assert!(next(&mut changes).await.is_readable());
        assert_eq!(drain(&ours), 100);
        // It is armed again.
        theirs.write_all(b"x").unwrap();
        let mut read = 0;
        while read == 0 {
            assert!(next(&mut changes).await.is_readable());
            read = drain(&ours);
        }
        assert_nothing_comes(&mut changes).await;
        theirs.write_all(b"x").unwrap();
        assert!(next(&mut changes).await.is_readable());
        assert_eq!(drain(&ours), 1);
    });
}

#[test]
fn whoever_reads_until_nothing_is_there_gets_all_whatever_the_order() {
    const BYTES: usize = 2000;
    let random = Random::new(seed());
    run(async || {
        let (ours, mut theirs) = pair();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        let (mut written, mut read) = (0, 0);
        let mut changes = descriptor.changes(Interest::READABLE);
        while read < BYTES {
            for _ in 0..random.below(60) {
                if written < BYTES {
                    theirs.write_all(b"x").unwrap();
                    written += 1;
                }
                if random.chance(4) {
                    turns(1).await;
                }
            }
            if random.chance(3) {
                changes = descriptor.changes(Interest::READABLE);
                if random.chance(2) {
                    _ = poll_in_task(&mut changes.next()).await;
                    // What this may have told is asked for anew.
                    changes = descriptor.changes(Interest::READABLE);
                }
            }
            while read < written {
                assert!(next(&mut changes).await.is_readable());
                read += drain(&ours);
            }
        }
        drop(changes);
        in_flight(0).await;
    });
}

#[test]
fn a_stream_that_is_dropped_at_any_stage_leaves_the_event_to_the_next() {
    run(async || {
        for stage in 0..5 {
            let (ours, mut theirs) = pair();
            let descriptor = PollFd::duplicate(&ours).unwrap();
            let mut changes = descriptor.changes(Interest::READABLE);
            if stage > 0 {
                assert!(poll_in_task(&mut changes.next()).await.is_pending());
            }
            if stage > 1 {
                turns(2).await;
            }
            theirs.write_all(b"x").unwrap();
            if stage > 2 {
                turns(2).await;
            }
            if stage > 3 {
                assert!(next(&mut changes).await.is_readable());
            }
            drop(changes);
            assert!(next(&mut descriptor.changes(Interest::READABLE)).await.is_readable());
            assert!(descriptor.readable().await.unwrap().is_readable());
            assert_eq!(drain(&ours), 1);
            in_flight(0).await;
        }
        quiet().await;
    });
}

#[test]
fn streams_and_waits_run_beside_each_other() {
    run(async || {
        let (ours, mut theirs) = pair();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        let mut first = descriptor.changes(Interest::READABLE);
        let mut second = descriptor.changes(Interest::READABLE);
        let mut either = descriptor.changes(Interest::READABLE | Interest::WRITABLE);
        assert_nothing_comes(&mut first).await;
        assert_nothing_comes(&mut second).await;
        assert!(next(&mut either).await.is_writable());
        theirs.write_all(b"x").unwrap();
        assert!(next(&mut first).await.is_readable());
        assert!(next(&mut second).await.is_readable());
        while !next(&mut either).await.is_readable() {}
        assert!(descriptor.writable().await.unwrap().is_writable());
    });
}

#[test]
fn room_is_told_each_time_also_when_the_other_side_writes_no_more() {
    run(async || {
        for ended in [false, true] {
            let (ours, theirs) = pair();
            let fill = || while (&ours).write(&[1; 4096]).is_ok() {};
            fill();
            let descriptor = PollFd::duplicate(&ours).unwrap();
            let mut before = descriptor.changes(Interest::WRITABLE);
            assert_nothing_comes(&mut before).await;
            if ended {
                theirs.shutdown(Shutdown::Write).unwrap();
            }
            let mut after = descriptor.changes(Interest::WRITABLE);
            for _ in 0..3 {
                assert_nothing_comes(&mut before).await;
                assert_nothing_comes(&mut after).await;
                drain(&theirs);
                assert!(next(&mut before).await.is_writable());
                assert!(next(&mut after).await.is_writable());
                fill();
                // A wake for each buffer that was read, which came before it was full again.
                turns(2).await;
                _ = before.next().now_or_never();
                _ = after.next().now_or_never();
            }
        }
        quiet().await;
    });
}

#[test]
fn the_end_and_a_hang_up_are_told_and_do_not_spin() {
    run(async || {
        let (ours, theirs) = pair();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        let mut changes = descriptor.changes(Interest::READABLE);
        assert_nothing_comes(&mut changes).await;
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(next(&mut changes).await.is_read_closed());
        assert_nothing_comes(&mut changes).await;
        drop(theirs);
        let ready = next(&mut changes).await;
        assert!(ready.is_readable() && ready.is_writable(), "hung up: {ready:?}");
        assert_nothing_comes(&mut changes).await;
        // Who comes later is told as well.
        let mut late = descriptor.changes(Interest::PRIORITY);
        assert!(next(&mut late).await.is_read_closed());
        assert_nothing_comes(&mut late).await;

        let (reader, writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(writer);
        let mut changes = descriptor.changes(Interest::WRITABLE);
        assert!(!next(&mut changes).await.is_error());
        drop(reader);
        assert!(next(&mut changes).await.is_error(), "the reader has gone");
        assert_nothing_comes(&mut changes).await;
    });
}

#[test]
fn each_item_of_a_regular_file_comes_at_once() {
    run(async || {
        let directory = scratch_dir();
        let file = std::fs::File::create(directory.path().join("file")).unwrap();
        let descriptor = PollFd::new(file);
        let mut changes = descriptor.changes(Interest::WRITABLE);
        for _ in 0..100 {
            assert!(next(&mut changes).await.is_writable());
        }
    });
}

#[test]
fn an_error_ends_the_stream() {
    run(async || {
        let path =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/").unwrap();
        let descriptor = PollFd::from(OwnedFd::from(path));
        let mut changes = descriptor.changes(Interest::READABLE);
        assert!(!changes.is_terminated());
        let error = changes.next().await.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert!(changes.is_terminated());
        assert!(changes.next().await.is_none());
        in_flight(0).await;
    });
}

#[test]
fn the_descriptor_is_closed_when_its_owner_goes_with_the_stream() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(reader);
        let mut wait = Box::pin(async move {
            let mut changes = descriptor.changes(Interest::READABLE);
            changes.next().await
        });
        assert!(poll_once(wait.as_mut()).is_pending());
        turns(1).await;
        drop(wait);
        // Nobody has the reading end any more.
        let error = writer.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        quiet().await;
    });
}

#[test]
fn a_descriptor_comes_back_after_its_stream() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(reader);
        assert_nothing_comes(&mut descriptor.changes(Interest::READABLE)).await;
        let mut reader = std::fs::File::from(descriptor.into_fd().await);
        writer.write_all(b"x").unwrap();
        reader.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_runtime_ends_with_a_stream_armed() {
    in_own_process(|| {
        let before = open_descriptors();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let runtime = runtime();
        runtime.block_on(async {
            let descriptor = PollFd::new(reader);
            _ = annulus::spawn(async move {
                let mut changes = pin!(descriptor.changes(Interest::READABLE));
                while changes.next().await.is_some() {}
            });
            turns(2).await;
            assert_eq!(annulus::metrics().operations_in_flight, 1);
        });
        drop(runtime);
        let error = writer.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        drop(writer);
        assert_descriptors_are(&before);
    });
}
