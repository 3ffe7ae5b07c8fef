//! The body of a request or a response: bytes that are there, or that come as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::exec::Anchored;
use crate::runtime::{SendTimer, deadline_after};

use super::error::{Error, ErrorKind, Source};

/// The body of a request or a response, for both directions and both sides.
///
/// It is made of bytes (`"text".into()`), of nothing ([`empty`](Body::empty)), or of a stream
/// ([`from_stream`](Body::from_stream)). One that is received is taken as a whole
/// ([`bytes`](Body::bytes), [`text`](Body::text)), or frame by frame, since it is a
/// [`http_body::Body`].
///
/// ```
/// use annulus::http::Body;
///
/// # annulus::block_on(async {
/// let body = Body::from("four");
/// assert_eq!(body.bytes().await?, "four");
/// # Ok::<(), annulus::http::Error>(()) }).unwrap();
/// ```
///
/// It is `Send`, as routers such as axum's want it. One that is made of a stream or of another body
/// is bound to its thread all the same: polled elsewhere it fails ([`Anchored`]).
///
/// # Dropping
/// The rest of a received body is not read. Over HTTP/1.1 that closes the connection, unless the
/// rest is small and has come; over HTTP/2 it resets the stream.
#[derive(Default)]
pub struct Body {
    content: Content,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    /// Never without bytes.
    Full(Bytes),
    Received(Received),
    Stream(AtHome<dyn Stream<Item = Result<Bytes, Source>>>),
    Other(AtHome<dyn HttpBody<Data = Bytes, Error = Source>>),
}

/// What is not `Send` by itself.
type AtHome<T> = Anchored<Pin<Box<T>>>;

// Routers of axum and the like want bodies that may be sent.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Body>();
};

/// What comes over a connection, and how much of it is allowed.
struct Received {
    incoming: ::hyper::body::Incoming,
    /// How many bytes may still come.
    left: u64,
    /// How long the next part may take, and the wait for it.
    patience: Duration,
    timer: Option<SendTimer>,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Body {
        Body::default()
    }

    /// The items of a stream, one after the other, as they come. Its length is not known before, so
    /// HTTP/1.1 sends it in chunks. An error ends the body, and the peer sees that it is not
    /// complete.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn from_stream<S, T, E>(stream: S) -> Body
    where
        S: Stream<Item = Result<T, E>> + 'static,
        T: Into<Bytes> + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let stream = stream.map_ok(Into::into).map_err(Into::into);
        Body { content: Content::Stream(Anchored::new(Box::pin(stream))) }
    }

    /// Another body as this one, with its length and its trailers.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn new<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Body { content: Content::Other(Anchored::new(Box::pin(body.map_err(Into::into)))) }
    }

    /// A second body with the same bytes. `None` for one whose bytes come only once.
    pub(super) fn try_clone(&self) -> Option<Body> {
        match &self.content {
            Content::Empty => Some(Body::empty()),
            Content::Full(bytes) => Some(bytes.clone().into()),
            Content::Received(_) | Content::Stream(_) | Content::Other(_) => None,
        }
    }

    /// What a connection receives, at most `limit` bytes of it, each part in time.
    pub(super) fn received(
        incoming: ::hyper::body::Incoming,
        limit: u64,
        patience: Duration,
    ) -> Body {
        let received = Received { incoming, left: limit, patience, timer: None };
        Body { content: Content::Received(received) }
    }

    /// Waits for all of it, and returns it as one buffer. It may be as long as the limit of the
    /// server or the client allows.
    ///
    /// # Errors
    /// The body's own: see [`ErrorKind`].
    pub async fn bytes(self) -> Result<Bytes, Error> {
        Ok(self.collect().await?.to_bytes())
    }

    /// Waits for all of it, and returns it as text.
    ///
    /// # Errors
    /// As [`bytes`](Body::bytes); [`ErrorKind::Body`] if it is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes().await?.into())
            .map_err(|error| Error::because(ErrorKind::Body, error))
    }
}

impl Received {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            let patience = self.patience;
            let timer = self.timer.get_or_insert_with(|| SendTimer::new(deadline_after(patience)));
            ready!(timer.poll(context));
            return Poll::Ready(Some(Err(Error::timed_out(
                ErrorKind::Body,
                "body",
                self.patience,
            ))));
        };
        self.timer = None;
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                return Poll::Ready(Some(Err(Error::because(ErrorKind::Body, error))));
            }
        };
        let count = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left.checked_sub(count) {
            None => {
                self.left = 0;
                Poll::Ready(Some(Err(Error::new(ErrorKind::BodyTooLarge))))
            }
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let item = match &mut self.content {
            Content::Empty => None,
            Content::Full(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Received(received) => match ready!(received.poll_frame(context)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                other => other,
            },
            Content::Stream(stream) => match ready!(at_home(stream)?.poll_next(context)) {
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Err(error)) => Some(Err(failed(error))),
                None => None,
            },
            Content::Other(other) => match ready!(at_home(other)?.poll_frame(context)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => Some(Err(failed(error))),
                None => None,
            },
        };
        // An end is for ever, and so is an error.
        self.content = Content::Empty;
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) | Content::Stream(_) => false,
            Content::Received(received) => received.incoming.is_end_stream(),
            Content::Other(other) => other.get().is_some_and(|other| other.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Received(received) => received.incoming.size_hint(),
            Content::Stream(_) => SizeHint::default(),
            Content::Other(other) => {
                other.get().map_or_else(SizeHint::default, |other| other.size_hint())
            }
        }
    }
}

/// What a body is made of, where it may be touched.
fn at_home<T: ?Sized>(anchored: &mut AtHome<T>) -> Result<Pin<&mut T>, Error> {
    let elsewhere = || {
        let sentence = "a body of a stream was polled away from the thread that made it";
        Error::because(ErrorKind::Body, sentence)
    };
    anchored.get_mut().map(Pin::as_mut).ok_or_else(elsewhere)
}

/// An error of this crate stays as it is.
fn failed(error: Source) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::because(ErrorKind::Body, other),
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        if bytes.is_empty() {
            return Body::empty();
        }
        Body { content: Content::Full(bytes) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Body {
        Bytes::from_static(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Body {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = match &self.content {
            Content::Empty => "empty",
            Content::Full(_) => "bytes",
            Content::Received(_) => "received",
            Content::Stream(_) => "stream",
            Content::Other(_) => "another body",
        };
        f.debug_struct("Body").field("content", &content).finish_non_exhaustive()
    }
}
