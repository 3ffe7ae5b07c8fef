//! h2 by itself, and hyper with both versions, by their connections.

use std::convert::Infallible;

use annulus::hyper::{Executor, Timer};
use annulus::{block_on, spawn};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::tools::{tcp_pair, unix_pair};

const LARGE: usize = 1_000_000;

#[test]
fn streams_of_h2_carry_large_bodies_both_ways() {
    block_on(async {
        let (client, server) = tcp_pair().await;
        let server = spawn(async move {
            let mut server = h2::server::handshake(server).await.expect("a handshake");
            while let Some(stream) = server.accept().await {
                let (request, mut respond) = stream.expect("a request");
                spawn(async move {
                    let mut body = request.into_body();
                    let response = http::Response::new(());
                    let mut sender = respond.send_response(response, false).expect("a stream");
                    while let Some(data) = body.data().await {
                        let data = data.expect("the client is there");
                        let _ = body.flow_control().release_capacity(data.len());
                        sender.send_data(data, false).expect("the client is there");
                    }
                    sender.send_data(Bytes::new(), true).expect("the client is there");
                });
            }
        });
        let (sender, connection) = h2::client::handshake(client).await.expect("a handshake");
        let connection = spawn(connection);
        let requests: annulus::JoinSet<()> = (0..20_u8)
            .map(|number| {
                let sender = sender.clone();
                async move {
                    let mut sender = sender.ready().await.expect("the server is there");
                    let request = http::Request::post("http://localhost/").body(()).expect("one");
                    let (response, mut body) =
                        sender.send_request(request, false).expect("the server is there");
                    body.send_data(vec![number; LARGE].into(), true).expect("the server is there");
                    let mut body = response.await.expect("an answer").into_body();
                    let mut length = 0;
                    while let Some(data) = body.data().await {
                        let data = data.expect("the server is there");
                        assert!(data.iter().all(|&byte| byte == number));
                        length += data.len();
                        body.flow_control().release_capacity(data.len()).expect("a window");
                    }
                    assert_eq!(length, LARGE);
                }
            })
            .collect();
        requests.join_all().await;
        drop(sender);
        connection.await.expect("no panic").expect("an end");
        server.await.expect("no panic");
    });
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("the client is there").to_bytes();
    Ok(Response::new(Full::new(body)))
}

#[test]
fn hyper_keeps_a_connection_of_http_1_alive() {
    block_on(async {
        let (client, server) = unix_pair();
        let server = spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(Timer);
            builder.serve_connection(server, service_fn(echo)).await.expect("an end");
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(client).await.expect("a connection");
        let connection = spawn(connection);
        for size in [0, 1, 10_000, LARGE] {
            let body = Full::new(Bytes::from(vec![7; size]));
            let answer = sender.send_request(Request::new(body)).await.expect("an answer");
            let found = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(found, vec![7; size]);
        }
        drop(sender);
        connection.await.expect("no panic").expect("an end");
        server.await.expect("no panic");
    });
}

#[test]
fn hyper_carries_requests_side_by_side_over_http_2() {
    block_on(async {
        let (client, server) = tcp_pair().await;
        let server = spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(Executor);
            builder.serve_connection(server, service_fn(echo)).await.expect("an end");
        });
        let (sender, connection) =
            hyper::client::conn::http2::handshake(Executor, client).await.expect("a connection");
        let connection = spawn(connection);
        let requests: annulus::JoinSet<()> = (0..50_u8)
            .map(|number| {
                let mut sender = sender.clone();
                async move {
                    let size = usize::from(number) * 5000;
                    let body = Full::new(Bytes::from(vec![number; size]));
                    let request = Request::post("http://localhost/").body(body).expect("one");
                    let answer = sender.send_request(request).await.expect("an answer");
                    let found = answer.into_body().collect().await.expect("a body").to_bytes();
                    assert_eq!(found, vec![number; size]);
                }
            })
            .collect();
        requests.join_all().await;
        drop(sender);
        connection.await.expect("no panic").expect("an end");
        server.await.expect("no panic");
    });
}
