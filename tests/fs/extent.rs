//! Blocks set aside, given back and moved; write-back; copies of parts; shared blocks.

use std::fs as std_fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use annulus::fs::{FallocateMode, File, OpenOptions, SyncRangeMode};

use crate::common::{in_own_process, run, scratch_dir};
use crate::pattern;

const BLOCK: usize = 4096;

async fn file_with(path: &Path, content: Vec<u8>) -> File {
    let file = OpenOptions::new().read(true).write(true).create(true).open(path).await.unwrap();
    file.write_all_at(content, 0).await.unwrap();
    file
}

/// `false`: this file system does not have the mode.
#[track_caller]
fn is_there(what: FallocateMode, outcome: std::io::Result<()>) -> bool {
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            println!("skipped: {what:?}: {error}");
            false
        }
        outcome => {
            outcome.unwrap();
            true
        }
    }
}

#[test]
fn each_mode_of_fallocate_does_what_it_says() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let content = pattern(4 * BLOCK);
        let file = file_with(&path, content.clone()).await;
        let (block, end) = (BLOCK as u64, 4 * BLOCK as u64);
        let length = || std_fs::metadata(&path).unwrap().len();
        let mode = FallocateMode::KeepSize;
        if is_there(mode, file.fallocate(mode, end, 2 * block).await) {
            assert_eq!(length(), end);
            assert!(std_fs::metadata(&path).unwrap().blocks() * 512 >= end + 2 * block);
        }
        let mode = FallocateMode::PunchHole;
        if is_there(mode, file.fallocate(mode, block, block).await) {
            let found = std_fs::read(&path).unwrap();
            assert_eq!(found[..BLOCK], content[..BLOCK]);
            assert!(found[BLOCK..2 * BLOCK].iter().all(|byte| *byte == 0));
            assert_eq!(found[2 * BLOCK..], content[2 * BLOCK..]);
        }
        let mode = FallocateMode::ZeroRangeKeepSize;
        if is_there(mode, file.fallocate(mode, end - 100, 1000).await) {
            let found = std_fs::read(&path).unwrap();
            assert_eq!(found.len() as u64, end);
            assert!(found[found.len() - 100..].iter().all(|byte| *byte == 0));
        }
        file.write_all_at(content.clone(), 0).await.unwrap();
        let mode = FallocateMode::CollapseRange;
        if is_there(mode, file.fallocate(mode, block, block).await) {
            let mut expected = content.clone();
            expected.drain(BLOCK..2 * BLOCK);
            assert_eq!(std_fs::read(&path).unwrap(), expected);
            let mode = FallocateMode::InsertRange;
            assert!(is_there(mode, file.fallocate(mode, block, block).await));
            expected.splice(BLOCK..BLOCK, vec![0; BLOCK]);
            assert_eq!(std_fs::read(&path).unwrap(), expected);
            let error = file.fallocate(mode, 1, block).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "beside the blocks");
        }
        let mode = FallocateMode::ZeroRange;
        if is_there(mode, file.fallocate(mode, end, 10).await) {
            assert_eq!(length(), end + 10);
        }
        file.fallocate(FallocateMode::Allocate, end, 100).await.unwrap();
        assert_eq!(length(), end + 100);
    });
}

#[test]
fn extents_that_no_file_can_have_and_files_that_have_none_are_refused() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(&scratch.path().join("file"), pattern(100)).await;
        let mode = FallocateMode::Allocate;
        for (offset, length) in [(0, 0), (1 << 63, 1), (0, 1 << 63), (u64::MAX, u64::MAX)] {
            let error = file.fallocate(mode, offset, length).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{length} at {offset}");
        }
        let error = file.fallocate(mode, i64::MAX as u64, i64::MAX as u64).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        let error = file.sync_range(1 << 63, 0, SyncRangeMode::Start).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(OwnedFd::from(writer));
        let error = pipe.fallocate(mode, 0, 1).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
        let error = pipe.sync_range(0, 0, SyncRangeMode::Wait).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
    });
}

#[test]
fn a_part_is_written_back_and_the_content_stays() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let file = file_with(&path, pattern(100_000)).await;
        file.sync_range(0, 0, SyncRangeMode::Start).await.unwrap();
        file.sync_range(50_000, 10_000, SyncRangeMode::Wait).await.unwrap();
        assert!(std_fs::read(&path).unwrap() == pattern(100_000));
    });
}

#[test]
fn a_part_of_a_file_is_copied_to_another_as_far_as_it_goes() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let content = pattern(100_000);
            let from = file_with(&scratch.path().join("from"), content.clone()).await;
            let path = scratch.path().join("to");
            let to = file_with(&path, b"head".to_vec()).await;
            assert_eq!(from.copy_range(1000, &to, 4, 50_000).await.unwrap(), 50_000);
            assert_eq!(from.copy_range(99_000, &to, 50_004, 50_000).await.unwrap(), 1000);
            assert_eq!(from.copy_range(100_000, &to, 0, 1).await.unwrap(), 0, "the end");
            let mut expected = b"head".to_vec();
            expected.extend_from_slice(&content[1000..51_000]);
            expected.extend_from_slice(&content[99_000..]);
            assert!(std_fs::read(&path).unwrap() == expected);
            assert_eq!(from.stream_position().await.unwrap(), 0);
            let error = from.copy_range(0, &from, 10, 100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "parts that overlap");
            let error = from.copy_range(1 << 63, &to, 0, 1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let reads_only = File::open(&path).await.unwrap();
            let error = from.copy_range(0, &reads_only, 0, 1).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        });
    });
}

#[test]
fn blocks_are_shared_where_the_file_system_can_and_else_it_says_so() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let from = file_with(&scratch.path().join("from"), pattern(3 * BLOCK)).await;
            let path = scratch.path().join("to");
            let to = file_with(&path, b"before".to_vec()).await;
            match to.reflink_from(&from).await {
                Ok(()) => assert!(std_fs::read(&path).unwrap() == pattern(3 * BLOCK)),
                Err(error) => {
                    let errno = error.raw_os_error();
                    assert!(matches!(errno, Some(libc::EOPNOTSUPP | libc::ENOTTY)), "{error}");
                    assert_eq!(std_fs::read(&path).unwrap(), b"before");
                    println!("skipped: no shared blocks here: {error}");
                }
            }
        });
    });
}
