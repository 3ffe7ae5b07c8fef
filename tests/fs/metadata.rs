//! Metadata: that an open local file is not waited for, devices, and files from before 1970.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

use annulus::fs::{self, File};
use annulus::metrics;

use crate::common::{in_own_process, run, scratch_dir};

#[test]
fn an_open_file_of_this_machine_is_asked_without_an_operation() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std::fs::write(&path, "content").unwrap();
    run(async || {
        let file = File::open(&path).await.unwrap();
        let before = metrics().operations;
        let (metadata, by_std) = (file.metadata().await.unwrap(), path.metadata().unwrap());
        assert_eq!(metrics().operations, before);
        assert_eq!((metadata.len(), metadata.is_file()), (7, true));
        assert_eq!(metadata.ino(), by_std.ino());
        assert_eq!(metadata.modified().unwrap(), by_std.modified().unwrap());
        assert_eq!(metadata.created().ok(), by_std.created().ok());
        // A device is asked by a worker, with the same answer.
        let null = File::open("/dev/null").await.unwrap();
        let by_std = std::fs::metadata("/dev/null").unwrap();
        assert_eq!(null.metadata().await.unwrap().rdev(), by_std.rdev());
    });
}

#[test]
fn only_a_device_has_the_number_of_one() {
    let scratch = scratch_dir();
    run(async || {
        let zero = fs::metadata("/dev/zero").await.unwrap();
        assert_eq!(zero.rdev(), libc::makedev(1, 5));
        assert_eq!(fs::metadata(scratch.path()).await.unwrap().rdev(), 0);
    });
}

#[test]
fn times_before_1970_count_their_nanoseconds_upwards() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("old");
        run(async || {
            let time = UNIX_EPOCH - Duration::from_millis(1500);
            File::create(&path).await.unwrap().set_modified(time).await.unwrap();
            let metadata = fs::metadata(&path).await.unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 500_000_000));
            assert_eq!(metadata.modified().unwrap(), time);
        });
    });
}
