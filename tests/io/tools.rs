//! A reader and writer of few bytes at a time, and futures that are dropped whenever they wait.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use annulus::Error;
use annulus::buf::{IoBuf, IoBufMut};
use annulus::io::{AsyncRead, AsyncWrite};

/// Gives and takes at most so many bytes at a time.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at_a_time: usize,
    /// A reader fails at the end of its bytes; a writer fails once it has this many.
    pub(crate) fails: Option<usize>,
    /// Each call waits once before it does anything.
    pub(crate) waits: bool,
    has_waited: bool,
    pub(crate) flushes: usize,
    pub(crate) shutdowns: usize,
}

impl Bits {
    pub(crate) fn of(bytes: &[u8], at_a_time: usize) -> Bits {
        Bits { bytes: bytes.to_vec(), at_a_time, ..Bits::default() }
    }

    pub(crate) fn waiting(self) -> Bits {
        Bits { waits: true, ..self }
    }

    pub(crate) fn failing(self, at: usize) -> Bits {
        Bits { fails: Some(at), ..self }
    }

    /// One that is dropped here has done nothing, and the next call goes on.
    async fn wait(&mut self) {
        poll_fn(|context| {
            if !self.waits || self.has_waited {
                self.has_waited = false;
                return Poll::Ready(());
            }
            self.has_waited = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl AsyncRead for Bits {
    async fn read<B: IoBufMut>(&mut self, mut buffer: B) -> Result<(usize, B), Error<B>> {
        self.wait().await;
        if self.bytes.is_empty() && self.fails.is_some() {
            return Err(Error::new(broken(), buffer));
        }
        let count = buffer.put(&self.bytes[..self.at_a_time.min(self.bytes.len())]);
        self.bytes.drain(..count);
        Ok((count, buffer))
    }
}

impl AsyncWrite for Bits {
    async fn write<B: IoBuf>(&mut self, buffer: B) -> Result<(usize, B), Error<B>> {
        self.wait().await;
        let room = self.fails.map_or(usize::MAX, |at| at - self.bytes.len());
        let count = self.at_a_time.min(buffer.init_len()).min(room);
        if count == 0 && buffer.init_len() > 0 {
            return Err(Error::new(broken(), buffer));
        }
        self.bytes.extend_from_slice(&buffer.as_init()[..count]);
        Ok((count, buffer))
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.flushes += 1;
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.shutdowns += 1;
        Ok(())
    }
}

/// Polls a future so many times at the most, then drops it.
pub(crate) async fn polls<F: Future>(future: F, most: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..most {
        if let Poll::Ready(output) = futures_util::poll!(&mut future) {
            return Some(output);
        }
    }
    None
}
