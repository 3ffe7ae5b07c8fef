//! One connection, from its first byte to its last.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::rt::Write;
use hyper::server::conn::{http1, http2};
use tower_service::Service;

use super::activity::{Activity, Phase};
use super::drive::{LINGER, Outcome, Protocol, Watch, drive};
use super::options::Options;
use super::peer::PeerAddr;
use super::respond::Requests;
use super::shared::{Permit, Shared};
use super::transport::{Io, Transport, Version};
use crate::http::Body;
use crate::http::error::Source;
use crate::hyper::Executor;
use crate::time::timeout;
use crate::tls::{TlsAcceptor, TlsStream};

/// The answer to a head that does not end.
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What HTTP/1.1 may hold of a connection's input, in bytes, if heads are shorter than this.
const INPUT: usize = 64 << 10;

/// What HTTP/2 may hold of a response that the peer does not take, in bytes.
const OUTPUT: usize = 128 << 10;

/// Begins TLS, in the time that a head may take. `None`: the peer does not get so far, or the
/// server ends.
pub(super) async fn shake_hands<I: AsyncRead + AsyncWrite + Unpin + 'static>(
    io: I,
    acceptor: TlsAcceptor,
    shared: &Rc<Shared>,
) -> Option<TlsStream<I>> {
    let mut watch = Watch::new(shared, &Rc::new(Activity::new()));
    let mut handshake = pin!(acceptor.accept_over(io));
    poll_fn(|context| {
        if watch.poll_ending(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(stream) = handshake.as_mut().poll(context) {
            return Poll::Ready(stream.ok());
        }
        let phase = ready!(watch.poll_time(context));
        note(shared, &Outcome::TimedOut(phase));
        Poll::Ready(None)
    })
    .await
}

/// Serves a connection that was accepted.
pub(super) async fn serve<I, S, B>(
    io: I,
    peer: Option<PeerAddr>,
    permit: Permit,
    service: S,
    shared: Rc<Shared>,
) where
    I: Io,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    let activity = Rc::new(Activity::new());
    let mut watch = Watch::new(&shared, &activity);
    let mut transport = Transport::new(io, Rc::clone(&activity), permit);
    let version = poll_fn(|context| poll_version(&mut transport, &mut watch, context)).await;
    let requests =
        Requests { service, peer, activity: Rc::clone(&activity), shared: Rc::clone(&shared) };
    match version {
        Ok(Version::Http1) => {
            let mut connection = http1(&shared.options).serve_connection(transport, requests);
            let outcome = drive(Pin::new(&mut connection), &mut watch).await;
            note(&shared, &outcome);
            if let Outcome::TimedOut(Phase::Head) = outcome
                && activity.has_head()
                && activity.is_flushed()
            {
                answer(connection.into_parts().io).await;
            }
        }
        Ok(Version::Http2) => {
            activity.multiplex();
            // In a box, since it is many times as large as the other.
            let mut connection =
                Box::pin(http2(&shared.options).serve_connection(transport, requests));
            let outcome = drive(connection.as_mut(), &mut watch).await;
            note(&shared, &outcome);
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            note(&shared, &Outcome::TimedOut(Phase::Head));
            if activity.has_head() {
                answer(transport).await;
            }
        }
        // It ended before it had begun.
        Err(_) => {}
    }
}

fn note(shared: &Shared, outcome: &Outcome) {
    if let Outcome::TimedOut(Phase::Head | Phase::Replying) = outcome {
        shared.count(|served| served.timed_out += 1);
    }
}

/// Waits for the first bytes, as long as that is allowed and the server goes on.
fn poll_version(
    transport: &mut Transport<impl Io>,
    watch: &mut Watch,
    context: &mut Context<'_>,
) -> Poll<io::Result<Version>> {
    if watch.poll_ending(context).is_ready() {
        return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
    }
    if let Poll::Ready(version) = transport.poll_version(context) {
        return Poll::Ready(version);
    }
    watch.poll_time(context).map(|_phase| Err(io::ErrorKind::TimedOut.into()))
}

/// Tells the peer that its head took too long, and ends the connection.
async fn answer(mut transport: Transport<impl Io>) {
    let mut rest = TIMED_OUT;
    let answered = poll_fn(|context| {
        while !rest.is_empty() {
            let count = ready!(Pin::new(&mut transport).poll_write(context, rest))?;
            rest = &rest[count..];
        }
        Pin::new(&mut transport).poll_shutdown(context)
    });
    // It is the last thing that is tried, so nobody waits for how it ends.
    let _: Result<io::Result<()>, _> = timeout(LINGER, answered).await;
}

fn http1(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(options.half_close)
        .header_read_timeout(None)
        .max_header_size(options.max_head)
        .max_buf_size(options.max_head.max(INPUT));
    // Another number costs an allocation for each request.
    if options.max_headers != 100 {
        builder.max_headers(options.max_headers);
    }
    builder
}

fn http2(options: &Options) -> http2::Builder<Executor> {
    let mut builder = http2::Builder::new(Executor);
    builder
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(options.max_head).unwrap_or(u32::MAX))
        .max_send_buf_size(OUTPUT);
    builder
}

impl<I, S, B> Protocol for http1::Connection<Transport<I>, Requests<S>>
where
    I: Io,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Protocol for http2::Connection<Transport<I>, Requests<S>, Executor>
where
    I: Io,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
