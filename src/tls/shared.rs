//! A connection that a stream, its halves and a task share, and the promise to send.
//!
//! Bytes are accepted only together with the promise to send them. rustls encrypts what it is
//! given, and the stream below may accept only a part of that. What remains is sent by a task,
//! the drain, which begins then and ends when nothing remains. So nothing waits for a flush, and
//! a dropped stream sends what it has accepted. At most times there is no such task.
//!
//! # Who polls the writing direction of the stream below
//! The drain while there is one, else whoever writes. The stream below wakes only the last that
//! has polled it. So whoever waits to write leaves a waker here, too, and the drain wakes it when
//! it ends.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::Connection;

use super::error::is_shut_down;
use super::session::{Sent, Session};
use crate::runtime::spawn;

pub(super) struct Shared<S>(Rc<RefCell<State<S>>>);

struct State<S> {
    session: Session<S>,
    outbound: Outbound,
    ending: Ending,
    /// Who waits to write, to flush or to shut down.
    writer: Option<Waker>,
}

/// Who sends what rustls has encrypted.
enum Outbound {
    /// There is nothing to send.
    Idle,
    /// A task; the last messages of a handshake it also flushes.
    Draining { flushes: bool },
    /// Nobody: the stream below has failed, and the next call says so.
    Lost(io::Error),
    /// Nobody, and that was said.
    Broken,
}

/// How far the writing direction has been ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// close_notify is on its way, and nothing more is accepted.
    Notified,
    /// The stream below is shut down, too.
    Done,
}

impl<S> Shared<S> {
    pub(super) fn stream(&self) -> Ref<'_, S> {
        Ref::map(self.0.borrow(), |state| &state.session.stream)
    }

    pub(super) fn connection(&self) -> Ref<'_, Connection> {
        Ref::map(self.0.borrow(), |state| &state.session.connection)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Shared<S> {
    /// What a handshake leaves.
    pub(super) fn new(session: Session<S>, sent: Sent) -> Self {
        let (outbound, ending) = (Outbound::Idle, Ending::Open);
        let state = State { session, outbound, ending, writer: None };
        let shared = Self(Rc::new(RefCell::new(state)));
        if let Sent::NotAll = sent {
            shared.drain(&mut shared.0.borrow_mut(), true);
        }
        shared
    }

    /// Waits for plaintext and gives it to `take`, which says how much it took and is called until
    /// it takes less than there is. At the clean end it gets an empty slice.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        take: impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        let ready = state.session.poll_plaintext(context);
        // What came may ask for an answer: new keys, an alert.
        self.drain_if_needed(&mut state);
        ready!(ready)?;
        state.session.take_plaintext(take);
        Poll::Ready(Ok(()))
    }

    /// Accepts what rustls has room for, and sends it.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.ending != Ending::Open {
            return Poll::Ready(Err(is_shut_down()));
        }
        ready!(state.poll_turn(context))?;
        let count = state.session.connection.writer().write_vectored(slices)?;
        self.send(&mut state, context)?;
        Poll::Ready(Ok(count))
    }

    /// Ready when the stream below has sent all.
    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_turn(context))?;
        state.poll_below(context, |stream, context| stream.poll_flush(context))
    }

    /// Sends close_notify, then ends the writing direction of the stream below.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.ending == Ending::Done {
            return Poll::Ready(Ok(()));
        }
        ready!(state.poll_turn(context))?;
        if state.ending == Ending::Open {
            state.ending = Ending::Notified;
            state.session.connection.send_close_notify();
            self.send(&mut state, context)?;
            ready!(state.poll_turn(context))?;
        }
        match ready!(state.poll_below(context, |stream, context| stream.poll_close(context))) {
            // The peer has gone already.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => {
                state.ending = Ending::Done;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Sends what rustls has encrypted: as much as the stream below accepts at once, and the rest
    /// by the drain.
    fn send(&self, state: &mut State<S>, context: &mut Context<'_>) -> io::Result<()> {
        match state.session.poll_send(context) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => {
                state.outbound = Outbound::Broken;
                Err(error)
            }
            Poll::Pending => {
                self.drain_if_needed(state);
                Ok(())
            }
        }
    }

    fn drain_if_needed(&self, state: &mut State<S>) {
        let is_idle = matches!(state.outbound, Outbound::Idle);
        if is_idle && state.session.connection.wants_write() {
            self.drain(state, false);
        }
    }

    fn drain(&self, state: &mut State<S>, flushes: bool) {
        state.outbound = Outbound::Draining { flushes };
        let shared = self.share();
        drop(spawn(poll_fn(move |context| shared.poll_drain(context))));
    }

    fn poll_drain(&self, context: &mut Context<'_>) -> Poll<()> {
        // Somebody looks at the stream, and may do so across an await: the next turn, then.
        let Ok(mut state) = self.0.try_borrow_mut() else {
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let sent = match state.outbound {
            Outbound::Draining { flushes: true } => state.session.poll_send_and_flush(context),
            _ => state.session.poll_send(context),
        };
        state.outbound = match ready!(sent) {
            Ok(()) => Outbound::Idle,
            Err(error) => Outbound::Lost(error),
        };
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// Ready when the writing direction belongs to whoever asks, and is whole.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Outbound::Draining { .. } = self.outbound {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if let Some(failure) = &self.session.failure {
            return Poll::Ready(Err(failure.to_io()));
        }
        match mem::replace(&mut self.outbound, Outbound::Broken) {
            Outbound::Lost(error) => Poll::Ready(Err(error)),
            Outbound::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            sound => {
                self.outbound = sound;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Polls the writing direction of the stream below, which a drain may take over meanwhile.
    fn poll_below(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let poll = poll(Pin::new(&mut self.session.stream), context);
        if poll.is_pending() {
            self.writer = Some(context.waker().clone());
        }
        poll
    }
}
