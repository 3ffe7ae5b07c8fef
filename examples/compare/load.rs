//! Who asks the echo servers? A closed loop on epoll: every connection has one request outstanding, every reply is checked.
//!
//! Knows a server by its port only. Runs on as many threads as the machine has cores beside the server's, up to a bound.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::epoll::{Epoll, Events};
use crate::measure::{Histogram, empty_histogram};
use crate::random::Random;
use crate::system;

/// A server that has sent nothing for this long to any connection of a thread is given up.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Edge-triggered: cheaper than level-triggered, and safe here because one read takes everything that a closed loop can
/// have in its socket. Both directions from the start, so that a message that does not fit at once needs no further call.
const INTEREST: libc::c_int = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET;
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
    pub(crate) fn connect(port: u16, connections: usize, message_size: usize, cores: &[usize], seed: u64) -> Result<Load, Failure> {
        let count = cores.len().clamp(1, MOST_THREADS).min(connections);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            threads.push(LoadThread::new(cores.get(index).copied())?);
        }
        for number in 0..connections {
            threads[number % count].connect(port, number)?;
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
    stream: TcpStream,
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

    fn connect(&mut self, port: u16, number: usize) -> Result<(), Failure> {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("connection {number} was refused: {error}"))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.epoll.add(&stream, INTEREST)?;
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
            connection.ask(Instant::now(), pattern)?;
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
                        connection.ask(now, pattern)?;
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
        if connection.received == pattern.message_size {
            // Answered already: a late edge for being writable.
            return Ok(None);
        }
        connection.send(pattern)?;
        if !connection.receive(pattern, scratch)? {
            return Ok(None);
        }
        let now = Instant::now();
        tally.latencies.saturating_record(now.duration_since(connection.asked).as_nanos() as u64);
        Ok(Some(now))
    }
}

impl Connection {
    fn ask(&mut self, now: Instant, pattern: &Pattern) -> Result<(), Failure> {
        self.number += 1;
        self.asked = now;
        self.sent = 0;
        self.received = 0;
        self.send(pattern)
    }

    /// Sends until the socket takes no more, for only then does an edge tell when it does again.
    fn send(&mut self, pattern: &Pattern) -> Result<(), Failure> {
        while self.sent < pattern.message_size {
            match self.stream.write(&pattern.message(self.number)[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
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
