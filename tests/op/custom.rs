//! Operations of one's own: the safe forms and what they refuse, and the trait.

use std::ffi::CString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::Path;
use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::custom::{self, Fd, opcode, squeue, types};
use annulus::fs::File;
use annulus::net::{TcpListener, UnixStream};

use crate::common::{
    Pool, assert_descriptors_are, open_descriptors, poll_in_task, quiet, run, run_here,
    scratch_dir, turns,
};

fn new_file(directory: &Path) -> File {
    let options = std::fs::File::options().read(true).write(true).create(true).clone();
    File::from(options.open(directory.join("file")).expect("a file"))
}

fn pair() -> (UnixStream, net::UnixStream) {
    let (ours, theirs) = net::UnixStream::pair().expect("a pair");
    (UnixStream::from(ours), theirs)
}

/// Opens a file; openat(2). The path lies on the heap.
struct Open(CString);

// SAFETY: the path belongs to the operation, on the heap, and nobody else knows it.
#[allow(unsafe_code)]
unsafe impl custom::Operation for Open {
    type Output = io::Result<OwnedFd>;

    const RUNS_AGAIN: bool = true;

    fn entry(&mut self) -> squeue::Entry {
        // Flags by which others would be drawn in, or the completion left out: they do not count.
        let tied = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK | squeue::Flags::IO_DRAIN;
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), self.0.as_ptr())
            .flags(libc::O_RDONLY | libc::O_CLOEXEC)
            .build()
            .flags(tied)
            .user_data(7)
    }

    fn complete(self, result: io::Result<u32>, _flags: u32) -> io::Result<OwnedFd> {
        // SAFETY: openat has made this descriptor for this operation.
        result.map(|number| unsafe { OwnedFd::from_raw_fd(number as i32) })
    }
}

fn open(path: &Path) -> annulus::Op<'static, custom::Custom<Open>> {
    custom::submit(Open(CString::new(path.as_os_str().as_bytes()).expect("no NUL")))
}

/// Does not exist on any ring.
struct Unknown;

// SAFETY: the entry names no memory and no descriptor.
#[allow(unsafe_code)]
unsafe impl custom::Operation for Unknown {
    type Output = io::Result<u32>;

    fn entry(&mut self) -> squeue::Entry {
        opcode::UringCmd16::new(types::Fd(-1), u32::MAX).build()
    }

    fn complete(self, result: io::Result<u32>, _flags: u32) -> io::Result<u32> {
        result
    }
}

#[test]
fn an_operation_of_ones_own_ends_as_any_other() {
    let directory = scratch_dir();
    let path = directory.path().join("file");
    std::fs::write(&path, "content").expect("a file");
    run_here(async {
        let mut content = String::new();
        let opened = open(&path).await.expect("opened");
        std::fs::File::from(opened).read_to_string(&mut content).expect("read");
        assert_eq!(content, "content");
        let missing = directory.path().join("missing");
        assert_eq!(open(&missing).await.expect_err("missing").kind(), ErrorKind::NotFound);
        let in_time = open(&path).timeout(Duration::from_secs(1000)).await;
        drop(in_time.expect("in time"));
        let never = open(&path).cancel().await.expect_err("not begun");
        assert_eq!(never.raw_os_error(), Some(libc::ECANCELED));
        // Others that are queued beside it are not tied to it.
        let (one, two) = futures_util::join!(open(&missing), annulus::no_op());
        assert!(one.is_err() && two.is_ok());
    });
}

#[test]
fn what_the_ring_does_not_know_is_unsupported_or_the_kernels_error() {
    run_here(async {
        let error = custom::submit(Unknown).await.expect_err("no such operation");
        assert!(matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EBADF)), "{error}");
    });
}

#[test]
fn a_descriptor_that_a_dropped_one_returns_is_closed() {
    let directory = scratch_dir();
    let path = directory.path().join("file");
    std::fs::write(&path, "content").expect("a file");
    run(async || {
        let before = open_descriptors();
        for round in 0..40 {
            let mut open = open(&path);
            if round % 4 > 0 {
                assert!(poll_in_task(&mut open).await.is_pending());
                turns(round % 4 - 1).await;
            }
            drop(open);
        }
        quiet().await;
        assert_descriptors_are(&before);
    });
}

#[test]
fn a_call_without_memory_is_made_in_a_closure() {
    let directory = scratch_dir();
    run_here(async {
        let file = new_file(directory.path());
        let length = async || file.metadata().await.expect("known").len();
        let allocate = |fd| opcode::Fallocate::new(fd, 10_000).build();
        assert_eq!(custom::on_descriptor(&file, allocate).await.expect("allocated"), 0);
        assert_eq!(length().await, 10_000);
        let fd = Fd::from(&file);
        custom::on_descriptor(&fd, |fd| opcode::Fsync::new(fd).build()).await.expect("synced");
        let (ours, mut theirs) = pair();
        custom::on_descriptor(&ours, |fd| opcode::Shutdown::new(fd, libc::SHUT_WR).build())
            .await
            .expect("shut down");
        assert_eq!(theirs.read(&mut [0; 8]).expect("the end"), 0);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let not_a_stream =
            custom::on_descriptor(&listener, |fd| opcode::Ftruncate::new(fd, 1).build()).await;
        assert!(not_a_stream.is_err());
    });
}

#[test]
fn the_kernel_reads_a_buffer_and_fills_one() {
    let (directory, pool) = (scratch_dir(), Pool::default());
    run_here(async {
        let file = new_file(directory.path());
        file.write_all_at("first ", 0).await.expect("written");
        let append = custom::from_buffer(&file, pool.filled("second"), |fd, bytes, length| {
            opcode::Write::new(fd, bytes, length).rw_flags(libc::RWF_APPEND).build()
        });
        match append.await {
            Ok((count, buffer)) => assert_eq!((count, buffer.as_init()), (6, &b"second"[..])),
            Err(error) => panic!("{error}"),
        }
        let read = custom::into_buffer(&file, pool.empty(64), |fd, bytes, capacity| {
            opcode::Read::new(fd, bytes, capacity).offset(2).build()
        });
        let (count, buffer) = read.await.expect("read");
        assert_eq!((count, buffer.as_init()), (10, &b"rst second"[..]));
        let (ours, mut theirs) = pair();
        theirs.write_all(b"look").expect("room");
        for _ in 0..2 {
            let peek = custom::into_buffer(&ours, pool.empty(64), |fd, bytes, capacity| {
                opcode::Recv::new(fd, bytes, capacity).flags(libc::MSG_PEEK).build()
            });
            assert_eq!(peek.await.expect("it has come").1.as_init(), b"look");
        }
        assert_eq!(ours.read(vec![0; 8]).await.expect("it is there").0, 4);
    });
    pool.assert_all_back();
}

#[test]
fn an_option_of_a_socket_is_set_where_the_kernel_can() {
    run_here(async {
        let (ours, _theirs) = pair();
        let value = 1i32.to_ne_bytes().to_vec();
        let set = custom::from_buffer(&ours, value, |fd, value, length| {
            let (level, option) = (libc::SOL_SOCKET as u32, libc::SO_KEEPALIVE as u32);
            opcode::SetSockOpt::new(fd, level, option, value.cast(), length).build()
        });
        match set.await {
            Ok(_) => {
                assert!(socket2::SockRef::from(&ours).keepalive().expect("known"));
                let waiting =
                    custom::on_descriptor(&ours, |fd| opcode::UringCmd16::new(fd, 0).build());
                match waiting.await {
                    Ok(count) => assert_eq!(count, 0),
                    // Unix sockets have none of it.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert_eq!(error.into_buffer().len(), 4);
                println!("skipped: this ring sets no options");
            }
        }
    });
}

#[test]
fn safe_code_makes_no_entry_that_names_anything_else() {
    let (directory, pool) = (scratch_dir(), Pool::default());
    run_here(async {
        let (file, other) = (new_file(directory.path()), Fd::from(&new_file(directory.path())));
        let before = annulus::metrics().operations;
        let foreign = [0u8; 64];
        let at = foreign.as_ptr();
        let kind = |error: io::Error| {
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::InvalidInput, None));
            error.to_string()
        };
        let closed = custom::on_descriptor(&file, |fd| opcode::Close::new(fd).build());
        assert!(kind(closed.await.expect_err("refused")).contains("not on the list"));
        let cut =
            custom::on_descriptor(&file, |_| opcode::Ftruncate::new(other.target(), 0).build());
        assert!(kind(cut.await.expect_err("refused")).contains("descriptor"));
        let linked = custom::on_descriptor(&file, |fd| {
            opcode::Ftruncate::new(fd, 0).build().flags(squeue::Flags::IO_LINK)
        });
        assert!(kind(linked.await.expect_err("refused")).contains("flag"));
        let write = custom::from_buffer(&file, pool.filled("bytes"), |fd, _, length| {
            opcode::Write::new(fd, at, length).build()
        });
        let error = write.await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.into_buffer().as_init(), b"bytes");
        let read = custom::into_buffer(&file, pool.empty(8), |fd, bytes, capacity| {
            opcode::Read::new(fd, bytes, capacity + 1).build()
        });
        assert_eq!(read.await.expect_err("refused").kind(), ErrorKind::InvalidInput);
        let vectored = custom::into_buffer(&file, pool.empty(64), |fd, bytes, _| {
            opcode::Readv::new(fd, bytes.cast(), 1).build()
        });
        assert_eq!(vectored.await.expect_err("refused").kind(), ErrorKind::InvalidInput);
        assert_eq!(annulus::metrics().operations, before, "no ring has seen them");
    });
    pool.assert_all_back();
}

#[test]
fn buffers_and_descriptors_of_dropped_ones_stay_until_the_last_completion() {
    run(async || {
        let pool = Pool::default();
        let before = open_descriptors();
        for turns_before in 0..4 {
            let (ours, mut theirs) = pair();
            let mut receive = custom::into_buffer(&ours, pool.empty(64), |fd, bytes, capacity| {
                opcode::Recv::new(fd, bytes, capacity).build()
            });
            if turns_before > 0 {
                assert!(poll_in_task(&mut receive).await.is_pending());
                turns(turns_before - 1).await;
            }
            // The socket may go first: the operation has a share in its descriptor.
            drop(ours);
            if turns_before == 3 {
                theirs.write_all(b"bytes").expect("it is open");
                assert_eq!(receive.await.expect("received").0, 5);
            } else {
                drop(receive);
            }
            quiet().await;
        }
        assert_descriptors_are(&before);
        pool.assert_all_back();
    });
}

#[test]
fn a_share_keeps_a_descriptor_open_and_close_waits_for_it() {
    let directory = scratch_dir();
    run(async || {
        let file = new_file(directory.path());
        let share = Fd::from(&file);
        drop(file);
        custom::on_descriptor(&share, |fd| opcode::Fallocate::new(fd, 100).build())
            .await
            .expect("it is open");
        drop(share);
        let file = new_file(directory.path());
        let share = Fd::from(&file);
        let mut close = Box::pin(file.close());
        assert!(futures_util::poll!(&mut close).is_pending());
        let copy = std::fs::File::from(share.as_fd().try_clone_to_owned().expect("it is open"));
        assert_eq!(copy.metadata().expect("known").len(), 100);
        drop(copy);
        drop(share);
        close.await.expect("closed");
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"bytes").expect("room");
        let owned = Fd::from(OwnedFd::from(reader));
        let read = custom::into_buffer(owned, vec![0; 8], |fd, bytes, capacity| {
            opcode::Read::new(fd, bytes, capacity).build()
        });
        assert_eq!(read.await.expect("read").1, b"bytes");
        assert!(writer.write_all(b"more").is_err(), "nobody can read it any more");
    });
}
