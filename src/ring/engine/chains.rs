//! Chains and their linked timeouts: what starts when a request has ended.
//! io_uring_linked_requests(7).
//!
//! A chain is refused whole if one member is; a member that fails ends those after it; a hard link
//! goes on. What a member's `CQE_SKIP_SUCCESS` silences is as in the kernel: its own success, and
//! after its failure everything behind it.

use std::time::Instant;

use super::execute::Engine;
use super::running::{Advance, Running, WaitsFor};
use super::timers;
use crate::ring::request::{Decoded, Refused, Request, Submission, TimeRequest};
use crate::ring::seam::COMPLETION_MORE;
use crate::ring::world::RequestKey;

impl Engine {
    /// Takes the rest of a chain out of the queue, and starts it. A chain ends with its first
    /// member that is not linked, or with the queue.
    pub(super) fn submit_chain(&mut self, first: Decoded) {
        let mut members = vec![first];
        while let Some(Ok(Submission { flags, .. }) | Err(Refused { flags, .. })) = members.last()
            && flags.is_linked()
            && let Some(next) = self.queue.pop_front()
        {
            self.counters.submissions.add(1);
            members.push(next);
        }
        refuse_misplaced_timeouts(&mut members);
        if members.iter().any(Result::is_err) {
            return self.refuse_chain(members);
        }
        let keys: Vec<RequestKey> =
            members.into_iter().flatten().map(|member| self.insert_linked(member)).collect();
        for (position, key) in keys.iter().enumerate() {
            let after = keys.get(position + 1).copied();
            let limit = after.filter(|after| self.is_linked_timeout(*after));
            // What follows the timeout follows the request that it limits.
            let next = if limit.is_some() { keys.get(position + 2).copied() } else { after };
            if self.is_linked_timeout(*key) {
                continue;
            }
            if let Some(running) = self.running.get_mut(*key) {
                (running.partner, running.next) = (limit, next);
            }
            if let Some(timeout) = limit.and_then(|limit| self.running.get_mut(limit)) {
                timeout.partner = Some(*key);
            }
        }
        self.members.extend(keys.first());
    }

    fn insert_linked(&mut self, member: Submission) -> RequestKey {
        let mut running = Running::new(self.running.next_key(), member);
        running.waits_for = WaitsFor::Linked;
        self.running.insert(running)
    }

    fn is_linked_timeout(&self, key: RequestKey) -> bool {
        self.running.get(key).is_some_and(|running| running.request.is_link_timeout())
    }

    /// Nothing of it runs. Those that were refused say why, the others are cancelled.
    fn refuse_chain(&mut self, members: Vec<Decoded>) {
        let mut is_quiet = false;
        for (position, member) in members.into_iter().enumerate() {
            let (token, flags, errno) = match member {
                Ok(submission) => (submission.token, submission.flags, libc::ECANCELED),
                Err(refused) => (refused.token, refused.flags, refused.errno),
            };
            if position == 0 || !is_quiet {
                self.refuse(token, errno);
            }
            if position == 0 {
                is_quiet = flags.is_quiet();
            }
        }
    }

    /// Starts the members of chains whose turn has come, and those whose turn comes thereby.
    #[inline]
    pub(super) fn start_members(&mut self) {
        if !self.members.is_empty() {
            self.start_each_member();
        }
    }

    fn start_each_member(&mut self) {
        while let Some(key) = self.members.pop_front() {
            let Some(running) = self.running.get_mut(key) else { continue };
            running.waits_for = WaitsFor::Ready;
            let request = running.request.clone();
            match self.begin(&request, key) {
                Some(progress) => self.settle(key, progress),
                None => self.advance(key, None),
            }
            self.arm_linked_timeout(key);
        }
    }

    /// Starts the time of a member that did not end at once.
    fn arm_linked_timeout(&mut self, key: RequestKey) {
        let Some(limit) = self.running.get(key).and_then(|running| running.partner) else { return };
        let Some(running) = self.running.get(limit) else { return };
        let Request::Time(TimeRequest::LinkTimeout { time, flags }) = &running.request else {
            return;
        };
        let deadline = timers::deadline(&*self.world, *time, *flags);
        let due = self.timers.insert(deadline, limit);
        if let Some(timeout) = self.running.get_mut(limit) {
            timeout.waits_for = WaitsFor::Timed(due);
        }
    }

    /// A request has ended: so has the time that limited it, and what follows it starts or is
    /// cancelled.
    pub(super) fn go_on_after(&mut self, ended: &Running, failed: bool) {
        if let Some(limit) = ended.partner {
            self.drop_linked(limit, false);
        }
        let Some(next) = ended.next else { return };
        if failed && !ended.flags.goes_on() {
            self.cancel_chain(next, ended.flags.is_quiet());
        } else {
            self.members.push_back(next);
        }
    }

    /// Cancels a member and those after it, none of which has started.
    fn cancel_chain(&mut self, first: RequestKey, is_quiet: bool) {
        let mut key = Some(first);
        while let Some(member) = key {
            if let Some(running) = self.running.get_mut(member) {
                running.flags.set_quiet(is_quiet);
            }
            let limit = self.running.get(member).and_then(|running| running.partner);
            key = self.drop_linked(member, is_quiet);
            if let Some(limit) = limit {
                self.drop_linked(limit, is_quiet);
            }
        }
    }

    /// Ends one that did nothing, and returns what would have come after it. That it asks for quiet
    /// itself counts, too.
    fn drop_linked(&mut self, key: RequestKey, is_quiet: bool) -> Option<RequestKey> {
        let running = self.running.remove(key)?;
        if let WaitsFor::Timed(due) = running.waits_for {
            self.timers.remove(due);
        }
        let is_quiet_timeout = running.request.is_link_timeout() && running.flags.is_quiet();
        if !is_quiet && !is_quiet_timeout {
            self.completions.post(running.completion(-libc::ECANCELED, 0));
        }
        running.next
    }

    /// Ends what is due, and tries again what was put off.
    #[inline]
    pub(super) fn fire_timers(&mut self) {
        if !self.timers.is_empty() {
            self.fire_those_due();
        }
    }

    fn fire_those_due(&mut self) {
        let now = self.world.now();
        while let Some(key) = self.timers.pop(now) {
            self.fire(key, now);
        }
        self.start_members();
    }

    fn fire(&mut self, key: RequestKey, now: Instant) {
        let Some(running) = self.running.get_mut(key) else { return };
        running.waits_for = WaitsFor::Ready;
        match running.request {
            Request::Time(TimeRequest::Timeout { .. }) => self.fire_timeout(key, now),
            Request::Time(TimeRequest::LinkTimeout { .. }) => self.fire_linked_timeout(key),
            // Its pause is over.
            Request::Call(_) => self.advance(key, None),
            // These have ended at once.
            Request::Time(
                TimeRequest::TimeoutRemove { .. } | TimeRequest::TimeoutUpdate { .. },
            )
            | Request::Cancel(_)
            | Request::Message(_) => {}
        }
    }

    fn fire_timeout(&mut self, key: RequestKey, now: Instant) {
        let Some(running) = self.running.get_mut(key) else { return };
        let completion = running.completion(-libc::ETIME, COMPLETION_MORE);
        let Request::Time(TimeRequest::Timeout { time, ref mut count, flags }) = running.request
        else {
            return;
        };
        let is_last = !running.modifiers.multishot || *count == 1;
        *count = count.saturating_sub(1);
        if is_last || !self.completions.post_if_room(completion) {
            return self.end(key, -libc::ETIME, 0);
        }
        // From now on and not from when it was due: a late one is not made up for.
        let deadline = timers::deadline(&*self.world, time, flags).max(now);
        let due = self.timers.insert(deadline, key);
        self.settle(key, Advance::Waits(WaitsFor::Timed(due)));
    }

    /// Cancels what the timeout limits, and reports how that went: only the request's own
    /// completion says how it ended.
    fn fire_linked_timeout(&mut self, key: RequestKey) {
        let Some(running) = self.running.remove(key) else { return };
        let Some(limited) = running.partner else { return };
        if let Some(limited) = self.running.get_mut(limited) {
            limited.partner = None;
        }
        let answer = self.cancel_found(limited);
        if !running.flags.is_quiet() {
            self.completions
                .post(running.completion(if answer == 0 { -libc::ETIME } else { answer }, 0));
        }
    }
}

/// A linked timeout limits the request in front of it, so there must be one, and not a timeout.
fn refuse_misplaced_timeouts(members: &mut [Decoded]) {
    let mut may_follow = false;
    for member in members {
        match member {
            Ok(Submission { request, token, flags, .. }) if request.is_link_timeout() => {
                if !may_follow {
                    *member = Err(Refused { token: *token, flags: *flags, errno: libc::EINVAL });
                }
                may_follow = false;
            }
            Ok(_) | Err(_) => may_follow = true,
        }
    }
}
