//! The loop of a server: accepts, starts a task for each connection, and ends with all of them.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::connection;
use super::listener::Listener;
use super::options::Server;
use super::peer::PeerAddr;
use super::shared::{Permit, Served, Shared};
use crate::http::Body;
use crate::http::error::Source;
use crate::join_set::JoinSet;
use crate::time::{sleep, timeout};

/// How long accepting rests after an error, at first and at most. Descriptors come back when
/// somebody closes one, of which nobody tells.
const FIRST_REST: Duration = Duration::from_millis(5);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Serves HTTP/1.1 and HTTP/2 on the connections of a listener, with the defaults of [`Server`].
///
/// The service is any tower service from `Request<Body>` to a response, for example a
/// [`service_fn`](crate::http::service_fn). It is cloned for each request. Neither it,
/// nor its futures, nor its bodies have to be `Send`.
///
/// Each request of a service that panics is answered with 500, and the connection goes on. An error
/// of the service closes the connection, or resets the stream of HTTP/2.
pub fn serve<L, S, B>(listener: L, service: S) -> Serve<L, S>
where
    L: Listener,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    Server::new().serve(listener, service)
}

/// A server that is about to run: await it.
///
/// It accepts for ever, or until the signal of
/// [`with_graceful_shutdown`](Serve::with_graceful_shutdown). No error ends it: when descriptors or
/// memory are short (`EMFILE`, `ENFILE`, `ENOMEM`), it waits for a moment, and connections wait in
/// the kernel.
///
/// # Dropping
/// Dropping the future closes the listener and all connections, and drops the requests that are
/// under way.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<L, S> {
    server: Server,
    listener: L,
    service: S,
    signal: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Server {
    /// Serves the connections of a listener; see [`serve`](crate::http::serve).
    pub fn serve<L, S, B>(self, listener: L, service: S) -> Serve<L, S>
    where
        L: Listener,
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<Source>,
        B: HttpBody + 'static,
        B::Error: Into<Source>,
    {
        Serve { server: self, listener, service, signal: None }
    }
}

impl<L, S> Serve<L, S> {
    /// Ends the server when the future is ready.
    ///
    /// It accepts no further connection, and closes the listener. Connections that are idle are
    /// closed; over HTTP/2 they are told so (`GOAWAY`). Requests that are under way go on, up to
    /// [`shutdown_timeout`](Server::shutdown_timeout), and their connections end after them.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + 'static) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }
}

impl<L, S, B> IntoFuture for Serve<L, S>
where
    L: Listener,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    type Output = Served;
    type IntoFuture = Pin<Box<dyn Future<Output = Served>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<L, S, B> Serve<L, S>
where
    L: Listener,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Source>,
    B: HttpBody + 'static,
    B::Error: Into<Source>,
{
    async fn run(self) -> Served {
        let Serve { server, listener, service, signal } = self;
        let shared = Shared::new(server.options);
        let mut signal = signal.unwrap_or_else(|| Box::pin(std::future::pending()));
        let mut connections = JoinSet::new();
        loop {
            let mut accepting = pin!(accept(&listener, &shared));
            let accepted = poll_fn(|context| {
                if signal.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                // A task that panicked has told so by itself.
                while let Poll::Ready(Some(_ended)) = connections.poll_join_next(context) {}
                accepting.as_mut().poll(context).map(Some)
            });
            let Some((io, peer, permit)) = accepted.await else { break };
            shared.count(|served| served.connections += 1);
            let (service, shared) = (service.clone(), Rc::clone(&shared));
            match shared.options.tls.clone() {
                None => connections.spawn(connection::serve(io, peer, permit, service, shared)),
                Some(acceptor) => connections.spawn(async move {
                    let Some(io) = connection::shake_hands(io, acceptor, &shared).await else {
                        return;
                    };
                    connection::serve(io, peer, permit, service, shared).await;
                }),
            };
        }
        drop(listener);
        shared.end();
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if timeout(shared.options.shutdown_timeout, all_ended).await.is_err() {
            shared.count(|served| served.cut = connections.len() as u64);
            connections.shutdown().await;
        }
        shared.served.get()
    }
}

/// Accepts a connection once there is a place for it, whatever fails until then.
async fn accept<L: Listener>(
    listener: &L,
    shared: &Rc<Shared>,
) -> (L::Io, Option<PeerAddr>, Permit) {
    let permit = poll_fn(|context| shared.poll_permit(context)).await;
    let mut rest = FIRST_REST;
    loop {
        let error = match listener.accept().await {
            Ok((io, peer)) => return (io, peer, permit),
            Err(error) => error,
        };
        shared.count(|served| served.failed_accepts += 1);
        // That was one connection, whose peer has gone. The next may be waiting.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
        }
    }
}

impl<L: fmt::Debug, S> fmt::Debug for Serve<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("server", &self.server)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
