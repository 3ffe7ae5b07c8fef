//! How do the parent and a contender's process talk? JSON lines: requests on the child's stdin, replies on its stdout.
//!
//! Each contender runs in a process of its own, so that its CPU clock counts it and nothing else. The parent asks one
//! thing at a time and waits a bounded time for the answer. A child ends when its stdin does, and with its parent.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Failure;
use crate::measure::{Histogram, Slice, empty_histogram};
use crate::system;

/// The hidden subcommand that makes this executable a contender's process.
pub(crate) const CHILD_COMMAND: &str = "contender-process";

/// Beyond what a request may take by itself, a child gets this long to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A child whose stdin has ended gets this long to go by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The first line a child gets: who it is and what it serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) contender: String,
    pub(crate) parent: u32,
    /// The core to stay on; `None` leaves the choice to the kernel.
    pub(crate) core: Option<usize>,
    pub(crate) job: Job,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Echo(EchoJob),
    Files(FileJob),
}

/// Accept on a loopback port and send every byte back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EchoJob {
    pub(crate) connections: usize,
    /// The size of each read: both contenders use the same.
    pub(crate) read_size: usize,
}

/// Read random blocks of one file with `depth` reads in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FileJob {
    pub(crate) path: PathBuf,
    pub(crate) blocks: u64,
    pub(crate) direct: bool,
    pub(crate) depth: usize,
}

/// What the parent asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To an echo server: the state of its counters, now.
    Counters,
    /// To a file reader: read for this long.
    Slice { duration_ms: u64, seed: u64 },
}

/// What a child answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Sent once, unasked, when the contender can be used. `port` is 0 for a file reader.
    Ready {
        port: u16,
        setup: String,
    },
    Counters(Counters),
    Slice(SliceReply),
    /// Sent instead of any of them; the child then ends.
    Failed(String),
}

/// Counters that only grow; the parent takes differences.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) cpu_ns: u64,
    pub(crate) enters: u64,
}

impl Counters {
    pub(crate) fn now(enters: u64) -> Counters {
        Counters { cpu_ns: system::process_cpu_time().as_nanos() as u64, enters }
    }
}

/// One slice of reads, as a child reports it. The histogram travels as pairs of value in nanoseconds and count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SliceReply {
    operations: u64,
    elapsed_ns: u64,
    cpu_ns: u64,
    enters: u64,
    latencies: Vec<(u64, u64)>,
}

impl SliceReply {
    pub(crate) fn into_slice(self) -> Slice {
        let mut latencies = empty_histogram();
        for (value, count) in self.latencies {
            latencies.saturating_record_n(value, count);
        }
        Slice {
            operations: self.operations,
            elapsed: Duration::from_nanos(self.elapsed_ns),
            cpu: Duration::from_nanos(self.cpu_ns),
            enters: self.enters,
            latencies,
            load_busy: None,
        }
    }
}

/// The books of one slice inside a child: the same ones, and the same cost, for every contender.
#[derive(Debug)]
pub(crate) struct SliceBooks {
    started: Instant,
    duration: Duration,
    before: Counters,
    operations: u64,
    latencies: Histogram,
}

impl SliceBooks {
    pub(crate) fn open(duration_ms: u64, enters: u64) -> SliceBooks {
        SliceBooks {
            latencies: empty_histogram(),
            operations: 0,
            duration: Duration::from_millis(duration_ms),
            before: Counters::now(enters),
            started: Instant::now(),
        }
    }

    /// Books one finished read; says when it ended if another may be started.
    pub(crate) fn book(&mut self, asked: Instant) -> Option<Instant> {
        let now = Instant::now();
        self.operations += 1;
        self.latencies.saturating_record(now.duration_since(asked).as_nanos() as u64);
        (now.duration_since(self.started) < self.duration).then_some(now)
    }

    pub(crate) fn close(self, enters: u64) -> SliceReply {
        let elapsed = self.started.elapsed();
        let after = Counters::now(enters);
        SliceReply {
            operations: self.operations,
            elapsed_ns: elapsed.as_nanos() as u64,
            cpu_ns: after.cpu_ns - self.before.cpu_ns,
            enters: after.enters - self.before.enters,
            latencies: self.latencies.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect(),
        }
    }
}

/// The child's end of the conversation.
#[derive(Debug)]
pub(crate) struct Control {
    requests: io::Stdin,
}

impl Control {
    pub(crate) fn open() -> Control {
        Control { requests: io::stdin() }
    }

    /// The parent's next line; `None` when the parent has no more to ask.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let mut line = String::new();
        match self.requests.lock().read_line(&mut line)? {
            0 => Ok(None),
            _ => Ok(Some(serde_json::from_str(&line)?)),
        }
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), Failure> {
        let mut line = serde_json::to_string(reply)?;
        line.push('\n');
        let mut replies = io::stdout().lock();
        replies.write_all(line.as_bytes())?;
        Ok(replies.flush()?)
    }
}

/// The parent's end: one running contender. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) setup: String,
    pub(crate) port: u16,
    process: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
}

impl Contestant {
    /// Starts the process and waits until it is ready.
    pub(crate) fn start(name: &'static str, core: Option<usize>, job: Job) -> Result<Contestant, Failure> {
        let executable = std::env::current_exe()?;
        let mut process = Command::new(executable)
            .arg(CHILD_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the process for {name}: {error}"))?;
        let requests = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe above");
        let replies = forward_lines(stdout);
        let mut contestant = Contestant { name, setup: String::new(), port: 0, process, requests, replies };

        contestant.send(&Assignment { contender: name.into(), parent: std::process::id(), core, job })?;
        match contestant.receive(Duration::ZERO)? {
            Reply::Ready { port, setup } => {
                contestant.port = port;
                contestant.setup = setup;
                Ok(contestant)
            }
            other => Err(contestant.out_of_turn(&other)),
        }
    }

    pub(crate) fn counters(&mut self) -> Result<Counters, Failure> {
        self.send(&Request::Counters)?;
        match self.receive(Duration::ZERO)? {
            Reply::Counters(counters) => Ok(counters),
            other => Err(self.out_of_turn(&other)),
        }
    }

    pub(crate) fn slice(&mut self, duration: Duration, seed: u64) -> Result<Slice, Failure> {
        self.send(&Request::Slice { duration_ms: duration.as_millis() as u64, seed })?;
        match self.receive(duration)? {
            Reply::Slice(reply) => Ok(reply.into_slice()),
            other => Err(self.out_of_turn(&other)),
        }
    }

    fn send(&mut self, message: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_string(message)?;
        line.push('\n');
        let requests = self.requests.as_mut().expect("stdin is given up only in drop");
        // A child that has ended left its reason in the replies; `receive` finds it.
        match requests.write_all(line.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, expected: Duration) -> Result<Reply, Failure> {
        let name = self.name;
        let line = self.replies.recv_timeout(expected + ANSWER_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("{name} has not answered for {} s", ANSWER_TIMEOUT.as_secs()),
            RecvTimeoutError::Disconnected => format!("the process of {name} ended unexpectedly"),
        })?;
        match serde_json::from_str(&line)? {
            Reply::Failed(reason) => Err(format!("{name}: {reason}").into()),
            reply => Ok(reply),
        }
    }

    fn out_of_turn(&self, reply: &Reply) -> Failure {
        format!("{} answered out of turn: {reply:?}", self.name).into()
    }
}

/// A thread of its own reads the pipe, because only a channel can be waited for with a deadline.
fn forward_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Drop for Contestant {
    fn drop(&mut self) {
        self.requests = None;
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        eprintln!("the process of {} did not end within {} s and was killed", self.name, EXIT_TIMEOUT.as_secs());
        // Both fail only if the process has ended by itself meanwhile.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
