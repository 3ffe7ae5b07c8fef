//! compio's ring under hyper: as cyper-axum serves, and over its buffered stream.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use compio::io::compat::AsyncStream;
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use cyper_core::HyperStream;

use super::service::{serve_connection, service};
use crate::Contender;
use crate::harness::Failure;
use crate::harness::child::answer_on_a_thread;
use crate::talk::body;
use crate::work::{Job, Work};

/// `cyper_axum::serve` waits until a socket is readable and then makes the calls of a non-blocking
/// one.
pub(crate) const CYPER_AXUM: Contender = Contender {
    name: "cyper-axum",
    counted: "nothing: it does not count",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| matches!(work, Work::Plain { .. }),
    serve: |job, _| {
        let body_size = body_size(job)?;
        Runtime::new()?.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            answer_on_a_thread(listener.local_addr()?.port(), "cyper_axum::serve".into(), None)?;
            let body = Bytes::from(body(body_size));
            let service = tower::service_fn(move |_: axum::extract::Request| {
                let response = Response::new(Body::from(body.clone()));
                async { Ok::<_, Infallible>(response) }
            });
            Ok(cyper_axum::serve(listener, tower::make::Shared::new(service)).await?)
        })
    },
};

/// The same hyper service as everybody's over the stream with buffers, which operations of the ring
/// fill and empty.
pub(crate) const COMPIO_BUFFERED: Contender = Contender {
    name: "compio-buffered",
    serve: |job, _| {
        let service = service(body_size(job)?);
        Runtime::new()?.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            answer_on_a_thread(listener.local_addr()?.port(), "AsyncStream".into(), None)?;
            loop {
                let stream = listener.accept().await?.0;
                let stream: Pin<Box<AsyncStream<TcpStream>>> = Box::pin(AsyncStream::new(stream));
                let stream = HyperStream::new_plain(stream);
                compio::runtime::spawn(serve_connection(stream, service.clone())).detach();
            }
        })
    },
    ..CYPER_AXUM
};

fn body_size(job: &Job) -> Result<usize, Failure> {
    match job {
        Job::Plain { body_size, .. } => Ok(*body_size),
        _ => Err("not compared".into()),
    }
}
