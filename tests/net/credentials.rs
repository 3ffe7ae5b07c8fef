//! Who the peer of a Unix socket is.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::process::{Command, Stdio};

use annulus::net::{UnixListener, UnixStream};

use crate::common::{in_own_process, mortal, run};

fn me() -> (Option<i32>, u32, u32) {
    // SAFETY: the calls take no memory.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    (Some(std::process::id() as i32), user, group)
}

/// The groups of this process, sorted.
fn groups() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let mut groups: Vec<u32> =
        line.split_whitespace().map(|group| group.parse().unwrap()).collect();
    groups.sort_unstable();
    groups
}

/// Has the kernel `SO_PEERPIDFD`? Says so if not.
fn has_peer_pidfd(stream: &UnixStream) -> bool {
    match stream.peer_pidfd() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("skipped: {error}");
            false
        }
        other => {
            other.unwrap();
            true
        }
    }
}

#[test]
fn the_ends_of_a_connection_tell_of_each_other() {
    run(async || {
        let address =
            SocketAddr::from_abstract_name(format!("annulus-cred-{}", std::process::id()));
        let address = address.unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for stream in [&client, &server] {
            let peer = stream.peer_cred().unwrap();
            assert_eq!((peer.pid(), peer.uid(), peer.gid()), me());
            let mut found = stream.peer_groups().unwrap();
            found.sort_unstable();
            assert_eq!(found, groups());
        }
        if has_peer_pidfd(&client) {
            let pidfd = server.peer_pidfd().unwrap();
            let about =
                std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd()));
            let line = format!("Pid:\t{}\n", std::process::id());
            assert!(about.unwrap().contains(&line));
            // SAFETY: the call takes no memory.
            let flags = unsafe { libc::fcntl(pidfd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags, libc::FD_CLOEXEC);
        }
    });
}

#[test]
fn more_groups_than_there_is_room_for_at_first_are_told() {
    in_own_process(|| {
        // SAFETY: the call takes no memory.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: only root may have other groups");
            return;
        }
        let many: Vec<u32> = (2000..2100).collect();
        // SAFETY: the groups outlive the call.
        assert_eq!(unsafe { libc::setgroups(many.len(), many.as_ptr()) }, 0);
        run(async || {
            let (a, _b) = UnixStream::pair().unwrap();
            let mut found = a.peer_groups().unwrap();
            found.sort_unstable();
            assert_eq!(found, many);
        });
    });
}

#[test]
fn a_pidfd_of_a_peer_shows_when_its_process_ends() {
    in_own_process(|| {
        run(async || {
            let name = format!("annulus-pidfd-{}", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            let script = format!(
                "import socket, sys\n\
                 s = socket.socket(socket.AF_UNIX)\n\
                 s.connect('\\0{name}')\n\
                 s.recv(1)\n"
            );
            let mut command = Command::new("python3");
            command.args(["-c", &script]);
            let mut command = mortal(command);
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
            let Ok(mut child) = command.spawn() else {
                println!("skipped: no python3");
                return;
            };
            let (server, _) = listener.accept().await.unwrap();
            assert_eq!(server.peer_cred().unwrap().pid(), Some(child.id() as i32));
            if has_peer_pidfd(&server) {
                let pidfd = server.peer_pidfd().unwrap();
                let has_ended = || {
                    let mut look =
                        libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                    // SAFETY: the structure is a local variable.
                    unsafe { libc::poll(&mut look, 1, 0) == 1 }
                };
                assert!(!has_ended());
                child.kill().unwrap();
                child.wait().unwrap();
                assert!(has_ended());
            }
            let _ = child.kill();
            child.wait().unwrap();
        });
    });
}

#[test]
fn what_has_no_peer_tells_of_nobody() {
    run(async || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket.unwrap()));
        let nobody = stream.peer_cred().unwrap();
        assert_eq!((nobody.pid(), nobody.uid()), (None, u32::MAX));
        assert_eq!(stream.peer_groups().unwrap_err().raw_os_error(), Some(libc::ENODATA));
        assert!(stream.peer_pidfd().is_err());
    });
}
