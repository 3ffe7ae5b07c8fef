//! Peers and services that do not behave.

use std::time::Duration;

use annulus::http::Server;

use super::{read_all, read_until, start, until_tasks_are};
use crate::common::run;

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn heads_that_are_no_heads_are_answered_with_400() {
    run(async || {
        let server = start(Server::new()).await;
        for head in [
            "nonsense\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: h\r\nbad header\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: h\r\nna\0me: 1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03 a client of TLS",
        ] {
            let stream = server.connect().await;
            stream.write_all(head).await.unwrap();
            let answer = read_until(&stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}: {answer}");
        }
        assert!(server.ask("GET /after HTTP/1.0\r\n\r\n").await.ends_with("GET /after 0"));
        server.stop().await;
    });
}

#[test]
fn heads_beyond_the_limits_are_answered_with_431() {
    run(async || {
        let server = start(Server::new().max_head(1000).max_headers(10)).await;
        let long = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(2000));
        let endless = format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}", "x".repeat(300_000));
        let many = format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "x: y\r\n".repeat(20));
        for head in [long, endless, many] {
            let answer = server.ask(head).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        server.stop().await;
    });
}

#[test]
fn a_body_that_is_announced_too_long_is_answered_with_413_and_not_read() {
    run(async || {
        let server = start(Server::new().max_body(1000)).await;
        let head = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";
        // It is sent all the same, and the answer has to arrive.
        let answer = server.ask([head.as_bytes(), &[b'x'; 1_000_000]].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
        let fits = "POST / HTTP/1.0\r\ncontent-length: 1000\r\n\r\n";
        let answer = server.ask([fits.as_bytes(), &[b'x'; 1000]].concat()).await;
        assert!(answer.ends_with("POST / 1000"), "{answer}");
        server.stop().await;
    });
}

#[test]
fn a_body_that_becomes_too_long_fails() {
    run(async || {
        let server = start(Server::new().max_body(1000)).await;
        let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
        let request = format!(
            "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(4)
        );
        let stream = server.connect().await;
        stream.write_all(request).await.unwrap();
        read_until(&stream, "BodyTooLarge").await;
        server.stop().await;
    });
}

#[test]
fn a_head_that_does_not_end_is_timed_out() {
    run(async || {
        let server = start(Server::new().header_timeout(SHORT)).await;
        assert_eq!(server.ask("").await, "");
        for slow in ["G", "GET / HTTP/1.1\r\nhost: h\r\n"] {
            let answer = server.ask(slow).await;
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        }
        // The second head of a connection, byte by byte.
        let stream = server.connect().await;
        stream.write_all("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&stream, "GET /1 0").await;
        let mut sent = Ok("GET /");
        let mut reading = Box::pin(read_all(&stream));
        let answer = loop {
            sent = match sent {
                Ok(_) => stream.write_all("x").await,
                error => error,
            };
            let pause = annulus::time::timeout(SHORT / 10, &mut reading);
            if let Ok(answer) = pause.await {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert_eq!(server.stop().await.timed_out, 4);
    });
}

#[test]
fn an_idle_connection_is_closed() {
    run(async || {
        let server = start(Server::new().idle_timeout(SHORT)).await;
        let stream = server.connect().await;
        stream.write_all("GET /1 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&stream, "GET /1 0").await;
        assert_eq!(read_all(&stream).await, "");
        assert_eq!(server.stop().await.timed_out, 0);
    });
}

#[test]
fn a_service_that_panics_is_answered_with_500_and_the_connection_goes_on() {
    run(async || {
        let server = start(Server::new()).await;
        let stream = server.connect().await;
        for _ in 0..2 {
            stream.write_all("GET /panic HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
            let answer = read_until(&stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
        }
        stream.write_all("GET /on HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&stream, "GET /on 0").await;
        assert_eq!(server.stop().await.panics, 2);
    });
}

#[test]
fn a_service_that_fails_ends_its_connection_alone() {
    run(async || {
        let server = start(Server::new()).await;
        let other = server.connect().await;
        assert_eq!(server.ask("GET /error HTTP/1.1\r\nhost: h\r\n\r\n").await, "");
        other.write_all("GET /on HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&other, "GET /on 0").await;
        server.stop().await;
    });
}

#[test]
fn a_peer_that_goes_drops_its_request() {
    run(async || {
        let server = start(Server::new()).await;
        let stream = server.connect().await;
        stream.write_all("GET /never HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        stream.shutdown(std::net::Shutdown::Write).await.unwrap();
        assert_eq!(read_all(&stream).await, "");
        server.stop().await;
    });
}

#[test]
fn a_peer_that_takes_nothing_is_timed_out() {
    run(async || {
        let server =
            start(Server::new().write_timeout(SHORT).shutdown_timeout(Duration::from_secs(600)))
                .await;
        let stream = server.connect().await;
        stream.set_recv_buffer_size(4096).unwrap();
        stream.write_all("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&stream, "H").await;
        // It waits for the connection, and for longer than this test may take if nothing ends it.
        let served = server.stop().await;
        assert_eq!((served.timed_out, served.cut), (1, 0));
        // Though the peer is still there, nothing waits for it.
        until_tasks_are(0).await;
        drop(stream);
    });
}

#[test]
fn a_body_that_stops_coming_fails() {
    run(async || {
        let server = start(Server::new().body_timeout(SHORT)).await;
        let stream = server.connect().await;
        stream
            .write_all("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nfour")
            .await
            .unwrap();
        read_until(&stream, "TimedOut").await;
        server.stop().await;
    });
}
