//! https: what is trusted, what is not, and HTTP/2 by ALPN.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use annulus::JoinSet;
use annulus::http::{Client, ErrorKind, Version};
use annulus::net::{Resolver, SystemResolver, TcpListener, set_resolver};
use annulus::tls::{TlsAcceptor, TlsConnector};
use futures_util::FutureExt;
use rcgen::{CertificateParams, KeyPair};

use super::{Scripted, builder, check, client};
use crate::common::turns;

/// All names of tests are this machine.
struct Here;

impl Resolver for Here {
    async fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![([127, 0, 0, 1], port).into()])
    }
}

/// The tasks of HTTP/2 in the server.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        drop(annulus::spawn(future));
    }
}

/// A server for `good.test` that answers with the path, and counts its connections.
struct Server {
    address: SocketAddr,
    certificate: String,
    accepted: Rc<Cell<usize>>,
    task: annulus::AbortHandle,
}

impl Server {
    async fn start(protocols: &'static [&'static str], expired: bool) -> Server {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["good.test".to_owned()]).unwrap();
        if expired {
            parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let certificate = parameters.self_signed(&key).unwrap();
        let acceptor = TlsAcceptor::builder()
            .certificate_pem(certificate.pem(), key.serialize_pem())
            .alpn(protocols)
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let count = Rc::clone(&accepted);
        let task = annulus::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(|request: ::http::Request<_>| {
                        drop::<hyper::body::Incoming>(request.into_parts().1);
                        let body = annulus::http::Body::from("secret");
                        async { Ok::<_, Infallible>(::http::Response::new(body)) }
                    });
                    let is_http2 = stream.alpn_protocol().as_deref() == Some(b"h2");
                    let _ = match is_http2 {
                        true => {
                            let server = hyper::server::conn::http2::Builder::new(Tasks);
                            server.serve_connection(stream, service).boxed_local().await
                        }
                        false => {
                            let server = hyper::server::conn::http1::Builder::new();
                            server.serve_connection(stream, service).boxed_local().await
                        }
                    };
                });
            }
        });
        set_resolver(Here);
        let task = task.abort_handle();
        Server { address, certificate: certificate.pem(), accepted, task }
    }

    fn client(&self) -> Client {
        let connector = TlsConnector::builder().only_roots_pem(&self.certificate).build().unwrap();
        builder().tls(connector).build().unwrap()
    }

    fn url(&self, name: &str) -> String {
        format!("https://{name}:{}/", self.address.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        set_resolver(SystemResolver);
    }
}

#[test]
fn the_server_chooses_the_version() {
    check(async || {
        for (protocols, version) in [
            (&["h2", "http/1.1"][..], Version::HTTP_2),
            (&["http/1.1"][..], Version::HTTP_11),
            (&[][..], Version::HTTP_11),
        ] {
            let server = Server::start(protocols, false).await;
            let client = server.client();
            let response = client.get(server.url("good.test")).send().await.unwrap();
            assert_eq!(response.version(), version);
            assert_eq!(response.text().await.unwrap(), "secret");
            let old = client.get(server.url("good.test")).version(Version::HTTP_11);
            assert_eq!(old.send().await.unwrap().version(), Version::HTTP_11);
            let new = client.get(server.url("good.test")).version(Version::HTTP_2).send().await;
            assert_eq!(new.is_ok(), version == Version::HTTP_2);
        }
    });
}

#[test]
fn requests_share_one_connection_of_http2_from_the_first_on() {
    check(async || {
        let server = Server::start(&["h2"], false).await;
        let client = server.client();
        let mut requests = JoinSet::new();
        for _ in 0..300 {
            let request = client.get(server.url("good.test"));
            requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
        }
        let bodies = requests.join_all().await;
        assert!(bodies.len() == 300 && bodies.iter().all(|body| body == "secret"));
        assert_eq!(server.accepted.get(), 1);
        // One that goes at any time resets its stream, and not the connection.
        for pause in 0..40 {
            let request = client.get(server.url("good.test")).send();
            let dropped = async { turns(pause % 20).await };
            futures_util::future::select(std::pin::pin!(request), std::pin::pin!(dropped)).await;
        }
        assert_eq!(server.accepted.get(), 1);
        // With a new client it goes in the handshake, and the next one has a connection of its own.
        for pause in 0..20 {
            let client = server.client();
            let request = client.get(server.url("good.test")).send();
            let dropped = async { turns(pause).await };
            futures_util::future::select(std::pin::pin!(request), std::pin::pin!(dropped)).await;
            let response = client.get(server.url("good.test")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "secret");
        }
    });
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_errors_of_tls() {
    check(async || {
        let server = Server::start(&["h2", "http/1.1"], false).await;
        let wrong_name = server.client().get(server.url("bad.test")).send().await.unwrap_err();
        let unknown = client().get(server.url("good.test")).send().await.unwrap_err();
        drop(server);
        let server = Server::start(&["http/1.1"], true).await;
        let expired = server.client().get(server.url("good.test")).send().await.unwrap_err();
        for (error, word) in
            [(wrong_name, "not valid for name"), (unknown, "UnknownIssuer"), (expired, "expired")]
        {
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert!(error.is_connect() && error.to_string().contains(word), "{error}");
        }
    });
}

#[test]
fn tls_to_a_plain_port_and_the_reverse_are_errors() {
    check(async || {
        let plain = Scripted::start(|_, mut peer| async move {
            peer.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            peer.is_closed().await;
        })
        .await;
        let url = plain.url("/").replace("http", "https");
        let error = client().get(url).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");

        let server = Server::start(&["http/1.1"], false).await;
        let url = server.url("good.test").replace("https", "http");
        let error = client().get(url).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Head, "{error}");
    });
}
