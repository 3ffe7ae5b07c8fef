//! HTTP/1.1 and HTTP/2: a server for any tower service, and a client.

mod body;
mod client;
mod error;
mod server;

pub use body::Body;
pub use error::{Error, ErrorKind};
pub use server::{Listener, PeerAddr, Serve, Served, Server, ServiceFn, serve, service_fn};
