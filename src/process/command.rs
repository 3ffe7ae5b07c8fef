//! How a child is to be started. exec(3).

use std::error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ExitStatus, Output, Stdio};

use super::child::Child;
use super::orphans;
use crate::sys;

/// A program to be started as a child, with its arguments, environment and standard streams: std's
/// [`Command`](process::Command), whose children are waited for by the ring.
///
/// A program without `/` in its name is looked for in the child's `PATH`.
///
/// ```
/// use annulus::process::{Command, Stdio};
///
/// # annulus::block_on(async {
/// let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let input = sort.stdin.take().expect("a pipe was asked for");
/// input.write_all("b\na\n").await?;
/// drop(input); // the end
/// assert_eq!(sort.wait_with_output().await?.stdout, b"a\nb\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct Command {
    std: process::Command,
    kill_on_drop: bool,
    /// Of the standard streams, those that were set here.
    is_set: [bool; 3],
}

impl Command {
    /// Without arguments, in this process's environment and directory, with its standard streams.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command::from(process::Command::new(program))
    }

    /// An argument. std's [`arg`](process::Command::arg).
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg(argument);
        self
    }

    /// Several arguments. std's [`args`](process::Command::args).
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Command {
        self.std.args(arguments);
        self
    }

    /// The name by which the program is told that it was called, in place of its own.
    pub fn arg0(&mut self, name: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg0(name);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.std.env(name, value);
        self
    }

    /// Sets several variables of the child's environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Command {
        self.std.envs(variables);
        self
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(name);
        self
    }

    /// Takes all variables out of the child's environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// The directory in which the child starts.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Command {
        self.std.current_dir(directory);
        self
    }

    /// The child's standard input: this process's by default, nothing for
    /// [`output`](Command::output).
    pub fn stdin(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.std.stdin(stream);
        self.is_set[0] = true;
        self
    }

    /// The child's standard output: this process's by default, a pipe for
    /// [`output`](Command::output).
    pub fn stdout(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.std.stdout(stream);
        self.is_set[1] = true;
        self
    }

    /// The child's standard error: this process's by default, a pipe for
    /// [`output`](Command::output).
    pub fn stderr(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.std.stderr(stream);
        self.is_set[2] = true;
        self
    }

    /// The user that the child becomes. As root it then has no supplementary groups.
    pub fn uid(&mut self, user: u32) -> &mut Command {
        self.std.uid(user);
        self
    }

    /// The group that the child becomes.
    pub fn gid(&mut self, group: u32) -> &mut Command {
        self.std.gid(group);
        self
    }

    /// The process group that the child joins, or, for 0, begins: signals of the terminal then do
    /// not reach it. setpgid(2).
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        self.std.process_group(group);
        self
    }

    /// Whether the child is killed when its [`Child`] is dropped before it was waited for, or the
    /// runtime ends with that; `false` by default. Its own children are not.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Is the child killed then?
    pub fn get_kill_on_drop(&self) -> bool {
        self.kill_on_drop
    }

    /// Starts the child, at once; see [who does it](super#who-does-it). It needs no runtime.
    ///
    /// # Errors
    /// The sentence names the program, the kind is the kernel's (`NotFound`, `PermissionDenied`,
    /// `ArgumentListTooLong`, an errno of `EMFILE` when no descriptor is left …), and
    /// [`source`](error::Error::source) is its own error with the errno. `InvalidInput` for a NUL
    /// byte in the program, an argument or a variable. Nothing is left of a child that could not be
    /// started.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.spawn_with(process::Command::spawn)
    }

    /// Starts the child by a function of yours, which gets std's command and returns std's child:
    /// one that sets something in this thread first, or that reports what it starts.
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn), with the function's own error.
    pub fn spawn_with(
        &mut self,
        start: impl FnOnce(&mut process::Command) -> io::Result<process::Child>,
    ) -> io::Result<Child> {
        orphans::sweep();
        let started = sys::with_signal_of_large_files(|| start(&mut self.std));
        started
            .map(|child| Child::new(child, self.kill_on_drop))
            .map_err(|error| self.explain(error))
    }

    /// Starts the child, closes the pipes to it, if there are any, and waits until it has ended.
    ///
    /// The child starts with the call. If the future is dropped it goes on, as with a dropped
    /// [`Child`].
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn) and [`Child::wait`].
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let started = self.spawn();
        async move {
            let mut child = started?;
            drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
            child.wait().await
        }
    }

    /// Starts the child, reads its output to the end, and waits until it has ended.
    ///
    /// As in std, the two outputs are pipes and the input is empty, unless they were set on this
    /// `Command`. The child starts with the call. If the future is dropped, the output is lost and
    /// the child goes on, as with a dropped [`Child`].
    ///
    /// ```
    /// use annulus::process::Command;
    ///
    /// # annulus::block_on(async {
    /// let script = "echo out; echo err >&2; exit 3";
    /// let output = Command::new("sh").args(["-c", script]).output().await?;
    /// assert_eq!(output.status.code(), Some(3));
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        let [stdin, stdout, stderr] = self.is_set;
        self.set_unset([stdin, stdout, stderr], [Stdio::null, Stdio::piped, Stdio::piped]);
        let started = self.spawn();
        self.set_unset([stdin, stdout, stderr], [Stdio::inherit; 3]);
        async move { started?.wait_with_output().await }
    }

    fn set_unset(&mut self, is_set: [bool; 3], streams: [fn() -> Stdio; 3]) {
        let [stdin, stdout, stderr] = is_set;
        if !stdin {
            self.std.stdin(streams[0]());
        }
        if !stdout {
            self.std.stdout(streams[1]());
        }
        if !stderr {
            self.std.stderr(streams[2]());
        }
    }

    /// std's command, to look at.
    pub fn as_std(&self) -> &process::Command {
        &self.std
    }

    /// std's command, for what is not here. Standard streams that are set there count as not set
    /// for [`output`](Command::output).
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// std's command. After [`output`](Command::output), streams that were not set are set to be
    /// inherited.
    pub fn into_std(self) -> process::Command {
        self.std
    }

    /// The error with the program's name.
    fn explain(&self, error: io::Error) -> io::Error {
        let program = self.std.get_program().to_owned();
        io::Error::new(error.kind(), NotStarted { program, error })
    }
}

impl From<process::Command> for Command {
    fn from(std: process::Command) -> Command {
        Command { std, kill_on_drop: false, is_set: [false; 3] }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}

/// Why a program could not be started.
#[derive(Debug)]
struct NotStarted {
    program: OsString,
    error: io::Error,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: {}", self.program.display(), self.error)
    }
}

impl error::Error for NotStarted {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}
