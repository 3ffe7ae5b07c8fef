//! How a child has ended, and that no dropped wait takes that along.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use annulus::process::Command;
use annulus::time::timeout;
use futures_util::future::{join_all, select};

use super::{exists, shell};
use crate::common::{
    Random, apart, forbid, in_own_process, poll_in_task, poll_once, run, run_here, seed, turns,
};

#[test]
fn a_child_ends_with_its_code_or_by_a_signal() {
    run(async || {
        assert!(Command::new("true").status().await.unwrap().success());
        assert_eq!(shell("exit 7").status().await.unwrap().code(), Some(7));
        let killed = shell("kill -TERM $$").status().await.unwrap();
        assert_eq!((killed.code(), killed.signal()), (None, Some(libc::SIGTERM)));
    });
}

#[test]
fn a_wait_can_be_asked_again_and_the_id_is_gone_with_the_status() {
    run(async || {
        let mut child = shell("exit 3").spawn().unwrap();
        let id = child.id().unwrap();
        assert!(exists(id));
        for _ in 0..2 {
            assert_eq!(child.wait().await.unwrap().code(), Some(3));
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(3));
        }
        assert_eq!(child.id(), None);
        assert!(!exists(id));
        child.start_kill().unwrap();
        child.kill().await.unwrap();
        assert_eq!(child.wait_with_output().await.unwrap().status.code(), Some(3));
    });
}

#[test]
fn a_wait_closes_the_input_so_that_who_reads_it_ends() {
    run(async || {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        assert!(child.wait().await.unwrap().success());
        assert!(child.stdin.is_none());
        let child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
    });
}

#[test]
fn a_wait_that_is_dropped_at_any_stage_loses_no_status() {
    run(async || {
        for point in 0..4 {
            let mut child = shell("read line; exit 5").stdin(Stdio::piped()).spawn().unwrap();
            // The wait would close it.
            let stdin = child.stdin.take().unwrap();
            let mut wait = Box::pin(child.wait());
            if point > 0 {
                assert!(poll_once(wait.as_mut()).is_pending());
            }
            if point > 1 {
                turns(2).await;
            }
            if point > 2 {
                stdin.write_all("line\n").await.unwrap();
                turns(5).await;
            }
            drop(wait);
            drop(stdin);
            assert_eq!(child.wait().await.unwrap().code(), Some(5), "dropped at {point}");
        }
    });
}

#[test]
fn waits_that_race_with_the_end_of_the_child_lose_no_status() {
    let random = Random::new(seed());
    run(async || {
        for round in 0..40 {
            let mut child = shell(&format!("exit {round}")).spawn().unwrap();
            let status = loop {
                let pause = Duration::from_micros(random.below(400) as u64);
                match timeout(pause, child.wait()).await {
                    Ok(status) => break status.unwrap(),
                    Err(_elapsed) => continue,
                }
            };
            assert_eq!(status.code(), Some(round));
        }
    });
}

#[test]
fn many_children_are_waited_for_at_the_same_time() {
    run(async || {
        let mut children: Vec<_> = (0..50)
            .map(|code| {
                shell(&format!("read line; exit {code}")).stdin(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let inputs: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
        let mut waits = join_all(children.iter_mut().map(|child| child.wait()));
        assert!(poll_in_task(&mut waits).await.is_pending());
        turns(1).await;
        drop(inputs);
        let codes: Vec<_> = waits.await.into_iter().map(|status| status.unwrap().code()).collect();
        assert_eq!(codes, (0..50).map(Some).collect::<Vec<_>>());
    });
}

#[test]
fn a_child_is_killed_and_waited_for() {
    run(async || {
        let mut child = shell("exec sleep 1000").spawn().unwrap();
        let id = child.id().unwrap();
        child.kill().await.unwrap();
        assert!(!exists(id));
        assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn a_status_that_somebody_else_has_taken_is_an_error() {
    run(async || {
        let mut child = shell("exit 1").spawn().unwrap();
        let id = child.id().unwrap();
        // SAFETY: no status is asked for, so no memory is needed.
        assert_eq!(unsafe { libc::waitpid(id as i32, std::ptr::null_mut(), 0) }, id as i32);
        assert_eq!(child.wait().await.unwrap_err().raw_os_error(), Some(libc::ECHILD));
    });
}

#[test]
fn a_wait_loses_a_select_and_goes_on_later() {
    run(async || {
        let mut child = shell("read line; exit 9").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        for _ in 0..3 {
            let wait = Box::pin(child.wait());
            let sleep = Box::pin(annulus::time::sleep(Duration::ZERO));
            assert!(matches!(select(wait, sleep).await, futures_util::future::Either::Right(_)));
        }
        drop(stdin);
        assert_eq!(child.wait().await.unwrap().code(), Some(9));
    });
}

#[test]
fn without_descriptors_of_processes_a_thread_waits() {
    in_own_process(|| {
        // The software ring has no other way.
        forbid(libc::SYS_pidfd_open, None, libc::ENOSYS);
        run_here(async {
            let mut child = shell("read line; exit 4").stdin(Stdio::piped()).spawn().unwrap();
            let stdin = child.stdin.take().unwrap();
            let mut wait = Box::pin(child.wait());
            assert!(poll_in_task(&mut wait).await.is_pending());
            turns(2).await;
            drop(stdin);
            assert_eq!(wait.await.unwrap().code(), Some(4));
        });
    });
}

#[test]
fn a_child_can_be_started_and_asked_without_a_runtime() {
    apart(|| {
        let mut child = shell("exit 2").spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                break assert_eq!(status.code(), Some(2));
            }
            std::thread::yield_now();
        }
    });
}
