//! The load on servers: every connection has one request outstanding at the most, and every byte of
//! every reply is checked. What is asked, and what is a right reply, is a [`Talk`].
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
use super::connection::{Connection, Talk};
use super::epoll_load::EpollLoad;
use super::measure::{Histogram, empty_histogram};
use super::ring_load::RingLoad;
use super::system;
use super::timetable::{Pace, Tally, Timetable};

/// More threads than this have not been needed to keep one core of server busy.
const MOST_THREADS: usize = 4;

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

/// How the connections of one thread are loaded.
pub(crate) trait Engine {
    /// Loads until the timetable is over.
    fn run(&mut self, timetable: Timetable) -> Result<Tally, Failure>;
}

/// Makes the engine of a thread, on that thread, of its connections.
pub(crate) type Start = dyn Fn(Vec<Connection>) -> Result<Box<dyn Engine>, Failure> + Send + Sync;

/// Talks on the connections as they are: by a ring, or else by epoll.
pub(crate) fn talking(talk: Arc<dyn Talk>) -> Arc<Start> {
    Arc::new(move |connections| match RingLoad::open(&talk) {
        Ok(mut ring) => {
            ring.take_on(connections)?;
            Ok(Box::new(ring))
        }
        Err(_) => Ok(Box::new(EpollLoad::new(connections, &talk)?)),
    })
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
    /// Opens the connections. `cores` are those that the server does not use; without any, threads
    /// go where they can.
    pub(crate) fn connect(
        address: &Address,
        connections: usize,
        start: &Arc<Start>,
        cores: &[usize],
    ) -> Result<Load, Failure> {
        let count = cores.len().clamp(1, MOST_THREADS).min(connections);
        let mut shares: Vec<Vec<Connection>> = (0..count).map(|_| Vec::new()).collect();
        for number in 0..connections {
            let stream = address
                .connect()
                .map_err(|error| format!("connection {number} was refused: {error}"))?;
            shares[number % count].push(Connection::new(stream, number, connections));
        }
        let threads = shares.into_iter().enumerate();
        Ok(Load {
            threads: threads
                .map(|(index, share)| LoadThread::start(share, cores.get(index).copied(), start))
                .collect(),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Loads the server for `duration` and until the last reply is in: at full speed, or with so
    /// many requests a second.
    pub(crate) fn slice(
        &mut self,
        duration: Duration,
        requests_per_s: Option<u32>,
    ) -> Result<LoadSlice, Failure> {
        let started = Instant::now();
        let share = requests_per_s.map(|rate| f64::from(rate) / self.threads.len() as f64);
        for thread in &self.threads {
            // A thread that has ended says why below.
            let interval = share.map(|rate| Duration::from_secs_f64(1.0 / rate));
            let _ = thread.paces.send(Pace { deadline: started + duration, interval });
        }
        let tallies: Vec<Result<Tally, Failure>> =
            self.threads.iter().map(LoadThread::tally).collect();
        let elapsed = started.elapsed();
        let mut slice =
            LoadSlice { operations: 0, elapsed, latencies: empty_histogram(), busy: 0.0 };
        for tally in tallies {
            let tally = tally?;
            slice.operations += tally.latencies.len();
            slice.latencies.add(&tally.latencies).expect("all histograms have the same bounds");
            slice.busy = slice.busy.max(tally.busy.as_secs_f64() / elapsed.as_secs_f64());
        }
        Ok(slice)
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
    fn start(connections: Vec<Connection>, core: Option<usize>, start: &Arc<Start>) -> LoadThread {
        let (paces, wanted) = mpsc::channel();
        let (told, tallies) = mpsc::channel();
        let start = Arc::clone(start);
        thread::spawn(move || {
            if let Err(failure) = load(connections, core, &start, &wanted, &told) {
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
    start: &Arc<Start>,
    paces: &Receiver<Pace>,
    tallies: &Sender<Result<Tally, String>>,
) -> Result<(), Failure> {
    if let Some(core) = core {
        system::pin_to_core(core)?;
    }
    let count = connections.len();
    let mut engine = start(connections)?;
    while let Ok(pace) = paces.recv() {
        let timetable = Timetable::new(pace, count, core.is_none());
        let tally = engine.run(timetable)?;
        if tallies.send(Ok(tally)).is_err() {
            break;
        }
    }
    Ok(())
}
