//! The talk between the parent and a contender's process, in JSON lines: requests on the child's
//! stdin, replies on its stdout.
//!
//! Each contender runs in a process of its own, so that its CPU clock counts it and nothing else.
//! The parent asks one thing at a time and waits a bounded time for the answer. A child ends when
//! its stdin does, and with its parent.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::measure::{Histogram, Slice, empty_histogram};
use super::{Contender, Failure, Task, system};

/// The hidden subcommand that makes this executable a contender's process.
pub(crate) const CHILD_COMMAND: &str = "contender-process";

/// Beyond what a request may take by itself, a child gets this long to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A child whose stdin has ended gets this long to go by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The first line a child gets: who it is and what it serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment<J> {
    pub(crate) contender: String,
    pub(crate) parent: u32,
    /// The core to stay on; `None` leaves the choice to the kernel.
    pub(crate) core: Option<usize>,
    pub(crate) job: J,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Echo(EchoJob),
    Read(ReadJob),
    Copy(CopyJob),
}

/// Accept connections and send every byte back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EchoJob {
    /// Where to listen: on this socket, or else on a loopback port of the server's choice.
    pub(crate) unix_path: Option<PathBuf>,
    pub(crate) connections: usize,
    /// The size of each read: all contenders use the same.
    pub(crate) read_size: usize,
}

/// Read blocks of one file with `depth` reads in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadJob {
    pub(crate) path: PathBuf,
    pub(crate) file_size: u64,
    pub(crate) block_size: usize,
    pub(crate) is_sequential: bool,
    /// Contenders that have streams of files use them.
    pub(crate) is_stream: bool,
    pub(crate) direct: bool,
    pub(crate) depth: usize,
}

/// Copy one file onto another, again and again. An operation is one MiB copied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyJob {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) file_size: u64,
}

/// What the parent asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To an echo server: the state of its counters, now.
    Counters,
    /// To all others: work for this long.
    Slice { duration_ms: u64, seed: u64 },
}

/// What a child answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Sent once, unasked, when the contender can be used. `port` is 0 unless it serves TCP.
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
    /// `None` for a contender that does not count its system calls.
    pub(crate) enters: Option<u64>,
}

impl Counters {
    pub(crate) fn now(enters: Option<u64>) -> Counters {
        Counters { cpu_ns: system::process_cpu_time().as_nanos() as u64, enters }
    }

    pub(crate) fn enters_since(&self, before: &Counters) -> Option<u64> {
        Some(self.enters? - before.enters?)
    }
}

/// One slice of work, as a child reports it. The histogram travels as pairs of value in nanoseconds
/// and count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SliceReply {
    pub(crate) operations: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) enters: Option<u64>,
    pub(crate) latencies: Vec<(u64, u64)>,
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
            bytes_per_connection: None,
        }
    }
}

/// One operation in this many has its time taken: two looks at the clock cost as much as a tenth of
/// a cached read, and would hide as much of the difference between contenders.
const TIMED_SHARE: u64 = 16;

/// The books of one slice inside a child: the same ones, and the same cost, for every contender.
#[derive(Debug)]
pub(crate) struct SliceBooks {
    started: Instant,
    duration: Duration,
    is_over: bool,
    before: Counters,
    begun: u64,
    operations: u64,
    latencies: Histogram,
}

/// When an operation was begun, if its time is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(Option<Instant>);

impl SliceBooks {
    pub(crate) fn open(duration_ms: u64, enters: Option<u64>) -> SliceBooks {
        SliceBooks {
            latencies: empty_histogram(),
            is_over: false,
            begun: 0,
            operations: 0,
            duration: Duration::from_millis(duration_ms),
            before: Counters::now(enters),
            started: Instant::now(),
        }
    }

    /// To be called when an operation begins.
    pub(crate) fn begin(&mut self) -> Begun {
        self.begun += 1;
        Begun(self.begun.is_multiple_of(TIMED_SHARE).then(Instant::now))
    }

    /// To be called when it has ended; says whether another may begin.
    pub(crate) fn end(&mut self, begun: Begun) -> bool {
        self.operations += 1;
        if let Some(begun) = begun.0 {
            let now = Instant::now();
            self.latencies.saturating_record(now.duration_since(begun).as_nanos() as u64);
            self.is_over = now.duration_since(self.started) >= self.duration;
        }
        !self.is_over
    }

    /// Books many operations that were one to the kernel, such as the parts of a copy.
    pub(crate) fn add(&mut self, operations: u64) -> bool {
        self.operations += operations;
        self.started.elapsed() < self.duration
    }

    pub(crate) fn close(self, enters: Option<u64>) -> SliceReply {
        let elapsed = self.started.elapsed();
        let after = Counters::now(enters);
        SliceReply {
            operations: self.operations,
            elapsed_ns: elapsed.as_nanos() as u64,
            cpu_ns: after.cpu_ns - self.before.cpu_ns,
            enters: after.enters_since(&self.before),
            latencies: self
                .latencies
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }
}

/// Tells the parent that an echo server is ready, and answers its requests on a thread of their
/// own, so that the server's loop need not know of them. The process ends with the parent's last
/// request. `system_calls` is what the loop has counted, if it counts.
pub(crate) fn answer_on_a_thread(
    port: u16,
    setup: String,
    system_calls: Option<Arc<AtomicU64>>,
) -> Result<(), Failure> {
    let mut control = Control::open();
    control.reply(&Reply::Ready { port, setup })?;
    let mut answer = move || -> Result<(), Failure> {
        while let Some(request) = control.next::<Request>()? {
            let Request::Counters = request else {
                return Err(format!("an echo server cannot do {request:?}").into());
            };
            let enters = system_calls.as_ref().map(|count| count.load(Ordering::Relaxed));
            control.reply(&Reply::Counters(Counters::now(enters)))?;
        }
        Ok(())
    };
    thread::Builder::new().spawn(move || {
        let failure = answer().err();
        if let Some(failure) = &failure {
            // The parent may have gone: then nobody is left to be told.
            let _ = Control::open().reply(&Reply::Failed(failure.to_string()));
        }
        std::process::exit(i32::from(failure.is_some()));
    })?;
    Ok(())
}

/// Tells the parent that a worker is ready, and works in slices until the parent has no more
/// requests.
pub(crate) fn answer_with_slices(
    control: &mut Control,
    setup: String,
    mut slice: impl FnMut(u64, u64) -> Result<SliceReply, Failure>,
) -> Result<(), Failure> {
    control.reply(&Reply::Ready { port: 0, setup })?;
    while let Some(request) = control.next()? {
        let Request::Slice { duration_ms, seed } = request else {
            return Err(format!("a worker cannot do {request:?}").into());
        };
        let reply = slice(duration_ms, seed)?;
        control.reply(&Reply::Slice(reply))?;
    }
    Ok(())
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
    pub(crate) fn start<T: Task>(
        contender: &Contender<T>,
        core: Option<usize>,
        job: T::Job,
    ) -> Result<Contestant, Failure> {
        let executable = std::env::current_exe()?;
        let name = contender.name;
        let mut process = Command::new(executable)
            .arg(CHILD_COMMAND)
            .envs(contender.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the process for {name}: {error}"))?;
        let requests = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe above");
        let replies = forward_lines(stdout);
        let mut contestant =
            Contestant { name, setup: String::new(), port: 0, process, requests, replies };

        contestant.send(&Assignment {
            contender: name.into(),
            parent: std::process::id(),
            core,
            job,
        })?;
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

    /// Memory of the process's own: what it has written to on its heap, its stacks and other
    /// private pages, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        Ok(system::anonymous_memory(self.process.id())?)
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
        let line =
            self.replies.recv_timeout(expected + ANSWER_TIMEOUT).map_err(|error| match error {
                RecvTimeoutError::Timeout => {
                    format!("{name} has not answered for {} s", ANSWER_TIMEOUT.as_secs())
                }
                RecvTimeoutError::Disconnected => {
                    format!("the process of {name} ended unexpectedly")
                }
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
        eprintln!(
            "the process of {} did not end within {} s and was killed",
            self.name,
            EXIT_TIMEOUT.as_secs()
        );
        // Both fail only if the process has ended by itself meanwhile.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
