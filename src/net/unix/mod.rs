//! Unix sockets: streams, datagrams, and connections that keep messages apart; unix(7).
//!
//! This file only has names.

mod credentials;
mod datagram;
mod descriptors;
mod listener;
mod seqpacket;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use seqpacket::{UnixSeqpacket, UnixSeqpacketListener};
pub use stream::UnixStream;
