//! A response: its head, and the body as it comes.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, StatusCode, Version};
use http_body::Body as HttpBody;
use http_body_util::BodyDataStream;
use serde::de::DeserializeOwned;
use url::Url;

use super::decode::Content;
use crate::http::Body;
use crate::http::error::{Error, ErrorKind};

/// A response, of which the head is there and the body comes.
///
/// The body is taken as a whole ([`bytes`](Response::bytes), [`text`](Response::text),
/// [`json`](Response::json)) or piece by piece ([`chunk`](Response::chunk),
/// [`bytes_stream`](Response::bytes_stream)). As an [`http::Response`] with a [`Body`] it goes to
/// code that knows nothing of this client, for example out of a server as it came in.
///
/// # Dropping
/// The connection is for the next request once the body has been read to its end. If the response
/// is dropped before, the connection is closed, unless the rest is small and has come; over HTTP/2
/// only the stream is reset.
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) remote: SocketAddr,
    pub(super) content: Content,
    /// How many bytes of the body may be gathered.
    pub(super) limit: u64,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The version of HTTP in which the server has answered.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers. If the body is unpacked, `Content-Encoding` and `Content-Length` are gone,
    /// since they describe what came.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The URL that has answered: the last one of the redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address of the other end: of the server, or of the proxy between.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// How many bytes of the body are still to come, if the server has said so and the body is not
    /// unpacked.
    pub fn content_length(&self) -> Option<u64> {
        self.content.size_hint().exact()
    }

    /// The response if its status says success or redirect, else an error that has the status.
    ///
    /// # Errors
    /// [`ErrorKind::Status`] for 400 to 599.
    pub fn error_for_status(self) -> Result<Response, Error> {
        let status = self.status;
        if status.is_client_error() || status.is_server_error() {
            return Err(Error::of_status(status).at(self.url));
        }
        Ok(self)
    }

    /// The next piece of the body, and `None` at its end. Pieces are as large as they come.
    ///
    /// If the future is dropped, nothing is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Body`], also if the connection ends before the body does; [`ErrorKind::Decode`]
    /// for a body that cannot be unpacked. Both may be [time-outs](Error::is_timeout).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match poll_fn(|context| Pin::new(&mut self.content).poll_frame(context)).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // Trailers, which only the whole response as one of `http` hands on.
                    Ok(_) | Err(_) => (),
                },
            }
        }
    }

    /// The pieces of the body as a stream.
    pub fn bytes_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Unpin + 'static {
        BodyDataStream::new(self.content)
    }

    /// Waits for the whole body.
    ///
    /// # Errors
    /// As [`chunk`](Response::chunk); [`ErrorKind::BodyTooLarge`] if it is longer than
    /// [`ClientBuilder::max_body`](super::ClientBuilder::max_body), 64 MiB by default.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let too_large = |url: &Url, limit| {
            let why = format!("the limit is {limit} bytes; a longer one is read by pieces");
            Err(Error::because(ErrorKind::BodyTooLarge, why).at(url.clone()))
        };
        let announced = self.content.size_hint().lower();
        if announced > self.limit {
            return too_large(&self.url, self.limit);
        }
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else {
            return match first.len() as u64 > self.limit {
                true => too_large(&self.url, self.limit),
                false => Ok(first),
            };
        };
        // What a server announces is not yet memory.
        let room = usize::try_from(announced).map_or(MAX_ROOM, |length| length.min(MAX_ROOM));
        let mut gathered = BytesMut::with_capacity(room.max(first.len() + second.len()));
        gathered.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if (gathered.len() + chunk.len()) as u64 > self.limit {
                return too_large(&self.url, self.limit);
            }
            gathered.extend_from_slice(&chunk);
            next = self.chunk().await?;
        }
        Ok(gathered.freeze())
    }

    /// Waits for the whole body, which is text in UTF-8. What is not valid there becomes U+FFFD;
    /// other character sets are not known here.
    ///
    /// # Errors
    /// As [`bytes`](Response::bytes).
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8(bytes.into())
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Waits for the whole body, which is a value in JSON.
    ///
    /// # Errors
    /// As [`bytes`](Response::bytes); [`ErrorKind::Decode`] if it is no such value.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let url = self.url.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::because(ErrorKind::Decode, error).at(url))
    }
}

/// How much room is made at once for a body of which only the length has come.
const MAX_ROOM: usize = 1 << 20;

impl From<Response> for http::Response<Body> {
    /// The body has no limit then: whoever takes it takes it by pieces.
    fn from(response: Response) -> http::Response<Body> {
        let mut converted = http::Response::new(Body::new(response.content));
        *converted.status_mut() = response.status;
        *converted.version_mut() = response.version;
        *converted.headers_mut() = response.headers;
        converted
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("url", &self.url.as_str())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
