//! tonic without its `transport`: what its code generator makes is a service and a client over any
//! HTTP/2, and hyper's connections are that.

use std::future::{Ready, ready};

use annulus::hyper::Executor;
use annulus::{block_on, spawn};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn as client_fn;

use crate::tools::tcp_pair;

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

/// Doubles a number, and refuses those below zero.
struct Double;

impl UnaryService<Number> for Double {
    type Response = Number;
    type Future = Ready<Result<Response<Number>, Status>>;

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        let value = request.into_inner().value;
        ready(match value {
            0.. => Ok(Response::new(Number { value: value * 2 })),
            _ => Err(Status::invalid_argument("below zero")),
        })
    }
}

async fn serve(request: http::Request<Incoming>) -> Result<http::Response<Body>, std::io::Error> {
    let mut grpc = Grpc::new(ProstCodec::<Number, Number>::default());
    Ok(grpc.unary(Double, request).await)
}

#[test]
fn calls_and_their_refusals_go_over_the_adapter() {
    block_on(async {
        let (client, server) = tcp_pair().await;
        let server = spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(Executor);
            builder.serve_connection(server, service_fn(serve)).await.expect("an end");
        });
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Body>(Executor, client)
                .await
                .expect("a connection");
        let connection = spawn(connection);
        let calls = client_fn(move |request| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let origin = http::Uri::from_static("http://localhost");
        let mut client = tonic::client::Grpc::with_origin(calls, origin);
        let path = PathAndQuery::from_static("/numbers.Numbers/Double");
        for value in 0..100 {
            client.ready().await.expect("the server is there");
            let codec = ProstCodec::<Number, Number>::default();
            let request = Request::new(Number { value });
            let answer = client.unary(request, path.clone(), codec).await.expect("an answer");
            assert_eq!(answer.into_inner().value, value * 2);
        }
        client.ready().await.expect("the server is there");
        let codec = ProstCodec::<Number, Number>::default();
        let refused = client.unary(Request::new(Number { value: -1 }), path, codec).await;
        assert_eq!(refused.expect_err("it is refused").code(), Code::InvalidArgument);
        drop(client);
        connection.await.expect("no panic").expect("an end");
        server.await.expect("no panic");
    });
}
