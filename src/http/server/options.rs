//! What a server allows: limits and time-outs.

use std::sync::Arc;
use std::time::Duration;

use crate::tls::TlsAcceptor;

/// How a server treats its connections; [`serve`](Server::serve) starts it.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use annulus::{http, net::TcpListener};
/// use ::http::Response;
///
/// # annulus::block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let hello = http::service_fn(async |_request| {
///     Ok::<_, Infallible>(Response::new(http::Body::from("hello")))
/// });
/// let server = http::Server::new()
///     .max_connections(1000)
///     .max_body(1 << 20)
///     .idle_timeout(Duration::from_secs(20))
///     .serve(listener, hello)
///     .with_graceful_shutdown(async { /* for example annulus::signal::ctrl_c() */ });
/// let served = server.await;
/// assert_eq!(served.requests, 0);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Time-outs
/// Each is for a state in which the server waits for the peer. While a service works nothing is
/// timed: give it a [`timeout`](crate::time::timeout) of its own. A connection whose time is up is
/// closed; the request that it may carry is dropped.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) options: Options,
}

/// All of it, as values.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) max_connections: usize,
    pub(super) max_head: usize,
    pub(super) max_headers: usize,
    pub(super) max_body: u64,
    pub(super) max_streams: u32,
    pub(super) half_close: bool,
    pub(super) tls: Option<TlsAcceptor>,
}

impl Server {
    /// The defaults that each method below names.
    pub fn new() -> Server {
        Server {
            options: Options {
                header_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(60),
                body_timeout: Duration::from_secs(30),
                write_timeout: Duration::from_secs(60),
                shutdown_timeout: Duration::from_secs(30),
                max_connections: 10_000,
                max_head: 64 << 10,
                max_headers: 100,
                max_body: 2 << 20,
                max_streams: 200,
                half_close: false,
                tls: None,
            },
        }
    }

    /// Speaks TLS on each connection. A handshake may take as long as a head
    /// ([`header_timeout`](Server::header_timeout)).
    ///
    /// If the acceptor names no protocols, it offers HTTP/2 and HTTP/1.1; RFC 7301.
    #[must_use]
    pub fn tls(mut self, acceptor: TlsAcceptor) -> Server {
        let mut config = Arc::clone(acceptor.config());
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        self.options.tls = Some(config.into());
        self
    }

    /// How long the head of a request may take: from the connection's beginning for the first, and
    /// from their first byte for those that follow. 30 seconds by default.
    ///
    /// Over HTTP/1.1 a head that has begun is answered with 408.
    #[must_use]
    pub fn header_timeout(mut self, timeout: Duration) -> Server {
        self.options.header_timeout = timeout;
        self
    }

    /// How long a connection may wait for its next request. 60 seconds by default.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Server {
        self.options.idle_timeout = timeout;
        self
    }

    /// How long a service may wait for the next part of a request's body. 30 seconds by default.
    ///
    /// After that the [`Body`](crate::http::Body) fails with an error that
    /// [`is_timeout`](crate::http::Error::is_timeout), and the service decides what to answer.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Server {
        self.options.body_timeout = timeout;
        self
    }

    /// How long a peer may take nothing of a response. 60 seconds by default.
    ///
    /// The kernel and the connection hold some of a response, so it begins when those are full.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Server {
        self.options.write_timeout = timeout;
        self
    }

    /// How long a graceful shutdown waits for requests that are under way. 30 seconds by default.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Server {
        self.options.shutdown_timeout = timeout;
        self
    }

    /// How many connections there may be. 10,000 by default, at
    /// least 1. Further ones wait in the kernel until one of these has ended.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Server {
        self.options.max_connections = connections.max(1);
        self
    }

    /// How many bytes the head of a request may have. 64 KiB by default, at least 256.
    ///
    /// A longer one is answered with 431.
    #[must_use]
    pub fn max_head(mut self, bytes: usize) -> Server {
        self.options.max_head = bytes.clamp(256, 1 << 30);
        self
    }

    /// How many headers a request over HTTP/1.1 may have. 100 by default, which is also the fastest
    /// choice. More are answered with 431.
    #[must_use]
    pub fn max_headers(mut self, headers: usize) -> Server {
        self.options.max_headers = headers;
        self
    }

    /// How many bytes the body of a request may have. 2 MiB by default.
    ///
    /// If the head names a larger size, the answer is 413, and the service is not called. If more
    /// than that comes without having been named, the [`Body`](crate::http::Body) fails with
    /// [`ErrorKind::BodyTooLarge`](crate::http::ErrorKind).
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Server {
        self.options.max_body = bytes;
        self
    }

    /// How many requests may be under way at once on a connection of HTTP/2. 200 by default.
    #[must_use]
    pub fn max_streams(mut self, streams: u32) -> Server {
        self.options.max_streams = streams;
        self
    }

    /// Does a peer that has ended its writing direction get the response to its request? Off by
    /// default: then the end means that the peer has gone, and the request is dropped. HTTP/1.1.
    #[must_use]
    pub fn half_close(mut self, allowed: bool) -> Server {
        self.options.half_close = allowed;
        self
    }
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}
