//! A dropped receive never loses a descriptor, nor leaves one open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use annulus::net::{UnixDatagram, UnixMessage, UnixSeqpacket, UnixStream};

use crate::common::{Random, run, seed, size};
use crate::{start_and_drop, turn};

/// The number of the open file: two descriptors of one file have the same.
fn inode(descriptor: BorrowedFd<'_>) -> u64 {
    let path = format!("/proc/thread-self/fd/{}", descriptor.as_raw_fd());
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
}

/// As many messages as that, each with its number and up to three ends of a pipe of its own, are
/// sent and received by futures that are dropped at random. It is the same for each kind of socket.
macro_rules! messages_through_dropped_receives {
    ($type:ident, $total:expr, $random:expr) => {{
        let (a, b) = $type::pair().unwrap();
        for number in 0..$total {
            let (reader, writer) = io::pipe().unwrap();
            let ends = [reader.as_fd(), writer.as_fd(), reader.as_fd()];
            let expected = $random.below(4);
            let bytes = number.to_le_bytes().to_vec();
            let mut receive = Box::pin(b.recv_with_fds(vec![0; 8]));
            let mut received: Option<UnixMessage<Vec<u8>>> = None;
            if $random.below(2) == 0 {
                assert!(futures_util::poll!(&mut receive).is_pending());
                a.send_with_fds(bytes, &ends[..expected]).await.unwrap();
                for _ in 0..$random.below(3) {
                    turn().await;
                }
            } else {
                a.send_with_fds(bytes, &ends[..expected]).await.unwrap();
            }
            drop(receive);
            while received.is_none() {
                let receive = b.recv_with_fds(vec![0; 8]);
                received = match $random.below(2) {
                    0 => Some(receive.await),
                    _ => start_and_drop(receive, $random.below(3)).await,
                }
                .transpose()
                .unwrap();
            }
            let message = received.unwrap();
            assert_eq!(message.buffer, number.to_le_bytes());
            let inodes =
                |fds: &[OwnedFd]| fds.iter().map(|fd| inode(fd.as_fd())).collect::<Vec<_>>();
            let sent: Vec<u64> = ends[..expected].iter().map(|end| inode(*end)).collect();
            assert_eq!(inodes(&message.descriptors), sent, "message {number}");
        }
    }};
}

#[test]
fn messages_keep_their_descriptors_through_receives_dropped_at_random() {
    let total = size(2_000).min(100_000);
    let random = Random::new(seed());
    // It fails if a descriptor is left over.
    run(async || {
        messages_through_dropped_receives!(UnixStream, total, random);
        messages_through_dropped_receives!(UnixDatagram, total, random);
        messages_through_dropped_receives!(UnixSeqpacket, total, random);
    });
}
