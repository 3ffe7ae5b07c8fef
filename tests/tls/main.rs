//! TLS: handshakes, transfers, drops, bad input, and other implementations as peers.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod certificates;
mod data;
mod drops;
mod ending;
mod handshake;
mod pipe;
mod tcp;

use std::io;
use std::sync::Arc;

use annulus::tls::rustls::pki_types::CertificateDer;
use annulus::tls::rustls::pki_types::pem::PemObject;
use annulus::tls::rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring::default_provider,
};
use annulus::tls::{TlsAcceptor, TlsConnector, TlsStream};
use futures_util::future::try_join;

use certificates::Authority;
use pipe::Pipe;

/// A client and a server for the name `localhost`.
struct Sides {
    authority: Authority,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Sides {
    fn new() -> Self {
        let authority = Authority::new();
        let server = authority.issue("localhost");
        let connector = TlsConnector::builder().only_roots_pem(authority.pem()).build();
        let acceptor = TlsAcceptor::from_pem(server.chain, server.key);
        Self {
            authority,
            connector: connector.expect("a connector"),
            acceptor: acceptor.expect("an acceptor"),
        }
    }

    /// The same with this version of TLS alone.
    fn of_version(version: &'static SupportedProtocolVersion) -> Self {
        let sides = Self::new();
        let mut roots = RootCertStore::empty();
        let pem = sides.authority.pem();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate"))
            .expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { connector: TlsConnector::from(Arc::new(config)), ..sides }
    }

    /// The client's and the server's stream.
    async fn shake_hands(
        &self,
        (client, server): (Pipe, Pipe),
    ) -> io::Result<(TlsStream<Pipe>, TlsStream<Pipe>)> {
        try_join(
            self.connector.connect_over("localhost", client),
            self.acceptor.accept_over(server),
        )
        .await
    }
}
