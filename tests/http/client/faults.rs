//! Servers that break the protocol, and those that are not there.

use std::io;
use std::net::SocketAddr;

use annulus::http::{Body, ErrorKind};
use annulus::net::{Resolver, SystemResolver, set_resolver};
use futures_util::stream;

use super::{Scripted, builder, check, client};

/// A server that says these bytes to each request and closes the connection.
async fn saying(bytes: impl Into<Vec<u8>>) -> Scripted {
    let bytes = bytes.into();
    Scripted::start(move |_, mut peer| {
        let bytes = bytes.clone();
        async move {
            peer.head().await;
            peer.say(bytes).await;
        }
    })
    .await
}

#[test]
fn nobody_there_and_no_such_name_are_two_errors() {
    struct Nothing;

    impl Resolver for Nothing {
        async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
            match host {
                "empty.test" => Ok(Vec::new()),
                _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            }
        }
    }

    check(async || {
        let client = client();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.is_connect() && !error.is_timeout());
        assert!(error.to_string().contains("no connection: Connection refused"), "{error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionRefused);

        set_resolver(Nothing);
        let error = client.get("http://missing.test/").send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.to_string().ends_with("looked up: no such name"), "{error}");
        let error = client.get("http://empty.test/").send().await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        set_resolver(SystemResolver);
    });
}

#[test]
fn heads_that_are_none_are_errors_of_the_head() {
    check(async || {
        let long = "x".repeat(100_000);
        for bytes in [
            "".to_owned(),
            "garbage\r\n\r\n".to_owned(),
            "\0\0\0\0\0\0".to_owned(),
            "HTTP/1.1 200".to_owned(),
            "HTTP/1.1 OK 200\r\n\r\n".to_owned(),
            "HTTP/1.1 99 Low\r\n\r\n".to_owned(),
            "HTTP/3.7 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\na: \x01\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: minus\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(),
            format!("HTTP/1.1 200 OK\r\na: {long}\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101)),
        ] {
            let server = saying(bytes.clone()).await;
            let error = client().get(server.url("/")).send().await.expect_err(&bytes);
            let shown = &bytes[..bytes.len().min(60)];
            assert_eq!(error.kind(), ErrorKind::Head, "{error} for {shown:?}");
            assert_eq!(server.accepted(), 1, "a bad server is not asked again");
        }
    });
}

#[test]
fn a_head_without_end_stops_at_the_bound() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\n").await;
            while peer.stream.write_all("a: bcdefghijklmnopqrstuvwxyz\r\n").await.is_ok() {}
        })
        .await;
        let client = builder().max_head(4096).build().unwrap();
        let error = client.get(server.url("/")).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Head, "{error}");
    });
}

#[test]
fn bodies_that_break_off_or_break_the_rules_are_errors_of_the_body() {
    check(async || {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for bytes in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_owned(),
            chunked.to_owned(),
            format!("{chunked}3\r\nabc\r\n"),
            format!("{chunked}3\r\nabc"),
            format!("{chunked}3\r\nabcdef\r\n0\r\n\r\n"),
            format!("{chunked}xyz\r\nabc\r\n0\r\n\r\n"),
            format!("{chunked}fffffffffffffffff\r\nabc\r\n"),
            format!("{chunked}3\r\nabc\r\n0\r\n"),
        ] {
            let server = saying(bytes.clone()).await;
            let response = client().get(server.url("/")).send().await.expect(&bytes);
            let error = response.bytes().await.expect_err(&bytes);
            assert_eq!(error.kind(), ErrorKind::Body, "{error} for {bytes:?}");
            assert_eq!(error.url().unwrap().as_str(), server.url("/"));
        }
    });
}

#[test]
fn bytes_behind_an_answer_are_no_answer_to_the_next_request() {
    check(async || {
        let server = Scripted::start(|number, mut peer| async move {
            while peer.head().await.is_some() {
                let behind = if number == 0 {
                    "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
                } else {
                    ""
                };
                peer.say(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood{behind}")).await;
            }
        })
        .await;
        let client = client();
        for _ in 0..3 {
            let response = client.get(server.url("/")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "good");
        }
        assert_eq!(server.accepted(), 2, "the first connection was not used again");
    });
}

#[test]
fn a_body_ends_with_the_connection_where_its_length_is_unknown() {
    check(async || {
        let server = saying("HTTP/1.0 200 OK\r\n\r\nto the end").await;
        let client = client();
        for _ in 0..2 {
            let response = client.get(server.url("/")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "to the end");
        }
        assert_eq!(server.accepted(), 2);
    });
}

#[test]
fn no_more_of_a_body_is_gathered_than_the_limit() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                match head.split(' ').nth(1).unwrap() {
                    "/fits" => peer.ok(&"x".repeat(1000)).await,
                    // Nobody has that much memory.
                    "/announced" => {
                        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999\r\n\r\n")
                            .await;
                        peer.is_closed().await;
                    }
                    "/one-piece" => {
                        let piece = "x".repeat(1001);
                        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                        peer.say(format!("3e9\r\n{piece}\r\n0\r\n\r\n")).await;
                    }
                    _ => {
                        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                        while peer.stream.write_all("4\r\nabcd\r\n").await.is_ok() {}
                    }
                }
            }
        })
        .await;
        let client = builder().max_body(1000).build().unwrap();
        let response = client.get(server.url("/fits")).send().await.unwrap();
        assert_eq!(response.bytes().await.unwrap().len(), 1000);
        for path in ["/announced", "/one-piece", "/endless"] {
            let response = client.get(server.url(path)).send().await.unwrap();
            let error = response.text().await.expect_err(path);
            assert_eq!(error.kind(), ErrorKind::BodyTooLarge, "{path}: {error}");
            assert!(error.to_string().contains("the limit is 1000 bytes"), "{error}");
        }
        let mut by_pieces = client.get(server.url("/one-piece")).send().await.unwrap();
        let mut count = 0;
        while let Some(chunk) = by_pieces.chunk().await.unwrap() {
            count += chunk.len();
        }
        assert_eq!(count, 1001, "by pieces there is no limit");
    });
}

#[test]
fn a_stream_behind_a_request_that_fails_is_the_reason_of_the_error() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move { peer.is_closed().await }).await;
        let broken = stream::iter([Ok("piece"), Err(io::Error::other("the disk is gone"))]);
        let request = client().post(server.url("/")).body(Body::from_stream(broken));
        let error = request.send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Send);
        assert!(error.to_string().contains("the disk is gone"), "{error}");
    });
}

#[test]
fn json_that_is_none_is_an_error_of_decoding() {
    check(async || {
        let server = Scripted::echo(|_| "{\"x\": }".to_owned()).await;
        let response = client().get(server.url("/")).send().await.unwrap();
        let error = response.json::<u32>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.url().unwrap().as_str(), server.url("/"));
    });
}
