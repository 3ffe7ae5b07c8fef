//! Tests: the driver with completions that are late, extra, or never come.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::ring::Config;

pub(super) fn driver() -> Driver {
    let config = Config::new(8, 32);
    Driver::new(Ring::open(&config).expect("a ring"))
}

fn turn_until_idle(driver: &mut Driver) {
    let mut deliveries = Deliveries::default();
    while driver.in_flight() > 0 {
        driver.turn(Wait::Forever, &mut deliveries).expect("the ring works");
        deliveries.deliver(Waker::wake);
    }
}

fn take(driver: &mut Driver, token: Token) -> Completion {
    driver.take(token).expect("it has ended")
}

#[test]
fn late_and_extra_completions_are_ignored_and_counted() {
    let mut driver = driver();
    let mut deliveries = Deliveries::default();
    let token = driver.start_nop();
    let extra = |token: Token, flags| Completion { token: token.0, result: 7, flags };
    driver.complete(extra(token, COMPLETION_MORE), &mut deliveries);
    assert_eq!(
        (driver.in_flight(), driver.counters.stale_completions.get()),
        (1, 0),
        "one with F_MORE is not the last"
    );
    driver.complete(extra(token, COMPLETION_MORE), &mut deliveries);
    assert_eq!(
        (driver.in_flight(), driver.counters.stale_completions.get()),
        (1, 1),
        "and a second one is extra"
    );
    turn_until_idle(&mut driver);
    driver.complete(extra(token, 0), &mut deliveries);
    assert_eq!(driver.counters.stale_completions.get(), 2, "one for a finished slot is extra");
    assert_eq!(take(&mut driver, token).result, 0, "the operation's own result stands");
    driver.complete(extra(token, 0), &mut deliveries);
    assert_eq!(driver.counters.stale_completions.get(), 3, "one for a free slot is late");
    let next = driver.start_nop();
    assert_eq!(next.index(), token.index(), "the slot is used again");
    driver.complete(extra(token, 0), &mut deliveries);
    assert_eq!(
        (driver.in_flight(), driver.counters.stale_completions.get()),
        (1, 4),
        "the generation tells the two apart"
    );
    turn_until_idle(&mut driver);
    take(&mut driver, next);
}

#[test]
fn generations_wrap_without_meeting_the_private_tokens() {
    let mut driver = driver();
    let token = driver.start_nop();
    turn_until_idle(&mut driver);
    take(&mut driver, token);
    driver.slots.age(u32::MAX - 3);
    for _ in 0..8 {
        let token = driver.start_nop();
        assert!(token.0 < CANCEL);
        turn_until_idle(&mut driver);
        assert_eq!(take(&mut driver, token).result, 0);
    }
    assert_eq!(driver.slots.len(), 0);
}

#[test]
fn more_entries_than_the_queue_holds_all_complete_once() {
    let mut driver = driver();
    let tokens: Vec<_> = (0..1000).map(|_| driver.start_nop()).collect();
    turn_until_idle(&mut driver);
    for token in tokens {
        assert_eq!(take(&mut driver, token).result, 0);
    }
    assert_eq!((driver.slots.len(), driver.counters.stale_completions.get()), (0, 0));
}

#[test]
fn a_cancelled_slot_is_cancelled_again_until_its_last_completion() {
    let mut driver = driver();
    let (_writer, reader) = io::pipe().map(|(reader, writer)| (writer, reader)).expect("a pipe");
    let token = driver.start_poll(&reader);
    let mut deliveries = Deliveries::default();
    driver.turn(Wait::No, &mut deliveries).expect("the ring works");
    // As when the kernel answered "not found" to the first cancel: it was lost, and only the list
    // remembers the slot.
    driver.slot(token).cancelling = true;
    let now = Instant::now();
    driver.cancelled.push(Reverse(Cancelled {
        again_at: now,
        token,
        next_pause: FIRST_CANCEL_PAUSE,
    }));
    turn_until_idle(&mut driver);
    assert_eq!(take(&mut driver, token).result, -libc::ECANCELED);
    driver.turn(Wait::No, &mut deliveries).expect("the ring works");
}

/// An orphan that counts its ends.
pub(super) struct Ends(pub(super) Rc<Cell<usize>>);

impl Orphan for Ends {
    fn finish(self: Box<Self>, _completion: Completion) {}

    fn let_go(&mut self, _completion: Completion) -> Option<Box<dyn Any>> {
        None
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Whether the driver of this process's test frees what is in flight, told by a child: what it
/// leaks is a leak to a sanitizer.
fn in_a_process_that_may_leak(name: &str, test: impl FnOnce()) {
    const CHILD: &str = "ANNULUS_TEST_CHILD";
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        test();
        return println!("{name} ended well");
    }
    let name_of_test = format!("driver::tests::{name}");
    let options =
        std::env::var("ASAN_OPTIONS").map_or_else(|_| String::new(), |options| options + ":");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"));
    child
        .args([&name_of_test, "--exact", "--nocapture"])
        .env(CHILD, name)
        .env("ASAN_OPTIONS", options + "detect_leaks=0");
    let output = child.output().expect("the test binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("ended well"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_is_in_flight_when_the_ring_closes_is_never_freed() {
    in_a_process_that_may_leak("what_is_in_flight_when_the_ring_closes_is_never_freed", || {
        for closed_first in [true, false] {
            let ends = Rc::new(Cell::new(0));
            let mut driver = driver();
            let (reader, _writer) = io::pipe().expect("a pipe");
            let token = driver.start_poll(&reader);
            drop(driver.orphan(token, Box::new(Ends(ends.clone()))));
            let mut deliveries = Deliveries::default();
            driver.turn(Wait::No, &mut deliveries).expect("the ring works");
            deliveries.deliver(Waker::wake);
            if closed_first {
                driver.close_ring();
                assert_eq!((driver.in_flight(), ends.get()), (1, 0));
            }
            drop(driver);
            assert_eq!(ends.get(), 0, "the kernel may still write there");
        }
    });
}
