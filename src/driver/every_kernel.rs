//! One program on each ring that set-up can make: on each rung of the ladder of flags.

use super::*;
use crate::ring::Config;

const CONFIG: Config = Config::new(8, 32);

fn turn(driver: &mut Driver, wait: Wait) {
    let mut deliveries = Deliveries::default();
    driver.turn(wait, &mut deliveries).expect("the ring works");
    deliveries.deliver(Waker::wake);
}

/// Turns until nothing is in flight, and takes the result of the last operation left.
fn result(driver: &mut Driver, token: Token) -> i32 {
    while driver.in_flight() > 0 {
        turn(driver, Wait::Forever);
    }
    driver.take(token).expect("it has ended").result
}

fn work_on(driver: &mut Driver) {
    for _ in 0..3 {
        // More than either queue holds.
        let tokens: Vec<_> = (0..100).map(|_| driver.start_nop()).collect();
        for token in tokens {
            assert_eq!(result(driver, token), 0);
        }
    }

    let (reader, _writer) = io::pipe().expect("a pipe");
    let token = driver.start_poll(&reader);
    turn(driver, Wait::No);
    assert_eq!(driver.in_flight(), 1);
    driver.cancel(token);
    assert_eq!(result(driver, token), -libc::ECANCELED);

    // Three deadlines, each earlier than the alarm that is armed for the one before, with nothing
    // else to end the wait.
    for remaining in [Duration::from_secs(1000), Duration::from_secs(100), Duration::from_millis(5)]
    {
        let deadline = Instant::now() + remaining;
        if remaining > Duration::from_secs(1) {
            let token = driver.start_nop();
            turn(driver, Wait::Until(deadline));
            assert_eq!(result(driver, token), 0);
        } else {
            while Instant::now() < deadline {
                turn(driver, Wait::Until(deadline));
            }
        }
    }

    // A kick ends a wait, whether it comes before or during it.
    let unparker = driver.ring().expect("open").unparker();
    std::thread::scope(|scope| {
        scope.spawn(|| unparker.unpark());
        turn(driver, Wait::Forever);
    });
}

#[test]
fn every_rung_of_the_ladder_makes_a_ring_that_works() {
    let mut rung = 0;
    while let Some(ring) = Ring::open_on_rung(rung, &CONFIG) {
        let ring = ring.expect("this machine grants every rung");
        println!("rung {rung}: {:?}", ring.report().granted());
        let mut driver = Driver::new(ring);
        work_on(&mut driver);
        assert_eq!(
            (driver.in_flight(), driver.counters.stale_completions.get()),
            (0, 0),
            "on rung {rung}"
        );
        rung += 1;
    }
    assert!(rung > 1);
}
