//! Pipelined writers: what ends up in the file, how many writes are in flight, errors, drops.

use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;

use annulus::buf::{AlignedBuffer, IoBuf};
use annulus::fs::{Durability, File};
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};

use crate::common::{Pool, Random, in_own_process, quiet, run, run_here, scratch_dir, seed, turns};
use crate::pattern;

const CHUNK: usize = 8192;
const EVERY: [Durability; 3] = [Durability::None, Durability::Data, Durability::All];

async fn create(path: &Path, flags: i32) -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).custom_flags(flags);
    let created = options.open(path).await;
    created.map_err(|error| println!("skipped: the file system refuses it ({error})")).ok()
}

#[test]
fn buffers_of_any_length_end_up_one_behind_the_other() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let random = Random::new(seed());
    run(async || {
        for flags in [0, libc::O_DIRECT] {
            for (round, start) in [0, 0, 4096, 1 << 20].into_iter().enumerate() {
                let Some(file) = create(&path, flags).await else { return };
                let lengths: Vec<usize> = (0..30)
                    .map(|_| match random.below(4) {
                        0 => random.below(20),
                        1 => random.below(100_000),
                        2 => 4096 * random.below(40),
                        _ => 4096 * random.below(40) + random.below(4096),
                    })
                    .collect();
                let content = pattern(lengths.iter().sum());
                let mut sink = file.sink_at(start).depth(1 + random.below(6));
                let mut end = 0;
                for length in lengths {
                    let mut buffer = AlignedBuffer::new(length, if round == 1 { 1 } else { 4096 });
                    buffer.extend_from_slice(&content[end..end + length]);
                    sink.write(buffer).await.unwrap();
                    end += length;
                }
                let written = sink.finish(EVERY[round % 3]).await.unwrap();
                assert_eq!(written, end as u64);
                let found = std::fs::read(&path).unwrap();
                assert_eq!(found.len(), start as usize + end);
                assert!(found[start as usize..] == content);
                assert!(found[..start as usize].iter().all(|byte| *byte == 0));
                if flags != 0 {
                    assert!(is_direct(&file), "as before");
                }
            }
        }
    });
}

fn is_direct(file: &File) -> bool {
    // SAFETY: the call takes no memory.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) & libc::O_DIRECT != 0 }
}

#[test]
fn what_stands_before_and_behind_in_the_file_stays() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    run(async || {
        for flags in [0, libc::O_DIRECT] {
            std::fs::write(&path, vec![b'.'; 9 * CHUNK + 1]).unwrap();
            let opened = File::options().write(true).custom_flags(flags).open(&path).await;
            let Ok(file) = opened else { return println!("skipped: no O_DIRECT here") };
            let mut sink = file.sink_at(CHUNK as u64);
            sink.write(vec![b'x'; CHUNK + 77]).await.unwrap();
            assert_eq!(sink.finish(Durability::Data).await.unwrap(), CHUNK as u64 + 77);
            let expected =
                [vec![b'.'; CHUNK], vec![b'x'; CHUNK + 77], vec![b'.'; 7 * CHUNK + 1 - 77]]
                    .concat();
            assert!(std::fs::read(&path).unwrap() == expected);
        }
    });
}

#[test]
fn a_direct_sink_that_does_not_start_at_a_block_names_the_alignment() {
    let scratch = scratch_dir();
    run(async || {
        let Some(file) = create(&scratch.path().join("file"), libc::O_DIRECT).await else { return };
        let mut sink = file.sink_at(1);
        let error = sink.write(vec![0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains("O_DIRECT") && (text.contains("512") || text.contains("4096")),
            "{text}"
        );
        assert_eq!(file.metadata().await.unwrap().len(), 0);
    });
}

#[test]
fn no_more_writes_than_the_depth_are_in_flight_and_their_buffers_come_back() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(40 * CHUNK);
    let (path, content) = (&path, &content);
    run(async || {
        let pool = Pool::default();
        for depth in [1, 2, 7] {
            let file = File::create(path).await.unwrap();
            let mut sink = file.sink().depth(depth);
            for chunk in content.chunks(CHUNK) {
                sink.write(pool.filled(chunk)).await.unwrap();
                assert!(annulus::metrics().operations_in_flight <= depth as u64);
                assert!(pool.live() <= depth);
            }
            assert_eq!(sink.finish(Durability::None).await.unwrap(), content.len() as u64);
            pool.assert_all_back();
            assert!(std::fs::read(path).unwrap() == *content);
        }
    });
}

#[test]
fn a_sink_is_dropped_at_every_stage_and_nothing_lands_after_a_later_write() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let path = &path;
    run(async || {
        let pool = Pool::default();
        for flags in [0, libc::O_DIRECT] {
            for writes in 0..8 {
                for polls in 0..4 {
                    let Some(file) = create(path, flags).await else { return };
                    let mut sink = file.sink().depth(8);
                    for number in 0..writes {
                        let write = sink.write(pool.filled(vec![number; CHUNK + 1]));
                        assert!(matches!(write.now_or_never(), Some(Ok(()))));
                    }
                    {
                        let mut finish = pin!(sink.finish(Durability::Data));
                        for _ in 0..polls {
                            let ended = poll_fn(|context| {
                                Poll::Ready(finish.as_mut().poll(context).is_ready())
                            });
                            if ended.await {
                                break;
                            }
                            turns(1).await;
                        }
                        // And here it is dropped.
                    }
                    let mut last = AlignedBuffer::with_page_alignment(9 * CHUNK);
                    last.resize(9 * CHUNK, b'!');
                    file.write_all_at(last, 0).await.unwrap();
                    quiet().await;
                    let found = std::fs::read(path).unwrap();
                    assert!(found.iter().all(|byte| *byte == b'!'), "{writes}, {polls}");
                    pool.assert_all_back();
                }
            }
        }
    });
}

#[test]
fn a_write_that_waits_for_room_is_dropped_and_the_sink_goes_on() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        let file = File::create(&path).await.unwrap();
        let mut sink = file.sink().depth(1);
        sink.write(vec![b'a'; CHUNK]).await.unwrap();
        let waiting = sink.write(vec![b'b'; CHUNK]);
        assert!(waiting.now_or_never().is_none(), "no room, and now it is dropped");
        sink.write(vec![b'c'; CHUNK]).await.unwrap();
        assert_eq!(sink.finish(Durability::None).await.unwrap(), 2 * CHUNK as u64);
        let expected = [vec![b'a'; CHUNK], vec![b'c'; CHUNK]].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
    });
}

#[test]
fn a_limit_on_file_size_is_told_once_with_what_was_written() {
    const LIMIT: usize = 10 * CHUNK + 100;
    in_own_process(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit outlives the calls. This process has no other test.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0);
            limit.rlim_cur = LIMIT as u64;
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let scratch = scratch_dir();
        let path = scratch.path().join("file");
        run_here(async {
            let content = pattern(20 * CHUNK);
            let file = File::create(&path).await.unwrap();
            let mut sink = file.sink().depth(4);
            let mut told = None;
            for chunk in content.chunks(CHUNK) {
                if let Err(error) = sink.write(chunk.to_vec()).await {
                    told = Some(error);
                    break;
                }
            }
            let error = told.expect("there are more writes than fit into the window");
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
            assert_eq!((error.written(), error.durable()), (LIMIT as u64, 0));
            assert!(error.to_string().contains("81920") || error.to_string().contains("82020"));
            let error = sink.finish(Durability::All).await.unwrap_err();
            assert_eq!(error.raw_os_error(), None, "the kernel's error was told");
            assert_eq!((error.written(), error.durable()), (LIMIT as u64, LIMIT as u64));
            assert!(std::fs::read(&path).unwrap() == content[..LIMIT]);
        });
    });
}

#[test]
fn a_full_device_is_told_by_the_end_of_a_short_sink() {
    run(async || {
        let full = File::options().write(true).open("/dev/full").await.unwrap();
        let mut sink = full.sink();
        sink.write("content").await.unwrap();
        let error = sink.finish(Durability::None).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!((error.written(), error.durable()), (0, 0));
    });
}

#[test]
fn files_that_append_and_pipes_are_written_in_order() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    let content = pattern(30 * CHUNK + 5);
    run(async || {
        std::fs::write(&path, "before ").unwrap();
        let file = File::options().append(true).open(&path).await.unwrap();
        let mut sink = file.sink().depth(100);
        for chunk in content.chunks(CHUNK) {
            sink.write(chunk.to_vec()).await.unwrap();
            assert!(annulus::metrics().operations_in_flight <= 1);
        }
        assert_eq!(sink.finish(Durability::None).await.unwrap(), content.len() as u64);
        assert!(std::fs::read(&path).unwrap() == [b"before ", &content[..]].concat());

        let (mut reader, writer) = std::io::pipe().unwrap();
        let expected = content.clone();
        let reading = std::thread::spawn(move || {
            let mut found = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut found).unwrap();
            assert!(found == expected);
        });
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let mut sink = pipe.sink();
        for chunk in content.chunks(CHUNK) {
            sink.write(chunk.to_vec()).await.unwrap();
        }
        assert_eq!(sink.finish(Durability::None).await.unwrap(), content.len() as u64);
        drop(pipe);
        reading.join().unwrap();
    });
}

#[test]
fn a_stream_is_forwarded_into_a_sink_without_a_copy() {
    let scratch = scratch_dir();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    let content = pattern(50 * CHUNK + 5);
    std::fs::write(&from, &content).unwrap();
    run(async || {
        for flags in [0, libc::O_DIRECT] {
            let opened = File::options().read(true).custom_flags(flags).open(&from).await;
            let Ok(source) = opened else { return println!("skipped: no O_DIRECT here") };
            let Some(target) = create(&to, flags).await else { return };
            let stream = source.stream(..).chunk_size(CHUNK).depth(3);
            let sink = target.sink().sink_err_into::<std::io::Error>();
            stream.forward(sink).await.unwrap();
            assert!(std::fs::read(&to).unwrap() == content);
        }
    });
}

#[test]
fn a_flush_in_the_middle_of_a_block_writes_all_and_the_rest_follows() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    run(async || {
        for flags in [0, libc::O_DIRECT] {
            let Some(file) = create(&path, flags).await else { return };
            let mut sink = file.sink();
            let mut expected = Vec::new();
            for length in [10, 5000, 3, 20_000, 1] {
                let bytes = vec![length as u8; length];
                expected.extend_from_slice(&bytes);
                sink.send(bytes).await.unwrap();
                assert!(std::fs::read(&path).unwrap() == expected, "{length}");
                assert_eq!(sink.written(), expected.len() as u64);
            }
            sink.close().await.unwrap();
            assert!(std::fs::read(&path).unwrap() == expected);
        }
    });
}

#[test]
fn a_sink_that_does_not_start_what_it_was_sent_starts_it_when_it_is_asked_for_room() {
    let scratch = scratch_dir();
    let path = scratch.path().join("file");
    run(async || {
        let file = File::options().read(true).write(true).create(true).open(&path).await.unwrap();
        let mut sink = file.sink().depth(2);
        for number in 0..6u8 {
            poll_fn(|context| Pin::new(&mut sink).poll_ready(context)).await.unwrap();
            Pin::new(&mut sink).start_send(vec![number; CHUNK].slice(..)).unwrap();
        }
        sink.close().await.unwrap();
        let mut last = [0; 1];
        std::fs::File::open(&path).unwrap().read_exact_at(&mut last, 6 * CHUNK as u64 - 1).unwrap();
        assert_eq!(last, [5]);
    });
}
