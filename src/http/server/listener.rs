//! What a server accepts connections from.

use std::io;

use futures_io::{AsyncRead, AsyncWrite};

use super::peer::PeerAddr;
use super::transport::Io;
use crate::io::PollStream;
use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A [`TcpListener`] or a [`UnixListener`]. No other type can be one.
// Futures of this crate stay on their thread, so nobody asks whether those of a trait are `Send`.
#[allow(async_fn_in_trait, private_bounds, private_interfaces)]
pub trait Listener: Sealed + 'static {}

impl Listener for TcpListener {}
impl Listener for UnixListener {}

/// How connections are accepted.
#[allow(async_fn_in_trait)]
pub(super) trait Sealed {
    type Io: Io + AsyncRead + AsyncWrite;

    /// Waits for the next connection, without setting it up.
    async fn accept(&self) -> io::Result<(Self::Io, Option<PeerAddr>)>;
}

impl Sealed for TcpListener {
    type Io = PollStream<TcpStream>;

    async fn accept(&self) -> io::Result<(Self::Io, Option<PeerAddr>)> {
        let (stream, peer) = self.accept().await?;
        // What is written is written as a whole, so nothing is gained by waiting for more. A peer
        // that has gone already is met by the first read.
        let _ = stream.set_nodelay(true);
        Ok((stream.into_poll(), Some(PeerAddr(peer))))
    }
}

impl Sealed for UnixListener {
    type Io = PollStream<UnixStream>;

    async fn accept(&self) -> io::Result<(Self::Io, Option<PeerAddr>)> {
        let (stream, _mostly_unnamed) = self.accept().await?;
        Ok((stream.into_poll(), None))
    }
}
