//! Interruptions and refusals of calls to the kernel: set-up survives them, and a program ends as
//! it should.
//!
//! strace(1) makes up the errors: the first call, every second one, or some at random are not made
//! and answer `EINTR`, `EAGAIN` or `EBUSY`. Where there is no strace, or it may not trace, the
//! tests say that they were skipped. `.ci/run` has more programs run like this.

#[allow(unreachable_pub, clippy::unwrap_used)]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use common::{bounded, example, is_on_software_ring, mortal, seed};

/// The calls of each ring that may be refused for the moment.
const KERNEL_CALLS: &[&str] = &["io_uring_setup", "io_uring_register", "io_uring_enter"];
const KERNEL_ERRORS: &[&str] = &["EINTR", "EAGAIN", "EBUSY"];
const EPOLL_CALLS: &[&str] = &["epoll_wait", "epoll_pwait2"];
const EPOLL_ERRORS: &[&str] = &["EINTR"];

fn calls_and_errors() -> (&'static [&'static str], &'static [&'static str]) {
    if is_on_software_ring() { (EPOLL_CALLS, EPOLL_ERRORS) } else { (KERNEL_CALLS, KERNEL_ERRORS) }
}

/// Which calls are refused, in strace's words: the first, all but every second, every second, and
/// some at random.
fn times() -> Vec<String> {
    let seed = seed();
    let at_random = |n: u64| format!("{}+{}", 1 + (seed >> n) % 7, 2 + (seed >> (n + 8)) % 7);
    ["1".to_owned(), "1+2".to_owned(), "2+2".to_owned(), at_random(0), at_random(16)].into()
}

/// A program that ends with this thread at the latest, and of whose calls to the kernel some are
/// refused. strace is its child, and ends with it.
fn interrupted(injection: &str, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-o", "/dev/null", "-e", injection])
        .arg(example(name))
        .args(arguments);
    mortal(command)
}

fn may_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let may = traced.is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: there is no strace(1), or it may not trace");
    }
    may
}

#[test]
fn an_echo_server_starts_and_serves() {
    if !may_trace() {
        return;
    }
    bounded(|| {
        let (calls, errors) = calls_and_errors();
        for call in calls {
            for error in errors {
                for when in times() {
                    let injection = format!("inject={call}:error={error}:when={when}");
                    let mut server = interrupted(&injection, "echo", &["127.0.0.1:0"])
                        .spawn()
                        .expect("strace starts");
                    let mut line = String::new();
                    BufReader::new(server.stdout.take().expect("a pipe"))
                        .read_line(&mut line)
                        .expect("a line");
                    let Some(address) = line.trim().strip_prefix("listening on ") else {
                        let mut complaint = String::new();
                        server
                            .stderr
                            .take()
                            .expect("a pipe")
                            .read_to_string(&mut complaint)
                            .expect("words");
                        panic!("{injection}: {line}{complaint}");
                    };
                    let mut client = TcpStream::connect(address).expect("it listens");
                    for size in [1, 100, 100_000] {
                        let bytes = vec![size as u8; size];
                        let (mut sender, mut back) =
                            (client.try_clone().expect("a duplicate"), vec![0; size]);
                        std::thread::scope(|scope| {
                            scope.spawn(|| sender.write_all(&bytes).expect("it reads"));
                            client.read_exact(&mut back).expect("it answers");
                        });
                        assert!(back == bytes, "{injection}");
                    }
                    client.shutdown(Shutdown::Write).expect("connected");
                    assert_eq!(client.read(&mut [0; 8]).expect("an end"), 0, "{injection}");
                    server.kill().expect("it runs");
                    server.wait().expect("it ends");
                }
            }
        }
    });
}

#[test]
fn a_call_that_is_interrupted_each_time_is_named_with_its_errno_and_the_remedy() {
    if !may_trace() || is_on_software_ring() {
        return;
    }
    bounded(|| {
        for (call, error, words) in [
            ("io_uring_enter", "EINTR", ["io_uring_enter: ", "os error 4", "signals"]),
            ("io_uring_enter", "EAGAIN", ["io_uring_enter: ", "os error 11", "pids.max"]),
            ("io_uring_enter", "EBUSY", ["io_uring_enter: ", "os error 16", "pids.max"]),
            ("io_uring_setup", "EINTR", ["io_uring_setup: ", "os error 4", "signals"]),
        ] {
            let injection = format!("inject={call}:error={error}");
            let output = interrupted(&injection, "echo", &["127.0.0.1:0"])
                .env("ANNULUS_RING", "kernel")
                .output()
                .expect("strace starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && words.iter().all(|word| said.contains(word)),
                "{injection}: {said}"
            );
            assert!(!said.contains("does not know"), "{injection}: {said}");
        }
    });
}
