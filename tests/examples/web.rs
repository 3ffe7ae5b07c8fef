//! What the tests of the HTTP programs share: a client that sends any bytes, and the clients that
//! the system has.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Server;

/// The head and the body of a response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Of what came until the end of the connection, without decoding.
    pub(crate) fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a line").split(' ').nth(1).expect("a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Answer {
            status: status.parse().expect("a number"),
            headers: lines.map(header).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }

    /// All headers but the one that differs from second to second, in any order.
    pub(crate) fn headers(&self) -> BTreeSet<&(String, String)> {
        self.headers.iter().filter(|(name, _)| name != "date").collect()
    }
}

/// Sends bytes, and returns all that comes back until the server ends the connection.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(bytes).expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers");
    answer
}

/// One request on a connection of its own: `GET /`, with these headers, each ended by CRLF.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &str) -> Answer {
    let request = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
    Answer::parse(&exchange(address, request.as_bytes()))
}

/// Says so if one of the programs is missing.
pub(crate) fn have(programs: &[&str]) -> bool {
    let exists = |name: &&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let has_all = programs.iter().all(exists);
    if !has_all {
        println!("skipped: it needs {}", programs.join(" and "));
    }
    has_all
}

#[track_caller]
pub(crate) fn succeed(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().expect("it is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {} {errors}", output.status);
    output
}

/// What curl writes to its standard output.
#[track_caller]
pub(crate) fn curl(arguments: &[&str]) -> Vec<u8> {
    succeed("curl", &[&["-sS", "--noproxy", "*"], arguments].concat()).stdout
}

/// Loads a URL with the clients wrk and h2load for a moment, by HTTP/1.1 and HTTP/2. Not one
/// request may fail.
#[track_caller]
pub(crate) fn load(url: &str) {
    let text = String::from_utf8(succeed("wrk", &["-t1", "-c20", "-d1s", url]).stdout);
    let text = text.expect("text");
    assert!(text.contains("requests in"), "{text}");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    for version in [&["--h1"][..], &["-m", "8"]] {
        let arguments = [version, &["-n", "2000", "-c", "10", url]].concat();
        let text = String::from_utf8(succeed("h2load", &arguments).stdout).expect("text");
        assert!(text.contains("2000 done, 2000 succeeded, 0 failed, 0 errored"), "{text}");
        assert!(text.contains("status codes: 2000 2xx"), "{text}");
    }
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    /// What it holds in memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("a number")
    }

    /// How many sockets and files it has open, of those that come and go.
    pub(crate) fn open_descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).expect("it runs").count()
    }

    /// Waits until it has as many descriptors as before.
    #[track_caller]
    pub(crate) fn assert_descriptors_become(&self, before: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.open_descriptors() > before {
            let now = self.open_descriptors();
            assert!(Instant::now() < deadline, "{now} descriptors are open, and {before} before");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
