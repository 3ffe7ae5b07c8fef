//! The journey of a request: a connection, the head of the response, redirects, and a second try
//! where that is safe.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use url::{Position, Url};

use super::arriving::{Arriving, Deadline};
use super::builder::Settings;
use super::connect::{self, Step, authority};
use super::link::Lease;
use super::outgoing::{Movement, Outgoing};
use super::pool::{Key, Turn, Wanted};
use super::proxy::Proxy;
use super::redirect::{Visited, leave_behind};
use super::request::Request;
use super::{Client, Response, Shared, decode};
use crate::http::Body;
use crate::http::error::{Error, ErrorKind};
use crate::sys;
use crate::time::{sleep, timeout, timeout_at};

/// How often a request is sent at most: on a connection that the server closed before it answered,
/// or on which it refused to look at the request, and then on another one.
const TRIES: u32 = 3;

/// How many connections of the pool may turn out to be closed before anything of a request was
/// sent. A server of HTTP/2 that leaves after some requests sends back all that wait behind them.
const CLOSED: u32 = 32;

/// How many bytes of the body of a redirect are read for the sake of the connection.
const DISCARDED: usize = 64 * 1024;

/// Sends a request, within its time.
pub(super) async fn send(client: Client, mut request: Request) -> Result<Response, Error> {
    let settings = &client.shared.settings;
    let deadline = request.timeout.or(settings.timeout).and_then(|after| {
        let at = sys::now().checked_add(after)?;
        Some(Deadline { at, after })
    });
    let url = request.url.clone();
    for (name, value) in &settings.headers {
        request.headers.entry(name).or_insert_with(|| value.clone());
    }
    let step = Step::new(ErrorKind::Request);
    let journey = follow(&client, request, deadline, &step);
    let Some(deadline) = deadline else { return journey.await };
    match timeout_at(deadline.at, journey).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::timed_out(step.get(), "the whole", deadline.after).at(url)),
    }
}

/// Sends a request, and what redirects make of it.
async fn follow(
    client: &Client,
    mut request: Request,
    deadline: Option<Deadline>,
    step: &Step,
) -> Result<Response, Error> {
    let policy = client.shared.settings.redirects;
    let mut visited = Visited::default();
    loop {
        let replay = request.body.try_clone();
        let body = std::mem::take(&mut request.body);
        let response = try_and_try_again(client, &request, body, deadline, step)
            .await
            .map_err(|error| error.at(request.url.clone()))?;
        let from = (&request.method, &request.url);
        let next = visited
            .next(policy, from, response.status, &response.headers)
            .map_err(|error| error.at(request.url.clone()))?;
        let Some(next) = next else { return Ok(response) };
        discard(response).await;
        if next.keeps_body {
            let streamed = || {
                let why = "the body of the request is a stream, which cannot be sent again";
                Error::because(ErrorKind::Redirect, why).at(request.url.clone())
            };
            request.body = replay.ok_or_else(streamed)?;
        }
        leave_behind(&mut request.headers, &next);
        (request.method, request.url) = (next.method, next.url);
    }
}

/// Reads as much of a body as has come, so that the connection can be used again. What is still to
/// come is not worth it.
async fn discard(mut response: Response) {
    poll_fn(|context| {
        let mut count = 0;
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut response.content).poll_frame(context)
        {
            count += frame.data_ref().map_or(0, |data| data.len());
            if count > DISCARDED {
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Sends a request to one URL, and again where that is safe.
async fn try_and_try_again(
    client: &Client,
    request: &Request,
    mut body: Body,
    deadline: Option<Deadline>,
    step: &Step,
) -> Result<Response, Error> {
    let settings = &client.shared.settings;
    let url = &request.url;
    if settings.https_only && url.scheme() != "https" {
        return Err(Error::because(ErrorKind::Request, "only https is allowed"));
    }
    let proxy = settings.proxies.between(url)?;
    let key = key(settings, request, proxy.as_ref())?;
    let (mut tries, mut closed) = (0, 0);
    loop {
        let replay = body.try_clone();
        step.set(ErrorKind::Pool);
        let (mut lease, is_reused) = match client.shared.pool.turn(&key).await {
            Turn::Reuse(lease) => (lease, true),
            Turn::Connect(permit) => {
                let Shared { connectors, .. } = &*client.shared;
                let (max_head, proxy) = (settings.max_head, proxy.as_ref());
                let opening = connect::open(connectors, max_head, &key, proxy, permit, step);
                (within(settings.connect_timeout, opening, step).await?, false)
            }
        };
        step.set(ErrorKind::Send);
        let movement = Rc::new(Movement::new(&body));
        let outgoing = Outgoing::new(body, Rc::clone(&movement));
        let message = message(request, outgoing, &lease, proxy.as_ref())?;
        let sending = lease.send(message);
        match moving(settings.read_timeout, sending, &movement, step).await? {
            Ok(response) => {
                return Ok(response_of(settings, url, response, lease, deadline));
            }
            Err(mut failed) => {
                let returned = failed.take_message().map(|message| message.into_body().into_body());
                let is_unsent = returned.is_some() && (is_reused || lease.is_http2());
                let is_safe = is_unsent
                    || (is_reused && may_repeat(&request.method, &failed))
                    || is_refused(failed.error());
                match is_unsent && is_reused {
                    true => closed += 1,
                    false => tries += 1,
                }
                drop(lease);
                match returned.or(replay) {
                    Some(again) if is_safe && tries < TRIES && closed < CLOSED => body = again,
                    _ => return Err(why(failed, &movement)),
                }
                client.shared.pool.distrust(&key);
            }
        }
    }
}

/// Which connections are good for a request.
fn key(settings: &Settings, request: &Request, proxy: Option<&Proxy>) -> Result<Key, Error> {
    let url = &request.url;
    let host = url.host().ok_or_else(|| Error::because(ErrorKind::Request, "it has no host"))?;
    let protocol = match request.version {
        None => settings.protocol,
        Some(Version::HTTP_2) => Wanted::Http2,
        Some(Version::HTTP_10 | Version::HTTP_11) => Wanted::Http1,
        Some(version) => {
            let why = format!("{version:?} is not known here");
            return Err(Error::because(ErrorKind::Request, why));
        }
    };
    Ok(Key {
        is_https: url.scheme() == "https",
        host: match host {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        },
        port: url.port_or_known_default().unwrap_or_default(),
        proxy: proxy.map(|proxy| authority(&proxy.host, proxy.port)),
        protocol,
    })
}

/// The request as a connection takes it.
fn message(
    request: &Request,
    body: Outgoing,
    lease: &Lease,
    proxy: Option<&Proxy>,
) -> Result<http::Request<Outgoing>, Error> {
    let url = &request.url;
    let is_forwarded = lease.link().is_forwarded;
    let wrong = |error: http::Error| Error::because(ErrorKind::Request, error);
    // With the whole URL for a proxy and in HTTP/2, where it is taken apart; RFC 9112, section 3.2.
    let target = match lease.is_http2() || is_forwarded {
        true => &url[..Position::AfterQuery],
        false => &url[Position::BeforePath..Position::AfterQuery],
    };
    let uri = Uri::try_from(target).map_err(|error| wrong(error.into()))?;
    let mut message = http::Request::new(body);
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = uri;
    *message.headers_mut() = request.headers.clone();
    let headers = message.headers_mut();
    if lease.is_http2() {
        // There the URL alone says it: RFC 9113, section 8.3.1.
        headers.remove(header::HOST);
    } else {
        if !headers.contains_key(header::HOST) {
            let host = &url[Position::BeforeHost..Position::AfterPort];
            let host = HeaderValue::try_from(host).map_err(|error| wrong(error.into()))?;
            headers.insert(header::HOST, host);
        }
        if let (true, Some(login)) = (is_forwarded, proxy.and_then(|proxy| proxy.login.as_ref())) {
            headers.insert(header::PROXY_AUTHORIZATION, login.clone());
        }
    }
    if let (Some(version @ Version::HTTP_10), false) = (request.version, lease.is_http2()) {
        *message.version_mut() = version;
    }
    Ok(message)
}

fn response_of(
    settings: &Settings,
    url: &Url,
    response: http::Response<Incoming>,
    lease: Lease,
    deadline: Option<Deadline>,
) -> Response {
    let (mut head, incoming) = response.into_parts();
    let remote = lease.link().remote;
    let body = Arriving::new(incoming, lease, url.clone(), deadline, settings.read_timeout);
    Response {
        status: head.status,
        version: head.version,
        content: decode::content(body, &mut head.headers, settings.is_unpacking),
        headers: head.headers,
        url: url.clone(),
        remote,
        limit: settings.max_body,
    }
}

/// A connection, within the time for it.
async fn within<T>(
    limit: Option<Duration>,
    opening: impl Future<Output = Result<T, Error>>,
    step: &Step,
) -> Result<T, Error> {
    let Some(limit) = limit else { return opening.await };
    timeout(limit, opening)
        .await
        .unwrap_or_else(|_elapsed| Err(Error::timed_out(step.get(), "the connect", limit)))
}

/// The head of a response, unless nothing moves for too long. A body that goes out moves, too.
async fn moving<T>(
    limit: Option<Duration>,
    sending: impl Future<Output = T>,
    movement: &Movement,
    step: &Step,
) -> Result<T, Error> {
    let mut sending = pin!(sending);
    let mut timer = limit.map(|limit| (sleep(limit), limit));
    poll_fn(|context| {
        if let Poll::Ready(output) = sending.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        step.set(movement.step());
        let Some((timer, limit)) = &mut timer else { return Poll::Pending };
        loop {
            std::task::ready!(Pin::new(&mut *timer).poll(context));
            let until = movement.last().checked_add(*limit);
            match until.filter(|until| *until > sys::now()) {
                Some(until) => timer.reset(until),
                None => {
                    return Poll::Ready(Err(Error::timed_out(step.get(), "the read", *limit)));
                }
            }
        }
    })
    .await
}

/// May a request be sent again of which the server may have seen something? RFC 9110, section
/// 9.2.2: if its method is idempotent, and the connection just ended.
fn may_repeat(method: &Method, failed: &TrySendError<http::Request<Outgoing>>) -> bool {
    let error = failed.error();
    let has_ended = error.is_incomplete_message() || error.is_canceled() || is_reset(error);
    let is_idempotent =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
            .contains(method);
    is_idempotent && has_ended
}

/// Has the other end dropped the connection?
fn is_reset(error: &hyper::Error) -> bool {
    find::<std::io::Error>(error).is_some_and(|error| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    })
}

/// Has a server of HTTP/2 said that it did not look at the request? RFC 9113, section 8.7.
fn is_refused(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let reason = error.reason();
        error.is_remote()
            && (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
                || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
    })
}

/// The first of an error's sources that has this type.
fn find<T: std::error::Error + 'static>(error: &hyper::Error) -> Option<&T> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// Which step a connection's error is of.
fn why(failed: TrySendError<http::Request<Outgoing>>, movement: &Movement) -> Error {
    let error = failed.into_error();
    let kind = if error.is_parse() {
        ErrorKind::Head
    } else if error.is_user() {
        ErrorKind::Send
    } else {
        movement.step()
    };
    Error::because(kind, error)
}
