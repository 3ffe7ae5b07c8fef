//! The workloads that are compared: which processes each needs, and how one slice of it runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::child::{Contestant, CopyJob, EchoJob, Job, ReadJob};
use super::data_file::{BLOCK_SIZE, DataFile};
use super::load::{Address, Load};
use super::measure::{Contest, Slice};
use super::{Contender, Failure, system};

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

/// One row of the table: a workload with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// Run it when nobody has asked for particular rows.
    pub(crate) is_default: bool,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, work: Work) -> Row {
        Row { name: name.into(), work, is_default: true }
    }
}

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
    pub(crate) fn needs_file(self) -> bool {
        matches!(
            self,
            Work::RandomRead { .. } | Work::SequentialRead | Work::Stream { .. } | Work::Copy
        )
    }

    /// Is a server to be as busy as it can? One that serves a single connection waits for it.
    pub(crate) fn saturates(self) -> bool {
        matches!(self, Work::Echo { rate: None, connections: 2.., .. })
    }

    pub(crate) fn is_direct(self) -> bool {
        matches!(self, Work::RandomRead { direct: true, .. } | Work::Stream { direct: true, .. })
    }

    pub(crate) fn describe(self, file: Option<&DataFile>) -> String {
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

/// Which cores are used for what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Placement {
    /// `None` when there is but one core, so that nothing is pinned.
    pub(crate) server_core: Option<usize>,
    pub(crate) load_threads: usize,
}

/// The first core for servers, the others for their load; or, where there is but one, none for
/// either.
fn cores() -> (Option<usize>, Vec<usize>) {
    let cores = system::allowed_cores();
    match cores.split_first() {
        Some((&first, rest)) if !rest.is_empty() => (Some(first), rest.to_vec()),
        _ => (None, Vec::new()),
    }
}

/// An echo server, and all connections to it.
#[derive(Debug)]
struct EchoServer {
    contestant: Contestant,
    load: Load,
    unix_path: Option<PathBuf>,
}

impl EchoServer {
    fn start(
        contender: &Contender,
        transport: Transport,
        connections: usize,
        message_size: usize,
        seed: u64,
    ) -> Result<EchoServer, Failure> {
        let (server_core, load_cores) = cores();
        let unix_path = (transport == Transport::Unix).then(unique_socket_path);
        let read_size = message_size.max(SMALLEST_READ);
        let job = EchoJob { unix_path: unix_path.clone(), connections, read_size };
        let contestant = Contestant::start(contender, server_core, Job::Echo(job))?;
        let address = unix_path.clone().map_or(Address::Tcp(contestant.port), Address::Unix);
        let load = Load::connect(&address, connections, message_size, &load_cores, seed)
            .map_err(|error| format!("{}: {error}", contender.name))?;
        Ok(EchoServer { contestant, load, unix_path })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        if let Some(path) = &self.unix_path {
            // It lies in the directory for temporary files, where one more does no harm.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// In the directory for temporary files, since the path of a socket is limited to 108 bytes.
fn unique_socket_path() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("annulus-bench-{}-{number}.socket", std::process::id()))
}

/// Echo: one server process per contender, all connected at once, loaded one at a time.
#[derive(Debug)]
pub(crate) struct EchoContest {
    servers: Vec<EchoServer>,
    rate: Option<u32>,
    pub(crate) placement: Placement,
}

impl EchoContest {
    pub(crate) fn start(
        contenders: &[&'static Contender],
        transport: Transport,
        connections: usize,
        message_size: usize,
        rate: Option<u32>,
        seed: u64,
    ) -> Result<EchoContest, Failure> {
        system::allow_open_files((connections * contenders.len()) as u64 + 64)?;
        let start = |contender: &&'static Contender| {
            EchoServer::start(contender, transport, connections, message_size, seed)
        };
        let servers: Vec<EchoServer> = contenders.iter().map(start).collect::<Result<_, _>>()?;
        let load_threads = servers.first().map_or(0, |server| server.load.threads());
        Ok(EchoContest {
            servers,
            rate,
            placement: Placement { server_core: cores().0, load_threads },
        })
    }

    pub(crate) fn setups(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.contestant.setup.clone()).collect()
    }
}

impl Contest for EchoContest {
    fn contenders(&self) -> usize {
        self.servers.len()
    }

    fn slice(
        &mut self,
        contender: usize,
        duration: Duration,
        _seed: u64,
    ) -> Result<Slice, Failure> {
        let EchoServer { contestant, load, .. } = &mut self.servers[contender];
        let before = contestant.counters()?;
        let loaded = load
            .slice(duration, self.rate)
            .map_err(|error| format!("{}: {error}", contestant.name))?;
        let after = contestant.counters()?;
        Ok(Slice {
            operations: loaded.operations,
            elapsed: loaded.elapsed,
            cpu: Duration::from_nanos(after.cpu_ns - before.cpu_ns),
            enters: after.enters_since(&before),
            latencies: loaded.latencies,
            load_busy: Some(loaded.busy),
            bytes_per_connection: None,
        })
    }
}

/// Memory of idle connections: in each slice a new server, so that no earlier connection's memory
/// is used again.
#[derive(Debug)]
pub(crate) struct IdleContest<'a> {
    pub(crate) contenders: &'a [&'static Contender],
    pub(crate) connections: usize,
}

impl Contest for IdleContest<'_> {
    fn contenders(&self) -> usize {
        self.contenders.len()
    }

    fn slice(
        &mut self,
        contender: usize,
        _duration: Duration,
        seed: u64,
    ) -> Result<Slice, Failure> {
        system::allow_open_files(self.connections as u64 + 64)?;
        // With one connection it has everything that it needs once.
        let mut server = EchoServer::start(
            self.contenders[contender],
            Transport::Tcp,
            1,
            IDLE_MESSAGE_SIZE,
            seed,
        )?;
        server.load.slice(Duration::ZERO, None)?;
        let before = server.contestant.memory()?;
        let address = Address::Tcp(server.contestant.port);
        let mut crowd =
            Load::connect(&address, self.connections, IDLE_MESSAGE_SIZE, &cores().1, seed)?;
        crowd.slice(Duration::ZERO, None)?;
        let after = server.contestant.memory()?;
        Ok(Slice::of_memory(after.saturating_sub(before) as f64 / self.connections as f64))
    }
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

    pub(crate) fn setups(&self) -> Vec<String> {
        self.workers.iter().map(|worker| worker.setup.clone()).collect()
    }
}

impl Contest for FileContest<'_> {
    fn contenders(&self) -> usize {
        self.workers.len()
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
