//! Reads one by one, with nothing else in flight: the page cache answers past the ring, with the
//! same results, and others have their turn.

use std::cell::Cell;
use std::fs as std_fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use annulus::fs::File;
use annulus::{metrics, spawn, time};
use futures_util::future::join_all;

use crate::common::{is_on_software_ring, run, scratch_dir};
use crate::pattern;

const PAGE: usize = 4096;
const PAGES: usize = 64;

/// A file whose pages are in the cache. `None`: its file system cannot be asked without a wait.
async fn cached_file(directory: &Path) -> Option<(File, Vec<u8>)> {
    let path = directory.join("cached");
    let content = pattern(PAGES * PAGE);
    std_fs::write(&path, &content).unwrap();
    let probe = std_fs::File::open(&path).unwrap();
    let mut byte = [0u8];
    let part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: the byte belongs to this function, and the call is over when it goes on.
    if unsafe { libc::preadv2(probe.as_raw_fd(), &part, 1, 0, libc::RWF_NOWAIT) } != 1 {
        println!("skipped: the file system of {} does not know RWF_NOWAIT", directory.display());
        return None;
    }
    Some((File::open(path).await.unwrap(), content))
}

async fn read_page(file: &File, content: &[u8], page: usize) {
    let start = page % PAGES * PAGE;
    let (count, buffer) = file.read_at(vec![0; PAGE], start as u64).await.unwrap();
    assert_eq!((count, &buffer[..]), (PAGE, &content[start..start + PAGE]));
}

#[test]
fn a_program_that_reads_one_by_one_reads_past_the_ring() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        let before = metrics();
        for page in 0..1000 {
            read_page(&file, &content, page).await;
        }
        let after = metrics();
        let past = after.past_the_ring - before.past_the_ring;
        assert_eq!(after.operations - before.operations, 1000);
        if is_on_software_ring() {
            assert_eq!(past, 0);
        } else {
            assert!((900..1000).contains(&past), "{past} of 1000");
            assert_eq!(after.submissions - before.submissions, 1000 - past);
        }
    });
}

#[test]
fn a_program_that_reads_several_at_a_time_reads_by_the_ring() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        // One task polls several reads, and several tasks poll one each.
        for _ in 0..100 {
            join_all((0..8).map(|page| read_page(&file, &content, page))).await;
        }
        let (file, content) = (Rc::new(file), Rc::new(content));
        let task = |number: usize| {
            let (file, content) = (Rc::clone(&file), Rc::clone(&content));
            spawn(async move {
                for page in 0..100 {
                    read_page(&file, &content, number + page).await;
                }
            })
        };
        for ended in join_all((0..8).map(task)).await {
            ended.unwrap();
        }
        assert_eq!(metrics().past_the_ring, 0);
    });
}

#[test]
fn a_program_that_begins_to_read_several_at_a_time_goes_back_to_the_ring() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        for page in 0..200 {
            read_page(&file, &content, page).await;
        }
        let before = metrics().past_the_ring;
        for _ in 0..100 {
            join_all((0..8).map(|page| read_page(&file, &content, page))).await;
        }
        let past = metrics().past_the_ring - before;
        assert!(past < 200, "{past} of 800");
    });
}

#[test]
fn what_the_cache_does_not_have_comes_by_the_ring() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        for page in 0..50 {
            read_page(&file, &content, page).await;
        }
        for round in 0..20 {
            let std = std_fs::File::open(scratch.path().join("cached")).unwrap();
            std.sync_all().unwrap();
            // SAFETY: the call takes no memory.
            unsafe { libc::posix_fadvise(std.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            for page in 0..20 {
                read_page(&file, &content, round + page).await;
            }
        }
    });
}

#[test]
fn the_end_of_the_file_is_where_it_is_now() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        for page in 0..50 {
            read_page(&file, &content, page).await;
        }
        let mut std =
            std_fs::OpenOptions::new().append(true).open(scratch.path().join("cached")).unwrap();
        let end = content.len() as u64;
        let (count, buffer) = file.read_at(vec![0; PAGE], end - 10).await.unwrap();
        assert_eq!((count, &buffer[..]), (10, &content[content.len() - 10..]));
        assert_eq!(file.read_at(vec![0; PAGE], end).await.unwrap().0, 0);
        assert!(file.read_exact_at(vec![0; PAGE], end - 10).await.is_err());
        std.write_all(b"more").unwrap();
        let (count, buffer) = file.read_at(vec![0; PAGE], end).await.unwrap();
        assert_eq!((count, &buffer[..]), (4, &b"more"[..]));
        assert_eq!(file.read_exact_at(vec![0; 4], end).await.unwrap(), b"more");
        std.write_all_at(b"m", 0).unwrap();
        std.set_len(7).unwrap();
        assert_eq!(file.read_at(vec![0; PAGE], 0).await.unwrap().0, 7);
        assert_eq!(file.read_at(vec![0; PAGE], end).await.unwrap().0, 0);
    });
}

#[test]
fn whoever_reads_without_end_leaves_others_their_turn() {
    let scratch = scratch_dir();
    run(async || {
        let Some((file, content)) = cached_file(scratch.path()).await else { return };
        let hints = Rc::new(Cell::new(0));
        let hint = || {
            let hints = Rc::clone(&hints);
            move || hints.set(hints.get() + 1)
        };
        let (of_timer, of_thread, of_task) = (hint(), hint(), hint());
        for page in 0..50 {
            read_page(&file, &content, page).await;
        }
        drop(spawn(async move {
            time::sleep(Duration::from_millis(2)).await;
            of_timer();
        }));
        drop(spawn(async move {
            annulus::spawn_blocking(|| ()).await.unwrap();
            of_thread();
        }));
        drop(spawn(async move {
            annulus::no_op().await.unwrap();
            of_task();
        }));
        let mut page = 0;
        while hints.get() < 3 {
            read_page(&file, &content, page).await;
            page += 1;
        }
    });
}

#[test]
fn short_files_are_read_whole() {
    let scratch = scratch_dir();
    run(async || {
        for number in 0..60 {
            let path = scratch.path().join(number.to_string());
            let content = pattern(number * 700);
            std_fs::write(&path, &content).unwrap();
            assert_eq!(annulus::fs::read(&path).await.unwrap(), content);
        }
    });
}
