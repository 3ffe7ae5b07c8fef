//! Who asks the echo servers? A closed loop on epoll: every connection has one request outstanding, every reply is checked.
//!
//! Knows a server by its address only. Runs on as many threads as the machine has cores beside the server's, up to a bound.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::epoll::{Epoll, Events, READABLE, WRITABLE};
use super::measure::{Histogram, empty_histogram};
use super::random::Random;
use super::system;

/// A server that has sent nothing for this long to any connection of a thread is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages are windows into one pattern, beginning at one of this many places.
const WINDOWS: usize = 4096;
/// More threads than this have not been needed to keep one core of server busy.
const MOST_THREADS: usize = 4;

/// The bytes that messages are cut from: no copy per connection, yet a reply to another request does not match.
#[derive(Debug)]
struct Pattern {
    bytes: Vec<u8>,
    message_size: usize,
}

impl Pattern {
    fn new(message_size: usize, seed: u64) -> Pattern {
        let mut random = Random::new(seed);
        Pattern { bytes: (0..message_size + WINDOWS).map(|_| random.next() as u8).collect(), message_size }
    }

    fn message(&self, number: usize) -> &[u8] {
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
    pattern: Pattern,
    threads: Vec<LoadThread>,
}

/// What the load saw in one slice.
#[derive(Debug)]
pub(crate) struct LoadSlice {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
    /// Of the busiest thread: the share of the time for which it ran.
    pub(crate) busy: f64,
}

impl Load {
    /// Opens the connections. `cores` are those that the server does not use; without any, threads go where they can.
    pub(crate) fn connect(address: &Address, connections: usize, message_size: usize, cores: &[usize], seed: u64) -> Result<Load, Failure> {
        let count = cores.len().clamp(1, MOST_THREADS).min(connections);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            threads.push(LoadThread::new(cores.get(index).copied())?);
        }
        for number in 0..connections {
            threads[number % count].connect(address, number)?;
        }
        Ok(Load { pattern: Pattern::new(message_size, seed), threads })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Loads the server for `duration` and until the last reply is in.
    pub(crate) fn slice(&mut self, duration: Duration) -> Result<LoadSlice, Failure> {
        let started = Instant::now();
        let deadline = started + duration;
        let pattern = &self.pattern;
        let tallies: Vec<Result<Tally, Failure>> = thread::scope(|scope| {
            let threads = self.threads.iter_mut();
            let running: Vec<_> = threads.map(|thread| scope.spawn(move || thread.run(pattern, deadline))).collect();
            running.into_iter().map(|thread| thread.join().map_err(|_| "a load thread panicked")?).collect()
        });
        let elapsed = started.elapsed();
        let mut slice = LoadSlice { operations: 0, elapsed, latencies: empty_histogram(), busy: 0.0 };
        for tally in tallies {
            let tally = tally?;
            slice.operations += tally.latencies.len();
            slice.latencies.add(&tally.latencies).expect("all histograms have the same bounds");
            slice.busy = slice.busy.max(tally.cpu.as_secs_f64() / elapsed.as_secs_f64());
        }
        Ok(slice)
    }
}

struct Tally {
    latencies: Histogram,
    cpu: Duration,
}

#[derive(Debug)]
struct LoadThread {
    core: Option<usize>,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// The place in `connections` of each descriptor number.
    places: Vec<usize>,
}

#[derive(Debug)]
struct Connection {
    stream: File,
    /// Which message is under way; counts up with each.
    number: usize,
    asked: Instant,
    sent: usize,
    received: usize,
}

impl LoadThread {
    fn new(core: Option<usize>) -> Result<LoadThread, Failure> {
        Ok(LoadThread { core, epoll: Epoll::new()?, connections: Vec::new(), places: Vec::new() })
    }

    fn connect(&mut self, address: &Address, number: usize) -> Result<(), Failure> {
        let stream = address.connect().map_err(|error| format!("connection {number} was refused: {error}"))?;
        self.epoll.add(&stream, READABLE)?;
        let descriptor = stream.as_raw_fd() as usize;
        if self.places.len() <= descriptor {
            self.places.resize(descriptor + 1, usize::MAX);
        }
        self.places[descriptor] = self.connections.len();
        let asked = Instant::now();
        self.connections.push(Connection { stream, number, asked, sent: 0, received: 0 });
        Ok(())
    }

    fn run(&mut self, pattern: &Pattern, deadline: Instant) -> Result<Tally, Failure> {
        if let Some(core) = self.core {
            system::pin_to_core(core)?;
        }
        let cpu_before = system::thread_cpu_time();
        let mut tally = Tally { latencies: empty_histogram(), cpu: Duration::ZERO };
        let mut events = Events::new();
        let mut scratch = vec![0; pattern.message_size];
        for connection in &mut self.connections {
            connection.ask(Instant::now(), pattern, &self.epoll)?;
        }
        let mut outstanding = self.connections.len();
        while outstanding > 0 {
            self.epoll.wait(&mut events, SILENCE_TIMEOUT.as_millis() as i32)?;
            if events.is_empty() {
                let silence = SILENCE_TIMEOUT.as_secs();
                return Err(format!("{outstanding} connections got no reply for {silence} s").into());
            }
            for ready in events.ready() {
                if let Some(now) = self.serve(ready, pattern, &mut scratch, &mut tally)? {
                    if now < deadline {
                        let connection = &mut self.connections[self.places[ready as usize]];
                        connection.ask(now, pattern, &self.epoll)?;
                    } else {
                        outstanding -= 1;
                    }
                }
            }
        }
        tally.cpu = system::thread_cpu_time() - cpu_before;
        Ok(tally)
    }

    /// Moves one connection on; gives the time if its reply is complete.
    fn serve(&mut self, ready: RawFd, pattern: &Pattern, scratch: &mut [u8], tally: &mut Tally) -> Result<Option<Instant>, Failure> {
        let connection = &mut self.connections[self.places[ready as usize]];
        if connection.sent < pattern.message_size {
            connection.send(pattern, &self.epoll)?;
        }
        if !connection.receive(pattern, scratch)? {
            return Ok(None);
        }
        let now = Instant::now();
        tally.latencies.saturating_record(now.duration_since(connection.asked).as_nanos() as u64);
        Ok(Some(now))
    }
}

impl Connection {
    fn ask(&mut self, now: Instant, pattern: &Pattern, epoll: &Epoll) -> Result<(), Failure> {
        self.number += 1;
        self.asked = now;
        self.sent = 0;
        self.received = 0;
        self.send(pattern, epoll)
    }

    /// Sends until the socket takes no more, and then asks to be told when it does.
    fn send(&mut self, pattern: &Pattern, epoll: &Epoll) -> Result<(), Failure> {
        let was_begun = self.sent > 0;
        while self.sent < pattern.message_size {
            match self.stream.write(&pattern.message(self.number)[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(epoll.modify(&self.stream, READABLE | WRITABLE)?),
                Err(error) => return Err(error.into()),
            }
        }
        if was_begun {
            epoll.modify(&self.stream, READABLE)?;
        }
        Ok(())
    }

    /// Reads and checks what is there; `true` when the reply is complete.
    fn receive(&mut self, pattern: &Pattern, scratch: &mut [u8]) -> Result<bool, Failure> {
        let rest = &pattern.message(self.number)[self.received..];
        let count = match self.stream.read(&mut scratch[..rest.len()]) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if scratch[..count] != rest[..count] {
            return Err(format!("the server sent back other bytes than it got (message {})", self.number).into());
        }
        self.received += count;
        Ok(self.received == pattern.message_size)
    }
}
