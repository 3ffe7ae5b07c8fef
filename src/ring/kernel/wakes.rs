//! The alarm and the kick: what ends a wait in the kernel in time, or from another thread.
//!
//! They make entries and take the answers; the ring pushes the one and reaps the others.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};

use crate::ring::seam::FIRST_PRIVATE_TOKEN;

/// The armed TIMEOUT has fired, or was moved out of the way.
pub(super) const ALARM: u64 = FIRST_PRIVATE_TOKEN;
/// The answer to moving the alarm, which comes only if it could not be moved where the kernel can
/// keep the others back.
pub(super) const ALARM_MOVED: u64 = FIRST_PRIVATE_TOKEN + 1;
/// Another thread wants the owner.
pub(super) const KICK: u64 = FIRST_PRIVATE_TOKEN + 2;

/// A far deadline is approached in steps of this length, so that its timespec never comes near the
/// kernel's bound (292 years).
const LONGEST_ALARM: Duration = Duration::from_secs(24 * 3600);

/// One ring TIMEOUT that only ever moves earlier. It may ring too early; then nothing is due and it
/// is armed again.
pub(super) struct Alarm {
    armed: Option<Instant>,
    /// Keeps the answer to a successful move back, where the kernel can: it would end the very wait
    /// that it was moved for.
    moved: squeue::Flags,
    /// One more than the submission queue has places, since a thread of the kernel may take entries
    /// late: whatever was pushed before those that fill the queue has been taken.
    timespecs: Box<[types::Timespec]>,
    next: usize,
}

impl Alarm {
    /// `entries`: places in the submission queue.
    pub(super) fn new(entries: usize, moved: squeue::Flags) -> Alarm {
        Alarm {
            armed: None,
            moved,
            timespecs: vec![types::Timespec::new(); entries + 1].into(),
            next: 0,
        }
    }

    /// Does it ring at this time or earlier?
    #[inline]
    pub(super) fn rings_by(&self, deadline: Instant) -> bool {
        self.armed.is_some_and(|armed| armed <= deadline)
    }

    /// The entry that has it ring at this time or earlier, and when. It names a timespec of this
    /// alarm, which is written again only when the others have been pushed in between.
    pub(super) fn entry(&mut self, deadline: Instant) -> (squeue::Entry, Instant) {
        let now = Instant::now();
        let remaining = deadline.saturating_duration_since(now).min(LONGEST_ALARM);
        let timespec = &mut self.timespecs[self.next];
        *timespec = types::Timespec::from(remaining);
        let entry = match self.armed {
            Some(_) => opcode::TimeoutUpdate::new(ALARM, timespec)
                .build()
                .flags(self.moved)
                .user_data(ALARM_MOVED),
            None => opcode::Timeout::new(timespec).build().user_data(ALARM),
        };
        (entry, now + remaining)
    }

    /// The entry was pushed.
    pub(super) fn pushed(&mut self, rings_at: Instant) {
        self.armed = Some(rings_at);
        self.next = (self.next + 1) % self.timespecs.len();
    }

    /// It has rung.
    pub(super) fn rung(&mut self) {
        self.armed = None;
    }

    /// The answer to a move. What it was moved out of the way of comes from the kernel as well.
    pub(super) fn moved(&mut self, result: i32) {
        if !matches!(-result, 0 | libc::ENOENT | libc::EALREADY) {
            self.armed = None;
        }
    }
}

/// How a kick reaches the completion queue.
pub(super) enum Kick {
    /// The kernel posts it for the sender.
    Message,
    /// The ring polls an eventfd, once per kick.
    Event { event: Arc<File>, armed: bool },
}

impl Kick {
    /// The entry without which no kick would come.
    #[inline]
    pub(super) fn entry(&self) -> Option<squeue::Entry> {
        let Kick::Event { event, armed: false } = self else { return None };
        let poll = opcode::PollAdd::new(types::Fd(event.as_raw_fd()), libc::POLLIN as u32);
        Some(poll.build().user_data(KICK))
    }

    /// Was the entry pushed?
    pub(super) fn set_armed(&mut self, pushed: bool) {
        if let Kick::Event { armed, .. } = self {
            *armed = pushed;
        }
    }

    /// Resets the eventfd, so that the next poll waits for the next kick.
    pub(super) fn take(&mut self) {
        if let Kick::Event { event, armed } = self {
            *armed = false;
            // Nothing to read means that an earlier read took this kick as well.
            let _ = (&**event).read(&mut [0; 8]);
        }
    }
}
