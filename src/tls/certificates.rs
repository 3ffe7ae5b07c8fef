//! Certificates and keys in the forms in which users have them, and what checks them.

use std::io;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::unusable;

/// Whom a client trusts beside the certificates that its user has given.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Trusted {
    #[default]
    ByMozilla,
    #[cfg(feature = "tls-platform-verifier")]
    ByPlatform,
    Nobody,
}

/// A certificate with those that have signed it, and its key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) fn of_pem(chain: &[u8], key: &[u8]) -> io::Result<Self> {
        let chain = chain_of_pem(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| unusable("no private key can be read", error))?;
        Ok(Self { chain, key })
    }
}

/// The certificates of a PEM file, of which there is at least one.
pub(super) fn chain_of_pem(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable("the certificates cannot be read", error))?;
    match chain.is_empty() {
        true => Err(unusable("the certificates cannot be read", "there is none in this PEM file")),
        false => Ok(chain),
    }
}

pub(super) fn roots(certificates: Vec<CertificateDer<'static>>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| unusable("a certificate to be trusted cannot be read", error))?;
    }
    Ok(roots)
}

/// What checks the certificates of servers.
pub(super) fn verifier(
    trusted: Trusted,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> io::Result<Arc<dyn ServerCertVerifier>> {
    let mut roots = match trusted {
        #[cfg(feature = "tls-platform-verifier")]
        Trusted::ByPlatform => return by_platform(own, provider),
        _ => roots(own)?,
    };
    if let Trusted::ByMozilla = trusted {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
        Ok(verifier) => Ok(verifier),
        Err(error) => Err(unusable("the certificates to be trusted are unusable", error)),
    }
}

#[cfg(feature = "tls-platform-verifier")]
fn by_platform(
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> io::Result<Arc<dyn ServerCertVerifier>> {
    match rustls_platform_verifier::Verifier::new_with_extra_roots(own, provider) {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => Err(unusable("the certificates of the system are unusable", error)),
    }
}

/// The cryptography of the crate ring, which needs a C compiler and nothing else.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
