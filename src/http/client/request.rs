//! A request in the making.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use serde::Serialize;
use url::Url;

use super::{Client, Response, send};
use crate::http::Body;
use crate::http::error::{Error, ErrorKind, Source};

/// A request that is being put together; [`send`](RequestBuilder::send) sends it.
///
/// What is wrong with a part of it, for example a header's value, comes out of `send`. For several
/// requests that are alike, clone what they are made of: a builder makes one.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    request: Result<Request, Error>,
}

/// All that is known of a request before it is sent.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) timeout: Option<Duration>,
    pub(super) version: Option<Version>,
}

impl Request {
    /// # Errors
    /// Text that is no URL of http or https.
    pub(super) fn new(method: Method, url: &str) -> Result<Request, Error> {
        let mut url = Url::parse(url)
            .map_err(|error| wrong(format!("{url:?} is no absolute URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("{url} is not http or https")));
        }
        let mut headers = HeaderMap::new();
        // A name and a password in the URL are for the server, and not for its log.
        if !url.username().is_empty() || url.password().is_some() {
            let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            let (user, password) =
                (decode(url.username()), decode(url.password().unwrap_or_default()));
            headers.insert(header::AUTHORIZATION, basic(&user, &password)?);
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let body = Body::empty();
        Ok(Request { method, url, headers, body, timeout: None, version: None })
    }
}

fn wrong(why: impl Into<Source>) -> Error {
    Error::because(ErrorKind::Request, why)
}

/// The value of `Authorization` for a name and a password; RFC 7617.
fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// A value that `Debug` does not show.
fn secret(value: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(value).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, url: &str) -> RequestBuilder {
        RequestBuilder { client, request: Request::new(method, url) }
    }

    /// Changes the request, unless something is wrong with it already.
    fn with(mut self, change: impl FnOnce(&mut Request) -> Result<(), Error>) -> RequestBuilder {
        if let Ok(request) = &mut self.request
            && let Err(error) = change(request)
        {
            self.request = Err(error);
        }
        self
    }

    /// Adds a header. One of the same name that was added before stays.
    pub fn header<K, V>(self, name: K, value: V) -> RequestBuilder
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.with(|request| {
            let name = HeaderName::try_from(name).map_err(|error| wrong(error.into()))?;
            let value = HeaderValue::try_from(value).map_err(|error| wrong(error.into()))?;
            request.headers.append(name, value);
            Ok(())
        })
    }

    /// Puts headers in the place of those that have the same names.
    pub fn headers(self, headers: HeaderMap) -> RequestBuilder {
        self.with(|request| {
            replace(&mut request.headers, headers);
            Ok(())
        })
    }

    /// Adds pairs of names and values to the URL, in the form of `name=value&…`.
    ///
    /// ```
    /// use annulus::http::Client;
    ///
    /// let request = Client::new().get("http://example.org/?a=1");
    /// let request = request.query(&[("page", 2), ("size", 50)]);
    /// // GET /?a=1&page=2&size=50
    /// # drop(request);
    /// ```
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> RequestBuilder {
        self.with(|request| {
            let added = serde_urlencoded::to_string(query).map_err(wrong)?;
            if !added.is_empty() {
                let query = match request.url.query() {
                    None | Some("") => added,
                    Some(before) => format!("{before}&{added}"),
                };
                request.url.set_query(Some(&query));
            }
            Ok(())
        })
    }

    /// The body, and whatever makes one: text, bytes, or a [stream](Body::from_stream).
    ///
    /// A stream can be sent once only. So a request that has one is not sent again, be it for a
    /// redirect or because the connection turned out to be closed.
    pub fn body(self, body: impl Into<Body>) -> RequestBuilder {
        self.with(|request| {
            request.body = body.into();
            Ok(())
        })
    }

    /// The body in JSON, with a `Content-Type` that says so unless there is one.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> RequestBuilder {
        self.with(|request| {
            let body = serde_json::to_vec(value).map_err(wrong)?;
            request.set_typed("application/json", body);
            Ok(())
        })
    }

    /// The body as that of a form: pairs of names and values, with a `Content-Type` that says so
    /// unless there is one.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> RequestBuilder {
        self.with(|request| {
            let body = serde_urlencoded::to_string(form).map_err(wrong)?;
            request.set_typed("application/x-www-form-urlencoded", body);
            Ok(())
        })
    }

    /// Logs in with a name and a password; [RFC 7617](https://www.rfc-editor.org/rfc/rfc7617).
    pub fn basic_auth(self, user: &str, password: Option<&str>) -> RequestBuilder {
        self.with(|request| {
            let value = basic(user, password.unwrap_or_default())?;
            request.headers.insert(header::AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Logs in with a token; [RFC 6750](https://www.rfc-editor.org/rfc/rfc6750).
    pub fn bearer_auth(self, token: &str) -> RequestBuilder {
        self.with(|request| {
            let value = secret(format!("Bearer {token}"))?;
            request.headers.insert(header::AUTHORIZATION, value);
            Ok(())
        })
    }

    /// How long the request may take, from `send` to the end of the response's body. It goes before
    /// the [client's](super::ClientBuilder::timeout).
    pub fn timeout(self, timeout: Duration) -> RequestBuilder {
        self.with(|request| {
            request.timeout = Some(timeout);
            Ok(())
        })
    }

    /// The version of HTTP, in place of the choice that client and server make. Without TLS nothing
    /// is chosen: `HTTP_2` needs a server that is known to speak it.
    pub fn version(self, version: Version) -> RequestBuilder {
        self.with(|request| {
            request.version = Some(version);
            Ok(())
        })
    }

    /// Sends it, and waits for the head of the response. A status like 404 is no error here;
    /// [`error_for_status`](Response::error_for_status) makes one of it.
    ///
    /// It takes a connection of the client's pool, or opens one. It follows redirects as
    /// [`Redirects`](super::Redirects) says. If a connection of the pool turns out to be closed, the
    /// request is sent again on a new one, where that is safe: nothing of it was sent, or its
    /// method is [idempotent](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2) and its body
    /// can be sent again.
    ///
    /// If the future is dropped, the connection is closed, or over HTTP/2 the stream reset. The
    /// server may have worked on the request.
    ///
    /// # Errors
    /// [`Error::kind`] says which step failed, and the error's text also says why.
    pub async fn send(self) -> Result<Response, Error> {
        send::send(self.client, self.request?).await
    }
}

impl Request {
    fn set_typed(&mut self, kind: &'static str, body: impl Into<Body>) {
        self.body = body.into();
        let kind = HeaderValue::from_static(kind);
        self.headers.entry(header::CONTENT_TYPE).or_insert(kind);
    }
}

/// Puts headers in the place of those with the same names.
fn replace(headers: &mut HeaderMap, new: HeaderMap) {
    let mut current = None;
    for (name, value) in new {
        // Of several values of one name only the first comes with the name.
        match (name, &current) {
            (Some(name), _) => {
                headers.insert(&name, value);
                current = Some(name);
            }
            (None, Some(name)) => drop(headers.append(name, value)),
            (None, None) => (),
        }
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Ok(request) => f
                .debug_struct("RequestBuilder")
                .field("method", &request.method)
                .field("url", &request.url.as_str())
                .field("headers", &request.headers)
                .field("body", &request.body)
                .finish_non_exhaustive(),
            Err(error) => f.debug_tuple("RequestBuilder").field(error).finish(),
        }
    }
}
