//! A cancel is never dropped, however full the queues are and whoever drops the future.

use std::os::fd::OwnedFd;

use annulus::Builder;
use annulus::fs::File;

use crate::common::{Pool, apart};
use crate::turn;

/// More than tiny queues hold many times over.
const OPERATIONS: usize = 2000;

/// A pipe as a file: its reads wait in the ring, any number of them.
fn pipe() -> (File, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (File::from(OwnedFd::from(reader)), writer)
}

async fn drop_all_at_once(file: &File, pool: &Pool) {
    let mut reads: Vec<_> = (0..OPERATIONS).map(|_| file.read_at(pool.empty(16), 0)).collect();
    for read in &mut reads {
        assert!(futures_util::poll!(read).is_pending());
    }
    turn().await;
    // In one poll, so the cancels come at once.
    drop(reads);
}

async fn until_quiet() {
    while annulus::metrics().operations_in_flight > 0 {
        turn().await;
    }
}

#[test]
fn cancels_go_out_through_queues_that_are_full_and_overflow() {
    apart(|| {
        let runtime = Builder::new().entries(2).completion_entries(2).build().unwrap();
        let pool = Pool::default();
        runtime.block_on(async {
            let (file, _writer) = pipe();
            drop_all_at_once(&file, &pool).await;
            until_quiet().await;
        });
        pool.assert_all_back();
        let metrics = runtime.metrics();
        assert!(metrics.completion_overflows > 0, "the completion queue overflowed: {metrics:?}");
        assert!(metrics.cancels >= OPERATIONS as u64);
        assert_eq!(metrics.stale_completions, 0);
    });
}

#[test]
fn the_futures_of_an_aborted_task_are_cancelled() {
    apart(|| {
        let runtime = Builder::new().entries(2).completion_entries(4).build().unwrap();
        let pool = Pool::default();
        runtime.block_on(async {
            let (file, _writer) = pipe();
            let reading = pool.clone();
            let task = annulus::spawn(async move {
                let reads = (0..OPERATIONS).map(|_| file.read_at(reading.empty(16), 0));
                futures_util::future::join_all(reads).await;
            });
            turn().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            until_quiet().await;
        });
        pool.assert_all_back();
        assert_eq!(runtime.metrics().stale_completions, 0);
    });
}

#[test]
fn a_runtime_ends_with_its_queues_full_of_cancels() {
    apart(|| {
        let pool = Pool::default();
        let runtime = Builder::new().entries(2).completion_entries(2).build().unwrap();
        let (file, _writer) = pipe();
        runtime.block_on(drop_all_at_once(&file, &pool));
        drop(runtime);
        pool.assert_all_back();
    });
}
