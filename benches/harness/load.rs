//! Who asks the echo servers? Every connection has one request outstanding at the most, and every
//! byte of every reply is checked.
//!
//! There are two regimes. *Saturated*: each reply is followed by the next request at once (a closed
//! loop). *Half idle*: requests are due at a fixed rate, whatever the server does, and latencies
//! count from when a request was due (an open loop).
//!
//! It must cost less than any server. So it has a ring of its own (`ring_load`); where there is
//! none, an epoll loop (`epoll_load`), which can be the busier side, and then the report says so.
//! It knows a server by its address only, and runs on as many threads as the machine has cores
//! beside the server's, up to a bound.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::epoll_load::EpollLoad;
use super::measure::{Histogram, empty_histogram};
use super::random::Random;
use super::ring_load::RingLoad;
use super::system;

/// A server that has sent nothing for this long to any connection of a thread is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages are windows into one pattern, beginning at one of this many places.
const WINDOWS: usize = 4096;
/// More threads than this have not been needed to keep one core of server busy.
const MOST_THREADS: usize = 4;

/// The bytes that messages are cut from: no copy per connection, yet a reply to another request does not match.
#[derive(Debug)]
pub(super) struct Pattern {
    bytes: Vec<u8>,
    message_size: usize,
}

impl Pattern {
    fn new(message_size: usize, seed: u64) -> Pattern {
        let mut random = Random::new(seed);
        Pattern { bytes: (0..message_size + WINDOWS).map(|_| random.next() as u8).collect(), message_size }
    }

    pub(super) fn message_size(&self) -> usize {
        self.message_size
    }

    pub(super) fn message(&self, number: usize) -> &[u8] {
        let start = number % WINDOWS;
        &self.bytes[start..start + self.message_size]
    }
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A port of the loopback address.
    Tcp(u16),
    Unix(PathBuf),
}

impl Address {
    /// A non-blocking connection. Reading and writing a socket is the same for both kinds.
    fn connect(&self) -> io::Result<File> {
        let socket = match self {
            Address::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                system::use_cheap_congestion_control(&stream)?;
                OwnedFd::from(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                OwnedFd::from(stream)
            }
        };
        Ok(File::from(socket))
    }
}

/// All connections to one server.
#[derive(Debug)]
pub(crate) struct Load {
    threads: Vec<LoadThread>,
}

/// What the load saw in one slice.
#[derive(Debug)]
pub(crate) struct LoadSlice {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
    /// Of the busiest thread: the share of the time for which it had something to do.
    pub(crate) busy: f64,
}

impl Load {
    /// Opens the connections. `cores` are those that the server does not use; without any, threads go where they can.
    pub(crate) fn connect(address: &Address, connections: usize, message_size: usize, cores: &[usize], seed: u64) -> Result<Load, Failure> {
        let count = cores.len().clamp(1, MOST_THREADS).min(connections);
        let mut shares: Vec<Vec<Connection>> = (0..count).map(|_| Vec::new()).collect();
        for number in 0..connections {
            let stream = address.connect().map_err(|error| format!("connection {number} was refused: {error}"))?;
            shares[number % count].push(Connection::new(stream, number));
        }
        let pattern = Arc::new(Pattern::new(message_size, seed));
        let threads = shares.into_iter().enumerate();
        Ok(Load { threads: threads.map(|(index, share)| LoadThread::start(share, cores.get(index).copied(), &pattern)).collect() })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Loads the server for `duration` and until the last reply is in: at full speed, or with so
    /// many requests a second.
    pub(crate) fn slice(&mut self, duration: Duration, requests_per_s: Option<u32>) -> Result<LoadSlice, Failure> {
        let started = Instant::now();
        let share = requests_per_s.map(|rate| f64::from(rate) / self.threads.len() as f64);
        for thread in &self.threads {
            // A thread that has ended says why below.
            let interval = share.map(|rate| Duration::from_secs_f64(1.0 / rate));
            let _ = thread.paces.send(Pace { deadline: started + duration, interval });
        }
        let tallies: Vec<Result<Tally, Failure>> = self.threads.iter().map(LoadThread::tally).collect();
        let elapsed = started.elapsed();
        let mut slice = LoadSlice { operations: 0, elapsed, latencies: empty_histogram(), busy: 0.0 };
        for tally in tallies {
            let tally = tally?;
            slice.operations += tally.latencies.len();
            slice.latencies.add(&tally.latencies).expect("all histograms have the same bounds");
            slice.busy = slice.busy.max(tally.busy.as_secs_f64() / elapsed.as_secs_f64());
        }
        Ok(slice)
    }
}

/// How fast a thread asks, and until when.
#[derive(Clone, Copy, Debug)]
struct Pace {
    deadline: Instant,
    /// Between two requests; `None` for full speed.
    interval: Option<Duration>,
}

/// What one thread saw in one slice.
#[derive(Debug)]
pub(super) struct Tally {
    latencies: Histogram,
    /// For which it had something to do.
    busy: Duration,
}

/// One slice of one thread: which connection asks next, and when.
#[derive(Debug)]
pub(super) struct Timetable {
    pace: Pace,
    /// It has no core to itself, so it must not keep the one that it has.
    shares_core: bool,
    started: Instant,
    /// Connections without a request.
    free: Vec<usize>,
    /// Requests that are made whatever the deadline, at full speed: one on each connection.
    firsts: usize,
    /// When the next request is due, at a fixed rate.
    due: Instant,
    outstanding: usize,
    /// When something came.
    last: Instant,
    idle_since: Option<Instant>,
    idle: Duration,
    latencies: Histogram,
}

impl Timetable {
    fn new(pace: Pace, connections: usize, shares_core: bool) -> Timetable {
        let now = Instant::now();
        Timetable {
            pace,
            shares_core,
            started: now,
            free: (0..connections).rev().collect(),
            firsts: connections,
            due: now,
            outstanding: 0,
            last: now,
            idle_since: None,
            idle: Duration::ZERO,
            latencies: empty_histogram(),
        }
    }

    /// Who asks now, and since when the reply counts as awaited: at a fixed rate since it was due,
    /// though no connection was free then.
    pub(super) fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let (is_time, asked) = match self.pace.interval {
            None => (self.firsts > 0 || now < self.pace.deadline, now),
            Some(_) => (self.due <= now && self.due < self.pace.deadline, self.due),
        };
        let index = if is_time { self.free.pop()? } else { return None };
        self.firsts = self.firsts.saturating_sub(1);
        self.due += self.pace.interval.unwrap_or_default();
        self.outstanding += 1;
        Some((index, asked))
    }

    pub(super) fn answered(&mut self, index: usize, latency: Duration) {
        self.latencies.saturating_record(latency.as_nanos() as u64);
        self.outstanding -= 1;
        self.free.push(index);
    }

    /// To be asked when there is no next one.
    pub(super) fn is_over(&self) -> bool {
        self.outstanding == 0 && self.pace.interval.is_none_or(|_| self.due >= self.pace.deadline)
    }

    pub(super) fn something_came(&mut self, now: Instant) {
        self.last = now;
        if let Some(since) = self.idle_since.take() {
            self.idle += now.duration_since(since);
        }
    }

    /// There is nothing to do. It does not sleep, since a load that has to wake up first is no
    /// load.
    pub(super) fn nothing_came(&mut self, now: Instant) -> Result<(), Failure> {
        self.idle_since.get_or_insert(now);
        if self.outstanding > 0 && now.duration_since(self.last) > SILENCE_TIMEOUT {
            return Err(format!("{} connections got no reply for {} s", self.outstanding, SILENCE_TIMEOUT.as_secs()).into());
        }
        if self.shares_core {
            thread::yield_now()
        } else {
            std::hint::spin_loop()
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Tally {
        Tally { latencies: self.latencies, busy: self.started.elapsed().saturating_sub(self.idle) }
    }
}

/// A thread that waits for a pace, loads the server, and tells what it saw. It ends with its
/// handle.
#[derive(Debug)]
struct LoadThread {
    paces: Sender<Pace>,
    tallies: Receiver<Result<Tally, String>>,
}

impl LoadThread {
    fn start(connections: Vec<Connection>, core: Option<usize>, pattern: &Arc<Pattern>) -> LoadThread {
        let (paces, wanted) = mpsc::channel();
        let (told, tallies) = mpsc::channel();
        let pattern = Arc::clone(pattern);
        thread::spawn(move || {
            if let Err(failure) = load(connections, core, &pattern, &wanted, &told) {
                let _ = told.send(Err(failure.to_string()));
            }
        });
        LoadThread { paces, tallies }
    }

    fn tally(&self) -> Result<Tally, Failure> {
        Ok(self.tallies.recv().map_err(|_| "a load thread ended unexpectedly")??)
    }
}

fn load(
    connections: Vec<Connection>,
    core: Option<usize>,
    pattern: &Arc<Pattern>,
    paces: &Receiver<Pace>,
    tallies: &Sender<Result<Tally, String>>,
) -> Result<(), Failure> {
    if let Some(core) = core {
        system::pin_to_core(core)?;
    }
    let count = connections.len();
    let mut engine = match RingLoad::open(pattern) {
        Ok(mut ring) => {
            ring.take_on(connections)?;
            Engine::Ring(Box::new(ring))
        }
        Err(_) => Engine::Epoll(EpollLoad::new(connections, pattern)?),
    };
    while let Ok(pace) = paces.recv() {
        let timetable = Timetable::new(pace, count, core.is_none());
        let tally = match &mut engine {
            Engine::Ring(ring) => ring.run(timetable)?,
            Engine::Epoll(epoll) => epoll.run(timetable)?,
        };
        if tallies.send(Ok(tally)).is_err() {
            break;
        }
    }
    Ok(())
}

enum Engine {
    Ring(Box<RingLoad>),
    Epoll(EpollLoad),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: File,
    /// Which message is under way; counts up with each.
    pub(super) number: usize,
    pub(super) asked: Instant,
    pub(super) sent: usize,
    pub(super) received: usize,
}

impl Connection {
    fn new(stream: File, number: usize) -> Connection {
        Connection { stream, number, asked: Instant::now(), sent: 0, received: 0 }
    }

    /// The next message, whose reply is awaited since `asked`.
    pub(super) fn begin(&mut self, asked: Instant) {
        self.number += 1;
        self.asked = asked;
        self.sent = 0;
        self.received = 0;
    }

    /// Checks what has come; `true` when the reply is complete.
    pub(super) fn check(&mut self, bytes: &[u8], pattern: &Pattern) -> Result<bool, Failure> {
        let rest = &pattern.message(self.number)[self.received..];
        if rest.get(..bytes.len()) != Some(bytes) {
            return Err(format!("the server sent back other bytes than it got (message {})", self.number).into());
        }
        self.received += bytes.len();
        Ok(self.received == pattern.message_size)
    }
}
