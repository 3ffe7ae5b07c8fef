//! A router of axum as it is.

use std::net::SocketAddr;

use annulus::Anchored;
use annulus::http::{self, Client, PeerAddr};
use annulus::net::{TcpListener, UnixStream};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};

use crate::client::check;

/// Sends the text through a pair of sockets of the ring, of which no future is `Send`.
async fn around(Path(text): Path<String>) -> String {
    Anchored::new(async move {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let length = text.len();
        ours.write_all(text).await.unwrap();
        String::from_utf8(theirs.read_exact(vec![0; length]).await.unwrap()).unwrap()
    })
    .await
}

#[test]
fn a_router_of_axum_is_served_as_it_is() {
    check(async || {
        let router = Router::new()
            .route("/state", get(async |State(state): State<&'static str>| state))
            .route("/around/{text}", get(around))
            .route(
                "/sum",
                post(async |Json(numbers): Json<Vec<u64>>| Json(numbers.into_iter().sum::<u64>())),
            )
            .route(
                "/peer",
                get(async |Extension(PeerAddr(peer)): Extension<PeerAddr>| peer.to_string()),
            )
            .with_state("shared");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = annulus::spawn(async move { http::serve(listener, router).await });
        let client = Client::builder().no_proxy().build().unwrap();
        let url = |path: &str| format!("http://{address}{path}");
        let text =
            async |path: &str| client.get(url(path)).send().await.unwrap().text().await.unwrap();
        assert_eq!(text("/state").await, "shared");
        assert_eq!(text("/around/and-back").await, "and-back");
        let sum = client.post(url("/sum")).json(&[1, 2, 39]).send().await.unwrap();
        assert_eq!(sum.json::<u64>().await.unwrap(), 42);
        let peer: SocketAddr = text("/peer").await.parse().unwrap();
        assert!(peer.ip().is_loopback());
        let missing = client.get(url("/none")).send().await.unwrap();
        assert_eq!(missing.status(), 404);
        server.abort();
        let _ = server.await;
        drop(missing);
    });
}
