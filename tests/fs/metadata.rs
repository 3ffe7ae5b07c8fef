//! Metadata of files that are seldom met: devices, and files from before 1970.

use std::time::{Duration, UNIX_EPOCH};

use annulus::fs::{self, File};

use crate::common::{in_own_process, run, scratch_dir};

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
