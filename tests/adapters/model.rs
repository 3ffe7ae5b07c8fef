//! A connection in memory with an adapter of the plain kind: what the adapters of the crate are to
//! be like, and each way to be otherwise that others have had, to be chosen.
//!
//! It answers `Pending` at will, and reads and writes less than it could, as its random numbers
//! have it. Accepted bytes lie in a buffer, and a task of the runtime brings them into the
//! connection, behind the poll that wrote them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::common::Random;
use super::subject::{Family, Peer, Reading, Remade, Subject, Taken, Whole, Writing};

/// What the connection holds in each direction, and the buffer for writing.
const CAPACITY: usize = 10_000;
const LIMIT: usize = 4096;

/// What may be wrong with an adapter. Most of these were found in one that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    ErrorIsToldAsEnd,
    ErrorIsToldForEver,
    WriteErrorIsNeverTold,
    EndDoesNotStay,
    EndWakesNobody,
    ReadOfNothingIsTheEnd,
    ReadTakesBytesAndWaits,
    ConsumeTakesAllOfTheChunk,
    VectoredWriteSendsOneSlice,
    WriteTakesBytesAndWaits,
    FullWriteSaysZero,
    WriteGoesAfterTheShutdown,
    SendsOnlyWithAFlush,
    FlushNeverEnds,
    FlushEndsTooEarly,
    ShutdownSendsNoEnd,
    ShutdownOvertakesBytes,
    SecondShutdownFails,
    UnsentIsLostOnDrop,
    UnreadIsLostWhenTakenOut,
    UnreadIsLostInASplit,
    OneWakerForBothDirections,
    FirstWakerIsKept,
}

impl Fault {
    pub(crate) const ALL: [Fault; 23] = [
        Fault::ErrorIsToldAsEnd,
        Fault::ErrorIsToldForEver,
        Fault::WriteErrorIsNeverTold,
        Fault::EndDoesNotStay,
        Fault::EndWakesNobody,
        Fault::ReadOfNothingIsTheEnd,
        Fault::ReadTakesBytesAndWaits,
        Fault::ConsumeTakesAllOfTheChunk,
        Fault::VectoredWriteSendsOneSlice,
        Fault::WriteTakesBytesAndWaits,
        Fault::FullWriteSaysZero,
        Fault::WriteGoesAfterTheShutdown,
        Fault::SendsOnlyWithAFlush,
        Fault::FlushNeverEnds,
        Fault::FlushEndsTooEarly,
        Fault::ShutdownSendsNoEnd,
        Fault::ShutdownOvertakesBytes,
        Fault::SecondShutdownFails,
        Fault::UnsentIsLostOnDrop,
        Fault::UnreadIsLostWhenTakenOut,
        Fault::UnreadIsLostInASplit,
        Fault::OneWakerForBothDirections,
        Fault::FirstWakerIsKept,
    ];
}

/// One direction of the connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    finished: bool,
    /// Nobody reads any more, or the connection was reset.
    broken: bool,
    reset: bool,
    ends_silently: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn space(&self) -> usize {
        CAPACITY - self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        wake(&mut self.reader);
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let taken = self.bytes.drain(..most.min(self.bytes.len())).collect();
        wake(&mut self.writer);
        taken
    }

    fn finish(&mut self) {
        self.finished = true;
        match self.ends_silently {
            true => self.reader = None,
            false => wake(&mut self.reader),
        }
    }

    fn break_off(&mut self) {
        self.broken = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

type Shared<T> = Rc<RefCell<T>>;

/// A connection: the adapter, which lacks this or nothing, and the peer.
pub(crate) fn connection(seed: u64, fault: Option<Fault>) -> (Subject, Box<dyn Peer>) {
    let (inbound, outbound) = (Shared::<Pipe>::default(), Shared::<Pipe>::default());
    inbound.borrow_mut().ends_silently = fault == Some(Fault::EndWakesNobody);
    let whims = Whims { random: Rc::new(Random::new(seed)), fault, latest: Arc::default() };
    let reader = Reader::new(&inbound, &whims);
    let writer = Writer::new(&outbound, &whims);
    let peer = Other { to: inbound, from: outbound };
    (Subject::Whole(Box::new(Stream { reader, writer })), Box::new(peer))
}

#[derive(Clone)]
struct Whims {
    random: Rc<Random>,
    fault: Option<Fault>,
    /// The only waker, where there is one for both directions.
    latest: Arc<Latest>,
}

impl Whims {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Waits for no reason: the waker is woken at once.
    fn waits(&self, context: &Context<'_>) -> bool {
        let waits = self.random.chance(6);
        if waits {
            context.waker().wake_by_ref();
        }
        waits
    }

    fn keep(&self, slot: &mut Option<Waker>, context: &Context<'_>) {
        if self.has(Fault::OneWakerForBothDirections) {
            let mut latest = self.latest.0.lock().expect("no panic under the lock");
            *latest = Some(context.waker().clone());
            *slot = Some(Waker::from(Arc::clone(&self.latest)));
        } else if !(self.has(Fault::FirstWakerIsKept) && slot.is_some()) {
            *slot = Some(context.waker().clone());
        }
    }
}

struct Reader {
    pipe: Shared<Pipe>,
    whims: Whims,
    chunk: VecDeque<u8>,
    ended: bool,
}

impl Reader {
    fn new(pipe: &Shared<Pipe>, whims: &Whims) -> Reader {
        Reader { pipe: Rc::clone(pipe), whims: whims.clone(), chunk: VecDeque::new(), ended: false }
    }

    /// Ready with a chunk of a byte or more, or with the end.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.chunk.is_empty() || self.ended {
            return Poll::Ready(Ok(()));
        }
        if self.whims.waits(context) {
            return Poll::Pending;
        }
        let mut pipe = self.pipe.borrow_mut();
        if !pipe.bytes.is_empty() {
            let most = self.whims.random.up_to(2 * CAPACITY);
            self.chunk.extend(pipe.take(most));
            return Poll::Ready(Ok(()));
        }
        if pipe.reset {
            self.ended = !self.whims.has(Fault::ErrorIsToldForEver);
            if self.whims.has(Fault::ErrorIsToldAsEnd) {
                return Poll::Ready(Ok(()));
            }
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if pipe.finished {
            if self.whims.has(Fault::EndDoesNotStay) {
                // It says so once, and then waits for more.
                pipe.finished = false;
            } else {
                self.ended = true;
            }
            return Poll::Ready(Ok(()));
        }
        self.whims.keep(&mut pipe.reader, context);
        Poll::Pending
    }
}

impl Reading for Reader {
    fn poll_read(
        &mut self,
        _: Family,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            self.ended |= self.whims.has(Fault::ReadOfNothingIsTheEnd);
            return Poll::Ready(Ok(0));
        }
        std::task::ready!(self.fill(context)?);
        let count = buffer.len().min(self.chunk.len());
        for (place, byte) in buffer.iter_mut().zip(self.chunk.drain(..count)) {
            *place = byte;
        }
        if count > 0
            && self.whims.has(Fault::ReadTakesBytesAndWaits)
            && self.whims.random.chance(10)
        {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_fill_buf(&mut self, _: Family, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        std::task::ready!(self.fill(context)?);
        Poll::Ready(Ok(self.chunk.make_contiguous()))
    }

    fn consume(&mut self, _: Family, count: usize) {
        if self.whims.has(Fault::ConsumeTakesAllOfTheChunk) && count > 0 {
            self.chunk.clear();
        } else {
            self.chunk.drain(..count);
        }
    }
}

/// What the writer and its task share.
#[derive(Default)]
struct Outgoing {
    next: VecDeque<u8>,
    draining: bool,
    failed: bool,
    told: bool,
    shut_down: bool,
    dropped: bool,
    waiter: Option<Waker>,
}

struct Writer {
    pipe: Shared<Pipe>,
    whims: Whims,
    outgoing: Shared<Outgoing>,
}

impl Writer {
    fn new(pipe: &Shared<Pipe>, whims: &Whims) -> Writer {
        Writer { pipe: Rc::clone(pipe), whims: whims.clone(), outgoing: Rc::default() }
    }

    /// Brings what was accepted into the connection, behind this poll.
    fn start(&self, outgoing: &mut Outgoing) {
        if std::mem::replace(&mut outgoing.draining, true) {
            return;
        }
        let (pipe, shared) = (Rc::clone(&self.pipe), Rc::clone(&self.outgoing));
        annulus::spawn(poll_fn(move |context| drain(&pipe, &shared, context)));
    }

    /// What there is to say before anything else.
    fn failure(&self, outgoing: &mut Outgoing) -> io::Result<()> {
        if self.whims.has(Fault::WriteErrorIsNeverTold) || !outgoing.failed {
            return Ok(());
        }
        match std::mem::replace(&mut outgoing.told, true) {
            false => Err(ErrorKind::ConnectionReset.into()),
            true => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn take(&mut self, slices: &[&[u8]], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let outgoing = &mut *self.outgoing.borrow_mut();
        self.failure(outgoing)?;
        if outgoing.shut_down && !self.whims.has(Fault::WriteGoesAfterTheShutdown) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        if self.whims.waits(context) {
            return Poll::Pending;
        }
        let mut free = LIMIT - outgoing.next.len();
        if free == 0 && !self.whims.has(Fault::FullWriteSaysZero) {
            self.whims.keep(&mut outgoing.waiter, context);
            return Poll::Pending;
        }
        let before = outgoing.next.len();
        for slice in slices {
            let count = free.min(slice.len());
            outgoing.next.extend(&slice[..count]);
            free -= count;
            if count > 0 && self.whims.has(Fault::VectoredWriteSendsOneSlice) {
                break;
            }
        }
        let count = outgoing.next.len() - before;
        if !self.whims.has(Fault::SendsOnlyWithAFlush) {
            self.start(outgoing);
        }
        if self.whims.has(Fault::WriteTakesBytesAndWaits) && self.whims.random.chance(5) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }
}

/// One step of the task that brings bytes into the connection.
fn drain(pipe: &Shared<Pipe>, outgoing: &Shared<Outgoing>, context: &mut Context<'_>) -> Poll<()> {
    let (mut pipe, mut outgoing) = (pipe.borrow_mut(), outgoing.borrow_mut());
    if pipe.broken {
        outgoing.failed = true;
        outgoing.next.clear();
    }
    let count = pipe.space().min(outgoing.next.len());
    let bytes: Vec<u8> = outgoing.next.drain(..count).collect();
    pipe.put(&bytes);
    if !outgoing.next.is_empty() {
        pipe.writer = Some(context.waker().clone());
        if count > 0 {
            wake(&mut outgoing.waiter);
        }
        return Poll::Pending;
    }
    outgoing.draining = false;
    if outgoing.dropped {
        pipe.finish();
    }
    wake(&mut outgoing.waiter);
    Poll::Ready(())
}

impl Writing for Writer {
    fn poll_write(
        &mut self,
        _: Family,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(&[bytes], context)
    }

    fn poll_write_vectored(
        &mut self,
        _: Family,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.take(&slices, context)
    }

    fn is_write_vectored(&self, _: Family) -> bool {
        true
    }

    fn poll_flush(&mut self, _: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut *self.outgoing.borrow_mut();
        self.failure(outgoing)?;
        if self.whims.has(Fault::FlushEndsTooEarly) {
            return Poll::Ready(Ok(()));
        }
        if outgoing.next.is_empty() {
            if self.whims.has(Fault::FlushNeverEnds) && !outgoing.shut_down {
                self.whims.keep(&mut outgoing.waiter, context);
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        self.start(outgoing);
        self.whims.keep(&mut outgoing.waiter, context);
        Poll::Pending
    }

    fn poll_shutdown(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.borrow().shut_down {
            return match self.whims.has(Fault::SecondShutdownFails) {
                false => Poll::Ready(Ok(())),
                true => Poll::Ready(Err(ErrorKind::NotConnected.into())),
            };
        }
        if !self.whims.has(Fault::ShutdownOvertakesBytes) {
            std::task::ready!(self.poll_flush(family, context)?);
        }
        self.outgoing.borrow_mut().shut_down = true;
        if !self.whims.has(Fault::ShutdownSendsNoEnd) {
            self.pipe.borrow_mut().finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let outgoing = &mut *self.outgoing.borrow_mut();
        outgoing.dropped = true;
        if self.whims.has(Fault::UnsentIsLostOnDrop) {
            outgoing.next.clear();
        }
        if outgoing.next.is_empty() {
            self.pipe.borrow_mut().finish();
        }
        self.start(outgoing);
    }
}

struct Stream {
    reader: Reader,
    writer: Writer,
}

impl Reading for Stream {
    fn poll_read(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reader.poll_read(family, context, buffer)
    }

    fn poll_fill_buf(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>> {
        self.reader.poll_fill_buf(family, context)
    }

    fn consume(&mut self, family: Family, count: usize) {
        self.reader.consume(family, count);
    }
}

impl Writing for Stream {
    fn poll_write(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer.poll_write(family, context, bytes)
    }

    fn poll_write_vectored(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer.poll_write_vectored(family, context, slices)
    }

    fn is_write_vectored(&self, family: Family) -> bool {
        self.writer.is_write_vectored(family)
    }

    fn poll_flush(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(family, context)
    }

    fn poll_shutdown(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_shutdown(family, context)
    }
}

impl Whole for Stream {
    fn split(mut self: Box<Self>) -> (Box<dyn Reading>, Box<dyn Writing>) {
        if self.reader.whims.has(Fault::UnreadIsLostInASplit) {
            self.reader.chunk.clear();
        }
        (Box::new(self.reader), Box::new(self.writer))
    }

    fn remake(mut self: Box<Self>) -> Remade {
        if self.reader.whims.has(Fault::UnreadIsLostWhenTakenOut) {
            self.reader.chunk.clear();
        }
        Box::pin(async { Ok(self as Box<dyn Whole>) })
    }
}

/// Wakes whoever came last, in either direction.
#[derive(Default)]
struct Latest(Mutex<Option<Waker>>);

impl Wake for Latest {
    fn wake(self: Arc<Self>) {
        let waker = self.0.lock().expect("no panic under the lock").take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The peer.
struct Other {
    to: Shared<Pipe>,
    from: Shared<Pipe>,
}

impl Peer for Other {
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut to = self.to.borrow_mut();
        let count = if to.broken || to.finished { 0 } else { to.space().min(bytes.len()) };
        to.put(&bytes[..count]);
        count
    }

    fn receive(&mut self, most: usize) -> Taken {
        let mut from = self.from.borrow_mut();
        match from.bytes.is_empty() {
            false => Taken::Bytes(from.take(most)),
            true if from.finished => Taken::End,
            true => Taken::Nothing,
        }
    }

    fn finish(&mut self) {
        self.to.borrow_mut().finish();
    }

    fn close(&mut self) {
        self.finish();
        self.from.borrow_mut().break_off();
    }

    fn reset(&mut self) {
        self.to.borrow_mut().reset = true;
        self.to.borrow_mut().break_off();
        self.from.borrow_mut().break_off();
    }
}
