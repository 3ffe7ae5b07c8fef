//! Waiting: sleep, time-outs, intervals.
//!
//! Deadlines stand in a timer wheel, and the ring holds one armed timeout operation for the
//! earliest of them, so a sleep costs no system call of its own. The wheel's tick is about half a
//! millisecond: nothing fires early, and usually at most that late. A duration too long for an
//! [`Instant`](std::time::Instant) means "never".
//!
//! Every function here panics when its future is polled outside a runtime. Dropping a future takes
//! its deadline out of the wheel.
//!
//! ```
//! use annulus::time;
//! use std::time::{Duration, Instant};
//!
//! annulus::block_on(async {
//!     let start = Instant::now();
//!     time::sleep(Duration::from_millis(10)).await;
//!     assert!(start.elapsed() >= Duration::from_millis(10));
//! });
//! ```

mod interval;
mod sleep;
mod timeout;

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, timeout, timeout_at};
