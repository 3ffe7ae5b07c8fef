//! Proxies: whether one stands between, and which.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use crate::http::error::{Error, ErrorKind};

/// The proxies of a client.
pub(super) struct Proxies {
    matcher: Option<Matcher>,
}

/// A proxy that stands between.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// Its name and password, for `Proxy-Authorization`.
    pub(super) login: Option<HeaderValue>,
}

impl Proxies {
    /// As the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say now.
    pub(super) fn of_environment() -> Proxies {
        Proxies { matcher: Some(Matcher::from_env()) }
    }

    pub(super) fn none() -> Proxies {
        Proxies { matcher: None }
    }

    /// This one for all URLs.
    ///
    /// # Errors
    /// Text that is no URL of http.
    pub(super) fn all(url: &str) -> Result<Proxies, Error> {
        let matcher = Matcher::builder().all(url).build();
        let example = Uri::from_static("http://example.org/");
        match matcher.intercept(&example).map(Proxy::try_from) {
            Some(proxy) => proxy?,
            None => return Err(not_usable(url)),
        };
        Ok(Proxies { matcher: Some(matcher) })
    }

    /// The one that stands between the client and `url`.
    ///
    /// # Errors
    /// A proxy of another kind than http.
    pub(super) fn between(&self, url: &Url) -> Result<Option<Proxy>, Error> {
        let Some(matcher) = &self.matcher else { return Ok(None) };
        // A URL of http or https has a host; what has none has no proxy either.
        let Ok(uri) = Uri::try_from(url.as_str()) else { return Ok(None) };
        matcher.intercept(&uri).map(Proxy::try_from).transpose()
    }
}

fn not_usable(what: &str) -> Error {
    Error::because(ErrorKind::Proxy, format!("{what} is no proxy of http, and no others are known"))
}

impl TryFrom<Intercept> for Proxy {
    type Error = Error;

    fn try_from(found: Intercept) -> Result<Proxy, Error> {
        let uri = found.uri();
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => Ok(Proxy {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(80),
                login: found.basic_auth().cloned(),
            }),
            _ => Err(not_usable(&uri.to_string())),
        }
    }
}
