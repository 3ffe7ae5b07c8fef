//! Transfers around the page cache: many at once, cut off, and refused; and on the software ring under filters, where threads make them.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use annulus::buf::AlignedBuffer;
use annulus::fs::File;
use annulus::{Builder, RingKind};
use futures_util::future::join_all;

use crate::common::{forbid, in_own_process, run, scratch_dir};

const BLOCK: usize = 4096;
const BLOCKS: u8 = 40;

fn block(content: u8) -> AlignedBuffer {
    let mut block = AlignedBuffer::with_page_alignment(BLOCK);
    block.resize(BLOCK, content);
    block
}

async fn writes_and_reads(directory: &Path) {
    let mut options = File::options();
    options.read(true).write(true).create(true).custom_flags(libc::O_DIRECT);
    let file = match options.open(directory.join("direct")).await {
        Ok(file) => file,
        Err(error) => return println!("skipped: the file system refuses O_DIRECT ({error})"),
    };
    let offset = |number: u8| u64::from(number) * BLOCK as u64;
    let written = join_all((0..BLOCKS).map(|number| file.write_at(block(number), offset(number)))).await;
    assert!(written.into_iter().all(|written| written.unwrap().0 == BLOCK));
    for _ in 0..3 {
        let read = join_all((0..BLOCKS).map(|number| file.read_at(block(99), offset(number)))).await;
        for (number, read) in (0..BLOCKS).zip(read) {
            assert_eq!(read.unwrap().1[..], block(number)[..]);
        }
    }
    let two = vec![block(0), block(0)];
    let (count, two) = file.read_vectored_at(two, offset(BLOCKS - 3)).await.unwrap();
    assert_eq!((count, &two[1][..]), (2 * BLOCK, &block(BLOCKS - 2)[..]));
    let (count, rest) = file.read_at(AlignedBuffer::with_page_alignment(2 * BLOCK), offset(BLOCKS - 1)).await.unwrap();
    assert_eq!((count, &rest[..]), (BLOCK, &block(BLOCKS - 1)[..]), "cut off by the end of the file");

    // What does not fit the device some file systems refuse, and others read through the page cache.
    let std = std::fs::File::from(file.as_fd().try_clone_to_owned().unwrap());
    let expected = std.read_at(&mut block(0), 1).map_err(|error| error.raw_os_error());
    let odd = file.read_at(block(0), 1).await.map(|(count, _)| count).map_err(|error| error.raw_os_error());
    assert_eq!(odd, expected);
}

#[test]
fn many_direct_transfers_at_once_each_bring_their_own_block() {
    let scratch = scratch_dir();
    run(async || writes_and_reads(scratch.path()).await);
}

#[test]
fn threads_of_the_software_ring_make_direct_transfers_where_one_of_the_calls_for_them_is_forbidden() {
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
