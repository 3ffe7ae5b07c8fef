//! Requests that end before their time: cancels by token, by descriptor, or all; timeouts removed
//! and moved. io_uring_cancelation(7).
//!
//! What waits ends at once with `ECANCELED`. What a worker has not begun never begins; what it has
//! begun runs to its end, which the answer `EALREADY` says. A member of a chain that has not
//! started is not found, as in the kernel.

use std::os::fd::RawFd;

use super::execute::Engine;
use super::running::{Advance, Running, WaitsFor};
use super::{leeway, timers};
use crate::ring::request::{Call, Poll, Request, Target, TimeRequest, Timespec};
use crate::ring::world::{Abort, Attempt, RequestKey};

impl Engine {
    /// The answer of `ASYNC_CANCEL`, which does not find itself.
    pub(super) fn cancel(&mut self, target: Target, own: RequestKey) -> i32 {
        let can_be_found = |running: &Running| {
            running.waits_for != WaitsFor::Linked
                && running.key != own
                && !running.request.is_link_timeout()
                && target.fd.is_none_or(|fd| running.request.fd() == Some(fd))
        };
        if let Some(fd) = target.fd
            && self.world.attempt(&mut Call::Poll(Poll { fd, mask: 0 }))
                == Attempt::Done(-libc::EBADF)
        {
            return -libc::EBADF;
        }
        match (target.token, target.all) {
            (Some(token), false) => self
                .running
                .find(token, can_be_found)
                .map_or(-libc::ENOENT, |key| self.cancel_found(key)),
            (token, all) => {
                let is_meant = |running: &&Running| {
                    can_be_found(running) && token.is_none_or(|token| running.token == token)
                };
                let keys: Vec<RequestKey> =
                    self.running.iter().filter(is_meant).map(|running| running.key).collect();
                if all {
                    for key in &keys {
                        self.cancel_found(*key);
                    }
                    return keys.len() as i32;
                }
                keys.first().map_or(-libc::ENOENT, |key| self.cancel_found(*key))
            }
        }
    }

    /// Ends a request that waits or works, unless what it waits for has come and wins: 0, or why
    /// not.
    pub(super) fn cancel_found(&mut self, key: RequestKey) -> i32 {
        if leeway::lets_arrivals_win(&mut *self.world) {
            self.wake(key);
        }
        self.cancel_one(key)
    }

    /// Ends a request in the table: 0, or why not.
    pub(super) fn cancel_one(&mut self, key: RequestKey) -> i32 {
        let Some(running) = self.running.get_mut(key) else { return -libc::ENOENT };
        match running.waits_for {
            WaitsFor::Linked => return -libc::ENOENT,
            WaitsFor::Working => {
                running.cancelled = true;
                if self.world.abort(key) == Abort::Running {
                    return -libc::EALREADY;
                }
            }
            WaitsFor::Timed(due) => self.timers.remove(due),
            WaitsFor::Ready | WaitsFor::Watching => {}
        }
        if let Advance::Ended(result, flags) = running.end_of_cancelled() {
            self.end(key, result, flags);
        }
        0
    }

    /// The answer of `POLL_REMOVE`.
    pub(super) fn remove_poll(&mut self, token: u64) -> i32 {
        let is_meant = |running: &Running| {
            running.waits_for != WaitsFor::Linked
                && matches!(running.request, Request::Call(Call::Poll(_)))
        };
        self.running.find(token, is_meant).map_or(-libc::ENOENT, |key| self.cancel_one(key))
    }

    /// The answer of `TIMEOUT_REMOVE`.
    pub(super) fn remove_timeout(&mut self, token: u64) -> i32 {
        let is_meant = |running: &Running| {
            running.waits_for != WaitsFor::Linked
                && matches!(running.request, Request::Time(TimeRequest::Timeout { .. }))
        };
        self.running.find(token, is_meant).map_or(-libc::ENOENT, |key| self.cancel_one(key))
    }

    /// The answer of `TIMEOUT_REMOVE` with `TIMEOUT_UPDATE`: moves a timeout, and a linked one if
    /// the flags say so.
    pub(super) fn update_timeout(&mut self, token: u64, new_time: Timespec, new_flags: u32) -> i32 {
        let is_meant = |running: &Running| {
            matches!(running.waits_for, WaitsFor::Timed(_))
                && matches!(&running.request, Request::Time(time) if time.is_moved_by(new_flags))
        };
        let Some(key) = self.running.find(token, is_meant) else { return -libc::ENOENT };
        let deadline = timers::deadline(&*self.world, new_time, new_flags);
        let Some(running) = self.running.get_mut(key) else { return -libc::ENOENT };
        if let WaitsFor::Timed(due) = running.waits_for {
            self.timers.remove(due);
            running.waits_for = WaitsFor::Timed(self.timers.insert(deadline, key));
        }
        0
    }

    /// A descriptor is about to be closed. The kernel would go on with the file; here there is only
    /// the number, so waits for it end.
    pub(in crate::ring) fn end_waits_for(&mut self, fd: RawFd) {
        let mut waiting = Vec::new();
        self.world.forget(fd, &mut waiting);
        for key in waiting {
            self.cancel_one(key);
        }
    }
}
