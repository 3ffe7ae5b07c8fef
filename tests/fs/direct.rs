//! Transfers around the page cache: many at once, cut off, and refused; and on the software ring
//! under filters, where threads make them.

use std::ffi::CString;
use std::io::{ErrorKind, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::AlignedBuffer;
use annulus::fs::File;
use annulus::{Builder, RingKind};
use futures_util::future::join_all;

use crate::common::{forbid, in_own_process, run, scratch_dir};

pub(crate) const BLOCK: usize = 4096;
pub(crate) const BLOCKS: u8 = 40;

pub(crate) fn block(content: u8) -> AlignedBuffer {
    let mut block = AlignedBuffer::with_page_alignment(BLOCK);
    block.resize(BLOCK, content);
    block
}

/// Every block of a file, all at once, and what is at its end and beside the blocks.
pub(crate) async fn writes_and_reads(directory: &Path) {
    let Some(file) = open_direct(&directory.join("direct")).await else { return };
    let offset = |number: u8| u64::from(number) * BLOCK as u64;
    let written =
        join_all((0..BLOCKS).map(|number| file.write_at(block(number), offset(number)))).await;
    assert!(written.into_iter().all(|written| written.unwrap().0 == BLOCK));
    for _ in 0..3 {
        let read =
            join_all((0..BLOCKS).map(|number| file.read_at(block(99), offset(number)))).await;
        for (number, read) in (0..BLOCKS).zip(read) {
            assert_eq!(read.unwrap().1[..], block(number)[..]);
        }
    }
    let two = vec![block(0), block(0)];
    let (count, two) = file.read_vectored_at(two, offset(BLOCKS - 3)).await.unwrap();
    assert_eq!((count, &two[1][..]), (2 * BLOCK, &block(BLOCKS - 2)[..]));
    let (count, rest) = file
        .read_at(AlignedBuffer::with_page_alignment(2 * BLOCK), offset(BLOCKS - 1))
        .await
        .unwrap();
    assert_eq!(
        (count, &rest[..]),
        (BLOCK, &block(BLOCKS - 1)[..]),
        "cut off by the end of the file"
    );

    // What does not fit the device some file systems refuse, and others read through the page
    // cache.
    let std = std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap());
    let expected = std.read_at(&mut block(0), 1).map_err(|error| error.kind());
    let odd = file.read_at(block(0), 1).await.map(|(count, _)| count).map_err(|error| error.kind());
    assert_eq!(odd, expected);
}

#[test]
fn many_direct_transfers_at_once_each_bring_their_own_block() {
    let scratch = scratch_dir();
    run(async || writes_and_reads(scratch.path()).await);
}

#[test]
fn threads_of_the_software_ring_make_direct_transfers_where_one_of_the_calls_for_them_is_forbidden()
{
    in_own_process(|| {
        // In the reverse of the order in which they are needed, since a filter stays.
        for call in [libc::SYS_io_submit, libc::SYS_io_getevents, libc::SYS_io_setup] {
            forbid(call, None, libc::EPERM);
            let scratch = scratch_dir();
            let runtime = Builder::new().ring(RingKind::Software).build().unwrap();
            runtime.block_on(writes_and_reads(scratch.path()));
        }
    });
}

/// Opens a file for direct transfers, if its file system takes them.
pub(crate) async fn open_direct(path: &Path) -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).custom_flags(libc::O_DIRECT);
    options
        .open(path)
        .await
        .map_err(|error| println!("skipped: the file system refuses O_DIRECT ({error})"))
        .ok()
}

/// Those of ext4 and xfs: both begin direct reads without waiting.
const KNOWN_FILE_SYSTEMS: [i64; 2] = [0xef53, 0x5846_5342];

#[test]
fn the_software_ring_needs_no_call_that_waits_for_direct_reads() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("direct");
        std::fs::write(&path, (0..BLOCKS).flat_map(|number| [number; BLOCK]).collect::<Vec<u8>>())
            .unwrap();
        std::fs::File::open(&path).unwrap().sync_all().unwrap();
        if !KNOWN_FILE_SYSTEMS.contains(&file_system(&path)) {
            return println!(
                "skipped: it is not known whether this file system begins direct reads without waiting"
            );
        }
        Builder::new().ring(RingKind::Software).build().unwrap().block_on(async {
            let Some(file) = open_direct(&path).await else { return };
            for call in [libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2] {
                forbid(call, None, libc::EPERM);
            }
            let reads =
                (0..BLOCKS).map(|number| file.read_at(block(99), u64::from(number) * BLOCK as u64));
            for (number, read) in (0..BLOCKS).zip(join_all(reads).await) {
                assert_eq!(read.unwrap().1[..], block(number)[..]);
            }
        });
    });
}

fn file_system(path: &Path) -> i64 {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a zero, and there is room for the answer.
    assert_eq!(unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) }, 0);
    // SAFETY: the call has filled it in.
    unsafe { answer.assume_init() }.f_type
}

/// Begins hundreds of transfers of a file of 64 blocks of sevens, and does not await them: some are
/// timed out, the others dropped with their tasks, in each round after another while.
pub(crate) async fn drops_transfers(path: &Path, round: u32) {
    let Some(file) = open_direct(path).await.map(Rc::new) else { return };
    for number in 0..300 {
        let (file, offset) = (Rc::clone(&file), number % 64 * BLOCK as u64);
        drop(annulus::spawn(async move {
            if number.is_multiple_of(5) {
                return drop(file.write_at(block(7), offset).await);
            }
            let read = file.read_at(block(99), offset);
            let read = if number % 3 == 0 {
                read.timeout(Duration::from_micros(100)).await
            } else {
                read.await
            };
            if let Ok((_, content)) = read {
                assert_eq!(content[..], block(7)[..]);
            }
        }));
    }
    for _ in 0..round % 4 {
        annulus::yield_now().await;
    }
    if round.is_multiple_of(3) {
        annulus::time::sleep(Duration::from_micros(300)).await;
    }
}

#[test]
fn direct_transfers_in_flight_are_dropped_with_their_futures_and_with_their_runtime() {
    let scratch = scratch_dir();
    let path = scratch.path().join("direct");
    std::fs::write(&path, vec![7; 64 * BLOCK]).unwrap();
    for round in 0..12 {
        run(async || drops_transfers(&path, round).await);
    }
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn a_pipe_with_the_number_of_a_direct_file_or_with_its_flag_is_read_as_a_pipe() {
    in_own_process(|| {
        let scratch = scratch_dir();
        Builder::new().ring(RingKind::Software).build().unwrap().block_on(async {
            let Some(file) = open_direct(&scratch.path().join("direct")).await else { return };
            let content = file.write_all_at(block(1), 0).await.unwrap();
            drop(file.read_at(content, 0).await.unwrap());
            // Closed behind the ring's back.
            drop(file.into_std().await);
            for flags in [0, libc::O_DIRECT] {
                let mut ends = [0; 2];
                // SAFETY: there is room for two numbers.
                assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC) }, 0);
                // SAFETY: the call has just made them, and nobody else knows them.
                let [reader, mut writer] =
                    ends.map(|end| unsafe { std::fs::File::from_raw_fd(end) });
                let reader = File::from(reader);
                let late = reader
                    .read_at(vec![0; 10], 0)
                    .timeout(Duration::from_millis(1))
                    .await
                    .unwrap_err();
                assert_eq!(late.kind(), ErrorKind::TimedOut);
                writer.write_all(b"in time").unwrap();
                assert_eq!(reader.read_at(vec![0; 10], 0).await.unwrap().1, b"in time");
            }
        });
    });
}
