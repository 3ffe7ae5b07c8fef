//! cargo run --release --features http --example reverse_proxy -- 127.0.0.1:9000 127.0.0.1:9001
//!
//! An HTTP proxy in front of one or several servers, which take turns. Connections stay open on
//! both sides, and bodies pass through in both directions as they come. It speaks HTTP/1.1 and
//! HTTP/2 to clients, by the server of this crate, and HTTP/1.1 to the servers behind, by hyper on
//! the streams of this crate as they are. A client that goes takes its request with it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::http::{Body, PeerAddr, Server, service_fn};
use annulus::net::{TcpListener, TcpStream};
use annulus::signal::unix::{SignalKind, signal};
use annulus::time::timeout;
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt;
use futures_util::future::select;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, VIA};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};
use http_body::Body as _;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};

/// How long a server behind may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to a server that wait for the next request: so many, and so long.
const MOST_IDLE: usize = 128;
const LONGEST_IDLE: Duration = Duration::from_secs(20);
/// A server behind that is silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Headers for one connection only; RFC 9110, section 7.6.1.
const OF_A_CONNECTION: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

#[derive(Parser)]
struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// Give the servers their own address as `Host`, and not that which the client asked for
    #[arg(long)]
    own_host: bool,
    /// How long a server may take to begin its response, in seconds
    #[arg(long, default_value = "60", value_parser = seconds)]
    timeout: Duration,
    /// Servers, which take turns: HOST:PORT
    #[arg(required = true)]
    servers: Vec<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Why there is no response of a server.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    reason: String,
}

impl Failure {
    fn new(status: StatusCode, server: &str, reason: impl fmt::Display) -> Failure {
        Failure { status, reason: format!("{server}: {reason}") }
    }
}

/// A server behind, and the connections to it that wait.
struct Upstream {
    address: String,
    timeout: Duration,
    idle: RefCell<Vec<(SendRequest<Body>, Instant)>>,
}

impl Upstream {
    /// The connection that was used last, of those that wait.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.borrow_mut();
        while let Some((sender, since)) = idle.pop() {
            if sender.is_ready() && since.elapsed() < LONGEST_IDLE {
                return Some(sender);
            }
        }
        None
    }

    /// A new connection.
    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        let fail =
            |error: &dyn fmt::Display| Failure::new(StatusCode::BAD_GATEWAY, &self.address, error);
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
            Ok(connected) => connected.map_err(|error| fail(&error))?,
            Err(_) => {
                let reason = format_args!("no connection within {CONNECT_TIMEOUT:?}");
                return Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, &self.address, reason));
            }
        };
        let options = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_keepalive(true))
            .and_then(|()| stream.set_keepalive_time(KEEPALIVE));
        options.map_err(|error| fail(&error))?;
        let (sender, connection) =
            handshake(stream.into_poll()).await.map_err(|error| fail(&error))?;
        // It ends with the connection. How that went, the request has learnt.
        drop(annulus::spawn(async move { drop(connection.await) }));
        Ok(sender)
    }

    /// Sends a request, and waits for the head of the response.
    async fn send(
        self: &Rc<Upstream>,
        mut sender: SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let response = timeout(self.timeout, sender.send_request(request)).await;
        let response = response
            .map_err(|_| {
                let reason = format!("no response within {:?}", self.timeout);
                Failure::new(StatusCode::GATEWAY_TIMEOUT, &self.address, reason)
            })?
            .map_err(|error| {
                Failure::new(StatusCode::BAD_GATEWAY, &self.address, causes(&error))
            })?;
        // It waits for the next request once the body has come to its end. If nobody takes the
        // body, the connection ends.
        let upstream = Rc::clone(self);
        drop(annulus::spawn(async move {
            if sender.ready().await.is_ok() {
                upstream.keep(sender);
            }
        }));
        Ok(response)
    }

    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push((sender, Instant::now()));
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        write!(text, ": {cause}").expect("memory takes all");
        next = cause.source();
    }
    text
}

struct Proxy {
    upstreams: Vec<Rc<Upstream>>,
    turn: Cell<usize>,
    own_host: bool,
}

impl Proxy {
    /// The response to a request, be it that of a server or one that says why there is none.
    async fn respond(&self, request: Request<Body>) -> Response<Either<Incoming, Full<Bytes>>> {
        match self.forward(request).await {
            Ok(response) => response.map(Either::Left),
            Err(failure) => {
                eprintln!("{}: {}", failure.status, failure.reason);
                let text = format!("{}: {}\n", failure.status, failure.reason);
                let response = Response::builder().status(failure.status);
                let response = response.header(CONTENT_TYPE, "text/plain");
                response.body(Either::Right(text.into())).expect("all headers are valid")
            }
        }
    }

    async fn forward(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let (mut head, mut body) = request.into_parts();
        if head.method == Method::CONNECT {
            let reason = "this proxy makes no tunnels".to_owned();
            return Err(Failure { status: StatusCode::NOT_IMPLEMENTED, reason });
        }
        prepare(&mut head);
        let repeats = head.method.is_idempotent() && body.is_end_stream();
        let first = self.turn.get();
        self.turn.set((first + 1) % self.upstreams.len());
        let mut failure = None;
        // The next one takes the place of a server to which there is no connection.
        for number in 0..self.upstreams.len() {
            let upstream = &self.upstreams[(first + number) % self.upstreams.len()];
            if self.own_host {
                let host = HeaderValue::from_str(&upstream.address);
                head.headers.insert(HOST, host.expect("an address that could be connected to"));
            }
            let idle = upstream.take_idle();
            let was_idle = idle.is_some();
            let sender = match idle {
                Some(sender) => sender,
                None => match upstream.connect().await {
                    Ok(sender) => sender,
                    Err(error) => {
                        failure = Some(error);
                        continue;
                    }
                },
            };
            let sent = Request::from_parts(head.clone(), std::mem::take(&mut body));
            let mut response = match upstream.send(sender, sent).await {
                // The server has ended a connection that waited, as it may at any moment.
                Err(failure)
                    if was_idle && repeats && failure.status == StatusCode::BAD_GATEWAY =>
                {
                    let request = Request::from_parts(head, Body::empty());
                    upstream.send(upstream.connect().await?, request).await?
                }
                other => other?,
            };
            *response.version_mut() = Version::HTTP_11;
            remove_those_of_a_connection(response.headers_mut());
            response.headers_mut().append(VIA, HeaderValue::from_static("1.1 annulus"));
            return Ok(response);
        }
        Err(failure.expect("there is a server, and it failed"))
    }
}

/// Makes the head of a client's request that of the request to a server.
fn prepare(head: &mut http::request::Parts) {
    let path = head.uri.path_and_query().cloned();
    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
    head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    remove_those_of_a_connection(headers);
    // The body is sent at once.
    headers.remove(EXPECT);
    // HTTP/2 has the host elsewhere, and cuts cookies into pieces.
    if let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority).ok()) {
        headers.insert(HOST, host);
    }
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let pieces: Vec<&[u8]> =
            headers.get_all(COOKIE).iter().map(|cookie| cookie.as_bytes()).collect();
        let cookie = HeaderValue::from_bytes(&pieces.join(&b"; "[..]));
        headers.insert(COOKIE, cookie.expect("its pieces were values"));
    }
    let peer = head.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| *peer);
    tell_the_client(headers, peer);
    // They belong to the client's connection.
    head.extensions = http::Extensions::new();
}

fn remove_those_of_a_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// Who asks, for which host, and how: the usual headers, and that of RFC 7239.
fn tell_the_client(headers: &mut HeaderMap, peer: Option<SocketAddr>) {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let mut forwarded = String::from("proto=http");
    if let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) {
        append(headers, HeaderName::from_static("x-forwarded-for"), &peer.to_string());
        let quoted = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
        write!(forwarded, ";for={quoted}").expect("memory takes all");
    }
    if let Some(host) = host {
        if !host.contains(['"', '\\']) {
            write!(forwarded, ";host=\"{host}\"").expect("memory takes all");
        }
        let name = HeaderName::from_static("x-forwarded-host");
        headers.insert(name, HeaderValue::try_from(host).expect("it was one"));
    }
    let proto = HeaderName::from_static("x-forwarded-proto");
    headers.insert(proto, HeaderValue::from_static("http"));
    append(headers, FORWARDED, &forwarded);
    append(headers, VIA, "1.1 annulus");
}

/// Puts a value behind those that proxies before this one have set.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.append(name, HeaderValue::from_str(value).expect("it has no other characters"));
}

async fn serve(options: Options) -> io::Result<()> {
    let timeout = options.timeout;
    let upstream = |address| Rc::new(Upstream { address, timeout, idle: RefCell::default() });
    let proxy = Rc::new(Proxy {
        upstreams: options.servers.into_iter().map(upstream).collect(),
        turn: Cell::new(0),
        own_host: options.own_host,
    });
    // From here on these signals end nothing by themselves.
    let (mut interrupts, mut terminations) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = TcpListener::bind(&options.address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", options.address)))?;
    println!("listening on {}", listener.local_addr()?);
    let answer = service_fn(move |request| {
        let proxy = Rc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.respond(request).await) }
    });
    let stop = async move {
        select(interrupts.next(), terminations.next()).await;
    };
    // Bodies are the servers' business, however long they are.
    let server = Server::new().max_body(u64::MAX);
    server.serve(listener, answer).with_graceful_shutdown(stop).await;
    Ok(())
}

fn main() -> io::Result<()> {
    annulus::block_on(serve(Options::parse()))
}
