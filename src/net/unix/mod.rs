//! Unix sockets: streams, datagrams, and connections that keep messages apart; unix(7).
//!
//! This file only has names.

mod address;
mod credentials;
mod listener;
mod stream;

pub use credentials::UCred;
pub use listener::UnixListener;
pub use stream::UnixStream;
