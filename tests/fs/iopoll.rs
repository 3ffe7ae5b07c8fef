//! Runtimes that poll devices: the same bytes as ever, be the device one that can be polled or not,
//! and everything else beside it.

use std::time::Duration;

use annulus::buf::BufferPool;
use annulus::fs::File;
use annulus::net::UdpSocket;
use annulus::{Builder, Runtime};
use futures_util::future::join_all;

use crate::common::{apart, scratch_dir};
use crate::direct::{BLOCK, BLOCKS, block, drops_transfers, open_direct, writes_and_reads};

/// A runtime that polls, and whether it has a ring for that.
fn polling_runtime() -> (Runtime, bool) {
    let runtime = Builder::new().iopoll(true).build().unwrap();
    let polls = runtime.ring().granted().contains(&"IOPOLL");
    (runtime, polls)
}

/// Runs a future on such a runtime.
fn run_polling<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> T {
    apart(|| {
        let (runtime, _) = polling_runtime();
        let output = runtime.block_on(test());
        assert_eq!(
            runtime.metrics().stale_completions,
            0,
            "every completion belongs to an operation"
        );
        output
    })
}

#[test]
fn a_runtime_says_whether_it_can_poll() {
    apart(|| {
        let (runtime, polls) = polling_runtime();
        let report = runtime.ring();
        let refused = report.refused().iter().any(|refusal| refusal.what().contains("IOPOLL"));
        let devices = annulus::diagnose().polling_devices().len();
        match polls {
            true => assert_eq!(refused, devices == 0, "{report}"),
            false => assert!(refused, "{report}"),
        }
        assert!(
            !Builder::new().build().unwrap().ring().to_string().contains("IOPOLL"),
            "only if it is asked for"
        );
    });
}

#[test]
fn direct_files_have_the_same_content_and_a_file_that_cannot_be_polled_is_asked_once() {
    let scratch = scratch_dir();
    run_polling(async || {
        let before = annulus::metrics();
        writes_and_reads(scratch.path()).await;
        let (after, (_, polls)) = (annulus::metrics(), polling_runtime());
        let transfers = u64::from(BLOCKS) * 4;
        assert!(after.operations - before.operations >= transfers);
        if polls && after.polled - before.polled < transfers {
            assert_eq!(after.poll_refusals, 1, "one file that refused");
        }
    });
}

#[test]
fn transfers_that_never_reach_the_device_end_as_ever() {
    let scratch = scratch_dir();
    run_polling(async || {
        let Some(file) = open_direct(&scratch.path().join("direct")).await else { return };
        for _ in 0..3 {
            assert_eq!(file.read_at(block(9), 0).await.unwrap().0, 0, "the end of the file");
        }
        let (metrics, (_, polls)) = (annulus::metrics(), polling_runtime());
        assert!(!polls || metrics.polled == 3 || metrics.poll_refusals == 1, "{metrics:?}");
        let error = file.read_at(block(9), u64::MAX).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "no such place");
        file.write_all_at(block(1), 0).await.unwrap();
        assert_eq!(file.read_at(block(9), 0).await.unwrap().1[..], block(1)[..]);
        file.sync_all().await.unwrap();
        file.close().await.unwrap();
    });
}

#[test]
fn polled_transfers_in_flight_are_dropped_with_their_futures_and_with_their_runtime() {
    let scratch = scratch_dir();
    let path = scratch.path().join("direct");
    std::fs::write(&path, vec![7; 64 * BLOCK]).unwrap();
    for round in 0..12 {
        run_polling(async || drops_transfers(&path, round).await);
    }
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn more_transfers_than_the_rings_have_places_wait_their_turn() {
    let scratch = scratch_dir();
    let path = scratch.path().join("direct");
    std::fs::write(&path, (0..BLOCKS).flat_map(|number| [number; BLOCK]).collect::<Vec<u8>>())
        .unwrap();
    apart(|| {
        let runtime = Builder::new().entries(2).completion_entries(2).iopoll(true).build().unwrap();
        runtime.block_on(async {
            let Some(file) = open_direct(&path).await else { return };
            let reads =
                (0..BLOCKS).map(|number| file.read_at(block(99), u64::from(number) * BLOCK as u64));
            for (number, read) in (0..BLOCKS).zip(join_all(reads).await) {
                assert_eq!(read.unwrap().1[..], block(number)[..]);
            }
        });
        assert_eq!(runtime.metrics().operations_in_flight, 0);
    });
}

#[test]
fn sockets_timers_and_cached_files_go_on_beside_polled_transfers() {
    let scratch = scratch_dir();
    let path = scratch.path().join("direct");
    std::fs::write(&path, vec![7; 64 * BLOCK]).unwrap();
    run_polling(async || {
        let Some(file) = open_direct(&path).await else { return };
        let reader = annulus::spawn(async move {
            loop {
                let reads = (0..64).map(|number| file.read_at(block(99), number * BLOCK as u64));
                assert!(
                    join_all(reads)
                        .await
                        .into_iter()
                        .all(|read| read.unwrap().1[..] == block(7)[..])
                );
            }
        });
        let (one, two) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        one.connect(two.local_addr().unwrap()).await.unwrap();
        two.connect(one.local_addr().unwrap()).await.unwrap();
        let cached = File::open(&path).await.unwrap();
        for number in 0..200_u8 {
            one.send(vec![number; 3]).await.unwrap();
            assert_eq!(two.recv(vec![0; 8]).await.unwrap().1[..], [number; 3]);
            assert_eq!(cached.read_at(vec![0; 16], 0).await.unwrap().1[..], [7; 16]);
        }
        annulus::time::sleep(Duration::from_millis(2)).await;
        let woken = annulus::spawn_blocking(|| 7).await.unwrap();
        assert_eq!(woken, 7, "by another thread");
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_cached_file_with_the_number_of_a_direct_one_is_read_as_ever() {
    let scratch = scratch_dir();
    let (path, content) = (scratch.path().join("cached"), crate::pattern(10_000));
    std::fs::write(&path, &content).unwrap();
    run_polling(async || {
        for closes_itself in [true, false] {
            let Some(file) = open_direct(&scratch.path().join("direct")).await else { return };
            drop(file.read_at(block(9), 0).await.unwrap());
            match closes_itself {
                true => file.close().await.unwrap(),
                // Closed behind the ring's back.
                false => drop(file.into_std().await),
            }
            let cached = File::open(&path).await.unwrap();
            for _ in 0..40 {
                assert_eq!(
                    cached.read_at(Vec::with_capacity(20_000), 1).await.unwrap().1,
                    content[1..]
                );
            }
        }
    });
}

#[test]
fn registered_buffers_are_read_into_and_given_back() {
    let scratch = scratch_dir();
    let path = scratch.path().join("direct");
    std::fs::write(&path, (0..BLOCKS).flat_map(|number| [number; BLOCK]).collect::<Vec<u8>>())
        .unwrap();
    run_polling(async || {
        let Some(file) = open_direct(&path).await else { return };
        for _ in 0..3 {
            let pools = [BufferPool::new(3, BLOCK), BufferPool::new(5, BLOCK)];
            for number in 0..BLOCKS {
                for pool in &pools {
                    let (count, content) = file
                        .read_at(pool.acquire().await, u64::from(number) * BLOCK as u64)
                        .await
                        .unwrap();
                    assert_eq!((count, &content[..]), (BLOCK, &block(number)[..]));
                    file.write_all_at(content, u64::from(number) * BLOCK as u64).await.unwrap();
                }
            }
            assert!(pools.iter().all(|pool| pool.available() == pool.count()));
        }
    });
}
