//! The halves of a stream, for two tasks: one reads and one writes.

use std::error::Error;
use std::fmt;
use std::net::Shutdown;
use std::rc::Rc;

use super::TcpStream;
use super::stream::{Stream, reading_methods, writing_methods, zero_copy_methods};
use crate::inflight::Handle;
use crate::sys;

/// The reading half of a stream, from its `into_split`.
///
/// Dropping it does nothing to the connection while the other half is there.
#[derive(Debug)]
pub struct ReadHalf<S: Stream> {
    stream: Rc<S>,
}

/// The writing half of a stream, from its `into_split`.
///
/// Dropping it ends the writing direction, so that the peer sees the end of the stream.
#[derive(Debug)]
pub struct WriteHalf<S: Stream> {
    stream: Rc<S>,
    /// Taken apart by `reunite`, so not to be ended.
    reunited: bool,
}

pub(super) fn split<S: Stream>(stream: S) -> (ReadHalf<S>, WriteHalf<S>) {
    let stream = Rc::new(stream);
    (ReadHalf { stream: Rc::clone(&stream) }, WriteHalf { stream, reunited: false })
}

impl<S: Stream> ReadHalf<S> {
    pub(super) fn handle(&self) -> &Handle {
        self.stream.handle()
    }

    reading_methods!();

    /// Puts a stream together again from its halves.
    ///
    /// # Errors
    /// Gives them back if they are not of one stream.
    pub fn reunite(self, mut write: WriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Rc::ptr_eq(&self.stream, &write.stream) {
            return Err(ReuniteError(self, write));
        }
        write.reunited = true;
        drop(write);
        Ok(Rc::into_inner(self.stream).expect("a stream has two halves, and this is the last"))
    }
}

impl<S: Stream> WriteHalf<S> {
    pub(super) fn handle(&self) -> &Handle {
        self.stream.handle()
    }

    writing_methods!();
}

impl WriteHalf<TcpStream> {
    zero_copy_methods!();
}

impl<S: Stream> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        if !self.reunited {
            // A peer that has gone needs no end of stream.
            let _ = sys::shut_down(self.stream.handle(), Shutdown::Write);
        }
    }
}

impl<S: Stream> AsRef<S> for ReadHalf<S> {
    /// The stream, for its addresses and options.
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Stream> AsRef<S> for WriteHalf<S> {
    /// The stream, for its addresses and options.
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

/// Two halves that are not of one stream.
#[derive(Debug)]
pub struct ReuniteError<S: Stream>(pub ReadHalf<S>, pub WriteHalf<S>);

impl<S: Stream> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of one stream")
    }
}

impl<S: Stream + fmt::Debug> Error for ReuniteError<S> {}
