//! The example `reverse_proxy`: heads, bodies in both directions, connections that stay, and peers
//! that go at any moment.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::{bounded, mortal};
use crate::web::{Answer, ask, curl, exchange, have, load};
use crate::{MIB, Server, bytes, command, run, scratch_dir};

fn proxy(options: &[&str], servers: &[SocketAddr]) -> Server {
    let mut command = command("reverse_proxy", &[]);
    command.args(["--address", "127.0.0.1:0"]).args(options);
    command.args(servers.iter().map(SocketAddr::to_string));
    Server::from_command(command)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// A port that is free, most likely still when the proxy connects.
fn nobody() -> SocketAddr {
    listener().1
}

/// Reads a head, with the empty line at its end.
fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).expect("the proxy sends text") == 0 {
            return String::new();
        }
    }
    head
}

/// A server that answers each request, whose body it does not read, with the same bytes, and sends
/// the heads on; and for each connection a line `NEW`.
fn scripted(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    let (listener, address) = listener();
    let (sender, heads) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, sender) = (stream.expect("a connection"), sender.clone());
            let _ = sender.send("NEW".to_owned());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
                loop {
                    let head = read_head(&mut reader);
                    if head.is_empty() || sender.send(head).is_err() {
                        return;
                    }
                    (&stream).write_all(answer.as_bytes()).expect("the proxy reads");
                }
            });
        }
    });
    (address, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn heads_lose_what_is_of_a_connection_and_say_who_asks() {
    bounded(|| {
        let answer = "HTTP/1.1 203 Fine\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\n\
                      Keep-Alive: timeout=9\r\nX-Answer: yes\r\nContent-Length: 2\r\n\r\nok";
        let (server, heads) = scripted(answer);
        let proxy = proxy(&[], &[server]);
        let answer = ask(
            proxy.address,
            "GET /path?query=1",
            "X-Forwarded-For: 192.0.2.1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-Own: yes\r\nUpgrade: h2c\r\n",
        );
        assert_eq!((answer.status, &answer.body[..]), (203, &b"ok"[..]));
        assert_eq!(answer.header("x-answer"), Some("yes"));
        assert_eq!(answer.header("via"), Some("1.1 annulus"));
        assert_eq!((answer.header("x-secret"), answer.header("keep-alive")), (None, None));

        assert_eq!(heads.recv().expect("a connection"), "NEW");
        let head = heads.recv().expect("a head").to_ascii_lowercase();
        assert!(head.starts_with("get /path?query=1 http/1.1\r\n"), "{head}");
        for line in [
            "host: test",
            "x-own: yes",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: test",
            "x-forwarded-proto: http",
            "forwarded: proto=http;for=127.0.0.1;host=\"test\"",
            "via: 1.1 annulus",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "no {line}: {head}");
        }
        for name in ["x-hop", "te:", "keep-alive", "proxy-connection", "upgrade", "connection:"] {
            assert!(!head.contains(name), "{name}: {head}");
        }

        let own = self::proxy(&["--own-host"], &[server]);
        assert_eq!(ask(own.address, "GET /", "").status, 203);
        assert_eq!(heads.recv().expect("a connection"), "NEW");
        let head = heads.recv().expect("a head").to_ascii_lowercase();
        assert!(head.contains(&format!("\r\nhost: {server}\r\n")), "{head}");
    });
}

#[test]
fn connections_stay_on_both_sides() {
    bounded(|| {
        let (server, heads) = scripted(OK);
        let proxy = proxy(&[], &[server]);
        let mut client = proxy.connect();
        for number in 0..20 {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n");
            client.write_all(request.as_bytes()).expect("the proxy reads");
            let mut reader = BufReader::new(client.try_clone().expect("a descriptor"));
            assert!(read_head(&mut reader).starts_with("HTTP/1.1 200"));
            let mut body = [0; 2];
            reader.read_exact(&mut body).expect("the proxy answers");
            assert_eq!(&body, b"ok");
        }
        // A second client gets the connection of the first.
        assert_eq!(ask(proxy.address, "GET /other", "").status, 200);
        let heads: Vec<String> = heads.try_iter().collect();
        let connections = heads.iter().filter(|head| *head == "NEW").count();
        // The last connection may not be back yet when the next request comes.
        assert!(connections <= 3 && heads.len() == connections + 21, "{heads:?}");
    });
}

#[test]
fn servers_take_turns_and_one_that_is_not_there_is_passed_over() {
    bounded(|| {
        let (one, heads_of_one) = scripted(OK);
        let (two, heads_of_two) = scripted(OK);
        let proxy = proxy(&[], &[one, nobody(), two]);
        for _ in 0..30 {
            assert_eq!(ask(proxy.address, "GET /", "").status, 200);
        }
        let count = |heads: Receiver<String>| heads.try_iter().filter(|line| line != "NEW").count();
        assert_eq!((count(heads_of_one), count(heads_of_two)), (10, 20));
    });
}

#[test]
fn a_server_that_is_not_there_or_talks_nonsense_is_a_bad_gateway_with_the_reason() {
    bounded(|| {
        let address = nobody();
        let proxy = proxy(&[], &[address]);
        for _ in 0..3 {
            let answer = ask(proxy.address, "GET /", "");
            let text = String::from_utf8(answer.body).expect("text");
            assert_eq!(answer.status, 502);
            assert!(text.contains(&address.to_string()) && text.contains("refused"), "{text}");
        }
        for nonsense in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            let (server, _heads) = scripted(nonsense);
            let proxy = self::proxy(&[], &[server]);
            assert_eq!(ask(proxy.address, "GET /", "").status, 502, "{nonsense}");
        }
        // One that ends the connection without a word.
        let (listener, server) = listener();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                read_head(&mut BufReader::new(stream));
            }
        });
        let proxy = self::proxy(&[], &[server]);
        assert_eq!(ask(proxy.address, "POST /", "Content-Length: 0\r\n").status, 502);
        assert_eq!(ask(proxy.address, "CONNECT test:443", "").status, 501);
    });
}

#[test]
fn a_server_that_says_nothing_is_a_gateway_timeout() {
    bounded(|| {
        let (_listener, server) = listener();
        let proxy = proxy(&["--timeout", "0.05"], &[server]);
        let answer = ask(proxy.address, "GET /", "");
        assert_eq!(answer.status, 504);
        let text = String::from_utf8(answer.body).expect("text");
        assert!(text.contains("no response within 50ms"), "{text}");
    });
}

#[test]
fn bodies_pass_in_both_directions_as_they_come() {
    bounded(|| {
        let (listener, server) = listener();
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the proxy connects");
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let head = read_head(&mut reader).to_ascii_lowercase();
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .expect("the proxy reads");
            // Each chunk goes back before the next one is sent.
            loop {
                let mut chunk = String::new();
                reader.read_line(&mut chunk).expect("a length");
                let length = usize::from_str_radix(chunk.trim(), 16).expect("a length");
                let mut data = vec![0; length + 2];
                reader.read_exact(&mut data).expect("a chunk");
                let whole = [chunk.as_bytes(), &data].concat();
                (&stream).write_all(&whole).expect("the proxy reads");
                if length == 0 {
                    return;
                }
            }
        });
        let proxy = proxy(&[], &[server]);
        let mut client = proxy.connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .expect("the proxy reads");
        let mut reader = BufReader::new(client.try_clone().expect("a descriptor"));
        for (number, word) in ["one", "three", "eleven"].into_iter().enumerate() {
            let chunk = format!("{:X}\r\n{word}\r\n", word.len());
            client.write_all(chunk.as_bytes()).expect("the proxy reads");
            if number == 0 {
                assert!(read_head(&mut reader).starts_with("HTTP/1.1 200"));
            }
            let mut line = String::new();
            reader.read_line(&mut line).expect("a length");
            let mut data = vec![0; word.len() + 2];
            reader.read_exact(&mut data).expect("a chunk");
            assert_eq!(data, format!("{word}\r\n").as_bytes());
        }
        client.write_all(b"0\r\n\r\n").expect("the proxy reads");
        let mut end = String::new();
        reader.read_line(&mut end).expect("the end");
        assert_eq!(end, "0\r\n");
    });
}

#[test]
fn a_connection_that_the_server_has_ended_is_replaced_where_that_is_safe() {
    bounded(|| {
        // It answers one request of each connection, and ends it with the second.
        let (listener, server) = listener();
        let (sender, ended) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.expect("a connection"), sender.clone());
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
                    read_head(&mut reader);
                    (&stream).write_all(OK.as_bytes()).expect("the proxy reads");
                    let second = read_head(&mut reader);
                    // First, so that it is there when the proxy has told its client.
                    let _ = sender.send(second);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        let proxy = proxy(&[], &[server]);
        let mut failed = 0;
        for method in ["GET", "GET", "GET", "POST", "GET", "POST"] {
            let request = format!("{method} /");
            let answer = ask(proxy.address, &request, "Content-Length: 0\r\n");
            if method == "GET" {
                assert_eq!(answer.status, 200);
            } else {
                // It may have come to the server, so it is not repeated.
                assert!([200, 502].contains(&answer.status), "{}", answer.status);
                failed += usize::from(answer.status == 502);
            }
        }
        let lost = ended.try_iter().filter(|head| head.starts_with("POST")).count();
        assert_eq!(failed, lost, "each request that was lost is told");
    });
}

/// A server that sends a head and a part of its body on each connection, and then does what it is
/// told.
fn stalling(then: fn(&TcpStream)) -> SocketAddr {
    let (listener, address) = listener();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            thread::spawn(move || {
                read_head(&mut BufReader::new(stream.try_clone().expect("a descriptor")));
                let part =
                    [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..], &[b'x'; 999]];
                (&stream).write_all(&part.concat()).expect("the proxy reads");
                then(&stream);
            });
        }
    });
    address
}

#[test]
fn a_server_that_ends_in_the_middle_of_a_body_ends_the_response() {
    bounded(|| {
        let proxy = proxy(&[], &[stalling(|_| {})]);
        let before = proxy.open_descriptors();
        for _ in 0..5 {
            let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
            let answer = Answer::parse(&exchange(proxy.address, request));
            assert_eq!(answer.header("content-length"), Some("1000000"));
            assert!(answer.body.len() <= 999, "{}", answer.body.len());
        }
        proxy.assert_descriptors_become(before);
    });
}

#[test]
fn a_client_that_goes_at_any_moment_takes_the_request_with_it() {
    bounded(|| {
        // The server waits for the end of the connection, which comes when the client has gone.
        let server = stalling(|stream| {
            let mut stream = stream;
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let proxy = proxy(&[], &[server]);
        let before = proxy.open_descriptors();
        let request = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\npart";
        for length in [1, 20, request.len() - 4, request.len()] {
            let mut client = proxy.connect();
            client.write_all(&request[..length]).expect("the proxy reads");
            if length == request.len() {
                client.read_exact(&mut [0; 10]).expect("the proxy answers");
            }
            drop(client);
        }
        proxy.assert_descriptors_become(before);
        // A server that has taken the request and says nothing.
        let (listener, silent) = listener();
        let proxy = self::proxy(&[], &[silent]);
        let mut client = proxy.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("the proxy reads");
        let (behind, _) = listener.accept().expect("the proxy connects");
        let mut behind = BufReader::new(behind);
        assert!(read_head(&mut behind).starts_with("GET / HTTP/1.1"));
        drop(client);
        assert_eq!(behind.read_to_end(&mut Vec::new()).expect("the end"), 0);
    });
}

/// Python's web server on a directory.
struct Python(Child, SocketAddr);

impl Python {
    fn serve(directory: &std::path::Path) -> Python {
        let mut python = Command::new("python3");
        python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]);
        python.current_dir(directory);
        let mut child = mortal(python).spawn().expect("python3 is there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next());
        let port = port.and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port: {line}"));
        Python(child, SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn reverse_proxy_between_curl_and_the_web_server_of_python() {
    bounded(|| {
        if !have(&["curl", "python3"]) {
            return;
        }
        let directory = scratch_dir();
        let content = bytes(MIB + 99);
        std::fs::write(directory.path().join("file"), &content).expect("a scratch directory");
        let python = Python::serve(directory.path());
        let proxy = proxy(&[], &[python.1]);
        let url = proxy.url("/file");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert!(curl(&[version, &url]) == content, "{version}");
            assert!(curl(&[version, "-I", &url]).starts_with(b"HTTP/"));
            let none = curl(&[version, "-o", "/dev/null", "-w", "%{http_code}", &proxy.url("/no")]);
            assert_eq!(none, b"404");
        }
    });
}

#[test]
fn reverse_proxy_in_front_of_static_servers_fails_no_request_under_load() {
    bounded(|| {
        if !have(&["wrk", "h2load"]) {
            return;
        }
        let directory = scratch_dir();
        std::fs::write(directory.path().join("file"), bytes(3000)).expect("room on disk");
        let serve = || {
            let mut command = command("static_server", &[]);
            command.args(["--address", "127.0.0.1:0"]).arg(directory.path());
            Server::from_command(command)
        };
        let servers = [serve(), serve()];
        let proxy = proxy(&[], &[servers[0].address, servers[1].address]);
        load(&proxy.url("/file"));
        // What stays are connections that wait for the next request.
        let idle = proxy.open_descriptors();
        assert!(idle < 400, "{idle} descriptors");
    });
}

#[test]
fn reverse_proxy_says_how_it_is_used() {
    bounded(|| {
        let output = run("reverse_proxy", &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("<SERVERS>"));
    });
}
