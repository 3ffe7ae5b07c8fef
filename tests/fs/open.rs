//! Opening: options, modes, flags, and what is refused.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use annulus::buf::AlignedBuffer;
use annulus::fs::{self, File, OpenOptions};
use futures_util::FutureExt;

use crate::common::{apart, in_own_process, run, scratch_dir};
use crate::{assert_same, pattern};

/// One choice for each of the six options that std has.
#[derive(Debug, Clone, Copy)]
struct Choice {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
}

impl Choice {
    fn all() -> impl Iterator<Item = Choice> {
        (0..64).map(|bits: u32| {
            let [read, write, append, truncate, create, create_new] =
                std::array::from_fn(|bit| bits >> bit & 1 == 1);
            Choice { read, write, append, truncate, create, create_new }
        })
    }

    fn std(self) -> std_fs::OpenOptions {
        let mut options = std_fs::OpenOptions::new();
        options.read(self.read).write(self.write).append(self.append);
        options.truncate(self.truncate).create(self.create).create_new(self.create_new);
        options
    }

    fn ours(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.read).write(self.write).append(self.append);
        options.truncate(self.truncate).create(self.create).create_new(self.create_new);
        options
    }
}

/// The flags that the kernel keeps for an open file, and those of its descriptor.
fn flags_of(file: &impl AsRawFd) -> (i32, i32) {
    // SAFETY: the calls take no pointer, and the file is borrowed, so its number is its own.
    unsafe {
        (libc::fcntl(file.as_raw_fd(), libc::F_GETFL), libc::fcntl(file.as_raw_fd(), libc::F_GETFD))
    }
}

#[test]
fn every_combination_of_options_does_what_std_does() {
    let scratch = scratch_dir();
    run(async || {
        for (number, choice) in Choice::all().enumerate() {
            for exists in [false, true] {
                let path = |whose: &str| scratch.path().join(format!("{number}-{exists}-{whose}"));
                let (here, there) = (path("here"), path("there"));
                if exists {
                    std_fs::write(&here, "content").unwrap();
                    std_fs::write(&there, "content").unwrap();
                }
                let what = format!(
                    "{choice:?} on a file that {}",
                    if exists { "exists" } else { "is missing" }
                );
                let (ours, std) = (choice.ours().open(&here).await, choice.std().open(&there));
                assert_same(&what, &ours, &std);
                if let (Ok(ours), Ok(std)) = (&ours, &std) {
                    assert_eq!(flags_of(ours), flags_of(std), "{what}");
                }
                assert_eq!(std_fs::read(&here).ok(), std_fs::read(&there).ok(), "{what}");
            }
        }
    });
}

#[test]
fn open_create_and_create_new_are_shorthands_as_in_std() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let missing = File::open(&path).await.unwrap_err();
        assert_eq!(
            (missing.kind(), missing.raw_os_error()),
            (ErrorKind::NotFound, Some(libc::ENOENT))
        );

        let made = File::create_new(&path).await.unwrap();
        assert_eq!(
            flags_of(&made).0,
            flags_of(&std_fs::File::create_new(scratch.path().join("std")).unwrap()).0
        );
        made.write_all_at("content", 0).await.unwrap();
        let again = File::create_new(&path).await.unwrap_err();
        assert_eq!(
            (again.kind(), again.raw_os_error()),
            (ErrorKind::AlreadyExists, Some(libc::EEXIST))
        );

        let opened = File::open(&path).await.unwrap();
        assert_eq!(flags_of(&opened), flags_of(&std_fs::File::open(&path).unwrap()));
        let refused = opened.write_at("x", 0).await.unwrap_err();
        assert_eq!((refused.raw_os_error(), *refused.buffer()), (Some(libc::EBADF), "x"));

        let emptied = File::create(&path).await.unwrap();
        assert_eq!(flags_of(&emptied), flags_of(&std_fs::File::create(&path).unwrap()));
        assert_eq!(emptied.metadata().await.unwrap().len(), 0);
        let refused = emptied.read_at(vec![0; 4], 0).await.unwrap_err();
        assert_eq!((refused.raw_os_error(), refused.into_buffer().len()), (Some(libc::EBADF), 4));
        assert_eq!(format!("{:?}", File::options()), format!("{:?}", OpenOptions::default()));
    });
}

#[test]
fn the_mode_of_a_new_file_loses_the_bits_of_the_umask() {
    let scratch = scratch_dir();
    run(async || {
        for umask in [0o000, 0o022, 0o077, 0o177] {
            // SAFETY: the call takes no pointer. This thread has a umask of its own, or runs while
            // no other test does.
            unsafe { libc::umask(umask) };
            for mode in [0o666, 0o600, 0o755, 0o444, 0o000, 0o4755] {
                let (here, there) = (scratch.path().join("here"), scratch.path().join("there"));
                OpenOptions::new().write(true).create(true).mode(mode).open(&here).await.unwrap();
                std_fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(mode)
                    .open(&there)
                    .unwrap();
                let mode_of = |path: &Path| std_fs::metadata(path).unwrap().mode();
                assert_eq!(mode_of(&here), mode_of(&there), "mode {mode:o}, umask {umask:o}");
                assert_eq!(
                    mode_of(&here) & 0o777,
                    mode & 0o777 & !umask,
                    "mode {mode:o}, umask {umask:o}"
                );
                std_fs::remove_file(here).unwrap();
                std_fs::remove_file(there).unwrap();
            }
            let path = scratch.path().join("default");
            File::create(&path).await.unwrap();
            assert_eq!(std_fs::metadata(&path).unwrap().mode() & 0o777, 0o666 & !umask);
            std_fs::remove_file(path).unwrap();
            let path = scratch.path().join("directory");
            fs::create_dir(&path).await.unwrap();
            assert_eq!(std_fs::metadata(&path).unwrap().mode() & 0o777, 0o777 & !umask);
            std_fs::remove_dir(path).unwrap();
        }
        // SAFETY: as above.
        unsafe { libc::umask(0o022) };
    });
}

#[test]
fn custom_flags_reach_the_kernel_and_cannot_change_the_access() {
    let scratch = scratch_dir();
    run(async || {
        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        std_fs::write(&file, "content").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let cases: [(&Path, i32); 7] = [
            (&link, libc::O_NOFOLLOW),
            (&file, libc::O_NOFOLLOW),
            (&file, libc::O_DIRECTORY),
            (scratch.path(), libc::O_DIRECTORY),
            (&file, libc::O_WRONLY),
            (&file, libc::O_RDWR | libc::O_SYNC),
            (&file, libc::O_CREAT | libc::O_EXCL),
        ];
        for (path, flags) in cases {
            let ours = OpenOptions::new().read(true).custom_flags(flags).open(path).await;
            let std = std_fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
            let what = format!("flags {flags:o} on {}", path.display());
            assert_same(&what, &ours, &std);
            if let (Ok(ours), Ok(std)) = (&ours, &std) {
                assert_eq!(flags_of(ours), flags_of(std), "{what}");
            }
        }
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o640)
            .open(scratch.path())
            .await;
        match unnamed {
            Ok(unnamed) => {
                unnamed.write_all_at("content", 0).await.unwrap();
                let metadata = unnamed.metadata().await.unwrap();
                assert_eq!((metadata.len(), metadata.nlink()), (7, 0));
            }
            Err(error) => println!("skipped O_TMPFILE: the file system refuses it ({error})"),
        }
    });
}

#[test]
fn a_file_that_appends_writes_at_its_end_whatever_the_offset() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("log");
        std_fs::write(&path, "one ").unwrap();
        let file = OpenOptions::new().append(true).open(&path).await.unwrap();
        let (count, _) = file.write_at("two ", 0).await.unwrap();
        assert_eq!(count, 4);
        file.write_all_at("three ", 1000).await.unwrap();
        let (count, _) = file.write_vectored_at(vec!["fo", "ur"], 1).await.unwrap();
        assert_eq!(count, 4);
        assert_eq!(std_fs::read_to_string(&path).unwrap(), "one two three four");
        let refused = file.read_at(vec![0; 4], 0).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn a_direct_file_reads_and_writes_aligned_buffers_and_refuses_others() {
    const BLOCK: usize = 4096;
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("direct");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).custom_flags(libc::O_DIRECT);
        let file = match options.open(&path).await {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return println!("skipped: the file system of {} refuses O_DIRECT", path.display());
            }
            Err(error) => panic!("{error}"),
        };
        let content = pattern(4 * BLOCK);
        let mut blocks = AlignedBuffer::new(4 * BLOCK, BLOCK);
        blocks.extend_from_slice(&content);
        file.write_all_at(blocks, 0).await.unwrap();
        let blocks =
            file.read_exact_at(AlignedBuffer::with_page_alignment(4 * BLOCK), 0).await.unwrap();
        assert_eq!(&blocks[..], &content[..]);
        let (count, blocks) = file.read_at(blocks, 3 * BLOCK as u64).await.unwrap();
        assert_eq!(
            (count, blocks.len()),
            (BLOCK, BLOCK),
            "a short read before the end of the file"
        );
        assert_eq!(&blocks[..], &content[3 * BLOCK..]);
        let (count, blocks) = file.read_at(blocks, 4 * BLOCK as u64).await.unwrap();
        assert_eq!((count, blocks.len()), (0, 0));

        // Some file systems read what does not fit the device through the page cache instead: what
        // pread(2) says is right.
        let std = std_fs::File::from(duplicate(&file));
        let mut odd = AlignedBuffer::with_page_alignment(BLOCK);
        odd.resize(BLOCK, 7);
        let expected = std::os::unix::fs::FileExt::read_at(&std, &mut odd, 1)
            .map_err(|error| error.raw_os_error());
        match (file.read_at(odd, 1).await, expected) {
            (Ok((count, _)), Ok(expected)) => {
                println!("this file system allows misaligned direct reads");
                assert_eq!(count, expected);
            }
            (Err(error), Err(errno)) => {
                assert_eq!(errno, Some(libc::EINVAL));
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(
                    &error.into_buffer()[..],
                    &[7; BLOCK][..],
                    "the buffer comes back as it was"
                );
            }
            (ours, std) => panic!("{:?} here, {std:?} by pread", ours.map(|(count, _)| count)),
        }
        let mut odd = AlignedBuffer::with_page_alignment(BLOCK);
        odd.resize(100, 7);
        let expected =
            std::os::unix::fs::FileExt::write_at(&std, &odd, 0).map_err(|error| error.kind());
        let ours = file.write_at(odd, 0).await;
        assert_eq!(ours.map(|(count, _)| count).map_err(|error| error.kind()), expected);
    });
}

/// A second descriptor of an open file, for std.
fn duplicate(file: &File) -> OwnedFd {
    std::os::fd::AsFd::as_fd(file).try_clone_to_owned().unwrap()
}

#[test]
fn a_path_that_may_not_be_opened_is_permission_denied_with_the_errno() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("secret");
        std_fs::write(&path, "secret").unwrap();
        std_fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        std_fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o555)).unwrap();
        apart(|| {
            // SAFETY: the raw calls take no pointer, and change this thread alone, which ends with
            // this test. libc's would change all threads.
            unsafe {
                if libc::geteuid() == 0 {
                    assert_eq!(libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534), 0);
                }
            }
            annulus::block_on(async {
                let denied = |error: io::Error| (error.kind(), error.raw_os_error());
                let expected = (ErrorKind::PermissionDenied, Some(libc::EACCES));
                assert_eq!(denied(std_fs::File::open(&path).unwrap_err()), expected, "std");
                assert_eq!(denied(File::open(&path).await.unwrap_err()), expected);
                assert_eq!(denied(fs::read(&path).await.unwrap_err()), expected);
                assert_eq!(
                    denied(File::create(scratch.path().join("new")).await.unwrap_err()),
                    expected
                );
                assert_eq!(
                    denied(fs::create_dir(scratch.path().join("new")).await.unwrap_err()),
                    expected
                );
                assert_eq!(
                    denied(fs::create_dir_all(scratch.path().join("new/newer")).await.unwrap_err()),
                    expected
                );
                assert_eq!(denied(fs::remove_file(&path).await.unwrap_err()), expected);
            });
        });
        std_fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    });
}

#[test]
fn opening_a_directory_follows_the_kernel() {
    let scratch = scratch_dir();
    run(async || {
        let error = OpenOptions::new().write(true).open(scratch.path()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::IsADirectory, Some(libc::EISDIR))
        );
        let directory = File::open(scratch.path()).await.unwrap();
        let error = directory.read_at(vec![1, 2, 3], 0).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EISDIR), 0));
        assert_eq!(error.into_buffer(), [1, 2, 3]);
        let error = directory.read_exact_at(vec![1, 2, 3], 0).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::EISDIR), vec![1, 2, 3])
        );
        let error = directory.read_vectored_at(vec![vec![1], vec![2]], 0).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer()),
            (Some(libc::EISDIR), vec![vec![1], vec![2]])
        );
    });
}

#[test]
fn a_dropped_open_leaves_no_descriptor() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "content").unwrap();
    // `run` compares the descriptors.
    run(async || {
        for round in 0..200 {
            let made: PathBuf = scratch.path().join(format!("made-{round}"));
            assert!(
                File::open(&path).now_or_never().is_none(),
                "an open is never ready at its first poll"
            );
            assert!(File::create(&made).now_or_never().is_none());
            if round % 16 == 0 {
                annulus::yield_now().await;
            }
        }
    });
}

#[test]
fn a_file_of_std_can_be_adopted_and_dropped_or_closed_like_any_other() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        std_fs::write(&path, "content").unwrap();
        let file = File::from(std_fs::File::open(&path).unwrap());
        let (count, buffer) = file.read_at(Vec::with_capacity(100), 3).await.unwrap();
        assert_eq!((count, &buffer[..]), (4, &b"tent"[..]));
        let number = file.as_raw_fd();
        file.close().await.unwrap();
        assert!(
            std_fs::read_link(format!("/proc/thread-self/fd/{number}")).is_err(),
            "closed when `close` returns"
        );

        let file = File::from(OwnedFd::from(std_fs::File::open(&path).unwrap()));
        let number = file.as_raw_fd();
        drop(file);
        // A barrier behind the queued close: what an operation of the next tick sees is closed.
        while std_fs::read_link(format!("/proc/thread-self/fd/{number}")).is_ok() {
            annulus::yield_now().await;
        }
    });
}

#[test]
fn closing_waits_for_operations_whose_futures_were_dropped() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let file = File::create(&path).await.unwrap();
        for round in 0..32 {
            let _ = file.write_all_at(vec![round; 4096], u64::from(round) * 4096).now_or_never();
        }
        let before = annulus::metrics().operations_in_flight;
        assert!(before > 0);
        file.close().await.unwrap();
        assert_eq!(annulus::metrics().operations_in_flight, 0);
    });
}

#[test]
fn a_file_dropped_outside_its_runtime_is_closed() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "content").unwrap();
    // `apart` compares the descriptors.
    apart(|| drop(annulus::block_on(async { File::open(&path).await.unwrap() })));
}

#[test]
fn a_fifo_opens_for_reading_at_once_and_for_writing_only_with_a_reader() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("fifo");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the call reads the string, which outlives it.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let error = OpenOptions::new().write(true).open(&path).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "nobody reads");
        let reader = OpenOptions::new().read(true).open(&path).await.unwrap();
        // The first read waits for a writer, as opening does in std.
        let mut read = reader.read_at(vec![0; 8], 0);
        assert!(futures_util::poll!(&mut read).is_pending());
        crate::common::turns(3).await;
        let writer = OpenOptions::new().write(true).open(&path).await.unwrap();
        writer.write_all_at("through", 0).await.unwrap();
        let (count, buffer) = read.await.unwrap();
        assert_eq!(&buffer[..count], b"through");
        writer.close().await.unwrap();
        assert_eq!(reader.read_at(vec![0; 8], 0).await.unwrap().0, 0, "the end");
    });
}
