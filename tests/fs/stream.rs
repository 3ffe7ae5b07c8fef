//! Streams of a file's content: order, cuts, depth, ends, errors, drops, and what they need.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::ops::RangeBounds;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use annulus::buf::{IoBuf, PoolBuffer, Slice};
use annulus::fs::{Advice, File, FileStream};
use futures_util::stream::FusedStream;
use futures_util::{Stream, StreamExt, TryStreamExt};

use crate::common::{
    assert_descriptors_are, in_own_process, is_on_software_ring, open_descriptors, quiet, run,
    run_here, scratch_dir, turns,
};
use crate::pattern;

const CHUNK: usize = 8192;

type Item = std::io::Result<Slice<PoolBuffer>>;

/// All items, one after the other, and how long each was.
async fn all(mut stream: FileStream<'_>) -> (Vec<u8>, Vec<usize>) {
    let (mut content, mut lengths) = (Vec::new(), Vec::new());
    while let Some(item) = stream.next().await {
        let item = item.unwrap();
        content.extend_from_slice(&item);
        lengths.push(item.len());
    }
    assert!(stream.is_terminated());
    assert!(stream.next().await.is_none(), "it has ended");
    (content, lengths)
}

fn part(content: &[u8], range: &impl RangeBounds<u64>) -> Vec<u8> {
    let bytes = content.iter().enumerate();
    bytes.filter(|(at, _)| range.contains(&(*at as u64))).map(|(_, byte)| *byte).collect()
}

/// Lets the kernel forget what it has cached of a file, as far as it does.
pub(crate) async fn cool(path: &Path) {
    let file = File::open(path).await.unwrap();
    file.sync_all().await.unwrap();
    file.advise(0, 0, Advice::DontNeed).await.unwrap();
}

/// Opens a file for direct reads, if its file system takes them.
async fn open_direct(path: &Path) -> Option<File> {
    let opened = File::options().read(true).custom_flags(libc::O_DIRECT).open(path).await;
    opened.map_err(|error| println!("skipped: the file system refuses O_DIRECT ({error})")).ok()
}

#[test]
fn any_part_of_a_file_comes_whole_and_in_order() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(40 * CHUNK + 123);
    std::fs::write(&path, &content).unwrap();
    run(async || {
        let length = content.len() as u64;
        let file = File::open(&path).await.unwrap();
        for (chunk, depth) in [(CHUNK, 1), (CHUNK, 4), (1000, 3), (1 << 20, 8), (CHUNK - 1, 64)] {
            let stream = |range: (std::ops::Bound<u64>, std::ops::Bound<u64>)| {
                file.stream(range).chunk_size(chunk).depth(depth)
            };
            for is_cold in [false, true] {
                for range in [
                    (0, length),
                    (1, length - 1),
                    (5000, 5001),
                    (123, 123 + chunk as u64),
                    (length - 1, length + 10),
                    (700, u64::MAX),
                    (length, length + 1),
                    (77, 77),
                ] {
                    if is_cold {
                        cool(&path).await;
                    }
                    let bounds =
                        (std::ops::Bound::Included(range.0), std::ops::Bound::Excluded(range.1));
                    let (found, lengths) = all(stream(bounds)).await;
                    assert!(found == part(&content, &bounds), "{range:?} by {chunk}, {depth}");
                    let (last, others) = lengths.split_last().unwrap_or((&0, &[]));
                    assert!(others.iter().all(|length| *length == chunk) && *last <= chunk);
                }
            }
        }
        assert!(all(file.stream(..)).await.0 == content);
        assert!(all(file.stream(..=99)).await.0 == content[..100]);
        assert!(all(file.stream(9..)).await.0 == content[9..]);
    });
}

#[test]
fn a_stream_that_has_its_file_goes_to_a_task_and_closes_it() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("file");
        let content = pattern(20 * CHUNK + 5);
        std::fs::write(&path, &content).unwrap();
        run_here(async {
            cool(&path).await;
            let before = open_descriptors();
            let file = File::open(&path).await.unwrap();
            let stream = file.into_stream(3..).chunk_size(CHUNK).depth(4);
            let (found, _) = annulus::spawn(all(stream)).await.unwrap();
            assert!(found == content[3..], "{} bytes, or others", found.len());
            // One with reads in flight is dropped.
            cool(&path).await;
            let mut stream = File::open(&path).await.unwrap().into_stream(..).chunk_size(1000);
            assert!(stream.next().await.unwrap().unwrap()[..] == content[..1000]);
            drop(stream);
            quiet().await;
            assert_descriptors_are(&before);
        });
    });
}

#[test]
fn direct_reads_are_made_in_whole_blocks_and_cut() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    run(async || {
        // A file that ends in a block, and one that ends with a block.
        for tail in [777, 0] {
            let content = pattern(30 * CHUNK + tail);
            std::fs::write(&path, &content).unwrap();
            cool(&path).await;
            let Some(file) = open_direct(&path).await else { return };
            let length = content.len() as u64;
            for (chunk, depth) in [(CHUNK, 4), (1, 8), (CHUNK + 1, 1), (1 << 20, 2), (4096, 100)] {
                for range in [
                    0..u64::MAX,
                    0..length,
                    1..length - 1,
                    4095..4097,
                    511..513,
                    9000..9000,
                    12_288..12_289,
                    length - 1..length,
                    length..length + 1,
                    length + 5..length + 50_000,
                ] {
                    let stream = file.stream(range.clone()).chunk_size(chunk).depth(depth);
                    let (found, _) = all(stream).await;
                    assert!(found == part(&content, &range), "{range:?} by {chunk}, {depth}");
                }
            }
        }
    });
}

#[test]
fn no_more_reads_than_the_depth_are_in_flight_and_none_begins_until_an_item_is_taken() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(64 * CHUNK);
    std::fs::write(&path, &content).unwrap();
    run(async || {
        cool(&path).await;
        let Some(file) = open_direct(&path).await else { return };
        for depth in [1, 2, 5, 16] {
            let mut stream = file.stream(..).chunk_size(CHUNK).depth(depth);
            let mut taken = 0;
            loop {
                let before = annulus::metrics().operations;
                let item = poll_fn(|context| {
                    let item = Pin::new(&mut stream).poll_next(context);
                    assert!(annulus::metrics().operations_in_flight <= depth as u64);
                    item
                });
                if item.await.transpose().unwrap().is_none() {
                    break;
                }
                taken += 1;
                let begun = annulus::metrics().operations - before;
                assert!(begun <= depth as u64 + 1, "{begun} begun for one item");
                let operations = annulus::metrics().operations;
                if taken % 7 == 3 {
                    turns(20).await;
                    assert_eq!(annulus::metrics().operations, operations, "nobody took one");
                }
            }
            assert_eq!(taken, 64);
        }
    });
}

#[test]
fn a_stream_is_dropped_at_every_stage_and_leaves_nothing_in_flight() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(12 * CHUNK + 1);
    std::fs::write(&path, &content).unwrap();
    run(async || {
        cool(&path).await;
        let direct = open_direct(&path).await;
        let cached = File::open(&path).await.unwrap();
        for file in direct.iter().chain([&cached]) {
            for polls in 0..20 {
                let mut stream = file.stream(..).chunk_size(CHUNK).depth(4);
                let mut kept = Vec::new();
                for number in 0..polls {
                    let item: Poll<Option<Item>> =
                        poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_next(context)))
                            .await;
                    if let Poll::Ready(Some(item)) = item {
                        kept.push(item.unwrap());
                    }
                    if number % 3 == polls % 3 {
                        turns(1).await;
                    }
                }
                drop(stream);
                quiet().await;
                let kept: Vec<u8> = kept.iter().flat_map(|item| item.to_vec()).collect();
                assert!(kept == content[..kept.len()], "what was kept stays as it was");
            }
        }
    });
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_read_ends_where_it_ends_then() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(50 * CHUNK);
    run(async || {
        for flags in [0, libc::O_DIRECT] {
            for (end, grown) in [(20 * CHUNK + 5, 0), (50 * CHUNK, 9 * CHUNK + 9), (CHUNK, 0)] {
                std::fs::write(&path, &content).unwrap();
                cool(&path).await;
                let opened = File::options().read(true).custom_flags(flags).open(&path).await;
                let Ok(file) = opened else { return println!("skipped: no O_DIRECT here") };
                let mut stream = file.stream(..).chunk_size(CHUNK).depth(4);
                let mut found = Vec::new();
                for _ in 0..5 {
                    found.extend_from_slice(&stream.next().await.unwrap().unwrap());
                }
                let writer = File::options().write(true).open(&path).await.unwrap();
                writer.set_len(end as u64).await.unwrap();
                writer.write_all_at(vec![b'+'; grown], end as u64).await.unwrap();
                writer.sync_all().await.unwrap();
                while let Some(item) = stream.try_next().await.unwrap() {
                    found.extend_from_slice(&item);
                }
                // What was in flight may have been read before.
                let least = (end + grown).max(5 * CHUNK);
                assert!(found.len() >= least, "{} of {least}", found.len());
                assert!(found.len() <= least.max(9 * CHUNK));
                let kept = found.len().min(end);
                assert!(found[..kept] == content[..kept]);
                assert!(grown == 0 || found[end..].iter().all(|byte| *byte == b'+'));
            }
        }
    });
}

#[test]
fn buffers_go_back_when_items_are_dropped_and_more_are_made_when_they_are_kept() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(64 * CHUNK);
    std::fs::write(&path, &content).unwrap();
    run(async || {
        cool(&path).await;
        let direct = open_direct(&path).await;
        let cached = File::open(&path).await.unwrap();
        for file in direct.iter().chain([&cached]) {
            let mut stream = file.stream(..).chunk_size(CHUNK).depth(4);
            let mut addresses = BTreeSet::new();
            while let Some(item) = stream.try_next().await.unwrap() {
                addresses.insert(item.as_init_ptr().addr());
            }
            assert!(addresses.len() <= 5, "{} buffers for 4 in flight", addresses.len());
            let kept: Vec<_> =
                file.stream(..).chunk_size(CHUNK).depth(2).try_collect().await.unwrap();
            assert_eq!(kept.len(), 64);
            let kept: Vec<u8> = kept.iter().flat_map(|item| item.to_vec()).collect();
            assert!(kept == content);
        }
    });
}

#[test]
fn what_cannot_be_streamed_is_told_once() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std::fs::write(&path, "content").unwrap();
    run(async || {
        let file = File::open(&path).await.unwrap();
        let unreadable = File::options().write(true).open(&path).await.unwrap();
        let directory = File::open(scratch.path()).await.unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        #[allow(clippy::reversed_empty_ranges)]
        let refused = [
            (file.stream(9..3), ErrorKind::InvalidInput, None),
            (file.stream(1 << 63..), ErrorKind::InvalidInput, Some(libc::EINVAL)),
            (unreadable.stream(..), ErrorKind::Other, Some(libc::EBADF)),
            (directory.stream(..), ErrorKind::IsADirectory, Some(libc::EISDIR)),
            (pipe.stream(..), ErrorKind::InvalidInput, None),
        ];
        for (mut stream, kind, errno) in refused {
            let error = stream.next().await.unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), errno, "{error}");
            if errno != Some(libc::EBADF) {
                assert_eq!(error.kind(), kind, "{error}");
            }
            assert!(stream.next().await.is_none());
        }
    });
}

#[test]
fn files_without_a_size_are_read_to_their_end() {
    run(async || {
        for path in ["/proc/filesystems", "/proc/version", "/dev/null"] {
            let expected = std::fs::read(path).unwrap();
            let file = File::open(path).await.unwrap();
            for (chunk, depth) in [(7, 5), (4096, 2)] {
                let (found, _) = all(file.stream(..).chunk_size(chunk).depth(depth)).await;
                assert_eq!(found, expected, "{path}");
            }
        }
    });
}

#[test]
fn other_tasks_run_while_a_stream_of_a_cached_file_always_has_an_item() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std::fs::write(&path, pattern(8 << 20)).unwrap();
    run(async || {
        let file = File::open(&path).await.unwrap();
        // Cached from here on.
        assert_eq!(all(file.stream(..)).await.0.len(), 8 << 20);
        let turned = std::rc::Rc::new(std::cell::Cell::new(0));
        let counter = std::rc::Rc::clone(&turned);
        let other = annulus::spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                annulus::yield_now().await;
            }
        });
        let before = annulus::metrics();
        assert_eq!(all(file.stream(..)).await.0.len(), 8 << 20);
        other.abort();
        assert!(turned.get() >= 8, "{}", turned.get());
        if !is_on_software_ring() {
            let after = annulus::metrics();
            let past = after.past_the_ring - before.past_the_ring;
            let by_ring = after.submissions - before.submissions;
            assert!(past + by_ring >= 64, "{past} and {by_ring}");
        }
    });
}
