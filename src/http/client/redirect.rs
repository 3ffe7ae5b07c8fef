//! Redirects: whether a response sends the client on, where to, and what goes along.
//!
//! [RFC 9110, section 15.4](https://www.rfc-editor.org/rfc/rfc9110#section-15.4). Nothing here
//! knows connections.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use url::Url;

use crate::http::error::{Error, ErrorKind};

/// How many redirects a request follows by default.
const DEFAULT_LIMIT: usize = 10;

/// Which redirects a client follows: at most ten for a request by default, and none from https to
/// http.
///
/// ```
/// use annulus::http::{Client, Redirects};
///
/// let client = Client::builder().redirects(Redirects::none()).build()?;
/// # Ok::<(), annulus::http::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirects {
    limit: usize,
    to_plain: bool,
}

impl Redirects {
    /// None: the program gets the response that asks for one.
    pub fn none() -> Redirects {
        Redirects::limited(0)
    }

    /// At most `limit` for a request. One more is an error.
    pub fn limited(limit: usize) -> Redirects {
        Redirects { limit, to_plain: false }
    }

    /// Also from https to http. Without it such a redirect is an error, since everybody on the way
    /// could read and change what follows.
    #[must_use]
    pub fn allow_https_to_http(mut self) -> Redirects {
        self.to_plain = true;
        self
    }
}

impl Default for Redirects {
    fn default() -> Redirects {
        Redirects::limited(DEFAULT_LIMIT)
    }
}

/// Where a request goes next, and as what.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) keeps_body: bool,
    /// The origin is another one, so what only the first one may know stays behind.
    pub(super) is_elsewhere: bool,
}

/// What came before in the chain of one request.
#[derive(Debug, Default)]
pub(super) struct Visited {
    before: Vec<(Method, Url)>,
}

impl Visited {
    /// What follows the response to `method` and `url`. `None` if the program gets the response.
    ///
    /// # Errors
    /// A redirect that the policy forbids, that cannot be read, or that leads in a circle.
    pub(super) fn next(
        &mut self,
        policy: Redirects,
        (method, url): (&Method, &Url),
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Option<Next>, Error> {
        let (Some(rewritten), Some(location)) =
            (method_after(status, method), headers.get(header::LOCATION))
        else {
            return Ok(None);
        };
        if policy.limit == 0 {
            return Ok(None);
        }
        let next = join(url, location.as_bytes())?;
        if url.scheme() == "https" && next.scheme() == "http" && !policy.to_plain {
            return Err(refused(format!("it leads from https to http, to {next}")));
        }
        self.before.push((method.clone(), url.clone()));
        let method = rewritten.unwrap_or_else(|| method.clone());
        if self.before.iter().any(|(before, visited)| *before == method && *visited == next) {
            return Err(refused(format!("the redirects lead in a circle, back to {next}")));
        }
        if self.before.len() > policy.limit {
            return Err(refused(format!("there are more than {} of them", policy.limit)));
        }
        Ok(Some(Next {
            is_elsewhere: url.origin() != next.origin(),
            keeps_body: self.before.last().is_some_and(|(before, _)| *before == method),
            url: next,
            method,
        }))
    }
}

fn refused(why: String) -> Error {
    Error::because(ErrorKind::Redirect, why)
}

/// The new method of a request that a status redirects, if it changes. `None` if the status is no
/// redirect.
fn method_after(status: StatusCode, method: &Method) -> Option<Option<Method>> {
    match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => {
            Some((method == Method::POST).then_some(Method::GET))
        }
        StatusCode::SEE_OTHER => {
            Some((method != Method::GET && method != Method::HEAD).then_some(Method::GET))
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => Some(None),
        _ => None,
    }
}

/// A reference as the header `Location` has it, seen from `base`. The fragment of the base stays if
/// the reference has none: RFC 9110, section 10.2.2.
fn join(base: &Url, location: &[u8]) -> Result<Url, Error> {
    let text = String::from_utf8_lossy(location);
    let mut next = base
        .join(&text)
        .map_err(|error| refused(format!("its Location {text:?} is no URL: {error}")))?;
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
        return Err(refused(format!("it leads to {next}, which is not http or https")));
    }
    if next.fragment().is_none() {
        next.set_fragment(base.fragment());
    }
    // A server does not choose as whom the client logs in.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

/// Headers that describe a body.
const OF_THE_BODY: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::TRANSFER_ENCODING,
];

/// Headers that only the first origin may know.
const OF_THE_ORIGIN: [HeaderName; 4] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::WWW_AUTHENTICATE];

/// Takes out of the headers what does not go along.
pub(super) fn leave_behind(headers: &mut HeaderMap, next: &Next) {
    headers.remove(header::HOST);
    if !next.keeps_body {
        OF_THE_BODY.iter().for_each(|name| drop(headers.remove(name)));
    }
    if next.is_elsewhere {
        OF_THE_ORIGIN.iter().for_each(|name| drop(headers.remove(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    #[test]
    fn references_are_joined_as_rfc_3986_says() {
        let base = url("http://a/b/c/d;p?q#part");
        for (reference, joined) in [
            ("g", "http://a/b/c/g#part"),
            ("./g", "http://a/b/c/g#part"),
            ("g/", "http://a/b/c/g/#part"),
            ("/g", "http://a/g#part"),
            ("//g", "http://g/#part"),
            ("?y", "http://a/b/c/d;p?y#part"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            ("", "http://a/b/c/d;p?q#part"),
            ("../../../g", "http://a/g#part"),
            ("https://h:8443/x y", "https://h:8443/x%20y#part"),
            ("http://user:secret@h/", "http://h/#part"),
        ] {
            assert_eq!(join(&base, reference.as_bytes()).expect(reference).as_str(), joined);
        }
        for reference in ["http://", "ftp://a/", "mailto:a@b", "http://[::"] {
            let error = join(&base, reference.as_bytes()).expect_err(reference);
            assert_eq!(error.kind(), ErrorKind::Redirect);
        }
    }

    #[test]
    fn the_method_follows_the_table_of_rfc_9110() {
        use Method as M;
        for (status, before, after) in [
            (301, M::POST, Some(Some(M::GET))),
            (302, M::POST, Some(Some(M::GET))),
            (301, M::PUT, Some(None)),
            (302, M::GET, Some(None)),
            (303, M::POST, Some(Some(M::GET))),
            (303, M::DELETE, Some(Some(M::GET))),
            (303, M::HEAD, Some(None)),
            (307, M::POST, Some(None)),
            (308, M::POST, Some(None)),
            (300, M::GET, None),
            (304, M::GET, None),
            (200, M::GET, None),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(method_after(status, &before), after, "{status} after {before}");
        }
    }
}
