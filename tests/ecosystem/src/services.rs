//! axum's router with layers of tower and tower-http, on hyper's connections.

use std::time::Duration;

use annulus::{Anchored, block_on, spawn};
use axum::Router;
use axum::extract::{Path, Query};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::service::TowerToHyperService;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::tools::unix_pair;

#[derive(serde::Deserialize)]
struct Times {
    times: usize,
}

fn router() -> Router {
    let sleeps = || async {
        // What is on the ring is no `Send`, and handlers must be.
        Anchored::new(async { annulus::time::sleep(Duration::from_millis(1)).await }).await;
        "slept"
    };
    Router::new()
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>, Query(query): Query<Times>| async move {
                name.repeat(query.times)
            }),
        )
        .route("/sleep", get(sleeps))
        .route("/panic", get(|| async { panic!("on purpose") as &'static str }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .layer(CatchPanicLayer::new())
        .layer(RequestBodyLimitLayer::new(1000))
        .layer(SetResponseHeaderLayer::overriding(
            http::header::SERVER,
            HeaderValue::from_static("annulus"),
        ))
}

#[test]
fn a_router_of_axum_answers_through_layers_of_tower_http() {
    block_on(async {
        let (client, server) = unix_pair();
        let server = spawn(async move {
            let service = TowerToHyperService::new(router());
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(server, service).await.expect("an end");
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(client).await.expect("a connection");
        let connection = spawn(connection);
        let mut ask = async |method: &str, path: &str, body: Vec<u8>| {
            let request = http::Request::builder().method(method).uri(path);
            let request = request.header("host", "localhost").body(Full::new(Bytes::from(body)));
            let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
            assert_eq!(answer.headers()["server"], "annulus");
            let status = answer.status();
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        let found = ask("GET", "/hello/you?times=2", Vec::new()).await;
        assert_eq!(found, (StatusCode::OK, "youyou".to_owned()));
        assert_eq!(ask("GET", "/sleep", Vec::new()).await, (StatusCode::OK, "slept".to_owned()));
        assert_eq!(ask("GET", "/none", Vec::new()).await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask("GET", "/panic", Vec::new()).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ask("POST", "/length", vec![1; 999]).await.1, "999");
        assert_eq!(ask("POST", "/length", vec![1; 1001]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        drop(sender);
        let _ = connection.await.expect("no panic");
        server.await.expect("no panic");
    });
}
