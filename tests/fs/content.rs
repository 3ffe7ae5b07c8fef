//! Whole files in one call, of lengths at which they are read and written in other ways.

use std::rc::Rc;

use annulus::fs;
use futures_util::FutureExt;

use crate::common::{quiet, run, scratch_dir};
use crate::pattern;
use crate::stream::cool;

const MIB: usize = 1 << 20;

#[test]
fn files_of_any_length_are_written_and_read_whole() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    run(async || {
        for length in [
            0,
            1,
            16 * 1024 - 1,
            16 * 1024,
            16 * 1024 + 1,
            MIB,
            MIB + 1,
            MIB + 16 * 1024,
            MIB + 16 * 1024 + 1,
            3 * MIB,
            9 * MIB + 12_345,
        ] {
            let content = pattern(length);
            fs::write(&path, content.clone()).await.unwrap();
            assert!(std::fs::read(&path).unwrap() == content, "{length} written");
            assert!(fs::read(&path).await.unwrap() == content, "{length} read");
            cool(&path).await;
            assert!(fs::read(&path).await.unwrap() == content, "{length} read from the disk");
        }
        for path in
            ["/proc/version", "/proc/filesystems", "/sys/kernel/mm/transparent_hugepage/enabled"]
        {
            if let Ok(expected) = std::fs::read(path) {
                assert_eq!(fs::read(path).await.unwrap(), expected);
            }
        }
    });
}

#[test]
fn a_large_read_or_write_is_dropped_and_leaves_nothing_in_flight() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(20 * MIB);
    std::fs::write(&path, &content).unwrap();
    run(async || {
        for polls in 0..12 {
            cool(&path).await;
            let mut read = std::pin::pin!(fs::read(&path));
            for _ in 0..polls {
                if read.as_mut().now_or_never().is_some() {
                    break;
                }
                annulus::time::sleep(std::time::Duration::ZERO).await;
            }
        }
        quiet().await;
        // It is shared, so that its end shows.
        let content: Rc<[u8]> = content.clone().into();
        let target = scratch.path().join("target");
        for polls in 0..6 {
            {
                let mut write = std::pin::pin!(fs::write(&target, Rc::clone(&content)));
                for _ in 0..polls {
                    if write.as_mut().now_or_never().is_some() {
                        break;
                    }
                    annulus::time::sleep(std::time::Duration::ZERO).await;
                }
            }
            quiet().await;
            assert_eq!(Rc::strong_count(&content), 1, "nobody has it any more");
            let written = std::fs::read(&target).unwrap_or_default();
            assert!(written.len() <= 20 * MIB);
        }
    });
}

#[test]
fn a_large_write_that_fails_says_the_kernels_error() {
    run(async || {
        let error = fs::write("/dev/full", vec![0; 3 * MIB]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let directory = scratch_dir();
        let error = fs::read(directory.path()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
    });
}
