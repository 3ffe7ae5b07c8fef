//! The workloads that are compared: which processes each needs, and how one slice of it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::child::{Contestant, CopyJob, EchoJob, Job, ReadJob};
use super::connection::Pattern;
use super::data_file::{BLOCK_SIZE, DataFile};
use super::load::talking;
use super::measure::{Contest, Slice};
use super::report::{self, Workload};
use super::served::{IdleContest, MANY_CONNECTIONS, Server, ServerContest, cores};
use super::{Contender, Failure, Race, Row, Task};

/// The smallest buffer an echo server reads into: what programs that do not know their messages'
/// size would take.
const SMALLEST_READ: usize = 4096;
/// What a sequential read takes: as much as std's buffered copies, and many programs, read at once.
pub(crate) const SEQUENTIAL_READ: usize = 64 << 10;
/// What a stream of a whole file takes at a time.
const STREAM_READ: usize = 128 << 10;
/// Reads of a stream in flight.
const STREAM_DEPTH: usize = 8;
/// Few enough messages that a backlog or a buffer is never full while connections are opened.
const IDLE_MESSAGE_SIZE: usize = 64;

/// Messages a second at which a server is idle for some of the time, from a fifth of what it can to
/// more than half.
const HALF_IDLE_RATES: [u32; 3] = [20_000, 60_000, 100_000];

/// The rows by which annulus is judged, each at the sizes at which contenders differ.
pub(crate) fn all_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut echo = |name: &str, transport, message_size, counts: &[usize]| {
        let work = |connections| Work::Echo { transport, connections, message_size, rate: None };
        rows.extend(
            counts
                .iter()
                .map(|&connections| Row::new(format!("{name}_x{connections}"), work(connections))),
        );
    };
    echo("tcp_echo_64", Transport::Tcp, 64, &[1, 50, 500, 2000]);
    echo("tcp_echo_16k", Transport::Tcp, 16 << 10, &[50, 500, 2000]);
    echo("unix_echo_64", Transport::Unix, 64, &[1, 50]);
    echo("unix_echo_16k", Transport::Unix, 16 << 10, &[50]);
    rows.extend(HALF_IDLE_RATES.map(|rate| {
        let work = Work::Echo {
            transport: Transport::Tcp,
            connections: 50,
            message_size: 64,
            rate: Some(rate),
        };
        Row::new(format!("tcp_echo_64_x50_at_{}k", rate / 1000), work)
    }));
    rows.push(Row::new("idle_memory_x10000", Work::Idle { connections: 10_000 }));
    let read = |name: &str, direct, depth| {
        Row::new(format!("{name}_x{depth}"), Work::RandomRead { direct, depth })
    };
    rows.extend([1, 32].map(|depth| read("read_cached", false, depth)));
    rows.extend([1, 32, 128].map(|depth| read("read_direct", true, depth)));
    rows.push(Row::new("read_sequential", Work::SequentialRead));
    let stream = |name: &str, direct| {
        let work = Work::Stream { direct, depth: STREAM_DEPTH };
        Row::new(format!("{name}_x{STREAM_DEPTH}"), work)
    };
    rows.extend([stream("stream_cached", false), stream("stream_direct", true)]);
    rows.push(Row::new("copy", Work::Copy));
    rows
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Messages sent back, one outstanding on each connection at the most.
    Echo {
        transport: Transport,
        connections: usize,
        message_size: usize,
        /// How many messages a second, whatever the server does; `None` for as many as it can.
        rate: Option<u32>,
    },
    /// Memory of connections that have nothing to do.
    Idle {
        connections: usize,
    },
    /// Random reads of 4 KiB.
    RandomRead {
        direct: bool,
        depth: usize,
    },
    /// One read after the other, from the page cache.
    SequentialRead,
    /// A whole file from front to back, several reads in flight.
    Stream {
        direct: bool,
        depth: usize,
    },
    Copy,
}

impl Work {
    /// Is a server to be as busy as it can? One that serves a single connection waits for it.
    fn saturates(self) -> bool {
        matches!(self, Work::Echo { rate: None, connections: 2.., .. })
    }

    fn describe(self, file: Option<&DataFile>) -> String {
        let file = file.map_or(String::new(), |file| {
            format!("a {} MiB file on {}", file.size >> 20, file.file_system.name)
        });
        match self {
            Work::Echo { transport, connections, message_size, rate } => {
                let transport = if transport == Transport::Tcp { "TCP" } else { "Unix stream" };
                let regime = match rate {
                    None => "saturated: one outstanding on each of".to_owned(),
                    Some(rate) => {
                        format!("half idle: {rate} a second, latencies from when each was due, on")
                    }
                };
                format!(
                    "{message_size}-byte messages over {transport}, {regime} {connections} connection(s); every reply checked"
                )
            }
            Work::Idle { connections } => {
                format!(
                    "memory of the server's process per TCP connection, after one message on each of {connections} that are now idle"
                )
            }
            Work::RandomRead { direct, depth } => {
                let kind =
                    if direct { "O_DIRECT" } else { "page-cached (warmed before each round)" };
                format!(
                    "random 4 KiB reads, {kind}, of {file}, {depth} in flight; every read checked"
                )
            }
            Work::SequentialRead => format!(
                "sequential 64 KiB reads, page-cached, of {file}, one in flight; every read checked"
            ),
            Work::Stream { direct, depth } => {
                let kind =
                    if direct { "O_DIRECT" } else { "page-cached (warmed before each round)" };
                format!(
                    "sequential 128 KiB reads, {kind}, of {file}, up to {depth} in flight; every read checked, but those of fio"
                )
            }
            Work::Copy => format!("a page-cached copy of {file}; an operation is one MiB"),
        }
    }

    fn file_job(self, file: &DataFile, target: PathBuf) -> Option<Job> {
        let (path, file_size) = (file.path.clone(), file.size);
        match self {
            Work::RandomRead { direct, depth } => Some(Job::Read(ReadJob {
                path,
                file_size,
                block_size: BLOCK_SIZE,
                is_sequential: false,
                is_stream: false,
                direct,
                depth,
            })),
            Work::Stream { direct, depth } => Some(Job::Read(ReadJob {
                path,
                file_size,
                block_size: STREAM_READ,
                is_sequential: true,
                is_stream: true,
                direct,
                depth,
            })),
            Work::SequentialRead => {
                let block_size = SEQUENTIAL_READ;
                Some(Job::Read(ReadJob {
                    path,
                    file_size,
                    block_size,
                    is_sequential: true,
                    is_stream: false,
                    direct: false,
                    depth: 1,
                }))
            }
            Work::Copy => Some(Job::Copy(CopyJob { from: path, to: target, file_size })),
            Work::Echo { .. } | Work::Idle { .. } => None,
        }
    }
}

impl Task for Work {
    type Job = Job;

    fn needs_file(&self) -> bool {
        matches!(
            self,
            Work::RandomRead { .. } | Work::SequentialRead | Work::Stream { .. } | Work::Copy
        )
    }

    fn is_direct(&self) -> bool {
        matches!(self, Work::RandomRead { direct: true, .. } | Work::Stream { direct: true, .. })
    }

    fn connections_of(job: &Job) -> usize {
        if let Job::Echo(job) = job { job.connections } else { 0 }
    }

    fn measure(&self, round: &Race<'_, Work>) -> Result<Workload, Failure> {
        let (contenders, seed) = (&round.contenders, round.plan.seed);
        let describe = self.describe(round.file.filter(|_| self.needs_file()));
        match (*self, round.file) {
            (Work::Echo { transport, connections, message_size, rate }, _) => {
                let start = |contender: &&'static Contender| {
                    echo_server(contender, transport, connections, message_size, seed)
                };
                let mut contest = ServerContest::start(contenders, connections, rate, start)?;
                let placement = contest.placement.clone();
                let saturates = self.saturates();
                let mut workload = round.run(describe, saturates, &mut contest)?;
                workload.notes.extend(placement.note());
                // Of few connections both sides wait for each other, and idle cores mean nothing;
                // nor do they at a fixed rate.
                if connections >= MANY_CONNECTIONS && saturates {
                    workload.notes.extend(report::disturbance(&workload.contenders));
                }
                workload.placement = Some(placement);
                Ok(workload)
            }
            (Work::Idle { connections }, _) => {
                let start = |contender: usize| {
                    let transport = Transport::Tcp;
                    echo_server(contenders[contender], transport, 1, IDLE_MESSAGE_SIZE, seed)
                };
                let talk = talking(Arc::new(Pattern::new(IDLE_MESSAGE_SIZE, seed)));
                let mut contest =
                    IdleContest { contenders: contenders.len(), connections, start, talk };
                round.run(describe, false, &mut contest)
            }
            (_, Some(file)) => {
                let mut contest = FileContest::start(contenders, file, *self)?;
                let mut workload = round.run(describe, false, &mut contest)?;
                if file.file_system.is_tmpfs {
                    workload.notes.push(
                        "The file lies on tmpfs: the ring hands every access to worker threads there. For a fair picture put it on \
                         a disk file system (--file-dir)."
                            .into(),
                    );
                }
                Ok(workload)
            }
            (_, None) => Err("a file workload has no file".into()),
        }
    }
}

/// An echo server, and all connections to it.
fn echo_server(
    contender: &Contender,
    transport: Transport,
    connections: usize,
    message_size: usize,
    seed: u64,
) -> Result<Server, Failure> {
    let unix_path = (transport == Transport::Unix).then(unique_socket_path);
    let read_size = message_size.max(SMALLEST_READ);
    let job = EchoJob { unix_path: unix_path.clone(), connections, read_size };
    let talk = talking(Arc::new(Pattern::new(message_size, seed)));
    Server::start(contender, Job::Echo(job), unix_path, connections, &talk)
}

/// In the directory for temporary files, since the path of a socket is limited to 108 bytes.
fn unique_socket_path() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("annulus-bench-{}-{number}.socket", std::process::id()))
}

/// Work on one file: one process per contender, those of one thread pinned.
#[derive(Debug)]
pub(crate) struct FileContest<'a> {
    workers: Vec<Contestant>,
    file: &'a DataFile,
    is_direct: bool,
}

impl<'a> FileContest<'a> {
    pub(crate) fn start(
        contenders: &[&'static Contender],
        file: &'a DataFile,
        work: Work,
    ) -> Result<FileContest<'a>, Failure> {
        let is_direct = work.is_direct();
        if is_direct {
            file.cool()?;
        }
        let core = cores().0;
        let start = |contender: &&'static Contender| {
            let job = work
                .file_job(file, file.copy_path(contender.name))
                .ok_or("this is no work on a file")?;
            // A thread pool may use every core, and interrupts of a disk come where they like.
            let core = core.filter(|_| !contender.is_pool && !is_direct);
            Contestant::start(contender, core, job)
        };
        let workers = contenders.iter().map(start).collect::<Result<_, Failure>>()?;
        Ok(FileContest { workers, file, is_direct })
    }
}

impl Contest for FileContest<'_> {
    fn setups(&self) -> Vec<String> {
        self.workers.iter().map(|worker| worker.setup.clone()).collect()
    }

    /// Warms the file, for the kernel may have given some of its pages to others meanwhile.
    fn prepare_round(&mut self) -> Result<(), Failure> {
        if !self.is_direct {
            self.file.warm()?;
        }
        Ok(())
    }

    fn slice(&mut self, contender: usize, duration: Duration, seed: u64) -> Result<Slice, Failure> {
        self.workers[contender].slice(duration, seed)
    }
}

impl Drop for FileContest<'_> {
    fn drop(&mut self) {
        for worker in &self.workers {
            // Only a copy leaves one, and nothing sensible is left to do about a file that cannot
            // be removed.
            let _ = std::fs::remove_file(self.file.copy_path(worker.name));
        }
    }
}
