//! Every short sequence of events on the real driver, beside a model of it.
//!
//! The kernel is this test: entries stay in the backlog, and completions are made up.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::tests::{Ends, driver};
use super::*;

/// What can happen to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    Poll,
    DropFuture,
    Cancel,
    /// The kernel answers a cancel with "not found".
    NotFound,
    /// A completion that others follow: the result of a zero-copy send.
    More,
    /// The notification of a zero-copy send.
    Notification,
    Last,
    /// A completion of the operation before, which used the same slot.
    Late,
    /// The runtime ends: what is in flight is cancelled.
    ShutDown,
}

const EVENTS: [Event; 10] = [
    Event::Start,
    Event::Poll,
    Event::DropFuture,
    Event::Cancel,
    Event::NotFound,
    Event::More,
    Event::Notification,
    Event::Last,
    Event::Late,
    Event::ShutDown,
];

/// Where an operation is, in a model that knows no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelState {
    Nowhere,
    Waiting,
    Finished,
    Orphaned,
}

/// One operation after the other, as their user, the kernel and the model see them.
struct ModelSlot {
    state: ModelState,
    token: Option<Token>,
    before: Option<Token>,
    /// The first of the two completions of a zero-copy send, if it has come.
    first_part: Option<Event>,
    /// The future has been woken and not polled since.
    is_woken: bool,
    orphaned: Rc<Cell<usize>>,
    expected_ends: usize,
}

impl ModelSlot {
    fn new() -> ModelSlot {
        ModelSlot {
            state: ModelState::Nowhere,
            token: None,
            before: None,
            first_part: None,
            is_woken: false,
            orphaned: Rc::default(),
            expected_ends: 0,
        }
    }

    /// Can this happen now? A future is polled only while there is one, and the kernel completes
    /// only what it holds.
    fn allows(&self, event: Event, is_shut_down: bool) -> bool {
        match event {
            Event::Start => self.state == ModelState::Nowhere && !is_shut_down,
            Event::Poll | Event::DropFuture | Event::Cancel => {
                matches!(self.state, ModelState::Waiting | ModelState::Finished)
            }
            Event::NotFound => true,
            Event::More | Event::Notification => self.token.is_some(),
            Event::Last => matches!(self.state, ModelState::Waiting | ModelState::Orphaned),
            Event::Late => self.before.is_some(),
            Event::ShutDown => !is_shut_down,
        }
    }

    fn gone(&mut self) {
        self.state = ModelState::Nowhere;
        self.before = self.token.take();
        self.first_part = None;
    }
}

/// Counts the wakes of the futures.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A driver that never enters its ring, so that the kernel is whoever calls `complete`, and what
/// must be true of it.
struct Model {
    driver: Driver,
    deliveries: Deliveries,
    slots: Vec<ModelSlot>,
    wakes: Arc<Wakes>,
    waker: Waker,
    expected_wakes: usize,
    stale: u64,
    is_shut_down: bool,
}

impl Model {
    fn new(driver: Driver, slots: usize) -> Model {
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let (stale, slots) = (
            driver.counters.stale_completions.get(),
            (0..slots).map(|_| ModelSlot::new()).collect(),
        );
        Model {
            driver,
            deliveries: Deliveries::default(),
            slots,
            wakes,
            waker,
            expected_wakes: 0,
            stale,
            is_shut_down: false,
        }
    }

    fn complete(&mut self, token: u64, flags: u32) {
        self.driver.complete(Completion { token, result: 1, flags }, &mut self.deliveries);
        self.deliveries.deliver(Waker::wake);
    }

    fn apply(&mut self, event: Event, slot: usize) {
        let (token, before) = (self.slots[slot].token, self.slots[slot].before);
        let current = || token.expect("the event is allowed");
        match event {
            Event::Start => {
                let token = self.driver.start_nop();
                drop(self.driver.set_waker(token, self.waker.clone()));
                self.slots[slot].is_woken = false;
                assert_ne!(Some(token), before, "a token is not used twice");
                self.slots[slot].token = Some(token);
                self.slots[slot].state = ModelState::Waiting;
            }
            Event::Poll => match self.driver.take(current()) {
                Some(completion) => {
                    assert_eq!(self.slots[slot].state, ModelState::Finished);
                    assert_eq!(completion.flags & COMPLETION_MORE, 0, "only the last one ends it");
                    self.slots[slot].gone();
                }
                None if self.driver.waits_with(current(), &self.waker) => {
                    assert_eq!(
                        (self.slots[slot].state, self.slots[slot].is_woken),
                        (ModelState::Waiting, false)
                    );
                }
                None => {
                    assert!(self.slots[slot].is_woken, "the waker is the same");
                    drop(self.driver.set_waker(current(), self.waker.clone()));
                    self.slots[slot].is_woken = false;
                }
            },
            Event::DropFuture => match self.driver.take(current()) {
                Some(_) => {
                    assert_eq!(self.slots[slot].state, ModelState::Finished);
                    self.slots[slot].gone();
                }
                None => {
                    assert_eq!(self.slots[slot].state, ModelState::Waiting);
                    let orphan = Box::new(Ends(self.slots[slot].orphaned.clone()));
                    drop(self.driver.orphan(current(), orphan));
                    self.driver.cancel(current());
                    self.slots[slot].state = ModelState::Orphaned;
                }
            },
            Event::Cancel => self.driver.cancel(current()),
            Event::NotFound => {
                self.driver.send_cancels();
                self.driver.complete(
                    Completion { token: CANCEL, result: -libc::ENOENT, flags: 0 },
                    &mut self.deliveries,
                );
            }
            Event::More | Event::Notification => self.complete_zero_copy(event, slot),
            Event::Last => {
                self.end(slot);
                self.complete(token.expect("in flight").0, 0);
            }
            Event::Late => {
                self.stale += 1;
                self.complete(before.expect("the event is allowed").0, 0);
            }
            Event::ShutDown => {
                self.driver.cancel_all();
                self.is_shut_down = true;
            }
        }
    }

    /// One of the two completions of a zero-copy send.
    fn complete_zero_copy(&mut self, event: Event, slot: usize) {
        let token = self.slots[slot].token.expect("the event is allowed").0;
        let slot_now = &mut self.slots[slot];
        let in_flight = matches!(slot_now.state, ModelState::Waiting | ModelState::Orphaned);
        match slot_now.first_part {
            Some(part) if in_flight && part != event => self.end(slot),
            None if in_flight => {
                slot_now.first_part = Some(event);
                if event == Event::More && slot_now.state == ModelState::Waiting {
                    self.expected_wakes += usize::from(!slot_now.is_woken);
                    slot_now.is_woken = true;
                }
            }
            _ => self.stale += 1,
        }
        let flags = if event == Event::More { COMPLETION_MORE } else { COMPLETION_NOTIFICATION };
        self.complete(token, flags);
    }

    /// The last completion is about to come.
    fn end(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if slot.state == ModelState::Waiting {
            self.expected_wakes += usize::from(!slot.is_woken);
            slot.is_woken = true;
            slot.state = ModelState::Finished;
        } else {
            slot.expected_ends += 1;
            slot.gone();
        }
    }

    fn check(&self, path: &[(Event, usize)]) {
        let count = |wanted: &[ModelState]| {
            self.slots.iter().filter(|slot| wanted.contains(&slot.state)).count()
        };
        assert_eq!(
            self.driver.in_flight(),
            count(&[ModelState::Waiting, ModelState::Orphaned]),
            "in flight after {path:?}"
        );
        assert_eq!(
            self.driver.slots.len(),
            count(&[ModelState::Waiting, ModelState::Finished, ModelState::Orphaned]),
            "slots after {path:?}"
        );
        assert_eq!(
            self.driver.counters.stale_completions.get(),
            self.stale,
            "stale completions after {path:?}"
        );
        assert_eq!(
            self.wakes.0.load(Ordering::Relaxed),
            self.expected_wakes,
            "wakes after {path:?}"
        );
        for expected in &self.slots {
            assert_eq!(
                expected.orphaned.get(),
                expected.expected_ends,
                "memory freed after {path:?}"
            );
            let token = expected.token;
            let slot = token.and_then(|token| self.driver.slots.get(token));
            let agrees = match expected.state {
                ModelState::Nowhere => slot.is_none(),
                ModelState::Waiting => {
                    slot.is_some_and(|slot| matches!(slot.state, SlotState::Waiting(_)))
                }
                ModelState::Finished => {
                    slot.is_some_and(|slot| matches!(slot.state, SlotState::Finished { .. }))
                }
                ModelState::Orphaned => slot.is_some_and(|slot| {
                    matches!(slot.state, SlotState::Orphaned(_))
                        && (slot.cancelling || expected.first_part.is_some())
                }),
            };
            let in_flight = matches!(expected.state, ModelState::Waiting | ModelState::Orphaned)
                && expected.first_part != Some(Event::More);
            if slot.is_some_and(|slot| in_flight && slot.cancelling) {
                let again = self
                    .driver
                    .cancelled
                    .iter()
                    .any(|Reverse(cancelled)| Some(cancelled.token) == token);
                assert!(
                    again || self.driver.to_cancel.iter().any(|other| Some(*other) == token),
                    "nobody cancels again after {path:?}"
                );
            }
            assert!(agrees, "the slot of {:?} after {path:?}", expected.state);
        }
    }

    /// Brings everything to its end and gives the driver back, as new.
    fn finish(mut self, path: &[(Event, usize)]) -> Driver {
        for slot in 0..self.slots.len() {
            for event in [Event::DropFuture, Event::Last] {
                if self.slots[slot].allows(event, self.is_shut_down) {
                    self.apply(event, slot);
                }
            }
        }
        self.check(path);
        assert_eq!(self.driver.slots.len(), 0, "a slot is left after {path:?}");
        // The entries never went to the kernel: they are taken back before they can.
        self.driver.backlog.truncate(1);
        self.driver.to_cancel.clear();
        self.driver.cancelled.clear();
        self.driver
    }
}

/// Every sequence of this many events that can happen, each on a driver in its first state.
fn interleavings(slots: usize, length: usize) -> usize {
    let mut driver = driver();
    // Once an entry waits, all later ones wait behind it: the kernel sees none.
    driver.backlog.push_back(opcode::Nop::new().build());
    let mut driver = Some(driver);
    let mut path: Vec<(Event, usize)> = Vec::new();
    let mut run = 0;
    let choices: Vec<_> = (0..slots).flat_map(|slot| EVENTS.map(|event| (event, slot))).collect();
    // The next choice to try at each depth.
    let mut next = vec![0];
    while let Some(choice) = next.last_mut() {
        let Some(&(event, slot)) = choices.get(*choice) else {
            next.pop();
            path.pop();
            continue;
        };
        *choice += 1;
        // These concern all slots, so once is enough.
        if slot > 0 && matches!(event, Event::NotFound | Event::ShutDown) {
            continue;
        }
        let mut model = Model::new(driver.take().expect("given back"), slots);
        for &(event, slot) in &path {
            model.apply(event, slot);
        }
        let is_possible = model.slots[slot].allows(event, model.is_shut_down);
        if is_possible {
            path.push((event, slot));
            model.apply(event, slot);
            model.check(&path);
        }
        driver = Some(model.finish(&path));
        if is_possible {
            run += 1;
            if path.len() < length {
                next.push(0);
            } else {
                path.pop();
            }
        }
    }
    run
}

#[test]
fn one_slot_is_right_after_every_sequence_of_events() {
    const LENGTH: usize = 8;
    println!("one slot, up to {LENGTH} events: {} sequences", interleavings(1, LENGTH));
}

#[test]
fn two_slots_are_right_after_every_sequence_of_events() {
    const LENGTH: usize = 6;
    println!("two slots, up to {LENGTH} events: {} sequences", interleavings(2, LENGTH));
}
