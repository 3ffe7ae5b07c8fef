//! Writes beyond the limit on the size of files, and at places that no file has: an error, and
//! never the signal SIGXFSZ, which would end the process.

use std::fs as std_fs;
use std::io::{self, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use annulus::buf::AlignedBuffer;
use annulus::fs::{FallocateMode, File, OpenOptions};

use crate::common::{in_own_process, run, scratch_dir};
use crate::direct::{BLOCK, block};

const LIMIT: u64 = 8 * BLOCK as u64;

fn limit_files() {
    let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
    // SAFETY: the limit outlives the call. The process has no other test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
}

#[track_caller]
fn is_too_large<T>(what: &str, outcome: io::Result<T>) {
    let error = outcome.err().unwrap_or_else(|| panic!("{what} succeeds"));
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{what}: {error}");
}

/// Each way to write, for a file that is as long as may be.
async fn write_beyond(file: &File, what: &str) {
    let full = |content| block(content);
    file.seek(SeekFrom::Start(LIMIT)).await.unwrap();
    is_too_large(what, file.write_at(full(1), LIMIT).await.map_err(Into::into));
    is_too_large(what, file.write_all_at(full(1), LIMIT).await.map_err(Into::into));
    is_too_large(what, file.write_vectored_at([full(1)], LIMIT).await.map_err(Into::into));
    is_too_large(what, file.write_all_vectored_at([full(1)], LIMIT).await.map_err(Into::into));
    is_too_large(what, file.write(full(1)).await.map_err(Into::into));
    is_too_large(what, file.write_all(full(1)).await.map_err(Into::into));
    is_too_large(what, file.write_vectored([full(1)]).await.map_err(Into::into));
    assert_eq!(file.stream_position().await.unwrap(), LIMIT, "{what}");
    is_too_large(what, file.set_len(LIMIT + 1).await);
    let mode = FallocateMode::Allocate;
    match file.fallocate(mode, LIMIT, 1).await {
        // A file system without blocks to set aside.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        outcome => is_too_large(what, outcome),
    }
    let (written, behind) =
        file.write_all_at(full(1), LIMIT).then(file.write_all_at(full(2), 0)).await;
    is_too_large(what, written.map_err(Into::into));
    assert_eq!(behind.unwrap_err().raw_os_error(), Some(libc::ECANCELED), "{what}");
    // Many at once, each of which would bring the signal.
    let many = (0..20).map(|_| file.write_at(full(1), LIMIT));
    for outcome in futures_util::future::join_all(many).await {
        is_too_large(what, outcome.map_err(Into::into));
    }
    assert_eq!(file.metadata().await.unwrap().len(), LIMIT, "{what}");
}

async fn on_each_kind_of_file(directory: &Path) {
    for flags in [0, libc::O_DIRECT, libc::O_APPEND, libc::O_DSYNC] {
        let path = directory.join(format!("file-{flags:o}"));
        let content = vec![7; LIMIT as usize];
        std_fs::write(&path, &content).unwrap();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(flags);
        let file = match options.open(&path).await {
            Ok(file) => file,
            Err(error) if flags == libc::O_DIRECT => {
                println!("skipped: no O_DIRECT here: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        write_beyond(&file, &format!("flags {flags:o} in {}", directory.display())).await;
    }
}

#[test]
fn a_write_beyond_the_limit_is_an_error_and_no_signal_whatever_the_file_is() {
    in_own_process(|| {
        limit_files();
        let scratch = scratch_dir();
        run(async || on_each_kind_of_file(scratch.path()).await);
        // In memory, where the kernel can write at once.
        match tempfile::tempdir_in("/dev/shm") {
            Ok(memory) => run(async || on_each_kind_of_file(memory.path()).await),
            Err(error) => println!("skipped: no /dev/shm: {error}"),
        }
    });
}

#[test]
fn a_write_that_crosses_the_limit_is_short_and_the_file_stands_behind_what_was_written() {
    in_own_process(|| {
        limit_files();
        let scratch = scratch_dir();
        run(async || {
            let file = File::create_new(scratch.path().join("file")).await.unwrap();
            file.seek(SeekFrom::Start(LIMIT - 100)).await.unwrap();
            let error = file.write_all(vec![1; 1000]).await.unwrap_err();
            assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EFBIG), 100));
            assert_eq!(file.stream_position().await.unwrap(), LIMIT);
            file.seek(SeekFrom::Current(-10)).await.unwrap();
            assert_eq!(file.write(vec![1; 1000]).await.unwrap().0, 10);
        });
    });
}

#[test]
fn reads_and_writes_at_the_last_places_of_all_are_refused_or_find_nothing() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        std_fs::write(&path, "content").unwrap();
        let std = std_fs::File::options().read(true).write(true).open(&path).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).await.unwrap();
        let errno = |error: io::Error| error.raw_os_error();
        for place in [i64::MAX as u64 - 8, i64::MAX as u64 - 1, i64::MAX as u64] {
            use std::os::unix::fs::FileExt;
            let expected = std.read_at(&mut [0; 4], place).map_err(errno);
            let read = file.read_at(vec![0; 4], place).await.map(|read| read.0);
            assert_eq!(read.map_err(|error| errno(error.into())), expected, "a read at {place}");
            let expected = std.write_at(b"four", place).map_err(errno);
            let written = file.write_at("four", place).await.map(|written| written.0);
            assert_eq!(
                written.map_err(|error| errno(error.into())),
                expected,
                "a write at {place}"
            );
        }
        assert_eq!(file.metadata().await.unwrap().len(), 7);
    });
}

#[test]
fn an_error_of_the_device_reaches_the_caller_with_the_buffer() {
    run(async || {
        // The first page of a process is never there.
        let memory = match File::open("/proc/self/mem").await {
            Ok(memory) => memory,
            Err(error) => return println!("skipped: {error}"),
        };
        let error = memory.read_at(vec![7; 16], 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(error.into_buffer(), vec![7; 16]);
        let error = memory.read(vec![7; 16]).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.into_buffer()), (Some(libc::EIO), vec![7; 16]));
        assert_eq!(memory.stream_position().await.unwrap(), 0);
    });
}

/// Opens a file around the page cache; `None` where that is not possible.
async fn open_direct(path: &Path) -> Option<File> {
    std_fs::write(path, vec![1; 4 * BLOCK]).unwrap();
    let probe = std_fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(path);
    if let Err(error) = probe {
        println!("skipped: no O_DIRECT here: {error}");
        return None;
    }
    let mut options = OpenOptions::new();
    Some(options.read(true).write(true).custom_flags(libc::O_DIRECT).open(path).await.unwrap())
}

#[test]
fn what_does_not_fit_the_device_is_refused_with_the_alignment_that_it_needs() {
    let scratch = scratch_dir();
    run(async || {
        let Some(file) = open_direct(&scratch.path().join("file")).await else { return };
        let read = file.read_at(block(0), 1).await.map(drop).map_err(io::Error::from);
        let Err(error) = read else {
            return println!("skipped: this file system reads odd places by way of the cache");
        };
        let is_told = |what: &str, error: io::Error| {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{what}: {error}");
            let sentence = error.to_string();
            assert!(sentence.contains("O_DIRECT") && sentence.contains("multiple"), "{sentence}");
            assert!(sentence.contains(what), "{what}: {sentence}");
        };
        is_told("offset 1", error);
        let short = || {
            let mut short = AlignedBuffer::with_page_alignment(BLOCK);
            short.resize(100, 0);
            short
        };
        is_told("length 100", file.write_at(short(), 0).await.unwrap_err().into());
        is_told("length 100", file.write_all_at(short(), 0).await.unwrap_err().into());
        is_told("offset 7", file.read_exact_at(block(0), 7).await.unwrap_err().into());
        is_told("offset 7", file.write_vectored_at([block(0)], 7).await.unwrap_err().into());
        file.seek(SeekFrom::Start(3)).await.unwrap();
        is_told("offset 3", file.read(block(0)).await.unwrap_err().into());
        is_told("offset 3", file.write_all(block(0)).await.unwrap_err().into());
        // Another reason is told as the kernel tells it.
        let reads_only = File::open(scratch.path().join("file")).await.unwrap();
        let error = reads_only.write_at(block(0), 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
}
