//! Sleeps, time-outs and intervals: never early, in order, cheap in number.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use annulus::net::UnixStream;
use annulus::time::{
    MissedTickBehavior, interval, interval_at, sleep, sleep_until, timeout, timeout_at,
};
use annulus::{spawn, yield_now};
use common::{poll_in_task, poll_once, run_here, turns, watchdog};
use futures_util::future::{join_all, select};

const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1000);

#[test]
fn a_sleep_is_never_early() {
    run_here(async {
        for microseconds in [0, 1, 400, 524, 525, 999, 1000, 1049, 3333, 20_000] {
            let duration = Duration::from_micros(microseconds);
            let start = Instant::now();
            sleep(duration).await;
            assert!(start.elapsed() >= duration);
            let deadline = Instant::now() + duration;
            sleep_until(deadline).await;
            assert!(Instant::now() >= deadline);
        }
    });
}

#[test]
fn many_sleeps_at_once_are_none_of_them_early() {
    run_here(async {
        let sleeps = (0..2000u64).map(|index| async move {
            let duration = Duration::from_micros(index * 7919 % 50_000);
            let start = Instant::now();
            sleep(duration).await;
            assert!(start.elapsed() >= duration);
        });
        join_all(sleeps).await;
    });
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    run_here(async {
        let order: Rc<RefCell<Vec<u64>>> = Rc::default();
        let start = Instant::now();
        let tasks: Vec<_> = [30, 10, 50, 20, 40, 0]
            .into_iter()
            .map(|milliseconds| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep_until(start + milliseconds as u32 * MILLISECOND).await;
                    order.borrow_mut().push(milliseconds);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30, 40, 50]);
    });
}

#[test]
fn a_sleep_of_zero_and_one_that_is_over_let_the_others_have_their_turn() {
    run_here(async {
        let past = Instant::now();
        for make in [|_| sleep(Duration::ZERO), sleep_until] {
            let other = spawn(async {});
            make(past).await;
            assert!(other.is_finished());
        }
    });
}

#[test]
fn a_sleep_of_centuries_waits_and_is_dropped() {
    run_here(async {
        let now = Instant::now();
        for duration in [
            Duration::MAX,
            Duration::from_secs(u64::MAX),
            Duration::from_secs(300 * 365 * 86400),
            Duration::from_secs(86400 * 30),
        ] {
            let mut long = sleep(duration);
            assert!(long.deadline() > now + Duration::from_secs(86400));
            assert!(poll_in_task(&mut long).await.is_pending());
            sleep(MILLISECOND).await;
            assert!(poll_in_task(&mut long).await.is_pending() && !long.is_elapsed());
            assert!(timeout(duration, ready(1)).await.is_ok());
            assert!(timeout(MILLISECOND, &mut long).await.is_err());
        }
    });
}

#[test]
fn a_sleep_counts_from_the_call_and_not_from_the_first_poll() {
    run_here(async {
        let late = sleep(MILLISECOND);
        let deadline = late.deadline();
        std::thread::sleep(2 * MILLISECOND);
        let start = annulus::metrics().enters;
        late.await;
        assert!(Instant::now() >= deadline);
        assert!(annulus::metrics().enters - start <= 2, "it was over and did not wait");
    });
}

#[test]
fn a_reset_moves_a_sleep_to_and_fro() {
    run_here(async {
        let start = Instant::now();
        let mut moved = sleep(LONG);
        assert!(poll_in_task(&mut moved).await.is_pending());
        moved.reset(start + 2 * MILLISECOND);
        assert_eq!(moved.deadline(), start + 2 * MILLISECOND);
        (&mut moved).await;
        assert!(moved.is_elapsed() && start.elapsed() >= 2 * MILLISECOND);

        // Later, before it is over and after.
        let start = Instant::now();
        moved.reset(start + 2 * MILLISECOND);
        assert!(!moved.is_elapsed());
        assert!(poll_in_task(&mut moved).await.is_pending());
        moved.reset(start + 10 * MILLISECOND);
        (&mut moved).await;
        assert!(start.elapsed() >= 10 * MILLISECOND);
        // Over and polled again: still over.
        (&mut moved).await;
    });
}

#[test]
fn a_sleep_that_has_been_awaited_stays_elapsed() {
    run_here(async {
        let mut over = sleep(Duration::ZERO);
        assert!(!over.is_elapsed());
        (&mut over).await;
        assert!(over.is_elapsed());
        assert!(poll_in_task(&mut over).await.is_ready());
    });
}

#[test]
fn a_dropped_sleep_wakes_nobody_and_ends_no_wait() {
    run_here(async {
        let before = annulus::metrics().enters;
        for _ in 0..100 {
            let mut dropped = sleep(3 * MILLISECOND);
            assert!(poll_in_task(&mut dropped).await.is_pending());
        }
        sleep(30 * MILLISECOND).await;
        assert!(annulus::metrics().enters - before <= 10);
    });
}

#[test]
fn a_sleep_that_is_polled_in_one_task_and_ended_in_another_wakes_the_other() {
    run_here(async {
        let mut moved = sleep(5 * MILLISECOND);
        assert!(poll_in_task(&mut moved).await.is_pending());
        assert!(poll_once(Pin::new(&mut moved)).is_pending());
        spawn(moved).await.expect("no panic");
    });
}

#[test]
fn a_sleep_begun_in_one_runtime_ends_in_another() {
    let _watchdog = watchdog();
    for (first_ends, milliseconds) in [(false, 3), (true, 3), (true, 0)] {
        let duration = milliseconds * MILLISECOND;
        let start = Instant::now();
        let mut moved = sleep(duration);
        let first = common::runtime();
        assert!(first.block_on(poll_in_task(&mut moved)).is_pending());
        let first = if first_ends { None } else { Some(first) };
        common::runtime().block_on(&mut moved);
        assert!(start.elapsed() >= duration && moved.is_elapsed());
        // And back, and dropped outside of both.
        moved.reset(Instant::now() + duration);
        if let Some(first) = &first {
            first.block_on(&mut moved);
            moved.reset(Instant::now() + LONG);
            assert!(first.block_on(poll_in_task(&mut moved)).is_pending());
        }
        drop(first);
        drop(moved);
    }
}

#[test]
fn a_hundred_thousand_sleeps_that_are_mostly_dropped_cost_hardly_a_submission() {
    run_here(async {
        let before = annulus::metrics();
        let mut sleeps: Vec<_> =
            (0..100_000u64).map(|index| sleep(LONG + Duration::from_micros(index))).collect();
        for long in &mut sleeps {
            assert!(poll_in_task(long).await.is_pending());
        }
        let mut short: Vec<_> =
            (0..1000u64).map(|index| sleep(Duration::from_micros(index * 10))).collect();
        for sleep in &mut short {
            let _ = poll_in_task(sleep).await;
        }
        drop(sleeps);
        let start = Instant::now();
        for sleep in short {
            sleep.await;
        }
        let after = annulus::metrics();
        let elapsed = start.elapsed();
        // One timeout for each of the half milliseconds in which something was due, at most.
        let bound = 100 + 4 * elapsed.as_millis() as u64;
        assert!(after.submissions - before.submissions <= bound, "{after:?}");
        assert_eq!(after.operations, before.operations);
    });
}

#[test]
fn deadlines_that_are_pushed_back_again_and_again_cost_no_submission() {
    // As a server does with the time-out of each connection.
    run_here(async {
        let mut idle = sleep(LONG);
        assert!(poll_in_task(&mut idle).await.is_pending());
        turns(3).await;
        let before = annulus::metrics().submissions;
        for round in 0..1000 {
            idle.reset(Instant::now() + LONG + round * MILLISECOND);
            assert!(poll_in_task(&mut idle).await.is_pending());
            yield_now().await;
        }
        turns(3).await;
        let submissions = annulus::metrics().submissions - before;
        assert!(submissions <= 3, "{submissions} submissions");
    });
}

#[test]
fn an_earlier_deadline_ends_a_wait_that_was_armed_for_a_later_one() {
    run_here(async {
        let mut later = sleep(LONG);
        assert!(poll_in_task(&mut later).await.is_pending());
        // Armed for the later one: the loop has waited once.
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn({
            let theirs =
                std::os::fd::AsFd::as_fd(&theirs).try_clone_to_owned().expect("a descriptor");
            move || {
                std::thread::sleep(5 * MILLISECOND);
                io::Write::write_all(&mut std::os::unix::net::UnixStream::from(theirs), b"x")
                    .expect("room");
            }
        });
        ours.read(vec![0; 8]).await.expect("data");
        thread.join().expect("no panic");
        for _ in 0..5 {
            sleep(2 * MILLISECOND).await;
        }
        assert!(!later.is_elapsed());
    });
}

#[test]
fn a_future_that_is_ready_wins_against_a_timeout_of_zero() {
    run_here(async {
        assert_eq!(timeout(Duration::ZERO, ready(5)).await, Ok(5));
        assert_eq!(timeout_at(Instant::now() - MILLISECOND, async { 5 }).await, Ok(5));
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        theirs.write("x").await.expect("room");
        assert!(timeout(LONG, ours.read(vec![0; 8])).await.expect("in time").is_ok());
    });
}

#[test]
fn a_timeout_that_is_over_drops_its_future_and_says_so() {
    run_here(async {
        let owned = Rc::new(());
        for limit in [Duration::ZERO, MILLISECOND, 5 * MILLISECOND] {
            let kept = Rc::clone(&owned);
            let start = Instant::now();
            let late = timeout(limit, async move {
                pending::<()>().await;
                drop(kept);
            });
            let elapsed = late.await.expect_err("it never ends");
            assert!(start.elapsed() >= limit);
            assert_eq!(elapsed.to_string(), "deadline has elapsed");
            assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::TimedOut);
            assert_eq!(Rc::strong_count(&owned), 1);
        }
        assert!(timeout_at(Instant::now() + MILLISECOND, pending::<()>()).await.is_err());
    });
}

#[test]
fn a_timeout_borrows_a_future_that_goes_on_after_it() {
    run_here(async {
        let mut work = pin!(async {
            sleep(20 * MILLISECOND).await;
            3
        });
        assert!(timeout(MILLISECOND, work.as_mut()).await.is_err());
        assert_eq!(work.await, 3);
    });
}

#[test]
fn a_timeout_in_a_timeout_ends_with_the_shorter() {
    run_here(async {
        assert!(
            timeout(LONG, timeout(MILLISECOND, pending::<()>()))
                .await
                .expect("the outer has time")
                .is_err()
        );
        assert!(timeout(MILLISECOND, timeout(LONG, pending::<()>())).await.is_err());
    });
}

#[test]
fn timers_fire_while_the_loop_is_busy_with_other_things() {
    run_here(async {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let echo = spawn(async move {
            loop {
                let (count, _) = theirs.read(vec![0; 64]).await.expect("data");
                if count == 0 {
                    return;
                }
                theirs.write("pong").await.expect("room");
            }
        });
        let mut ping = pin!(async {
            loop {
                ours.write("ping").await.expect("room");
                ours.read(vec![0; 64]).await.expect("data");
            }
        });
        let start = Instant::now();
        for _ in 0..5 {
            let waited = select(ping.as_mut(), sleep(2 * MILLISECOND)).await;
            drop(waited);
        }
        assert!(start.elapsed() >= 10 * MILLISECOND);
        echo.abort();
    });
}

#[test]
fn an_interval_ticks_at_once_and_then_at_each_period() {
    run_here(async {
        let start = Instant::now();
        let mut ticks = interval(3 * MILLISECOND);
        assert_eq!(ticks.period(), 3 * MILLISECOND);
        let first = ticks.tick().await;
        assert!(first >= start && first <= Instant::now());
        for round in 1..5 {
            let due = ticks.tick().await;
            assert!(Instant::now() >= due && start.elapsed() >= round * 3 * MILLISECOND);
        }
    });
}

#[test]
fn an_interval_that_starts_later_ticks_first_at_its_start() {
    run_here(async {
        let start = Instant::now() + 5 * MILLISECOND;
        let mut ticks = interval_at(start, LONG);
        assert_eq!(ticks.tick().await, start);
        assert!(Instant::now() >= start);
        assert!(timeout(MILLISECOND, ticks.tick()).await.is_err());
    });
}

#[test]
fn an_interval_in_burst_catches_up_with_every_missed_tick() {
    run_here(async {
        let start = Instant::now();
        let mut ticks = interval_at(start, 10 * MILLISECOND);
        assert_eq!(ticks.missed_tick_behavior(), MissedTickBehavior::Burst);
        std::thread::sleep(35 * MILLISECOND);
        for round in 0..=4 {
            assert_eq!(ticks.tick().await, start + round * 10 * MILLISECOND);
        }
        assert!(start.elapsed() >= 40 * MILLISECOND);
    });
}

#[test]
fn an_interval_with_delay_counts_its_period_from_the_late_tick() {
    run_here(async {
        let start = Instant::now();
        let mut ticks = interval_at(start, 10 * MILLISECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        std::thread::sleep(35 * MILLISECOND);
        assert_eq!(ticks.tick().await, start);
        let next = ticks.tick().await;
        assert!(next >= start + 45 * MILLISECOND, "one period after the late tick");
        assert!(Instant::now() >= next);
    });
}

#[test]
fn an_interval_that_skips_goes_on_at_a_multiple_of_its_period() {
    run_here(async {
        let start = Instant::now();
        let period = 10 * MILLISECOND;
        let mut ticks = interval_at(start, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        std::thread::sleep(35 * MILLISECOND);
        assert_eq!(ticks.tick().await, start);
        let next = ticks.tick().await;
        assert!(next >= start + 4 * period, "the missed ones were left out");
        assert_eq!((next - start).as_nanos() % period.as_nanos(), 0);
    });
}

#[test]
fn a_dropped_tick_is_not_lost_and_a_reset_begins_anew() {
    run_here(async {
        let mut ticks = interval(5 * MILLISECOND);
        let first = ticks.tick().await;
        for _ in 0..3 {
            let mut tick = pin!(ticks.tick());
            assert!(poll_once(tick.as_mut()).is_pending());
        }
        assert_eq!(ticks.tick().await, first + 5 * MILLISECOND);
        let before = Instant::now();
        ticks.reset();
        assert!(ticks.tick().await >= before + 5 * MILLISECOND);
    });
}

#[test]
fn a_reset_places_the_next_tick_and_all_later_ones() {
    run_here(async {
        let start = Instant::now();
        let period = 2 * MILLISECOND;
        let mut ticks = interval(LONG);
        ticks.tick().await;

        ticks.reset_after(period);
        let due = ticks.tick().await;
        assert!(due >= start + period && start.elapsed() >= period);

        let before = Instant::now();
        ticks.reset_immediately();
        let due = ticks.tick().await;
        assert!(due >= before && due <= Instant::now());

        let at = Instant::now() + period;
        ticks.reset_at(at);
        assert_eq!(ticks.tick().await, at);
        assert!(Instant::now() >= at);

        // The one after it lies a period later, which is long.
        assert!(poll_in_task(&mut pin!(ticks.tick())).await.is_pending());
        let mut often = interval(period);
        often.reset_at(at);
        assert_eq!([often.tick().await, often.tick().await], [at, at + period]);
    });
}

#[test]
#[should_panic(expected = "the period of an interval must not be zero")]
fn an_interval_without_a_period_panics() {
    drop(interval(Duration::ZERO));
}

#[test]
fn an_interval_of_centuries_ticks_once() {
    run_here(async {
        let mut ticks = interval(Duration::MAX);
        ticks.tick().await;
        assert!(timeout(2 * MILLISECOND, ticks.tick()).await.is_err());
        let mut polled = interval_at(Instant::now() + LONG, Duration::MAX);
        assert!(poll_fn(|context| Poll::Ready(polled.poll_tick(context))).await.is_pending());
    });
}

#[test]
fn a_timer_that_is_dropped_by_the_wake_of_another_is_no_trouble() {
    // Both are due in one tick of the wheel; the waker of the first drops the second, and makes a
    // new one.
    struct Dropper(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);
    impl std::task::Wake for Dropper {
        fn wake(self: std::sync::Arc<Self>) {
            if let Some(action) = self.0.lock().expect("no panic").take() {
                action();
            }
        }
    }
    thread_local! {
        static SECOND: RefCell<Option<annulus::time::Sleep>> = const { RefCell::new(None) };
    }
    run_here(async {
        let deadline = Instant::now() + MILLISECOND;
        let mut first = sleep_until(deadline);
        let waker = std::sync::Arc::new(Dropper(std::sync::Mutex::new(Some(Box::new(|| {
            SECOND.with(|second| {
                drop(second.borrow_mut().take());
                *second.borrow_mut() = Some(sleep(LONG));
            });
        })))));
        let waker = waker.into();
        assert!(
            Pin::new(&mut first).poll(&mut std::task::Context::from_waker(&waker)).is_pending()
        );
        let mut second = sleep_until(deadline);
        assert!(poll_once(Pin::new(&mut second)).is_pending());
        SECOND.with(|place| *place.borrow_mut() = Some(second));
        sleep(3 * MILLISECOND).await;
        assert!(first.is_elapsed());
        SECOND.with(|place| assert!(!place.borrow().as_ref().expect("the new one").is_elapsed()));
        SECOND.with(|place| place.borrow_mut().take());
    });
}

#[test]
fn the_system_calls_of_a_hundred_thousand_sleeps_do_not_depend_on_how_many_were_cancelled() {
    run_here(async {
        // One in a hundred is waited for. All of these are due within the same few turns, whatever
        // their number.
        let cost = async |count: usize| {
            let before = annulus::metrics();
            let mut kept = Vec::new();
            for index in 0..count {
                let mut sleep =
                    Box::pin(sleep(if index % 100 == 0 { 5 * MILLISECOND } else { LONG }));
                assert!(poll_in_task(&mut sleep).await.is_pending());
                if index % 100 == 0 {
                    kept.push(sleep);
                }
            }
            for sleep in kept {
                sleep.await;
            }
            let after = annulus::metrics();
            (
                after.enters - before.enters,
                after.submissions - before.submissions,
                after.operations - before.operations,
            )
        };
        for count in [1000, 100_000] {
            let (enters, submissions, operations) = cost(count).await;
            // A wait for each tick of the wheel in which some of the kept are due, which is one for
            // each 100 made: they are few, though the making of them takes time.
            let most = 20 + 3 * count as u64 / 100;
            assert!(
                enters <= most && submissions <= most,
                "{count} sleeps: {enters} enters, {submissions} submissions"
            );
            assert_eq!(operations, 0, "a sleep is no operation");
        }
    });
}

#[test]
fn a_sleep_that_somebody_else_resets_wakes_the_task_that_waits() {
    run_here(async {
        for [first, then] in
            [[LONG, MILLISECOND], [MILLISECOND, 3 * MILLISECOND], [LONG, Duration::ZERO]]
        {
            let moved = Rc::new(RefCell::new(Box::pin(sleep(first))));
            let waiting = Rc::clone(&moved);
            let waiter = spawn(poll_fn(move |context| waiting.borrow_mut().as_mut().poll(context)));
            yield_now().await;
            let start = Instant::now();
            moved.borrow_mut().as_mut().get_mut().reset(start + then);
            waiter.await.expect("no panic");
            assert!(start.elapsed() >= then);
        }
    });
}
