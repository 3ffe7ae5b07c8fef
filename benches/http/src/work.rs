//! The rows: what is asked of the servers, and how one slice of it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Contender;
use crate::files::Files;
use crate::harness::load::{Start, talking};
use crate::harness::measure::{Contest, Slice};
use crate::harness::report::{self, Workload};
use crate::harness::served::{IdleContest, MANY_CONNECTIONS, Server, ServerContest};
use crate::harness::{Failure, Race, Row, Task};
use crate::talk::HttpTalk;
use crate::tls::{self, Identity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A hyper service that answers the same bytes to every request.
    Plain { body_size: usize, connections: usize },
    /// Messages sent back over TLS.
    TlsEcho { message_size: usize, connections: usize },
    /// Files of a directory.
    Files { file_size: usize, is_cached: bool, connections: usize },
    /// Memory of connections that have nothing to do, after a request on each.
    Idle { server: IdleServer, connections: usize },
}

/// Who holds the connections that are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdleServer {
    /// hyper, over the adapter.
    Hyper,
    /// A task that answers by itself, over the adapter: what is left without hyper.
    Adapter,
}

/// What a contender's process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Plain { body_size: usize, connections: usize },
    TlsEcho { identity: Identity, message_size: usize, connections: usize },
    Files { root: PathBuf, connections: usize },
    Idle { server: IdleServer, body_size: usize, connections: usize },
}

/// What an idle connection was asked before.
const IDLE_BODY: usize = 13;

/// The rows by which annulus is judged.
pub(crate) fn all_rows() -> Vec<Row<Work>> {
    let mut rows = Vec::new();
    for body_size in [13, 16 << 10] {
        rows.extend([1, 50, 500].map(|connections| {
            let name = format!("http_{}_x{connections}", size_name(body_size));
            Row::new(name, Work::Plain { body_size, connections })
        }));
    }
    for message_size in [1 << 10, 16 << 10] {
        let name = format!("tls_echo_{}_x50", size_name(message_size));
        rows.push(Row::new(name, Work::TlsEcho { message_size, connections: 50 }));
    }
    for (is_cached, kind) in [(true, "cached"), (false, "cold")] {
        for file_size in [1 << 10, 64 << 10] {
            let name = format!("files_{kind}_{}_x50", size_name(file_size));
            rows.push(Row::new(name, Work::Files { file_size, is_cached, connections: 50 }));
        }
    }
    for (server, name) in [(IdleServer::Hyper, "hyper"), (IdleServer::Adapter, "adapter")] {
        rows.extend([1000, 10_000].map(|connections| {
            let name = format!("idle_memory_{name}_x{connections}");
            Row::new(name, Work::Idle { server, connections })
        }));
    }
    rows
}

fn size_name(bytes: usize) -> String {
    if bytes < 1 << 10 { bytes.to_string() } else { format!("{}k", bytes >> 10) }
}

impl Work {
    fn describe(self) -> String {
        match self {
            Work::Plain { body_size, connections } => format!(
                "HTTP/1.1 by hyper, bodies of {body_size} bytes, {connections} connection(s) kept alive with one request \
                 outstanding on each; every reply checked"
            ),
            Work::TlsEcho { message_size, connections } => format!(
                "{message_size}-byte messages over TLS 1.3, one outstanding on each of {connections} connections; every reply checked"
            ),
            Work::Files { file_size, is_cached, connections } => format!(
                "files of {file_size} bytes by HTTP/1.1, {}, {connections} connections kept alive with one request outstanding on each; \
                 every reply checked",
                if is_cached {
                    "all in the page cache"
                } else {
                    "each asked for once since its pages were dropped from the page cache"
                }
            ),
            Work::Idle { server, connections } => format!(
                "memory of the server's process per HTTP connection, after one request on each of {connections} that are now idle: {}",
                match server {
                    IdleServer::Hyper => "served by hyper",
                    IdleServer::Adapter =>
                        "answered without hyper, from the stream that hyper would get",
                }
            ),
        }
    }

    fn connections(self) -> usize {
        match self {
            Work::Plain { connections, .. }
            | Work::TlsEcho { connections, .. }
            | Work::Files { connections, .. }
            | Work::Idle { connections, .. } => connections,
        }
    }
}

impl Task for Work {
    type Job = Job;

    fn connections_of(job: &Job) -> usize {
        match job {
            Job::Plain { connections, .. }
            | Job::TlsEcho { connections, .. }
            | Job::Files { connections, .. }
            | Job::Idle { connections, .. } => *connections,
        }
    }

    fn measure(&self, race: &Race<'_, Work>) -> Result<Workload, Failure> {
        match *self {
            Work::Plain { body_size, connections } => {
                let talk = talking(Arc::new(HttpTalk::plain(body_size)));
                self.measure_servers(race, &Job::Plain { body_size, connections }, &talk, None)
            }
            Work::TlsEcho { message_size, connections } => {
                let identity = Identity::new()?;
                let talk = tls::echoing(&identity, message_size)?;
                let job = Job::TlsEcho { identity, message_size, connections };
                self.measure_servers(race, &job, &talk, None)
            }
            Work::Files { file_size, is_cached, connections } => {
                let files = Arc::new(Files::write(file_size, is_cached)?);
                let talk = talking(Arc::new(HttpTalk::of_files(&files)));
                let job = Job::Files { root: files.root().to_owned(), connections };
                let cold = (!is_cached).then(|| Arc::clone(&files));
                self.measure_servers(race, &job, &talk, cold)
            }
            Work::Idle { server, connections } => {
                let talk = talking(Arc::new(HttpTalk::plain(IDLE_BODY)));
                let job = Job::Idle { server, body_size: IDLE_BODY, connections };
                let start = |contender: usize| {
                    Server::start(race.contenders[contender], job.clone(), None, 1, &talk)
                };
                let mut contest = IdleContest {
                    contenders: race.contenders.len(),
                    connections,
                    start,
                    talk: Arc::clone(&talk),
                };
                race.run(self.describe(), false, &mut contest)
            }
        }
    }
}

impl Work {
    fn measure_servers(
        self,
        race: &Race<'_, Work>,
        job: &Job,
        talk: &Arc<Start>,
        cold: Option<Arc<Files>>,
    ) -> Result<Workload, Failure> {
        let connections = self.connections();
        let start = |contender: &&'static Contender| {
            Server::start(contender, job.clone(), None, connections, talk)
        };
        let servers = ServerContest::start(&race.contenders, connections, None, start)?;
        let placement = servers.placement.clone();
        let mut contest = Prepared { servers, cold };
        let mut workload = race.run(self.describe(), false, &mut contest)?;
        workload.notes.extend(placement.note());
        if connections >= MANY_CONNECTIONS {
            workload.notes.extend(report::disturbance(&workload.contenders));
        }
        workload.placement = Some(placement);
        Ok(workload)
    }
}

/// Servers, before each slice of which files are dropped from the page cache.
struct Prepared {
    servers: ServerContest,
    cold: Option<Arc<Files>>,
}

impl Contest for Prepared {
    fn setups(&self) -> Vec<String> {
        self.servers.setups()
    }

    fn slice(&mut self, contender: usize, duration: Duration, seed: u64) -> Result<Slice, Failure> {
        if let Some(files) = &self.cold {
            files.drop_cached_pages()?;
        }
        self.servers.slice(contender, duration, seed)
    }
}
