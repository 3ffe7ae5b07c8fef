//! The entries of a directory: all of them once, with types, in bounded batches.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs as std_fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, symlink};
use std::os::unix::net::UnixListener;

use annulus::fs;
use futures_util::{StreamExt, poll};

use crate::assert_same;
use crate::common::{
    assert_descriptors_are, in_own_process, open_descriptors, quiet, run_here, scratch_dir, turns,
};

fn limit_descriptors(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn entries_are_those_of_std_with_their_types_and_inodes() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("file"), "content").unwrap();
        std_fs::create_dir(at("directory")).unwrap();
        symlink("file", at("link")).unwrap();
        symlink("missing", at("dangling")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std_fs::write(scratch.path().join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
        std_fs::write(scratch.path().join("x".repeat(255)), "").unwrap();
        run_here(async {
            let expected: BTreeMap<OsString, (u64, bool, bool, bool)> =
                std_fs::read_dir(scratch.path())
                    .unwrap()
                    .map(|entry| {
                        let entry = entry.unwrap();
                        let kind = entry.file_type().unwrap();
                        let kinds = (kind.is_file(), kind.is_dir(), kind.is_symlink());
                        (entry.file_name(), (entry.ino(), kinds.0, kinds.1, kinds.2))
                    })
                    .collect();
            let mut found = BTreeMap::new();
            let mut entries = fs::read_dir(scratch.path()).await.unwrap();
            while let Some(entry) = entries.next_entry().await.unwrap() {
                let kind = entry.file_type().await.unwrap();
                let metadata = entry.metadata().await.unwrap();
                assert_eq!(kind, metadata.file_type(), "{entry:?}");
                assert_eq!(entry.ino(), metadata.ino());
                assert_eq!(entry.path(), scratch.path().join(entry.file_name()));
                assert_eq!(kind.is_socket(), entry.file_name() == "socket");
                let kinds = (kind.is_file(), kind.is_dir(), kind.is_symlink());
                found.insert(entry.file_name(), (entry.ino(), kinds.0, kinds.1, kinds.2));
            }
            assert_eq!(found, expected);
            assert!(entries.next_entry().await.unwrap().is_none(), "the end stays");
            assert_eq!(fs::read_dir(at("directory")).await.unwrap().count().await, 0);
        });
    });
}

#[test]
fn what_is_no_directory_fails_as_in_std() {
    in_own_process(|| {
        let scratch = scratch_dir();
        std_fs::write(scratch.path().join("file"), "").unwrap();
        run_here(async {
            for name in ["file", "missing", "a\0b", "file/x"] {
                let path = scratch.path().join(name);
                let ours = fs::read_dir(&path).await.map(drop);
                assert_same(name, &ours, &std_fs::read_dir(&path).map(drop));
            }
        });
    });
}

#[test]
fn a_large_directory_comes_in_batches_and_whole() {
    const ENTRIES: usize = 20_000;
    in_own_process(|| {
        let scratch = tempfile::tempdir().unwrap();
        for number in 0..ENTRIES {
            std_fs::write(scratch.path().join(format!("{number:06}")), "").unwrap();
        }
        run_here(async {
            let mut entries = fs::read_dir(scratch.path()).await.unwrap();
            let mut seen = vec![false; ENTRIES];
            while let Some(entry) = entries.next().await {
                let number: usize = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
                assert!(!std::mem::replace(&mut seen[number], true), "{number} comes twice");
            }
            assert!(seen.iter().all(|seen| *seen));
            // A third of it and the rest is left: nothing of that stays.
            let mut entries = fs::read_dir(scratch.path()).await.unwrap();
            for _ in 0..ENTRIES / 3 {
                entries.next_entry().await.unwrap().unwrap();
            }
            drop(entries);
            quiet().await;
        });
    });
}

#[test]
fn entries_that_are_removed_and_made_meanwhile_are_no_error_and_the_others_come_once() {
    const ENTRIES: usize = 5000;
    in_own_process(|| {
        let scratch = tempfile::tempdir().unwrap();
        let at = |kind: &str, number: usize| scratch.path().join(format!("{kind}{number:05}"));
        for number in 0..ENTRIES {
            std_fs::write(at("stays", number), "").unwrap();
            std_fs::write(at("goes", number), "").unwrap();
        }
        run_here(async {
            let mut entries = fs::read_dir(scratch.path()).await.unwrap();
            let (mut stays, mut round) = (vec![0; ENTRIES], 0);
            while let Some(entry) = entries.next_entry().await.unwrap() {
                let name = entry.file_name().into_string().unwrap();
                if let Some(number) = name.strip_prefix("stays") {
                    stays[number.parse::<usize>().unwrap()] += 1;
                }
                if round < ENTRIES {
                    std_fs::remove_file(at("goes", round)).unwrap();
                    std_fs::write(at("comes", round), "").unwrap();
                    round += 1;
                }
            }
            assert!(stays.iter().all(|count| *count == 1));
        });
    });
}

#[test]
fn a_directory_that_is_removed_while_it_is_open_has_no_more_entries() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            let path = scratch.path().join("directory");
            std_fs::create_dir(&path).unwrap();
            std_fs::write(path.join("file"), "").unwrap();
            let mut entries = fs::read_dir(&path).await.unwrap();
            std_fs::remove_dir_all(&path).unwrap();
            assert!(entries.next_entry().await.unwrap().is_none());
            // An entry of one that was moved is found where it is now.
            std_fs::create_dir(&path).unwrap();
            std_fs::write(path.join("file"), "12345").unwrap();
            let entry = fs::read_dir(&path).await.unwrap().next_entry().await.unwrap().unwrap();
            std_fs::rename(&path, scratch.path().join("moved")).unwrap();
            assert_eq!(entry.metadata().await.unwrap().len(), 5);
            std_fs::remove_file(scratch.path().join("moved/file")).unwrap();
            assert_eq!(entry.metadata().await.unwrap_err().kind(), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_stream_that_is_dropped_at_any_moment_leaves_no_descriptor() {
    in_own_process(|| {
        let scratch = scratch_dir();
        for number in 0..600 {
            std_fs::write(scratch.path().join(number.to_string()), "").unwrap();
        }
        run_here(async {
            // The threads of the pool and the descriptors of the ring are there from here on.
            fs::read_dir(scratch.path()).await.unwrap().next_entry().await.unwrap();
            quiet().await;
            let before = open_descriptors();
            for entries in [0, 1, 255, 599] {
                let mut opening = Box::pin(fs::read_dir(scratch.path()));
                let _ = poll!(&mut opening);
                drop(opening);
                let mut stream = fs::read_dir(scratch.path()).await.unwrap();
                for _ in 0..entries {
                    stream.next_entry().await.unwrap().unwrap();
                }
                let kept = stream.next_entry().await.unwrap().unwrap();
                let _ = poll!(Box::pin(stream.next_entry()));
                drop(stream);
                kept.metadata().await.unwrap();
            }
            // A batch that is being read when nobody wants it: the future of a read loses nothing.
            let mut stream = fs::read_dir(scratch.path()).await.unwrap();
            assert!(poll!(Box::pin(stream.next_entry())).is_pending());
            assert_eq!(stream.count().await, 600);
            let mut stream = fs::read_dir(scratch.path()).await.unwrap();
            assert!(poll!(Box::pin(stream.next_entry())).is_pending());
            drop(stream);
            // Tasks that nobody waits for any more are dropped by the loop.
            turns(3).await;
            quiet().await;
            assert_descriptors_are(&before);
        });
    });
}

#[test]
fn without_descriptors_to_be_had_it_says_so_and_leaks_none() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            fs::read_dir(scratch.path()).await.unwrap().next_entry().await.unwrap();
            quiet().await;
            let before = open_descriptors();
            limit_descriptors(*before.keys().max().unwrap() as u64 + 20);
            for spare in 0..3 {
                let mut others = Vec::new();
                while let Ok(file) = std_fs::File::open("/dev/null") {
                    others.push(file);
                }
                others.truncate(others.len() - spare);
                let opened = fs::read_dir(scratch.path()).await;
                drop(others);
                match opened {
                    Ok(_) => assert_eq!(spare, 2, "it takes two"),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
                }
            }
            // Tasks that nobody waits for any more are dropped by the loop.
            turns(3).await;
            quiet().await;
            assert_descriptors_are(&before);
        });
    });
}
