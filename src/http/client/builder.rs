//! The settings of a client.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};

use super::connect::Connectors;
use super::pool::{Limits, Pool, Wanted};
use super::proxy::Proxies;
use super::redirect::Redirects;
use super::{Client, Shared, decode};
use crate::http::error::{Error, ErrorKind};
use crate::tls::TlsConnector;

/// Connections of one authority.
const PER_HOST: usize = 100;

/// How long a connection stays free. Servers close theirs after a minute or two.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Bytes of a head: more than any server's that means well.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes of a body that is gathered in memory.
const MAX_BODY: u64 = 64 << 20;

/// The settings of a [`Client`], from [`Client::builder`].
///
/// ```
/// use std::time::Duration;
/// use annulus::http::Client;
///
/// let client = Client::builder()
///     .user_agent("spider/2.0")
///     .connect_timeout(Duration::from_secs(5))
///     .read_timeout(Duration::from_secs(30))
///     .build()?;
/// # Ok::<(), annulus::http::Error>(())
/// ```
#[must_use = "nothing happens until `build`"]
pub struct ClientBuilder {
    settings: Settings,
    limits: Limits,
    tls: Option<TlsConnector>,
    /// What was wrong with a setting, for `build`.
    error: Option<Error>,
}

/// What the requests of a client have in common.
pub(super) struct Settings {
    pub(super) headers: HeaderMap,
    pub(super) redirects: Redirects,
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) https_only: bool,
    pub(super) is_unpacking: bool,
    pub(super) max_body: u64,
    pub(super) protocol: Wanted,
    pub(super) proxies: Proxies,
    /// Bytes of the head of a response.
    pub(super) max_head: usize,
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let name = concat!("annulus/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(name));
        ClientBuilder {
            settings: Settings {
                headers,
                redirects: Redirects::default(),
                timeout: None,
                connect_timeout: None,
                read_timeout: None,
                https_only: false,
                is_unpacking: true,
                max_head: MAX_HEAD,
                max_body: MAX_BODY,
                protocol: Wanted::Any,
                proxies: Proxies::of_environment(),
            },
            limits: Limits {
                per_host: PER_HOST,
                idle_per_host: PER_HOST,
                idle_timeout: Some(IDLE_TIMEOUT),
            },
            tls: None,
            error: None,
        }
    }

    /// The header `User-Agent` of all requests that have none. By default the name and the version
    /// of this crate.
    pub fn user_agent<V>(mut self, value: V) -> ClientBuilder
    where
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        match HeaderValue::try_from(value) {
            Ok(value) => drop(self.settings.headers.insert(header::USER_AGENT, value)),
            Err(error) => self.fail(Error::because(ErrorKind::Request, error.into())),
        }
        self
    }

    /// Headers of all requests that have none of the same name.
    pub fn default_headers(mut self, headers: HeaderMap) -> ClientBuilder {
        self.settings.headers.extend(headers);
        self
    }

    /// Which redirects are followed. At most ten by default, and none from https to http.
    pub fn redirects(mut self, redirects: Redirects) -> ClientBuilder {
        self.settings.redirects = redirects;
        self
    }

    /// How long a request may take, from `send` to the end of the response's body, with redirects
    /// and second tries. For ever by default.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long it may take to open a connection, from the look-up of the name to the end of the
    /// TLS handshake. For ever by default, and the kernel gives up after some two minutes.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.connect_timeout = Some(timeout);
        self
    }

    /// How long nothing may move: between two pieces of a request that goes out, until the head of
    /// the response has come, and between two pieces of its body. For ever by default.
    pub fn read_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.read_timeout = Some(timeout);
        self
    }

    /// How many connections of one authority there may be at a time: 100 by default. A request that
    /// finds all of them in use waits for one. Those of HTTP/2 are shared, so one is enough there.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn pool_max_per_host(mut self, count: usize) -> ClientBuilder {
        assert!(count > 0, "without connections there are no requests");
        self.limits.per_host = count;
        self
    }

    /// How many connections of one authority stay open that no request uses. All by default.
    pub fn pool_max_idle_per_host(mut self, count: usize) -> ClientBuilder {
        self.limits.idle_per_host = count;
        self
    }

    /// How long a connection stays open that no request uses: 90 seconds by default. `None` leaves
    /// it to the server.
    pub fn pool_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> ClientBuilder {
        self.limits.idle_timeout = timeout.into();
        self
    }

    /// HTTP/1.1 only. By default, the server chooses by ALPN.
    pub fn http1_only(mut self) -> ClientBuilder {
        self.settings.protocol = Wanted::Http1;
        self
    }

    /// HTTP/2 only, also without TLS, where the server cannot be asked.
    pub fn http2_prior_knowledge(mut self) -> ClientBuilder {
        self.settings.protocol = Wanted::Http2;
        self
    }

    /// Refuses URLs of http, also those of redirects.
    pub fn https_only(mut self, only: bool) -> ClientBuilder {
        self.settings.https_only = only;
        self
    }

    /// The settings of TLS: roots, client certificates. What it offers by ALPN is the client's
    /// choice. By default a new [`TlsConnector`], with the roots that are compiled in.
    pub fn tls(mut self, connector: TlsConnector) -> ClientBuilder {
        self.tls = Some(connector);
        self
    }

    /// All requests go by this proxy, for example `http://user:password@proxy:3128`. It is asked by
    /// HTTP, for https with CONNECT; proxies that want TLS or SOCKS themselves are not known here.
    ///
    /// By default, HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY decide, as the environment has
    /// them when the builder is made. Their names may be in small letters.
    pub fn proxy(mut self, url: &str) -> ClientBuilder {
        match Proxies::all(url) {
            Ok(proxies) => self.settings.proxies = proxies,
            Err(error) => self.fail(error),
        }
        self
    }

    /// No proxy, whatever the environment says.
    pub fn no_proxy(mut self) -> ClientBuilder {
        self.settings.proxies = Proxies::none();
        self
    }

    /// Leaves bodies packed as they come, and asks for none that are. By default they are unpacked
    /// if the feature `http-decompression` is on, from gzip, deflate and brotli.
    pub fn no_decompression(mut self) -> ClientBuilder {
        self.settings.is_unpacking = false;
        self
    }

    /// How many bytes the head of a response may have: 64 KiB by default. Of its headers there may
    /// be 100 in HTTP/1.1.
    pub fn max_head(mut self, bytes: usize) -> ClientBuilder {
        self.settings.max_head = bytes;
        self
    }

    /// How many bytes of a body are gathered in memory by [`bytes`](super::Response::bytes),
    /// [`text`](super::Response::text) and [`json`](super::Response::json): 64 MiB by default,
    /// counted after unpacking. Who takes a body by pieces counts for himself.
    pub fn max_body(mut self, bytes: u64) -> ClientBuilder {
        self.settings.max_body = bytes;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// The first setting that was wrong.
    pub fn build(self) -> Result<Client, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut settings = self.settings;
        if settings.is_unpacking
            && let Some(accepted) = decode::accepted()
        {
            settings.headers.entry(header::ACCEPT_ENCODING).or_insert(accepted);
        }
        let connectors = Connectors::new(&self.tls.unwrap_or_default());
        let pool = Pool::new(self.limits);
        Ok(Client { shared: Rc::new(Shared { settings, connectors, pool }) })
    }

    /// The first error counts.
    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}
