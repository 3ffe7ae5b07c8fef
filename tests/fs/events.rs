//! Descriptors of events: they are read as streams, from front to back, and no event is lost.

use std::fs as std_fs;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use annulus::fs::File;
use annulus::time;
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use crate::common::{Random, poll_in_task, run, scratch_dir, seed, turns};

fn descriptor(number: i32) -> OwnedFd {
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn eventfd(flags: i32) -> (File, std_fs::File) {
    // SAFETY: the call takes no memory.
    let event = descriptor(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) });
    let adder = std_fs::File::from(event.try_clone().unwrap());
    (File::from(event), adder)
}

fn count_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
}

/// What its reads bring, of which some are dropped at random.
async fn sum_under_drops(event: &File, mut adder: std_fs::File, random: &Random) {
    const ROUNDS: u64 = 300;
    let (mut added, mut sum) = (0u64, 0);
    for round in 1..=ROUNDS {
        if random.below(3) > 0 {
            let number = 1 + round % 5;
            adder.write_all(&number.to_ne_bytes()).unwrap();
            added += number;
        }
        let read = event.read_at(vec![0; 8 + random.below(2) * 56], 0);
        let sleep = Box::pin(async {
            turns(random.below(3)).await;
        });
        if let Either::Left((read, _)) = select(read, sleep).await {
            let (count, bytes) = read.unwrap();
            sum += count_of(&bytes[..count]);
        }
    }
    while sum < added {
        let (count, bytes) = event.read_at(vec![0; 8], 0).await.unwrap();
        sum += count_of(&bytes[..count]);
    }
    assert_eq!(sum, added);
}

#[test]
fn the_sum_of_an_eventfd_is_exact_whatever_reads_are_dropped() {
    let random = Random::new(seed());
    for flags in [0, libc::EFD_SEMAPHORE] {
        run(async || {
            let (event, adder) = eventfd(flags);
            sum_under_drops(&event, adder, &random).await;
        });
    }
}

#[test]
fn a_read_with_more_room_than_an_event_ends_with_the_event() {
    run(async || {
        let (event, mut adder) = eventfd(0);
        adder.write_all(&7u64.to_ne_bytes()).unwrap();
        let (count, bytes) = event.read_at(vec![0; 64], 0).await.unwrap();
        assert_eq!(count_of(&bytes[..count]), 7);

        // SAFETY: the call takes no memory.
        let watch = descriptor(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) });
        let scratch = scratch_dir();
        let path = std::ffi::CString::new(scratch.path().as_os_str().as_encoded_bytes()).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&watch);
        // SAFETY: the path outlives the call.
        let added = unsafe { libc::inotify_add_watch(number, path.as_ptr(), libc::IN_CREATE) };
        assert!(added >= 0);
        let watch = File::from(watch);
        let mut dropped = watch.read_at(vec![0; 4096], 0);
        assert!(poll_in_task(&mut dropped).await.is_pending());
        std_fs::write(scratch.path().join("new"), "").unwrap();
        turns(3).await;
        drop(dropped);
        let (count, _) = watch.read_at(vec![0; 4096], 0).await.unwrap();
        assert!(
            count >= size_of::<libc::inotify_event>(),
            "the event of a dropped read goes to the next"
        );
    });
}

#[test]
fn events_come_in_chunks() {
    run(async || {
        let (event, mut adder) = eventfd(0);
        let mut chunks = event.chunks();
        for number in 1..20u64 {
            adder.write_all(&number.to_ne_bytes()).unwrap();
            assert_eq!(count_of(&chunks.next().await.unwrap().unwrap()), number);
        }
        drop(chunks);
        adder.write_all(&3u64.to_ne_bytes()).unwrap();
        assert_eq!(count_of(&event.read_chunk().await.unwrap()), 3);
    });
}

#[test]
fn the_expirations_of_a_timerfd_are_read() {
    run(async || {
        // SAFETY: the call takes no memory.
        let timer =
            descriptor(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) });
        let time = |nanoseconds| libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let setting = libc::itimerspec { it_interval: time(1_000_000), it_value: time(1_000_000) };
        let number = std::os::fd::AsRawFd::as_raw_fd(&timer);
        // SAFETY: the setting outlives the call, which returns none.
        let set = unsafe { libc::timerfd_settime(number, 0, &setting, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        let timer = File::from(timer);
        for _ in 0..5 {
            let (count, bytes) = timer.read_at(vec![0; 16], 0).await.unwrap();
            assert!(count_of(&bytes[..count]) >= 1);
        }
        let read = timer.read_at(vec![0; 8], 0);
        time::timeout(Duration::from_secs(60), read).await.expect("it expires").unwrap();
    });
}
