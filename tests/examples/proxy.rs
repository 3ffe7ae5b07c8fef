//! The example `proxy`, with real clients: many connections at a time, large payloads, half-closes,
//! and peers that are not there.

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{bounded, mortal};
use crate::{MIB, Server, bytes, command, run};

/// What a proxy is asked to carry.
const CONNECTIONS: usize = 10_000;
/// Descriptors for other things: rings, pipes, listeners, those of tests beside this one.
const OTHERS: usize = 600;
const THREADS: usize = 8;

/// A server that sends back what it receives, on a thread for each connection, until it is dropped
/// with the process.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a descriptor");
                let _ = std::io::copy(&mut reader, &mut stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// Raises the bound on descriptors as far as this user may, and says how far that is.
fn most_descriptors(wanted: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    if before.current.is_some_and(|current| current < wanted) {
        let maximum = before.maximum.map_or(wanted, |maximum| maximum.max(wanted));
        let all = Rlimit { current: Some(wanted), maximum: Some(maximum) };
        if setrlimit(Resource::Nofile, all).is_err() {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
        }
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |current| current as usize)
}

#[test]
fn proxy_carries_ten_thousand_connections_at_a_time() {
    bounded(|| {
        // Both ends of the two connections of each client: here and, inherited, in the proxy.
        let room = most_descriptors(2 * CONNECTIONS + OTHERS).saturating_sub(OTHERS) / 2;
        let connections = CONNECTIONS.min(room);
        if connections < CONNECTIONS {
            println!("only {connections} connections: more descriptors are not allowed here");
        }
        let target = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = target.local_addr().expect("bound").to_string();
        let proxy = Server::from_command(command("proxy", &[&"127.0.0.1:0", &address]));
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            // Each connection of the target is answered when all are there.
            scope.spawn(|| {
                let accepted: Vec<TcpStream> = (0..connections)
                    .map(|_| target.accept().expect("the proxy connects").0)
                    .collect();
                for mut stream in accepted {
                    let mut question = [0; 8];
                    stream.read_exact(&mut question).expect("the proxy passes it on");
                    stream.write_all(&question).expect("the proxy reads");
                }
            });
            for number in 0..THREADS {
                let (proxy, served) = (&proxy, &served);
                scope.spawn(move || {
                    let mine = (number..connections).step_by(THREADS);
                    let clients: Vec<(usize, TcpStream)> = mine
                        .map(|number| {
                            let mut client = proxy.connect();
                            client.write_all(&number.to_ne_bytes()).expect("the proxy reads");
                            (number, client)
                        })
                        .collect();
                    for (number, mut client) in clients {
                        let mut answer = Vec::new();
                        client.read_to_end(&mut answer).expect("the answer, and the end");
                        assert_eq!(answer, number.to_ne_bytes(), "another client's answer");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(served.into_inner(), connections);
    });
}

#[test]
fn proxy_passes_large_payloads_and_the_end_of_one_direction_on() {
    bounded(|| {
        let target = echo_server();
        let proxy = Server::from_command(command("proxy", &[&"127.0.0.1:0", &target]));
        let payload = bytes(3 * MIB + 1234);
        thread::scope(|scope| {
            for number in 0..4 {
                let (proxy, payload) = (&proxy, &payload[number..]);
                scope.spawn(move || {
                    let mut client = proxy.connect();
                    let mut writer = client.try_clone().expect("a descriptor");
                    let sender = scope.spawn(move || {
                        writer.write_all(payload).expect("the proxy reads");
                        writer.shutdown(Shutdown::Write).expect("connected");
                    });
                    let mut answer = Vec::new();
                    client.read_to_end(&mut answer).expect("the proxy answers");
                    sender.join().expect("all was sent");
                    assert!(answer == payload, "client {number} got back other bytes");
                });
            }
        });
    });
}

#[test]
fn proxy_says_that_its_target_is_not_there_and_serves_on() {
    bounded(|| {
        // A port that is free, most likely still when the proxy connects.
        let gone = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port");
        let mut proxy =
            Server::from_command(command("proxy", &[&"127.0.0.1:0", &gone.to_string()]));
        let mut errors = proxy.errors();
        for _ in 0..3 {
            let mut client = proxy.connect();
            let mut line = String::new();
            errors.read_line(&mut line).expect("a line of text");
            assert!(line.contains("refused"), "{line}");
            assert!(!matches!(client.read(&mut [0]), Ok(1..)), "nobody sends anything");
        }
    });
}

#[test]
fn proxy_between_curl_and_a_web_server() {
    bounded(|| {
        let exists = |name: &str| {
            let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
            found.is_ok_and(|output| output.status.success())
        };
        if !exists("curl") || !exists("python3") {
            return println!("skipped: it needs curl and python3");
        }
        let directory = crate::scratch_dir();
        let content = bytes(MIB + 99);
        std::fs::write(directory.path().join("file"), &content).expect("a scratch directory");
        let mut python = Command::new("python3");
        python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]);
        python.current_dir(directory.path());
        let mut python = mortal(python);
        let mut web = python.spawn().expect("python3 is there");
        let mut line = String::new();
        std::io::BufReader::new(web.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next());
        let target = format!("127.0.0.1:{}", port.unwrap_or_else(|| panic!("no port: {line}")));
        let proxy = Server::from_command(command("proxy", &[&"127.0.0.1:0", &target]));
        let url = format!("http://{}/file", proxy.address);
        let output = Command::new("curl").args(["-sS", "--noproxy", "*", &url]).output();
        let output = output.expect("curl is there");
        web.kill().and_then(|()| web.wait()).expect("it ran until now");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == content, "{} bytes of {}", output.stdout.len(), content.len());
    });
}

#[test]
fn proxy_says_how_it_is_used() {
    bounded(|| {
        let output = run("proxy", &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage"));
    });
}
