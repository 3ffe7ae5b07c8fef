//! A connection is driven until it ends, its time is up, or its server ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::activity::{Activity, Phase};
use super::shared::{Ending, Shared};
use crate::sys;
use crate::time::{Sleep, sleep};

/// How long the peer has to end a connection that has ended here.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// A connection of some protocol.
pub(super) trait Protocol: Future<Output = hyper::Result<()>> {
    /// Takes no further request, and ends after those that are under way.
    fn shut_down(self: Pin<&mut Self>);
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Ended,
    TimedOut(Phase),
}

/// The clock of a connection. It stands still while the program works, and its timer moves only
/// when it has fired or a nearer deadline comes: no request pays for it.
pub(super) struct Watch {
    shared: Rc<Shared>,
    activity: Rc<Activity>,
    ending: Ending,
    /// It was told to end.
    is_told: bool,
    phase: Phase,
    requests: u64,
    since: Instant,
    timer: Sleep,
}

impl Watch {
    pub(super) fn new(shared: &Rc<Shared>, activity: &Rc<Activity>) -> Watch {
        Watch {
            shared: Rc::clone(shared),
            activity: Rc::clone(activity),
            ending: Ending::of(shared),
            is_told: false,
            phase: Phase::Head,
            requests: 0,
            since: sys::now(),
            timer: sleep(shared.options.header_timeout),
        }
    }

    /// Does the server end?
    pub(super) fn poll_ending(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.ending.poll(context)
    }

    /// Waits until the time of the phase is up. To be called after each look at the connection.
    pub(super) fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Phase> {
        let (phase, requests) = (self.activity.phase(), self.activity.requests());
        let has_moved = self.activity.take_moved();
        // A head and an end have to be complete in time, whatever comes of them.
        let counts = !matches!(phase, Phase::Head | Phase::Ending);
        if (phase, requests) != (self.phase, self.requests) || (has_moved && counts) {
            (self.phase, self.requests) = (phase, requests);
            self.since = sys::now();
        }
        let Some(allowed) = self.allowed() else { return Poll::Pending };
        let deadline = self.since + allowed;
        if deadline < self.timer.deadline() {
            self.timer.reset(deadline);
        }
        loop {
            ready!(Pin::new(&mut self.timer).poll(context));
            if self.timer.deadline() >= deadline {
                return Poll::Ready(phase);
            }
            self.timer.reset(deadline);
        }
    }

    fn allowed(&self) -> Option<Duration> {
        let options = &self.shared.options;
        match self.phase {
            Phase::Working => None,
            Phase::Head => Some(options.header_timeout),
            Phase::Idle if self.is_told => Some(LINGER),
            Phase::Idle => Some(options.idle_timeout),
            Phase::Replying => Some(options.write_timeout),
            Phase::Ending => Some(LINGER),
        }
    }

    fn tell(&mut self, connection: Pin<&mut impl Protocol>) {
        self.is_told = true;
        self.since = sys::now();
        connection.shut_down();
    }
}

/// Drives a connection to its end. One that was idle for too long is told first.
pub(super) async fn drive<P: Protocol>(mut connection: Pin<&mut P>, watch: &mut Watch) -> Outcome {
    poll_fn(|context| {
        loop {
            if !watch.is_told && watch.poll_ending(context).is_ready() {
                watch.tell(connection.as_mut());
            }
            // What failed is known to the peer, or the peer has gone.
            if connection.as_mut().poll(context).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            match ready!(watch.poll_time(context)) {
                Phase::Idle if !watch.is_told => watch.tell(connection.as_mut()),
                phase => return Poll::Ready(Outcome::TimedOut(phase)),
            }
        }
    })
    .await
}
