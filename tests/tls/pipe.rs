//! A pair of streams in memory, as narrow and as moody as a test wants them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use crate::common::Random;

#[derive(Default)]
struct OneWay {
    bytes: VecDeque<u8>,
    most: usize,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl OneWay {
    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }
}

/// One end of a pair.
pub(crate) struct Pipe {
    inbound: Rc<RefCell<OneWay>>,
    outbound: Rc<RefCell<OneWay>>,
    moods: Option<Rc<Random>>,
    /// Does the reader still get what comes?
    pub(crate) is_stalled: Rc<Cell<bool>>,
}

/// Two ends; at most so many bytes are on their way in one direction. With moods, transfers are
/// short and are `Pending` without a reason.
pub(crate) fn pair(most: usize, moods: Option<Random>) -> (Pipe, Pipe) {
    let one_way = || Rc::new(RefCell::new(OneWay { most, ..OneWay::default() }));
    let (there, back) = (one_way(), one_way());
    let moods = moods.map(Rc::new);
    let end = |inbound: &Rc<_>, outbound: &Rc<_>| Pipe {
        inbound: Rc::clone(inbound),
        outbound: Rc::clone(outbound),
        moods: moods.clone(),
        is_stalled: Rc::default(),
    };
    (end(&back, &there), end(&there, &back))
}

impl Pipe {
    /// How much of `most` this transfer may move; `None` for `Pending`.
    fn mood(&self, most: usize, context: &mut Context<'_>) -> Option<usize> {
        let Some(random) = &self.moods else {
            return Some(most);
        };
        match random.below(8) {
            0 => {
                context.waker().wake_by_ref();
                None
            }
            1..4 => Some(most.min(random.up_to(50))),
            _ => Some(most),
        }
    }

    /// Puts bytes on their way to the other end, past what is written to this one.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        let mut outbound = self.outbound.borrow_mut();
        outbound.bytes.extend(bytes);
        outbound.wake();
    }

    /// Takes what the other end has written and nobody has read.
    pub(crate) fn intercept(&self) -> Vec<u8> {
        let mut inbound = self.inbound.borrow_mut();
        let bytes = inbound.bytes.drain(..).collect();
        inbound.wake();
        bytes
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut inbound = self.inbound.borrow_mut();
        inbound.reader = Some(context.waker().clone());
        if self.is_stalled.get() || (inbound.bytes.is_empty() && !inbound.ended) {
            return Poll::Pending;
        }
        let most = buffer.len().min(inbound.bytes.len());
        let Some(count) = self.mood(most, context) else {
            return Poll::Pending;
        };
        for (place, byte) in buffer.iter_mut().zip(inbound.bytes.drain(..count)) {
            *place = byte;
        }
        inbound.wake();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outbound = self.outbound.borrow_mut();
        if outbound.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        outbound.writer = Some(context.waker().clone());
        let room = outbound.most.saturating_sub(outbound.bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        let Some(count) = self.mood(room.min(bytes.len()), context) else {
            return Poll::Pending;
        };
        outbound.bytes.extend(&bytes[..count]);
        outbound.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.mood(1, context) {
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbound = self.outbound.borrow_mut();
        outbound.ended = true;
        outbound.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    /// As a socket: the other end reads the end, and its writes fail.
    fn drop(&mut self) {
        for way in [&self.inbound, &self.outbound] {
            let mut way = way.borrow_mut();
            way.ended = true;
            way.wake();
        }
    }
}
