//! A bounded time, a thread with its own descriptors, a process of one's own for limits that a
//! thread cannot have, a directory on disk.
//!
//! Tests run in parallel threads of one process, so a count of the process's descriptors says
//! nothing. On Linux the table of descriptors belongs to the thread, though: [`apart`] gives a test
//! a table with nothing in it but the standard three, close_range(2).

use std::any::type_name_of_val;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use super::random::printed_seed;

/// No test takes that long, in a debug build under a sanitizer on a busy machine; one that does
/// hangs.
const BOUND: Duration = Duration::from_secs(120);
/// How long descriptors may take to be given back: a worker thread of the kernel may hold the last
/// reference.
const CLOSING_BOUND: Duration = Duration::from_secs(5);
/// Set in the environment of the process that [`in_own_process`] starts, to the name of the test.
const CHILD: &str = "ANNULUS_TEST_CHILD";

/// The descriptors of the calling thread's table and what they are: number to the target of the
/// link in /proc.
pub(crate) fn open_descriptors() -> BTreeMap<i32, String> {
    let listing = fs::read_dir("/proc/thread-self/fd").expect("/proc is mounted");
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let numbers: Vec<i32> = listing.map(|entry| number(entry).expect("a number")).collect();
    // The listing's own descriptor is closed by now, so its link is gone.
    let target = |number| {
        Some((
            number,
            fs::read_link(format!("/proc/thread-self/fd/{number}")).ok()?.display().to_string(),
        ))
    };
    numbers.into_iter().filter_map(target).collect()
}

/// Panics unless the descriptors are `before` again, soon. For use in [`apart`], where nobody else
/// opens any.
#[track_caller]
pub(crate) fn assert_descriptors_are(before: &BTreeMap<i32, String>) {
    let deadline = Instant::now() + CLOSING_BOUND;
    let are_as_before = || match is_on_software_ring() {
        // Another test may have closed some that it has outside of its turn.
        true => open_descriptors()
            .iter()
            .all(|descriptor| before.get(descriptor.0) == Some(descriptor.1)),
        false => open_descriptors() == *before,
    };
    while !are_as_before() {
        assert!(
            Instant::now() < deadline,
            "descriptors before: {before:#?}, after: {:#?}",
            open_descriptors()
        );
        thread::yield_now();
    }
}

/// Ends the process with a message if it lives for too long, so that a hang is a failure.
pub(crate) struct Watchdog {
    _alive: mpsc::Sender<()>,
}

pub(crate) fn watchdog() -> Watchdog {
    let (alive, end) = mpsc::channel::<()>();
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let watch = move || {
        if end.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Standard error directly: what `eprintln` writes is captured and would be lost.
            let _ = io::Write::write_all(
                &mut io::stderr(),
                format!("\n{test} hangs: no end after {BOUND:?}\n").as_bytes(),
            );
            process::abort();
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).expect("a thread");
    Watchdog { _alive: alive }
}

/// Runs a function under a [`watchdog`].
pub(crate) fn bounded<T>(function: impl FnOnce() -> T) -> T {
    let _watchdog = watchdog();
    function()
}

/// Do the runtimes of this process have the software ring?
pub(crate) fn is_on_software_ring() -> bool {
    env::var_os("ANNULUS_RING").is_some_and(|kind| kind == "software")
}

/// Leaves the choice of the ring to the machine from here on. Only for children.
pub(crate) fn let_the_machine_choose() {
    assert!(env::var_os(CHILD).is_some(), "only for children");
    // SAFETY: the other threads of a child read no environment.
    unsafe { env::remove_var("ANNULUS_RING") };
}

/// Held by the test that may use descriptors, where tests cannot have tables of their own.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, no other test uses descriptors.
pub(crate) struct Turn(MutexGuard<'static, ()>);

/// Waits for a turn on the software ring, unless this thread has it.
pub(crate) fn turn_on_software_ring() -> Option<Turn> {
    if !is_on_software_ring() || HAS_TURN.replace(true) {
        return None;
    }
    Some(Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner)))
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

/// Runs a function [`bounded`], on a thread with a descriptor table and a file system context
/// (current directory, umask) of its own, and panics if it leaves a descriptor behind. Threads that
/// it starts share these.
///
/// Those of `spawn_blocking` belong to the whole process, though, and have the table of whichever
/// test came first: the wake of another test's ring is lost there. A test that needs them, as the
/// look-up of names does, begins with [`in_own_process`]. The software ring needs them for every
/// file, so with it tests share all that and run one after the other; a test that changes what its
/// thread may do begins with [`in_own_process`].
pub(crate) fn apart<T: Send>(function: impl FnOnce() -> T + Send) -> T {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let separate = || {
        match is_on_software_ring() {
            // The turn is this thread's, too.
            true => HAS_TURN.set(true),
            false => separate_from_other_threads(),
        }
        let before = open_descriptors();
        let output = bounded(function);
        assert_descriptors_are(&before);
        output
    };
    let _turn = turn_on_software_ring();
    thread::scope(|scope| {
        // Not `spawn` alone: the name is what a panic message shows.
        let running =
            thread::Builder::new().name(test).spawn_scoped(scope, separate).expect("a thread");
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives this thread an empty table of descriptors and a file system context of its own.
fn separate_from_other_threads() {
    // SAFETY: neither call takes memory. This thread is new and owns no descriptor above 2, so none
    // disappears under its owner.
    let separate = unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) == 0
            && libc::unshare(libc::CLONE_FS) == 0
    };
    assert!(separate, "a descriptor table for this thread: {}", io::Error::last_os_error());
}

/// Runs a future on a runtime of its own, [`apart`], and checks what must hold after every program.
pub(crate) fn run<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> T {
    apart(|| {
        annulus::block_on(async {
            let output = test().await;
            assert_eq!(
                annulus::metrics().stale_completions,
                0,
                "every completion belongs to an operation"
            );
            output
        })
    })
}

/// Runs the rest of a test in a process of its own, which it may leave with changed limits. To be
/// called first in a test, with a closure that is written there: the closure's type tells the
/// test's name. The child has the seed of this process, if one was printed.
pub(crate) fn in_own_process<F: FnOnce()>(test: F) {
    let name = type_name_of_val(&test);
    let name = name.strip_suffix("::{{closure}}").expect("a closure written in a test");
    let (_crate, name) = name.split_once("::").expect("a path");
    if env::var_os(CHILD).is_some_and(|child| child == name) {
        bounded(test);
        println!("{CHILD} ended well");
        return;
    }
    let program = env::current_exe().expect("the test binary");
    let arguments = [name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"];
    let seed = printed_seed().map(|seed| ("ANNULUS_SEED", seed.to_string()));
    let mut child = Command::new(program);
    child.args(arguments).env(CHILD, name).envs(seed);
    let _turn = turn_on_software_ring();
    let output = child.output().expect("the test binary runs");
    let (said, cried) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    eprintln!("{cried}");
    // The marker, since a name that matches no test succeeds too.
    assert!(
        output.status.success() && said.contains("ended well"),
        "the process of {name} ended with {}",
        output.status
    );
}

/// Ends a child that has leaked on purpose, before a leak detector looks.
pub(crate) fn end_with_a_leak() -> ! {
    assert!(env::var_os(CHILD).is_some(), "only for children");
    println!("{CHILD} ended well");
    let _ = io::Write::flush(&mut io::stdout());
    // SAFETY: the call takes no memory, and nothing of this process is needed any more.
    unsafe { libc::_exit(0) }
}

/// Becomes an ordinary user, of whom no other process exists, with this much lockable memory. Does
/// nothing but set the limit if this process is an ordinary user already. Only for children.
pub(crate) fn become_ordinary(memlock: u64) {
    assert!(env::var_os(CHILD).is_some(), "only for children");
    let limit = libc::rlimit { rlim_cur: memlock, rlim_max: memlock };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
    // SAFETY: none of these calls takes a pointer.
    unsafe {
        if libc::geteuid() == 0 {
            let user = 1_000_000 + process::id();
            assert_eq!(
                (libc::setresgid(user, user, user), libc::setresuid(user, user, user)),
                (0, 0)
            );
        }
    }
}

/// A new directory on disk, removed with the value. Not /tmp, which is often a tmpfs and behaves
/// differently.
pub(crate) fn scratch_dir() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let made = fs::create_dir_all(&target).and_then(|()| tempfile::tempdir_in(&target));
    made.or_else(|_| {
        println!(
            "{} cannot be written to, so the scratch directory is in {}",
            target.display(),
            env::temp_dir().display()
        );
        tempfile::tempdir()
    })
    .expect("a scratch directory")
}

/// An example's program. Cargo builds the examples for `cargo test`, next to the directory of this
/// test's executable.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let profile =
        test.parent().and_then(Path::parent).expect("cargo puts tests into <profile>/deps");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test examples` does not",
        path.display()
    );
    path
}

/// The program ends with the thread that started it at the latest, which is the test's: not even a
/// test that is aborted leaves one.
pub(crate) fn mortal(mut command: Command) -> Command {
    // SAFETY: the closure makes one system call, which is safe between fork and exec, and touches
    // no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
