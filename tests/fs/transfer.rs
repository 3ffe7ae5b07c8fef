//! Reading, writing, sync, length and metadata of an open file.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::buf::{IoBuf, IoBufMut};
use annulus::fs::{Advice, File, OpenOptions};
use futures_util::future::join_all;

use crate::common::{run, scratch_dir};
use crate::{assert_same, pattern};

/// Too large for the kernel: its offsets are signed.
const TOO_FAR: [u64; 4] = [1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];

/// Opens a file for reading and writing, with this content.
async fn file_with(directory: &Path, content: impl IoBuf) -> File {
    let path = directory.join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .await
        .unwrap();
    file.write_all_at(content, 0).await.unwrap();
    file
}

fn content_of(directory: &Path) -> Vec<u8> {
    std_fs::read(directory.join("file")).unwrap()
}

#[test]
fn a_read_uses_the_whole_capacity_from_the_start_and_sets_the_length() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        let (count, buffer) = file.read_at(b"abcd".to_vec().into_boxed_slice(), 2).await.unwrap();
        assert_eq!((count, &buffer[..]), (4, &b"2345"[..]));
        let (count, buffer) = file.read_at(b"abcdef".to_vec(), 8).await.unwrap();
        assert_eq!((count, &buffer[..]), (2, &b"89"[..]), "shorter than the buffer was");
        let (count, buffer) = file.read_at(Vec::with_capacity(64), 0).await.unwrap();
        assert_eq!((count, &buffer[..]), (10, &b"0123456789"[..]), "longer than the buffer was");
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(b"head:");
        let (count, slice) = file.read_at(buffer.slice(5..9), 0).await.unwrap();
        assert_eq!(
            (count, &slice.into_inner()[..]),
            (4, &b"head:0123"[..]),
            "a slice leaves what is before it"
        );
        let (count, buffer) = file.read_at(Vec::with_capacity(64).spare(), 7).await.unwrap();
        assert_eq!((count, &buffer[..]), (3, &b"789"[..]));
    });
}

#[test]
fn a_read_at_or_behind_the_end_of_the_file_gives_0() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        for offset in [10, 11, 1 << 20, 1 << 40, i64::MAX as u64] {
            let (count, buffer) = match file.read_at(vec![7; 4], offset).await {
                Ok(read) => read,
                // Near the end of the range, offset + length overflows.
                Err(error) if offset == i64::MAX as u64 => {
                    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
                    continue;
                }
                Err(error) => panic!("offset {offset}: {error}"),
            };
            assert_eq!((count, buffer.len()), (0, 0), "offset {offset}");
            let (count, buffers) =
                file.read_vectored_at(vec![vec![7; 4], vec![8; 2]], offset).await.unwrap();
            assert_eq!(
                (count, buffers),
                (0, vec![vec![7; 4], vec![8; 2]]),
                "buffers that nothing was read into keep their length"
            );
        }
    });
}

#[test]
fn an_exact_read_fills_the_buffer_or_says_how_far_it_came() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        let whole = file.read_exact_at(vec![0; 10], 0).await.unwrap();
        assert_eq!(whole, b"0123456789");
        let error = file.read_exact_at(vec![7; 8], 6).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error(), error.transferred()),
            (ErrorKind::UnexpectedEof, None, 4)
        );
        assert_eq!(error.into_buffer(), b"6789", "the length of a Vec is what was read");
        let error = file.read_exact_at(vec![7; 8].into_boxed_slice(), 6).await.unwrap_err();
        assert_eq!(&error.into_buffer()[..], b"6789\x07\x07\x07\x07");
        let error = file.read_exact_at(vec![7; 8], 10).await.unwrap_err();
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::UnexpectedEof, 0));
        assert_eq!(error.into_buffer(), [7; 8], "nothing was read, so the buffer is as it was");
        let std =
            std_fs::File::open(scratch.path().join("file")).unwrap().read_exact_at(&mut [0; 8], 6);
        assert_same(
            "past the end",
            &file.read_exact_at(vec![7; 8], 6).await.map_err(io::Error::from),
            &std,
        );
    });
}

#[test]
fn a_read_into_a_buffer_without_room_is_invalid_input_and_an_exact_one_is_done() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        assert_eq!(file.read_at(Vec::new(), 0).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            file.read_at(Box::new([0; 0]), 0).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            file.read_at(vec![1, 2].slice(1..1), 0).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            file.read_vectored_at(Vec::<Vec<u8>>::new(), 0).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            file.read_vectored_at(vec![Vec::new(), Vec::new()], 0).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let (count, buffers) =
            file.read_vectored_at(vec![Vec::new(), vec![0; 3], Vec::new()], 0).await.unwrap();
        assert_eq!((count, buffers), (3, vec![vec![], b"012".to_vec(), vec![]]));
        assert_eq!(file.read_exact_at(Vec::new(), 0).await.unwrap(), b"");
        assert_eq!(file.read_exact_at(Vec::new(), 1000).await.unwrap(), b"");
    });
}

#[test]
fn room_behind_more_empty_buffers_than_one_call_takes_is_no_end_of_file() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        let mut buffers = vec![Vec::new(); 1024];
        buffers.push(vec![0; 4]);
        let outcome = file
            .read_vectored_at(buffers, 0)
            .await
            .map(|(count, _)| count)
            .map_err(|error| error.kind());
        assert!(
            matches!(outcome, Ok(1..) | Err(ErrorKind::InvalidInput)),
            "Ok(0) would mean the end of the file, but: {outcome:?}"
        );
        let mut buffers = vec![""; 1024];
        buffers.push("abcd");
        let outcome = file
            .write_vectored_at(buffers, 0)
            .await
            .map(|(count, _)| count)
            .map_err(|error| error.kind());
        println!("a write behind 1024 empty buffers: {outcome:?}");
    });
}

#[test]
fn vectored_transfers_go_through_the_buffers_in_order() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "").await;
        let (count, back) =
            file.write_vectored_at(vec!["one ", "", "two ", "three"], 0).await.unwrap();
        assert_eq!((count, back), (13, vec!["one ", "", "two ", "three"]));
        assert_eq!(content_of(scratch.path()), b"one two three");
        let (count, _) = file.write_vectored_at(Vec::<Vec<u8>>::new(), 0).await.unwrap();
        assert_eq!(count, 0);
        let (count, _) = file.write_vectored_at(vec!["", ""], 0).await.unwrap();
        assert_eq!(count, 0);
        let (count, buffers) =
            file.read_vectored_at(vec![vec![9; 5], vec![9; 100], vec![9; 7]], 0).await.unwrap();
        assert_eq!(
            (count, buffers),
            (13, vec![b"one t".to_vec(), b"wo three".to_vec(), vec![9; 7]])
        );
    });
}

#[test]
fn at_most_1024_buffers_take_part_in_a_vectored_transfer() {
    let scratch = scratch_dir();
    run(async || {
        let content = pattern(2 * 1500);
        let file = file_with(scratch.path(), "").await;
        let (count, back) = file
            .write_vectored_at(content.chunks(2).map(<[u8]>::to_vec).collect::<Vec<_>>(), 0)
            .await
            .unwrap();
        assert_eq!((count, back.len()), (2048, 1500));
        let (count, _) = file.write_vectored_at(back[1024..].to_vec(), 2048).await.unwrap();
        assert_eq!((count, content_of(scratch.path())), (952, content.clone()));
        let (count, buffers) = file.read_vectored_at(vec![vec![0; 2]; 1500], 0).await.unwrap();
        assert_eq!(count, 2048);
        assert_eq!(buffers[..1024].concat(), content[..2048]);
        assert!(
            buffers[1024..].iter().all(|buffer| *buffer == [0, 0]),
            "the others are as they were"
        );
    });
}

#[test]
fn a_write_of_nothing_succeeds() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "content").await;
        assert_eq!(file.write_at("", 3).await.unwrap(), (0, ""));
        assert_eq!(
            file.write_at(Vec::with_capacity(16), 100).await.unwrap().0,
            0,
            "the length counts, not the capacity"
        );
        assert_eq!(file.write_all_at(Vec::new(), 100).await.unwrap(), b"");
        assert_eq!(content_of(scratch.path()), b"content");
    });
}

#[test]
fn writes_go_to_their_offset_and_give_the_buffer_back() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        assert_eq!(file.write_at(b"ab".to_vec(), 4).await.unwrap(), (2, b"ab".to_vec()));
        assert_eq!(file.write_all_at("xyz", 9).await.unwrap(), "xyz");
        let slice = file.write_all_at(String::from("hello").slice(1..3), 0).await.unwrap();
        assert_eq!(slice.into_inner(), "hello");
        assert_eq!(content_of(scratch.path()), b"el23ab678xyz");
        file.write_all_at("!", 14).await.unwrap();
        assert_eq!(content_of(scratch.path()), b"el23ab678xyz\0\0!", "a gap reads as zeroes");
    });
}

#[test]
fn an_offset_that_the_kernel_would_take_for_negative_is_invalid_input_and_never_the_cursor() {
    let scratch = scratch_dir();
    run(async || {
        file_with(scratch.path(), "0123456789").await.close().await.unwrap();
        let std = std_fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(scratch.path().join("file"))
            .unwrap();
        let file = File::from(std.try_clone().unwrap());
        for offset in TOO_FAR {
            let invalid =
                |kind: ErrorKind| assert_eq!(kind, ErrorKind::InvalidInput, "offset {offset}");
            let error = file.read_at(vec![7; 4], offset).await.unwrap_err();
            invalid(error.kind());
            assert_eq!(error.into_buffer(), [7; 4]);
            let error = file.read_exact_at(vec![7; 4], offset).await.unwrap_err();
            invalid(error.kind());
            assert_eq!(error.transferred(), 0);
            invalid(file.read_exact_at(Vec::new(), offset).await.unwrap_err().kind());
            invalid(file.read_vectored_at(vec![vec![7; 4]], offset).await.unwrap_err().kind());
            let error = file.write_at("abc", offset).await.unwrap_err();
            invalid(error.kind());
            assert_eq!(error.into_buffer(), "abc");
            invalid(file.write_all_at("abc", offset).await.unwrap_err().kind());
            invalid(file.write_vectored_at(vec!["abc"], offset).await.unwrap_err().kind());
            invalid(file.set_len(offset).await.unwrap_err().kind());
        }
        use std::io::Seek;
        assert_eq!((&std).stream_position().unwrap(), 0, "nobody has moved the cursor");
        assert_eq!(content_of(scratch.path()), b"0123456789");
        let largest = file.write_all_at("abc", i64::MAX as u64).await.unwrap_err();
        let expected = std.write_all_at(b"abc", i64::MAX as u64).unwrap_err();
        assert_eq!(largest.kind(), expected.kind(), "{largest} here, {expected} in std");
    });
}

#[test]
fn positioned_transfers_do_not_move_the_cursor() {
    let scratch = scratch_dir();
    run(async || {
        use std::io::{Read, Seek, SeekFrom};
        file_with(scratch.path(), "0123456789").await;
        let mut std = std_fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(scratch.path().join("file"))
            .unwrap();
        std.seek(SeekFrom::Start(3)).unwrap();
        let file = File::from(std.try_clone().unwrap());
        file.read_at(vec![0; 2], 0).await.unwrap();
        file.read_exact_at(vec![0; 2], 5).await.unwrap();
        file.write_all_at("ab", 8).await.unwrap();
        file.read_vectored_at(vec![vec![0; 2]], 1).await.unwrap();
        let mut rest = String::new();
        std.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "34567ab");
    });
}

#[test]
fn offsets_beyond_4_gib_lead_where_they_say() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "start").await;
        let offsets = [u64::from(u32::MAX) - 2, 1 << 32, (1 << 32) + (1 << 31) + 7, (1 << 40) + 1];
        for offset in offsets {
            file.write_all_at(offset.to_le_bytes().to_vec(), offset).await.unwrap();
        }
        assert_eq!(file.metadata().await.unwrap().len(), (1 << 40) + 9);
        for offset in &offsets[1..] {
            assert_eq!(
                file.read_exact_at(vec![0; 8], *offset).await.unwrap(),
                offset.to_le_bytes()
            );
            let (count, buffers) =
                file.read_vectored_at(vec![vec![0; 4]; 2], *offset).await.unwrap();
            assert_eq!((count, buffers.concat()), (8, offset.to_le_bytes().to_vec()));
        }
        assert_eq!(
            file.read_exact_at(vec![1; 5], 0).await.unwrap(),
            b"start",
            "nothing has wrapped round"
        );
        assert_eq!(
            file.read_exact_at(vec![1; 64], 1 << 39).await.unwrap(),
            [0; 64],
            "a hole reads as zeroes"
        );
    });
}

#[test]
fn sixty_four_reads_of_one_file_at_a_time_each_get_their_own_part() {
    const PART: usize = 4096;
    let scratch = scratch_dir();
    run(async || {
        let content = pattern(64 * PART);
        let file = file_with(scratch.path(), content.clone()).await;
        let reads = (0..64u64).map(|part| file.read_exact_at(vec![0; PART], part * PART as u64));
        let parts: Vec<Vec<u8>> =
            join_all(reads).await.into_iter().map(|part| part.unwrap()).collect();
        assert_eq!(parts.concat(), content);
        let writes = parts
            .into_iter()
            .enumerate()
            .map(|(part, buffer)| file.write_all_at(buffer, ((63 - part) * PART) as u64));
        assert!(join_all(writes).await.iter().all(Result::is_ok));
        let turned: Vec<u8> = content.chunks(PART).rev().flatten().copied().collect();
        assert_eq!(content_of(scratch.path()), turned);
    });
}

#[test]
fn sync_succeeds_on_files_and_fails_like_std_on_pipes() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "content").await;
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        let std = std_fs::File::from(OwnedFd::from(reader));
        let (all, data) = (std.sync_all(), std.sync_data());
        let pipe = File::from(std);
        assert_same("sync_all", &pipe.sync_all().await, &all);
        assert_same("sync_data", &pipe.sync_data().await, &data);
    });
}

#[test]
fn set_len_grows_with_zeroes_and_cuts_off() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "0123456789").await;
        match file.set_len(4).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return println!("skipped: the kernel is older than 6.9");
            }
            other => other.unwrap(),
        }
        assert_eq!(content_of(scratch.path()), b"0123");
        file.set_len(8).await.unwrap();
        assert_eq!(content_of(scratch.path()), b"0123\0\0\0\0");
        file.set_len(0).await.unwrap();
        assert_eq!(content_of(scratch.path()), b"");
        file.set_len((1 << 33) + 5).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), (1 << 33) + 5);

        let std = std_fs::File::open(scratch.path().join("file")).unwrap();
        let refused = std.set_len(1);
        assert_same("read-only", &File::from(std).set_len(1).await, &refused);
    });
}

/// Is the first page of a file in the cache? `None`: the file system cannot say.
fn is_cached(path: &Path) -> Option<bool> {
    let file = std_fs::File::open(path).unwrap();
    let mut byte = 0u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the vector and its only byte are local variables.
    match unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, 0, libc::RWF_NOWAIT) } {
        1 => Some(true),
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) => Some(false),
        _ => None,
    }
}

#[test]
fn advice_fetches_and_drops_what_is_cached_and_changes_no_byte() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let file = file_with(scratch.path(), "0123456789".repeat(1000)).await;
        file.sync_all().await.unwrap();
        let begun = Instant::now();
        for (advice, cached) in [(Advice::DontNeed, false), (Advice::WillNeed, true)] {
            // The kernel may be slow to fetch, or may hold a page for a moment.
            while is_cached(&path).is_some_and(|is_cached| is_cached != cached) {
                assert!(begun.elapsed() < Duration::from_secs(10), "{advice:?} has no effect");
                file.advise(0, 0, advice).await.unwrap();
            }
        }
        for advice in [Advice::Normal, Advice::Sequential, Advice::Random, Advice::NoReuse] {
            file.advise(5, u32::MAX, advice).await.unwrap();
        }
        assert_eq!(content_of(scratch.path()), "0123456789".repeat(1000).as_bytes());
        let refused = file.advise(u64::MAX, 0, Advice::WillNeed).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        drop(file.advise(0, 0, Advice::WillNeed));

        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std_fs::File::from(OwnedFd::from(reader)));
        let refused = pipe.advise(0, 0, Advice::WillNeed).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ESPIPE));
    });
}

/// The metadata of one file from both sides.
#[track_caller]
fn assert_same_metadata(ours: &annulus::fs::Metadata, std: &std_fs::Metadata) {
    assert_eq!((ours.len(), ours.mode(), ours.nlink()), (std.len(), std.mode(), std.nlink()));
    assert_eq!(
        (ours.is_file(), ours.is_dir(), ours.is_symlink()),
        (std.is_file(), std.is_dir(), std.is_symlink())
    );
    assert_eq!(
        (ours.dev(), ours.ino(), ours.uid(), ours.gid()),
        (std.dev(), std.ino(), std.uid(), std.gid())
    );
    assert_eq!(
        (ours.blksize(), ours.blocks(), ours.rdev()),
        (std.blksize(), std.blocks(), std.rdev())
    );
    assert_eq!([ours.atime(), ours.mtime(), ours.ctime()], [std.atime(), std.mtime(), std.ctime()]);
    assert_eq!(
        [ours.atime_nsec(), ours.mtime_nsec(), ours.ctime_nsec()],
        [std.atime_nsec(), std.mtime_nsec(), std.ctime_nsec()]
    );
    assert_eq!(ours.modified().unwrap(), std.modified().unwrap());
    assert_eq!(ours.accessed().unwrap(), std.accessed().unwrap());
    assert_eq!(
        ours.created().map_err(|error| error.kind()),
        std.created().map_err(|error| error.kind())
    );
    assert!(format!("{ours:?}").contains("mode"));
}

#[test]
fn metadata_says_what_std_says_of_files_directories_fifos_and_devices() {
    let scratch = scratch_dir();
    run(async || {
        let (regular, fifo, link) =
            (scratch.path().join("file"), scratch.path().join("fifo"), scratch.path().join("link"));
        file_with(scratch.path(), pattern(10_000)).await.close().await.unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        for path in [
            &regular,
            &fifo,
            &link,
            scratch.path(),
            Path::new("/dev/null"),
            Path::new("/proc/self/status"),
        ] {
            let ours = annulus::fs::metadata(path).await.unwrap();
            let std = std_fs::metadata(path).unwrap();
            if path.starts_with("/proc") {
                assert_eq!((ours.len(), ours.mode(), ours.ino()), (0, std.mode(), std.ino()));
            } else {
                assert_same_metadata(&ours, &std);
            }
        }
        for path in [&regular, scratch.path(), Path::new("/dev/null")] {
            let file = File::open(path).await.unwrap();
            assert_same_metadata(&file.metadata().await.unwrap(), &std_fs::metadata(path).unwrap());
        }
        let open = std_fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        assert_same_metadata(
            &File::from(open).metadata().await.unwrap(),
            &std_fs::metadata(&fifo).unwrap(),
        );
    });
}

#[test]
fn times_before_1970_are_told_as_std_tells_them() {
    let scratch = scratch_dir();
    run(async || {
        let file = file_with(scratch.path(), "").await;
        let std = std_fs::OpenOptions::new().write(true).open(scratch.path().join("file")).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH - Duration::new(1_000_000, 1);
        std.set_modified(old).unwrap();
        assert_eq!(
            file.metadata().await.unwrap().modified().unwrap(),
            std.metadata().unwrap().modified().unwrap()
        );
    });
}
