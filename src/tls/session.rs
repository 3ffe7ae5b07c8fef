//! One TLS connection over one stream: what rustls wants to send and to receive, moved by polls.
//!
//! It knows no task: what has to go on after a poll is `shared.rs`'s affair.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::Connection;

use super::error::{Failure, ended_in_handshake, ended_without_notice, takes_no_more};

/// How often one poll asks the stream for more, until other tasks have a turn. A record of the
/// largest size takes five; records that bring nothing for the program are as many as a peer likes.
const MOST_RECEIVES: usize = 64;

/// How far the last messages of a handshake have come.
pub(super) enum Sent {
    All,
    NotAll,
}

pub(super) struct Session<S> {
    pub(super) connection: Connection,
    pub(super) stream: S,
    /// What ended the connection in both directions.
    pub(super) failure: Option<Failure>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(connection: Connection, stream: S) -> Self {
        Self { connection, stream, failure: None }
    }

    /// Ready when this side knows all that it needs of the other. What it has to say may not be
    /// sent by then, if the peer reads slowly: so it is not asked to read before this side has
    /// ended.
    pub(super) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Sent>> {
        loop {
            // The peer may wait for what is sent, so that comes first. A stream with a buffer of
            // its own has to be told.
            let sent = match self.poll_send_and_flush(context) {
                Poll::Ready(Err(error)) => return self.poll_reason(context, error),
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            };
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(match sent {
                    Poll::Ready(()) => Sent::All,
                    Poll::Pending => Sent::NotAll,
                }));
            }
            // Also while something waits to be sent: with narrow streams both sides may do that.
            let count = ready!(self.poll_receive(context))?;
            if let Some(failure) = &self.failure {
                let error = failure.to_io();
                // The alert, which says the peer why. What becomes of it matters no more.
                let _ = self.poll_send_and_flush(context);
                return Poll::Ready(Err(error));
            }
            if count == 0 {
                return Poll::Ready(Err(ended_in_handshake()));
            }
        }
    }

    /// Why the stream below takes nothing any more: the peer may have said so before it closed the
    /// connection.
    fn poll_reason<T>(
        &mut self,
        context: &mut Context<'_>,
        error: io::Error,
    ) -> Poll<io::Result<T>> {
        for _ in 0..MOST_RECEIVES {
            let received = self.poll_receive(context);
            if let Some(failure) = &self.failure {
                return Poll::Ready(Err(failure.to_io()));
            }
            match received {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ended_in_handshake())),
                Poll::Ready(Ok(_)) => (),
                _ => break,
            }
        }
        Poll::Ready(Err(error))
    }

    /// Ready when there is plaintext to take, or a clean end.
    pub(super) fn poll_plaintext(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..MOST_RECEIVES {
            match self.connection.reader().fill_buf() {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(_) => return Poll::Ready(Err(ended_without_notice())),
            }
            if let Some(failure) = &self.failure {
                return Poll::Ready(Err(failure.to_io()));
            }
            ready!(self.poll_receive(context))?;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the plaintext that is there, piece by piece, until `take` wants no more of it.
    pub(super) fn take_plaintext(&mut self, mut take: impl FnMut(&[u8]) -> usize) {
        let mut reader = self.connection.reader();
        while let Ok(bytes) = reader.fill_buf() {
            let (there, taken) = (bytes.len(), take(bytes));
            reader.consume(taken);
            if taken < there || there == 0 {
                return;
            }
        }
    }

    /// Receives once, and works off what has come; 0 is the end of the stream. What is wrong with
    /// it is in `failure` then.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut stream = Blocking { stream: &mut self.stream, context };
        let count = match self.connection.read_tls(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            result => result?,
        };
        let in_handshake = self.connection.is_handshaking();
        if let Err(cause) = self.connection.process_new_packets() {
            self.failure = Some(Failure::new(cause, in_handshake));
        }
        Poll::Ready(Ok(count))
    }

    /// Ready when the stream below has sent all that rustls has encrypted.
    pub(super) fn poll_send_and_flush(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ready when the stream below has accepted all that rustls has encrypted.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Blocking { stream: &mut self.stream, context };
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut stream) {
                Ok(0) => return Poll::Ready(Err(takes_no_more())),
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A stream in the form in which rustls asks for one: `WouldBlock` in place of `Pending`.
struct Blocking<'a, 'b, S> {
    stream: &'a mut S,
    context: &'a mut Context<'b>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Blocking<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_read(self.context, buffer))
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write_vectored(self.context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
