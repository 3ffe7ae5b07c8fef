//! Counters that others add to.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use annulus::io::EventFd;

use crate::common::{Random, poll_in_task, run, seed, turns};

fn adder(event: &EventFd) -> File {
    File::from(event.as_fd().try_clone_to_owned().unwrap())
}

#[test]
fn a_read_takes_all_that_was_added_and_a_semaphore_gives_one_at_a_time() {
    run(async || {
        let event = EventFd::new(5).unwrap();
        event.write(7).await.unwrap();
        assert_eq!(event.read().await.unwrap(), 12);
        let mut read = event.read();
        assert!(poll_in_task(&mut read).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut read).await.is_pending());
        event.write(1).await.unwrap();
        assert_eq!(read.await.unwrap(), 1);
        let semaphore = EventFd::semaphore(2).unwrap();
        assert_eq!(semaphore.read().await.unwrap(), 1);
        assert_eq!(semaphore.read().await.unwrap(), 1);
        assert!(poll_in_task(&mut semaphore.read()).await.is_pending());
    });
}

#[test]
fn another_thread_ends_a_wait() {
    run(async || {
        let event = EventFd::new(0).unwrap();
        let mut adder = adder(&event);
        let mut read = event.read();
        assert!(poll_in_task(&mut read).await.is_pending());
        let thread = thread::spawn(move || adder.write_all(&3u64.to_ne_bytes()).unwrap());
        assert_eq!(read.await.unwrap(), 3);
        thread.join().unwrap();
    });
}

#[test]
fn the_sum_is_exact_whatever_reads_are_dropped() {
    const ROUNDS: u64 = 300;
    let random = Random::new(seed());
    run(async || {
        let event = EventFd::new(0).unwrap();
        let (mut added, mut sum) = (0, 0);
        for round in 1..=ROUNDS {
            if random.chance(2) {
                event.write(round).await.unwrap();
                added += round;
            }
            let mut read = event.read();
            if let Poll::Ready(count) = poll_in_task(&mut read).await {
                sum += count.unwrap();
                continue;
            }
            turns(random.below(3)).await;
            if added > sum && random.chance(3) {
                sum += read.await.unwrap();
            }
        }
        while sum < added {
            sum += event.read().await.unwrap();
        }
        assert_eq!(sum, added);
    });
}

#[test]
fn a_write_waits_for_room_and_the_highest_number_is_refused() {
    run(async || {
        let event = EventFd::new(0).unwrap();
        let error = event.write(u64::MAX).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        event.write(u64::MAX - 1).await.unwrap();
        let mut write = Box::pin(event.write(1));
        assert!(poll_in_task(&mut write).await.is_pending());
        turns(2).await;
        assert!(poll_in_task(&mut write).await.is_pending(), "there is no room");
        assert_eq!(event.read().await.unwrap(), u64::MAX - 1);
        write.await.unwrap();
        let mut file = File::from(event.into_fd().await);
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 1);
    });
}

#[test]
fn a_read_has_a_deadline() {
    run(async || {
        let event = EventFd::new(0).unwrap();
        let late = event.read().timeout(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    });
}
