//! The workers, which make the calls that take long: threads of the pool under `spawn_blocking`, a
//! bounded number of them at a time.
//!
//! A thread takes call after call, and waits a while for the next before it goes back to the pool,
//! so that most calls cost no more than a wake, and none where a thread has just ended its call.
//! What has not been taken can still be withdrawn.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::calls::{self, MayWait};
use crate::ring::request::{Call, SocketCall};
use crate::ring::world::{Abort, RequestKey};
use crate::sys::{self, threads};

/// Calls at a time, unless the user wants another number: enough to keep a disk busy, and few
/// threads.
pub(super) const DEFAULT_BOUND: usize = 32;
/// How long a thread waits for the next call.
const LINGER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<SharedQueue>,
    bound: usize,
    /// Calls of which no result has been collected. Without any, nothing that is shared need be
    /// looked at.
    in_flight: usize,
    /// Taken in exchange for the full one, so that neither grows anew each time.
    emptied: Vec<Worked>,
}

/// What the threads and the ring's owner share.
#[derive(Debug)]
struct SharedQueue {
    queue: Mutex<CallQueue>,
    has_results: AtomicBool,
    /// The owner waits, or is about to look at `has_results` for the last time before it does.
    sleeps: AtomicBool,
    /// For the owner, when it leaves: nobody uses its event any more.
    let_go: Condvar,
}

#[derive(Debug, Default)]
struct CallQueue {
    calls: VecDeque<(RequestKey, Call)>,
    results: Vec<Worked>,
    /// Threads that take calls.
    threads: usize,
    /// Of these, the ones that make no call now. All but the idle are about to look for one.
    free: usize,
    /// Of the free, the ones that wait to be woken. The last to come is woken first, so that those
    /// too many are left in peace, and leave.
    idle: Vec<Thread>,
    /// Ends the owner's wait. None once the owner has gone: a thread that is about to leave keeps
    /// no descriptor of its open.
    event: Option<Arc<File>>,
    /// Threads that are using the event.
    waking: usize,
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worked {
    pub(super) key: RequestKey,
    pub(super) result: i32,
    /// The result is a descriptor that was not there before.
    pub(super) is_descriptor: bool,
}

impl Workers {
    pub(super) fn new(event: Arc<File>, bound: usize) -> Workers {
        let queue = Mutex::new(CallQueue { event: Some(event), ..CallQueue::default() });
        let shared = SharedQueue {
            queue,
            has_results: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            let_go: Condvar::new(),
        };
        Workers { shared: Arc::new(shared), bound, in_flight: 0, emptied: Vec::new() }
    }

    pub(super) fn offload(&mut self, key: RequestKey, call: Call) {
        self.in_flight += 1;
        let mut queue = self.shared.lock();
        queue.calls.push_back((key, call));
        if queue.calls.len() <= queue.free - queue.idle.len() {
            return;
        }
        if let Some(idle) = queue.idle.pop() {
            drop(queue);
            idle.unpark();
        } else if queue.threads < self.bound && threads::are_granted() {
            queue.threads += 1;
            drop(queue);
            let shared = Arc::clone(&self.shared);
            blocking::unblock(move || shared.work()).detach();
        } else if queue.threads == 0 {
            drop(queue);
            self.make_calls();
        }
    }

    /// Makes the calls that no thread will make.
    #[cold]
    fn make_calls(&self) {
        let _off = sys::NoSignalOfLargeFiles::here();
        let mut queue = self.shared.lock();
        while let Some((key, call)) = queue.calls.pop_front() {
            drop(queue);
            let worked = perform(key, &call);
            queue = self.shared.lock();
            queue.results.push(worked);
            self.shared.has_results.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn abort(&mut self, key: RequestKey) -> Abort {
        let mut queue = self.shared.lock();
        match queue.calls.iter().position(|(queued, _)| *queued == key) {
            Some(index) => {
                queue.calls.remove(index);
                self.in_flight -= 1;
                Abort::Stopped
            }
            None => Abort::Running,
        }
    }

    /// Says that the owner is going to wait, so that threads wake it. `false`: there are results
    /// already.
    pub(super) fn announce_sleep(&self) -> bool {
        if self.in_flight == 0 {
            return true;
        }
        self.shared.sleeps.store(true, Ordering::SeqCst);
        !self.shared.has_results.load(Ordering::SeqCst)
    }

    pub(super) fn end_sleep(&self) {
        if self.in_flight > 0 {
            self.shared.sleeps.store(false, Ordering::Relaxed);
        }
    }

    /// Hands each result to `take`.
    pub(super) fn collect(&mut self, mut take: impl FnMut(Worked)) {
        if self.in_flight == 0 || !self.shared.has_results.swap(false, Ordering::SeqCst) {
            return;
        }
        let mut results = std::mem::take(&mut self.emptied);
        std::mem::swap(&mut self.shared.lock().results, &mut results);
        self.in_flight -= results.len();
        results.drain(..).for_each(&mut take);
        self.emptied = results;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.event = None;
        queue.idle.drain(..).for_each(|idle| idle.unpark());
        while queue.waking > 0 {
            queue = self.shared.let_go.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, CallQueue> {
        // Nothing under the lock panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes calls until none has come for a while.
    fn work(&self) {
        let this = thread::current();
        let _off = sys::NoSignalOfLargeFiles::here();
        let mut queue = self.lock();
        loop {
            while let Some((key, call)) = queue.calls.pop_front() {
                drop(queue);
                let worked = perform(key, &call);
                queue = self.bring(worked);
            }
            if queue.event.is_none() {
                break;
            }
            queue.free += 1;
            queue.idle.push(this.clone());
            drop(queue);
            thread::park_timeout(LINGER);
            queue = self.lock();
            queue.free -= 1;
            // Who was woken is not in the list any more.
            if let Some(place) = queue.idle.iter().position(|idle| idle.id() == this.id()) {
                queue.idle.remove(place);
                if queue.calls.is_empty() {
                    break;
                }
            }
        }
        queue.threads -= 1;
    }

    /// Hands a result over, and wakes the owner if it waits. That is a system call, and done
    /// without the lock, which the owner wants at once.
    fn bring(&self, worked: Worked) -> MutexGuard<'_, CallQueue> {
        let mut queue = self.lock();
        queue.results.push(worked);
        self.has_results.store(true, Ordering::SeqCst);
        if self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(event) = queue.event.clone()
        {
            queue.free += 1;
            queue.waking += 1;
            drop(queue);
            // A counter at its maximum has long since woken the owner.
            let _ = (&*event).write_all(&1u64.to_ne_bytes());
            drop(event);
            queue = self.lock();
            queue.free -= 1;
            queue.waking -= 1;
            if queue.event.is_none() {
                self.let_go.notify_one();
            }
        }
        queue
    }
}

fn perform(key: RequestKey, call: &Call) -> Worked {
    // Somebody else may have taken the connection that the owner saw; better to say so than to wait
    // for the next where no cancel reaches.
    let stolen = matches!(call, Call::Socket(SocketCall::Accept { fd, .. }) if calls::poll(*fd, libc::POLLIN as u32) == 0);
    let result = if stolen { -libc::EAGAIN } else { calls::make(call, MayWait::Yes) };
    Worked { key, result, is_descriptor: result >= 0 && call.makes_descriptor() }
}
