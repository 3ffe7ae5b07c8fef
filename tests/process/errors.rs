//! Programs that cannot be started: the reason is told, and nothing is left.

use std::fs;
use std::io::{self, ErrorKind};
use std::process::Stdio;

use annulus::process::Command;

use super::shell;
use crate::common::{in_own_process, run, run_here, scratch_dir};

fn errno(error: &io::Error) -> Option<i32> {
    let source = error.get_ref()?.source()?.downcast_ref::<io::Error>()?;
    source.raw_os_error()
}

#[track_caller]
fn assert_refused(command: &mut Command, kind: ErrorKind, number: i32, name: &str) {
    for stream in [Stdio::inherit, Stdio::piped] {
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let error = command.spawn().unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (kind, Some(number)), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot start {name}: ")), "{error}");
    }
}

#[test]
fn a_program_that_is_not_there_or_is_none_is_named_with_the_reason() {
    run(async || {
        let directory = scratch_dir();
        let (file, garbage) = (directory.path().join("file"), directory.path().join("garbage"));
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::write(&garbage, [0x7f, 1, 2, 3]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&garbage, mode).unwrap();
        assert_refused(
            &mut Command::new("/no/such-program"),
            ErrorKind::NotFound,
            libc::ENOENT,
            "/no/such-program",
        );
        let name = file.display().to_string();
        assert_refused(&mut Command::new(&file), ErrorKind::PermissionDenied, libc::EACCES, &name);
        let error = Command::new(&garbage).spawn().unwrap_err();
        assert_eq!(errno(&error), Some(libc::ENOEXEC), "{error}");
        let mut elsewhere = Command::new("true");
        elsewhere.current_dir(directory.path().join("missing"));
        assert_refused(&mut elsewhere, ErrorKind::NotFound, libc::ENOENT, "true");
        // The same from the calls that also wait.
        assert_eq!(
            Command::new("/no/such-program").status().await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            Command::new("/no/such-program").output().await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn too_many_arguments_and_a_zero_in_one_are_refused() {
    run(async || {
        let mut long = Command::new("true");
        long.args(vec!["x".repeat(100_000); 100]);
        assert_refused(&mut long, ErrorKind::ArgumentListTooLong, libc::E2BIG, "true");
        let error = Command::new("true").arg("a\0b").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error = Command::new("a\0b").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    });
}

#[test]
fn without_a_descriptor_left_no_child_starts_and_none_is_leaked() {
    in_own_process(|| {
        run_here(async {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: the limit outlives the call. This process has no other test.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let file = fs::File::open("/dev/null").unwrap();
            let mut taken: Vec<_> = std::iter::from_fn(|| file.try_clone().ok()).collect();
            let free = || std::iter::from_fn(|| file.try_clone().ok()).collect::<Vec<_>>().len();
            // With none, one, two … left; a child with three pipes needs eight for a moment.
            for _ in 0..8 {
                let before = free();
                let mut command = shell("exit 0");
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                match command.spawn() {
                    Err(error) => {
                        assert_eq!(errno(&error), Some(libc::EMFILE), "{error}");
                        assert_eq!(free(), before);
                    }
                    Ok(mut child) => _ = child.wait().await.unwrap(),
                }
                taken.pop();
            }
            taken.truncate(taken.len() - 8);
            assert!(shell("exit 0").output().await.unwrap().status.success());
        });
    });
}

#[test]
fn a_wait_needs_no_descriptor_to_be_left() {
    in_own_process(|| {
        run_here(async {
            let mut child = shell("read line; exit 8").stdin(Stdio::piped()).spawn().unwrap();
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: the limit outlives the call. This process has no other test.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let file = fs::File::open("/dev/null").unwrap();
            let taken: Vec<_> = std::iter::from_fn(|| file.try_clone().ok()).collect();
            assert_eq!(child.wait().await.unwrap().code(), Some(8));
            drop(taken);
        });
    });
}
