//! How a child is started: the builder is std's.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use annulus::process::Command;

use super::shell;
use crate::common::{run, scratch_dir};

async fn said(command: &mut Command) -> String {
    String::from_utf8(command.output().await.unwrap().stdout).unwrap()
}

#[test]
fn arguments_environment_and_directory_are_those_that_were_set() {
    run(async || {
        let directory = scratch_dir();
        let path = directory.path().canonicalize().unwrap();
        let mut command = shell("pwd -P; echo $ONE $TWO $HOME:; echo \"$@\"");
        command
            .args(["zero", "one", "two words"])
            .arg("*")
            .env("ONE", "1")
            .envs([("TWO", "2"), ("THREE", "3")])
            .env_remove("HOME")
            .current_dir(&path);
        assert_eq!(
            said(&mut command).await,
            format!("{}\n1 2 :\none two words *\n", path.display())
        );
        let mut command = Command::new("/usr/bin/env");
        command.env_clear().env("ONLY", "this");
        assert_eq!(said(&mut command).await, "ONLY=this\n");
    });
}

#[test]
fn a_program_may_have_another_name_and_a_group_of_its_own() {
    run(async || {
        let mut command = Command::new("/bin/sh");
        command.arg0("another").args(["-c", "echo $0; tr '\\0' ' ' < /proc/$$/cmdline"]);
        assert!(said(&mut command).await.contains("another -c"), "its name is the first argument");
        let mut child = shell("read line").process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        let id = child.id().unwrap() as i32;
        // SAFETY: the call takes no memory.
        assert_eq!(unsafe { libc::getpgid(id) }, id);
        assert!(child.wait().await.unwrap().code().is_some());
    });
}

#[test]
fn a_closure_runs_before_the_program_and_its_error_is_that_of_the_start() {
    run(async || {
        let mut command = shell("umask");
        // SAFETY: the closure makes one system call.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o027);
                Ok(())
            })
        };
        assert_eq!(said(&mut command).await, "0027\n");
        // SAFETY: the closure calls nothing.
        unsafe { command.pre_exec(|| Err(io::Error::from_raw_os_error(libc::EXDEV))) };
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    });
}

#[test]
fn a_user_and_a_group_are_set_before_the_program_begins() {
    run(async || {
        // SAFETY: the call takes no memory.
        if unsafe { libc::geteuid() } != 0 {
            return println!("skipped: only root may become another user");
        }
        let mut command = shell("id -u; id -g; id -G");
        command.uid(12345).gid(12346).current_dir("/");
        assert_eq!(said(&mut command).await, "12345\n12346\n12346\n");
    });
}

#[test]
fn stds_command_comes_in_and_goes_out() {
    run(async || {
        let mut std = std::process::Command::new("sh");
        std.args(["-c", "echo $0 $NAME"]).env("NAME", "value");
        let mut command = Command::from(std);
        command.as_std_mut().arg0("sh");
        assert_eq!(command.as_std().get_program(), "sh");
        assert_eq!(said(&mut command).await, "sh value\n");
        assert!(format!("{command:?}").contains("NAME"));
        let mut std = command.into_std();
        assert_eq!(std.stdout(Stdio::piped()).output().unwrap().stdout, b"sh value\n");
    });
}

#[test]
fn a_command_can_be_started_again() {
    run(async || {
        let mut command = shell("exit 6");
        for _ in 0..3 {
            assert_eq!(command.status().await.unwrap().code(), Some(6));
        }
    });
}

#[test]
fn a_child_may_be_started_by_a_function_of_the_program() {
    run(async || {
        let mut command = Command::new("echo");
        command.stdout(Stdio::piped()).kill_on_drop(true);
        assert!(command.get_kill_on_drop() && !Command::new("echo").get_kill_on_drop());
        let child = command.spawn_with(|std| std.arg("added").spawn()).unwrap();
        assert_eq!(child.wait_with_output().await.unwrap().stdout, b"added\n");
        let refused = || io::Error::from_raw_os_error(libc::EAGAIN);
        let error = command.spawn_with(|_| Err(refused())).unwrap_err();
        assert_eq!(error.kind(), refused().kind());
        assert!(error.to_string().contains("cannot start echo"), "{error}");
    });
}
