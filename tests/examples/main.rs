//! The examples, each run as the program that a reader would start, with real clients and files.
//!
//! Cargo builds the examples for `cargo test`, next to the directory of this test's executable,
//! whatever the profile or target.

#![allow(unsafe_code)]

mod atomic_write;
mod checksum;
#[allow(unreachable_pub, clippy::unwrap_used)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "http")]
mod fetch_url;
mod grep;
mod proxy;
#[cfg(feature = "http")]
mod reverse_proxy;
#[cfg(feature = "http")]
mod static_server;
mod system;
#[cfg(feature = "http")]
mod web;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::{bounded, example, forbid, mortal, scratch_dir};
use rustix::thread::{CpuSet, sched_getaffinity};

const MIB: usize = 1024 * 1024;

fn command(name: &str, arguments: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(example(name));
    command.args(arguments.iter().map(|argument| argument.as_ref()));
    mortal(command)
}

/// Runs a program to its end.
fn run(name: &str, arguments: &[&dyn AsRef<OsStr>]) -> Output {
    command(name, arguments).output().expect("the example starts")
}

/// Feeds a program's standard input, and runs it to its end.
fn run_with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the example starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("the example reads its input"));
        child.wait_with_output().expect("the example ends")
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn cried(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, cried(output));
    assert_eq!(cried(output), "");
}

/// It ends with an error that names `subject`, and without a panic.
#[track_caller]
fn assert_fails_naming(output: &Output, subject: impl AsRef<Path>) {
    let subject = subject.as_ref().display().to_string();
    assert_eq!(output.status.code(), Some(1), "{}", cried(output));
    assert!(cried(output).contains(&subject), "no word of {subject}: {}", cried(output));
}

/// Bytes that differ from place to place and are the same in each run.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

// tasks

#[test]
fn two_tasks_that_sleep_one_second_take_one_second_together() {
    bounded(|| {
        let output = run("tasks", &[]);
        assert_success(&output);
        let text = said(&output);
        for name in ["first", "second"] {
            assert!(text.contains(&format!("{name} is done")), "{text}");
        }
        let last = text.lines().last().expect("a summary");
        let words: Vec<&str> = last.split_whitespace().collect();
        let [.., elapsed, "s", "elapsed"] = words[..] else { panic!("no elapsed time: {last}") };
        let elapsed: f64 = elapsed.parse().expect("a number of seconds");
        assert!((1.0..1.9).contains(&elapsed), "{last}");
    });
}

// timeout

#[test]
fn a_deadline_on_an_operation_gives_the_buffer_back_and_one_on_a_composition_does_not() {
    bounded(|| {
        let output = run("timeout", &[]);
        assert_success(&output);
        let text = said(&output);
        let expected = [
            "the buffer of 1024 bytes is back",
            "5 bytes came in time: \"hello\"",
            "no answer within",
            "\"how much longer?\"",
        ];
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(expected), "{line} should contain {expected}");
        }
    });
}

// select

#[test]
fn select_serves_every_connection_though_the_timer_wins() {
    bounded(|| {
        let output = run("select", &[&"300"]);
        assert_success(&output);
        let text = said(&output);
        let [timer, "served: 300", "lost: 0"] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert_ne!(timer, "the timer won 0 times", "no accept was dropped");
    });
}

// echo

/// A server that runs, killed and waited for when it goes out of scope.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Server {
        Server::from_command(command("echo", &[&"127.0.0.1:0"]))
    }

    fn from_command(mut command: Command) -> Server {
        let mut child = command.spawn().expect("the example starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line of text");
        let address =
            line.trim_end().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Server { child, address: address.unwrap_or_else(|| panic!("not an address: {line:?}")) }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("the server listens")
    }

    fn errors(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().expect("a pipe"))
    }

    #[track_caller]
    fn assert_serves(&self) {
        let mut client = self.connect();
        client.write_all(b"still there?").expect("the server reads");
        client.shutdown(Shutdown::Write).expect("connected");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("the server answers");
        assert_eq!(answer, "still there?");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        if !thread::panicking() {
            killed.expect("the server ran until now");
        }
    }
}

#[test]
fn echo_sends_large_payloads_back_to_several_clients_at_once_and_ends_after_a_half_close() {
    bounded(|| {
        let server = Server::start();
        let payload = bytes(4 * MIB + 4321);
        thread::scope(|scope| {
            for number in 0..8 {
                let (server, payload) = (&server, &payload[number..]);
                scope.spawn(move || {
                    let mut client = server.connect();
                    let mut writer = client.try_clone().expect("a descriptor");
                    // Sending and receiving must go on together: neither side could buffer all of
                    // it.
                    let sender = scope.spawn(move || {
                        writer.write_all(payload).expect("the server reads");
                        writer.shutdown(Shutdown::Write).expect("connected");
                    });
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).expect("the server answers");
                    sender.join().expect("all was sent");
                    assert!(
                        answer == payload,
                        "client {number} got back {} of {} bytes, or others",
                        answer.len(),
                        payload.len()
                    );
                });
            }
        });
    });
}

#[test]
fn echo_answers_each_small_message_before_the_next_is_sent() {
    bounded(|| {
        let server = Server::start();
        let mut clients: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
        for round in 0..100u8 {
            for (number, client) in clients.iter_mut().enumerate() {
                let message = [round, number as u8, 0xff];
                client.write_all(&message).expect("the server reads");
                let mut answer = [0; 3];
                client.read_exact(&mut answer).expect("the server answers");
                assert_eq!(answer, message);
            }
        }
    });
}

#[test]
fn echo_says_which_client_has_gone_and_serves_the_others() {
    bounded(|| {
        let mut server = Server::start();
        let mut errors = server.errors();
        let mut client = server.connect();
        client.write_all(b"x").expect("the server reads");
        client.read_exact(&mut [0]).expect("the server answers");
        // Closing resets the connection.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket");
        let address = client.local_addr().expect("connected");
        drop(client);
        let mut line = String::new();
        errors.read_line(&mut line).expect("a line of text");
        assert!(line.starts_with(&address.to_string()) && line.contains("reset"), "{line}");
        server.assert_serves();
    });
}

#[test]
fn echo_without_descriptors_lets_clients_wait_until_others_have_gone() {
    const CLIENTS: u8 = 30;
    bounded(|| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 16 && exec \"$0\" 127.0.0.1:0"]).arg(example("echo"));
        let mut server = Server::from_command(mortal(shell));
        let mut errors = server.errors();
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
        let mut line = String::new();
        errors.read_line(&mut line).expect("a line of text");
        assert!(line.contains("cannot accept for now"), "{line}");
        // They are accepted in their order, each of the later ones when an earlier one has gone.
        for (number, mut client) in (0..CLIENTS).zip(clients) {
            client.write_all(&[number]).expect("the kernel buffers it");
            let mut answer = [0xff];
            client.read_exact(&mut answer).expect("the server answers");
            assert_eq!(answer, [number]);
        }
        server.assert_serves();
    });
}

#[test]
fn echo_names_the_address_that_it_cannot_have() {
    bounded(|| {
        let taken = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, _listener) = taken.expect("a port");
        assert_fails_naming(&run("echo", &[&address.to_string()]), address.to_string());
        assert_fails_naming(&run("echo", &[&"no address"]), "no address");
    });
}

// cores

/// Connects until every processor that this process may use has answered. The kernel spreads the
/// connections by their addresses, so a few more are needed than there are processors.
#[test]
fn cores_serves_on_every_processor() {
    const ENOUGH: usize = 10_000;
    bounded(|| {
        let server = Server::from_command(command("cores", &[&"127.0.0.1:0"]));
        let allowed = sched_getaffinity(None).expect("a list of processors");
        let expected: BTreeSet<_> =
            (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let mut found = BTreeSet::new();
        let mut connections = 0;
        while found != expected && connections < ENOUGH {
            let mut answer = String::new();
            server.connect().read_to_string(&mut answer).expect("the server answers");
            let processor =
                answer.trim_end().strip_prefix("processor ").and_then(|cpu| cpu.parse().ok());
            found.insert(processor.unwrap_or_else(|| panic!("not a processor: {answer:?}")));
            connections += 1;
        }
        assert_eq!(found, expected, "after {connections} connections");
    });
}

// cat

#[test]
fn cat_writes_files_one_after_the_other_byte_for_byte() {
    bounded(|| {
        let directory = scratch_dir();
        let mut expected = Vec::new();
        let mut command = command("cat", &[]);
        for (number, length) in
            [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 3 * MIB + 17].into_iter().enumerate()
        {
            let (path, content) = (directory.path().join(number.to_string()), bytes(length));
            fs::write(&path, &content).expect("room on disk");
            expected.extend_from_slice(&content);
            command.arg(path);
        }
        let output = command.output().expect("the example starts");
        assert_success(&output);
        assert!(
            output.stdout == expected,
            "{} of {} bytes, or others",
            output.stdout.len(),
            expected.len()
        );
    });
}

#[test]
fn cat_copies_a_pipe_under_all_its_names() {
    bounded(|| {
        let input = bytes(2 * MIB + 5);
        let names: [&[&dyn AsRef<OsStr>]; 3] = [&[], &[&"-"], &[&"/dev/stdin"]];
        for arguments in names {
            let output = run_with_input(command("cat", arguments), &input);
            assert_success(&output);
            assert!(
                output.stdout == input,
                "{} of {} bytes, or others",
                output.stdout.len(),
                input.len()
            );
        }
    });
}

#[test]
fn cat_passes_on_what_comes_without_waiting_for_more() {
    bounded(|| {
        let mut child =
            command("cat", &[]).stdin(Stdio::piped()).spawn().expect("the example starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        for line in ["one\n", "two\n", "three\n"] {
            stdin.write_all(line.as_bytes()).expect("the example reads its input");
            let mut copied = String::new();
            stdout.read_line(&mut copied).expect("a line of text");
            assert_eq!(copied, line);
        }
        drop(stdin);
        assert!(child.wait().expect("the example ends").success());
    });
}

#[test]
fn cat_starts_where_standard_input_stands() {
    bounded(|| {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        fs::write(&path, "a head and the rest").expect("room on disk");
        let mut file = File::open(&path).expect("it is there");
        file.seek(SeekFrom::Start(11)).expect("a file has a position");
        let output = command("cat", &[]).stdin(file).output().expect("the example starts");
        assert_success(&output);
        assert_eq!(said(&output), "the rest");
    });
}

#[test]
fn cat_continues_a_file_that_others_write_too() {
    bounded(|| {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        fs::write(directory.path().join("middle"), "middle ").expect("room on disk");
        let mut file = File::create(&path).expect("room on disk");
        file.write_all(b"before ").expect("room on disk");
        let stdout = file.try_clone().expect("a descriptor");
        let status = command("cat", &[&directory.path().join("middle")])
            .stdout(stdout)
            .status()
            .expect("the example starts");
        assert!(status.success());
        file.write_all(b"after").expect("room on disk");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "before middle after");
    });
}

#[test]
fn cat_with_closed_standard_input_writes_nothing() {
    bounded(|| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" <&-"]).arg(example("cat"));
        let output = mortal(shell).output().expect("the example starts");
        assert_success(&output);
        assert_eq!(said(&output), "");
    });
}

#[test]
fn cat_ends_quietly_when_its_reader_has_seen_enough() {
    bounded(|| {
        let mut child = command("cat", &[&"/dev/zero"]).spawn().expect("the example starts");
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0xff; 100]).expect("endless zeroes");
        drop(stdout);
        assert_success(&child.wait_with_output().expect("the example ends"));
    });
}

#[test]
fn cat_without_a_reader_does_not_wait_for_more_input() {
    bounded(|| {
        let mut child =
            command("cat", &[]).stdin(Stdio::piped()).spawn().expect("the example starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        drop(child.stdout.take());
        stdin.write_all(b"for nobody").expect("the example reads its input");
        // The input stays open until the program has ended.
        assert_success(&child.wait_with_output().expect("the example ends"));
        drop(stdin);
    });
}

#[test]
fn cat_names_the_file_that_it_cannot_read() {
    bounded(|| {
        let directory = scratch_dir();
        let (good, missing) = (directory.path().join("good"), directory.path().join("missing"));
        fs::write(&good, "good").expect("room on disk");
        let output = run("cat", &[&good, &missing]);
        assert_fails_naming(&output, &missing);
        assert_eq!(said(&output), "good");
        assert_fails_naming(&run("cat", &[&directory.path()]), directory.path());
    });
}

// copy

#[test]
fn copy_makes_an_equal_file_of_any_size() {
    bounded(|| {
        let directory = scratch_dir();
        let (source, target) = (directory.path().join("source"), directory.path().join("target"));
        let content = bytes(100 * MIB + 12_345);
        // The largest first: a target that exists is emptied.
        for length in
            [content.len(), 16 * 256 * 1024, 256 * 1024 + 1, 256 * 1024, 256 * 1024 - 1, 1, 0]
        {
            fs::write(&source, &content[..length]).expect("room on disk");
            let output = run("copy", &[&source, &target]);
            assert_success(&output);
            assert!(
                said(&output).starts_with(&format!("copied {length} bytes in ")),
                "{}",
                said(&output)
            );
            assert!(said(&output).trim_end().ends_with(" MB/s"), "{}", said(&output));
            assert!(
                fs::read(&target).expect("it is there") == content[..length],
                "a copy of {length} bytes differs"
            );
        }
    });
}

#[test]
fn copy_refuses_a_missing_source_and_makes_no_target() {
    bounded(|| {
        let directory = scratch_dir();
        let (source, target) = (directory.path().join("source"), directory.path().join("target"));
        assert_fails_naming(&run("copy", &[&source, &target]), &source);
        assert!(!target.exists());
    });
}

#[test]
fn copy_refuses_a_target_that_it_cannot_write() {
    bounded(|| {
        let directory = scratch_dir();
        let source = directory.path().join("source");
        fs::write(&source, "content").expect("room on disk");
        assert_fails_naming(&run("copy", &[&source, &directory.path()]), directory.path());
        let nowhere = directory.path().join("missing").join("target");
        assert_fails_naming(&run("copy", &[&source, &nowhere]), &nowhere);

        let read_only = directory.path().join("read-only");
        fs::write(&read_only, "old").expect("room on disk");
        fs::set_permissions(&read_only, fs::Permissions::from_mode(0o444)).expect("our own file");
        let may_write = match File::options().write(true).open(&read_only) {
            // Root may.
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
            Err(error) => panic!("{error}"),
        };
        let output = run("copy", &[&source, &read_only]);
        if may_write {
            assert_success(&output);
        } else {
            assert_fails_naming(&output, &read_only);
        }
        assert_eq!(
            fs::read_to_string(&read_only).expect("it is there"),
            if may_write { "content" } else { "old" }
        );
    });
}

#[test]
fn copy_refuses_to_copy_a_file_onto_itself_under_any_name() {
    bounded(|| {
        let directory = scratch_dir();
        let [file, hard, soft] = ["file", "hard", "soft"].map(|name| directory.path().join(name));
        fs::write(&file, "content").expect("room on disk");
        fs::hard_link(&file, &hard).expect("a link");
        std::os::unix::fs::symlink(&file, &soft).expect("a link");
        for other in [&file, &hard, &soft] {
            let output = run("copy", &[&file, other]);
            assert_fails_naming(&output, other);
            assert!(cried(&output).contains("same file"), "{}", cried(&output));
            assert_eq!(fs::read_to_string(&file).expect("it is there"), "content");
        }
    });
}

#[test]
fn custom_operation_adds_two_operations_or_says_that_the_ring_lacks_them() {
    let output = run("custom_operation", &[]);
    assert!(output.status.success(), "{}", cried(&output));
    let text = said(&output);
    let (options, tee) = text.trim_end().split_once('\n').expect("two lines");
    let expected = "options of a socket, set by the ring: keepalive true, no delay true";
    assert!(options == expected || options.contains("skipped"), "{text}");
    assert!(tee.contains("both pipes hold") || tee.contains("skipped"), "{text}");
}

#[test]
fn copy_needs_two_arguments() {
    bounded(|| {
        for arguments in [&[][..], &[&"one" as &dyn AsRef<OsStr>], &[&"one", &"two", &"three"]] {
            assert_fails_naming(&run("copy", arguments), "usage: copy SOURCE TARGET");
        }
    });
}

// doctor

/// What the example says on a thread that has been prepared, whose filters it inherits.
fn doctor(prepare: impl FnOnce() + Send, arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = command("doctor", arguments);
    // It is about what the machine grants.
    command.env_remove("ANNULUS_RING");
    thread::scope(|scope| {
        let prepared = scope.spawn(move || {
            prepare();
            command.output().expect("the example starts")
        });
        prepared.join().expect("no panic")
    })
}

fn parsed(output: &Output) -> serde_json::Value {
    serde_json::from_str(&said(output)).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn doctor_says_the_same_to_people_and_to_programs() {
    bounded(|| {
        let page = run("doctor", &[]);
        assert_success(&page);
        let json = run("doctor", &[&"--json"]);
        assert_success(&json);
        let json = parsed(&json);
        assert!(
            said(&page).contains(json["kernel"].as_str().expect("a release")),
            "{}",
            said(&page)
        );
        assert!(said(&page).starts_with(&format!(
            "ring in force              {}",
            json["ring"]["kind"].as_str().expect("a kind")
        )));
        for shortfall in json["shortfalls"].as_array().expect("an array") {
            assert!(
                said(&page).contains(shortfall["remedy"].as_str().expect("a remedy")),
                "{}",
                said(&page)
            );
        }
        let usage = run("doctor", &[&"--no-such-option"]);
        assert_eq!(
            (usage.status.code(), cried(&usage).contains("usage: doctor [--json]")),
            (Some(2), true)
        );
    });
}

#[test]
fn doctor_names_the_filter_that_forbids_the_ring() {
    bounded(|| {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let filtered = || forbid(libc::SYS_io_uring_setup, None, errno);
            let page = doctor(filtered, &[]);
            assert!(said(&page).contains("--security-opt seccomp="), "{}", said(&page));
            assert!(cried(&page).is_empty(), "{}", cried(&page));
            let json = parsed(&doctor(filtered, &[&"--json"]));
            assert_eq!(json["seccomp"], "filter");
            assert_eq!(json["refusal"]["call"], "io_uring_setup");
            assert_eq!(json["refusal"]["errno"], errno);
            assert_ne!(json["ring"]["kind"], "kernel");
            assert_eq!(
                page.status.code(),
                Some(if json["ring"].is_null() { 1 } else { 0 }),
                "{json}"
            );
        }
    });
}

// compare

#[test]
fn compare_explains_itself_and_refuses_options_that_it_does_not_know() {
    bounded(|| {
        let help = run("compare", &[&"--help"]);
        assert_success(&help);
        assert!(said(&help).contains("--quick"), "{}", said(&help));
        let refused = run("compare", &[&"--no-such-option"]);
        assert!(!refused.status.success());
        assert!(cried(&refused).contains("--no-such-option"), "{}", cried(&refused));
    });
}
