//! What fails in HTTP: which step it was, for which URL, and why.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use url::Url;

/// An error of any kind, as the traits of HTTP hand it on.
pub(super) type Source = Box<dyn StdError + Send + Sync>;

/// Why a request, a response or a body failed: [`kind`](Error::kind) says which step it was,
/// [`url`](Error::url) for which request of a client, and [`source`](StdError::source) has the
/// reason. The text has all of it.
#[derive(Debug)]
pub struct Error {
    parts: Box<Parts>,
}

#[derive(Debug)]
struct Parts {
    kind: ErrorKind,
    is_timeout: bool,
    status: Option<StatusCode>,
    url: Option<Url>,
    source: Option<Source>,
}

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the client could not be made: a URL, a header or a setting is wrong.
    Request,
    /// There was no connection free, and the client may open no other.
    Pool,
    /// The name of the server could not be looked up.
    Resolve,
    /// No connection to the server.
    Connect,
    /// The proxy could not be reached, or refused.
    Proxy,
    /// The handshake of TLS: see `TlsConnector::connect`.
    Tls,
    /// The request could not be sent to its end.
    Send,
    /// The head of the response did not come, is too long, or is no head.
    Head,
    /// A redirect leads in a circle, is one too many, or is not allowed.
    Redirect,
    /// The status of the response is that of an error.
    Status,
    /// A body could not be received or made: the connection ended in the middle, what came breaks
    /// the protocol, or the stream behind the body failed.
    Body,
    /// A body is longer than the limit.
    BodyTooLarge,
    /// A body has come and is not what it should be: packed wrongly, or no JSON.
    Decode,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            ErrorKind::Request => "the request is not valid",
            ErrorKind::Pool => "no connection was free",
            ErrorKind::Resolve => "the name could not be looked up",
            ErrorKind::Connect => "no connection",
            ErrorKind::Proxy => "no connection by the proxy",
            ErrorKind::Tls => "the TLS handshake failed",
            ErrorKind::Send => "the request could not be sent",
            ErrorKind::Head => "no head of a response",
            ErrorKind::Redirect => "the redirect is not followed",
            ErrorKind::Status => "the status is an error",
            ErrorKind::Body => "the body failed",
            ErrorKind::BodyTooLarge => "the body is longer than the limit",
            ErrorKind::Decode => "the body could not be decoded",
        }
    }
}

impl Error {
    /// The step that failed. If a time-out has passed, the step that was not done by then.
    pub fn kind(&self) -> ErrorKind {
        self.parts.kind
    }

    /// Has a time-out of this crate or of the kernel passed? The text says which.
    pub fn is_timeout(&self) -> bool {
        self.parts.is_timeout
            || self.find::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    /// Was there no connection? Then the server has seen nothing of the request.
    pub fn is_connect(&self) -> bool {
        use ErrorKind::{Connect, Pool, Proxy, Resolve, Tls};
        matches!(self.kind(), Pool | Resolve | Connect | Proxy | Tls)
    }

    /// The status of the response, where that is what failed.
    pub fn status(&self) -> Option<StatusCode> {
        self.parts.status
    }

    /// The URL that was asked, after redirects the last one. Only errors of a client have it, and
    /// not if there is none because the URL is wrong.
    pub fn url(&self) -> Option<&Url> {
        self.parts.url.as_ref()
    }

    pub(super) fn new(kind: ErrorKind) -> Error {
        let parts = Parts { kind, is_timeout: false, status: None, url: None, source: None };
        Error { parts: Box::new(parts) }
    }

    pub(super) fn because(kind: ErrorKind, source: impl Into<Source>) -> Error {
        let mut error = Error::new(kind);
        error.parts.source = Some(source.into());
        error
    }

    /// A time-out of `limit` has passed before the step was done.
    pub(super) fn timed_out(kind: ErrorKind, which: &str, limit: Duration) -> Error {
        let mut error = Error::because(kind, format!("{which} time-out of {limit:?} has passed"));
        error.parts.is_timeout = true;
        error
    }

    pub(super) fn of_status(status: StatusCode) -> Error {
        let mut error = Error::because(ErrorKind::Status, status.to_string());
        error.parts.status = Some(status);
        error
    }

    /// The same for a URL, unless it has one.
    pub(super) fn at(mut self, url: Url) -> Error {
        self.parts.url.get_or_insert(url);
        self
    }

    /// The first of the reasons that has this type.
    fn find<T: StdError + 'static>(&self) -> Option<&T> {
        reasons(self).find_map(|reason| reason.downcast_ref())
    }
}

/// What is behind an error, the nearest first.
fn reasons(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(StdError::source(error), |&error| error.source())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(url) = self.url() {
            write!(f, "{url}: ")?;
        }
        f.write_str(self.kind().describe())?;
        // An `io::Error` around another error has its text and its source, which is the same text.
        let mut before = String::new();
        for reason in reasons(self) {
            let text = reason.to_string();
            if !before.contains(&text) {
                write!(f, ": {text}")?;
                before = text;
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.parts.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.is_timeout() {
            true => io::ErrorKind::TimedOut,
            false => error.find::<io::Error>().map_or(io::ErrorKind::Other, io::Error::kind),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_url_step_and_reasons_and_none_twice() {
        let inner = io::Error::new(io::ErrorKind::TimedOut, "the wire is cut");
        let outer = io::Error::new(io::ErrorKind::TimedOut, inner);
        let url: Url = "http://example.org/".parse().expect("a URL");
        let error = Error::because(ErrorKind::Connect, outer).at(url);
        assert_eq!(error.to_string(), "http://example.org/: no connection: the wire is cut");
        assert!(error.is_timeout() && error.is_connect());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    }
}
