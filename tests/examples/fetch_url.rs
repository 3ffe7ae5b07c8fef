//! The example `fetch_url`, against a server of scripted answers and one that speaks TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::common::bounded;
use crate::web::have;
use crate::{assert_success, cried, run, said, scratch_dir};

/// Answers so many connections, each once, by the path that is asked for.
fn serve(connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            answer(stream.expect("a client connects"));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let path = head.split(' ').nth(1).expect("a path");
    let response = match path {
        "/missing" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(),
        // It promises more than it sends.
        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n".to_owned(),
        path => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", path.len()),
    };
    let body = if path == "/missing" { "" } else { path };
    let whole = format!("{response}Connection: close\r\n\r\n{body}");
    stream.write_all(whole.as_bytes()).expect("the client reads");
}

#[test]
fn fetch_url_prints_the_length_of_each_page() {
    bounded(|| {
        let address = serve(3);
        let urls = ["/", "/four", "/eleven-long"].map(|path| format!("http://{address}{path}"));
        let output = run("fetch_url", &[&urls[0], &urls[1], &urls[2]]);
        assert_success(&output);
        let mut lines: Vec<String> = said(&output).lines().map(str::to_owned).collect();
        lines.sort();
        let mut expected =
            [(1, &urls[0]), (5, &urls[1]), (12, &urls[2])].map(|(n, url)| format!("{n:>10} {url}"));
        expected.sort();
        assert_eq!(lines, expected);
    });
}

#[test]
fn fetch_url_tells_what_failed_and_fetches_the_rest() {
    bounded(|| {
        let address = serve(3);
        let url = |path: &str| format!("http://{address}{path}");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let nobody = format!("http://{}/nobody", closed.local_addr().expect("it is bound"));
        drop(closed);
        let (good, missing, cut) = (url("/good"), url("/missing"), url("/cut"));
        let output = run("fetch_url", &[&good, &missing, &cut, &nobody]);
        assert_eq!(output.status.code(), Some(1), "{}", cried(&output));
        assert_eq!(said(&output), format!("{:>10} {good}\n", 5));
        let errors = cried(&output);
        assert_eq!(errors.lines().count(), 3, "{errors}");
        for part in ["404", "/cut", "/nobody"] {
            assert!(errors.contains(part), "no word of {part}: {errors}");
        }
    });
}

#[test]
fn fetch_url_writes_a_page_to_a_file() {
    bounded(|| {
        let directory = scratch_dir();
        let path = directory.path().join("page");
        let url = format!("http://{}/content", serve(1));
        assert_success(&run("fetch_url", &[&"--output", &path, &url]));
        assert_eq!(fs::read(path).expect("it was written"), b"/content");
    });
}

#[test]
fn fetch_url_checks_the_certificate_of_a_server() {
    if !have(&["openssl"]) {
        return;
    }
    bounded(|| {
        let directory = scratch_dir();
        let file = |name: &str| directory.path().join(name).display().to_string();
        let (key, certificate) = (file("key.pem"), file("certificate.pem"));
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let authority = authority.expect("a certificate");
        fs::write(&key, authority.signing_key.serialize_pem()).expect("room on disk");
        fs::write(&certificate, authority.cert.pem()).expect("room on disk");
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a free port").port();
        let mut command = std::process::Command::new("openssl");
        command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-quiet"]);
        command.args(["-key", &key, "-cert", &certificate]).stdin(std::process::Stdio::null());
        let mut server = crate::mortal(command).spawn().expect("openssl starts");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::yield_now();
        }
        let url = format!("https://localhost:{port}/");
        let trusted = run("fetch_url", &[&"--ca", &certificate, &url]);
        let distrusted = run("fetch_url", &[&url]);
        server.kill().expect("it runs");
        server.wait().expect("it ends");
        assert_success(&trusted);
        assert!(said(&trusted).trim_end().ends_with(&url), "{}", said(&trusted));
        assert_eq!(distrusted.status.code(), Some(1));
        assert!(cried(&distrusted).contains("certificate"), "{}", cried(&distrusted));
    });
}
