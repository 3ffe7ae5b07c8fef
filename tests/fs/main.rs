//! Files: what the kernel does to them, what comes back, and that std's functions would have done
//! the same.
//!
//! Each test runs on a thread with a descriptor table of its own and fails if it leaves a
//! descriptor behind; see `common`.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod content;
mod dir;
mod dir_content;
mod direct;
mod events;
mod extent;
mod inotify;
mod iopoll;
mod limits;
mod lock;
mod metadata;
mod names;
mod no_signal;
mod one_by_one;
mod open;
mod owner;
mod paths;
mod pool;
mod read_dir;
mod registered_files;
mod served;
mod sink;
mod standing;
mod stream;
mod temporary;
mod terminals;
mod too_large;
mod transfer;
mod user_space;
mod walk;

use std::fmt::Debug;
use std::io;

/// Bytes in which a misplaced block shows: no period of a power of two.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8 ^ (index / 251) as u8).collect()
}

/// Both succeed, or both fail with the same kind and, where both have one, the same errno.
#[track_caller]
fn assert_same<A: Debug, B: Debug>(what: &str, ours: &io::Result<A>, std: &io::Result<B>) {
    match (ours, std) {
        (Ok(_), Ok(_)) => {}
        (Err(ours), Err(std)) => {
            assert_eq!(ours.kind(), std.kind(), "{what}: {ours:?} here, {std:?} in std");
            if let (Some(ours), Some(std)) = (ours.raw_os_error(), std.raw_os_error()) {
                assert_eq!(ours, std, "{what}");
            }
        }
        _ => panic!("{what}: {ours:?} here, {std:?} in std"),
    }
}
