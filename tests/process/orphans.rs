//! Children that nobody waits for: they go on or are killed, and nothing is left of them.

use std::process::Stdio;
use std::thread;

use annulus::process::Child;

use super::{exists, shell};
use crate::common::{apart, poll_once, run, runtime, turns};

/// A child that ends when the pipe that comes with it does.
fn waiting_child() -> (Child, annulus::process::ChildStdin) {
    let mut child = shell("read line").stdin(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

/// The loop turns until nothing is left of it.
async fn is_gone(id: u32) {
    while exists(id) {
        turns(1).await;
    }
}

/// The same, without a loop.
fn is_gone_by_itself(id: u32) {
    while exists(id) {
        thread::yield_now();
    }
}

#[test]
fn a_dropped_child_goes_on_and_leaves_no_zombie() {
    run(async || {
        let (child, input) = waiting_child();
        let id = child.id().unwrap();
        drop(child);
        turns(3).await;
        assert!(exists(id), "it goes on");
        drop(input);
        is_gone(id).await;
    });
}

#[test]
fn a_child_that_has_ended_when_it_is_dropped_leaves_no_zombie() {
    run(async || {
        let mut child = shell("exit 0").stdout(Stdio::piped()).spawn().unwrap();
        let id = child.id().unwrap();
        let output = child.stdout.take().unwrap();
        assert_eq!(output.read(vec![0; 1]).await.unwrap().0, 0);
        drop(child);
        is_gone(id).await;
    });
}

#[test]
fn a_child_dies_with_its_handle_if_that_was_asked_for() {
    run(async || {
        let mut child = shell("exec sleep 1000").kill_on_drop(true).spawn().unwrap();
        let id = child.id().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(child);
        is_gone(id).await;
    });
}

#[test]
fn futures_that_are_dropped_at_any_stage_leave_no_zombie() {
    run(async || {
        for polls in 0..4 {
            let (mut child, input) = waiting_child();
            let id = child.id().unwrap();
            let mut wait = Box::pin(async move { child.wait().await });
            for _ in 0..polls {
                assert!(poll_once(wait.as_mut()).is_pending());
                turns(1).await;
            }
            drop(wait);
            drop(input);
            is_gone(id).await;
        }
        for polls in 0..3 {
            let mut output =
                Box::pin(shell("echo text; exec sleep 1000").kill_on_drop(true).output());
            for _ in 0..polls {
                assert!(poll_once(output.as_mut()).is_pending());
                turns(1).await;
            }
        }
    });
}

#[test]
fn a_child_that_outlives_the_runtime_leaves_no_zombie() {
    apart(|| {
        let runtime = runtime();
        let (first, second) = runtime.block_on(async {
            let (child, first) = waiting_child();
            let first = (child.id().unwrap(), first);
            drop(child);
            let (mut child, second) = waiting_child();
            let second = (child.id().unwrap(), second);
            annulus::spawn(async move { child.wait().await });
            turns(2).await;
            (first, second)
        });
        drop(runtime);
        for (id, input) in [first, second] {
            assert!(exists(id));
            drop(input);
            is_gone_by_itself(id);
        }
    });
}

#[test]
fn a_child_that_is_killed_with_the_runtime_leaves_no_zombie() {
    apart(|| {
        let runtime = runtime();
        let id = runtime.block_on(async {
            let mut child = shell("exec sleep 1000").kill_on_drop(true).spawn().unwrap();
            let id = child.id().unwrap();
            annulus::spawn(async move { child.wait().await });
            turns(2).await;
            id
        });
        drop(runtime);
        is_gone_by_itself(id);
    });
}

#[test]
fn a_child_without_a_runtime_leaves_no_zombie() {
    apart(|| {
        let (child, input) = waiting_child();
        let id = child.id().unwrap();
        drop(child);
        assert!(exists(id));
        drop(input);
        is_gone_by_itself(id);
    });
}
