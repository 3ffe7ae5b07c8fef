//! Tests: operations without a kernel that answers as a test needs it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::task::Waker;
use std::time::Duration;

use io_uring::opcode;

use super::*;
use crate::buf::{ChunkPoolConfig, Error};
use crate::inflight::{Direction, Resource};
use crate::op::datagram::{ReceiveDatagram, ReceiveFrom, SendTo};
use crate::op::file::{Fsync, ReadAt, ReadExactAt, WriteAllAt, WriteAt};
use crate::op::open::{Open, OpenHeld};
use crate::op::path::{HardLink, MakeDirectory, MakeSymlink, Place, Rename, Unlink};
use crate::op::socket::{Receive, ReceiveExact, Send, SendAll};
use crate::op::vectored::{ReadVectoredAt, ReceiveVectored, SendVectored, WriteVectoredAt};
use crate::ring::{Config, Ring};
use crate::runtime::{Runtime, block_on, metrics};

fn handle() -> Resource {
    Resource::new(OwnedFd::from(std::fs::File::open("/dev/null").expect("a file")).into())
}

/// What an operation yields whose only completion has this errno.
fn outcome<O: Operation>(mut operation: Op<'_, O>, errno: i32) -> O::Output {
    operation.stage = Stage::Settled(-errno).into();
    match Pin::new(&mut operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits after its last completion"),
    }
}

fn check<T, B: PartialEq + fmt::Debug>(
    what: &str,
    outcome: Result<T, Error<B>>,
    errno: i32,
    buffer: &B,
) {
    let Err(error) = outcome else { panic!("{what} succeeds with errno {errno}") };
    assert_eq!(error.raw_os_error(), Some(errno), "{what}");
    assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind(), "{what}");
    assert_eq!(error.transferred(), 0, "{what}");
    assert_eq!(&error.into_buffer(), buffer, "{what}");
}

#[test]
fn an_interrupted_operation_keeps_its_turn_and_starts_again() {
    block_on(async {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let handle = Resource::new(OwnedFd::from(ours).into());
        let mut read = Receive::op(&handle, vec![0; 8]);
        assert!(handle.lane(Direction::Inbound).enter_quietly(Manner::Alone));
        read.flags.alone = true;
        assert!(read.is_interrupted(-libc::EINTR) && !read.is_interrupted(-libc::EIO));
        io::Write::write_all(&mut &theirs, b"go on").expect("written");
        assert_eq!(read.await.expect("read"), (5, b"go on".to_vec()));
        assert!(
            handle.lane(Direction::Inbound).enter_quietly(Manner::Alone),
            "and it has left the lane"
        );
    });
}

#[test]
fn what_a_second_run_would_find_done_does_not_run_again() {
    fn runs_again<O: Operation>(mut operation: Op<'_, O>) -> [bool; 2] {
        operation.core = Some(current());
        operation.stage = Packed::IDLE;
        [libc::EINTR, libc::ECANCELED].map(|errno| operation.is_interrupted(-errno))
    }
    block_on(async {
        let text = || std::ffi::CString::new("never used").expect("no NUL");
        let path = || Place::here(text());
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        assert_eq!(runs_again(Rename::op(path(), path(), 0)), [false; 2]);
        assert_eq!(runs_again(Unlink::op(path(), false)), [false; 2]);
        assert_eq!(runs_again(MakeDirectory::op(path(), 0o777)), [false; 2]);
        assert_eq!(runs_again(HardLink::op(path(), path(), 0)), [false; 2]);
        assert_eq!(runs_again(MakeSymlink::op(text(), path())), [false; 2]);
        assert_eq!(runs_again(Open::op(path(), exclusive, 0o666)), [false; 2]);
        assert_eq!(runs_again(OpenHeld::op(path(), exclusive, 0o666, 0)), [false; 2]);
        let on_kernel = current().is_on_kernel();
        assert_eq!(runs_again(Open::op(path(), libc::O_CREAT, 0o666)), [true, on_kernel]);
        assert_eq!(runs_again(OpenHeld::op(path(), 0, 0, 0)), [true, on_kernel]);
        assert_eq!(runs_again(ReadAt::op(&handle(), vec![0; 8], 0)), [true, on_kernel]);
    });
}

#[test]
fn every_errno_of_the_kernel_comes_out_unchanged_and_with_the_buffer() {
    let handle = handle();
    let address = "127.0.0.1:1".parse().expect("an address");
    let one = || vec![1u8, 2, 3];
    let many = || vec![vec![1u8, 2], vec![3]];
    for errno in 1..=511 {
        check("read_at", outcome(ReadAt::op(&handle, one(), 0), errno), errno, &one());
        check("read_exact_at", outcome(ReadExactAt::op(&handle, one(), 0), errno), errno, &one());
        check("write_at", outcome(WriteAt::op(&handle, one(), 0), errno), errno, &one());
        check("write_all_at", outcome(WriteAllAt::op(&handle, one(), 0), errno), errno, &one());
        check(
            "read_vectored_at",
            outcome(ReadVectoredAt::op(&handle, many(), 0), errno),
            errno,
            &many(),
        );
        check(
            "write_vectored_at",
            outcome(WriteVectoredAt::op(&handle, many(), 0), errno),
            errno,
            &many(),
        );
        check("read", outcome(Receive::op(&handle, one()), errno), errno, &one());
        check("read_exact", outcome(ReceiveExact::op(&handle, one()), errno), errno, &one());
        check("write", outcome(Send::op(&handle, one()), errno), errno, &one());
        check("write_all", outcome(SendAll::op(&handle, one()), errno), errno, &one());
        check(
            "read_vectored",
            outcome(ReceiveVectored::op(&handle, many()), errno),
            errno,
            &many(),
        );
        check("write_vectored", outcome(SendVectored::op(&handle, many()), errno), errno, &many());
        check("recv", outcome(ReceiveDatagram::op(&handle, one()), errno), errno, &one());
        check("recv_from", outcome(ReceiveFrom::op(&handle, one()), errno), errno, &one());
        check("send_to", outcome(SendTo::op(&handle, one(), address), errno), errno, &one());
        let sync = outcome(Fsync::op(&handle, false), errno).expect_err("an error");
        assert_eq!(sync.raw_os_error(), Some(errno));
    }
}

#[test]
fn an_operation_that_the_ring_does_not_know_is_unsupported_and_gives_its_buffer_back() {
    let config = Config::new(8, 64);
    let ring =
        Ring::open_without(&[opcode::Read::CODE, opcode::Send::CODE, opcode::Fsync::CODE], &config)
            .expect("a ring");
    let runtime = Runtime::on(ring, &config, ChunkPoolConfig::default()).expect("a runtime");
    runtime.block_on(async {
        let handle = handle();
        let error = ReadAt::op(&handle, vec![1, 2, 3], 0).await.expect_err("unknown");
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::Unsupported, Some(libc::EOPNOTSUPP))
        );
        assert_eq!(error.into_buffer(), [1, 2, 3]);
        let error = Send::op(&handle, vec![4])
            .timeout(Duration::from_secs(1000))
            .await
            .expect_err("unknown");
        assert_eq!((error.kind(), error.into_buffer()), (ErrorKind::Unsupported, vec![4]));
        let error = Fsync::op(&handle, true).await.expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        handle.close().await.expect("closed without the ring");
        assert_eq!(metrics().operations, 0, "nothing was started");
    });
}
