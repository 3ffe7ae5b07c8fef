//! Who asks the echo servers? Every connection has one request outstanding at the most, and every byte of every reply is checked.
//!
//! There are two regimes. *Saturated*: each reply is followed by the next request at once (a closed loop). *Half idle*: requests are due at a
//! fixed rate, whatever the server does, and latencies count from when a request was due (an open loop).
//!
//! It must cost less than any server. So it has a ring of its own, as `ring_load` tells; where there is none, an epoll loop, which can be the
//! busier side, and then the report says so. It knows a server by its address only, and runs on as many threads as the machine has cores
//! beside the server's, up to a bound.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::epoll::{Epoll, Events, READABLE, WRITABLE};
use super::measure::{Histogram, empty_histogram};
use super::random::Random;
use super::ring_load::RingLoad;
use super::system;

/// A server that has sent nothing for this long to any connection of a thread is given up.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
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

    /// Loads the server for `duration` and until the last reply is in: at full speed, or with so many requests a second.
    pub(crate) fn slice(&mut self, duration: Duration, requests_per_s: Option<u32>) -> Result<LoadSlice, Failure> {
        let started = Instant::now();
        let share = requests_per_s.map(|rate| f64::from(rate) / self.threads.len() as f64);
        for thread in &self.threads {
            // A thread that has ended says why below.
            let _ = thread.paces.send(Pace::of(started + duration, share));
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

/// What one thread saw in one slice.
#[derive(Debug)]
pub(super) struct Tally {
    latencies: Histogram,
    /// For which it looked in vain for something to do.
    pub(super) idle: Duration,
    busy: Duration,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { latencies: empty_histogram(), idle: Duration::ZERO, busy: Duration::ZERO }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }

    /// It was at work for all the time in which it was not idle.
    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.busy = elapsed.saturating_sub(self.idle);
    }
}

/// How fast a thread asks, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) deadline: Instant,
    /// Between two requests; `None` for full speed.
    pub(super) interval: Option<Duration>,
}

/// A thread that waits for a pace, loads the server, and tells what it saw. It ends with its handle.
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
    let mut engine = match RingLoad::open(pattern) {
        Ok(mut ring) => {
            ring.take_on(connections)?;
            Engine::Ring(Box::new(ring))
        }
        Err(_) => Engine::Epoll(EpollLoad::new(connections, pattern)?),
    };
    while let Ok(pace) = paces.recv() {
        let tally = match &mut engine {
            Engine::Ring(ring) => ring.run(&pace)?,
            Engine::Epoll(epoll) => epoll.run(&pace)?,
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
    sent: usize,
    received: usize,
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

/// The connections of one thread, asked by epoll.
#[derive(Debug)]
struct EpollLoad {
    epoll: Epoll,
    pattern: Arc<Pattern>,
    connections: Vec<Connection>,
    /// The place in `connections` of each descriptor number.
    places: Vec<usize>,
}

impl EpollLoad {
    fn new(connections: Vec<Connection>, pattern: &Arc<Pattern>) -> Result<EpollLoad, Failure> {
        let epoll = Epoll::new()?;
        let mut places = Vec::new();
        for (place, connection) in connections.iter().enumerate() {
            epoll.add(&connection.stream, READABLE)?;
            let descriptor = connection.stream.as_raw_fd() as usize;
            if places.len() <= descriptor {
                places.resize(descriptor + 1, usize::MAX);
            }
            places[descriptor] = place;
        }
        Ok(EpollLoad { epoll, pattern: Arc::clone(pattern), connections, places })
    }

    fn run(&mut self, pace: &Pace) -> Result<Tally, Failure> {
        let started = Instant::now();
        let mut tally = Tally::new();
        let mut events = Events::new();
        let mut scratch = vec![0; self.pattern.message_size];
        let mut free: Vec<usize> = (0..self.connections.len()).rev().collect();
        let mut due = started;
        let mut last = started;
        let mut outstanding = 0;
        loop {
            let now = Instant::now();
            let begin_until = if pace.interval.is_some() { now } else { pace.deadline.max(now) };
            while due <= begin_until && (due < pace.deadline || pace.interval.is_none()) {
                let Some(index) = free.pop() else { break };
                self.ask(index, if pace.interval.is_some() { due } else { now })?;
                outstanding += 1;
                due += pace.interval.unwrap_or_default();
            }
            if outstanding == 0 && (pace.interval.is_none() || due >= pace.deadline) {
                break;
            }
            let wait = if pace.interval.is_some() { 0 } else { SILENCE_TIMEOUT.as_millis() as i32 };
            self.epoll.wait(&mut events, wait)?;
            let woken = Instant::now();
            if events.is_empty() {
                if outstanding > 0 && woken.duration_since(last) >= SILENCE_TIMEOUT {
                    return Err(format!("{outstanding} connections got no reply for {} s", SILENCE_TIMEOUT.as_secs()).into());
                }
                tally.idle += woken.duration_since(now);
                continue;
            }
            last = woken;
            for ready in events.ready() {
                let index = self.places[ready as usize];
                if !self.serve(index, &mut scratch)? {
                    continue;
                }
                let now = Instant::now();
                tally.record(now.duration_since(self.connections[index].asked));
                outstanding -= 1;
                if pace.interval.is_some() {
                    free.push(index);
                } else if now < pace.deadline {
                    self.ask(index, now)?;
                    outstanding += 1;
                }
            }
        }
        tally.finish(started.elapsed());
        Ok(tally)
    }

    fn ask(&mut self, index: usize, asked: Instant) -> Result<(), Failure> {
        self.connections[index].begin(asked);
        self.send(index)
    }

    /// Moves one connection on; `true` when its reply is complete.
    fn serve(&mut self, index: usize, scratch: &mut [u8]) -> Result<bool, Failure> {
        if self.connections[index].sent < self.pattern.message_size {
            self.send(index)?;
        }
        let connection = &mut self.connections[index];
        let rest = self.pattern.message_size - connection.received;
        match connection.stream.read(&mut scratch[..rest]) {
            Ok(0) => Err("the server closed a connection".into()),
            Ok(count) => connection.check(&scratch[..count], &self.pattern),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends until the socket takes no more, and then asks to be told when it does.
    fn send(&mut self, index: usize) -> Result<(), Failure> {
        let Connection { stream, number, sent, .. } = &mut self.connections[index];
        let was_begun = *sent > 0;
        while *sent < self.pattern.message_size {
            match stream.write(&self.pattern.message(*number)[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.epoll.modify(stream, READABLE | WRITABLE)?),
                Err(error) => return Err(error.into()),
            }
        }
        if was_begun {
            self.epoll.modify(stream, READABLE)?;
        }
        Ok(())
    }
}
