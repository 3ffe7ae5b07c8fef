#![doc = "annulus"]

mod blocking;
pub mod buf;
mod driver;
mod exec;
pub mod fs;
pub mod net;
mod op;
mod ring;
mod runtime;
mod sys;
pub mod time;
mod wheel;

pub use blocking::spawn_blocking;
pub use buf::Error;
pub use exec::{JoinError, JoinHandle};
pub use op::{Cancel, Deadline, Expire, Op};
pub use ring::{Refusal, RingReport, SetupError};
pub use runtime::{Builder, Metrics, Runtime, block_on, metrics, spawn, yield_now};
