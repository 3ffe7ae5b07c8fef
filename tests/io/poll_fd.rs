//! Readiness of any descriptor.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::io::{Interest, PollFd};
use annulus::time::timeout;

use crate::common::{
    Random, in_flight, in_own_process, poll_in_task, poll_once, quiet, run, scratch_dir, seed,
    turns,
};

#[test]
fn what_came_before_the_wait_and_what_comes_after_both_end_it() {
    run(async || {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::duplicate(&reader).unwrap();
        writer.write_all(b"before").unwrap();
        let ready = descriptor.readable().await.unwrap();
        assert!(ready.is_readable() && !ready.is_writable() && !ready.is_read_closed());
        // Level-triggered: what nobody has read is told again.
        assert!(descriptor.readable().await.unwrap().is_readable());
        reader.read_exact(&mut [0; 6]).unwrap();
        let mut wait = descriptor.readable();
        assert!(poll_in_task(&mut wait).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut wait).await.is_pending(), "nothing has come");
        writer.write_all(b"after").unwrap();
        assert!(wait.await.unwrap().is_readable());
        drop(writer);
        reader.read_exact(&mut [0; 5]).unwrap();
        assert!(descriptor.readable().await.unwrap().is_read_closed());
    });
}

#[test]
fn room_to_write_is_told_when_there_is_some() {
    run(async || {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        assert!(descriptor.writable().await.unwrap().is_writable());
        while (&ours).write(&[1; 4096]).is_ok() {}
        let mut wait = descriptor.writable();
        assert!(poll_in_task(&mut wait).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut wait).await.is_pending(), "there is no room");
        theirs.set_nonblocking(true).unwrap();
        let _ = std::io::copy(&mut theirs, &mut std::io::sink());
        assert!(wait.await.unwrap().is_writable());
        (&ours).write_all(b"room").unwrap();
    });
}

#[test]
fn waits_for_both_directions_run_beside_each_other_and_one_may_be_for_either() {
    run(async || {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let descriptor = PollFd::duplicate(&ours).unwrap();
        let mut read = descriptor.readable();
        assert!(poll_in_task(&mut read).await.is_pending());
        assert!(descriptor.writable().await.unwrap().is_writable());
        let either = descriptor.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
        assert!(either.is_writable() && !either.is_readable());
        theirs.write_all(b"x").unwrap();
        assert!(read.await.unwrap().is_readable());
        drop(theirs);
        let ended = descriptor.readable().await.unwrap();
        assert!(ended.is_readable() && ended.is_read_closed());
    });
}

#[test]
fn a_reader_that_has_gone_is_an_error_and_ends_a_wait_for_room() {
    run(async || {
        let (reader, writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(writer);
        drop(reader);
        let ready = descriptor.writable().await.unwrap();
        assert!(ready.is_error() && ready.is_writable(), "{ready:?}");
    });
}

#[test]
fn a_wait_for_room_does_not_end_since_the_other_side_writes_no_more() {
    run(async || {
        for dropped in [true, false] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            while (&ours).write(&[1; 4096]).is_ok() {}
            let descriptor = PollFd::duplicate(&ours).unwrap();
            let mut before = descriptor.writable();
            assert!(poll_in_task(&mut before).await.is_pending());
            turns(1).await;
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut after = descriptor.writable();
            for _ in 0..4 {
                assert!(poll_in_task(&mut before).await.is_pending(), "there is no room");
                assert!(poll_in_task(&mut after).await.is_pending(), "there is no room");
                turns(1).await;
            }
            assert!(descriptor.readable().await.unwrap().is_read_closed());
            if dropped {
                continue;
            }
            let _ = std::io::copy(&mut theirs, &mut std::io::sink());
            assert!(before.await.unwrap().is_writable());
            assert!(after.await.unwrap().is_writable());
            drop(theirs);
            let ended = descriptor.ready(Interest::PRIORITY).await.unwrap();
            assert!(ended.is_read_closed(), "hung up, which nobody need ask for: {ended:?}");
        }
        quiet().await;
    });
}

#[test]
fn a_regular_file_is_always_ready() {
    run(async || {
        let directory = scratch_dir();
        let file = std::fs::File::create(directory.path().join("file")).unwrap();
        let descriptor = PollFd::from(std::os::fd::OwnedFd::from(file));
        assert!(descriptor.readable().await.unwrap().is_readable());
        assert!(descriptor.writable().await.unwrap().is_writable());
    });
}

#[test]
fn a_wait_goes_on_when_the_borrowed_descriptor_is_closed_and_its_number_is_used_again() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let number = reader.as_raw_fd();
        let descriptor = PollFd::duplicate(&reader).unwrap();
        let mut wait = descriptor.readable();
        assert!(poll_in_task(&mut wait).await.is_pending());
        drop(reader);
        let (other, mut other_writer) = std::io::pipe().unwrap();
        other_writer.write_all(b"another file").unwrap();
        turns(2).await;
        assert!(poll_in_task(&mut wait).await.is_pending(), "number {number}: {other:?}");
        writer.write_all(b"x").unwrap();
        assert!(wait.await.unwrap().is_readable());
    });
}

#[test]
fn a_descriptor_that_is_dropped_while_it_is_waited_for_is_closed() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(reader);
        let mut wait = Box::pin(async move { descriptor.readable().await });
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
fn waits_that_are_dropped_at_random_lose_no_event() {
    const BYTES: usize = 500;
    let random = Random::new(seed());
    run(async || {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::duplicate(&reader).unwrap();
        let (mut written, mut read) = (0, 0);
        while read < BYTES {
            if written < BYTES && random.chance(2) {
                writer.write_all(b"x").unwrap();
                written += 1;
            }
            let mut wait = descriptor.readable();
            let early = poll_in_task(&mut wait).await;
            turns(random.below(3)).await;
            if written == read || random.chance(3) {
                assert!(early.is_pending() || written > read);
                continue;
            }
            assert!(early.is_ready() || wait.await.unwrap().is_readable());
            reader.read_exact(&mut [0]).unwrap();
            read += 1;
        }
        in_flight(0).await;
    });
}

#[test]
fn a_wait_can_be_cancelled_and_given_a_deadline_and_the_descriptor_comes_back() {
    run(async || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let descriptor = PollFd::new(reader);
        let late = descriptor.readable().timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let mut wait = descriptor.readable();
        assert!(poll_in_task(&mut wait).await.is_pending());
        assert!(timeout(Duration::from_millis(1), wait).await.is_err());
        let cancelled = descriptor.readable().cancel().await.unwrap_err();
        assert_eq!(cancelled.raw_os_error(), Some(libc::ECANCELED));
        let mut reader = std::fs::File::from(descriptor.into_fd().await);
        writer.write_all(b"x").unwrap();
        reader.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn without_a_descriptor_left_a_duplicate_is_refused() {
    in_own_process(|| {
        let (reader, _writer) = std::io::pipe().unwrap();
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: the limit outlives the call. This process has no other test.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let taken: Vec<_> = std::iter::from_fn(|| reader.try_clone().ok()).collect();
        let error = PollFd::duplicate(&reader).unwrap_err();
        drop(taken);
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    });
}
