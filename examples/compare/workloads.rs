//! What is compared? The workloads: which processes each needs, and how one slice of it runs.

use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::child::{Contestant, EchoJob, FileJob, Job};
use crate::contenders::Contender;
use crate::data_file::{BLOCK_SIZE, DataFile};
use crate::load::Load;
use crate::measure::{Contest, Slice};
use crate::system;

/// The smallest buffer an echo server reads into: what programs that do not know their messages' size would take.
const SMALLEST_READ: usize = 4096;

/// TCP echo: one server process per contender, all connected at once, loaded one at a time.
#[derive(Debug)]
pub(crate) struct EchoContest {
    servers: Vec<(Contestant, Load)>,
    pub(crate) placement: Placement,
}

/// Which cores are used for what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Placement {
    /// `None` when there is but one core, so that nothing is pinned.
    pub(crate) server_core: Option<usize>,
    pub(crate) load_threads: usize,
}

impl EchoContest {
    pub(crate) fn start(
        contenders: &[&'static Contender],
        connections: usize,
        message_size: usize,
        seed: u64,
    ) -> Result<EchoContest, Failure> {
        system::allow_open_files((connections * contenders.len()) as u64 + 64)?;
        let cores = system::allowed_cores();
        let (server_core, load_cores) = match cores.split_first() {
            Some((&first, rest)) if !rest.is_empty() => (Some(first), rest),
            _ => (None, &[][..]),
        };
        let job = EchoJob { connections, read_size: message_size.max(SMALLEST_READ) };
        let mut servers = Vec::with_capacity(contenders.len());
        for contender in contenders {
            let contestant = Contestant::start(contender.name, server_core, Job::Echo(job.clone()))?;
            let load = Load::connect(contestant.port, connections, message_size, load_cores, seed)
                .map_err(|error| format!("{}: {error}", contender.name))?;
            servers.push((contestant, load));
        }
        let load_threads = servers.first().map_or(0, |(_, load)| load.threads());
        Ok(EchoContest { servers, placement: Placement { server_core, load_threads } })
    }

    pub(crate) fn setups(&self) -> Vec<String> {
        self.servers.iter().map(|(server, _)| server.setup.clone()).collect()
    }
}

impl Contest for EchoContest {
    fn contenders(&self) -> usize {
        self.servers.len()
    }

    fn prepare_round(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn slice(&mut self, contender: usize, duration: Duration, _seed: u64) -> Result<Slice, Failure> {
        let (server, load) = &mut self.servers[contender];
        let before = server.counters()?;
        let loaded = load.slice(duration).map_err(|error| format!("{}: {error}", server.name))?;
        let after = server.counters()?;
        Ok(Slice {
            operations: loaded.operations,
            elapsed: loaded.elapsed,
            cpu: Duration::from_nanos(after.cpu_ns - before.cpu_ns),
            enters: after.enters - before.enters,
            latencies: loaded.latencies,
            load_busy: Some(loaded.busy),
        })
    }
}

/// Random reads of one file: one process per contender, not pinned, so that a pool may use every core.
#[derive(Debug)]
pub(crate) struct FileContest<'a> {
    readers: Vec<Contestant>,
    file: &'a DataFile,
    direct: bool,
}

impl<'a> FileContest<'a> {
    pub(crate) fn start(
        contenders: &[&'static Contender],
        file: &'a DataFile,
        direct: bool,
        depth: usize,
    ) -> Result<FileContest<'a>, Failure> {
        if direct {
            file.cool()?;
        }
        let job = FileJob { path: file.path.clone(), blocks: file.size / BLOCK_SIZE as u64, direct, depth };
        let start = |contender: &&Contender| Contestant::start(contender.name, None, Job::Files(job.clone()));
        let readers = contenders.iter().map(start).collect::<Result<_, _>>()?;
        Ok(FileContest { readers, file, direct })
    }

    pub(crate) fn setups(&self) -> Vec<String> {
        self.readers.iter().map(|reader| reader.setup.clone()).collect()
    }
}

impl Contest for FileContest<'_> {
    fn contenders(&self) -> usize {
        self.readers.len()
    }

    /// Warms the file, for the kernel may have given some of its pages to others meanwhile.
    fn prepare_round(&mut self) -> Result<(), Failure> {
        if !self.direct {
            self.file.warm()?;
        }
        Ok(())
    }

    fn slice(&mut self, contender: usize, duration: Duration, seed: u64) -> Result<Slice, Failure> {
        self.readers[contender].slice(duration, seed)
    }
}
