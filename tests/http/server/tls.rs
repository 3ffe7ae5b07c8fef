//! The server behind TLS.

use std::time::Duration;

use ::http::Version;
use annulus::http::{Client, Server};
use annulus::io::{AsyncRead, AsyncWrite};
use annulus::tls::{TlsAcceptor, TlsConnector};
use annulus::{JoinSet, net::TcpStream};
use rcgen::generate_simple_self_signed;

use super::{Running, start, until_tasks_are};
use crate::client::check;

/// A server on the loopback device, and its certificate.
async fn start_tls(server: Server) -> (Running, String) {
    let own = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let acceptor = TlsAcceptor::from_pem(own.cert.pem(), own.signing_key.serialize_pem()).unwrap();
    (start(server.tls(acceptor)).await, own.cert.pem())
}

fn url(server: &Running, path: &str) -> String {
    format!("https://{}{path}", server.address)
}

fn client(certificate: &str, is_old: bool) -> Client {
    let tls = TlsConnector::builder().only_roots_pem(certificate).build().unwrap();
    let client = Client::builder().no_proxy().tls(tls);
    if is_old { client.http1_only() } else { client }.build().unwrap()
}

#[test]
fn both_protocols_come_through_tls() {
    check(async || {
        let (server, certificate) = start_tls(Server::new()).await;
        for (is_old, version) in [(false, Version::HTTP_2), (true, Version::HTTP_11)] {
            let client = client(&certificate, is_old);
            let mut requests = JoinSet::new();
            for number in 0..20 {
                let request = client.post(url(&server, "/page")).body(vec![7; number * 1000]);
                requests.spawn(async move {
                    let response = request.send().await.unwrap();
                    assert_eq!(response.version(), version);
                    assert_eq!(
                        response.text().await.unwrap(),
                        format!("POST /page {}", number * 1000)
                    );
                });
            }
            requests.join_all().await;
            let large = client.get(url(&server, "/large")).send().await.unwrap();
            assert_eq!(large.bytes().await.unwrap().len(), 16 << 20);
        }
        let served = server.stop().await;
        assert_eq!((served.requests, served.timed_out, served.cut), (42, 0, 0));
    });
}

#[test]
fn a_peer_without_tls_loses_its_connection_and_others_go_on() {
    check(async || {
        let (server, certificate) = start_tls(Server::new()).await;
        let stream = server.connect().await;
        stream.write_all("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        while let Ok((1.., bytes)) = stream.read(Vec::with_capacity(4096)).await {
            all.extend(bytes);
        }
        assert!(!all.starts_with(b"HTTP"), "{all:?}");
        let client = client(&certificate, true);
        let response = client.get(url(&server, "/after")).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "GET /after 0");
        assert_eq!(server.stop().await.requests, 1);
    });
}

#[test]
fn a_handshake_that_does_not_go_on_is_ended_by_the_time_of_a_head() {
    check(async || {
        let bound = Duration::from_millis(50);
        let (server, _) = start_tls(Server::new().header_timeout(bound)).await;
        let stream = server.connect().await;
        // The beginning of a record that does not come.
        stream.write_all(vec![22, 3, 1, 2, 0, 1]).await.unwrap();
        assert_eq!(stream.read(Vec::with_capacity(10)).await.unwrap().0, 0);
        assert_eq!(server.stop().await.timed_out, 1);
    });
}

#[test]
fn the_end_of_the_server_does_not_wait_for_a_handshake() {
    check(async || {
        let hour = Duration::from_secs(3600);
        let (server, _) =
            start_tls(Server::new().header_timeout(hour).shutdown_timeout(hour)).await;
        let stream = server.connect().await;
        stream.write_all(vec![22, 3, 1, 2, 0, 1]).await.unwrap();
        // The server's, and that of the connection.
        until_tasks_are(2).await;
        let served = server.stop().await;
        assert_eq!((served.requests, served.cut), (0, 0));
        drop(stream);
    });
}

#[test]
fn a_peer_that_takes_nothing_through_tls_is_cut_off() {
    check(async || {
        let bound = Duration::from_millis(50);
        let (server, certificate) = start_tls(Server::new().write_timeout(bound)).await;
        let tls = TlsConnector::builder().only_roots_pem(&certificate).build().unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_recv_buffer_size(4096).unwrap();
        let mut stream = tls.connect("127.0.0.1", stream).await.unwrap();
        stream.write_all("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_exact(vec![0; 4]).await.unwrap(), b"HTTP");
        let served = server.stop().await;
        assert_eq!((served.timed_out, served.cut), (1, 0));
        until_tasks_are(0).await;
        drop(stream);
    });
}
