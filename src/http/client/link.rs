//! A connection and the task that drives it, from its handshake to its end.
//!
//! The task is the only one of the connection. It carries the bytes, takes the connection back from
//! each request, keeps the time that it may be free, and holds the place in the pool until the
//! connection is closed.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::outgoing::Outgoing;
use super::pool::{Home, Permit};
use crate::runtime::spawn;
use crate::time::{Sleep, sleep};

/// How long a connection that nobody needs any more has to take leave: the rest of what was
/// written, close_notify, GOAWAY.
const LEAVE: Duration = Duration::from_secs(1);

/// What the task of a connection and the requests on it share.
pub(super) struct Link {
    home: Home,
    /// The other end: the server, or the proxy.
    pub(super) remote: SocketAddr,
    /// A proxy stands between that reads the requests, so they name the whole URL.
    pub(super) is_forwarded: bool,
    /// Of HTTP/1.1, when a request has ended and the connection is not ready for the next.
    returned: RefCell<Option<http1::SendRequest<Outgoing>>>,
    /// Requests that are on it.
    leases: Cell<usize>,
    /// Nobody is to use it again.
    is_given_up: Cell<bool>,
    /// Of the task.
    waker: Cell<Option<Waker>>,
}

/// The way into a connection.
enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Link {
    pub(super) fn new(home: Home, remote: SocketAddr, is_forwarded: bool) -> Rc<Link> {
        Rc::new(Link {
            home,
            remote,
            is_forwarded,
            returned: RefCell::default(),
            leases: Cell::default(),
            is_given_up: Cell::default(),
            waker: Cell::default(),
        })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A connection in the hands of a request. Dropped, it goes back to the pool if it is ready for the
/// next request, and is closed if not.
pub(super) struct Lease {
    sender: Option<Sender>,
    link: Rc<Link>,
}

impl Lease {
    fn new(sender: Sender, link: Rc<Link>) -> Lease {
        link.leases.set(link.leases.get() + 1);
        Lease { sender: Some(sender), link }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(Sender::Http2(_)))
    }

    /// Sends a request, and waits for the head of the response. A request of which nothing was sent
    /// comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        match self.sender.as_mut().expect("a lease has its sender until it is dropped") {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.leases.set(self.link.leases.get() - 1);
        match self.sender.take() {
            // At once, so that whoever has just had a response finds its connection.
            Some(Sender::Http1(sender)) if sender.is_ready() => {
                self.link.home.put_back(Spare::new(Sender::Http1(sender), &self.link));
            }
            Some(Sender::Http1(sender)) => drop(self.link.returned.replace(Some(sender))),
            Some(Sender::Http2(_)) | None => (),
        }
        if self.link.leases.get() == 0 {
            self.link.wake();
        }
    }
}

/// A connection in the hands of the pool. Dropped, it is closed as soon as no request is on it.
pub(super) struct Spare {
    sender: Option<Sender>,
    link: Rc<Link>,
}

impl Spare {
    fn new(sender: Sender, link: &Rc<Link>) -> Spare {
        Spare { sender: Some(sender), link: Rc::clone(link) }
    }

    /// Has it ended? The task may not know yet, so the answer can be "no" for one that has.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.as_ref().is_none_or(Sender::is_closed)
    }

    /// Gives it to a request.
    pub(super) fn lease(mut self) -> Lease {
        let sender = self.sender.take().expect("a spare has its sender until it is leased");
        Lease::new(sender, Rc::clone(&self.link))
    }

    /// Gives it to one request of several.
    pub(super) fn share(&self) -> Lease {
        match &self.sender {
            Some(Sender::Http2(sender)) => {
                Lease::new(Sender::Http2(sender.clone()), Rc::clone(&self.link))
            }
            _ => unreachable!("only a connection of HTTP/2 is shared"),
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // A lease has taken the sender out, and is no end.
        if self.sender.take().is_some() {
            self.link.is_given_up.set(true);
            self.link.wake();
        }
    }
}

/// Drives a connection of HTTP/1.1. The lease is the first request's.
pub(super) fn start_http1<C>(
    connection: C,
    sender: http1::SendRequest<Outgoing>,
    link: Rc<Link>,
    mut permit: Permit,
) -> Lease
where
    C: Future<Output = hyper::Result<()>> + Unpin + 'static,
{
    permit.is_http1();
    let lease = Lease::new(Sender::Http1(sender), Rc::clone(&link));
    drive(connection, link, permit);
    lease
}

/// Drives a connection of HTTP/2, which the pool shares from now on.
pub(super) fn start_http2<C>(
    connection: C,
    sender: http2::SendRequest<Outgoing>,
    link: Rc<Link>,
    mut permit: Permit,
) -> Lease
where
    C: Future<Output = hyper::Result<()>> + Unpin + 'static,
{
    let spare = Spare::new(Sender::Http2(sender), &link);
    let lease = spare.share();
    permit.share(spare);
    drive(connection, link, permit);
    lease
}

fn drive<C>(connection: C, link: Rc<Link>, permit: Permit)
where
    C: Future<Output = hyper::Result<()>> + Unpin + 'static,
{
    let mut driver = Driver { connection, link, _permit: permit, timer: None };
    spawn(async move {
        poll_fn(|context| driver.poll(context)).await;
        driver.leave_the_pool();
    });
}

/// The task of a connection.
struct Driver<C> {
    connection: C,
    link: Rc<Link>,
    /// The place is free when the connection is closed.
    _permit: Permit,
    timer: Option<Timer>,
}

/// What ends a connection by time.
enum Timer {
    /// It has been free for too long.
    Free(Sleep),
    /// It does not come to its end.
    Leave(Sleep),
}

impl<C: Future<Output = hyper::Result<()>> + Unpin> Driver<C> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // Whatever fails, the request hears of it by its own way.
            if Pin::new(&mut self.connection).poll(context).is_ready() {
                return Poll::Ready(());
            }
            let returned = self.link.returned.take();
            if let Some(sender) = returned {
                self.take_back(sender);
                continue;
            }
            self.link.waker.set(Some(context.waker().clone()));
            if self.link.leases.get() > 0 {
                self.timer = None;
                return Poll::Pending;
            }
            if self.timer.is_none() {
                self.timer =
                    self.link.home.idle_timeout().map(|timeout| Timer::Free(sleep(timeout)));
            }
            if self.link.is_given_up.get() && !matches!(self.timer, Some(Timer::Leave(_))) {
                self.timer = Some(Timer::Leave(sleep(LEAVE)));
            }
            match &mut self.timer {
                None => return Poll::Pending,
                Some(Timer::Leave(sleep)) => return Pin::new(sleep).poll(context),
                Some(Timer::Free(sleep)) => {
                    ready!(Pin::new(sleep).poll(context));
                    self.leave_the_pool();
                    self.link.is_given_up.set(true);
                }
            }
        }
    }

    /// Takes the connection back from a request that has ended. One that is not ready for the next
    /// request carries the rest of a body that nobody wants, and is closed.
    fn take_back(&self, sender: http1::SendRequest<Outgoing>) {
        let is_ready = sender.is_ready();
        let spare = Spare::new(Sender::Http1(sender), &self.link);
        if is_ready {
            self.link.home.put_back(spare);
        }
    }

    /// The pool has no such connection any more.
    fn leave_the_pool(&self) {
        self.link.home.take_out(|spare| Rc::ptr_eq(&spare.link, &self.link));
    }
}
