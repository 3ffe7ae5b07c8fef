//! What the load says in HTTP/1.1: requests of the same few bytes, and the check of their replies.

use std::sync::Arc;

use memchr::memmem;

use crate::files::Files;
use crate::harness::Failure;
use crate::harness::connection::{Connection, Talk};

/// Requests for one resource, or for the files of a directory in turn.
#[derive(Debug)]
pub(crate) struct HttpTalk {
    requests: Vec<Vec<u8>>,
    bodies: Bodies,
    /// The header of the length, as servers write it.
    lengths: [Vec<u8>; 2],
    body_size: usize,
}

#[derive(Debug)]
enum Bodies {
    Same(Vec<u8>),
    OfFiles(Arc<Files>),
}

/// The first line of every reply.
const STATUS: &[u8] = b"HTTP/1.1 200 OK\r\n";
/// In `received` of a connection: the head has come; what is above it is of the body.
const HEAD: usize = 1;

impl HttpTalk {
    pub(crate) fn plain(body_size: usize) -> HttpTalk {
        HttpTalk::new(vec![request("/")], Bodies::Same(body(body_size)), body_size)
    }

    pub(crate) fn of_files(files: &Arc<Files>) -> HttpTalk {
        let requests = (0..files.count()).map(|index| request(&files.path_in_url(index)));
        HttpTalk::new(requests.collect(), Bodies::OfFiles(Arc::clone(files)), files.size())
    }

    fn new(requests: Vec<Vec<u8>>, bodies: Bodies, body_size: usize) -> HttpTalk {
        let lengths = ["content-length", "Content-Length"]
            .map(|name| format!("\r\n{name}: {body_size}\r\n").into_bytes());
        HttpTalk { requests, bodies, lengths, body_size }
    }
}

/// The body that a service of this size answers.
pub(crate) fn body(size: usize) -> Vec<u8> {
    b"Hello, World!".iter().copied().cycle().take(size).collect()
}

fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: annulus-bench\r\nAccept: */*\r\n\r\n"
    )
    .into_bytes()
}

impl Talk for HttpTalk {
    fn request(&self, number: usize) -> &[u8] {
        &self.requests[number % self.requests.len()]
    }

    fn reply_size(&self) -> usize {
        self.body_size + 256
    }

    fn check(&self, connection: &mut Connection, bytes: &[u8]) -> Result<bool, Failure> {
        let mut rest = bytes;
        if connection.received == 0 {
            // Servers write a head of some hundred bytes at once, so it comes at once.
            let end = memmem::find(bytes, b"\r\n\r\n").ok_or("a head came in parts")? + 4;
            let (head, after) = bytes.split_at(end);
            let is_right = head.starts_with(STATUS)
                && self.lengths.iter().any(|length| memmem::find(head, length).is_some());
            if !is_right {
                return Err(format!("a wrong reply: {}", String::from_utf8_lossy(head)).into());
            }
            connection.received = HEAD;
            rest = after;
        }
        let before = connection.received - HEAD;
        let body = match &self.bodies {
            Bodies::Same(body) => body,
            Bodies::OfFiles(files) => files.content(connection.number % files.count()),
        };
        if body[before..].get(..rest.len()) != Some(rest) {
            return Err("a body has other bytes than it should".into());
        }
        connection.received += rest.len();
        Ok(connection.received - HEAD == self.body_size)
    }
}
