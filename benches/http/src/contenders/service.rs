//! The hyper service and the echo that all contenders share, and what they do with a stream.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::talk::body;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Answers the same body to every request.
pub(crate) fn service(body_size: usize) -> impl Fn(Request<Incoming>) -> Ready<Answer> + Clone {
    let body = Bytes::from(body(body_size));
    move |_| ready(Ok(Response::new(Full::new(body.clone()))))
}

/// Serves one connection until its peer closes it.
pub(crate) fn serve_connection<S, F>(stream: S, service: F) -> impl Future<Output = ()>
where
    S: Read + Write + Unpin,
    F: Fn(Request<Incoming>) -> Ready<Answer>,
{
    let connection = http1::Builder::new().serve_connection(stream, service_fn(service));
    async {
        // That a peer went away is no news.
        let _ = connection.await;
    }
}

/// The reply of a server without hyper, for connections that are idle afterwards.
pub(crate) fn whole_reply(body_size: usize) -> Vec<u8> {
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {body_size}\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    )
    .into_bytes();
    reply.extend(body(body_size));
    reply
}
