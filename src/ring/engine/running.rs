//! A request between its submission and its last completion, and how far it comes by itself.
//!
//! It is tried at once. If it would wait, its descriptor is watched. If no event tells when it can
//! go on, a worker has it. A multishot request makes a bounded number of shots before the others
//! have their turn.

use std::time::Duration;

use super::completions::Completions;
use super::groups::{Buffer, Groups};
use super::leeway;
use super::timers::Due;
use crate::ring::request::{Call, EntryFlags, Modifiers, Poll, Request, Submission, TransferCall};
use crate::ring::seam::{COMPLETION_BUFFER, COMPLETION_MORE, Completion};
use crate::ring::world::{Attempt, Interest, RequestKey, Watch, World};

/// Some requests are tried again after a pause, since no event tells when they would succeed. The
/// pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// A request in flight.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) key: RequestKey,
    pub(super) token: u64,
    pub(super) flags: EntryFlags,
    pub(super) request: Request,
    pub(super) modifiers: Modifiers,
    pub(super) waits_for: WaitsFor,
    /// The world announces events to it.
    pub(super) watched: bool,
    /// A cancel found it on a worker's thread. It ends with the worker's result.
    pub(super) cancelled: bool,
    /// It has been tried, or it has waited for its first attempt.
    tried: bool,
    /// The bytes that are through, if it goes on until all are.
    pub(super) done: u32,
    /// The bytes that it asked for.
    asked: u32,
    /// The provided buffer that it has taken.
    buffer: Option<Buffer>,
    pause: Duration,
    /// What starts after it.
    pub(super) next: Option<RequestKey>,
    /// The linked timeout that limits it; or, of a linked timeout, the request that it limits.
    pub(super) partner: Option<RequestKey>,
}

/// What does it wait for?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// For those before it in its chain.
    Linked,
    /// For its turn.
    Ready,
    /// For an event on its descriptor.
    Watching,
    /// For a worker.
    Working,
    /// For an instant.
    Timed(Due),
}

/// How far has it come?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// To its end: the result and the flags of its last completion.
    Ended(i32, u32),
    Waits(WaitsFor),
    /// It is to be tried again after a pause.
    Pauses(Duration),
}

/// The parts of the ring that a request needs to come further.
pub(super) struct Means<'a> {
    pub(super) world: &'a mut dyn World,
    pub(super) groups: &'a mut Groups,
    pub(super) completions: &'a mut Completions,
}

impl Running {
    pub(super) fn new(key: RequestKey, submission: Submission) -> Running {
        let asked = submission.request.length();
        Running {
            key,
            token: submission.token,
            flags: submission.flags,
            request: submission.request,
            modifiers: submission.modifiers,
            waits_for: WaitsFor::Ready,
            watched: false,
            cancelled: false,
            tried: false,
            done: 0,
            asked,
            buffer: None,
            pause: FIRST_PAUSE,
            next: None,
            partner: None,
        }
    }

    pub(super) fn completion(&self, result: i32, flags: u32) -> Completion {
        Completion { token: self.token, result, flags }
    }

    /// The result of a worker. `None`: the worker came too late, and the request is tried again,
    /// unless it was cancelled.
    pub(super) fn worked(&self, result: i32) -> Option<Attempt> {
        match result {
            e if e == -libc::EAGAIN => self.cancelled.then_some(Attempt::Done(-libc::ECANCELED)),
            result => Some(Attempt::Done(result)),
        }
    }

    /// Comes as far as it can without waiting. `first`: the result of an attempt that was made
    /// before.
    pub(super) fn advance(&mut self, means: &mut Means<'_>, mut first: Option<Attempt>) -> Advance {
        if let Some(progress) = self.look_before(means) {
            return progress;
        }
        let mut shots = 0;
        loop {
            if let Err(errno) = self.take_buffer(means.groups) {
                // A multishot receive needs its buffer only when there is something to put there.
                let waits = if self.tried { self.wait_for_readiness(means) } else { None };
                return waits.unwrap_or(Advance::Ended(-errno, 0));
            }
            self.tried = true;
            let (result, next) = match self.attempt(means.world, first.take()) {
                Attempt::Done(result) => (result, None),
                Attempt::Last(result, interest) => (result, Some(interest)),
                Attempt::Blocked(interest) => {
                    self.give_back(means.groups);
                    return self.watch(means, interest);
                }
                Attempt::Blocking => return self.offload(means),
                Attempt::Busy | Attempt::Part(_) => {
                    let pause = self.pause;
                    self.pause = (2 * pause).min(LONGEST_PAUSE);
                    return Advance::Pauses(pause);
                }
            };
            let (result, flags) = self.settle(result, means.groups);
            if !self.goes_on(result)
                || !means.completions.post_if_room(self.completion(result, flags | COMPLETION_MORE))
            {
                return Advance::Ended(result, flags);
            }
            if self.is_poll() {
                // From now on it waits for the next event.
                return Advance::Waits(WaitsFor::Watching);
            }
            shots += 1;
            if let Some(interest) = next {
                return self.watch(means, interest);
            }
            if !leeway::goes_on_after(means.world, shots) {
                return Advance::Waits(WaitsFor::Ready);
            }
        }
    }

    /// What comes before the first attempt. Multishot polls and reads are registered first: a poll
    /// then hears of every change once, and a read of a file without events is refused. A transfer
    /// may ask to wait first. `None`: there is nothing to wait for.
    fn look_before(&mut self, means: &mut Means<'_>) -> Option<Advance> {
        if self.watched {
            return None;
        }
        if std::mem::take(&mut self.modifiers.poll_first) {
            self.tried = true;
            return self.wait_for_readiness(means);
        }
        let call = self.request.call_mut()?;
        let (interest, refusal) = match call {
            Call::Poll(_) if self.modifiers.multishot => (Interest::ANYTHING, 0),
            Call::Transfer(_) if self.modifiers.multishot => (Interest::INPUT, libc::EBADFD),
            Call::Poll(_) | Call::Transfer(_) | Call::Socket(_) | Call::File(_) | Call::Path(_) => {
                return None;
            }
        };
        match means.world.watch(call.fd()?, interest, self.key) {
            watch @ (Watch::Beginning | Watch::Watching) => {
                self.watched = true;
                // A poll waits for the event that comes first. A read tells at once if it has no
                // buffer.
                let is_announced = watch == Watch::Beginning && refusal == 0;
                is_announced.then_some(Advance::Waits(WaitsFor::Watching))
            }
            Watch::Never if refusal == 0 => match means.world.attempt(call) {
                Attempt::Done(result) => Some(Advance::Ended(result, 0)),
                _ => Some(Advance::Ended(-libc::EINVAL, 0)),
            },
            Watch::Never => Some(Advance::Ended(-refusal, 0)),
            Watch::Failed(errno) => Some(Advance::Ended(errno, 0)),
        }
    }

    /// Waits for input, or for room for output. `None`: it is there.
    fn wait_for_readiness(&mut self, means: &mut Means<'_>) -> Option<Advance> {
        let call = self.request.call()?;
        let interest = if call.is_output() { Interest::OUTPUT } else { Interest::INPUT };
        let mut look = Call::Poll(Poll { fd: call.fd()?, mask: interest.0 });
        let Attempt::Blocked(_) = means.world.attempt(&mut look) else { return None };
        Some(self.watch(means, interest))
    }

    fn is_poll(&self) -> bool {
        matches!(self.request, Request::Call(Call::Poll(_)))
    }

    /// Tries, adding up the parts of a transfer.
    fn attempt(&mut self, world: &mut dyn World, mut first: Option<Attempt>) -> Attempt {
        // The engine has begun all other requests itself.
        let Some(call) = self.request.call_mut() else { return Attempt::Done(-libc::EINVAL) };
        loop {
            let attempt = match first.take() {
                Some(attempt) => attempt,
                // A socket that lingers sleeps in its close. Whoever submits the entry knows that.
                None if self.flags.is_async() && call.closes().is_some() => Attempt::Blocking,
                None => world.attempt(call),
            };
            match attempt {
                Attempt::Part(count) => {
                    self.done += count;
                    call.skip(count);
                }
                attempt => return attempt,
            }
        }
    }

    fn watch(&mut self, means: &mut Means<'_>, interest: Interest) -> Advance {
        if self.watched {
            return Advance::Waits(WaitsFor::Watching);
        }
        let Some(fd) = self.request.fd() else { return self.offload(means) };
        match means.world.watch(fd, interest, self.key) {
            Watch::Beginning | Watch::Watching => {
                self.watched = true;
                Advance::Waits(WaitsFor::Watching)
            }
            Watch::Never if self.is_poll() => Advance::Ended(-libc::EINVAL, 0),
            Watch::Never => self.offload(means),
            Watch::Failed(errno) => {
                let (result, flags) = self.settle(errno, means.groups);
                Advance::Ended(result, flags)
            }
        }
    }

    fn offload(&mut self, means: &mut Means<'_>) -> Advance {
        // The buffer that was given back for the wait is needed now.
        if let Err(errno) = self.take_buffer(means.groups) {
            return Advance::Ended(-errno, 0);
        }
        if let Some(call) = self.request.call() {
            means.world.offload(call, self.key);
        }
        Advance::Waits(WaitsFor::Working)
    }

    /// Takes a provided buffer, if it is to use one and has none.
    fn take_buffer(&mut self, groups: &mut Groups) -> Result<(), i32> {
        let Some(group) = self.modifiers.group else { return Ok(()) };
        if self.buffer.is_some() {
            return Ok(());
        }
        let buffer = groups.take(group).ok_or(libc::ENOBUFS)?;
        let room = if self.asked == 0 { buffer.room } else { buffer.room.min(self.asked) };
        if let Some(call) = self.request.call_mut() {
            call.set_buffer(buffer.address, room, self.modifiers.multishot);
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Waiting holds no buffer, unless there is something in it.
    fn give_back(&mut self, groups: &mut Groups) {
        if self.done == 0
            && let Some(buffer) = self.buffer.take()
            && let Some(group) = self.modifiers.group
        {
            groups.give_back(group, buffer);
        }
    }

    /// The result of all parts, and the flags that name its buffer. A read that is not multishot
    /// takes its buffer even if it brings nothing.
    fn settle(&mut self, result: i32, groups: &mut Groups) -> (i32, u32) {
        let result = if self.done > 0 { self.done as i32 + result.max(0) } else { result };
        let has_looked = result == 0 || result == -libc::EISDIR;
        let uses_up = has_looked
            && matches!(self.request, Request::Call(Call::Transfer(TransferCall::Read(_))))
            && !self.modifiers.multishot;
        if result <= 0 && !uses_up {
            self.give_back(groups);
        }
        let flags =
            self.buffer.take().map_or(0, |buffer| COMPLETION_BUFFER | u32::from(buffer.id) << 16);
        (result, flags)
    }

    /// Is there another shot after this one?
    fn goes_on(&self, result: i32) -> bool {
        let brought_something =
            || self.request.call().is_some_and(|call| call.brought_something(result));
        self.modifiers.multishot && !self.cancelled && brought_something()
    }

    /// What it reports if it is cancelled now.
    pub(super) fn end_of_cancelled(&mut self) -> Advance {
        let result = if self.done > 0 { self.done as i32 } else { -libc::ECANCELED };
        let flags =
            self.buffer.take().map_or(0, |buffer| COMPLETION_BUFFER | u32::from(buffer.id) << 16);
        Advance::Ended(result, flags)
    }

    /// Does a chain break at this result?
    pub(super) fn fails_with(&self, result: i32) -> bool {
        // The request has been shortened by what is through.
        let whole = i64::from(self.done) + i64::from(self.request.length());
        self.request.breaks_chain(result, whole, &self.modifiers)
    }
}
