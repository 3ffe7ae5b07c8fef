//! A child that runs, or has ended. wait(2), kill(2).

use std::fmt;
use std::io;
use std::process::{self, ExitStatus, Output};

use futures_util::future::try_join3;

use super::orphans;
use super::stdio::{self, ChildStderr, ChildStdin, ChildStdout};
use crate::op::process::child_has_ended;

/// What a read of a child's output asks for at first.
const FIRST_READ: usize = 4096;

/// A child process, from [`Command::spawn`](super::Command::spawn).
///
/// # Dropping
/// The child goes on, unless [`kill_on_drop`](super::Command::kill_on_drop) says otherwise, and its
/// status is taken when it ends; see [no zombies](super#no-zombies). The pipes that are still in it
/// are closed.
pub struct Child {
    /// The pipe to its standard input, if there is one. [`wait`](Child::wait) closes it.
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if there is one.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if there is one.
    pub stderr: Option<ChildStderr>,
    process: Process,
}

impl Child {
    pub(super) fn new(mut child: process::Child, kill_on_drop: bool) -> Child {
        Child {
            stdin: child.stdin.take().map(stdio::writer),
            stdout: child.stdout.take().map(stdio::reader),
            stderr: child.stderr.take().map(stdio::reader),
            process: Process { child: Some(child), status: None, kill_on_drop },
        }
    }

    /// The id of the process; `None` once its status has been taken, since it may be another's
    /// then.
    pub fn id(&self) -> Option<u32> {
        match self.process.status {
            Some(_) => None,
            None => self.process.child.as_ref().map(process::Child::id),
        }
    }

    /// Closes the child's standard input, waits until it has ended, and says how; waitid(2).
    ///
    /// The ring waits; see [who does it](super#who-does-it). It may be called again, and gives the
    /// same answer. Dropping it loses nothing: the status stays where it is until it is taken in
    /// the last step. Output that nobody reads may keep a child from ending:
    /// [`wait_with_output`](Child::wait_with_output) reads it.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has taken the status, by waitpid(-1) for example, or `SIGCHLD` is
    /// ignored; else the kernel's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if let Some(child) = &self.process.child {
                child_has_ended(child.id()).await?;
            }
        }
    }

    /// How the child has ended; `None` if it has not. It does not wait.
    ///
    /// # Errors
    /// As [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Sends `SIGKILL`, and does not wait; kill(2). To a child that has ended it sends nothing.
    ///
    /// # Errors
    /// `PermissionDenied` for a child that has become another user's.
    pub fn start_kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Sends `SIGKILL`, and waits until the child has ended.
    ///
    /// If it is dropped the child is killed all the same, and its status can be asked for again.
    ///
    /// # Errors
    /// As [`start_kill`](Child::start_kill) and [`wait`](Child::wait).
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Closes the child's standard input, reads its output to the end, and waits until it has
    /// ended.
    ///
    /// Both pipes are read at the same time, so neither holds the child up. What has no pipe is
    /// empty. If it is dropped, what was read is lost, and the child goes on as with a dropped
    /// [`Child`].
    ///
    /// # Errors
    /// As [`wait`](Child::wait) and those of reading a pipe; `OutOfMemory` for more than fits.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (status, stdout, stderr) =
            try_join3(self.wait(), read_to_end(stdout), read_to_end(stderr)).await?;
        Ok(Output { status, stdout, stderr })
    }
}

/// Everything from a pipe, into memory that grows with it. The pipe is closed at its end.
async fn read_to_end(pipe: Option<ChildStdout>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.try_reserve(bytes.len().max(FIRST_READ))?;
        }
        let count;
        (count, bytes) = pipe.read_append(bytes).await?;
        if count == 0 {
            return Ok(bytes);
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("status", &self.process.status)
            .finish_non_exhaustive()
    }
}

/// The process itself.
struct Process {
    /// `None` only within `drop`.
    child: Option<process::Child>,
    /// Once it was taken.
    status: Option<ExitStatus>,
    kill_on_drop: bool,
}

impl Process {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none()
            && let Some(child) = &mut self.child
        {
            self.status = child.try_wait()?;
        }
        Ok(self.status)
    }

    fn kill(&mut self) -> io::Result<()> {
        match &mut self.child {
            Some(child) if self.status.is_none() => child.kill(),
            _ => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop {
            let _ = self.kill();
        }
        if self.status.is_none()
            && let Some(child) = self.child.take()
        {
            orphans::adopt(child);
        }
    }
}
