//! Closed means closed: what a program may rely on in the line after a drop, with nothing awaited.

use std::fs;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net as std_net;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as std_unix;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use annulus::fs::File;
use annulus::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use annulus::spawn;
use futures_util::StreamExt;

use crate::common::{
    bounded, in_own_process, poll_once, run, runtime, scratch_dir, turn_on_software_ring, turns,
};

/// How a listener was used before it is dropped.
const USES: [&str; 4] = ["not at all", "accepted", "an accept was dropped", "incoming was dropped"];

#[test]
fn an_address_can_be_bound_again_in_the_line_after_its_listener_was_dropped() {
    run(async || {
        let mut address: std_net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        for used in USES.iter().cycle().take(40) {
            let listener =
                TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{used}: {error}"));
            address = listener.local_addr().unwrap();
            match *used {
                "accepted" => {
                    let client = std_net::TcpStream::connect(address).unwrap();
                    drop((listener.accept().await.unwrap(), client));
                }
                "an accept was dropped" => {
                    assert!(poll_once(Box::pin(listener.accept()).as_mut()).is_pending());
                    turns(1).await;
                }
                "incoming was dropped" => {
                    assert!(poll_once(Box::pin(listener.incoming().next()).as_mut()).is_pending());
                    turns(1).await;
                }
                _ => {}
            }
            drop(listener);
            // Nobody listens there, for anybody.
            let refused = std_net::TcpStream::connect(address).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{used}");
            let refused = TcpStream::connect(address).await.expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{used}");
        }
    });
}

#[test]
fn an_address_can_be_bound_again_when_its_accepting_task_was_aborted() {
    run(async || {
        let mut address: std_net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        for _ in 0..20 {
            let listener = TcpListener::bind(address).await.unwrap();
            address = listener.local_addr().unwrap();
            let task = spawn(async move { while listener.accept().await.is_ok() {} });
            turns(2).await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn names_and_ports_of_other_sockets_are_free_as_well() {
    run(async || {
        let name = format!("\0annulus-closing-{}", std::process::id());
        for accepts in [false, true, true] {
            let listener = UnixListener::bind(&name).unwrap();
            if accepts {
                assert!(poll_once(Box::pin(listener.accept()).as_mut()).is_pending());
                turns(1).await;
            }
        }
        let mut address: std_net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        for receives in [false, true, true] {
            let socket = UdpSocket::bind(address).await.unwrap();
            address = socket.local_addr().unwrap();
            if receives {
                assert!(poll_once(Box::pin(socket.recv(vec![0; 8])).as_mut()).is_pending());
                assert!(poll_once(Box::pin(socket.datagrams().next()).as_mut()).is_pending());
                turns(1).await;
            }
        }
    });
}

#[test]
fn the_peer_of_a_dropped_stream_sees_its_end_though_nothing_is_awaited() {
    run(async || {
        for case in 0..5 {
            let (ours, mut theirs) = std_unix::UnixStream::pair().unwrap();
            theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let ours = UnixStream::from(ours);
            match case {
                0 => drop(ours),
                1 => {
                    assert!(poll_once(Box::pin(ours.read(vec![0; 8])).as_mut()).is_pending());
                    turns(1).await;
                    drop(ours);
                }
                2 => {
                    assert!(poll_once(Box::pin(ours.chunks().next()).as_mut()).is_pending());
                    turns(1).await;
                    drop(ours);
                }
                3 => {
                    // Not even submitted.
                    assert!(poll_once(Box::pin(ours.read(vec![0; 8])).as_mut()).is_pending());
                    drop(ours);
                }
                _ => {
                    let (reader, writer) = ours.into_split();
                    assert!(poll_once(Box::pin(reader.read(vec![0; 8])).as_mut()).is_pending());
                    turns(1).await;
                    drop((writer, reader));
                }
            }
            assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 0, "case {case}");
        }
    });
}

#[test]
fn a_child_sees_the_end_of_its_standard_input_when_that_is_dropped() {
    in_own_process(|| {
        runtime().block_on(async {
            let mut child =
                Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            let stdin = File::from(OwnedFd::from(child.stdin.take().unwrap()));
            stdin.write_all_at("some input", 0).await.unwrap();
            drop(stdin);
            assert!(child.wait().unwrap().success());
        });
    });
}

/// Is it to be had, without waiting? flock(2).
fn is_lockable(path: &std::path::Path) -> bool {
    let file = fs::File::open(path).unwrap();
    // SAFETY: the call takes no memory.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

#[test]
fn a_lock_goes_with_its_file_also_with_one_that_was_read_often() {
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("locked");
        fs::write(&path, [7; 4096]).unwrap();
        for reads in [0, 1, 100] {
            let file = File::open(&path).await.unwrap();
            // SAFETY: the call takes no memory.
            assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
            for _ in 0..reads {
                file.read_at(vec![0; 64], 0).await.unwrap();
            }
            assert!(!is_lockable(&path));
            match reads {
                1 => file.close().await.unwrap(),
                _ => drop(file),
            }
            assert!(is_lockable(&path), "after {reads} reads");
        }
    });
}

#[test]
fn a_program_can_be_run_in_the_line_after_it_was_opened_for_writing_and_dropped() {
    in_own_process(|| {
        runtime().block_on(async {
            let directory = scratch_dir();
            let program = directory.path().join("program");
            fs::copy("/bin/true", &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            for _ in 0..20 {
                drop(annulus::fs::OpenOptions::new().write(true).open(&program).await.unwrap());
                assert!(Command::new(&program).status().unwrap().success());
            }
        });
    });
}

/// A root future that owns a stream to its end, and beyond its last poll.
struct Root(#[expect(dead_code, reason = "kept to be dropped")] UnixStream, bool);

impl Future for Root {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        assert!(!self.1, "as the test wants it");
        Poll::Ready(())
    }
}

#[test]
fn what_a_root_future_owned_is_closed_when_block_on_returns_or_unwinds() {
    let _turn = turn_on_software_ring();
    bounded(|| {
        let runtime = runtime();
        for panics in [false, true] {
            let (ours, mut theirs) = std_unix::UnixStream::pair().unwrap();
            theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(Root(UnixStream::from(ours), panics))
            }));
            assert_eq!(ended.is_err(), panics);
            assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 0);
        }
    });
}

#[test]
fn what_a_number_meant_is_forgotten_when_it_is_closed_or_given_away() {
    run(async || {
        let mut compared = 0;
        for round in 0..20 {
            let (ours, mut theirs) = std_unix::UnixStream::pair().unwrap();
            let number = ours.as_raw_fd();
            let stream = UnixStream::from(ours);
            // It has waited, so a ring may know its number.
            assert!(poll_once(Box::pin(stream.read(vec![0; 8])).as_mut()).is_pending());
            turns(1).await;
            theirs.write_all(b"first").unwrap();
            assert_eq!(stream.read(vec![0; 8]).await.unwrap().0, 5);
            match round % 2 {
                0 => drop(stream.into_std().await),
                _ => stream.close().await.unwrap(),
            }
            let (next, mut peer) = std_unix::UnixStream::pair().unwrap();
            if next.as_raw_fd() != number {
                continue;
            }
            compared += 1;
            let next = UnixStream::from(next);
            let mut read = Box::pin(next.read(vec![0; 8]));
            assert!(poll_once(read.as_mut()).is_pending());
            turns(3).await;
            peer.write_all(b"next").unwrap();
            // The software ring looks after waits that rest on old knowledge every 100 ms, which is
            // many turns more.
            turns(20).await;
            assert!(
                poll_once(read.as_mut()).is_ready(),
                "it waited for something else than its data"
            );
        }
        assert!(compared > 0, "no number came again");
    });
}
