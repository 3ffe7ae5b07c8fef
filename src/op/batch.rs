//! Several datagrams in one submission, as one future.
//!
//! The ring has no sendmmsg(2), and needs none: entries that are queued in one go are submitted by
//! one system call.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::message::{MessageOptions, SendMessage};
use crate::buf::{Error, IoBuf};
use crate::inflight::{Handle, Op};

/// The future of [`send_batch`](crate::net::UdpSocket::send_batch).
#[must_use = "a batch does nothing until it is awaited"]
pub struct SendBatch<'h, B: IoBuf> {
    sends: Vec<Sending<'h, B>>,
    is_done: bool,
}

/// What became of one datagram of a batch.
type Sent<B> = Result<(usize, B), Error<B>>;

enum Sending<'h, B: IoBuf> {
    Running(Op<'h, SendMessage<B>>),
    Ended(Sent<B>),
}

impl<'h, B: IoBuf> SendBatch<'h, B> {
    pub(crate) fn new(
        socket: &'h Handle,
        messages: impl IntoIterator<Item = (B, MessageOptions)>,
    ) -> SendBatch<'h, B> {
        let sends = messages
            .into_iter()
            .map(|(buffer, options)| Sending::Running(SendMessage::op(socket, buffer, &options)));
        SendBatch { sends: sends.collect(), is_done: false }
    }
}

impl<B: IoBuf> Future for SendBatch<'_, B> {
    type Output = Vec<Sent<B>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<Sent<B>>> {
        assert!(!self.is_done, "a batch was polled again after it had yielded its output");
        let mut is_pending = false;
        for send in &mut self.sends {
            if let Sending::Running(operation) = send {
                match Pin::new(operation).poll(context) {
                    Poll::Ready(sent) => *send = Sending::Ended(sent),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending {
            return Poll::Pending;
        }
        self.is_done = true;
        let ended = std::mem::take(&mut self.sends).into_iter().filter_map(|send| match send {
            Sending::Ended(sent) => Some(sent),
            Sending::Running(_) => None,
        });
        Poll::Ready(ended.collect())
    }
}

impl<B: IoBuf> Unpin for SendBatch<'_, B> {}

impl<B: IoBuf> fmt::Debug for SendBatch<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBatch").field("sends", &self.sends.len()).finish()
    }
}
