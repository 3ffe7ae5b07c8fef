//! Unpacking: bodies in gzip, deflate and brotli, as the header `Content-Encoding` names them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::futures::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder};
use bytes::Bytes;
use futures_io::{AsyncBufRead, AsyncRead};
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::arriving::Arriving;
use crate::http::error::{Error, ErrorKind};

/// How many bytes are unpacked at once.
const PIECE: usize = 16 * 1024;

/// The body of a response, as the program gets it. Most are plain, and need no box.
#[allow(clippy::large_enum_variant)]
pub(super) enum Content {
    Plain(Arriving),
    Packed(Box<Unpacking>),
}

/// What the client asks servers for.
pub(super) fn accepted() -> Option<HeaderValue> {
    Some(HeaderValue::from_static("gzip, br, deflate"))
}

/// The body, unpacked if it is packed and the program wants that. The headers say then what the
/// program gets.
pub(super) fn content(body: Arriving, headers: &mut HeaderMap, is_wanted: bool) -> Content {
    // A body in several layers is nobody's habit.
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encoding = match (encodings.next(), encodings.next()) {
        (Some(value), None) if is_wanted && !body.is_end_stream() => value.as_bytes(),
        _ => return Content::Plain(body),
    };
    let is = |name: &str| encoding.eq_ignore_ascii_case(name.as_bytes());
    let source = |body| Source { body, current: Bytes::new(), error: None };
    let decoder = if is("gzip") || is("x-gzip") {
        let mut decoder = GzipDecoder::new(source(body));
        // A stream of gzip may have several members: RFC 1952, section 2.2.
        decoder.multiple_members(true);
        Decoder::Gzip(decoder)
    } else if is("deflate") {
        Decoder::Deflate(ZlibDecoder::new(source(body)))
    } else if is("br") {
        Decoder::Brotli(BrotliDecoder::new(source(body)))
    } else {
        return Content::Plain(body);
    };
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    Content::Packed(Box::new(Unpacking { decoder, stage: Stage::Unpacking }))
}

/// A body that is being unpacked.
pub(super) struct Unpacking {
    decoder: Decoder,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Unpacking,
    /// All is unpacked. The connection has still to say that the body ends there.
    Ending,
    Ended,
}

enum Decoder {
    Gzip(GzipDecoder<Source>),
    Deflate(ZlibDecoder<Source>),
    Brotli(BrotliDecoder<Source>),
}

impl Decoder {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Decoder::Gzip(decoder) => Pin::new(decoder).poll_read(context, buffer),
            Decoder::Deflate(decoder) => Pin::new(decoder).poll_read(context, buffer),
            Decoder::Brotli(decoder) => Pin::new(decoder).poll_read(context, buffer),
        }
    }

    fn source(&mut self) -> &mut Source {
        match self {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
            Decoder::Brotli(decoder) => decoder.get_mut(),
        }
    }
}

impl Unpacking {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.stage == Stage::Unpacking {
            let mut piece = vec![0; PIECE];
            match ready!(self.decoder.poll_read(context, &mut piece)) {
                Ok(0) => self.stage = Stage::Ending,
                Ok(count) => {
                    piece.truncate(count);
                    return Poll::Ready(Some(Ok(piece.into())));
                }
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Poll::Ready(Some(Err(self.why(error))));
                }
            }
        }
        if self.stage == Stage::Ending {
            // More than that would be no part of the packed body, and is not read.
            let rest = ready!(Pin::new(&mut self.decoder.source().body).poll_frame(context));
            self.stage = Stage::Ended;
            if let Some(Err(error)) = rest {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(None)
    }

    /// The connection's own error as it is, else the decoder's.
    fn why(&mut self, error: io::Error) -> Error {
        let source = self.decoder.source();
        let url = source.body.url().clone();
        let own = source.error.take();
        own.unwrap_or_else(|| Error::because(ErrorKind::Decode, error).at(url))
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Content::Plain(body) => Pin::new(body).poll_frame(context),
            Content::Packed(body) => {
                body.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Plain(body) => body.is_end_stream(),
            Content::Packed(body) => body.stage == Stage::Ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Plain(body) => body.size_hint(),
            Content::Packed(_) => SizeHint::default(),
        }
    }
}

/// The packed bytes, for the decoder.
struct Source {
    body: Arriving,
    current: Bytes,
    /// The connection's, of which the decoder is told only that there is one.
    error: Option<Error>,
}

impl AsyncBufRead for Source {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let source = self.get_mut();
        while source.current.is_empty() {
            match ready!(Pin::new(&mut source.body).poll_frame(context)) {
                None => break,
                Some(Ok(frame)) => source.current = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    source.error = Some(error);
                    return Poll::Ready(Err(io::ErrorKind::Other.into()));
                }
            }
        }
        Poll::Ready(Ok(&source.current))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        bytes::Buf::advance(&mut self.current, count);
    }
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(context))?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }
}
