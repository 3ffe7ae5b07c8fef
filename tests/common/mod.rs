//! What do the tests of files, sockets and runtimes share? A thread of one's own with a bounded time and its own descriptors, a process of
//! one's own for limits that a thread cannot have, and a directory on disk.
//!
//! Tests run in parallel threads of one process, so a count of the process's descriptors says nothing. On Linux the table of descriptors
//! belongs to the thread, though: [`apart`] gives a test a table with nothing in it but the standard three, close_range(2).

// Each test binary uses its own choice of these.
#![allow(dead_code, unsafe_code)]

use std::any::type_name_of_val;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

/// No test takes that long; one that does hangs.
const BOUND: Duration = Duration::from_secs(60);
/// How long descriptors may take to be given back: a worker thread of the kernel may hold the last reference.
const CLOSING_BOUND: Duration = Duration::from_secs(5);
/// Set in the environment of the process that [`in_own_process`] starts, to the name of the test.
const CHILD: &str = "ANNULUS_TEST_CHILD";

/// The descriptors of the calling thread's table and what they are: number to the target of the link in /proc.
pub(crate) fn open_descriptors() -> BTreeMap<i32, String> {
    let listing = fs::read_dir("/proc/thread-self/fd").expect("/proc is mounted");
    let numbers: Vec<i32> = listing.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // The listing's own descriptor is closed by now, so its link is gone.
    let target = |number| Some((number, fs::read_link(format!("/proc/thread-self/fd/{number}")).ok()?.display().to_string()));
    numbers.into_iter().filter_map(target).collect()
}

/// Panics unless the descriptors are `before` again, soon. For use in [`apart`], where nobody else opens any.
#[track_caller]
pub(crate) fn assert_descriptors_are(before: &BTreeMap<i32, String>) {
    let deadline = Instant::now() + CLOSING_BOUND;
    while open_descriptors() != *before {
        assert!(Instant::now() < deadline, "descriptors before: {before:#?}, after: {:#?}", open_descriptors());
        thread::yield_now();
    }
}

/// Runs a function, and ends the process with a message if it takes more than a minute, so that a hang is a failure.
pub(crate) fn bounded<T: Send>(function: impl FnOnce() -> T + Send) -> T {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (ended, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Not `spawn` alone: the name is what a panic message shows.
        let function = move || {
            let _ended = ended;
            function()
        };
        let running = thread::Builder::new().name(test.clone()).spawn_scoped(scope, function).expect("a thread");
        if end.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Standard error directly: what `eprintln` writes is captured and would be lost.
            let _ = io::Write::write_all(&mut io::stderr(), format!("\n{test} hangs: no end after {BOUND:?}\n").as_bytes());
            process::abort();
        }
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a function [`bounded`], on a thread with a descriptor table and a file system context (current directory, umask) of its own, and
/// panics if it leaves a descriptor behind. Threads that it starts share these.
///
/// Those of `spawn_blocking` belong to the whole process, though, and have the table of whichever test came first: the wake of another
/// test's ring is lost there. A test that needs them, as the look-up of names does, begins with [`in_own_process`].
pub(crate) fn apart<T: Send>(function: impl FnOnce() -> T + Send) -> T {
    bounded(|| {
        // SAFETY: neither call takes memory. This thread is new and owns no descriptor above 2, so none disappears under its owner.
        let separate = unsafe {
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0 && libc::unshare(libc::CLONE_FS) == 0
        };
        assert!(separate, "a descriptor table for this thread: {}", io::Error::last_os_error());
        let before = open_descriptors();
        let output = function();
        assert_descriptors_are(&before);
        output
    })
}

/// Runs a future on a runtime of its own, [`apart`], and checks what must hold after every program.
pub(crate) fn run<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> T {
    apart(|| {
        annulus::block_on(async {
            let output = test().await;
            assert_eq!(annulus::metrics().stale_completions, 0, "every completion belongs to an operation");
            output
        })
    })
}

/// Runs the rest of a test in a process of its own, which it may leave with changed limits. To be called first in a test, with a closure
/// that is written there: the closure's type tells the test's name.
pub(crate) fn in_own_process<F: FnOnce() + Send>(test: F) {
    let name = type_name_of_val(&test);
    let name = name.strip_suffix("::{{closure}}").expect("a closure written in a test");
    let (_crate, name) = name.split_once("::").expect("a path");
    if env::var_os(CHILD).is_some_and(|child| child == name) {
        bounded(test);
        println!("{CHILD} ended well");
        return;
    }
    let program = env::current_exe().expect("the test binary");
    let arguments = [name, "--exact", "--nocapture", "--test-threads=1"];
    let output = Command::new(program).args(arguments).env(CHILD, name).output().expect("the test binary runs");
    let (said, cried) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    eprintln!("{cried}");
    // The marker, since a name that matches no test succeeds too.
    assert!(output.status.success() && said.contains("ended well"), "the process of {name} ended with {}", output.status);
}

/// A new directory on disk, removed with the value. Not /tmp, which is often a tmpfs and behaves differently.
pub(crate) fn scratch_dir() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let made = fs::create_dir_all(&target).and_then(|()| tempfile::tempdir_in(&target));
    made.or_else(|_| {
        println!("{} cannot be written to, so the scratch directory is in {}", target.display(), env::temp_dir().display());
        tempfile::tempdir()
    })
    .expect("a scratch directory")
}
