//! The engine of the software ring executes entries without the kernel's ring. It follows the
//! kernel's own rule, in safe code: it tries a request at once, else it waits for the descriptor,
//! else a worker makes the call.
//!
//! Links, linked timeouts, multishot requests, provided buffers, cancels and the completion queue's
//! overflow are in this room, once. A [`World`] makes the calls and has the time. Nothing here
//! blocks but [`World::wait`].
//!
//! The specification is that of the kernel: io_uring_enter(2), io_uring_cancelation(7),
//! io_uring_linked_requests(7), io_uring_multishot(7), io_uring_provided_buffers(7). Where that
//! leaves a choice, the software ring's is in the guide to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::completions::Completions;
use super::groups::Groups;
use super::leeway;
use super::mailbox::OwnMailbox;
use super::running::{Advance, Means, Running, WaitsFor};
use super::table::RequestTable;
use super::timers::{self, RequestTimers};
use crate::buf::BufferRing;
use crate::counters::Counters;
use crate::ring::config::Config;
use crate::ring::request::{
    CancelRequest, Decoded, Message, Refused, Request, Submission, TimeRequest,
};
use crate::ring::seam::{
    COMPLETION_COPIED, COMPLETION_MORE, COMPLETION_NOTIFICATION, Completion, PushError, Wait,
};
use crate::ring::unpark::Unparker;
use crate::ring::world::{Attempt, Ready, RequestKey, World};

/// Enters that find completions at once and do not look at the world, in a row: whoever waits for
/// the world waits no longer than that.
const ENTERS_WITHOUT_A_LOOK: u32 = 8;

/// Most requests that are looked at to see whether one of them uses a descriptor. It happens for
/// each resource that is dropped with operations in flight, which may be many at a time.
const MOST_LOOKED_AT: usize = 256;

/// A ring that executes its entries itself.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) mailbox: OwnMailbox,
    pub(super) world: Box<dyn World>,
    pub(super) queue: VecDeque<Decoded>,
    entries: usize,
    pub(super) completions: Completions,
    pub(super) running: RequestTable,
    pub(super) timers: RequestTimers,
    groups: Groups,
    /// Requests whose turn it is, in the order in which they became so.
    turns: VecDeque<RequestKey>,
    /// Members of chains whose predecessors have ended.
    pub(super) members: VecDeque<RequestKey>,
    /// Scratch space of a wait.
    ready: Vec<Ready>,
    enters_without_a_look: u32,
    pub(super) counters: Arc<Counters>,
}

impl Engine {
    pub(crate) fn new(world: Box<dyn World>, config: &Config, counters: Arc<Counters>) -> Engine {
        Engine {
            mailbox: OwnMailbox::open(&*world),
            world,
            queue: VecDeque::new(),
            entries: config.entries.next_power_of_two() as usize,
            completions: Completions::new(
                config.completion_entries.next_power_of_two() as usize,
                Arc::clone(&counters),
            ),
            running: RequestTable::default(),
            timers: RequestTimers::default(),
            groups: Groups::default(),
            turns: VecDeque::new(),
            members: VecDeque::new(),
            ready: Vec::new(),
            enters_without_a_look: 0,
            counters,
        }
    }

    /// Queues a chain whole, or not at all.
    pub(in crate::ring) fn push(
        &mut self,
        chain: impl ExactSizeIterator<Item = Decoded>,
    ) -> Result<(), PushError> {
        if chain.len() > self.entries {
            return Err(PushError::TooLong);
        }
        if self.queue.len() + chain.len() > self.entries {
            return Err(PushError::Full);
        }
        chain.for_each(|entry| self.queue.push_back(entry));
        Ok(())
    }

    /// Requests of this group take their buffers from `ring`, whose owner vouches for them as
    /// [`Source::provide`](crate::ring::seam::Source::provide) demands.
    pub(in crate::ring) fn provide(&mut self, group: u16, ring: Rc<BufferRing>) {
        self.groups.add(group, ring);
    }

    /// FreeIndices in the submission queue.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(crate) fn reap(&mut self) -> Option<Completion> {
        self.completions.take()
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }

    pub(crate) fn unparker(&self) -> Unparker {
        self.world.unparker()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Executes what is queued and what has become ready, and waits if that brings no completion.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.completions.flush();
        self.submit();
        self.take_turns();
        self.fire_timers();
        self.take_messages();
        let Some(wait) = self.longest_wait(wait) else { return Ok(()) };
        self.enters_without_a_look = 0;
        self.counters.enters.add(1);
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.world.wait(wait, &mut ready);
        for event in ready.drain(..) {
            match event {
                Ready::Descriptor(key) => self.wake(key),
                Ready::Worked(key, result) => self.advance(key, Some(result)),
                Ready::Gone(key) => drop(self.cancel_one(key)),
            }
        }
        self.ready = ready;
        self.start_members();
        self.fire_timers();
        self.take_messages();
        waited
    }

    /// How long the world may keep us, `None` for not at all: there is enough to do without it.
    fn longest_wait(&mut self, wait: Wait) -> Option<Wait> {
        if !self.completions.is_empty() || !self.turns.is_empty() {
            self.enters_without_a_look += 1;
            return (self.enters_without_a_look >= ENTERS_WITHOUT_A_LOOK).then_some(Wait::No);
        }
        match wait {
            Wait::No => (!self.running.is_empty()).then_some(Wait::No),
            wait => Some(wait.no_later_than(self.timers.next())),
        }
    }

    /// Is any request in flight?
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Nobody will name this number again until it means another file. `false`: a request uses it
    /// still, or there are too many to look at.
    pub(in crate::ring) fn let_go(&mut self, fd: RawFd) -> bool {
        let is_used =
            !self.queue.is_empty() || self.running.len() > MOST_LOOKED_AT || self.running.uses(fd);
        if !is_used {
            self.end_waits_for(fd);
        }
        !is_used
    }

    /// Becomes readable when the world has something for the next enter, for those who wait in this
    /// ring's place.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.world.descriptor()
    }

    /// Somebody else is about to wait in this ring's place: for how long, at most?
    /// [`end_wait_elsewhere`](Engine::end_wait_elsewhere) ends it.
    pub(crate) fn begin_wait_elsewhere(&mut self, wait: Wait) -> Wait {
        let has_work =
            !self.completions.is_empty() || !self.turns.is_empty() || !self.queue.is_empty();
        match wait {
            _ if has_work => Wait::No,
            Wait::Until(_) | Wait::Forever if self.is_running() => {
                self.world.begin_wait_elsewhere(wait.no_later_than(self.timers.next()))
            }
            wait => wait,
        }
    }

    pub(crate) fn end_wait_elsewhere(&mut self) {
        self.world.end_wait_elsewhere();
    }

    /// Takes the entries out of the queue, chain by chain.
    fn submit(&mut self) {
        while let Some(first) = self.queue.pop_front() {
            self.counters.submissions.add(1);
            let is_linked = match &first {
                Ok(submission) => submission.flags.is_linked(),
                Err(refused) => refused.flags.is_linked(),
            };
            if is_linked && !self.queue.is_empty() {
                self.submit_chain(first);
                continue;
            }
            match first {
                // There is nothing that it could limit.
                Ok(Submission { token, request, .. }) if request.is_link_timeout() => {
                    self.refuse(token, libc::EINVAL)
                }
                Ok(submission) => self.start(submission),
                Err(Refused { token, errno, .. }) => self.refuse(token, errno),
            }
        }
        self.start_members();
    }

    pub(super) fn refuse(&mut self, token: u64, errno: i32) {
        self.completions.post(Completion { token, result: -errno, flags: 0 });
    }

    /// Starts a request that stands alone. One that ends at once never enters the table.
    fn start(&mut self, mut submission: Submission) {
        let mut first = None;
        if let Some(call) = submission.plain_transfer() {
            // Most of these end at once, and then nothing needs to be kept of them.
            match self.world.attempt(call) {
                Attempt::Done(result) | Attempt::Last(result, _) => {
                    return self.completions.post(Completion {
                        token: submission.token,
                        result,
                        flags: 0,
                    });
                }
                attempt => first = Some(attempt),
            }
        }
        if let Request::Cancel(CancelRequest::AsyncCancel(_)) = submission.request {
            return self.start_cancel(submission);
        }
        self.start_running(submission, first);
    }

    /// Starts a cancel, which ends at once, perhaps with others.
    fn start_cancel(&mut self, submission: Submission) {
        let (token, before) = (submission.token, self.completions.len());
        self.start_running(submission, None);
        if leeway::tells_answers_first(&mut *self.world) {
            self.completions.bring_forward(token, before);
        }
    }

    fn start_running(&mut self, submission: Submission, first: Option<Attempt>) {
        let mut running = Running::new(self.running.next_key(), submission);
        let progress = match self.begin(&running.request, running.key) {
            Some(progress) => progress,
            None => {
                // To begin may have ended others, and made room.
                running.key = self.running.next_key();
                running.advance(&mut self.means(), first)
            }
        };
        if let Advance::Ended(result, flags) = progress {
            return self.finish(running, result, flags);
        }
        let key = self.running.insert(running);
        self.settle(key, progress);
    }

    /// Begins what is the engine's own business. `None`: the request is for the world.
    pub(super) fn begin(&mut self, request: &Request, key: RequestKey) -> Option<Advance> {
        let result = match request {
            Request::Call(call) => {
                if let Some(fd) = call.closes() {
                    self.end_waits_for(fd);
                }
                return None;
            }
            Request::Time(TimeRequest::Timeout { time, flags, .. }) => {
                let deadline = timers::deadline(&*self.world, *time, *flags);
                return Some(Advance::Waits(WaitsFor::Timed(self.timers.insert(deadline, key))));
            }
            Request::Time(TimeRequest::TimeoutRemove { token }) => self.remove_timeout(*token),
            Request::Time(TimeRequest::TimeoutUpdate { token, time, flags }) => {
                self.update_timeout(*token, *time, *flags)
            }
            // It begins with the request that it limits.
            Request::Time(TimeRequest::LinkTimeout { .. }) => -libc::EINVAL,
            Request::Cancel(CancelRequest::AsyncCancel(target)) => self.cancel(*target, key),
            Request::Cancel(CancelRequest::PollRemove { token }) => self.remove_poll(*token),
            Request::Message(Message::Nop { result }) => *result,
            Request::Message(Message::MsgRing { ring, token, result, flags }) => self.send_message(
                *ring,
                Completion { token: *token, result: *result, flags: flags.unwrap_or(0) },
                *flags,
            ),
        };
        Some(Advance::Ended(result, 0))
    }

    fn means(&mut self) -> Means<'_> {
        Means {
            world: &mut *self.world,
            groups: &mut self.groups,
            completions: &mut self.completions,
        }
    }

    /// Something has happened on the descriptor of a request, which may meanwhile wait for
    /// something else.
    pub(super) fn wake(&mut self, key: RequestKey) {
        if self.running.get(key).is_some_and(|running| running.waits_for == WaitsFor::Watching) {
            self.advance(key, None);
        }
    }

    /// Has a request in the table come as far as it can.
    pub(super) fn advance(&mut self, key: RequestKey, worked: Option<i32>) {
        let Some(running) = self.running.get_mut(key) else { return };
        let mut means = Means {
            world: &mut *self.world,
            groups: &mut self.groups,
            completions: &mut self.completions,
        };
        let first = worked.and_then(|result| running.worked(result));
        let progress = running.advance(&mut means, first);
        self.settle(key, progress);
    }

    /// Writes down what a request in the table waits for, or ends it.
    pub(super) fn settle(&mut self, key: RequestKey, progress: Advance) {
        let waits_for = match progress {
            Advance::Ended(result, flags) => return self.end(key, result, flags),
            Advance::Waits(waits_for) => waits_for,
            Advance::Pauses(pause) => {
                WaitsFor::Timed(self.timers.insert(self.world.now() + pause, key))
            }
        };
        if waits_for == WaitsFor::Ready {
            self.turns.push_back(key);
        }
        if let Some(running) = self.running.get_mut(key) {
            running.waits_for = waits_for;
        }
    }

    /// Takes a request out of the table and finishes it.
    pub(super) fn end(&mut self, key: RequestKey, result: i32, flags: u32) {
        if let Some(running) = self.running.remove(key) {
            self.finish(running, result, flags);
        }
    }

    /// Posts the last completion of a request, and goes on with its chain.
    fn finish(&mut self, running: Running, result: i32, flags: u32) {
        if running.watched
            && let Some(fd) = running.request.fd()
        {
            self.world.unwatch(fd, running.key);
        }
        let failed = running.fails_with(result);
        if running.modifiers.notifies {
            let usage = if running.modifiers.reports_usage { COMPLETION_COPIED as i32 } else { 0 };
            self.completions.post(running.completion(result, flags | COMPLETION_MORE));
            self.completions.post(running.completion(usage, COMPLETION_NOTIFICATION));
        } else if failed || !running.flags.is_quiet() {
            self.completions.post(running.completion(result, flags));
        }
        self.go_on_after(&running, failed);
    }

    /// Gives those their turn whose turn it was at the beginning.
    fn take_turns(&mut self) {
        for _ in 0..self.turns.len() {
            if let Some(key) = self.turns.pop_front()
                && self.running.get(key).is_some_and(|running| running.waits_for == WaitsFor::Ready)
            {
                self.advance(key, None);
            }
        }
        self.start_members();
    }
}
