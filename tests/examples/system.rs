//! The examples about signals, children and files that change, each run as the program that a
//! reader would start.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use crate::common::{bounded, example, mortal, scratch_dir};

/// An example that runs, killed and waited for when it goes out of scope.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.spawn().expect("the example starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line of text");
        line.trim_end().to_owned()
    }

    fn signal(&self, number: i32) {
        // SAFETY: the call takes no memory, and the child has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, number) }, 0);
    }

    fn rest(&mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        (rest, self.child.wait().expect("it ends"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// shutdown

fn server() -> (Running, SocketAddr) {
    let mut command = Command::new(example("shutdown"));
    let mut server = Running::start(&mut mortal(arg(&mut command, "127.0.0.1:0")));
    let line = server.line();
    let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
    (server, address.unwrap_or_else(|| panic!("not an address: {line:?}")))
}

fn arg(command: &mut Command, argument: &str) -> Command {
    command.arg(argument);
    std::mem::replace(command, Command::new("true"))
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"x").expect("it reads");
    client.read_exact(&mut [0]).expect("it answers");
    client
}

#[test]
fn shutdown_lets_connections_end_and_accepts_no_more() {
    bounded(|| {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let (mut server, address) = server();
            let (mut one, two) = (connect(address), connect(address));
            drop(connect(address));
            server.signal(signal);
            let line = server.line();
            assert!(line.ends_with("connections may end within 2s"), "{line}");
            assert!(TcpStream::connect(address).is_err(), "it accepts no more");
            // What is open goes on until its own end.
            one.write_all(b"still there?").expect("it reads");
            one.shutdown(Shutdown::Write).expect("connected");
            let mut answer = String::new();
            one.read_to_string(&mut answer).expect("it answers");
            assert_eq!(answer, "still there?");
            drop(two);
            let (rest, status) = server.rest();
            assert_eq!((rest.as_str(), status.code()), ("bye\n", Some(0)));
        }
    });
}

#[test]
fn shutdown_cancels_connections_that_do_not_end() {
    bounded(|| {
        let (mut server, address) = server();
        let mut client = connect(address);
        server.signal(libc::SIGTERM);
        let (rest, status) = server.rest();
        assert!(rest.ends_with("1 connections are cancelled\nbye\n"), "{rest}");
        assert_eq!(status.code(), Some(0));
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "its connection is closed");
    });
}

// pipeline

fn pipeline(words: &[&str]) -> Command {
    let mut command = Command::new(example("pipeline"));
    command.args(words);
    mortal(command)
}

#[test]
fn pipeline_joins_programs_and_has_the_code_of_the_last() {
    bounded(|| {
        let words = ["printf", "b\\na\\nb\\n", "|", "sort", "|", "uniq", "-c"];
        let output = pipeline(&words).output().expect("the example starts");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["1", "a", "2", "b"]);
        let output = pipeline(&["true", "|", "sh", "-c", "exit 3"]).output().expect("it starts");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "sh: exit status: 3\n");
    });
}

#[test]
fn pipeline_ends_when_its_reader_has_enough() {
    bounded(|| {
        let output = pipeline(&["yes", "|", "head", "-n", "2"]).output().expect("it starts");
        assert_eq!(output.stdout, b"y\ny\n");
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("yes: "), "it was ended");
    });
}

#[test]
fn pipeline_copies_its_own_input_and_names_what_it_cannot_start() {
    bounded(|| {
        let mut child =
            pipeline(&["cat", "|", "cat"]).stdin(Stdio::piped()).spawn().expect("it starts");
        let mut input = child.stdin.take().expect("a pipe");
        let writer = thread::spawn(move || input.write_all(&[7; 1_000_000]).expect("it reads"));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("all was written");
        assert!(output.stdout == vec![7; 1_000_000]);
        for words in [&["yes", "|", "/no/such-program"][..], &["true", "|"], &[]] {
            let output = pipeline(words).output().expect("it starts");
            let cried = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{cried}");
            assert!(cried.contains("/no/such-program") || cried.contains("is missing"), "{cried}");
        }
    });
}

// tail

#[test]
fn tail_shows_the_end_and_what_is_appended_cut_and_put_in_its_place() {
    bounded(|| {
        let directory = scratch_dir();
        let path = directory.path().join("log");
        let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
        fs::write(&path, lines).expect("room on disk");
        let mut command = Command::new(example("tail"));
        command.arg(&path);
        let mut tail = Running::start(&mut mortal(command));
        let mut errors = BufReader::new(tail.child.stderr.take().expect("a pipe"));
        for number in 90..100 {
            assert_eq!(tail.line(), format!("line {number}"));
        }
        let append = |text: &str| {
            let mut file = File::options().append(true).open(&path).expect("it is there");
            file.write_all(text.as_bytes()).expect("room on disk");
        };
        for text in ["one", "two", "three"] {
            append(&format!("{text}\n"));
            assert_eq!(tail.line(), text);
        }
        // Cut, as by `> log`.
        fs::write(&path, "").expect("room on disk");
        let mut cried = String::new();
        errors.read_line(&mut cried).expect("text");
        assert!(cried.contains("was cut"), "{cried}");
        append("after the cut\n");
        assert_eq!(tail.line(), "after the cut");
        // Another file takes its name. What the old one got to the last is shown.
        append("the last\n");
        fs::rename(&path, directory.path().join("log.1")).expect("a directory");
        fs::write(&path, "new file\n").expect("room on disk");
        assert_eq!(tail.line(), "the last");
        assert_eq!(tail.line(), "new file");
        append("and on\n");
        assert_eq!(tail.line(), "and on");
    });
}

#[test]
fn tail_names_what_it_cannot_open() {
    bounded(|| {
        let mut command = Command::new(example("tail"));
        let output = mortal(arg(&mut command, "no/such/file")).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/file"));
    });
}
