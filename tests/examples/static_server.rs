//! The example `static_server`, with raw requests and with real clients.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::common::bounded;
use crate::web::{Answer, ask, curl, exchange, have, load};
use crate::{MIB, Server, assert_fails_naming, bytes, command, run, scratch_dir};

const LENGTH: usize = 1000;

/// A directory with a site in it, and a secret beside it.
struct Scratch {
    directory: TempDir,
    content: Vec<u8>,
}

impl Scratch {
    fn new() -> Scratch {
        let directory = scratch_dir();
        let content = bytes(LENGTH);
        let site = directory.path().join("site");
        fs::create_dir_all(site.join("docs/empty")).expect("a scratch directory");
        fs::write(directory.path().join("secret"), "SECRET").expect("room on disk");
        fs::write(site.join("file.bin"), &content).expect("room on disk");
        fs::write(site.join("docs/index.html"), "<p>docs").expect("room on disk");
        fs::write(site.join("docs/empty/none.txt"), "").expect("room on disk");
        Scratch { directory, content }
    }

    fn site(&self) -> std::path::PathBuf {
        self.directory.path().join("site")
    }

    fn serve(&self, options: &[&str]) -> Server {
        let mut command = command("static_server", &[]);
        command.args(["--address", "127.0.0.1:0"]).args(options).arg(self.site());
        Server::from_command(command)
    }
}

#[test]
fn files_come_with_their_type_length_time_and_tag() {
    bounded(|| {
        let scratch = Scratch::new();
        let server = scratch.serve(&[]);
        let answer = ask(server.address, "GET /file.bin", "");
        assert_eq!(answer.status, 200);
        assert!(answer.body == scratch.content);
        assert_eq!(answer.header("content-length"), Some("1000"));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        let modified = answer.header("last-modified").expect("a date");
        assert!(modified.ends_with(" GMT"), "{modified}");
        let etag = answer.header("etag").expect("a tag").to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");

        let head = ask(server.address, "HEAD /file.bin", "");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.headers(), answer.headers());

        let empty = ask(server.address, "GET /docs/empty/none.txt", "");
        assert_eq!((empty.status, empty.body.len()), (200, 0));
        assert_eq!(empty.header("content-length"), Some("0"));
        assert_eq!(empty.header("content-type"), Some("text/plain"));

        fs::write(scratch.site().join("file.bin"), "other content").expect("room on disk");
        let changed = ask(server.address, "GET /file.bin", "");
        assert_eq!(changed.body, b"other content");
        assert_ne!(changed.header("etag"), Some(&etag[..]));
    });
}

#[test]
fn directories_have_an_index_a_slash_and_a_list_only_if_asked_for() {
    bounded(|| {
        let scratch = Scratch::new();
        let server = scratch.serve(&[]);
        let index = ask(server.address, "GET /docs/", "");
        assert_eq!((index.status, &index.body[..]), (200, &b"<p>docs"[..]));
        assert_eq!(index.header("content-type"), Some("text/html"));
        for (path, location) in [
            ("/docs", "/docs/"),
            ("/docs?a=b&c", "/docs/?a=b&c"),
            ("/d%6Fcs", "/docs/"),
            ("/docs/empty", "/docs/empty/"),
        ] {
            let moved = ask(server.address, &format!("GET {path}"), "");
            assert_eq!((moved.status, moved.header("location")), (301, Some(location)), "{path}");
        }
        for path in ["/", "/docs/empty/", "/file.bin/", "/none", "/none/", "/docs/none"] {
            assert_eq!(ask(server.address, &format!("GET {path}"), "").status, 404, "{path}");
        }

        let strange = "<a&\"b>:c d%.txt";
        fs::write(scratch.site().join(strange), "strange").expect("room on disk");
        fs::write(scratch.site().join(".hidden"), "").expect("room on disk");
        let server = scratch.serve(&["--list"]);
        let list = ask(server.address, "GET /", "");
        let page = String::from_utf8(list.body).expect("text");
        let link = "./%3Ca%26%22b%3E%3Ac%20d%25.txt";
        let line = format!("<a href=\"{link}\">&lt;a&amp;&quot;b&gt;:c d%.txt</a>");
        assert!(page.contains(&line), "{page}");
        assert!(page.contains("<a href=\"./docs/\">docs/</a>"), "{page}");
        assert!(!page.contains("hidden") && !page.contains(".."), "{page}");
        let strange = ask(server.address, &format!("GET {}", &link[1..]), "");
        assert_eq!(strange.body, b"strange");
        let inner = ask(server.address, "GET /docs/empty/", "");
        let page = String::from_utf8(inner.body).expect("text");
        assert!(page.contains("../") && page.contains("none.txt"), "{page}");
    });
}

#[test]
fn ranges_are_what_the_rfc_says() {
    bounded(|| {
        let scratch = Scratch::new();
        let (server, content) = (scratch.serve(&[]), &scratch.content);
        let tag = ask(server.address, "HEAD /file.bin", "");
        let etag = tag.header("etag").expect("a tag");
        let get = |headers: &str| ask(server.address, "GET /file.bin", headers);
        let part = |range: &str, expected: std::ops::Range<usize>| {
            let answer = get(&format!("Range: {range}\r\n"));
            assert_eq!(answer.status, 206, "{range}");
            assert!(answer.body == content[expected.clone()], "{range}");
            let said = format!("bytes {}-{}/{LENGTH}", expected.start, expected.end - 1);
            assert_eq!(answer.header("content-range"), Some(&said[..]), "{range}");
            assert_eq!(answer.header("content-length"), Some(&expected.len().to_string()[..]));
            assert_eq!(answer.header("etag"), Some(etag));
        };
        part("bytes=0-0", 0..1);
        part("bytes=0-999", 0..LENGTH);
        part("Bytes=10-19", 10..20);
        part("bytes=990-", 990..LENGTH);
        part("bytes=990-5000", 990..LENGTH);
        part("bytes=990-99999999999999999999999", 990..LENGTH);
        part("bytes=-1", 999..LENGTH);
        part("bytes=-5000", 0..LENGTH);
        part("bytes=,5-6 ,", 5..7);
        part("bytes=1000-2000,3-4", 3..5);

        for range in ["bytes=1000-", "bytes=-0", "bytes=99999999999999999999-", "bytes=2000-1,"] {
            let answer = get(&format!("Range: {range}\r\n"));
            if range == "bytes=2000-1," {
                assert_eq!(answer.status, 200, "{range}");
                continue;
            }
            assert_eq!(answer.status, 416, "{range}");
            assert_eq!(answer.header("content-range"), Some("bytes */1000"), "{range}");
        }
        let many = format!("bytes={}", vec!["1-2"; 17].join(","));
        for range in [
            "bytes=",
            "bytes=,",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=1",
            "bytes=--1",
            "bytes",
            "lines=1-2",
            "bytes = 1-2",
            "bytes=0-800,100-900",
            &many,
        ] {
            let answer = get(&format!("Range: {range}\r\n"));
            assert_eq!((answer.status, answer.body.len()), (200, LENGTH), "{range}");
            assert_eq!(answer.header("content-range"), None);
        }
        let head = ask(server.address, "HEAD /file.bin", "Range: bytes=0-1\r\n");
        assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
        let empty = ask(server.address, "GET /docs/empty/none.txt", "Range: bytes=0-1\r\n");
        assert_eq!(empty.status, 200);

        for (validator, status) in [
            (etag.to_owned(), 206),
            (format!("W/{etag}"), 200),
            ("\"other\"".to_owned(), 200),
            ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200),
            ("nonsense".to_owned(), 200),
        ] {
            let headers = format!("Range: bytes=0-1\r\nIf-Range: {validator}\r\n");
            assert_eq!(get(&headers).status, status, "{validator}");
        }
    });
}

#[test]
fn several_ranges_come_as_parts_of_one_body() {
    bounded(|| {
        let scratch = Scratch::new();
        let (server, content) = (scratch.serve(&[]), &scratch.content);
        let answer = ask(server.address, "GET /file.bin", "Range: bytes=0-9,-5,100-299\r\n");
        assert_eq!(answer.status, 206);
        assert_eq!(answer.header("content-length"), Some(&answer.body.len().to_string()[..]));
        let kind = answer.header("content-type").expect("a type");
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
        let mut expected = Vec::new();
        for (first, last) in [(0, 9), (995, 999), (100, 299)] {
            write!(
                expected,
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{LENGTH}\r\n\r\n"
            )
            .expect("memory");
            expected.extend_from_slice(&content[first..=last]);
        }
        write!(expected, "\r\n--{boundary}--\r\n").expect("memory");
        assert!(answer.body == expected, "{}", String::from_utf8_lossy(&answer.body));
    });
}

#[test]
fn conditions_are_judged_in_the_order_of_the_rfc() {
    bounded(|| {
        let scratch = Scratch::new();
        let file = fs::File::open(scratch.site().join("file.bin")).expect("it is there");
        let day = Duration::from_secs(784_111_777);
        file.set_modified(std::time::UNIX_EPOCH + day).expect("it is ours");
        let server = scratch.serve(&[]);
        let now = ask(server.address, "HEAD /file.bin", "");
        let etag = now.header("etag").expect("a tag");
        const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(now.header("last-modified"), Some(SAME));
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";
        let cases = [
            (format!("If-None-Match: {etag}"), 304),
            (format!("If-None-Match: W/{etag}"), 304),
            (format!("If-None-Match: \"a,b\", \"c\" ,{etag}"), 304),
            (format!("If-None-Match: \"a\"\r\nIf-None-Match: {etag}"), 304),
            ("If-None-Match: *".to_owned(), 304),
            ("If-None-Match: \"a\"".to_owned(), 200),
            (format!("If-None-Match: \"a,{}", &etag[1..]), 200),
            (format!("If-Modified-Since: {SAME}"), 304),
            (format!("If-Modified-Since: {AFTER}"), 304),
            (format!("If-Modified-Since: {BEFORE}"), 200),
            ("If-Modified-Since: tomorrow".to_owned(), 200),
            // The tag counts, and the date does not.
            (format!("If-None-Match: \"a\"\r\nIf-Modified-Since: {SAME}"), 200),
            (format!("If-None-Match: {etag}\r\nIf-Modified-Since: {BEFORE}"), 304),
            (format!("If-Match: {etag}"), 200),
            ("If-Match: *".to_owned(), 200),
            (format!("If-Match: W/{etag}"), 412),
            ("If-Match: \"a\"".to_owned(), 412),
            (format!("If-Unmodified-Since: {SAME}"), 200),
            (format!("If-Unmodified-Since: {BEFORE}"), 412),
            (format!("If-Match: {etag}\r\nIf-Unmodified-Since: {BEFORE}"), 200),
            (format!("If-Match: \"a\"\r\nIf-None-Match: {etag}"), 412),
            (format!("If-Match: {etag}\r\nIf-None-Match: {etag}"), 304),
            (format!("If-None-Match: {etag}\r\nRange: bytes=0-1"), 304),
            (format!("If-Match: {etag}\r\nRange: bytes=0-1"), 206),
            (format!("Range: bytes=0-1\r\nIf-Range: {SAME}"), 206),
            (format!("Range: bytes=0-1\r\nIf-Range: {BEFORE}"), 200),
            ("If-Match: \"a\"\r\nRange: bytes=5000-".to_owned(), 412),
        ];
        for (headers, status) in cases {
            for method in ["GET", "HEAD"] {
                let answer =
                    ask(server.address, &format!("{method} /file.bin"), &format!("{headers}\r\n"));
                let status = if method == "HEAD" && status == 206 { 200 } else { status };
                assert_eq!(answer.status, status, "{method} {headers}");
                assert_eq!(answer.header("etag"), Some(etag), "{headers}");
                if status == 304 || method == "HEAD" {
                    assert!(answer.body.is_empty(), "{headers}");
                }
            }
        }
    });
}

#[test]
fn no_path_leads_out_and_none_to_what_is_not_shown() {
    bounded(|| {
        let scratch = Scratch::new();
        let site = scratch.site();
        let secret = scratch.directory.path().join("secret");
        symlink("../secret", site.join("out")).expect("a file system with links");
        symlink(&secret, site.join("absolute")).expect("a file system with links");
        symlink("..", site.join("up")).expect("a file system with links");
        symlink("loop", site.join("loop")).expect("a file system with links");
        symlink("docs/index.html", site.join("within")).expect("a file system with links");
        fs::write(site.join(".hidden"), "HIDDEN").expect("room on disk");
        fs::create_dir_all(site.join(".well-known")).expect("room on disk");
        fs::write(site.join(".well-known/name"), "WELL KNOWN").expect("room on disk");
        let fifo = mknodat(CWD, site.join("fifo"), FileType::Fifo, Mode::RWXU, 0);
        fifo.expect("a file system with FIFOs");
        let server = scratch.serve(&[]);
        let long = format!("/{}", "a".repeat(300));
        for path in [
            "/../secret",
            "/..",
            "/docs/../../secret",
            "/%2e%2e/secret",
            "/%2e%2e%2fsecret",
            "/..%2fsecret",
            "/docs/..%2f..%2fsecret",
            "/docs/%2e%2e/%2e%2e/secret",
            "/out",
            "/absolute",
            "/up/secret",
            "/up/",
            "/loop",
            "/.hidden",
            "/%2ehidden",
            "/./file.bin",
            "/docs/../file.bin",
            "//file.bin",
            "//etc/passwd",
            "/docs//index.html",
            "/fifo",
            "/file.bin%00",
            "/file.bin%00.html",
            "/docs%2findex.html",
            "/%2fetc%2fpasswd",
            "/..%5csecret",
            "/....//secret",
            "/%c0%ae%c0%ae/secret",
            "/%",
            "/%zz",
            &long,
        ] {
            let answer = ask(server.address, &format!("GET {path}"), "");
            assert_eq!(answer.status, 404, "{path}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!text.contains("SECRET") && !text.contains("HIDDEN"), "{path}: {text}");
        }
        // As a proxy would ask, and without a path.
        for line in ["GET http://test/../secret", "GET secret", "GET *", "GET ../secret"] {
            let request = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            let answer = exchange(server.address, request.as_bytes());
            assert!(answer.starts_with(b"HTTP/1.1 40"), "{line}");
            assert!(!answer.windows(6).any(|six| six == b"SECRET"), "{line}");
        }
        // The host of a redirect is always this one.
        fs::create_dir(site.join("evil.example")).expect("room on disk");
        let answer = ask(server.address, "GET //evil.example", "");
        assert_eq!((answer.status, answer.header("location")), (404, None));
        assert_eq!(ask(server.address, "GET /within", "").body, b"<p>docs");
        assert_eq!(ask(server.address, "GET /.well-known/name", "").body, b"WELL KNOWN");
        let server = scratch.serve(&["--hidden"]);
        assert_eq!(ask(server.address, "GET /.hidden", "").body, b"HIDDEN");
        assert_eq!(ask(server.address, "GET /../secret", "").status, 404);
    });
}

#[test]
fn other_methods_are_refused_and_the_connection_goes_on() {
    bounded(|| {
        let scratch = Scratch::new();
        let server = scratch.serve(&[]);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "STRANGE"] {
            let answer = ask(server.address, &format!("{method} /file.bin"), "");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
        }
        let two = "POST /file.bin HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc\
                   GET /docs/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let answers = exchange(server.address, two.as_bytes());
        assert!(answers.starts_with(b"HTTP/1.1 405") && answers.ends_with(b"<p>docs"));
    });
}

#[test]
fn large_files_come_whole_by_curl_and_its_downloads_go_on_where_they_ended() {
    bounded(|| {
        if !have(&["curl"]) {
            return;
        }
        let scratch = Scratch::new();
        let content = bytes(5 * MIB + 4321);
        fs::write(scratch.site().join("large"), &content).expect("room on disk");
        for options in [&[][..], &["--direct"]] {
            let server = scratch.serve(options);
            let url = server.url("/large");
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                assert!(curl(&[version, &url]) == content, "{version} {options:?}");
                assert!(
                    curl(&[version, "-r", "70000-4000000", &url]) == content[70000..=4_000_000]
                );
                let head = String::from_utf8(curl(&[version, "-I", &url])).expect("text");
                let length = format!("content-length: {}", content.len());
                assert!(head.to_ascii_lowercase().contains(&length), "{head}");
            }
            let part = scratch.directory.path().join("part");
            fs::write(&part, &content[..1_234_567]).expect("room on disk");
            let path = part.to_str().expect("text");
            assert!(curl(&["-C", "-", "-o", path, &url]).is_empty());
            assert!(fs::read(&part).expect("it is there") == content);
            // What has not changed is not sent again.
            let tag = scratch.directory.path().join("tag");
            let tag = tag.to_str().expect("text");
            assert!(curl(&["--etag-save", tag, &url]) == content);
            assert!(curl(&["--etag-compare", tag, &url]).is_empty());
        }
    });
}

/// Sends a request, and reads the head and the first bytes of the body, but no more.
fn begin(server: &Server, path: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = server.connect();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut first = vec![0; 4096];
    stream.read_exact(&mut first).expect("the server answers");
    (stream, first)
}

fn large(scratch: &Scratch, length: usize) -> Vec<u8> {
    let content = bytes(length);
    fs::write(scratch.site().join("large"), &content).expect("room on disk");
    content
}

#[test]
fn a_termination_in_the_middle_of_a_download_lets_it_come_to_its_end() {
    bounded(|| {
        let scratch = Scratch::new();
        let content = large(&scratch, 32 * MIB);
        let mut server = scratch.serve(&[]);
        let (mut stream, mut received) = begin(&server, "/large");
        let idle = server.connect();
        server.terminate();
        // From then on nobody is accepted.
        while TcpStream::connect(server.address).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        stream.read_to_end(&mut received).expect("the rest comes");
        assert!(Answer::parse(&received).body == content);
        assert!(server.child.wait().expect("it ends").success());
        drop(idle);
        // `Drop` expects a server that runs.
        std::mem::forget(server);
    });
}

#[test]
fn a_client_that_reads_nothing_costs_no_memory_and_one_that_goes_leaves_nothing() {
    bounded(|| {
        let scratch = Scratch::new();
        large(&scratch, 64 * MIB);
        let server = scratch.serve(&[]);
        let descriptors = server.open_descriptors();
        drop(begin(&server, "/large"));
        server.assert_descriptors_become(descriptors);
        let memory = server.resident_kib();
        let clients: Vec<_> = (0..16).map(|_| begin(&server, "/large")).collect();
        // Others are served meanwhile.
        for _ in 0..100 {
            assert_eq!(ask(server.address, "GET /file.bin", "").status, 200);
        }
        let more = server.resident_kib().saturating_sub(memory);
        assert!(more < 16 * 2048, "{more} KiB for 16 clients, of 64 MiB each");
        drop(clients);
        server.assert_descriptors_become(descriptors);
    });
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_ends_the_connection_too_early() {
    bounded(|| {
        let scratch = Scratch::new();
        large(&scratch, 64 * MIB);
        let server = scratch.serve(&[]);
        let (mut stream, mut received) = begin(&server, "/large");
        let file = fs::File::options().write(true).open(scratch.site().join("large"));
        file.and_then(|file| file.set_len(MIB as u64)).expect("it is ours");
        // An end or a reset.
        let _ = stream.read_to_end(&mut received);
        let answer = Answer::parse(&received);
        assert_eq!(answer.header("content-length"), Some(&(64 * MIB).to_string()[..]));
        assert!(answer.body.len() < 64 * MIB, "{}", answer.body.len());
        assert_eq!(ask(server.address, "GET /file.bin", "").status, 200);
    });
}

#[test]
fn static_server_under_load_of_wrk_and_h2load_fails_no_request() {
    bounded(|| {
        if !have(&["wrk", "h2load"]) {
            return;
        }
        let scratch = Scratch::new();
        large(&scratch, 200_000);
        let server = scratch.serve(&[]);
        for path in ["/file.bin", "/large"] {
            load(&server.url(path));
        }
    });
}

#[test]
fn static_server_says_what_it_cannot_serve() {
    bounded(|| {
        let output = run("static_server", &[&"/no/such/directory"]);
        assert_fails_naming(&output, "/no/such/directory");
        let output = run("static_server", &[&"--address", &"nowhere", &"."]);
        assert_fails_naming(&output, "nowhere");
    });
}
