//! The bytes of a connection: what the protocols read and write, and what is noted of it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::activity::Activity;
use super::shared::Permit;
use crate::io::{PollRead, PollStream, PollWrite};
use crate::sys;
use crate::tls::TlsStream;

/// What HTTP/2 begins with; RFC 9113, section 3.4. No request of HTTP/1.1 does.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is thrown away at a time at the end of a connection, in bytes.
const THROWN_AWAY: usize = 4 << 10;

/// How often in one poll, so that others come to their turn.
const THROWS: usize = 16;

/// A stream under HTTP.
pub(super) trait Io: Read + Write + Unpin + 'static {
    /// Ends both directions of the socket, whatever is on its way.
    fn cut(&self);
}

impl<S: PollRead + PollWrite> Io for PollStream<S> {
    fn cut(&self) {
        // A peer that has gone needs no end.
        let _ = sys::shut_down(self.get_ref().inbound(), Shutdown::Both);
    }
}

impl<I: Io + AsyncRead + AsyncWrite> Io for TlsStream<I> {
    fn cut(&self) {
        self.get_ref().cut();
    }
}

/// A stream under HTTP, with its notes and its place among the connections.
pub(super) struct Transport<I: Io> {
    io: I,
    /// What was read to learn the protocol, and has not been handed on.
    ahead: Ahead,
    activity: Rc<Activity>,
    has_ended: bool,
    _permit: Permit,
}

/// The protocols, as a connection begins with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

#[derive(Default)]
struct Ahead {
    bytes: [u8; PREFACE.len()],
    taken: usize,
    filled: usize,
}

impl<I: Io> Transport<I> {
    pub(super) fn new(io: I, activity: Rc<Activity>, permit: Permit) -> Transport<I> {
        Transport { io, ahead: Ahead::default(), activity, has_ended: false, _permit: permit }
    }

    /// Which protocol the peer speaks, by its first bytes. Those are read again later.
    ///
    /// # Errors
    /// The stream's; `UnexpectedEof` if it ends before it has begun.
    pub(super) fn poll_version(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Version>> {
        let ahead = &mut self.ahead;
        loop {
            let so_far = &ahead.bytes[..ahead.filled];
            if so_far != &PREFACE[..ahead.filled] {
                return Poll::Ready(Ok(Version::Http1));
            }
            if ahead.filled == PREFACE.len() {
                return Poll::Ready(Ok(Version::Http2));
            }
            let mut buffer = ReadBuf::new(&mut ahead.bytes[ahead.filled..]);
            ready!(Pin::new(&mut self.io).poll_read(context, buffer.unfilled()))?;
            let count = buffer.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ahead.filled += count;
            self.activity.received();
        }
    }

    /// Reads what still comes, and throws it away, until the peer ends its direction. Closing a
    /// socket with unread bytes resets the connection, and the peer may lose the response.
    fn poll_throw_away(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..THROWS {
            let mut bytes = [0; THROWN_AWAY];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(context, buffer.unfilled())) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.wrote(matches!(written, Poll::Ready(Ok(_))));
        written
    }
}

impl<I: Io> Read for Transport<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let ahead = &mut self.ahead;
        if ahead.taken < ahead.filled {
            let count = buffer.remaining().min(ahead.filled - ahead.taken);
            buffer.put_slice(&ahead.bytes[ahead.taken..ahead.taken + count]);
            ahead.taken += count;
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.activity.received();
        Poll::Ready(Ok(()))
    }
}

impl<I: Io> Write for Transport<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.activity.flushed(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.has_ended = true;
            self.activity.end();
        }
        match self.activity.has_unread() {
            true => self.poll_throw_away(context),
            false => Poll::Ready(Ok(())),
        }
    }
}

/// One that was not brought to its end is cut off. Else what the peer does not take would keep the
/// socket, and memory, as long as the peer likes.
impl<I: Io> Drop for Transport<I> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.io.cut();
        }
    }
}
