//! The body of a response, under the eyes of its connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::activity::Exchange;
use super::shared::Shared;
use crate::http::error::Source;
use crate::unwind::{catch, forget};

pin_project! {
    /// The body of a service's response, or none, if the response is the server's own.
    pub(super) struct Reply<B> {
        #[pin]
        body: Option<B>,
        exchange: Exchange,
        shared: Rc<Shared>,
    }
}

impl<B> Reply<B> {
    pub(super) fn new(body: Option<B>, mut exchange: Exchange, shared: Rc<Shared>) -> Reply<B> {
        exchange.waits_for_peer(true);
        Reply { body, exchange, shared }
    }
}

impl<B> HttpBody for Reply<B>
where
    B: HttpBody,
    B::Error: Into<Source>,
{
    type Data = B::Data;
    type Error = Source;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Source>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        let frame = match catch(|| body.poll_frame(context)) {
            Ok(frame) => frame,
            Err(payload) => {
                forget(payload);
                this.shared.count(|served| served.panics += 1);
                return Poll::Ready(Some(Err("the body of the response panicked".into())));
            }
        };
        this.exchange.waits_for_peer(frame.is_ready());
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
