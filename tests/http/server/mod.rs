//! The server, by raw sockets and by other programs.

mod faults;
mod programs;
mod requests;
mod router;
mod tls;

use std::convert::Infallible;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;

use annulus::JoinHandle;
use annulus::http::{self, Body, Served, Server};
use annulus::net::{TcpListener, TcpStream};
use futures_channel::oneshot;
use futures_util::FutureExt;
use http_body_util::BodyExt;

use ::http::{Request, Response};

/// A server under test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Served>,
}

impl Running {
    /// Ends it gracefully.
    pub(crate) async fn stop(self) -> Served {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends all of it, and returns all that comes until the server ends the connection.
    pub(crate) async fn ask(&self, request: impl Into<Vec<u8>>) -> String {
        let stream = self.connect().await;
        stream.write_all(request.into()).await.unwrap();
        read_all(&stream).await
    }
}

pub(crate) async fn read_all(stream: &TcpStream) -> String {
    let mut all = Vec::new();
    loop {
        let read;
        all.reserve(4096);
        (read, all) = stream.read_append(all).await.unwrap();
        if read == 0 {
            return String::from_utf8(all).unwrap();
        }
    }
}

/// Reads until the text ends with this.
pub(crate) async fn read_until(stream: &TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let read;
        all.reserve_exact(1);
        (read, all) = stream.read_append(all).await.unwrap();
        assert_ne!(read, 0, "the end came after {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

/// A service that tells the method, the path and the length of the body, and has some pages.
pub(crate) async fn pages(request: Request<Body>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let answer = match head.uri.path() {
        "/panic" => panic!("a service that panics, as a test wants it"),
        "/error" => return Err(io::Error::other("a service that fails, as a test wants it")),
        "/never" => std::future::pending().await,
        "/large" => Body::from(vec![b'x'; 16 << 20]),
        _ => match body.collect().await {
            Ok(body) => {
                Body::from(format!("{} {} {}", head.method, head.uri.path(), body.to_bytes().len()))
            }
            Err(error) if error.is_timeout() => Body::from("TimedOut"),
            Err(error) => Body::from(format!("{:?}", error.kind())),
        },
    };
    Ok(Response::new(answer))
}

pub(crate) async fn start(server: Server) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serve = server.serve(listener, http::service_fn(pages));
    let serve = serve.with_graceful_shutdown(stopped.map(drop));
    Running { address, stop, task: annulus::spawn(serve.into_future()) }
}

/// Waits until there are so many tasks.
pub(crate) async fn until_tasks_are(count: u64) {
    while annulus::metrics().tasks != count {
        annulus::yield_now().await;
    }
}

/// A service that never fails, for what needs one.
pub(crate) async fn hello(_request: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("hello")))
}
