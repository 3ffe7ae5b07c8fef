//! `TlsConnector`: the client's side.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use rustls::Connection;
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::certificates::{self, Identity, Trusted};
use super::error::unusable;
use super::session::Session;
use super::shared::Shared;
use super::stream::TlsStream;
use crate::io::{PollRead, PollStream, PollWrite};

/// Makes TLS connections as a client. Clones share the settings and the sessions to resume, also on
/// other threads, so a program makes one and keeps it.
///
/// # Other settings
/// `TlsConnector::from(Arc<rustls::ClientConfig>)` takes whatever rustls can do.
#[derive(Debug, Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

/// The settings of a [`TlsConnector`], from [`TlsConnector::builder`].
#[derive(Debug, Default)]
#[must_use = "nothing happens until `build`"]
pub struct TlsConnectorBuilder {
    own_roots: Vec<CertificateDer<'static>>,
    trusted: Trusted,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    without_sni: bool,
    without_resumption: bool,
    /// What was wrong with a setting, for `build`.
    error: Option<io::Error>,
}

impl TlsConnector {
    /// A connector that trusts the authorities that Mozilla trusts, compiled in by the crate
    /// webpki-roots, so that it works in an empty container.
    pub fn new() -> Self {
        Self::builder().build().expect("the settings by default are usable")
    }

    /// The settings, to be changed.
    ///
    /// ```
    /// use annulus::tls::TlsConnector;
    ///
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// # let authority = made.cert.pem();
    /// let connector = TlsConnector::builder()
    ///     .only_roots_pem(authority) // of a company's own authority
    ///     .alpn(["h2", "http/1.1"])
    ///     .build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder::default()
    }

    /// Does the handshake of a client over a stream, and checks that the server's certificate is
    /// valid for `name`: a name of DNS or an IP address.
    ///
    /// There is no time-out of its own: wrap it in [`time::timeout`](crate::time::timeout), since a
    /// peer may answer nothing. If the future is dropped, the stream is dropped.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name. `InvalidData` if the peer does not speak TLS or breaks
    /// its rules, or if its certificate is refused: expired, for another name, signed by nobody who
    /// is trusted. `Unsupported` if the two sides have no version or cipher in common.
    /// `ConnectionAborted` if the peer has sent an alert. `UnexpectedEof` if it closed the
    /// connection. The [`source`](std::error::Error::source) of the error is the [`rustls::Error`],
    /// where there is one. All others are those of the stream.
    ///
    /// With TLS 1.3 the server looks at the client's certificate after the client's handshake has
    /// ended, so its refusal comes with the first read.
    pub async fn connect<S>(&self, name: &str, stream: S) -> io::Result<TlsStream<PollStream<S>>>
    where
        S: PollRead + PollWrite,
    {
        self.connect_over(name, PollStream::new(stream)).await
    }

    /// The same over any stream that is read and written by polls: one that has been used by polls
    /// already, one of TLS again, as through a proxy, one of another crate.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_over<S>(&self, name: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|error| unusable("no name of a server", error))?;
        let client = ClientConnection::new(Arc::clone(&self.config), server)
            .map_err(|error| unusable("no handshake with these settings", error))?;
        let mut session = Session::new(Connection::Client(client), stream);
        let sent = poll_fn(|context| session.poll_handshake(context)).await?;
        Ok(TlsStream { shared: Shared::new(session, sent) })
    }

    /// The settings as rustls has them.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl Default for TlsConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Arc<ClientConfig>> for TlsConnector {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }
}

impl TlsConnectorBuilder {
    /// Trusts these certificates, too: those of authorities, or of servers that have signed their
    /// own.
    pub fn roots(mut self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        self.own_roots.extend(roots);
        self
    }

    /// The same of the content of a PEM file, with any number of certificates.
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        let roots = certificates::chain_of_pem(pem.as_ref());
        let roots = roots.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Vec::new()
        });
        self.roots(roots)
    }

    /// Trusts these certificates and no others.
    pub fn only_roots(self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        Self { trusted: Trusted::Nobody, ..self.roots(roots) }
    }

    /// The same of the content of a PEM file, with any number of certificates.
    pub fn only_roots_pem(self, pem: impl AsRef<[u8]>) -> Self {
        Self { trusted: Trusted::Nobody, ..self.roots_pem(pem) }
    }

    /// Trusts what the system trusts, in place of what is compiled in: its authorities are read
    /// from files when the connector is built, which blocks for some milliseconds.
    #[cfg(feature = "tls-platform-verifier")]
    pub fn platform_roots(self) -> Self {
        Self { trusted: Trusted::ByPlatform, ..self }
    }

    /// Shows this certificate to servers that ask for one. The client's own comes first, those that
    /// have signed it behind.
    pub fn client_certificate(
        self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Self { identity: Some(Identity { chain, key }), ..self }
    }

    /// The same of the content of two PEM files. The key is in PKCS #8, PKCS #1 or SEC 1.
    pub fn client_certificate_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Self {
        match Identity::of_pem(chain.as_ref(), key.as_ref()) {
            Ok(identity) => self.identity = Some(identity),
            Err(error) => _ = self.error.get_or_insert(error),
        }
        self
    }

    /// Offers these protocols by ALPN, the preferred one first.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
        self
    }

    /// Tells the server by SNI which name is meant, in the clear. On by default; a server with
    /// several names needs it.
    pub fn sni(self, on: bool) -> Self {
        Self { without_sni: !on, ..self }
    }

    /// Resumes sessions, which saves most of a handshake. On by default, for the last 256 names.
    pub fn resumption(self, on: bool) -> Self {
        Self { without_resumption: !on, ..self }
    }

    /// The connector.
    ///
    /// # Errors
    /// `InvalidInput` for certificates that cannot be read, and for a key that is not the
    /// certificate's.
    pub fn build(self) -> io::Result<TlsConnector> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let provider = certificates::provider();
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let verifier = certificates::verifier(self.trusted, self.own_roots, provider)?;
        let verified = versions.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match self.identity {
            None => verified.with_no_client_auth(),
            Some(Identity { chain, key }) => verified
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("the client's certificate is unusable", error))?,
        };
        config.alpn_protocols = self.alpn;
        config.enable_sni = !self.without_sni;
        if self.without_resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
