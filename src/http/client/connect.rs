//! The way to a connection that is ready for requests: look up, connect, ask a proxy, TLS,
//! handshake of HTTP.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};

use super::link::{Lease, Link, start_http1, start_http2};
use super::pool::{Key, Permit, Wanted};
use super::proxy::Proxy;
use crate::http::error::{Error, ErrorKind, Source};
use crate::hyper::Executor;
use crate::io::PollStream;
use crate::net::{TcpStream, lookup_host};
use crate::tls::TlsConnector;

/// A step of the way, for a time-out that ends it.
pub(super) type Step = Cell<ErrorKind>;

/// TLS with what each choice of a version offers the server.
pub(super) struct Connectors {
    any: TlsConnector,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Connectors {
    pub(super) fn new(connector: &TlsConnector) -> Connectors {
        Connectors {
            any: offering(connector, &["h2", "http/1.1"]),
            http1: offering(connector, &["http/1.1"]),
            http2: offering(connector, &["h2"]),
        }
    }

    fn of(&self, wanted: Wanted) -> &TlsConnector {
        match wanted {
            Wanted::Any => &self.any,
            Wanted::Http1 => &self.http1,
            Wanted::Http2 => &self.http2,
        }
    }
}

/// The same settings and the same sessions to resume, with these protocols.
fn offering(connector: &TlsConnector, protocols: &[&str]) -> TlsConnector {
    let mut config = connector.config().as_ref().clone();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Opens a connection and starts its task. Dropped, it leaves nothing behind.
pub(super) async fn open(
    connectors: &Connectors,
    max_head: usize,
    key: &Key,
    proxy: Option<&Proxy>,
    permit: Permit,
    step: &Step,
) -> Result<Lease, Error> {
    let (host, port) = proxy.map_or((&key.host, key.port), |proxy| (&proxy.host, proxy.port));
    let stream = dial(host, port, proxy.is_some(), step).await?;
    let remote = stream.peer_addr().map_err(|error| Error::because(ErrorKind::Connect, error))?;
    let link = Link::new(permit.home(), remote, proxy.is_some() && !key.is_https);
    let stream = stream.into_poll();
    if !key.is_https {
        return start(max_head, stream, key.protocol == Wanted::Http2, link, permit).await;
    }
    let stream = match proxy {
        None => stream,
        Some(proxy) => {
            step.set(ErrorKind::Proxy);
            tunnel(stream, key, proxy).await?
        }
    };
    step.set(ErrorKind::Tls);
    let connector = connectors.of(key.protocol);
    let stream = connector
        .connect_over(&key.host, stream)
        .await
        .map_err(|error| Error::because(ErrorKind::Tls, error))?;
    let is_http2 = stream.alpn_protocol().as_deref() == Some(b"h2");
    if key.protocol == Wanted::Http2 && !is_http2 {
        return Err(Error::because(ErrorKind::Tls, "the server does not offer HTTP/2"));
    }
    start(max_head, stream, is_http2, link, permit).await
}

/// Connects to a host, of whose addresses the first that answers wins.
async fn dial(host: &str, port: u16, is_proxy: bool, step: &Step) -> Result<TcpStream, Error> {
    let failed = |kind, error: io::Error| match is_proxy {
        false => Error::because(kind, error),
        true => {
            let why = format!("the proxy {} cannot be reached: {error}", authority(host, port));
            Error::because(ErrorKind::Proxy, io::Error::new(error.kind(), why))
        }
    };
    step.set(if is_proxy { ErrorKind::Proxy } else { ErrorKind::Resolve });
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| failed(ErrorKind::Resolve, error))?;
    step.set(if is_proxy { ErrorKind::Proxy } else { ErrorKind::Connect });
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| failed(ErrorKind::Connect, error))?;
    // A head and a body that are sent one after the other do not wait for each other's receipt.
    stream.set_nodelay(true).map_err(|error| failed(ErrorKind::Connect, error))?;
    Ok(stream)
}

/// Host and port as they stand in a request; RFC 9110, section 7.2.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Asks the proxy for a connection to the server; RFC 9110, section 9.3.6.
async fn tunnel(
    stream: PollStream<TcpStream>,
    key: &Key,
    proxy: &Proxy,
) -> Result<PollStream<TcpStream>, Error> {
    let failed = |error: Source| Error::because(ErrorKind::Proxy, error);
    let server = authority(&key.host, key.port);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = server.parse().map_err(|error| failed(http::Error::from(error).into()))?;
    let host = HeaderValue::try_from(server).map_err(|error| failed(error.into()))?;
    request.headers_mut().insert(header::HOST, host);
    if let Some(login) = &proxy.login {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, login.clone());
    }

    let (mut sender, mut connection) =
        http1::handshake(stream).await.map_err(|error| failed(error.into()))?;
    let mut answer = pin!(sender.send_request(request));
    let mut has_ended = None;
    let answer = poll_fn(|context| {
        if has_ended.is_none()
            && let Poll::Ready(ended) = connection.poll_without_shutdown(context)
        {
            has_ended = Some(ended);
        }
        answer.as_mut().poll(context)
    });
    let answer = answer.await.map_err(|error| failed(error.into()))?;
    if !answer.status().is_success() {
        let why = match answer.status() {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => "it wants another name and password: 407",
            _ => "it refuses to connect",
        };
        return Err(failed(format!("{why} ({})", answer.status()).into()));
    }
    if has_ended.is_none() {
        poll_fn(|context| connection.poll_without_shutdown(context))
            .await
            .map_err(|error| failed(error.into()))?;
    }
    let parts = connection.into_parts();
    // A server speaks second in TLS, so these bytes are not its own.
    if !parts.read_buf.is_empty() {
        return Err(failed("it has sent more than its answer".into()));
    }
    Ok(parts.io)
}

/// Begins with HTTP on a stream.
async fn start<S: Read + Write + Unpin + 'static>(
    max_head: usize,
    stream: S,
    is_http2: bool,
    link: Rc<Link>,
    permit: Permit,
) -> Result<Lease, Error> {
    let failed = |error| Error::because(ErrorKind::Connect, error);
    if is_http2 {
        let max = u32::try_from(max_head).unwrap_or(u32::MAX);
        let (sender, connection) = http2::Builder::new(Executor)
            .max_header_list_size(max)
            .handshake(stream)
            .await
            .map_err(failed)?;
        return Ok(start_http2(connection, sender, link, permit));
    }
    let (sender, connection) =
        http1::Builder::new().max_header_size(max_head).handshake(stream).await.map_err(failed)?;
    Ok(start_http1(connection, sender, link, permit))
}
