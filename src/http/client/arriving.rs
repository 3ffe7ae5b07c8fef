//! The body of a response as the connection brings it, under the time-outs of its request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use url::Url;

use super::link::Lease;
use crate::http::error::{Error, ErrorKind};
use crate::sys;
use crate::time::{Sleep, sleep, sleep_until};

/// When a request has to be done, and what it was given for that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

/// The body of a response. It holds the connection until the body has ended.
pub(super) struct Arriving {
    /// With the lease behind it, so that the connection has seen the end of the body when it comes
    /// back. `None` when the body has ended or failed.
    open: Option<(Incoming, Lease)>,
    url: Url,
    deadline: Option<(Sleep, Deadline)>,
    /// How long nothing may come, and the time since when nothing comes.
    idle: Option<(Option<Sleep>, Duration)>,
}

impl Arriving {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        url: Url,
        deadline: Option<Deadline>,
        read_timeout: Option<Duration>,
    ) -> Arriving {
        // The body of a HEAD or of a 204 is there with the head.
        let open = (!incoming.is_end_stream()).then_some((incoming, lease));
        let deadline = deadline.map(|deadline| (sleep_until(deadline.at), deadline));
        Arriving { open, url, deadline, idle: read_timeout.map(|limit| (None, limit)) }
    }

    #[cfg(feature = "http-decompression")]
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Has a time-out passed while nothing came?
    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if let Some((sleep, deadline)) = &mut self.deadline
            && Pin::new(sleep).poll(context).is_ready()
        {
            return Poll::Ready(Error::timed_out(ErrorKind::Body, "the whole", deadline.after));
        }
        if let Some((since, limit)) = &mut self.idle
            && Pin::new(since.get_or_insert_with(|| sleep(*limit))).poll(context).is_ready()
        {
            return Poll::Ready(Error::timed_out(ErrorKind::Body, "the read", *limit));
        }
        Poll::Pending
    }

    /// It has ended, well or not: the connection is free, or closed.
    fn close(&mut self) {
        if let Some((incoming, lease)) = self.open.take() {
            drop(incoming);
            drop(lease);
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some((incoming, _)) = &mut self.open else { return Poll::Ready(None) };
        let error = match Pin::new(&mut *incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_end = incoming.is_end_stream();
                if let Some((since, _)) = &mut self.idle {
                    *since = None;
                }
                match &self.deadline {
                    Some((_, deadline)) if sys::now() >= deadline.at => {
                        Error::timed_out(ErrorKind::Body, "the whole", deadline.after)
                    }
                    _ => {
                        if is_end {
                            self.close();
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => Error::because(ErrorKind::Body, error),
            Poll::Ready(None) => {
                self.close();
                return Poll::Ready(None);
            }
            Poll::Pending => std::task::ready!(self.poll_time(context)),
        };
        self.close();
        Poll::Ready(Some(Err(error.at(self.url.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or(SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}
