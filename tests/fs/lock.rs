//! The advisory lock of a file.

use std::fs as std_fs;
use std::time::Duration;

use annulus::fs::{File, TryLockError};
use annulus::{JoinSet, time};

use crate::common::{Random, run, scratch_dir, seed, size};

fn is_held(outcome: Result<(), TryLockError>) -> bool {
    match outcome {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => panic!("{error}"),
    }
}

#[test]
fn a_lock_keeps_others_out_as_that_of_std_does() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "").unwrap();
    run(async || {
        let (first, second) = (File::open(&path).await.unwrap(), File::open(&path).await.unwrap());
        first.lock().await.unwrap();
        assert!(is_held(second.try_lock().await));
        assert!(is_held(second.try_lock_shared().await));
        first.unlock().await.unwrap();
        first.unlock().await.unwrap();
        first.lock_shared().await.unwrap();
        assert!(!is_held(second.try_lock_shared().await));
        assert!(is_held(first.try_lock().await), "both hold it");
        second.unlock().await.unwrap();
        // A clone is the same open file.
        let clone = first.try_clone().unwrap();
        assert!(!is_held(clone.try_lock().await));
        drop(first);
        assert!(is_held(second.try_lock().await));
        clone.close().await.unwrap();
        assert!(!is_held(second.try_lock().await), "it goes with the file");
    });
}

#[test]
fn a_lock_waits_for_its_turn_and_stops_nobody_meanwhile() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "").unwrap();
    run(async || {
        let (first, second) = (File::open(&path).await.unwrap(), File::open(&path).await.unwrap());
        first.lock().await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            second.lock().await.unwrap();
            second
        });
        for _ in 0..10 {
            time::sleep(Duration::from_millis(1)).await;
            assert_eq!(annulus::metrics().operations_in_flight, 0, "nothing waits in the kernel");
        }
        first.unlock().await.unwrap();
        let second = tasks.join_next().await.unwrap().unwrap();
        assert!(is_held(first.try_lock().await));
        drop(second);
        first.lock().await.unwrap();
    });
}

#[test]
fn a_dropped_lock_holds_nothing() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "").unwrap();
    let random = Random::new(seed());
    run(async || {
        let (first, second) = (File::open(&path).await.unwrap(), File::open(&path).await.unwrap());
        for _ in 0..size(50).min(1000) {
            first.lock().await.unwrap();
            let wait = Duration::from_micros(random.below(3000) as u64);
            let waited = time::timeout(wait, second.lock()).await;
            assert!(waited.is_err(), "the first holds it");
            first.unlock().await.unwrap();
            assert!(!is_held(first.try_lock().await), "the dropped one has not taken it");
            first.unlock().await.unwrap();
        }
    });
}

#[test]
fn who_cannot_lock_says_why() {
    run(async || {
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        // The kernel locks anything that is open.
        pipe.lock().await.unwrap();
        assert_eq!(
            std::io::Error::from(TryLockError::WouldBlock).kind(),
            std::io::ErrorKind::WouldBlock
        );
    });
}
