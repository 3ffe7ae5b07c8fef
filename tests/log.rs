//! The messages that a program's logger gets with the feature `log`: which ring a runtime has, and
//! why, once when it opens.
#![cfg(feature = "log")]
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, PoisonError};

use annulus::{Builder, RingKind};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Keeps what it hears.
struct Memory(Mutex<Vec<(Level, String)>>);

static MEMORY: Memory = Memory(Mutex::new(Vec::new()));

impl Log for Memory {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "annulus"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_runtime_that_opens_says_once_which_ring_it_has_and_why() {
    log::set_logger(&MEMORY).unwrap();
    log::set_max_level(LevelFilter::Info);
    let heard = || std::mem::take(&mut *MEMORY.0.lock().unwrap());

    let runtime = Builder::new().ring(RingKind::Software).build().unwrap();
    assert_eq!(heard(), [(Level::Info, runtime.ring().to_string())]);
    runtime.block_on(async {});
    drop(runtime);
    assert_eq!(heard(), [], "nothing else");

    // By whatever ring there is; that it was refused is worth a warning.
    let runtime = Builder::new().build().unwrap();
    let level = if runtime.ring().refusal().is_some() { Level::Warn } else { Level::Info };
    assert_eq!(heard(), [(level, runtime.ring().to_string())]);
}
