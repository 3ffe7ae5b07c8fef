//! Runs a program on a subject and refuses the first answer that breaks a promise.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::account::{Account, Refusal, pattern};
use super::common::{Random, poll_in_task, turns};
use super::program::{Program, Step};
use super::subject::{Abilities, Family, Peer, Subject, Taken};

/// How long to wait for what must come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Turns of the loop, where nobody but the loop does anything.
    Turns(usize),
    /// A time that is passed only by what never comes, where the kernel has a part.
    Time(Duration),
}

/// A flush that is woken so often without an end has none.
const MOST_POLLS: usize = 100_000;

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A poll that has answered `Pending`: who must be woken, and how often it was before.
#[derive(Clone)]
struct Waiting {
    wakes: Arc<Wakes>,
    before: usize,
}

impl Waiting {
    fn is_woken(&self) -> bool {
        self.wakes.0.load(Ordering::Relaxed) > self.before
    }
}

/// One direction as its user sees it.
#[derive(Default)]
struct Direction {
    wakes: Arc<Wakes>,
    waiting: Option<Waiting>,
}

impl Direction {
    fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let before = self.wakes.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.wakes));
        let answer = poll(&mut Context::from_waker(&waker));
        self.waiting = match answer {
            Poll::Pending => Some(Waiting { wakes: Arc::clone(&self.wakes), before }),
            Poll::Ready(_) => None,
        };
        answer
    }

    fn is_woken(&self) -> bool {
        self.waiting.as_ref().is_none_or(Waiting::is_woken)
    }
}

struct Runner {
    subject: Subject,
    peer: Box<dyn Peer>,
    account: Account,
    reading: Direction,
    writing: Direction,
    random: Random,
    abilities: Abilities,
    patience: Patience,
}

/// Runs a program, and tells which step was refused, and why.
pub(crate) async fn run(
    program: &Program,
    (subject, peer): (Subject, Box<dyn Peer>),
    abilities: Abilities,
    patience: Patience,
) -> Result<(), (usize, Refusal)> {
    let mut runner = Runner {
        subject,
        peer,
        account: Account::default(),
        reading: Direction::default(),
        writing: Direction::default(),
        random: Random::new(program.seed),
        abilities,
        patience,
    };
    for (index, step) in program.steps.iter().enumerate() {
        runner.step(step).await.map_err(|refusal| (index, refusal))?;
    }
    runner.end().await.map_err(|refusal| (program.steps.len(), refusal))
}

impl Runner {
    async fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        match *step {
            Step::Read { by, room } => return self.read(by, room).map(drop),
            Step::Fill { by, take, again } => return self.fill(by, take, again),
            Step::Write { by, length } => return self.write(by, &[length], false),
            Step::WriteVectored { by, ref lengths } => return self.write(by, lengths, true),
            Step::Flush { by } => return self.flush(by).map(drop),
            Step::Shutdown { by } => return self.shut_down(by).map(drop),
            Step::PeerReceives { most } => return self.peer_receives(most).map(drop),
            Step::PeerCloses => return self.peer_closes(),
            Step::Settle { receives } => return self.settle(receives).await,
            Step::ReadAll => return self.read_all().await,
            Step::FlushAll { compares } => return self.flush_all(compares).await,
            Step::ShutdownAll => return self.shut_down_all().await,
            Step::WriteUntilTold => return self.write_until_told().await,
            Step::TakeOut => return self.take_out().await,
            Step::NewReadWaker => self.reading.wakes = Arc::default(),
            Step::NewWriteWaker => self.writing.wakes = Arc::default(),
            Step::PeerSends { length } => self.peer_sends(length),
            Step::PeerFinishes => self.peer_finishes(),
            Step::PeerResets => self.peer_resets(),
            Step::Turns { count } => turns(count).await,
            Step::Split => self.split(),
            Step::DropReading => self.drop_reading(),
            Step::DropWriting => self.drop_writing(),
        }
        Ok(())
    }

    fn read(&mut self, by: Family, room: usize) -> Result<Poll<()>, Refusal> {
        let Some(reading) = self.subject.reading() else { return Ok(Poll::Ready(())) };
        let mut buffer = vec![0; room];
        let answer = self.reading.poll(|context| reading.poll_read(by, context, &mut buffer));
        if room == 0 {
            // Whatever it says, it may not count.
            self.reading.waiting = None;
            return match answer {
                Poll::Ready(Ok(1..)) => Err("a read of nothing has bytes".into()),
                Poll::Ready(Err(ref error)) => {
                    self.account.read(&Poll::Ready(Err(error.kind().into()))).map(Poll::Ready)
                }
                _ => Ok(answer.map(drop)),
            };
        }
        let answer = answer.map_ok(|count| &buffer[..count]);
        self.account.read(&answer)?;
        Ok(answer.map(drop))
    }

    fn fill(&mut self, by: Family, take: usize, again: bool) -> Result<(), Refusal> {
        let Some(reading) = self.subject.reading() else { return Ok(()) };
        let mut length = 0;
        for _ in 0..=usize::from(again) {
            let answer = self.reading.poll(|context| {
                // What is looked at, and not what is taken.
                reading.poll_fill_buf(by, context).map_ok(<[u8]>::to_vec)
            });
            match &answer {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                    self.account.compare(bytes)?;
                    if self.account.read_is_over() {
                        return Err("bytes after the end".into());
                    }
                    if bytes.len() < length {
                        return Err("bytes that were looked at are gone".into());
                    }
                    length = bytes.len();
                }
                _ if length > 0 => return Err("bytes that were looked at are gone".into()),
                other => {
                    let other = match other {
                        Poll::Ready(Ok(bytes)) => Poll::Ready(Ok(&bytes[..])),
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error.kind().into())),
                        Poll::Pending => Poll::Pending,
                    };
                    return self.account.read(&other);
                }
            }
        }
        let count = length * take / 100;
        reading.consume(by, count);
        self.account.delivered += count as u64;
        Ok(())
    }

    fn write(&mut self, by: Family, lengths: &[usize], vectored: bool) -> Result<(), Refusal> {
        let idle = self.is_idle();
        let Some(writing) = self.subject.writing() else { return Ok(()) };
        let total = lengths.iter().sum();
        let bytes = pattern(self.account.accepted, total);
        let answer = self.writing.poll(|context| match vectored {
            false => writing.poll_write(by, context, &bytes),
            true => {
                let mut rest = &bytes[..];
                let slices = lengths.iter().map(|&length| {
                    let (slice, behind) = rest.split_at(length);
                    rest = behind;
                    IoSlice::new(slice)
                });
                writing.poll_write_vectored(by, context, &slices.collect::<Vec<_>>())
            }
        });
        if !writing.is_write_vectored(by) {
            return Err("writes are said not to be vectored".into());
        }
        if let Poll::Ready(Ok(count)) = answer
            && idle
            && count < total.min(ROOM_WHEN_IDLE)
        {
            return Err(format!("an idle writer takes {count} of {lengths:?}"));
        }
        self.account.write(total, &answer)
    }

    /// Nothing that was written is on its way.
    fn is_idle(&self) -> bool {
        self.account.received == self.account.accepted && self.writing.waiting.is_none()
    }

    fn flush(&mut self, by: Family) -> Result<Poll<()>, Refusal> {
        let Some(writing) = self.subject.writing() else { return Ok(Poll::Ready(())) };
        let answer = self.writing.poll(|context| writing.poll_flush(by, context));
        self.account.flush(&answer)?;
        Ok(answer.map(drop))
    }

    fn shut_down(&mut self, by: Family) -> Result<Poll<()>, Refusal> {
        let Some(writing) = self.subject.writing() else { return Ok(Poll::Ready(())) };
        let answer = self.writing.poll(|context| writing.poll_shutdown(by, context));
        self.account.shutdown(&answer)?;
        Ok(answer.map(drop))
    }

    fn peer_sends(&mut self, length: usize) {
        if !(self.account.finished || self.account.peer_is_gone()) {
            let bytes = pattern(self.account.sent, length);
            self.account.sent += self.peer.send(&bytes) as u64;
        }
    }

    fn peer_receives(&mut self, most: usize) -> Result<Taken, Refusal> {
        if self.account.peer_is_gone() || self.account.peer_saw_end {
            return Ok(Taken::Nothing);
        }
        let taken = self.peer.receive(most);
        self.account.received(&taken)?;
        Ok(taken)
    }

    /// The peer takes all that has come.
    fn peer_receives_all(&mut self) -> Result<(), Refusal> {
        while let Taken::Bytes(_) = self.peer_receives(1 << 16)? {}
        Ok(())
    }

    fn peer_finishes(&mut self) {
        if !self.account.peer_is_gone() {
            self.peer.finish();
            self.account.finished = true;
        }
    }

    fn peer_closes(&mut self) -> Result<(), Refusal> {
        self.peer_receives_all()?;
        if !self.account.peer_is_gone() {
            self.peer.close();
            self.account.closed = true;
        }
        Ok(())
    }

    fn peer_resets(&mut self) {
        if !self.account.peer_is_gone() {
            self.account.reset_met_bytes = self.account.accepted > self.account.received;
            self.peer.reset();
            self.account.reset = true;
        }
    }

    /// Turns the loop until something holds.
    async fn until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&mut Self) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        let start = Instant::now();
        for turn in 0.. {
            if holds(self).await? {
                return Ok(());
            }
            let is_over = match self.patience {
                Patience::Turns(most) => turn >= most,
                Patience::Time(most) => start.elapsed() > most,
            };
            if is_over {
                return Err(format!("{what}; {:?}", self.account));
            }
            turns(1).await;
            if turn > 100 {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Everything that was accepted has come to the peer, or never will.
    fn has_arrived(&self) -> bool {
        self.account.peer_is_gone() || self.account.received == self.account.accepted
    }

    async fn settle(&mut self, receives: bool) -> Result<(), Refusal> {
        if receives {
            self.until("bytes that were accepted do not arrive", async |runner| {
                runner.peer_receives_all()?;
                Ok(runner.has_arrived())
            })
            .await?;
            self.until("a write, flush or shutdown is not woken", async |runner| {
                Ok(runner.writing.is_woken())
            })
            .await?;
            let ends = self.abilities.shuts_down && self.account.shutdown_done;
            if ends && !self.account.peer_is_gone() {
                self.until("the shutdown does not arrive", async |runner| {
                    runner.peer_receives_all()?;
                    Ok(runner.account.peer_saw_end)
                })
                .await?;
            }
        }
        if self.account.is_readable() {
            self.until("a read is not woken", async |runner| Ok(runner.reading.is_woken())).await?;
        }
        Ok(())
    }

    /// Reads all that the peer has sent, and its end if it has ended.
    async fn read_all(&mut self) -> Result<(), Refusal> {
        let is_done = |account: &Account| {
            let ends = account.finished || account.peer_is_gone();
            account.read_is_over() || !account.unread() && !ends
        };
        while self.subject.reading().is_some() && !is_done(&self.account) {
            let by = Family::ALL[self.random.below(3)];
            if self.random.chance(2) {
                let room = self.random.up_to(8000);
                let _ = self.read(by, room)?;
            } else {
                self.fill(by, 100, false)?;
            }
            self.until("a read is not woken", async |runner| Ok(runner.reading.is_woken())).await?;
        }
        // The end stays.
        if self.account.read_is_over() {
            let _ = self.read(Family::ALL[self.random.below(3)], 10)?;
        }
        Ok(())
    }

    async fn flush_all(&mut self, compares: bool) -> Result<(), Refusal> {
        let by = Family::ALL[self.random.below(3)];
        self.poll_until_ready("a flush", async |runner| runner.flush(by)).await?;
        if compares && self.subject.writing().is_some() && !self.account.write_failed {
            // No turn: what is missing now has not been sent.
            let start = Instant::now();
            while !self.has_arrived() {
                self.peer_receives_all()?;
                let is_over = match self.patience {
                    Patience::Turns(_) => !self.has_arrived(),
                    Patience::Time(most) => start.elapsed() > most,
                };
                if is_over {
                    return Err(format!(
                        "a flush has ended, and bytes are missing; {:?}",
                        self.account
                    ));
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    async fn shut_down_all(&mut self) -> Result<(), Refusal> {
        let by = Family::ALL[self.random.below(3)];
        self.poll_until_ready("a shutdown", async |runner| runner.shut_down(by)).await?;
        self.settle(true).await
    }

    async fn write_until_told(&mut self) -> Result<(), Refusal> {
        if !self.account.peer_is_gone()
            || self.account.shutdown_begun
            || self.subject.writing().is_none()
        {
            return Ok(());
        }
        let by = Family::ALL[self.random.below(3)];
        self.until("a writer is not told that the peer has gone", async |runner| {
            if runner.writing.is_woken() {
                let length = runner.random.up_to(3000);
                runner.write(by, &[length], false)?;
            }
            Ok(runner.account.write_failed)
        })
        .await
    }

    /// Polls with waits for wakes between, while the peer reads.
    async fn poll_until_ready(
        &mut self,
        what: &str,
        mut poll: impl AsyncFnMut(&mut Self) -> Result<Poll<()>, Refusal>,
    ) -> Result<(), Refusal> {
        for _ in 0..MOST_POLLS {
            if poll(self).await?.is_ready() {
                return Ok(());
            }
            self.until(&format!("{what} is not woken"), async |runner| {
                runner.peer_receives_all()?;
                Ok(runner.writing.is_woken())
            })
            .await?;
        }
        Err(format!("{what} has no end"))
    }

    fn split(&mut self) {
        self.subject = match std::mem::replace(&mut self.subject, Subject::gone()) {
            Subject::Whole(whole) => {
                self.forget_wakers();
                let (reading, writing) = whole.split();
                Subject::Halves(Some(reading), Some(writing))
            }
            halves => halves,
        };
    }

    /// What is shut down or broken is not asked again.
    async fn take_out(&mut self) -> Result<(), Refusal> {
        let is_over = self.account.shutdown_begun || self.account.write_failed;
        if is_over || !matches!(self.subject, Subject::Whole(_)) {
            return Ok(());
        }
        self.forget_wakers();
        let taken = std::mem::replace(&mut self.subject, Subject::gone());
        let Subject::Whole(whole) = taken else { unreachable!("it was looked at") };
        let mut remaking = whole.remake();
        let mut remade = None;
        self.until("the stream does not come out of the adapter", async |runner| {
            runner.peer_receives_all()?;
            if let Poll::Ready(result) = poll_in_task(&mut remaking).await {
                remade = Some(result);
            }
            Ok(remade.is_some())
        })
        .await?;
        match remade {
            Some(Ok(whole)) => {
                self.subject = Subject::Whole(whole);
                self.account.was_taken_out();
            }
            Some(Err(error)) => {
                self.account.write(1, &Poll::Ready(Err(error)))?;
                (self.account.reading_dropped, self.account.writing_dropped) = (true, true);
            }
            None => {}
        }
        Ok(())
    }

    /// Who has the value polls again: nobody waits on what it was before.
    fn forget_wakers(&mut self) {
        self.reading.waiting = None;
        self.writing.waiting = None;
    }

    fn drop_reading(&mut self) {
        if let Subject::Halves(reading, _) = &mut self.subject
            && reading.take().is_some()
        {
            self.reading.waiting = None;
            self.account.reading_dropped = true;
        }
    }

    fn drop_writing(&mut self) {
        if let Subject::Halves(_, writing) = &mut self.subject
            && writing.take().is_some()
        {
            self.writing.waiting = None;
            self.account.writing_dropped = true;
        }
    }

    /// Drops what is left: all that was accepted arrives, and then the end.
    async fn end(mut self) -> Result<(), Refusal> {
        self.forget_wakers();
        let had_writer = self.subject.writing().is_some() || self.account.writing_dropped;
        self.subject = Subject::gone();
        (self.account.reading_dropped, self.account.writing_dropped) = (true, true);
        if !had_writer || self.account.peer_is_gone() {
            return Ok(());
        }
        self.until("the end does not arrive after a drop", async |runner| {
            runner.peer_receives_all()?;
            Ok(runner.account.peer_saw_end)
        })
        .await
    }
}

/// What a writer takes at once that has nothing to do.
const ROOM_WHEN_IDLE: usize = 4096;
