//! The server: connections are accepted, and each of their requests goes to a service.

mod activity;
mod connection;
mod drive;
mod listener;
mod options;
mod peer;
mod reply;
mod respond;
mod run;
mod service_fn;
mod shared;
mod transport;

pub use listener::Listener;
pub use options::Server;
pub use peer::PeerAddr;
pub use run::{Serve, serve};
pub use service_fn::{ServiceFn, service_fn};
pub use shared::Served;
