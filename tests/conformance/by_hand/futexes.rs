//! io_uring_enter(2), `IORING_OP_FUTEX_WAIT`: a number in memory, for which only the kernel's ring
//! knows how to wait.

use std::sync::atomic::{AtomicU32, Ordering};

use io_uring::{opcode, squeue};

use crate::common::watchdog;
use crate::compare::{SOURCES, Source};
use crate::ring::{Ring, Wait};
use crate::run::ROOMY;
use crate::sys::wake_waiters;

/// `FUTEX2_SIZE_U32 | FUTEX2_PRIVATE`.
const PRIVATE: u32 = 0x82;

fn wait(word: &'static AtomicU32, expected: u64) -> squeue::Entry {
    opcode::FutexWait::new(word.as_ptr(), expected, 0xffff_ffff, PRIVATE).build()
}

fn push(ring: &mut Ring, entry: squeue::Entry, token: u64) {
    // SAFETY: the number that the entry names is static.
    unsafe { ring.push(&[entry.user_data(token)]) }.expect("there is room");
}

/// The next completion.
fn next(ring: &mut Ring) -> (u64, i32) {
    loop {
        ring.enter(Wait::Forever, 1).expect("the ring works");
        if let Some(completion) = ring.reap() {
            return (completion.token, completion.result);
        }
    }
}

#[test]
fn a_wait_ends_with_a_wake_or_at_once_and_can_be_cancelled() {
    static WORD: AtomicU32 = AtomicU32::new(5);
    let _watchdog = watchdog();
    for source in SOURCES {
        let mut ring = source.open(&ROOMY);
        push(&mut ring, wait(&WORD, 5), 1);
        if !matches!(source, Source::Kernel | Source::Plain) {
            assert_eq!(next(&mut ring), (1, -libc::EINVAL), "{source:?}");
            continue;
        }
        ring.enter(Wait::No, 0).expect("the ring works");
        assert!(ring.reap().is_none(), "{source:?}");
        assert_eq!(wake_waiters(&WORD, 1, false).expect("a number"), 1);
        assert_eq!(next(&mut ring), (1, 0), "{source:?}");
        WORD.store(6, Ordering::Release);
        push(&mut ring, wait(&WORD, 5), 2);
        assert_eq!(next(&mut ring), (2, -libc::EAGAIN), "{source:?}");
        push(&mut ring, wait(&WORD, 6), 3);
        ring.enter(Wait::No, 0).expect("the ring works");
        push(&mut ring, opcode::AsyncCancel::new(3).build(), 4);
        let mut ended = [next(&mut ring), next(&mut ring)];
        ended.sort_unstable();
        assert_eq!(ended[0], (3, -libc::ECANCELED), "{source:?}");
        assert!(ended[1].0 == 4 && ended[1].1 >= 0, "{source:?}: {ended:?}");
        assert_eq!(wake_waiters(&WORD, 1, false).expect("a number"), 0);
        WORD.store(5, Ordering::Release);
    }
}
