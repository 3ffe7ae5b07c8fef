//! nginx with one process, for files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::Contender;
use crate::harness::Failure;
use crate::harness::child::{Control, Counters, Reply, Request};
use crate::work::{Job, Work};

pub(crate) const NGINX: Contender = Contender {
    name: "nginx",
    counted: "nothing: it does not count",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| matches!(work, Work::Files { .. }),
    serve: |job, control| match job {
        Job::Files { root, connections } => serve_files(root, *connections, control),
        _ => Err("not compared".into()),
    },
};

/// For how long it may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// This process is nginx's parent, and tells its CPU time as if it were its own.
fn serve_files(root: &Path, connections: usize, control: &mut Control) -> Result<(), Failure> {
    let place = root.with_extension("nginx");
    fs::create_dir_all(&place)?;
    // Nobody else asks for ports here, so the port is still free when nginx wants it.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let configuration = place.join("nginx.conf");
    fs::write(&configuration, configure(root, &place, port, connections))?;
    let nginx = start(&configuration, &place, port)?;
    control.reply(&Reply::Ready { port, setup: "one process, sendfile".into() })?;
    let result = answer(&nginx.0, control);
    drop(nginx);
    fs::remove_dir_all(&place)?;
    result
}

fn configure(root: &Path, place: &Path, port: u16, connections: usize) -> String {
    let (root, place, connections) = (root.display(), place.display(), connections + 64);
    format!(
        "daemon off;
master_process off;
pid {place}/pid;
error_log {place}/error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    etag off;
    keepalive_requests 1000000000;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"
    )
}

/// Ends with its handle.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(configuration: &Path, place: &Path, port: u16) -> Result<Nginx, Failure> {
    // So that it ends with this process, however that ends.
    let nginx = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "nginx", "-c"])
        .arg(configuration)
        .arg("-p")
        .arg(place)
        .spawn()
        .map_err(|error| format!("cannot start nginx: {error}"))?;
    let mut nginx = Nginx(nginx);
    let deadline = Instant::now() + START_TIMEOUT;
    while !listens(port) {
        if let Some(status) = nginx.0.try_wait()? {
            return Err(format!("nginx ended at its start: {status}").into());
        }
        if Instant::now() > deadline {
            return Err("nginx does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(nginx)
}

fn listens(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read(&mut [0])
    };
    ask().is_ok_and(|count| count > 0)
}

fn answer(nginx: &Child, control: &mut Control) -> Result<(), Failure> {
    while let Some(request) = control.next::<Request>()? {
        let Request::Counters = request else {
            return Err(format!("a server cannot do {request:?}").into());
        };
        let cpu_ns = cpu_ns_of(nginx.id())?;
        control.reply(&Reply::Counters(Counters { cpu_ns, enters: None }))?;
    }
    Ok(())
}

/// User and system time of a process of one thread, in nanoseconds.
fn cpu_ns_of(process: u32) -> Result<u64, Failure> {
    let figures = fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    let first = figures.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(first.parse()?)
}
