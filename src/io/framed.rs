//! Readers as streams of frames, and writers as sinks of frames.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::sink::Sink;
use futures_util::stream::{FusedStream, Stream};

use super::codec::{Decoder, Encoder, FrameBytes};
use super::read::AsyncRead;
use super::write::AsyncWrite;
use crate::buf::Chunk;

/// How much a sink collects before it waits for it to be written, in bytes.
const COLLECTED: usize = 16 << 10;

/// A read that is under way, which has the reader.
type Reading<R> = Pin<Box<dyn Future<Output = (R, io::Result<Chunk>)>>>;

/// A write, a flush or a shutdown that is under way.
type Writing<W> = Pin<Box<dyn Future<Output = (W, io::Result<()>)>>>;

/// A reader as a stream of frames.
///
/// The read that it waits for is kept in it, so a dropped `next()` loses nothing. Each read from
/// the reader takes one allocation. It ends after an error.
///
/// # Errors
/// Its items: the reader's, and the [`Decoder`]'s.
pub struct FramedRead<R, D> {
    /// `None` while a read is under way, and at the end.
    reader: Option<R>,
    reading: Option<Reading<R>>,
    decoder: D,
    bytes: FrameBytes,
    state: Reads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// More may come.
    Open,
    /// All has come, and the decoder is asked for the last frames.
    AtEnd,
    Ended,
}

impl<R: AsyncRead + 'static, D: Decoder> FramedRead<R, D> {
    /// The frames that the decoder finds in what the reader reads.
    pub fn new(reader: R, decoder: D) -> FramedRead<R, D> {
        FramedRead {
            reader: Some(reader),
            reading: None,
            decoder,
            bytes: FrameBytes::new(),
            state: Reads::Open,
        }
    }

    /// The decoder, to look at.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// The decoder. What it says holds for the next frame.
    pub fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// What has come and belongs to no frame yet.
    pub fn buffer(&self) -> &[u8] {
        &self.bytes
    }

    /// Waits for the read that is under way, if one is, and returns the reader with what has come
    /// and belongs to no frame yet.
    ///
    /// # Errors
    /// That of the read under way. The reader is dropped then.
    pub async fn into_parts(mut self) -> io::Result<(R, Vec<u8>)> {
        if let Some(reading) = self.reading.take() {
            let (reader, read) = reading.await;
            self.bytes.append(read?);
            self.reader = Some(reader);
        }
        let reader = self.reader.expect("a reader is here unless a read is under way");
        Ok((reader, self.bytes.to_vec()))
    }

    /// Waits for the next bytes. Ready with how it went, and at the end with the state changed.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(mut reader) = self.reader.take() {
            self.reading = Some(Box::pin(async move {
                let chunk = reader.read_chunk().await;
                (reader, chunk)
            }));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(())) };
        let (reader, read) = ready!(reading.as_mut().poll(context));
        (self.reading, self.reader) = (None, Some(reader));
        let chunk = read?;
        if chunk.is_empty() {
            self.state = Reads::AtEnd;
        } else {
            self.bytes.append(chunk);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<D::Frame>>> {
        loop {
            let frame = match self.state {
                Reads::Open if self.bytes.suffice() => self.decoder.decode(&mut self.bytes)?,
                Reads::Open => None,
                Reads::AtEnd => return Poll::Ready(self.decoder.decode_end(&mut self.bytes)),
                Reads::Ended => return Poll::Ready(Ok(None)),
            };
            if let Some(frame) = frame {
                self.bytes.begin_frame();
                return Poll::Ready(Ok(Some(frame)));
            }
            ready!(self.poll_read(context))?;
        }
    }
}

impl<R: AsyncRead + 'static, D: Decoder> Stream for FramedRead<R, D> {
    type Item = io::Result<D::Frame>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<D::Frame>>> {
        let item = ready!(self.poll_frame(context)).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.state = Reads::Ended;
        }
        Poll::Ready(item)
    }
}

impl<R: AsyncRead + 'static, D: Decoder> FusedStream for FramedRead<R, D> {
    fn is_terminated(&self) -> bool {
        self.state == Reads::Ended
    }
}

impl<R, D> Unpin for FramedRead<R, D> {}

impl<R, D: fmt::Debug> fmt::Debug for FramedRead<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedRead")
            .field("decoder", &self.decoder)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A writer as a sink of frames.
///
/// `feed` collects frames, up to about 16 KiB, and `flush` and `send` write them. `close` also
/// shuts the writer down. What is under way is kept in it, so a dropped `send()` loses nothing: the
/// next call goes on with it, and each byte is written once. A drop of the sink itself loses what
/// is collected. Each write takes one allocation.
///
/// After an error of the writer every call fails.
///
/// An encoder may take frames of several types, as [`LengthDelimited`](crate::io::LengthDelimited)
/// does. Then `flush` and `close` do not tell of which the sink is meant to be, and name one:
///
/// ```
/// use annulus::io::{FramedWrite, LengthDelimited};
/// use futures_util::SinkExt;
///
/// # annulus::block_on(async {
/// let mut frames = FramedWrite::new(Vec::new(), LengthDelimited::new());
/// frames.feed("one").await?;
/// SinkExt::<&str>::flush(&mut frames).await?;
/// assert_eq!(frames.get_ref().expect("nothing is under way"), b"\0\0\0\x03one");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// The writer's, and the [`Encoder`]'s, after which the sink can be used on.
pub struct FramedWrite<W, E> {
    /// `None` while a write is under way.
    writer: Option<W>,
    writing: Option<Writing<W>>,
    encoder: E,
    bytes: Vec<u8>,
    /// All that went to the writer was flushed.
    is_flushed: bool,
    is_shut_down: bool,
    /// The writer has failed, with this.
    failed: Option<io::ErrorKind>,
}

impl<W: AsyncWrite + 'static, E> FramedWrite<W, E> {
    /// Writes what the encoder makes of frames.
    pub fn new(writer: W, encoder: E) -> FramedWrite<W, E> {
        FramedWrite {
            writer: Some(writer),
            writing: None,
            encoder,
            bytes: Vec::new(),
            is_flushed: true,
            is_shut_down: false,
            failed: None,
        }
    }

    /// The encoder, to look at.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The encoder. What it says holds for the next frame.
    pub fn encoder_mut(&mut self) -> &mut E {
        &mut self.encoder
    }

    /// The writer, to look at. `None` while a write is under way.
    pub fn get_ref(&self) -> Option<&W> {
        self.writer.as_ref()
    }

    /// Waits for what is under way.
    fn poll_writing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing {
            let (writer, written) = ready!(writing.as_mut().poll(context));
            (self.writing, self.writer) = (None, Some(writer));
            if let Err(error) = written {
                self.failed = Some(error.kind());
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(match self.failed {
            None => Ok(()),
            Some(kind) => Err(io::Error::new(kind, "an earlier write of this sink has failed")),
        })
    }

    fn begin(&mut self, write: impl AsyncFnOnce(&mut W) -> io::Result<()> + 'static) {
        if let Some(mut writer) = self.writer.take() {
            self.writing = Some(Box::pin(async move {
                let written = write(&mut writer).await;
                (writer, written)
            }));
        }
    }

    /// Begins to write what is collected.
    fn write_out(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.is_flushed = false;
        self.begin(async move |writer: &mut W| {
            writer.write_all(bytes).await?;
            Ok(())
        });
    }

    fn poll_flushed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_writing(context))?;
            if !self.bytes.is_empty() {
                self.write_out();
            } else if !self.is_flushed {
                self.is_flushed = true;
                self.begin(async |writer: &mut W| writer.flush().await);
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<W: AsyncWrite + 'static, E: Encoder<F>, F> Sink<F> for FramedWrite<W, E> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.len() < COLLECTED && self.failed.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_writing(context))?;
        self.write_out();
        // The next frames are collected while these are written.
        match self.poll_writing(context) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: F) -> io::Result<()> {
        let this = &mut *self;
        let before = this.bytes.len();
        let encoded = this.encoder.encode(frame, &mut this.bytes);
        if encoded.is_err() {
            this.bytes.truncate(before);
        }
        encoded
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flushed(context))?;
        if !self.is_shut_down {
            self.is_shut_down = true;
            self.begin(async |writer: &mut W| writer.shutdown().await);
        }
        self.poll_writing(context)
    }
}

impl<W, E> Unpin for FramedWrite<W, E> {}

impl<W, E: fmt::Debug> fmt::Debug for FramedWrite<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedWrite")
            .field("encoder", &self.encoder)
            .field("collected", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
