//! io_uring_enter(2), `IORING_OP_WAITID`: the end of a child, which only the kernel's ring knows
//! how to wait for.

use std::process::{Child, Command, Stdio};

use io_uring::{opcode, squeue};

use crate::common::watchdog;
use crate::compare::{SOURCES, Source};
use crate::ring::{Ring, Wait};
use crate::run::ROOMY;

const LEAVE_IT: i32 = libc::WEXITED | libc::WNOWAIT;

/// A child that ends with its input.
fn child() -> Child {
    Command::new("cat").stdin(Stdio::piped()).spawn().expect("it is everywhere")
}

fn wait_for(child: &Child, options: i32) -> squeue::Entry {
    opcode::WaitId::new(libc::P_PID, child.id(), options).build()
}

fn push(ring: &mut Ring, entry: squeue::Entry, token: u64) {
    // SAFETY: the entries of these tests name no memory.
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

fn knows_it(source: Source) -> bool {
    matches!(source, Source::Kernel | Source::Plain)
}

#[test]
fn the_end_of_a_child_completes_a_wait_and_its_status_stays() {
    let _watchdog = watchdog();
    for source in SOURCES {
        let (mut ring, mut child) = (source.open(&ROOMY), child());
        push(&mut ring, wait_for(&child, LEAVE_IT), 1);
        if !knows_it(source) {
            assert_eq!(next(&mut ring), (1, -libc::EINVAL), "{source:?}");
            drop(child.stdin.take());
            assert!(child.wait().expect("it ends").success());
            continue;
        }
        ring.enter(Wait::No, 0).expect("the ring works");
        assert!(ring.reap().is_none(), "{source:?}: it runs");
        drop(child.stdin.take());
        assert_eq!(next(&mut ring), (1, 0), "{source:?}");
        // Again, of one that has ended, and who asks for the status still gets it.
        push(&mut ring, wait_for(&child, LEAVE_IT), 2);
        assert_eq!(next(&mut ring), (2, 0), "{source:?}");
        assert!(child.wait().expect("its status is there").success());
        // Now there is no such child.
        push(&mut ring, wait_for(&child, LEAVE_IT), 3);
        assert_eq!(next(&mut ring), (3, -libc::ECHILD), "{source:?}");
    }
}

#[test]
fn a_wait_for_a_child_can_be_cancelled_and_takes_nothing() {
    let _watchdog = watchdog();
    for source in SOURCES.into_iter().filter(|source| knows_it(*source)) {
        let (mut ring, mut child) = (source.open(&ROOMY), child());
        push(&mut ring, wait_for(&child, LEAVE_IT), 1);
        ring.enter(Wait::No, 0).expect("the ring works");
        push(&mut ring, opcode::AsyncCancel::new(1).build(), 2);
        let mut ended = [next(&mut ring), next(&mut ring)];
        ended.sort_unstable();
        // Linux 6.18 counts what it has cancelled here, where it says 0 of other operations.
        assert!(
            ended == [(1, -libc::ECANCELED), (2, 0)] || ended == [(1, -libc::ECANCELED), (2, 1)],
            "{source:?}: {ended:?}"
        );
        drop(child.stdin.take());
        assert!(child.wait().expect("its status is there").success());
    }
}

#[test]
fn a_wait_that_may_take_the_status_takes_it() {
    let _watchdog = watchdog();
    for source in SOURCES.into_iter().filter(|source| knows_it(*source)) {
        let (mut ring, mut child) = (source.open(&ROOMY), child());
        drop(child.stdin.take());
        push(&mut ring, wait_for(&child, libc::WEXITED), 1);
        assert_eq!(next(&mut ring), (1, 0), "{source:?}");
        assert_eq!(child.wait().expect_err("it is gone").raw_os_error(), Some(libc::ECHILD));
        push(&mut ring, wait_for(&child, 0), 2);
        assert_eq!(next(&mut ring), (2, -libc::EINVAL), "{source:?}: nothing to wait for");
    }
}
