//! The body of a request on its way, and a watch on whether it moves.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::http::Body;
use crate::http::error::{Error, ErrorKind};
use crate::sys;

/// How far a request has come.
pub(super) struct Movement {
    /// When something of the body last went out.
    last: Cell<Instant>,
    /// The connection has taken all of it.
    is_sent: Cell<bool>,
}

impl Movement {
    pub(super) fn new(body: &Body) -> Movement {
        Movement { last: Cell::new(sys::now()), is_sent: Cell::new(body.is_end_stream()) }
    }

    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }

    /// What is being done.
    pub(super) fn step(&self) -> ErrorKind {
        match self.is_sent.get() {
            true => ErrorKind::Head,
            false => ErrorKind::Send,
        }
    }
}

/// The body of a request as a connection takes it.
pub(super) struct Outgoing {
    body: Body,
    movement: Rc<Movement>,
}

impl Outgoing {
    pub(super) fn new(body: Body, movement: Rc<Movement>) -> Outgoing {
        Outgoing { body, movement }
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.movement.last.set(sys::now());
            self.movement.is_sent.set(self.body.is_end_stream());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
