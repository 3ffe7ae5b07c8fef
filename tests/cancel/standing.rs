//! Dropped reads and writes where a file stands: nothing is lost, nothing lands later, and the
//! position is that of what was handed over or written.

use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;

use annulus::buf::IoBuf;
use annulus::fs::{File, OpenOptions};

use crate::common::{Random, run, scratch_dir, seed, size};
use crate::{start_and_drop, turn};

#[test]
fn dropped_reads_lose_no_byte_of_a_file_and_move_nothing() {
    let rounds = size(300).min(20_000) as usize;
    let random = Random::new(seed());
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..100_000u32).map(|index| (index % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).await.unwrap();
        let mut position = 0;
        for _ in 0..rounds {
            let (length, turns) = (1 + random.below(999), random.below(4));
            let expected = &content[position..];
            let buffer = || vec![0; length].slice(..);
            let read = match random.below(5) {
                0 => start_and_drop(file.read(buffer()), turns)
                    .await
                    .map(|read| read.unwrap().1.into_inner()),
                1 => start_and_drop(file.read_exact(buffer()), turns)
                    .await
                    .map(|read| read.unwrap_or_else(|error| error.into_buffer()))
                    .map(|read| read[..].to_vec()),
                2 => start_and_drop(file.read_vectored(vec![buffer()]), turns)
                    .await
                    .map(|read| read.unwrap())
                    .map(|(count, buffers)| buffers[0][..count].to_vec()),
                3 => {
                    let mut all = Vec::new();
                    let read = start_and_drop(Box::pin(file.read_to_end(&mut all)), turns).await;
                    read.map(|read| assert_eq!(read.unwrap(), all.len())).map(|()| all)
                }
                _ => {
                    // Somebody waits to the end.
                    let (count, read) = file.read(buffer()).await.unwrap();
                    Some(read[..count].to_vec())
                }
            };
            if let Some(read) = read {
                assert!(expected.starts_with(&read), "at {position}");
                position += read.len();
            }
            assert_eq!(file.stream_position().await.unwrap(), position as u64);
            if position == content.len() {
                position =
                    file.seek(SeekFrom::Start(random.below(1000) as u64)).await.unwrap() as usize;
            }
        }
        assert!(file.quiesce().await.is_empty(), "a dropped read is no write");
    });
}

#[test]
fn dropped_reads_of_a_pipe_leave_their_bytes_to_the_next() {
    let rounds = size(300).min(20_000) as usize;
    let random = Random::new(seed());
    run(async || {
        let (reader, writer) = io::pipe().unwrap();
        let reader = File::from(OwnedFd::from(reader));
        let writer = File::from(OwnedFd::from(writer));
        let (mut sent, mut received) = (0u64, 0u64);
        let mut check = |bytes: &[u8]| {
            for byte in bytes {
                assert_eq!(*byte, received as u8, "byte {received}");
                received += 1;
            }
        };
        for _ in 0..rounds {
            let length = 1 + random.below(40);
            writer
                .write_all(
                    (0..length)
                        .map(|_| {
                            sent += 1;
                            (sent - 1) as u8
                        })
                        .collect::<Vec<_>>(),
                )
                .await
                .unwrap();
            let turns = random.below(3);
            let room = 1 + random.below(60);
            match random.below(4) {
                0 => {
                    let mut bytes = b"before".to_vec();
                    let read = Box::pin(reader.read_to_end(&mut bytes));
                    assert!(start_and_drop(read, turns).await.is_none());
                    assert_eq!(bytes, b"before");
                }
                1 => {
                    if let Some(read) =
                        start_and_drop(reader.read_exact(vec![0; room].slice(..)), turns).await
                    {
                        check(&read.unwrap());
                    }
                }
                2 => {
                    if let Some(read) =
                        start_and_drop(reader.read_vectored(vec![vec![0; room]]), turns).await
                    {
                        let (count, buffers) = read.unwrap();
                        check(&buffers[0][..count]);
                    }
                }
                _ => {
                    let (_, buffer) = reader.read(vec![0; room]).await.unwrap();
                    check(&buffer);
                }
            }
        }
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        check(&rest);
        assert_eq!(received, sent);
    });
}

/// What is written is a prefix of each dropped write, in order, without a gap: the position counts
/// what was written.
async fn write_and_drop(appends: bool, rounds: usize, random: &Random) {
    let directory = scratch_dir();
    let path = directory.path().join("file");
    let mut options = OpenOptions::new();
    let file = options.write(!appends).append(appends).create(true).open(&path).await.unwrap();
    let mut expected: Vec<(u8, usize, bool)> = Vec::new();
    for round in 0..rounds {
        let (mark, length) = ((round % 255 + 1) as u8, 1 + random.below(10_000));
        let (turns, data) = (random.below(3), vec![mark; length]);
        let ended = match random.below(5) {
            0 => start_and_drop(file.write(data), turns).await.map(|written| written.unwrap().0),
            1 => start_and_drop(file.write_all(data), turns).await.map(|_| length),
            2 => start_and_drop(file.write_vectored(vec![data]), turns)
                .await
                .map(|written| written.unwrap().0),
            3 => start_and_drop(file.write_all_vectored(vec![data]), turns).await.map(|_| length),
            _ => Some(file.write_all(data).await.map(|_| length).unwrap()),
        };
        expected.push((mark, ended.unwrap_or(length), ended.is_some()));
        if random.below(8) == 0 {
            // Of those before, each is written now, or will never be.
            file.sync_data().await.unwrap();
            assert_eq!(
                file.stream_position().await.unwrap(),
                std::fs::metadata(&path).unwrap().len()
            );
            turn().await;
        }
    }
    let position = file.stream_position().await.unwrap();
    let content = std::fs::read(&path).unwrap();
    assert_eq!(position, content.len() as u64, "no gap and nothing behind");
    let mut rest = &content[..];
    for (mark, length, is_whole) in expected {
        let count = rest.iter().take_while(|byte| **byte == mark).count();
        assert!(count == length || (!is_whole && count < length), "{count} of {length} of {mark}");
        rest = &rest[count..];
    }
    assert!(rest.is_empty());
}

#[test]
fn dropped_writes_land_in_order_or_not_at_all_and_the_position_counts_them() {
    let rounds = size(300).min(20_000) as usize;
    let random = Random::new(seed());
    run(async || {
        write_and_drop(false, rounds, &random).await;
        write_and_drop(true, rounds, &random).await;
    });
}

#[test]
fn a_seek_waits_for_a_dropped_write_and_a_dropped_seek_moves_nothing() {
    let rounds = size(100).min(5000) as usize;
    run(async || {
        let directory = scratch_dir();
        let file = File::create_new(directory.path().join("file")).await.unwrap();
        for round in 0..rounds {
            assert!(start_and_drop(file.write_all(vec![1; 5000]), round % 3).await.is_none());
            let seek = Box::pin(file.seek(SeekFrom::Start(7)));
            let ended = start_and_drop(seek, round % 2).await;
            if ended.is_none() {
                file.seek(SeekFrom::Start(7)).await.unwrap();
            }
            assert_eq!(file.stream_position().await.unwrap(), 7);
            file.write_all("x").await.unwrap();
            assert_eq!(file.read_exact_at(vec![0; 1], 7).await.unwrap(), b"x");
            file.set_len(0).await.unwrap();
            file.rewind().await.unwrap();
        }
    });
}

#[test]
fn a_file_that_goes_with_its_dropped_reads_and_writes_is_not_asked_where_it_stood() {
    let rounds = size(100).min(2_000) as usize;
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        for round in 0..rounds {
            let file = OpenOptions::new().read(true).write(true).open(&path).await.unwrap();
            let turns = round / 5 % 3;
            // Operation and file are dropped while the kernel has the one.
            match round % 5 {
                0 => drop(start_and_drop(file.read(vec![0; 5000]), turns).await),
                1 => drop(start_and_drop(file.read_exact(vec![0; 200_000]), turns).await),
                2 => drop(start_and_drop(file.read_vectored(vec![vec![0; 5000]; 2]), turns).await),
                3 => drop(start_and_drop(file.write(vec![8; 1 << 20]), turns).await),
                _ => drop(
                    start_and_drop(file.write_all_vectored(vec![vec![9; 1 << 19]; 2]), turns).await,
                ),
            }
            drop(file);
            turn().await;
        }
        // The next runs on the descriptors that were closed.
        let file = File::open(&path).await.unwrap();
        assert!(!file.read(vec![0; 10]).await.unwrap().1.is_empty());
    });
}

#[test]
fn a_direct_file_that_goes_with_a_dropped_write_is_not_asked_for_its_alignment() {
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        for turns in 0..3 {
            let mut direct = OpenOptions::new();
            direct.write(true).create(true).custom_flags(libc::O_DIRECT);
            let file = match direct.open(&path).await {
                Ok(file) => file,
                Err(error) => return println!("skipped: no O_DIRECT here ({error})"),
            };
            drop(start_and_drop(file.write_at(vec![1; 100], 1), turns).await);
            drop(start_and_drop(file.write(vec![1; 100]), turns).await);
            drop(file);
            turn().await;
        }
    });
}
