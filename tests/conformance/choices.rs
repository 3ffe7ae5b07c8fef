//! A world for the software ring that does what io_uring leaves open the one way or the other, as a
//! seed has it.
//!
//! It stands between the engine and the machine. Most choices are made by answering for the
//! machine: "that would wait", although it would not; "no thread has taken that call yet", although
//! one might have; what is ready, in another order. None of that can be seen in a program that does
//! not race with itself, but for the order of completions. What can be seen is chosen only where a
//! world is `free`: short transfers, and who wins when a cancel meets what has come.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::common::Random;
use super::ring::host::Host;
use super::ring::request::{Call, PathCall, SocketCall, TransferCall};
use super::ring::world::{
    Abort, Attempt, Clock, Interest, Leeway, Ready, RequestKey, Watch, World,
};
use super::ring::{Unparker, Wait};

/// Turns that a call stays with this world, where the owner does not wait for it, before a thread
/// of the pool has it.
const TURNS_HELD: usize = 3;

/// Where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A request is tried at once, or waits for its descriptor first.
    WaitsFirst,
    /// A name is looked up at once, or by a thread.
    Offloads,
    /// A thread takes a call at once, or some time later.
    Holds,
    /// A cancel comes to a call that no thread has taken: it stops it, or a thread has taken it
    /// just then.
    IsTaken,
    /// What has become ready at the same time is told in its order, or in another.
    Shuffles,
    /// A multishot request goes on with its next shot, or the others have their turn first.
    StopsShooting,
    /// A transfer moves all that it can, or a part.
    MovesLess,
    /// A cancel wins against what has come, or not.
    LetsArrivalsWin,
    /// A cancel's answer comes before the end of what it has ended, or after it.
    TellsAnswersFirst,
}

impl Choice {
    pub(crate) const ALL: [Choice; 9] = [
        Choice::WaitsFirst,
        Choice::Offloads,
        Choice::Holds,
        Choice::IsTaken,
        Choice::Shuffles,
        Choice::StopsShooting,
        Choice::MovesLess,
        Choice::LetsArrivalsWin,
        Choice::TellsAnswersFirst,
    ];
}

thread_local! {
    /// How often a choice went which way.
    static MADE: Cell<[[u64; 2]; Choice::ALL.len()]> = const { Cell::new([[0; 2]; Choice::ALL.len()]) };
}

/// How often this thread's worlds have said no and yes.
pub(crate) fn made(choice: Choice) -> [u64; 2] {
    MADE.get()[choice as usize]
}

pub(crate) struct Chooser {
    machine: Host,
    random: Random,
    free: bool,
    watches: Vec<(RawFd, RequestKey)>,
    /// Descriptors of which it was said that they would wait, and which are to be announced with
    /// the next wait.
    owed: Vec<RawFd>,
    /// The last descriptor that was not tried: it is the next time.
    put_off: Option<RawFd>,
    /// What has happened before the next wait, to be told by that.
    arrived: Vec<Ready>,
    /// Calls that no thread has taken, and for how many turns.
    held: VecDeque<(RequestKey, Call, usize)>,
}

impl std::fmt::Debug for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser")
            .field("owed", &self.owed)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Chooser {
    pub(crate) fn new(seed: u64, free: bool, workers: Option<u32>) -> io::Result<Chooser> {
        let machine = Host::open(workers)?;
        Ok(Chooser {
            machine,
            random: Random::new(seed),
            free,
            watches: Vec::new(),
            owed: Vec::new(),
            put_off: None,
            arrived: Vec::new(),
            held: VecDeque::new(),
        })
    }

    fn chooses(&self, choice: Choice) -> bool {
        let yes = self.random.chance(3);
        let mut made = MADE.get();
        made[choice as usize][usize::from(yes)] += 1;
        MADE.set(made);
        yes
    }

    /// Is a request put off that could be tried now? Never twice in a row, so that each turn brings
    /// everything one step further.
    fn puts_off(&mut self, call: &Call) -> Option<Interest> {
        let (fd, interest) = match call {
            Call::Socket(SocketCall::Recv(transfer)) if may_wait(transfer.flags) => {
                (transfer.fd, Interest::INPUT)
            }
            Call::Socket(SocketCall::Send(transfer)) if may_wait(transfer.flags) => {
                (transfer.fd, Interest::OUTPUT)
            }
            Call::Socket(SocketCall::RecvMsg { fd, flags, .. }) if may_wait(*flags) => {
                (*fd, Interest::INPUT)
            }
            Call::Socket(SocketCall::SendMsg { fd, flags, .. }) if may_wait(*flags) => {
                (*fd, Interest::OUTPUT)
            }
            Call::Socket(SocketCall::Accept { fd, .. }) => (*fd, Interest::INPUT),
            Call::Transfer(call) if call.transfer().flags == 0 => (
                call.transfer().fd,
                if call.is_write() { Interest::OUTPUT } else { Interest::INPUT },
            ),
            _ => return None,
        };
        if self.put_off.take() == Some(fd) || !self.chooses(Choice::WaitsFirst) {
            return None;
        }
        self.put_off = Some(fd);
        self.owed.push(fd);
        Some(interest)
    }

    /// Asks for less than the request does, of what can be moved in parts.
    fn shortens(&mut self, call: &Call) -> Option<(Call, bool)> {
        let mut shorter = call.clone();
        let (length, goes_on) = match &mut shorter {
            Call::Socket(SocketCall::Recv(transfer) | SocketCall::Send(transfer)) => {
                (&mut transfer.length, transfer.flags & libc::MSG_WAITALL as u32 != 0)
            }
            Call::Transfer(TransferCall::Read(transfer) | TransferCall::Write(transfer)) => {
                (&mut transfer.length, has_position(transfer.fd))
            }
            _ => return None,
        };
        // Whoever is sent a part may see to it that the rest does not come through.
        let is_output = matches!(
            call,
            Call::Socket(SocketCall::Send(_)) | Call::Transfer(TransferCall::Write(_))
        );
        let is_seen = is_output || !goes_on;
        if *length < 2 || (is_seen && !self.free) || !self.chooses(Choice::MovesLess) {
            return None;
        }
        *length = self.random.up_to(*length as usize - 1) as u32;
        Some((shorter, goes_on))
    }

    /// Gives threads the calls whose time has come.
    fn release(&mut self, all: bool) {
        for _ in 0..self.held.len() {
            match self.held.pop_front() {
                Some((key, call, turns)) if turns > 0 && !all => {
                    self.held.push_back((key, call, turns - 1))
                }
                Some((key, call, _)) => self.machine.offload(&call, key),
                None => {}
            }
        }
    }

    fn shuffle(&mut self, ready: &mut [Ready]) {
        if ready.len() > 1 && self.chooses(Choice::Shuffles) {
            for last in (1..ready.len()).rev() {
                ready.swap(last, self.random.below(last + 1));
            }
        }
    }
}

/// These look for something other than the stream of data, or want to know at once.
fn may_wait(flags: u32) -> bool {
    flags & (libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_ERRQUEUE) as u32 == 0
}

/// A file's transfers are made up of their parts.
fn has_position(fd: RawFd) -> bool {
    // SAFETY: the call takes no memory.
    unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) >= 0 }
}

impl World for Chooser {
    fn attempt(&mut self, call: &mut Call) -> Attempt {
        if let Some(interest) = self.puts_off(call) {
            return Attempt::Blocked(interest);
        }
        if matches!(call, Call::Path(PathCall::OpenAt { .. })) && self.chooses(Choice::Offloads) {
            return Attempt::Blocking;
        }
        match self.shortens(call) {
            Some((mut shorter, goes_on)) => match self.machine.attempt(&mut shorter) {
                Attempt::Done(count @ 1..) | Attempt::Last(count @ 1.., _) if goes_on => {
                    Attempt::Part(count as u32)
                }
                attempt => attempt,
            },
            None => self.machine.attempt(call),
        }
    }

    fn watch(&mut self, fd: RawFd, interest: Interest, key: RequestKey) -> Watch {
        let watch = self.machine.watch(fd, interest, key);
        if matches!(watch, Watch::Beginning | Watch::Watching) {
            self.watches.push((fd, key));
        }
        watch
    }

    fn unwatch(&mut self, fd: RawFd, key: RequestKey) {
        self.watches.retain(|watch| *watch != (fd, key));
        self.machine.unwatch(fd, key);
    }

    fn offload(&mut self, call: &Call, key: RequestKey) {
        match self.chooses(Choice::Holds) {
            true => self.held.push_back((key, call.clone(), self.random.up_to(TURNS_HELD))),
            false => self.machine.offload(call, key),
        }
    }

    fn abort(&mut self, key: RequestKey) -> Abort {
        let Some(index) = self.held.iter().position(|(held, ..)| *held == key) else {
            return self.machine.abort(key);
        };
        let Some((key, call, _)) = self.held.remove(index) else { return Abort::Stopped };
        if !self.chooses(Choice::IsTaken) {
            return Abort::Stopped;
        }
        self.machine.offload(&call, key);
        Abort::Running
    }

    fn forget(&mut self, fd: RawFd, waiting: &mut Vec<RequestKey>) {
        self.machine.forget(fd, waiting);
    }

    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> io::Result<()> {
        let owed = std::mem::take(&mut self.owed);
        ready.append(&mut self.arrived);
        ready.extend(
            self.watches
                .iter()
                .filter(|(fd, _)| owed.contains(fd))
                .map(|(_, key)| Ready::Descriptor(*key)),
        );
        self.release(wait != Wait::No);
        let wait = if ready.is_empty() { wait } else { Wait::No };
        let waited = self.machine.wait(wait, ready);
        self.shuffle(ready);
        waited
    }

    fn descriptor(&self) -> RawFd {
        self.machine.descriptor()
    }

    fn begin_wait_elsewhere(&mut self, wait: Wait) -> Wait {
        self.machine.begin_wait_elsewhere(wait)
    }

    fn end_wait_elsewhere(&mut self) {
        self.machine.end_wait_elsewhere();
    }

    fn now(&self) -> Instant {
        self.machine.now()
    }

    fn clock(&self, clock: Clock) -> Duration {
        self.machine.clock(clock)
    }

    fn unparker(&self) -> Unparker {
        self.machine.unparker()
    }

    fn leeway(&mut self) -> Option<&mut dyn Leeway> {
        Some(self)
    }
}

impl Leeway for Chooser {
    fn lets_arrivals_win(&mut self) -> bool {
        let lets = self.free && self.chooses(Choice::LetsArrivalsWin);
        if lets {
            // Readiness is kept in memory, and this is how the machine looks for news.
            let _ = self.machine.wait(Wait::No, &mut self.arrived);
        }
        lets
    }

    fn tells_answers_first(&mut self) -> bool {
        self.chooses(Choice::TellsAnswersFirst)
    }

    fn stops_shooting(&mut self) -> bool {
        self.chooses(Choice::StopsShooting)
    }
}
