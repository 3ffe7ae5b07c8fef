//! Pools of buffers that the kernel knows: who gets one and when, what is read into them, and what
//! becomes of the memory.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::pin::pin;

use annulus::buf::{AlignedBuffer, BufferPool, IoBuf, IoBufMut, PoolBuffer};
use annulus::fs::{File, OpenOptions};
use annulus::{Builder, RingKind};

use crate::common::{
    Random, become_ordinary, in_own_process, poll_in_task, poll_once, quiet, run, runtime,
    scratch_dir, seed, turns,
};
use crate::pattern;

const BLOCK: usize = 4096;

/// A file around the page cache, and another descriptor of it through the page cache; none where
/// the file system refuses.
async fn direct_and_cached(path: &std::path::Path, content: &[u8]) -> Option<[File; 2]> {
    std_fs::write(path, content).unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let cached = options.open(path).await.unwrap();
    match options.custom_flags(libc::O_DIRECT).open(path).await {
        Ok(direct) => Some([direct, cached]),
        Err(error) => {
            println!("skipped: the file system refuses O_DIRECT ({error})");
            None
        }
    }
}

/// Memory that the kernel has pinned for this process, in bytes.
fn pinned() -> usize {
    let status = std_fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPin")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn buffers_go_out_empty_and_come_back() {
    run(async || {
        let pool = BufferPool::new(2, 100);
        assert_eq!((pool.count(), pool.buffer_size(), pool.available()), (2, 100, 2));
        let mut one = pool.try_acquire().unwrap();
        assert_eq!((one.len(), one.capacity(), one.as_ptr() as usize % BLOCK), (0, 100, 0));
        one.extend_from_slice(b"some content");
        one.truncate(4);
        one.resize(6, b'!');
        one[0] = b'S';
        assert_eq!(&one[..], b"Some!!");
        let two = pool.acquire().await;
        assert_eq!((pool.available(), pool.try_acquire().is_none()), (0, true));
        drop(one);
        let one = pool.try_acquire().unwrap();
        assert_eq!(one.len(), 0, "nothing is left of what it held");
        drop((one, two));
        assert_eq!(pool.available(), 2);
    });
}

#[test]
fn who_waits_for_a_buffer_is_served_in_order() {
    run(async || {
        let pool = BufferPool::new(1, 100);
        let only = pool.acquire().await;
        let mut first = pin!(pool.acquire());
        let mut second = Box::pin(pool.acquire());
        let mut third = pin!(pool.acquire());
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(third.as_mut()).is_pending());
        drop(only);
        assert!(pool.try_acquire().is_none(), "it is the first one's");
        assert!(poll_once(third.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        drop(first.await);
        // The second has it now, and goes without taking it.
        drop(second);
        let only = third.await;
        // One that only waited goes without a trace.
        let mut fourth = Box::pin(pool.acquire());
        assert!(poll_once(fourth.as_mut()).is_pending());
        drop(fourth);
        drop(only);
        assert_eq!(pool.available(), 1);
    });
}

#[test]
fn tasks_that_wait_for_buffers_all_get_their_turn() {
    run(async || {
        let pool = BufferPool::new(3, 64);
        let random = Random::new(seed());
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (pool, steps, gives_up) = (pool.clone(), random.below(4), random.chance(5));
                annulus::spawn(async move {
                    let mut acquire = pool.acquire();
                    if poll_in_task(&mut acquire).await.is_pending() && gives_up {
                        return;
                    }
                    drop(acquire);
                    let buffer = pool.acquire().await;
                    turns(steps).await;
                    drop(buffer);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(pool.available(), 3);
    });
}

/// Writes and reads with every kind of operation, and compares with what std sees.
async fn transfers(file: &File, path: &std::path::Path, pool: &BufferPool) {
    let content = pattern(4 * BLOCK);
    let mut buffer = pool.acquire().await;
    buffer.extend_from_slice(&content);
    let buffer = file.write_all_at(buffer, BLOCK as u64).await.unwrap();
    let (count, mut buffer) = file.write_at(buffer, 8 * BLOCK as u64).await.unwrap();
    assert_eq!(count, 4 * BLOCK);
    let std = std_fs::File::open(path).unwrap();
    let mut seen = vec![0; 4 * BLOCK];
    for offset in [1, 8] {
        std.read_exact_at(&mut seen, offset * BLOCK as u64).unwrap();
        assert!(seen == content, "written at block {offset}");
    }
    let slice = file.write_all_at(buffer.slice(BLOCK..2 * BLOCK), 0).await.unwrap();
    buffer = slice.into_inner();
    std.read_exact_at(&mut seen[..BLOCK], 0).unwrap();
    assert!(seen[..BLOCK] == content[BLOCK..2 * BLOCK]);

    buffer.clear();
    let (count, buffer) = file.read_at(buffer, BLOCK as u64).await.unwrap();
    assert!(count == 4 * BLOCK && buffer[..] == content[..]);
    let mut buffer = file.read_exact_at(buffer, 8 * BLOCK as u64).await.unwrap();
    assert!(buffer[..] == content[..]);
    buffer.truncate(BLOCK);
    let error = file.read_exact_at(buffer.spare(), 10 * BLOCK as u64).await.unwrap_err();
    assert_eq!((error.kind(), error.transferred()), (ErrorKind::UnexpectedEof, 2 * BLOCK));
    let buffer = error.into_buffer().into_inner();
    assert!(
        buffer[..BLOCK] == content[..BLOCK] && buffer[BLOCK..] == content[2 * BLOCK..],
        "kept, and appended to"
    );
}

#[test]
fn every_operation_reads_and_writes_pool_buffers() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let Some(files) = direct_and_cached(&path, &pattern(12 * BLOCK)).await else { return };
        let pool = BufferPool::new(1, 4 * BLOCK);
        println!("{pool:?}");
        for file in files {
            transfers(&file, &path, &pool).await;
        }
        assert_eq!(pool.available(), 1);
    });
}

#[test]
fn vectored_operations_take_pool_buffers_too() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        std_fs::write(&path, pattern(3 * BLOCK)).unwrap();
        let file = File::open(&path).await.unwrap();
        let pool = BufferPool::new(3, BLOCK);
        let buffers: Vec<PoolBuffer> = std::iter::from_fn(|| pool.try_acquire()).collect();
        let (count, buffers) = file.read_vectored_at(buffers, 0).await.unwrap();
        assert_eq!(count, 3 * BLOCK);
        assert!(buffers.iter().flat_map(|buffer| buffer.to_vec()).eq(pattern(3 * BLOCK)));
    });
}

#[test]
fn buffers_of_dropped_reads_come_back_when_the_kernel_is_done() {
    const COUNT: usize = 16;
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let content = pattern(64 * BLOCK);
        let Some([direct, _]) = direct_and_cached(&path, &content).await else { return };
        let pool = BufferPool::new(COUNT, BLOCK);
        let random = Random::new(seed());
        for _ in 0..50 {
            let mut reads: Vec<_> = Vec::new();
            while let Some(buffer) = pool.try_acquire() {
                let mut read = direct.read_at(buffer, (random.below(64) * BLOCK) as u64);
                assert!(poll_in_task(&mut read).await.is_pending());
                reads.push(read);
            }
            turns(random.below(2)).await;
            drop(reads);
            // A buffer that has come back is the kernel's no more.
            let mut buffer = pool.acquire().await;
            buffer.resize(BLOCK, 0x5a);
            let block = random.below(64);
            let other = direct
                .read_exact_at(AlignedBuffer::with_page_alignment(BLOCK), (block * BLOCK) as u64)
                .await
                .unwrap();
            assert!(other[..] == content[block * BLOCK..(block + 1) * BLOCK]);
            assert!(buffer.iter().all(|byte| *byte == 0x5a));
            drop(buffer);
            quiet().await;
            assert_eq!(pool.available(), COUNT);
        }
    });
}

#[test]
fn a_pool_and_its_buffers_may_outlive_the_runtime_and_serve_another() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(4 * BLOCK);
    let first = runtime();
    let found = first.block_on(async {
        let files = direct_and_cached(&path, &content).await?;
        let pool = BufferPool::new(2, BLOCK);
        let buffer = pool.acquire().await;
        let (count, buffer) = files[0].read_at(buffer, 0).await.unwrap();
        assert_eq!(count, BLOCK);
        Some((files, pool, buffer))
    });
    let Some(([direct, cached], pool, buffer)) = found else { return };
    // Another runtime beside it, after it, and one more after the pool.
    let second = runtime();
    let buffer =
        second.block_on(async { direct.read_exact_at(buffer, BLOCK as u64).await.unwrap() });
    assert!(buffer[..] == content[BLOCK..2 * BLOCK]);
    drop(first);
    let buffer = second.block_on(async { direct.read_exact_at(buffer, 0).await.unwrap() });
    drop(pool);
    let third = runtime();
    let buffer =
        third.block_on(async { cached.read_exact_at(buffer, 2 * BLOCK as u64).await.unwrap() });
    assert!(buffer[..] == content[2 * BLOCK..3 * BLOCK]);
    drop((second, third));
    drop(buffer);
}

#[test]
fn outside_a_runtime_a_pool_is_plain_memory() {
    let pool = BufferPool::new(1, BLOCK);
    assert!(!pool.is_registered());
    assert_eq!(pool.refusal().unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(BufferPool::registered(1, BLOCK).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut acquire = pin!(pool.acquire());
    assert!(poll_once(acquire.as_mut()).is_ready());
}

/// As `block_on`, on the kernel's ring: the software ring registers nothing, and so refuses
/// nothing.
fn run_on_kernel(test: impl Future<Output = ()>) {
    Builder::new().ring(RingKind::Kernel).build().unwrap().block_on(test);
}

#[test]
fn memory_is_pinned_while_a_pool_or_one_of_its_buffers_lives() {
    in_own_process(|| {
        run_on_kernel(async {
            let before = pinned();
            let (one, two) = (BufferPool::new(10, BLOCK), BufferPool::new(6, 2 * BLOCK));
            if let Some(refusal) = one.refusal().or(two.refusal()) {
                return println!("skipped: {refusal}");
            }
            assert_eq!(pinned() - before, 22 * BLOCK);
            drop(one);
            let buffer = two.acquire().await;
            drop(two);
            assert_eq!(pinned() - before, 12 * BLOCK, "a buffer is out");
            drop(buffer);
            assert_eq!(pinned(), before);
            for round in 0..100 {
                let pools: io::Result<Vec<_>> =
                    (1..10).map(|count| BufferPool::registered(count, BLOCK)).collect();
                if let Err(refusal) = &pools {
                    // Other processes of this user take from the same limit. What was registered
                    // before the refusal goes all the same.
                    assert_eq!(refusal.kind(), ErrorKind::OutOfMemory, "{refusal}");
                }
                drop(pools);
                assert_eq!(pinned(), before, "round {round}");
            }
        });
    });
}

#[test]
fn without_locked_memory_a_pool_is_plain_and_says_why() {
    in_own_process(|| {
        become_ordinary(64 << 10);
        let scratch = tempfile::tempdir().unwrap();
        run_on_kernel(async {
            let before = pinned();
            let pool = BufferPool::new(64, BLOCK);
            assert!(!pool.is_registered());
            let refusal = pool.refusal().unwrap();
            assert_eq!(refusal.kind(), ErrorKind::OutOfMemory, "{refusal:?}");
            assert!(
                refusal.to_string().contains("RLIMIT_MEMLOCK, which is 65536 bytes"),
                "{refusal}"
            );
            assert_eq!(
                BufferPool::registered(64, BLOCK).unwrap_err().kind(),
                ErrorKind::OutOfMemory
            );
            assert_eq!(pinned(), before, "nothing of it stays pinned");
            let file = scratch.path().join("file");
            annulus::fs::write(&file, "content").await.unwrap();
            let (count, buffer) =
                File::open(&file).await.unwrap().read_at(pool.acquire().await, 0).await.unwrap();
            assert_eq!(&buffer[..count], b"content");
        });
    });
}

#[test]
fn a_full_table_makes_a_plain_pool_and_has_room_again_later() {
    const PLACES: usize = 1 << 14;
    in_own_process(|| {
        run_on_kernel(async {
            let mut pools: Vec<_> = (1..PLACES).map(|_| BufferPool::new(1, 16)).collect();
            if let Some(refusal) = pools.iter().find_map(|pool| pool.refusal()) {
                return println!("skipped: {refusal}");
            }
            let last = BufferPool::registered(10, BLOCK).unwrap();
            let refused = BufferPool::new(1, BLOCK);
            assert_eq!(
                refused.refusal().unwrap().kind(),
                ErrorKind::InvalidInput,
                "{:?}",
                refused.refusal()
            );
            assert_eq!(refused.acquire().await.capacity(), BLOCK, "it works all the same");
            pools.pop();
            assert!(BufferPool::new(1000, BLOCK).is_registered());
            drop(last);
        });
    });
}

#[test]
fn the_buffers_of_a_pool_are_aligned_and_do_not_overlap() {
    for size in [1, 512, BLOCK, 3 * BLOCK + 1] {
        run(async || {
            let pool = BufferPool::new(20, size);
            let mut buffers: Vec<_> = (0..20).map(|_| pool.try_acquire().unwrap()).collect();
            for (number, buffer) in buffers.iter_mut().enumerate() {
                assert_eq!((buffer.capacity(), buffer.as_ptr() as usize % BLOCK), (size, 0));
                buffer.resize(size, number as u8);
            }
            for (number, buffer) in buffers.iter().enumerate() {
                assert!(buffer.iter().all(|byte| *byte == number as u8));
            }
        });
    }
}

#[test]
fn pools_without_buffers_or_room_are_no_trap() {
    run(async || {
        let none = BufferPool::new(0, BLOCK);
        assert!(none.try_acquire().is_none() && !none.is_registered());
        let mut acquire = Box::pin(none.acquire());
        assert!(poll_once(acquire.as_mut()).is_pending());
        drop(acquire);
        let empty = BufferPool::new(1, 0);
        let refusal = empty.refusal().unwrap();
        assert!(
            matches!(refusal.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported),
            "{refusal:?}"
        );
        let file = File::open("/dev/zero").await.unwrap();
        let error = file.read_at(empty.acquire().await, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        drop(error);
        assert_eq!(empty.available(), 1, "the buffer came with the error");
    });
}
