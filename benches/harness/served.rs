//! Work on servers: one process per contender on one core, the load on the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::child::Contestant;
use super::load::{Address, Load, Start};
use super::measure::{Contest, Slice};
use super::{Contender, Failure, Task, system};

/// With so many, and each with a request outstanding, one side is always busy.
pub(crate) const MANY_CONNECTIONS: usize = 16;

/// Which cores are used for what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Placement {
    /// `None` when there is but one core, so that nothing is pinned.
    pub(crate) server_core: Option<usize>,
    pub(crate) load_threads: usize,
}

impl Placement {
    /// What has to be said of it, if anything.
    pub(crate) fn note(&self) -> Option<String> {
        self.server_core.is_none().then(|| {
            "There is but one core: servers and load share it, and nothing is pinned.".to_owned()
        })
    }
}

/// The first core for servers, the others for their load; or, where there is but one, none for
/// either.
pub(crate) fn cores() -> (Option<usize>, Vec<usize>) {
    let cores = system::allowed_cores();
    match cores.split_first() {
        Some((&first, rest)) if !rest.is_empty() => (Some(first), rest.to_vec()),
        _ => (None, Vec::new()),
    }
}

/// A server, and all connections to it.
#[derive(Debug)]
pub(crate) struct Server {
    contestant: Contestant,
    load: Load,
    unix_path: Option<PathBuf>,
}

impl Server {
    pub(crate) fn start<T: Task>(
        contender: &Contender<T>,
        job: T::Job,
        unix_path: Option<PathBuf>,
        connections: usize,
        talk: &Arc<Start>,
    ) -> Result<Server, Failure> {
        let (server_core, load_cores) = cores();
        let contestant = Contestant::start(contender, server_core, job)?;
        let address = unix_path.clone().map_or(Address::Tcp(contestant.port), Address::Unix);
        let load = Load::connect(&address, connections, talk, &load_cores)
            .map_err(|error| format!("{}: {error}", contender.name))?;
        Ok(Server { contestant, load, unix_path })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(path) = &self.unix_path {
            // It lies in the directory for temporary files, where one more does no harm.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One server process per contender, all connected at once, loaded one at a time.
#[derive(Debug)]
pub(crate) struct ServerContest {
    servers: Vec<Server>,
    rate: Option<u32>,
    pub(crate) placement: Placement,
}

impl ServerContest {
    pub(crate) fn start<T: Task>(
        contenders: &[&'static Contender<T>],
        connections: usize,
        rate: Option<u32>,
        start: impl Fn(&&'static Contender<T>) -> Result<Server, Failure>,
    ) -> Result<ServerContest, Failure> {
        system::allow_open_files((connections * contenders.len()) as u64 + 64)?;
        let servers: Vec<Server> = contenders.iter().map(start).collect::<Result<_, _>>()?;
        let load_threads = servers.first().map_or(0, |server| server.load.threads());
        Ok(ServerContest {
            servers,
            rate,
            placement: Placement { server_core: cores().0, load_threads },
        })
    }
}

impl Contest for ServerContest {
    fn setups(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.contestant.setup.clone()).collect()
    }

    fn slice(
        &mut self,
        contender: usize,
        duration: Duration,
        _seed: u64,
    ) -> Result<Slice, Failure> {
        let Server { contestant, load, .. } = &mut self.servers[contender];
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

/// A round opens thousands of connections, and memory hardly differs from one to the next.
const MOST_IDLE_ROUNDS: usize = 3;

/// Memory of idle connections: in each slice a new server, so that no earlier connection's memory
/// is used again.
pub(crate) struct IdleContest<F> {
    pub(crate) contenders: usize,
    pub(crate) connections: usize,
    /// Starts the server of a contender, with one connection.
    pub(crate) start: F,
    pub(crate) talk: Arc<Start>,
}

impl<F: Fn(usize) -> Result<Server, Failure>> Contest for IdleContest<F> {
    fn setups(&self) -> Vec<String> {
        vec![String::new(); self.contenders]
    }

    fn most_rounds(&self) -> usize {
        MOST_IDLE_ROUNDS
    }

    fn slice(
        &mut self,
        contender: usize,
        _duration: Duration,
        _seed: u64,
    ) -> Result<Slice, Failure> {
        system::allow_open_files(self.connections as u64 + 64)?;
        // With one connection it has everything that it needs once.
        let mut server = (self.start)(contender)?;
        server.load.slice(Duration::ZERO, None)?;
        let before = server.contestant.memory()?;
        let address = Address::Tcp(server.contestant.port);
        let mut crowd = Load::connect(&address, self.connections, &self.talk, &cores().1)?;
        crowd.slice(Duration::ZERO, None)?;
        let after = server.contestant.memory()?;
        Ok(Slice::of_memory(after.saturating_sub(before) as f64 / self.connections as f64))
    }
}
