//! Changes of files and directories, as the kernel tells them.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use annulus::fs::{Event, Inotify, Watch, WatchMask};
use futures_util::{FutureExt, StreamExt};

use crate::common::{Random, in_flight, in_own_process, run, run_here, scratch_dir, seed, turns};

async fn next(inotify: &Inotify) -> Event {
    inotify.events().next().await.expect("it never ends").unwrap()
}

/// Turns the loop until all that has happened was read, or more.
async fn nothing_comes(inotify: &Inotify) -> bool {
    let mut events = inotify.events();
    let mut next = events.next();
    for _ in 0..3 {
        if (&mut next).now_or_never().is_some() {
            return false;
        }
        turns(1).await;
    }
    true
}

#[test]
fn what_happens_in_a_directory_is_told_in_order_with_names() {
    run(async || {
        let directory = scratch_dir();
        let inotify = Inotify::new().unwrap();
        let mask =
            WatchMask::CREATE | WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::DELETE;
        let watch = inotify.add(directory.path(), mask).await.unwrap();
        let path = directory.path().join("file");
        annulus::fs::write(&path, "content").await.unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        fs::remove_file(&path).unwrap();
        let expected = [
            (WatchMask::CREATE, "file"),
            (WatchMask::MODIFY, "file"),
            (WatchMask::CLOSE_WRITE, "file"),
            (WatchMask::CREATE | WatchMask::ISDIR, "directory"),
            (WatchMask::DELETE, "file"),
        ];
        let events: Vec<_> = inotify.events().take(expected.len()).collect().await;
        for (event, (mask, name)) in events.into_iter().zip(expected) {
            let event = event.unwrap();
            assert_eq!((event.watch(), event.mask()), (Some(watch), mask), "{event:?}");
            assert_eq!((event.name(), event.cookie()), (Some(Path::new(name)), 0));
            assert!(!event.is_overflow());
        }
        assert!(nothing_comes(&inotify).await);
    });
}

#[test]
fn a_file_of_events_by_another_library_is_read_in_chunks_and_none_is_lost() {
    run(async || {
        let directory = scratch_dir();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        // SAFETY: the call takes no memory, and makes a descriptor that nobody else knows.
        let events = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
        let path = CString::new(directory.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: the path outlives the call.
        let added = unsafe {
            libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_MOVED_TO)
        };
        assert!(added >= 0);
        fs::write(&one, "").unwrap();
        let events = annulus::fs::File::from(events);
        let rename = || {
            fs::rename(&one, &two).unwrap();
            fs::rename(&two, &one).unwrap();
        };
        const EVENT: usize = 32;
        let mut seen = 0;
        for dropped_after in 0..20 {
            let mut chunks = events.chunks();
            if let Some(chunk) = chunks.next().now_or_never() {
                seen += chunk.unwrap().unwrap().len() / EVENT;
            }
            rename();
            turns(dropped_after % 3).await;
            if dropped_after % 2 == 0 {
                seen += chunks.next().await.unwrap().unwrap().len() / EVENT;
            }
        }
        while seen < 40 {
            seen += events.read_chunk().await.unwrap().len() / EVENT;
        }
    });
}

#[test]
fn the_two_events_of_a_rename_have_one_cookie() {
    run(async || {
        let directory = scratch_dir();
        fs::write(directory.path().join("old"), "").unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.add(directory.path(), WatchMask::MOVE).await.unwrap();
        fs::rename(directory.path().join("old"), directory.path().join("new")).unwrap();
        let (from, to) = (next(&inotify).await, next(&inotify).await);
        assert_eq!((from.mask(), to.mask()), (WatchMask::MOVED_FROM, WatchMask::MOVED_TO));
        assert_eq!((from.name(), to.name()), (Some(Path::new("old")), Some(Path::new("new"))));
        assert!(from.cookie() != 0 && from.cookie() == to.cookie());
    });
}

#[test]
fn a_watch_that_is_removed_says_so_and_one_of_a_file_that_goes_ends_by_itself() {
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let inotify = Inotify::new().unwrap();
        let of_file = inotify.add(&path, WatchMask::DELETE_SELF).await.unwrap();
        let of_directory = inotify.add(directory.path(), WatchMask::CREATE).await.unwrap();
        assert_ne!(of_file, of_directory);
        inotify.remove(of_directory).unwrap();
        let event = next(&inotify).await;
        assert_eq!((event.watch(), event.mask()), (Some(of_directory), WatchMask::IGNORED));
        assert_eq!(event.name(), None);
        assert_eq!(inotify.remove(of_directory).unwrap_err().kind(), ErrorKind::InvalidInput);
        fs::remove_file(&path).unwrap();
        assert_eq!(next(&inotify).await.mask(), WatchMask::DELETE_SELF);
        let event = next(&inotify).await;
        assert_eq!((event.watch(), event.mask()), (Some(of_file), WatchMask::IGNORED));
    });
}

#[test]
fn a_link_is_followed_or_watched_itself_and_a_second_add_changes_the_first() {
    run(async || {
        let directory = scratch_dir();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let inotify = Inotify::new().unwrap();
        let followed = inotify.add(&link, WatchMask::MODIFY).await.unwrap();
        let same = inotify.add(&file, WatchMask::ATTRIB | WatchMask::MASK_ADD).await.unwrap();
        assert_eq!(followed, same);
        let itself =
            inotify.add(&link, WatchMask::DELETE_SELF | WatchMask::DONT_FOLLOW).await.unwrap();
        assert_ne!(followed, itself);
        fs::write(&file, "more").unwrap();
        assert_eq!(next(&inotify).await.mask(), WatchMask::MODIFY);
        fs::remove_file(&link).unwrap();
        let event = next(&inotify).await;
        assert_eq!((event.watch(), event.mask()), (Some(itself), WatchMask::DELETE_SELF));
    });
}

#[test]
fn what_cannot_be_watched_is_refused_with_the_reason() {
    run(async || {
        let directory = scratch_dir();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let inotify = Inotify::new().unwrap();
        let refused = async |path: &Path, mask| inotify.add(path, mask).await.unwrap_err();
        let missing = refused(&directory.path().join("missing"), WatchMask::MODIFY).await;
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let no_directory = refused(&file, WatchMask::CREATE | WatchMask::ONLYDIR).await;
        assert_eq!(no_directory.kind(), ErrorKind::NotADirectory);
        let nothing = refused(&file, WatchMask::from_bits(0)).await;
        assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
        inotify.add(&file, WatchMask::MODIFY).await.unwrap();
        let again = refused(&file, WatchMask::MODIFY | WatchMask::MASK_CREATE).await;
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        let zero = Path::new(std::ffi::OsStr::from_bytes(b"a\0b")).to_owned();
        assert_eq!(refused(&zero, WatchMask::MODIFY).await.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn streams_that_are_dropped_at_random_lose_no_event() {
    const FILES: usize = 300;
    let random = Random::new(seed());
    run(async || {
        let directory = scratch_dir();
        let inotify = Inotify::new().unwrap();
        inotify.add(directory.path(), WatchMask::CREATE).await.unwrap();
        let (mut made, mut seen) = (0, 0);
        while seen < FILES {
            for _ in 0..random.below(4).min(FILES - made) {
                fs::write(directory.path().join(made.to_string()), "").unwrap();
                made += 1;
            }
            let mut events = inotify.events();
            for _ in 0..random.below(3) {
                turns(random.below(2)).await;
                let event = match events.next().now_or_never() {
                    Some(event) => event,
                    None if made > seen && random.chance(2) => events.next().await,
                    None => continue,
                };
                let event = event.expect("it never ends").unwrap();
                assert_eq!(event.name(), Some(Path::new(&seen.to_string())), "in order");
                seen += 1;
            }
        }
        in_flight(0).await;
        assert!(nothing_comes(&inotify).await);
    });
}

#[test]
fn events_that_are_lost_since_the_queue_is_full_are_told_as_an_overflow() {
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(usize::MAX);
    if most > 100_000 {
        return println!("skipped: the queue of {most} events takes too long to fill");
    }
    run(async || {
        let directory = scratch_dir();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, "").unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.add(directory.path(), WatchMask::MOVE).await.unwrap();
        for _ in 0..most / 4 + 1 {
            fs::rename(&one, &two).unwrap();
            fs::rename(&two, &one).unwrap();
        }
        let (mut events, mut told) = (inotify.events(), 0);
        let overflow = loop {
            let event = events.next().await.expect("it never ends").unwrap();
            if event.is_overflow() {
                break event;
            }
            told += 1;
        };
        assert_eq!((overflow.watch(), overflow.name()), (None::<Watch>, None));
        assert!(told >= most, "{told} of {most}");
        // It goes on.
        drop(events);
        fs::rename(&one, &two).unwrap();
        while next(&inotify).await.name() != Some(Path::new("two")) {}
    });
}

#[test]
fn without_a_descriptor_left_nothing_is_watched_and_nothing_stays_open() {
    in_own_process(|| {
        run_here(async {
            let directory = scratch_dir();
            let inotify = Inotify::new().unwrap();
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: the limit outlives the call. This process has no other test.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let file = fs::File::open("/dev/null").unwrap();
            let taken: Vec<_> = std::iter::from_fn(|| file.try_clone().ok()).collect();
            let error = inotify.add(directory.path(), WatchMask::CREATE).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert_eq!(Inotify::new().unwrap_err().raw_os_error(), Some(libc::EMFILE));
            drop(taken);
            inotify.add(directory.path(), WatchMask::CREATE).await.unwrap();
            fs::write(directory.path().join("file"), "").unwrap();
            assert_eq!(next(&inotify).await.name(), Some(Path::new("file")));
        });
    });
}
