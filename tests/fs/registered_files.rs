//! Files that are used often, which get a place in the ring's table: what is read and written
//! there, and that the place never keeps open what has been closed.

use std::fs as std_fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use annulus::fs::{File, OpenOptions};
use annulus::{Builder, Runtime};

use crate::common::{
    Random, apart, build_runtime, in_own_process, is_on_software_ring, poll_in_task, quiet,
    scratch_dir, seed, turns,
};
use crate::pattern;

/// More transfers than a file needs for its place.
const OFTEN: usize = 20;
/// More than it needs where it was refused one before.
const MORE_OFTEN: usize = 600;
const MOST_PLACES: u64 = 1024;

/// Files have places on request only.
fn runtime() -> Runtime {
    build_runtime(Builder::new().registered_files(true))
}

fn registers_files(runtime: &Runtime) -> bool {
    runtime.ring().granted().contains(&"REGISTER_FILES2")
}

/// As many as there are, or none on a ring without a table.
#[track_caller]
fn assert_registered(runtime: &Runtime, count: u64) {
    let expected = if registers_files(runtime) { count } else { 0 };
    assert_eq!(runtime.metrics().registered_files, expected);
}

/// A file whose bytes all have this value.
fn file_of(directory: &Path, value: u8) -> File {
    let path = directory.join(value.to_string());
    std_fs::write(&path, [value; 64]).unwrap();
    File::from(std_fs::File::options().read(true).write(true).open(path).unwrap())
}

async fn assert_content(file: &File, value: u8, times: usize) {
    for time in 0..times {
        let (count, buffer) = file.read_at(Vec::with_capacity(8), time as u64 % 32).await.unwrap();
        assert_eq!(
            (count, &buffer[..]),
            (buffer.capacity(), &vec![value; count][..]),
            "read number {time}"
        );
    }
}

/// A pipe whose reading end is annulus's and has a place.
async fn placed_pipe() -> (File, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let reader = File::from(OwnedFd::from(reader));
    for _ in 0..OFTEN {
        writer.write_all(b"x").unwrap();
        assert_eq!(reader.read_at(vec![0], 0).await.unwrap(), (1, b"x".to_vec()));
    }
    (reader, writer)
}

/// The last end for reading has been closed.
#[track_caller]
fn assert_closed(writer: &mut PipeWriter) {
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// The kernel's latest rings have a table, so that the tests below test something.
#[test]
fn the_report_says_whether_files_have_places() {
    apart(|| {
        let runtime = runtime();
        let messages = runtime.ring().granted().contains(&"SEND_MSG_RING");
        assert_eq!(registers_files(&runtime), messages && !is_on_software_ring());
        assert!(!registers_files(&build_runtime(Builder::new())));
    });
}

#[test]
fn a_file_that_is_used_often_has_a_place_until_it_is_dropped() {
    let scratch = scratch_dir();
    apart(|| {
        let runtime = runtime();
        let file = file_of(scratch.path(), 1);
        runtime.block_on(assert_content(&file, 1, 8));
        assert_registered(&runtime, 0);
        runtime.block_on(assert_content(&file, 1, OFTEN));
        assert_registered(&runtime, 1);
        runtime.block_on(async { drop(file) });
        assert_registered(&runtime, 0);
    });
}

#[test]
fn a_placed_file_is_read_and_written_by_every_operation() {
    let scratch = scratch_dir();
    apart(|| {
        let runtime = runtime();
        let path = scratch.path().join("file");
        let content = pattern(1000);
        runtime.block_on(async {
            let file =
                OpenOptions::new().read(true).write(true).create(true).open(&path).await.unwrap();
            let file = &file;
            for _ in 0..OFTEN {
                file.write_all_at("warm", 0).await.unwrap();
            }
            assert_registered(&runtime, 1);
            let content = file.write_all_at(content, 0).await.unwrap();
            let (count, content) = file.write_at(content, 1000).await.unwrap();
            assert_eq!(count, 1000);
            let (count, _) = file.write_vectored_at((content.clone(), "end"), 2000).await.unwrap();
            assert_eq!(count, 1003);
            let mut seen = vec![0; 3003];
            std_fs::File::open(&path).unwrap().read_exact_at(&mut seen, 0).unwrap();
            let expected = [&content[..], &content[..], &content[..], b"end"].concat();
            assert!(seen == expected);
            assert!(file.read_exact_at(vec![0; 3003], 0).await.unwrap() == expected);
            assert!(file.read_at(vec![0; 5000], 0).await.unwrap() == (3003, expected.clone()));
            let (count, parts) =
                file.read_vectored_at(vec![vec![0; 1000], vec![0; 3000]], 0).await.unwrap();
            assert!(count == 3003 && parts.concat() == expected);
            file.sync_all().await.unwrap();
            file.set_len(3).await.unwrap();
            assert_eq!(
                (
                    file.metadata().await.unwrap().len(),
                    file.read_at(vec![0; 10], 0).await.unwrap().0
                ),
                (3, 3)
            );
        });
    });
}

#[test]
fn each_runtime_of_a_thread_finds_its_own_files() {
    let scratch = scratch_dir();
    apart(|| {
        let (first, second) = (runtime(), runtime());
        // They have the same place in two tables.
        let (one, two) = (file_of(scratch.path(), 1), file_of(scratch.path(), 2));
        first.block_on(assert_content(&one, 1, OFTEN));
        second.block_on(assert_content(&two, 2, OFTEN));
        for runtime in [&first, &second] {
            runtime.block_on(async {
                assert_content(&one, 1, MORE_OFTEN).await;
                assert_content(&two, 2, MORE_OFTEN).await;
            });
            assert_registered(runtime, 1);
        }
        second.block_on(async { drop(one) });
        assert_registered(&first, 0);
        drop(two);
        assert_registered(&second, 0);
    });
}

#[test]
fn closing_a_placed_file_closes_it_at_once() {
    apart(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let (reader, mut writer) = placed_pipe().await;
            reader.close().await.unwrap();
            assert_closed(&mut writer);
        });
        assert_registered(&runtime, 0);
    });
}

#[test]
fn a_placed_file_given_to_std_is_stds_alone() {
    apart(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let (reader, mut writer) = placed_pipe().await;
            let mut reader = PipeReader::from(OwnedFd::from(reader.into_std().await));
            assert_registered(&runtime, 0);
            writer.write_all(b"y").unwrap();
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"y");
            drop(reader);
            assert_closed(&mut writer);
        });
    });
}

#[test]
fn a_placed_file_dropped_with_a_read_in_flight_is_closed() {
    apart(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let (reader, mut writer) = placed_pipe().await;
            let mut read = reader.read_at(vec![0; 8], 0);
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(1).await;
            drop(read);
            drop(reader);
            quiet().await;
            assert_closed(&mut writer);
        });
        assert_registered(&runtime, 0);
    });
}

#[test]
fn a_runtime_that_ends_lets_go_of_the_files_in_its_table() {
    apart(|| {
        let runtime = runtime();
        let (reader, mut writer) = runtime.block_on(placed_pipe());
        assert_registered(&runtime, 1);
        drop(runtime);
        // Outside a runtime this is close(2).
        drop(reader);
        assert_closed(&mut writer);
    });
}

#[test]
fn a_file_survives_the_runtime_in_whose_table_it_stood() {
    let scratch = scratch_dir();
    apart(|| {
        let first = runtime();
        let file = file_of(scratch.path(), 1);
        first.block_on(assert_content(&file, 1, OFTEN));
        drop(first);
        let second = runtime();
        // Has the place that the other file had.
        let other = file_of(scratch.path(), 2);
        second.block_on(async {
            assert_content(&other, 2, OFTEN).await;
            assert_content(&file, 1, MORE_OFTEN).await;
        });
        assert_registered(&second, 1);
    });
}

#[test]
fn files_beyond_the_table_are_used_without_a_place() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let set_limit = |soft| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structure is a local variable.
            unsafe {
                assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
                limit.rlim_cur = soft;
                assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
            }
        };
        const LIMIT: u64 = 32;
        set_limit(LIMIT);
        let runtime = runtime();
        set_limit(256);
        let mut files: Vec<File> =
            (0..2 * LIMIT as u8).map(|value| file_of(scratch.path(), value)).collect();
        let check = async |files: &[File], times| {
            for (index, file) in files.iter().enumerate() {
                assert_content(file, index as u8, times).await;
            }
        };
        runtime.block_on(check(&files, OFTEN));
        assert_registered(&runtime, LIMIT);
        // The one that stands there first goes, and the last gets its place when it asks again.
        let first = std::mem::replace(&mut files[0], file_of(scratch.path(), 0));
        runtime.block_on(async { drop(first) });
        assert_registered(&runtime, LIMIT - 1);
        runtime.block_on(check(&files, MORE_OFTEN));
        assert_registered(&runtime, LIMIT);
        drop(files);
        assert_registered(&runtime, 0);
    });
}

#[test]
fn more_files_than_the_largest_table_registers_files_are_all_read() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let runtime = runtime();
        let path = scratch.path().join("file");
        std_fs::write(&path, pattern(4096)).unwrap();
        let count = MOST_PLACES as usize + 10;
        let opened: Result<Vec<File>, _> =
            (0..count).map(|_| std_fs::File::open(&path).map(File::from)).collect();
        let files = match opened {
            Ok(files) => files,
            Err(error) => return println!("skipped: so many files cannot be open ({error})"),
        };
        runtime.block_on(async {
            for (index, file) in files.iter().enumerate() {
                for time in 0..OFTEN {
                    let offset = index + time;
                    assert_eq!(
                        file.read_exact_at(vec![0], offset as u64).await.unwrap(),
                        &pattern(offset + 1)[offset..]
                    );
                }
            }
        });
        assert_registered(&runtime, MOST_PLACES);
        runtime.block_on(async { drop(files) });
        assert_registered(&runtime, 0);
    });
}

#[test]
fn files_that_come_and_go_in_any_order_are_never_confused() {
    const FILES: usize = 12;
    let scratch = scratch_dir();
    let random = Random::new(seed());
    apart(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let mut files: Vec<Option<File>> = (0..FILES).map(|_| None).collect();
            for _ in 0..600 {
                let index = random.below(FILES);
                let value = index as u8;
                match (files[index].take(), random.below(8)) {
                    (None, _) => files[index] = Some(file_of(scratch.path(), value)),
                    (Some(file), 0) => drop(file),
                    (Some(file), 1) => file.close().await.unwrap(),
                    (Some(file), 2) => {
                        let file = file.into_std().await;
                        let mut byte = [0];
                        file.read_exact_at(&mut byte, 0).unwrap();
                        assert_eq!(byte, [value]);
                    }
                    (Some(file), 3) => {
                        let mut read = file.read_at(vec![0; 8], 0);
                        let _ = poll_in_task(&mut read).await;
                        drop(read);
                        drop(file);
                    }
                    (Some(file), _) => {
                        assert_content(&file, value, random.below(2 * OFTEN)).await;
                        files[index] = Some(file);
                    }
                }
                // A read that was dropped keeps its file until its last completion.
                let metrics = annulus::metrics();
                let most = files.iter().flatten().count() as u64 + metrics.operations_in_flight;
                assert!(
                    metrics.registered_files <= most,
                    "{} files in the table, at most {most} expected",
                    metrics.registered_files
                );
            }
        });
        assert_registered(&runtime, 0);
        assert_eq!(runtime.metrics().stale_completions, 0);
    });
}
