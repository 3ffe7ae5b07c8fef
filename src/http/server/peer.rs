//! Who is at the other end of a connection.

use std::net::SocketAddr;

/// The address of the peer: an extension of each request that came over TCP.
///
/// ```
/// use annulus::http::{Body, PeerAddr};
/// use http::{Request, Response};
///
/// async fn whoami(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
///     let peer = request.extensions().get::<PeerAddr>().map(|PeerAddr(peer)| peer.to_string());
///     Ok(Response::new(Body::from(peer.unwrap_or_default())))
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);
