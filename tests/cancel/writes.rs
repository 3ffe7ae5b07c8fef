//! A dropped write never lands after a later one, and dropped connects, opens and file operations
//! leave nothing behind.

use annulus::fs::{self, File, OpenOptions};
use annulus::net::{TcpListener, TcpStream, UnixStream};
use futures_util::join;

use crate::common::{Pool, Random, open_descriptors, run, scratch_dir, seed, size};
use crate::{start_and_drop, turn};

#[test]
fn a_dropped_file_write_never_lands_after_a_later_one() {
    let rounds = size(2000).min(100_000);
    let random = Random::new(seed());
    run(async || {
        let directory = scratch_dir();
        let file = File::create_new(directory.path().join("file")).await.unwrap();
        for round in 0..rounds {
            let old = vec![round as u8; 64 * 1024];
            let new = vec![!(round as u8); 64 * 1024];
            match random.below(3) {
                0 => drop(start_and_drop(file.write_at(old, 0), random.below(2)).await),
                1 => drop(start_and_drop(file.write_all_at(old, 0), random.below(2)).await),
                _ => drop(
                    start_and_drop(file.write_vectored_at(vec![old], 0), random.below(2)).await,
                ),
            }
            file.write_all_at(new, 0).await.unwrap();
            turn().await;
            let content = file.read_exact_at(vec![0; 64 * 1024], 0).await.unwrap();
            assert!(content.iter().all(|&byte| byte == !(round as u8)), "round {round}");
        }
    });
}

#[test]
fn quiesce_waits_for_what_was_dropped_and_tells_how_it_ended() {
    run(async || {
        let directory = scratch_dir();
        let file = File::create_new(directory.path().join("file")).await.unwrap();
        assert!(file.quiesce().await.is_empty());
        for turns in 0..3 {
            assert!(start_and_drop(file.write_all_at(vec![7; 8192], 0), turns).await.is_none());
            let results = file.quiesce().await;
            assert_eq!(annulus::metrics().operations_in_flight, 0);
            match &results[..] {
                [Ok(8192)] => assert_eq!(file.metadata().await.unwrap().len(), 8192),
                [Err(error)] => assert!(
                    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)),
                    "{error}"
                ),
                other => panic!("{other:?}"),
            }
        }
        let (writer, reader) = UnixStream::pair().unwrap();
        assert!(start_and_drop(writer.write_all(vec![b'a'; 4 << 20]), 2).await.is_none());
        // A read that somebody awaits does not hold it up.
        let mut waiting = Box::pin(writer.read(vec![0; 1]));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let results = writer.quiesce().await;
        let [Ok(sent)] = results[..] else { panic!("{results:?}") };
        drop(waiting);
        drop(writer);
        let mut received = 0;
        loop {
            let (count, _) = reader.read(Vec::with_capacity(1 << 16)).await.unwrap();
            if count == 0 {
                break;
            }
            received += count;
        }
        assert_eq!(received, sent, "what is reported is what the peer got");
    });
}

#[test]
fn writes_of_a_stream_take_turns_and_a_dropped_one_leaves_a_prefix_before_the_next() {
    run(async || {
        let (writer, reader) = UnixStream::pair().unwrap();
        // More than the socket holds, so that the first is in flight when it is dropped.
        let big = vec![b'a'; 4 << 20];
        assert!(start_and_drop(writer.write_all(big), 2).await.is_none());
        let write = async {
            let (second, third) =
                join!(writer.write_all(vec![b'b'; 1 << 20]), writer.write_all(vec![b'c'; 1 << 20]));
            second.unwrap();
            third.unwrap();
            writer.shutdown(std::net::Shutdown::Write).await.unwrap();
        };
        let read = async {
            let mut all = Vec::new();
            loop {
                let (count, buffer) = reader.read(Vec::with_capacity(1 << 16)).await.unwrap();
                if count == 0 {
                    return all;
                }
                all.extend_from_slice(&buffer);
            }
        };
        let ((), all) = join!(write, read);
        let prefix = all.iter().position(|&byte| byte != b'a').unwrap();
        assert!(prefix < 4 << 20);
        let rest = &all[prefix..];
        assert_eq!(rest.len(), 2 << 20);
        assert!(
            rest[..1 << 20].iter().all(|&byte| byte == b'b')
                && rest[1 << 20..].iter().all(|&byte| byte == b'c')
        );
    });
}

#[test]
fn dropped_connects_and_opens_close_their_descriptors_once() {
    let rounds = size(2000).min(100_000);
    let random = Random::new(seed());
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        fs::write(&path, "content").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let before = open_descriptors();
        for _ in 0..rounds {
            let turns = random.below(3);
            assert!(start_and_drop(Box::pin(File::open(&path)), turns).await.is_none());
            assert!(
                start_and_drop(
                    Box::pin(OpenOptions::new().write(true).create(true).open(&path)),
                    turns
                )
                .await
                .is_none()
            );
            if random.below(16) == 0 {
                assert!(
                    start_and_drop(Box::pin(TcpStream::connect(address)), turns).await.is_none()
                );
                drop(start_and_drop(listener.accept(), turns).await);
                // Whatever of the two won.
                let connection =
                    listener.accept().timeout(std::time::Duration::from_millis(1)).await;
                drop(connection);
            }
        }
        drop(listener);
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        let mut after = open_descriptors();
        // The listener's own.
        after.retain(|number, _| before.contains_key(number));
        assert!(
            after.len() < before.len() && open_descriptors().len() == before.len() - 1,
            "{:#?}",
            open_descriptors()
        );
    });
}

#[test]
fn file_operations_dropped_at_random_leave_no_slot_descriptor_or_buffer_behind() {
    let rounds = size(100_000);
    let random = Random::new(seed());
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        fs::write(&path, vec![7; 64 * 1024]).await.unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).await.unwrap();
        let before = open_descriptors();
        let pool = Pool::default();
        for _ in 0..rounds {
            let turns = random.below(3);
            let offset = random.below(60 * 1024) as u64;
            match random.below(6) {
                0 => drop(start_and_drop(file.read_at(pool.empty(512), offset), turns).await),
                1 => drop(start_and_drop(file.read_exact_at(pool.empty(512), offset), turns).await),
                2 => drop(start_and_drop(file.write_at(pool.filled([1; 64]), offset), turns).await),
                3 => drop(
                    start_and_drop(file.write_all_at(pool.filled([2; 64]), offset), turns).await,
                ),
                4 => drop(start_and_drop(file.sync_data(), turns).await),
                _ => drop(start_and_drop(Box::pin(File::open(&path)), turns).await),
            }
        }
        file.quiesce().await;
        while annulus::metrics().operations_in_flight > 0 {
            turn().await;
        }
        pool.assert_all_back();
        assert_eq!(open_descriptors(), before);
        println!("{rounds} operations, {} orphaned", annulus::metrics().orphaned);
    });
}
