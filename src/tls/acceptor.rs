//! `TlsAcceptor`: the server's side.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use rustls::Connection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    NoServerSessionStorage, ServerConfig, ServerConnection, WebPkiClientVerifier,
};

use super::certificates::{self, Identity};
use super::error::unusable;
use super::session::Session;
use super::shared::Shared;
use super::stream::TlsStream;
use crate::io::{PollRead, PollStream, PollWrite};

/// Makes TLS connections as a server. Clones share the settings and the sessions to resume, also on
/// other threads.
///
/// # Other settings
/// `TlsAcceptor::from(Arc<rustls::ServerConfig>)` takes whatever rustls can do, as a certificate
/// for each name.
#[derive(Debug, Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
}

/// The settings of a [`TlsAcceptor`], from [`TlsAcceptor::builder`].
#[derive(Debug, Default)]
#[must_use = "nothing happens until `build`"]
pub struct TlsAcceptorBuilder {
    identity: Option<Identity>,
    client_roots: Vec<CertificateDer<'static>>,
    client_certificate_optional: bool,
    alpn: Vec<Vec<u8>>,
    without_resumption: bool,
    /// What was wrong with a setting, for `build`.
    error: Option<io::Error>,
}

impl TlsAcceptor {
    /// An acceptor with this certificate, all else by default: the content of two PEM files. The
    /// server's own certificate comes first, those that have signed it behind.
    ///
    /// # Errors
    /// `InvalidInput` for certificates or a key that cannot be read, and for a key that is not the
    /// certificate's.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Self> {
        Self::builder().certificate_pem(chain, key).build()
    }

    /// The settings, to be changed. A certificate is needed.
    ///
    /// ```
    /// use annulus::tls::TlsAcceptor;
    ///
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// # let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    /// # let authority = chain.clone();
    /// let acceptor = TlsAcceptor::builder()
    ///     .certificate_pem(chain, key)
    ///     .client_roots_pem(authority) // only clients that have a certificate of it
    ///     .alpn(["h2", "http/1.1"])
    ///     .build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn builder() -> TlsAcceptorBuilder {
        TlsAcceptorBuilder::default()
    }

    /// Does the handshake of a server over a stream.
    ///
    /// There is no time-out of its own: wrap it in [`time::timeout`](crate::time::timeout), since a
    /// peer may send nothing. Do it in a task of its own, so that such a peer stops nobody else. If
    /// the future is dropped, the stream is dropped.
    ///
    /// # Errors
    /// Those of [`TlsConnector::connect`](super::TlsConnector::connect). A client that shows no
    /// certificate though it must is `InvalidData`.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<PollStream<S>>>
    where
        S: PollRead + PollWrite,
    {
        self.accept_over(PollStream::new(stream)).await
    }

    /// The same over any stream that is read and written by polls: one that has been used by polls
    /// already, one of TLS again, as through a proxy, one of another crate.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn accept_over<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let server = ServerConnection::new(Arc::clone(&self.config))
            .map_err(|error| unusable("no handshake with these settings", error))?;
        let mut session = Session::new(Connection::Server(server), stream);
        let sent = poll_fn(|context| session.poll_handshake(context)).await?;
        Ok(TlsStream { shared: Shared::new(session, sent) })
    }

    /// The settings as rustls has them.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

impl From<Arc<ServerConfig>> for TlsAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }
}

impl TlsAcceptorBuilder {
    /// The server's certificate: its own first, those that have signed it behind.
    pub fn certificate(
        self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Self { identity: Some(Identity { chain, key }), ..self }
    }

    /// The same of the content of two PEM files. The key is in PKCS #8, PKCS #1 or SEC 1.
    pub fn certificate_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        match Identity::of_pem(chain.as_ref(), key.as_ref()) {
            Ok(identity) => self.identity = Some(identity),
            Err(error) => _ = self.error.get_or_insert(error),
        }
        self
    }

    /// Asks clients for a certificate that one of these has signed, and refuses those without.
    pub fn client_roots(
        mut self,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Self {
        self.client_roots.extend(roots);
        self
    }

    /// The same of the content of a PEM file, with any number of certificates.
    pub fn client_roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        let roots = certificates::chain_of_pem(pem.as_ref());
        let roots = roots.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Vec::new()
        });
        self.client_roots(roots)
    }

    /// Takes clients that show no certificate, too. One that is shown has to be valid. Off by
    /// default; it means nothing without [`client_roots`](Self::client_roots).
    pub fn client_certificate_optional(self, on: bool) -> Self {
        Self { client_certificate_optional: on, ..self }
    }

    /// Speaks these protocols by ALPN, the preferred one first. Clients that offer others only are
    /// refused; those that offer none are not.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
        self
    }

    /// Lets clients resume sessions, which saves most of a handshake. On by default, for the last
    /// 256 sessions.
    pub fn resumption(self, on: bool) -> Self {
        Self { without_resumption: !on, ..self }
    }

    /// The acceptor.
    ///
    /// # Errors
    /// `InvalidInput` for certificates that cannot be read, for a key that is not the
    /// certificate's, and if there is no certificate.
    pub fn build(self) -> io::Result<TlsAcceptor> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(Identity { chain, key }) = self.identity else {
            return Err(unusable("no acceptor", "a server needs a certificate"));
        };
        let provider = certificates::provider();
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let verified = if self.client_roots.is_empty() {
            versions.with_no_client_auth()
        } else {
            let roots = Arc::new(certificates::roots(self.client_roots)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match self.client_certificate_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| unusable("the certificates to be trusted are unusable", error))?;
            versions.with_client_cert_verifier(verifier)
        };
        let mut config = verified
            .with_single_cert(chain, key)
            .map_err(|error| unusable("the server's certificate is unusable", error))?;
        config.alpn_protocols = self.alpn;
        if self.without_resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
