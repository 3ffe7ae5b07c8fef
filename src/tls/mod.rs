//! TLS over any stream, for clients and servers, by rustls.
//!
//! [`TlsConnector`] and [`TlsAcceptor`] do the handshake, of TLS 1.3 or 1.2, and yield a
//! [`TlsStream`]. The cryptography is that of the crate ring. [`rustls`] is re-exported, since its
//! types stand in public signatures, and a connector or an acceptor can be made `from` whatever
//! settings it has.
//!
//! A client:
//!
//! ```no_run
//! use std::time::Duration;
//! use annulus::io::{AsyncRead, AsyncWrite};
//! use annulus::net::TcpStream;
//! use annulus::time::timeout;
//! use annulus::tls::TlsConnector;
//!
//! # annulus::block_on(async {
//! let connector = TlsConnector::new();
//! let stream = TcpStream::connect("example.org:443").await?;
//! let handshake = connector.connect("example.org", stream);
//! let mut stream = timeout(Duration::from_secs(10), handshake).await??;
//! stream.write_all("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n").await?;
//! let mut page = Vec::new();
//! stream.read_to_end(&mut page).await?;
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
//!
//! A server and a client that trusts its certificate. A handshake has no time-out of its own, and
//! each is a task, so that a client that says nothing stops nobody else:
//!
//! ```
//! use std::io;
//! use annulus::io::{AsyncRead, AsyncWrite};
//! use annulus::net::{TcpListener, TcpStream};
//! use annulus::tls::{TlsAcceptor, TlsConnector};
//!
//! async fn shout(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
//!     let mut stream = acceptor.accept(stream).await?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?; // to the client's close_notify
//!     stream.write_all(text.to_uppercase()).await?;
//!     stream.shutdown().await
//! }
//!
//! # annulus::block_on(async {
//! // A certificate that signs itself, by the crate rcgen; a real one comes from two files.
//! let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
//! let acceptor = TlsAcceptor::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
//! let connector = TlsConnector::builder().only_roots_pem(made.cert.pem()).build()?;
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! annulus::spawn(async move {
//!     while let Ok((stream, _peer)) = listener.accept().await {
//!         annulus::spawn(shout(acceptor.clone(), stream));
//!     }
//! });
//!
//! let stream = TcpStream::connect(address).await?;
//! let mut stream = connector.connect("localhost", stream).await?;
//! stream.write_all("hello").await?;
//! stream.shutdown().await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "HELLO");
//! # io::Result::Ok(()) }).unwrap();
//! ```
//!
//! # Streams
//! `connect` and `accept` take the streams of this crate. `connect_over` and `accept_over` take any
//! stream with the traits of futures-io, also a [`TlsStream`].
//!
//! # Memory
//! For each connection: the state of rustls and 4 KiB for what is received, up to 18 KiB while a
//! record comes. What is written and not accepted below is at most 64 KiB, and the stream below has
//! its own bound.
//!
//! # What is left out
//! Early data (0-RTT), since an attacker can repeat it. rustls does no renegotiation and no version
//! before 1.2.

mod acceptor;
mod certificates;
mod connector;
mod error;
mod session;
mod shared;
mod stream;
mod traits;

pub use acceptor::{TlsAcceptor, TlsAcceptorBuilder};
pub use connector::{TlsConnector, TlsConnectorBuilder};
pub use rustls;
pub use stream::{ReadHalf, ReuniteError, TlsStream, WriteHalf};
