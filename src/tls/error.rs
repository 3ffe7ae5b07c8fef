//! What goes wrong in TLS, as errors of std: a sentence, a kind, and the error of rustls as source.

use std::error::Error;
use std::{fmt, io};

use rustls::{CertificateError, InvalidMessage};

/// What ended a connection, kept so that each later call says the same.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    sentence: &'static str,
    kind: io::ErrorKind,
    cause: rustls::Error,
}

impl Failure {
    pub(super) fn new(cause: rustls::Error, in_handshake: bool) -> Self {
        Self { sentence: sentence(&cause, in_handshake), kind: kind(&cause), cause }
    }

    pub(super) fn to_io(&self) -> io::Error {
        io::Error::new(self.kind, self.clone())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.sentence, self.cause)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

fn sentence(cause: &rustls::Error, in_handshake: bool) -> &'static str {
    use rustls::Error::{
        AlertReceived, InvalidCertificate, InvalidMessage as Message, NoApplicationProtocol,
        NoCertificatesPresented, PeerIncompatible,
    };
    match cause {
        // The first byte of a record says what it is, the next two the version.
        Message(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)
            if in_handshake =>
        {
            "the peer does not speak TLS"
        }
        InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the peer's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the peer's certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the peer's certificate is for another name"
            }
            // The second: of somebody who calls himself like one who is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the peer's certificate is signed by nobody who is trusted here"
            }
            _ => "the peer's certificate is refused",
        },
        NoCertificatesPresented => "the peer shows no certificate",
        NoApplicationProtocol => "the peer speaks none of the offered protocols",
        PeerIncompatible(_) => "the peer's TLS and that of this side have too little in common",
        AlertReceived(_) => "the peer has ended the connection with an alert",
        _ if in_handshake => "the TLS handshake has failed",
        _ => "the peer has broken the rules of TLS",
    }
}

fn kind(cause: &rustls::Error) -> io::ErrorKind {
    match cause {
        rustls::Error::AlertReceived(_) => io::ErrorKind::ConnectionAborted,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            io::ErrorKind::Unsupported
        }
        rustls::Error::FailedToGetCurrentTime
        | rustls::Error::FailedToGetRandomBytes
        | rustls::Error::EncryptError
        | rustls::Error::General(_) => io::ErrorKind::Other,
        _ => io::ErrorKind::InvalidData,
    }
}

/// What a user gave that is no name, no certificate, or no key for it.
pub(super) fn unusable(what: &str, cause: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {cause}"))
}

pub(super) fn ended_in_handshake() -> io::Error {
    let sentence = "the peer closed the connection during the TLS handshake";
    io::Error::new(io::ErrorKind::UnexpectedEof, sentence)
}

pub(super) fn ended_without_notice() -> io::Error {
    let sentence = "the stream ended without a close_notify, so something may be missing";
    io::Error::new(io::ErrorKind::UnexpectedEof, sentence)
}

pub(super) fn is_shut_down() -> io::Error {
    let sentence = "the writing direction of this TLS stream has ended";
    io::Error::new(io::ErrorKind::BrokenPipe, sentence)
}

pub(super) fn takes_no_more() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the stream below takes no more bytes")
}
