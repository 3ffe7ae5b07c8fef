//! Requests that are as they should be.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::pin::pin;

use annulus::http::{self, Body, PeerAddr, Server};
use annulus::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use futures_util::stream;

use ::http::{Request, Response};

use super::{hello, read_all, read_until, start};
use crate::common::{run, scratch_dir};

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    run(async || {
        let server = start(Server::new()).await;
        let stream = server.connect().await;
        for n in 0..3 {
            let request = format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n");
            stream.write_all(request).await.unwrap();
            let answer = read_until(&stream, &format!("GET /{n} 0")).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-length: 8\r\n"), "{answer}");
            assert!(answer.contains("date: "), "{answer}");
        }
        drop(stream);
        let served = server.stop().await;
        assert_eq!((served.connections, served.requests), (1, 3));
    });
}

#[test]
fn requests_behind_each_other_are_answered_in_order() {
    run(async || {
        let server = start(Server::new()).await;
        let one = |n| format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut all: String = (0..50).map(one).collect();
        all += "GET /last HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let answers = server.ask(all).await;
        let mut rest = answers.as_str();
        for n in 0..50 {
            rest = rest.split_once(&format!("\r\n\r\nGET /{n} 0")).expect("an answer").1;
        }
        assert!(rest.ends_with("GET /last 0"), "{rest}");
        assert_eq!(server.stop().await.requests, 51);
    });
}

#[test]
fn the_head_of_a_request_may_come_byte_by_byte() {
    run(async || {
        let server = start(Server::new()).await;
        // The first three bytes are those with which HTTP/2 begins.
        for request in ["PRI / HTTP/1.1\r\nhost: h\r\n\r\n", "P / HTTP/1.1\r\nhost: h\r\n\r\n"] {
            let stream = server.connect().await;
            for byte in request.bytes() {
                stream.write_all(vec![byte]).await.unwrap();
                annulus::yield_now().await;
            }
            read_until(&stream, " / 0").await;
        }
        server.stop().await;
    });
}

#[test]
fn bodies_come_with_a_length_or_in_chunks() {
    run(async || {
        let server = start(Server::new()).await;
        let answer = server
            .ask("POST /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
            .await;
        assert!(answer.ends_with("POST /a 5"), "{answer}");
        let answer = server
            .ask(
                "PUT /b HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            )
            .await;
        assert!(answer.ends_with("PUT /b 11"), "{answer}");
        server.stop().await;
    });
}

#[test]
fn a_body_is_asked_for_when_the_peer_waits_for_that() {
    run(async || {
        let server = start(Server::new()).await;
        let stream = server.connect().await;
        let head =
            "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
        stream.write_all(head).await.unwrap();
        assert_eq!(read_until(&stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all("ok").await.unwrap();
        read_until(&stream, "POST / 2").await;
        server.stop().await;
    });
}

#[test]
fn an_older_client_needs_no_host_and_is_not_kept() {
    run(async || {
        let server = start(Server::new()).await;
        let answer = server.ask("GET /old HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("GET /old 0"), "{answer}");
        server.stop().await;
    });
}

#[test]
fn a_stream_is_sent_in_chunks() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = http::service_fn(async |_request: Request<Body>| {
            let parts = ["one", "two"].map(Ok::<_, Infallible>);
            Ok::<_, Infallible>(Response::new(Body::from_stream(stream::iter(parts))))
        });
        let server = annulus::spawn(http::serve(listener, service).into_future());
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        let answer = read_all(&stream).await;
        assert!(answer.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
        server.abort();
        assert!(server.await.is_err());
    });
}

#[test]
fn the_peers_address_is_an_extension() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = http::service_fn(async |request: Request<Body>| {
            let PeerAddr(peer) = request.extensions().get().unwrap();
            Ok::<_, Infallible>(Response::new(Body::from(peer.to_string())))
        });
        let server = annulus::spawn(http::serve(listener, service).into_future());
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        read_until(&stream, &stream.local_addr().unwrap().to_string()).await;
        server.abort();
        assert!(server.await.is_err());
    });
}

#[test]
fn unix_sockets_are_served() {
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = annulus::spawn(http::serve(listener, http::service_fn(hello)).into_future());
        let stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        let answer = stream.read_exact(vec![0; 17]).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK\r\n");
        server.abort();
        assert!(server.await.is_err());
    });
}

#[test]
fn a_dropped_server_ends_its_connections_and_requests() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all("GET /never HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        {
            let mut server =
                pin!(http::serve(listener, http::service_fn(super::pages)).into_future());
            let mut reading = pin!(stream.read(Vec::with_capacity(1)));
            for _ in 0..50 {
                let server = std::future::poll_fn(|context| {
                    assert!(server.as_mut().poll(context).is_pending());
                    assert!(reading.as_mut().poll(context).is_pending());
                    std::task::Poll::Ready(())
                });
                server.await;
                annulus::yield_now().await;
            }
        }
        let read = stream.read(Vec::with_capacity(1)).await;
        assert!(read.map_or(0, |(count, _)| count) == 0);
        assert!(TcpStream::connect(address).await.is_err());
    });
}
