//! Time-outs: each ends what it is for, and its error says which it was.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use annulus::http::{Body, ErrorKind};
use annulus::net::{Resolver, SystemResolver, set_resolver};
use annulus::time::sleep;
use futures_util::{StreamExt, stream};

use super::{LONG, SHORT, Scripted, builder, check};

/// Never answers.
struct Slow;

impl Resolver for Slow {
    async fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        pending().await
    }
}

#[test]
fn a_name_that_is_never_found_ends_with_the_connect_time_out() {
    check(async || {
        set_resolver(Slow);
        let client = builder().connect_timeout(SHORT).timeout(LONG).build().unwrap();
        let error = client.get("http://slow.test/").send().await.unwrap_err();
        set_resolver(SystemResolver);
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.is_timeout() && error.is_connect());
        assert_eq!(
            error.to_string(),
            "http://slow.test/: the name could not be looked up: the connect time-out of 30ms has passed"
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_server_that_says_nothing_to_tls_ends_with_the_connect_time_out() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move { peer.is_closed().await }).await;
        let client = builder().connect_timeout(SHORT).build().unwrap();
        let url = server.url("/").replace("http", "https");
        let error = client.get(url).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(
            error.is_timeout() && error.to_string().contains("the connect time-out"),
            "{error}"
        );
    });
}

#[test]
fn the_read_time_out_ends_a_wait_for_the_head_and_one_for_the_body() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            if peer.head().await.unwrap().starts_with("GET /body") {
                peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
            }
            peer.is_closed().await;
        })
        .await;
        let client = builder().read_timeout(SHORT).timeout(LONG).build().unwrap();
        let error = client.get(server.url("/head")).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Head);
        assert!(error.is_timeout() && error.to_string().contains("the read time-out"), "{error}");

        let mut response = client.get(server.url("/body")).send().await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "abc");
        let error = response.chunk().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body);
        assert!(error.is_timeout() && error.to_string().contains("the read time-out"), "{error}");
        assert!(response.chunk().await.unwrap().is_none(), "an error comes once");
    });
}

#[test]
fn what_moves_slowly_does_not_end_with_the_read_time_out() {
    check(async || {
        // Each pause is shorter than the time-out, and all of them together are longer.
        const PAUSE: Duration = Duration::from_millis(40);
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.until("0\r\n\r\n").await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
            for piece in ["a", "b", "c", "d", "e", "f"] {
                sleep(PAUSE).await;
                peer.say(piece).await;
            }
        })
        .await;
        let client = builder().read_timeout(PAUSE * 5).build().unwrap();
        let slow = stream::iter(0..6).then(|_| async {
            sleep(PAUSE).await;
            Ok::<_, io::Error>("piece")
        });
        let request = client.post(server.url("/")).body(Body::from_stream(slow));
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "abcdef");
    });
}

#[test]
fn the_whole_time_out_counts_from_the_beginning_to_the_end_of_the_body() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            if peer.head().await.unwrap().starts_with("GET /body") {
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                // It never pauses, and never ends.
                while peer.stream.write_all("1\r\nx\r\n").await.is_ok() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            peer.is_closed().await;
        })
        .await;
        let client = builder().timeout(LONG).read_timeout(LONG).build().unwrap();
        let error = client.get(server.url("/head")).timeout(SHORT).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Head);
        assert!(error.to_string().contains("the whole time-out of 30ms has passed"), "{error}");

        let response = client.get(server.url("/body")).timeout(SHORT * 10).send().await.unwrap();
        let error = response.bytes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body);
        assert!(error.is_timeout() && error.to_string().contains("the whole time-out"), "{error}");
    });
}

#[test]
fn a_server_that_does_not_read_ends_the_sending() {
    check(async || {
        let server = Scripted::start(|_, peer| async move {
            pending::<()>().await;
            drop(peer);
        })
        .await;
        let client = builder().read_timeout(SHORT * 5).build().unwrap();
        let large = stream::iter(0..1000).map(|_| Ok::<_, io::Error>(vec![0; 1 << 16]));
        let request = client.post(server.url("/")).body(Body::from_stream(large));
        let error = request.send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Send);
        assert!(error.is_timeout(), "{error}");
    });
}
