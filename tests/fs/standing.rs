//! Reading and writing where a file stands, and moving that place, beside what std does.

use std::fs as std_fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use annulus::buf::IoBuf;
use annulus::fs::{File, OpenOptions};
use annulus::io::{AsyncRead, AsyncWrite};
use futures_util::future::join_all;

use crate::common::{Random, poll_in_task, run, scratch_dir, seed, size, turns};
use crate::{assert_same, pattern};

async fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).open(path).await.unwrap()
}

#[test]
fn reads_and_writes_go_on_where_the_last_one_ended() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let file = open(&path).await;
        assert_eq!(file.write("abc").await.unwrap().0, 3);
        file.write_all("defg").await.unwrap();
        assert_eq!(file.write_vectored(["h", "ij"]).await.unwrap().0, 3);
        file.write_all_vectored(("k", vec![b'l'], String::from("m"))).await.unwrap();
        assert_eq!(file.stream_position().await.unwrap(), 13);
        assert_eq!(std_fs::read(&path).unwrap(), b"abcdefghijklm");
        file.rewind().await.unwrap();
        let (count, buffer) = file.read(Vec::with_capacity(2)).await.unwrap();
        assert_eq!((count, &buffer[..]), (buffer.len(), &b"abcdefghijklm"[..count]));
        file.seek(SeekFrom::Start(2)).await.unwrap();
        assert_eq!(file.read_exact(vec![0; 3]).await.unwrap(), b"cde");
        let (count, buffers) = file.read_vectored(vec![vec![0; 1], vec![0; 2]]).await.unwrap();
        assert_eq!((count, buffers), (3, vec![b"f".to_vec(), b"gh".to_vec()]));
        let mut held = Vec::with_capacity(100);
        held.push(b'-');
        let (count, held) = file.read_append(held).await.unwrap();
        assert_eq!((count, &held[..]), (5, &b"-ijklm"[..]));
        file.seek(SeekFrom::Start(10)).await.unwrap();
        let mut rest = b"rest:".to_vec();
        let count = file.read_to_end(&mut rest).await.unwrap();
        assert_eq!((count, &rest[..]), (3, &b"rest:klm"[..]));
        assert_eq!(file.read(vec![0; 4]).await.unwrap().0, 0, "the end");
        assert_eq!(file.stream_position().await.unwrap(), 13);
    });
}

#[test]
fn operations_at_offsets_leave_the_position_alone() {
    let scratch = scratch_dir();
    run(async || {
        let file = open(&scratch.path().join("file")).await;
        file.write_all("0123456789").await.unwrap();
        file.write_all_at("ab", 3).await.unwrap();
        file.write_all_vectored_at(["c", "d"], 5).await.unwrap();
        file.read_exact_at(vec![0; 5], 1).await.unwrap();
        assert_eq!(file.stream_position().await.unwrap(), 10);
        file.rewind().await.unwrap();
        assert_eq!(rest(&file).await.unwrap(), b"012abcd789");
    });
}

/// What a step did, to be compared with what std's did.
type Outcome = io::Result<Vec<u8>>;

/// What is left of a file.
async fn rest(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(3);
    let count = file.read_to_end(&mut bytes).await?;
    assert_eq!(count, bytes.len());
    Ok(bytes)
}

async fn step(file: &File, kind: u64, number: u64) -> Outcome {
    let length = number as usize % 50;
    Ok(match kind {
        0 => {
            let buffer = file.read_exact(vec![0; length].slice(..)).await;
            buffer.map(|buffer| buffer.into_inner())?
        }
        1 => file.write_all(vec![number as u8; length]).await.map(|_| Vec::new())?,
        2 => file.seek(SeekFrom::Start(number)).await?.to_le_bytes().to_vec(),
        3 => file.seek(SeekFrom::Current(number as i64 - 70)).await?.to_le_bytes().to_vec(),
        4 => file.seek(SeekFrom::End(number as i64 - 70)).await?.to_le_bytes().to_vec(),
        5 => file.set_len(number).await.map(|()| Vec::new())?,
        6 => file.stream_position().await?.to_le_bytes().to_vec(),
        _ => rest(file).await?,
    })
}

fn step_of_std(file: &mut std_fs::File, kind: u64, number: u64) -> Outcome {
    let length = number as usize % 50;
    let mut buffer = vec![0; length];
    Ok(match kind {
        0 => file.read_exact(&mut buffer).map(|()| buffer)?,
        1 => file.write_all(&vec![number as u8; length]).map(|()| Vec::new())?,
        2 => file.seek(SeekFrom::Start(number))?.to_le_bytes().to_vec(),
        3 => file.seek(SeekFrom::Current(number as i64 - 70))?.to_le_bytes().to_vec(),
        4 => file.seek(SeekFrom::End(number as i64 - 70))?.to_le_bytes().to_vec(),
        5 => file.set_len(number).map(|()| Vec::new())?,
        6 => file.stream_position()?.to_le_bytes().to_vec(),
        _ => {
            buffer.clear();
            file.read_to_end(&mut buffer)?;
            buffer
        }
    })
}

#[test]
fn any_sequence_does_what_it_does_to_a_file_of_std() {
    let random = Random::new(seed());
    let rounds = size(20).min(1000);
    let scratch = scratch_dir();
    run(async || {
        for round in 0..rounds {
            let appends = random.below(3) == 0;
            let mut options = std_fs::OpenOptions::new();
            options.read(true).write(!appends).append(appends).create(true);
            let ours = scratch.path().join(format!("ours-{round}"));
            let stds = scratch.path().join(format!("std-{round}"));
            let file = OpenOptions::new()
                .read(true)
                .write(!appends)
                .append(appends)
                .create(true)
                .open(&ours)
                .await
                .unwrap();
            let mut std = options.open(&stds).unwrap();
            for number in 0..50 {
                let (kind, argument) = (random.below(8) as u64, random.below(150) as u64);
                let outcome = step(&file, kind, argument).await;
                let expected = step_of_std(&mut std, kind, argument);
                let what = format!("{round}.{number}: {kind} of {argument}, appends: {appends}");
                assert_same(&what, &outcome, &expected);
                assert_eq!(outcome.ok(), expected.ok(), "{what}");
            }
            let mut back = file.into_std().await;
            assert_eq!(back.stream_position().unwrap(), std.stream_position().unwrap());
            assert_eq!(std_fs::read(&ours).unwrap(), std_fs::read(&stds).unwrap());
        }
    });
}

#[test]
fn the_position_is_taken_over_from_a_descriptor_and_given_back() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "0123456789").unwrap();
    run(async || {
        let mut std = std_fs::File::open(&path).unwrap();
        std.read_exact(&mut [0; 2]).unwrap();
        let mut other = std.try_clone().unwrap();
        let file = File::from(std);
        assert_eq!(file.read_exact(vec![0; 2]).await.unwrap(), b"23");
        let mut std = file.into_std().await;
        assert_eq!(std.stream_position().unwrap(), 4);
        let file = File::from(OwnedFd::from(std));
        assert_eq!(file.read_exact(vec![0; 2]).await.unwrap(), b"45");
        drop(file);
        assert_eq!(other.stream_position().unwrap(), 6, "given back by a drop");
        let file = File::from(other.try_clone().unwrap());
        assert_eq!(file.read_exact(vec![0; 1]).await.unwrap(), b"6");
        file.close().await.unwrap();
        assert_eq!(other.stream_position().unwrap(), 7, "given back by a close");
        let file = File::from(other.try_clone().unwrap());
        drop(file);
        assert_eq!(other.stream_position().unwrap(), 7, "left alone by who has not asked");
    });
}

#[test]
fn a_clone_is_the_same_open_file_and_it_is_closed_with_the_last() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, "0123456789").unwrap();
    run(async || {
        let file = open(&path).await;
        let clone = file.try_clone().unwrap();
        let third = clone.try_clone().unwrap();
        assert_eq!(file.read_exact(vec![0; 2]).await.unwrap(), b"01");
        assert_eq!(clone.read_exact(vec![0; 2]).await.unwrap(), b"23");
        file.close().await.unwrap();
        assert_eq!(clone.read_exact(vec![0; 2]).await.unwrap(), b"45");
        let mut std = clone.into_std().await;
        assert_eq!(std.stream_position().unwrap(), 6);
        assert_eq!(third.read_exact(vec![0; 1]).await.unwrap(), b"6");
        // Reads of clones take turns, so each byte comes once.
        third.rewind().await.unwrap();
        let clones: Vec<_> = (0..10).map(|_| third.try_clone().unwrap()).collect();
        let reads = join_all(clones.iter().map(|clone| clone.read_exact(vec![0; 1]))).await;
        let bytes: Vec<u8> = reads.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(bytes, b"0123456789");
        drop(third);
        drop(clones);
    });
}

#[test]
fn the_bytes_of_a_pipe_come_in_order_and_go_nowhere_else() {
    run(async || {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) =
            (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
        writer.write_all("first").await.unwrap();
        writer.write_all_vectored(["second", "third"]).await.unwrap();
        assert_eq!(reader.read_exact(vec![0; 5]).await.unwrap(), b"first");
        assert_eq!(reader.read_exact(vec![0; 3]).await.unwrap(), b"sec");
        let (count, buffers) = reader.read_vectored(vec![vec![0; 2], vec![0; 1]]).await.unwrap();
        assert_eq!((count, buffers), (3, vec![b"on".to_vec(), b"d".to_vec()]));
        for error in [
            reader.seek(SeekFrom::Start(0)).await.unwrap_err(),
            reader.stream_position().await.unwrap_err(),
            writer.rewind().await.unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), Some(libc::ESPIPE));
        }
        drop(writer);
        let mut text = "> ".to_owned();
        let count = reader.read_to_string(&mut text).await.unwrap();
        assert_eq!((count, text.as_str()), (5, "> third"));
        assert_eq!(reader.read(vec![0; 1]).await.unwrap().0, 0);
    });
}

#[test]
fn special_files_read_as_they_do_in_std() {
    run(async || {
        for path in
            ["/proc/cpuinfo", "/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"]
        {
            let Ok(expected) = std_fs::read(path) else {
                println!("skipped: no {path}");
                continue;
            };
            let file = File::open(path).await.unwrap();
            let content = rest(&file).await.unwrap();
            // The numbers in it change; the lines stay.
            let names = |content: &[u8]| -> Vec<String> {
                let text = String::from_utf8_lossy(content).into_owned();
                text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
            };
            assert_eq!(names(&content), names(&expected), "{path}");
            assert_eq!(names(&annulus::fs::read(path).await.unwrap()), names(&expected), "{path}");
            file.rewind().await.unwrap();
            // Piece by piece, each where the last one ended.
            let mut pieces = Vec::new();
            loop {
                let (count, piece) = file.read(Vec::with_capacity(7)).await.unwrap();
                if count == 0 {
                    break;
                }
                pieces.extend_from_slice(&piece);
            }
            assert_eq!(names(&pieces), names(&expected), "{path}");
        }
        let zero = File::open("/dev/zero").await.unwrap();
        assert_eq!(zero.read_exact(vec![1; 100]).await.unwrap(), vec![0; 100]);
        let random = File::open("/dev/urandom").await.unwrap();
        assert_ne!(random.read_exact(vec![0; 64]).await.unwrap(), vec![0; 64]);
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").await.unwrap();
        null.write_all(vec![1; 100]).await.unwrap();
        assert_eq!(null.read(vec![1; 100]).await.unwrap().0, 0);
        assert_eq!(rest(&null).await.unwrap(), b"");
        let full = OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        let error = full.write_all("content").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let directory = File::open("/").await.unwrap();
        let error = directory.read(vec![0; 10]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
        let error = rest(&directory).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        let error = directory.write_all("x").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn a_sparse_file_reads_as_zeroes_and_one_that_changes_as_far_as_it_is_there() {
    let scratch = scratch_dir();
    run(async || {
        let file = open(&scratch.path().join("file")).await;
        file.seek(SeekFrom::Start(1 << 20)).await.unwrap();
        file.write_all("end").await.unwrap();
        file.rewind().await.unwrap();
        let content = rest(&file).await.unwrap();
        assert_eq!(content.len(), (1 << 20) + 3);
        assert!(content[..1 << 20].iter().all(|byte| *byte == 0) && content.ends_with(b"end"));
        // It shrinks under the position, and grows again.
        file.set_len(10).await.unwrap();
        assert_eq!(file.read(vec![0; 10]).await.unwrap().0, 0);
        file.rewind().await.unwrap();
        let error = file.read_exact(vec![7; 11]).await.unwrap_err();
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::UnexpectedEof, 10));
        assert_eq!(file.stream_position().await.unwrap(), 10, "behind what the error carries");
        file.write_all_at("more", 10).await.unwrap();
        assert_eq!(rest(&file).await.unwrap(), b"more");
    });
}

#[test]
fn text_that_is_no_text_is_refused_and_the_string_comes_back() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, b"ab\xff").unwrap();
    run(async || {
        let file = File::open(&path).await.unwrap();
        let mut text = "kept".to_owned();
        let error = file.read_to_string(&mut text).await.unwrap_err();
        assert_eq!((error.kind(), text.as_str()), (ErrorKind::InvalidData, "kept"));
        assert_eq!(file.stream_position().await.unwrap(), 3);
        let directory = File::open("/").await.unwrap();
        let error = directory.read_to_string(&mut text).await.unwrap_err();
        assert_eq!((error.kind(), text.as_str()), (ErrorKind::IsADirectory, "kept"));
    });
}

#[test]
fn a_dropped_read_to_the_end_leaves_the_vector_and_the_bytes() {
    run(async || {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) =
            (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
        writer.write_all("come").await.unwrap();
        let (mut bytes, mut text) = (b"held".to_vec(), "held".to_owned());
        for _ in 0..3 {
            let mut read = Box::pin(reader.read_to_end(&mut bytes));
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(2).await;
            assert!(poll_in_task(&mut read).await.is_pending());
            drop(read);
            let mut read = Box::pin(reader.read_to_string(&mut text));
            assert!(poll_in_task(&mut read).await.is_pending());
            turns(2).await;
            drop(read);
        }
        assert_eq!((&bytes[..], text.as_str()), (&b"held"[..], "held"));
        drop(writer);
        assert_eq!(reader.read_to_end(&mut bytes).await.unwrap(), 4);
        assert_eq!(bytes, b"heldcome");
    });
}

#[test]
fn positions_that_no_file_can_have_are_refused_and_nothing_moves() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    std_fs::write(&path, pattern(100)).unwrap();
    run(async || {
        let file = File::open(&path).await.unwrap();
        file.seek(SeekFrom::Start(50)).await.unwrap();
        let mut std = std_fs::File::open(&path).unwrap();
        std.seek(SeekFrom::Start(50)).unwrap();
        for to in [
            SeekFrom::Current(-51),
            SeekFrom::Current(i64::MIN),
            SeekFrom::Current(i64::MAX),
            SeekFrom::End(-101),
            SeekFrom::End(i64::MIN),
            SeekFrom::End(i64::MAX),
            SeekFrom::Start(1 << 63),
            SeekFrom::Start(u64::MAX),
        ] {
            let (ours, expected) = (file.seek(to).await, std.seek(to));
            assert_same(&format!("{to:?}"), &ours, &expected);
            assert_eq!(ours.unwrap_err().kind(), ErrorKind::InvalidInput, "{to:?}");
            assert_eq!(file.stream_position().await.unwrap(), 50, "{to:?}");
        }
        assert_eq!(file.read_exact(vec![0; 1]).await.unwrap(), pattern(51)[50..]);
        let error = file.read(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "no room");
        assert!(file.as_fd().try_clone_to_owned().is_ok());
    });
}

/// A copy by the traits alone.
async fn copy_by_traits(mut from: impl AsyncRead, mut to: impl AsyncWrite) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let chunk = from.read_chunk().await?;
        if chunk.is_empty() {
            to.flush().await?;
            to.shutdown().await?;
            return Ok(total);
        }
        total += to.write_all(chunk).await?.len() as u64;
    }
}

#[test]
fn a_file_is_a_reader_and_a_writer_of_the_traits() {
    let scratch = scratch_dir();
    run(async || {
        let file = open(&scratch.path().join("file")).await;
        file.write_all(pattern(200_000)).await.unwrap();
        file.seek(SeekFrom::Start(1000)).await.unwrap();
        let copy = open(&scratch.path().join("copy")).await;
        assert_eq!(copy_by_traits(&file, &copy).await.unwrap(), 199_000);
        assert_eq!(copy.stream_position().await.unwrap(), 199_000);
        file.seek(SeekFrom::Start(199_990)).await.unwrap();
        let mut bytes = b"head".to_vec();
        assert_eq!(AsyncRead::read_to_end(&mut &file, &mut bytes).await.unwrap(), 10);
        assert_eq!(bytes[4..], pattern(200_000)[199_990..]);
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) =
            (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
        writer.write_all("through").await.unwrap();
        drop(writer);
        copy.rewind().await.unwrap();
        assert!(AsyncRead::lends_chunks(&reader) && !AsyncRead::lends_chunks(&copy));
        assert_eq!(copy_by_traits(reader, &copy).await.unwrap(), 7);
        assert_eq!(copy.read_exact_at(vec![0; 7], 0).await.unwrap(), b"through");
    });
}
