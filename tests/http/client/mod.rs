//! The client against peers that do what a test says, byte by byte.

#[cfg(feature = "http-decompression")]
mod decompression;
mod faults;
mod http2;
mod pool;
mod proxies;
mod redirects;
mod requests;
mod timeouts;
mod tls;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulus::http::{Client, ClientBuilder};
use annulus::net::{TcpListener, TcpStream};
use annulus::{AbortHandle, JoinSet};

use crate::common::{quiet, run, turns};

/// Far longer than anything that is not stuck.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Short, where the end of the time is what is tested.
pub(crate) const SHORT: Duration = Duration::from_millis(30);

/// Runs a test, and checks that it leaves no task and no operation behind.
pub(crate) fn check(test: impl AsyncFnOnce() + Send) {
    run(async || {
        test().await;
        while annulus::metrics().tasks > 0 {
            turns(1).await;
        }
        quiet().await;
    });
}

/// A builder that no environment changes.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder().no_proxy()
}

pub(crate) fn client() -> Client {
    builder().build().unwrap()
}

/// One connection, seen from the server.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    heads: Rc<RefCell<Vec<String>>>,
}

impl Peer {
    /// The next head, with its empty line. `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap();
                self.heads.borrow_mut().push(head.clone());
                return Some(head);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// That many bytes behind the head.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await, "the body ends early: {:?}", self.unread);
        }
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    /// Bytes up to and with that text.
    pub(crate) async fn until(&mut self, text: &str) -> Vec<u8> {
        loop {
            if let Some(at) =
                self.unread.windows(text.len()).position(|part| part == text.as_bytes())
            {
                return self.body(at + text.len()).await;
            }
            assert!(self.more().await, "{text:?} did not come: {:?}", self.unread);
        }
    }

    /// Waits until the client has closed the connection.
    pub(crate) async fn is_closed(&mut self) {
        while self.more().await {}
    }

    /// Answers a request with these headers and this body.
    pub(crate) async fn answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.say(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
            .await;
    }

    pub(crate) async fn ok(&mut self, body: &str) {
        self.answer("200 OK", "", body).await;
    }

    pub(crate) async fn say(&mut self, bytes: impl Into<Vec<u8>>) {
        // The client may have gone.
        let _ = self.stream.write_all(bytes.into()).await;
    }

    async fn more(&mut self) -> bool {
        match self.stream.read(Vec::with_capacity(4096)).await {
            Ok((count, bytes)) => {
                self.unread.extend_from_slice(&bytes);
                count > 0
            }
            Err(_) => false,
        }
    }
}

/// A server whose connections follow a script. Dropped, it and they are gone.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    accepted: Rc<Cell<usize>>,
    heads: Rc<RefCell<Vec<String>>>,
    task: AbortHandle,
}

impl Scripted {
    /// Each connection has its number, from 0 on.
    pub(crate) async fn start<F: Future<Output = ()> + 'static>(
        script: impl Fn(usize, Peer) -> F + 'static,
    ) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let heads = Rc::new(RefCell::new(Vec::new()));
        let (count, written) = (Rc::clone(&accepted), Rc::clone(&heads));
        let task = annulus::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let heads = Rc::clone(&written);
                let peer = Peer { stream, unread: Vec::new(), heads };
                connections.spawn(script(count.replace(count.get() + 1), peer));
            }
        });
        Scripted { address, accepted, heads, task: task.abort_handle() }
    }

    /// Answers each request with what a function makes of its head.
    pub(crate) async fn echo(answer: impl Fn(&str) -> String + 'static) -> Scripted {
        let answer = Rc::new(answer);
        Scripted::start(move |_, mut peer| {
            let answer = Rc::clone(&answer);
            async move {
                while let Some(head) = peer.head().await {
                    peer.ok(&answer(&head)).await;
                }
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}
