//! Both directions of a stream, for code that polls.

use std::io;
use std::rc::Rc;

use super::reader::PollReader;
use super::source::{PollRead, PollWrite};
use super::writer::PollWriter;

/// A stream for code that polls: what libraries take that are written against the traits of
/// futures-io, tokio or hyper.
#[derive(Debug)]
pub struct PollStream<S: PollRead + PollWrite> {
    pub(super) reader: PollReader<S>,
    pub(super) writer: PollWriter<S>,
}

impl<S: PollRead + PollWrite> PollStream<S> {
    pub(crate) fn new(stream: S) -> PollStream<S> {
        let stream = Rc::new(stream);
        PollStream {
            reader: PollReader::of_shared(Rc::clone(&stream)),
            writer: PollWriter::of_shared(stream),
        }
    }

    /// The stream, for its addresses and options.
    pub fn get_ref(&self) -> &S {
        self.reader.get_ref()
    }

    /// The reading direction.
    pub fn reader(&mut self) -> &mut PollReader<S> {
        &mut self.reader
    }

    /// The writing direction.
    pub fn writer(&mut self) -> &mut PollWriter<S> {
        &mut self.writer
    }

    /// Both directions, for two tasks. Dropping the writer ends its direction, after what it has
    /// taken.
    pub fn into_split(self) -> (PollReader<S>, PollWriter<S>) {
        (self.reader, self.writer.into_half())
    }

    /// Waits until all is written, and returns the stream. What was received and not read waits in
    /// it for the next read.
    ///
    /// # Errors
    /// Those of earlier writes.
    pub async fn into_inner(self) -> io::Result<S> {
        let PollStream { reader, writer } = self;
        let shared = writer.into_shared().await?;
        drop(reader.into_shared());
        Ok(Rc::into_inner(shared).expect("nobody else has the stream once all is written"))
    }
}
