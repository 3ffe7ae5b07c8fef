//! `TlsStream`, which clients and servers have alike, and its halves.

use std::cell::Ref;
use std::error::Error;
use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{Connection, ProtocolVersion};

use super::shared::Shared;

/// A stream over TLS, of a client or of a server: made by [`TlsConnector`](super::TlsConnector) or
/// [`TlsAcceptor`](super::TlsAcceptor).
///
/// It has the traits of [`annulus::io`](crate::io) and of futures-io, and as features those of
/// tokio (`tokio-io`) and hyper (`hyper`).
///
/// # Reading
/// A read waits for a record and yields what is in it, at most 16 KiB. Dropping a read loses
/// nothing: what has come stays in the stream for the next one.
///
/// The end is clean if the peer has sent close_notify: then reads yield 0 bytes. A stream that ends
/// without it may have been cut off by somebody, and reads fail with `UnexpectedEof`, each time.
/// Many servers of HTTP/1 end so. Their answer is complete if its length was announced.
///
/// # Writing
/// A write is encrypted at once, in records of at most 16 KiB, and up to 64 KiB are accepted at a
/// time. It waits while the stream below has not accepted what was written before, so that memory
/// is bounded. What is accepted goes out without a flush, also if the TLS stream is dropped then.
/// Over a stream that keeps bytes until it is flushed, so does TLS. A write that is dropped before
/// it is ready has written nothing.
///
/// A flush is ready when the stream below has sent all. An error of the stream below after a write
/// is reported by the next write, flush or shutdown, once.
///
/// # Ending
/// A shutdown sends close_notify, then ends the writing direction of the stream below. It does not
/// wait for the peer, and reads go on. A stream that is dropped sends no close_notify, so the peer
/// sees an `UnexpectedEof`: it cannot tell a program that has died from one that has finished.
///
/// # Errors
/// `InvalidData` if the peer breaks the rules of TLS; `ConnectionAborted` if it has sent an alert.
/// Both end the stream in both directions, and each later call says the same. The
/// [`source`](std::error::Error::source) of the error is the [`rustls::Error`]. All others are
/// those of the stream below.
pub struct TlsStream<S> {
    pub(super) shared: Shared<S>,
}

/// The reading half of a [`TlsStream`], for a task of its own.
///
/// Dropping it does nothing while the other half is there.
pub struct ReadHalf<S> {
    pub(super) shared: Shared<S>,
}

/// The writing half of a [`TlsStream`], for a task of its own.
///
/// Dropping it does nothing while the other half is there: no close_notify is sent. Shut it down to
/// say that all was written.
pub struct WriteHalf<S> {
    pub(super) shared: Shared<S>,
}

/// The halves that were to be put together, and are not of one stream.
pub struct ReuniteError<S>(pub ReadHalf<S>, pub WriteHalf<S>);

impl<S> TlsStream<S> {
    /// The stream below, for its addresses and options.
    ///
    /// Do not keep it across an await: what was written may be unable to go out meanwhile.
    pub fn get_ref(&self) -> Ref<'_, S> {
        self.shared.stream()
    }

    /// The connection of rustls, for all that has no method here: the cipher suite, keying material
    /// for other protocols, whether a session was resumed.
    ///
    /// Do not keep it across an await, as with [`get_ref`](TlsStream::get_ref).
    pub fn connection(&self) -> Ref<'_, Connection> {
        self.shared.connection()
    }

    /// The certificates that the peer has shown, its own first. A client always has some; a server
    /// has some if it asks clients for one.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.connection().peer_certificates().map(<[_]>::to_vec)
    }

    /// The protocol that both sides have agreed on by ALPN, as `b"h2"`.
    pub fn alpn_protocol(&self) -> Option<Vec<u8>> {
        self.connection().alpn_protocol().map(<[_]>::to_vec)
    }

    /// At a server, the name that the client has asked for by SNI.
    pub fn server_name(&self) -> Option<String> {
        match &*self.connection() {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        }
    }

    /// The version of TLS that both sides have agreed on.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.connection().protocol_version()
    }

    /// Two halves for two tasks: one reads and one writes, and neither waits for the other.
    ///
    /// ```
    /// # use std::{cell::RefCell, io};
    /// use annulus::io::{AsyncRead, AsyncWrite};
    /// use annulus::tls::TlsStream;
    /// use futures_util::future::try_join;
    /// # use futures_io as traits;
    ///
    /// /// Writes and reads at the same time, so that neither side waits for the other.
    /// async fn exchange<S>(stream: TlsStream<S>, request: Vec<u8>) -> io::Result<Vec<u8>>
    /// where
    ///     S: traits::AsyncRead + traits::AsyncWrite + Unpin + 'static,
    /// {
    ///     let (mut reader, mut writer) = stream.into_split();
    ///     let write = async {
    ///         writer.write_all(request).await?;
    ///         writer.shutdown().await
    ///     };
    ///     let read = async {
    ///         let mut answer = Vec::new();
    ///         reader.read_to_end(&mut answer).await?;
    ///         Ok(answer)
    ///     };
    ///     Ok(try_join(write, read).await?.1)
    /// }
    /// ```
    pub fn into_split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        (ReadHalf { shared: self.shared.share() }, WriteHalf { shared: self.shared })
    }
}

impl<S> ReadHalf<S> {
    /// Puts a stream together again from its halves.
    ///
    /// # Errors
    /// Gives them back if they are not of one stream.
    pub fn reunite(self, write: WriteHalf<S>) -> Result<TlsStream<S>, ReuniteError<S>> {
        match self.shared.is_same(&write.shared) {
            true => Ok(TlsStream { shared: self.shared }),
            false => Err(ReuniteError(self, write)),
        }
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsStream")
            .field("version", &self.protocol_version())
            .field("alpn", &self.alpn_protocol().map(|name| name.escape_ascii().to_string()))
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ReadHalf<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for WriteHalf<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S> fmt::Display for ReuniteError<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the halves are not of one stream")
    }
}

impl<S> Error for ReuniteError<S> {}
