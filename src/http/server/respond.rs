//! One request: what is checked before the service, and the future of its response.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Version, header};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::activity::{Activity, Exchange};
use super::peer::PeerAddr;
use super::reply::Reply;
use super::shared::Shared;
use crate::http::Body;
use crate::unwind::{Payload, catch, forget, quietly};

/// A tower service as hyper calls it, for the requests of one connection.
pub(super) struct Requests<S> {
    pub(super) service: S,
    pub(super) peer: Option<PeerAddr>,
    pub(super) activity: Rc<Activity>,
    pub(super) shared: Rc<Shared>,
}

impl<S, B> hyper::service::Service<Request<hyper::body::Incoming>> for Requests<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    B: HttpBody,
{
    type Response = Response<Reply<B>>;
    type Error = S::Error;
    type Future = Respond<S>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Respond<S> {
        let exchange = Exchange::begin(&self.activity, !request.body().is_end_stream());
        self.shared.count(|served| served.requests += 1);
        let limit = self.shared.options.max_body;
        let patience = self.shared.options.body_timeout;
        let step = match refusal(&request, limit) {
            Some(status) => Step::Refused { status },
            None => {
                let mut request = request.map(|incoming| Body::received(incoming, limit, patience));
                if let Some(peer) = self.peer {
                    request.extensions_mut().insert(peer);
                }
                Step::Waiting { service: self.service.clone(), request: Some(request) }
            }
        };
        Respond { step, exchange: Some(exchange), shared: Rc::clone(&self.shared) }
    }
}

/// With what a request is answered that the service does not see.
fn refusal(request: &Request<hyper::body::Incoming>, max_body: u64) -> Option<StatusCode> {
    // RFC 9112, section 3.2.
    if request.version() == Version::HTTP_11
        && request.headers().get_all(header::HOST).iter().count() != 1
    {
        return Some(StatusCode::BAD_REQUEST);
    }
    (request.body().size_hint().lower() > max_body).then_some(StatusCode::PAYLOAD_TOO_LARGE)
}

pin_project! {
    /// The future of a response. A panic of the service ends it with 500.
    pub(super) struct Respond<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        step: Step<S, S::Future>,
        // None at the end.
        exchange: Option<Exchange>,
        shared: Rc<Shared>,
    }
}

pin_project! {
    #[project = Now]
    enum Step<S, F> {
        // Until the service is ready.
        Waiting { service: S, request: Option<Request<Body>> },
        Running { #[pin] future: F },
        Refused { status: StatusCode },
    }
}

impl<S, B> Future for Respond<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Output = Result<Response<Reply<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                Now::Waiting { service, request } => {
                    match catch(|| poll_call(service, request, context)) {
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(Ok(future))) => Step::Running { future },
                        Ok(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                        Err(payload) => panicked(payload, this.shared),
                    }
                }
                Now::Running { future } => match catch(|| future.poll(context)) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(Ok(response))) => {
                        let (exchange, shared) = end(this.exchange, this.shared);
                        let response =
                            response.map(|body| Reply::new(Some(body), exchange, shared));
                        return Poll::Ready(Ok(response));
                    }
                    Ok(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                    Err(payload) => panicked(payload, this.shared),
                },
                Now::Refused { status } => {
                    let (exchange, shared) = end(this.exchange, this.shared);
                    let mut response = Response::new(Reply::new(None, exchange, shared));
                    *response.status_mut() = *status;
                    return Poll::Ready(Ok(response));
                }
            };
            // It drops what the user made, which may panic.
            quietly(|| this.step.set(next));
        }
    }
}

/// Calls the service once it is ready.
fn poll_call<S: Service<Request<Body>>>(
    service: &mut S,
    request: &mut Option<Request<Body>>,
    context: &mut Context<'_>,
) -> Poll<Result<S::Future, S::Error>> {
    service.poll_ready(context).map_ok(|()| {
        let request = request.take().expect("a service is called once for each request");
        service.call(request)
    })
}

fn panicked<S, F>(payload: Payload, shared: &Shared) -> Step<S, F> {
    forget(payload);
    shared.count(|served| served.panics += 1);
    Step::Refused { status: StatusCode::INTERNAL_SERVER_ERROR }
}

fn end(exchange: &mut Option<Exchange>, shared: &Rc<Shared>) -> (Exchange, Rc<Shared>) {
    (exchange.take().expect("a response ends once"), Rc::clone(shared))
}
