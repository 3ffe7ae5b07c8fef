//! The machine as a world: epoll, the pool of threads, and system calls that do not wait.
//!
//! A descriptor is registered with epoll once, edge-triggered and for both directions, when
//! something first has to wait for it; from then on its readiness is kept here and costs no call.
//! What is known of a descriptor only saves calls. Programs close numbers and use them again
//! without a word, so a number may mean another file than before. A wait on an old registration is
//! looked after once.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls;
use super::descriptors::{DescriptorState, LISTEN};
use super::direct::{Direct, Returned};
use super::workers::{self, Workers};
use crate::ring::refusal;
use crate::ring::request::{Call, Poll, TransferCall};
use crate::ring::seam::Wait;
use crate::ring::unpark::Unparker;
use crate::ring::world::{Abort, Attempt, Clock, Interest, Ready, RequestKey, Watch, World};
use crate::sys;

/// Most events that one wait takes; the rest comes with the next. So few that the sockets of a turn
/// are still in the processor's cache when their answers are sent: 512 took a fifth more of its
/// time with 2000 connections.
const EVENTS_AT_ONCE: usize = 64;
/// The eventfd's, which no descriptor has.
const KICK: u64 = u64::MAX;
/// How long a wait may rest on an old registration before it is looked after: its file may have
/// been closed. It is longer than the pauses of busy connections, since looking costs a call.
const CHECK_AFTER: Duration = Duration::from_millis(100);

/// The machine.
#[derive(Debug)]
pub(crate) struct Host {
    epoll: OwnedFd,
    /// Ends a wait. It is registered edge-triggered: each write is an event, and nobody needs to
    /// read it.
    event: Arc<File>,
    workers: Workers,
    direct: Direct,
    /// By number.
    descriptors: Vec<DescriptorState>,
    /// Requests that waited for files which are no more, to be told with the next wait.
    gone: Vec<RequestKey>,
    events: Vec<libc::epoll_event>,
    check: Check,
    /// Directions in which no file can be asked not to wait.
    pub(super) always_waits: Interest,
}

/// Registrations that waits rest on and that have not been looked after since.
#[derive(Debug)]
struct Check {
    list: Vec<RawFd>,
    round: u32,
    next: Instant,
}

impl Host {
    /// `workers`: most calls that threads make at a time.
    pub(crate) fn open(workers: Option<u32>) -> io::Result<Host> {
        let refused = |call| move |error| refusal::explain_epoll(call, error);
        let epoll = sys::retry(sys::epoll).map_err(refused("epoll_create1"))?;
        let event = Arc::new(File::from(sys::retry(sys::event).map_err(refused("eventfd2"))?));
        let listen = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let add = || {
            sys::epoll_control(epoll.as_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), listen, KICK)
        };
        sys::retry(add).map_err(refused("epoll_ctl"))?;
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_AT_ONCE];
        // Nothing can be done without waits, so this is the time to hear of a refusal.
        let wait = || sys::epoll_wait(epoll.as_fd(), &mut events, Some(Duration::ZERO));
        sys::retry(wait).map_err(refused("epoll_wait"))?;
        Ok(Host {
            epoll,
            workers: Workers::new(
                Arc::clone(&event),
                workers.map_or(workers::DEFAULT_BOUND, |bound| bound as usize),
            ),
            direct: Direct::new(Arc::clone(&event)),
            event,
            descriptors: Vec::new(),
            gone: Vec::new(),
            events,
            check: Check { list: Vec::new(), round: 0, next: Instant::now() },
            always_waits: calls::directions_that_wait(),
        })
    }

    /// What is known of a descriptor, which is open.
    #[inline]
    pub(super) fn descriptor(&mut self, fd: RawFd) -> &mut DescriptorState {
        let index = usize::try_from(fd).unwrap_or(0);
        if index >= self.descriptors.len() {
            self.grow_to(index + 1);
        }
        &mut self.descriptors[index]
    }

    #[cold]
    fn grow_to(&mut self, length: usize) {
        self.descriptors.resize_with(length, DescriptorState::default);
    }

    /// A new descriptor has this number: what the number meant before is gone.
    pub(super) fn take_new_number(&mut self, fd: RawFd) {
        if let Some(descriptor) = self.descriptors.get_mut(fd as usize) {
            descriptor.forget(&mut self.gone);
        }
    }

    /// Has the kernel make a direct transfer by itself. `false`: it is for a worker.
    fn goes_to_the_device(&mut self, transfer: &TransferCall, key: RequestKey) -> bool {
        let known =
            usize::try_from(transfer.transfer().fd).ok().and_then(|fd| self.descriptors.get(fd));
        let is_direct =
            known.is_some_and(|known| known.is_direct == Some(true) && known.always_waits == 0);
        is_direct
            && !(transfer.is_write() && sys::limits_file_sizes())
            && self.direct.take_on(key, transfer)
    }

    /// Puts events where their waiters are found.
    fn take_event(&mut self, event: libc::epoll_event, ready: &mut Vec<Ready>) {
        let (events, data) = (event.events, event.u64);
        let (fd, life) = (data as u32 as usize, (data >> 32) as u32);
        let Some(descriptor) = self
            .descriptors
            .get_mut(fd)
            .filter(|descriptor| descriptor.life == life && descriptor.registered)
        else {
            return;
        };
        descriptor.ready |= events;
        for (key, interest) in &descriptor.waiters {
            if events & interest.events() != 0 {
                ready.push(Ready::Descriptor(*key));
            }
        }
    }

    fn register(&mut self, fd: RawFd) -> io::Result<()> {
        let data = u64::from(self.descriptor(fd).life) << 32 | u64::from(fd as u32);
        let add = sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_ADD, fd, LISTEN, data);
        match add {
            // The number was closed, and the same file has it again.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_MOD, fd, LISTEN, data)?;
            }
            other => other?,
        }
        let is_tcp = calls::option(fd, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP);
        let is_unix = !is_tcp && calls::option(fd, libc::SO_DOMAIN) == Ok(libc::AF_UNIX);
        let descriptor = self.descriptor(fd);
        (descriptor.registered, descriptor.ready, descriptor.is_tcp, descriptor.is_unix) =
            (true, 0, is_tcp, is_unix);
        Ok(())
    }

    /// Has the kernel begin the transfers that it makes by itself.
    #[inline]
    fn submit_direct(&mut self) {
        let (workers, descriptors) = (&mut self.workers, &mut self.descriptors);
        self.direct.submit(|returned| go_to_a_worker(returned, workers, descriptors));
    }

    fn take_results(&mut self, ready: &mut Vec<Ready>) {
        let (workers, descriptors) = (&mut self.workers, &mut self.descriptors);
        let give_back = |returned| go_to_a_worker(returned, workers, descriptors);
        self.direct.collect(|key, result| ready.push(Ready::Worked(key, result)), give_back);
        let (descriptors, gone) = (&mut self.descriptors, &mut self.gone);
        self.workers.collect(|worked| {
            // What the number of a new descriptor meant before has gone.
            if worked.is_descriptor
                && let Some(descriptor) = descriptors.get_mut(worked.result as usize)
            {
                descriptor.forget(gone);
            }
            ready.push(Ready::Worked(worked.key, worked.result));
        });
        ready.extend(self.gone.drain(..).map(Ready::Gone));
    }

    /// Finds the waits that began on a registration of old and have seen nothing since: the number
    /// may have been closed and given to another file. Those are registered anew, or tried again to
    /// learn that there is no such file. Changing a registration announces once more what is ready,
    /// so this is safe for the others. Output of Unix sockets is tried again.
    fn look_after_waits(&mut self, ready: &mut Vec<Ready>) {
        let round = self.check.round;
        self.check.round = round.wrapping_add(1);
        self.check.next = Instant::now() + CHECK_AFTER;
        let mut list = std::mem::take(&mut self.check.list);
        list.retain(|fd| {
            let descriptor = self.descriptor(*fd);
            if !descriptor.waiters.is_empty() && descriptor.round == round {
                // Not long enough to wonder.
                return true;
            }
            let tries_again = descriptor.tries_output_again();
            descriptor.listed = tries_again;
            if !descriptor.waiters.is_empty() && descriptor.registered {
                self.look_after(*fd, ready);
            }
            tries_again
        });
        list.append(&mut self.check.list);
        self.check.list = list;
    }

    fn look_after(&mut self, fd: RawFd, ready: &mut Vec<Ready>) {
        let descriptor = self.descriptor(fd);
        if descriptor.tries_output_again() {
            // Whatever is known of it, the next attempt asks the kernel.
            descriptor.tried &= !Interest::OUTPUT.0;
            let outputs =
                descriptor.waiters.iter().filter(|(_, interest)| *interest == Interest::OUTPUT);
            ready.extend(outputs.map(|(key, _)| Ready::Descriptor(*key)));
        }
        let data = u64::from(self.descriptor(fd).life) << 32 | u64::from(fd as u32);
        if sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_MOD, fd, LISTEN, data).is_ok() {
            return;
        }
        let descriptor = self.descriptor(fd);
        descriptor.life = descriptor.life.wrapping_add(1);
        descriptor.registered = false;
        if self.register(fd).is_err() {
            let keys = self.descriptor(fd).waiters.iter().map(|(key, _)| Ready::Descriptor(*key));
            ready.extend(keys);
        }
    }

    /// How long epoll may wait, which is less if there are waits to look after.
    fn timeout(&self, wait: Wait, now: Option<Instant>) -> Option<Duration> {
        let until = match wait {
            Wait::No => return Some(Duration::ZERO),
            Wait::Until(deadline) => Some(deadline),
            Wait::Forever => None,
        };
        let check = (!self.check.list.is_empty()).then_some(self.check.next);
        let first = [until, check].into_iter().flatten().min()?;
        Some(first.saturating_duration_since(now.unwrap_or_else(Instant::now)))
    }
}

/// A direct transfer that the kernel does not make by itself, or never with such a file.
fn go_to_a_worker(returned: Returned, workers: &mut Workers, descriptors: &mut [DescriptorState]) {
    let fd = usize::try_from(returned.transfer.transfer().fd).ok();
    if returned.for_good
        && let Some(descriptor) = fd.and_then(|fd| descriptors.get_mut(fd))
    {
        descriptor.always_waits |= Interest::INPUT.0 | Interest::OUTPUT.0;
    }
    workers.offload(returned.key, Call::Transfer(returned.transfer));
}

impl World for Host {
    fn attempt(&mut self, call: &mut Call) -> Attempt {
        // Before the table grows, since an entry may name any number.
        if let Some(fd) = call.fd()
            && usize::try_from(fd).map_or(true, |index| index >= self.descriptors.len())
            && let Err(errno) = calls::status_flags(fd)
        {
            return Attempt::Done(-errno);
        }
        match call {
            Call::Socket(socket) => self.attempt_on_socket(socket),
            Call::Transfer(transfer) => self.attempt_to_move(transfer),
            Call::Poll(Poll { fd, mask }) => match calls::poll(*fd, *mask) {
                0 => Attempt::Blocked(Interest::ANYTHING),
                result => Attempt::Done(result),
            },
            Call::File(file) => {
                let waits = file.waits();
                self.attempt_on_files(call, waits)
            }
            Call::Path(path) => {
                let waits = path.waits();
                self.attempt_on_files(call, waits)
            }
        }
    }

    fn watch(&mut self, fd: RawFd, interest: Interest, key: RequestKey) -> Watch {
        if fd < 0 {
            return Watch::Failed(-libc::EBADF);
        }
        let begins = !self.descriptor(fd).registered;
        if begins && let Err(error) = self.register(fd) {
            return match error.raw_os_error() {
                Some(libc::EPERM) => Watch::Never,
                errno => Watch::Failed(-errno.unwrap_or(libc::EIO)),
            };
        }
        let round = self.check.round;
        let descriptor = self.descriptor(fd);
        descriptor.round = round;
        descriptor.waiters.push((key, interest));
        let is_to_check = !begins || descriptor.tries_output_again();
        if is_to_check && !std::mem::replace(&mut descriptor.listed, true) {
            self.check.list.push(fd);
        }
        if begins { Watch::Beginning } else { Watch::Watching }
    }

    fn unwatch(&mut self, fd: RawFd, key: RequestKey) {
        self.descriptor(fd).waiters.retain(|(waiter, _)| *waiter != key);
    }

    fn offload(&mut self, call: &Call, key: RequestKey) {
        if !matches!(call, Call::Transfer(transfer) if self.goes_to_the_device(transfer, key)) {
            self.workers.offload(key, call.clone());
        } else if self.direct.is_a_batch() {
            self.submit_direct();
        }
    }

    fn abort(&mut self, key: RequestKey) -> Abort {
        self.direct.abort(key).unwrap_or_else(|| self.workers.abort(key))
    }

    /// The registration goes first: the file may live on under another number, and would announce
    /// events of this one.
    fn forget(&mut self, fd: RawFd, waiting: &mut Vec<RequestKey>) {
        if usize::try_from(fd).is_ok_and(|index| index < self.descriptors.len()) {
            if self.descriptor(fd).registered {
                // Closed behind our back, it is not there any more.
                let _ = sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_DEL, fd, 0, 0);
            }
            self.descriptor(fd).forget(waiting);
        }
    }

    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.submit_direct();
        let now = (!self.check.list.is_empty()).then(Instant::now);
        if now.is_some_and(|now| now >= self.check.next) {
            self.look_after_waits(ready);
        }
        let may_sleep = wait != Wait::No
            && ready.is_empty()
            && self.gone.is_empty()
            && self.workers.announce_sleep();
        let timeout = if may_sleep { self.timeout(wait, now) } else { Some(Duration::ZERO) };
        let mut events = std::mem::take(&mut self.events);
        let waited = sys::epoll_wait(self.epoll.as_fd(), &mut events, timeout);
        self.workers.end_sleep();
        for event in &events[..*waited.as_ref().unwrap_or(&0)] {
            self.take_event(*event, ready);
        }
        self.events = events;
        self.take_results(ready);
        match waited {
            // A signal: the caller looks at what it waits for and comes back.
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn begin_wait_elsewhere(&mut self, wait: Wait) -> Wait {
        self.submit_direct();
        match self.workers.announce_sleep() {
            true => wait.no_later_than((!self.check.list.is_empty()).then_some(self.check.next)),
            false => Wait::No,
        }
    }

    fn end_wait_elsewhere(&mut self) {
        self.workers.end_sleep();
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn clock(&self, clock: Clock) -> Duration {
        sys::clock(match clock {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::SinceBoot => libc::CLOCK_BOOTTIME,
            Clock::TimeOfDay => libc::CLOCK_REALTIME,
        })
    }

    fn unparker(&self) -> Unparker {
        Unparker::Event(Arc::clone(&self.event))
    }
}
