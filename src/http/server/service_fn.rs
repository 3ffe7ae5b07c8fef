//! A closure as a service.

use std::future::Future;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::http::Body;

/// Makes a service of an async function or a closure from a request to a response.
///
/// ```
/// use std::convert::Infallible;
/// use annulus::http::{Body, service_fn};
/// use http::{Request, Response};
///
/// let hello = service_fn(async |_request: Request<Body>| {
///     Ok::<_, Infallible>(Response::new(Body::from("hello")))
/// });
/// ```
pub fn service_fn<F, R, B, E>(function: F) -> ServiceFn<F>
where
    F: FnMut(Request<Body>) -> R,
    R: Future<Output = Result<Response<B>, E>>,
{
    ServiceFn { function }
}

/// The service of [`service_fn`].
#[derive(Debug, Clone, Copy)]
pub struct ServiceFn<F> {
    function: F,
}

impl<F, R, B, E> Service<Request<Body>> for ServiceFn<F>
where
    F: FnMut(Request<Body>) -> R,
    R: Future<Output = Result<Response<B>, E>>,
{
    type Response = Response<B>;
    type Error = E;
    type Future = R;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> R {
        (self.function)(request)
    }
}
