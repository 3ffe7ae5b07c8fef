//! What the tests of the loop have in common: a watchdog, children, buffers that notice what happens to them.
#![allow(dead_code, unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulus::buf::{IoBuf, IoBufMut};
use annulus::{Builder, Metrics, Runtime};

/// A test that takes this long hangs. Long enough for a debug build under a sanitizer on a busy machine.
const HANG: Duration = Duration::from_secs(120);

/// The environment variable that tells a child which test it is to run.
const CHILD: &str = "ANNULUS_TEST_CHILD";

/// Ends the process if it lives for too long: a hang becomes a failure.
pub(crate) struct Watchdog(#[allow(dead_code)] Sender<()>);

pub(crate) fn watchdog() -> Watchdog {
    let (sender, receiver) = channel::<()>();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if receiver.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs: no end within {HANG:?}");
            std::process::abort();
        }
    });
    Watchdog(sender)
}

/// A runtime with default settings. An ordinary user's locked memory comes back some time after a ring was closed, so it is worth a wait.
pub(crate) fn runtime() -> Runtime {
    patiently(Builder::new())
}

pub(crate) fn patiently(builder: Builder) -> Runtime {
    for _ in 0..10_000 {
        match builder.clone().build() {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => std::thread::sleep(Duration::from_millis(1)),
            other => return other.expect("a ring"),
        }
    }
    panic!("the memory of rings that were closed ten seconds ago has not come back");
}

/// Runs a future on a runtime of its own and checks that the runtime counted nothing strange.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let _watchdog = watchdog();
    let runtime = runtime();
    let output = runtime.block_on(future);
    assert_eq!(runtime.metrics().stale_completions, 0);
    output
}

/// Runs `body` alone in a process of its own: it may count descriptors, set limits and catch signals. `name` is the calling test's.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var(CHILD).as_deref() == Ok(name) {
        let _watchdog = watchdog();
        body();
        // Printed last: a child that was given a wrong name runs nothing and succeeds.
        println!("{}", done(name));
        return;
    }
    let output = Command::new(std::env::current_exe().expect("this test's path"))
        .args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(CHILD, name)
        .envs(SEED.get().map(|seed| ("ANNULUS_SEED", seed.to_string())))
        .output()
        .expect("the test binary runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains(&done(name)), "the child: {}\n{stdout}\n{stderr}", output.status);
}

fn done(name: &str) -> String {
    format!("the child is done with {name}")
}

/// Becomes an ordinary user, of whom no other process exists, with this much lockable memory. Does nothing but set the limit if this
/// process is an ordinary user already. Only for children.
pub(crate) fn become_ordinary(memlock: u64) {
    assert!(std::env::var_os(CHILD).is_some(), "only for children");
    let limit = libc::rlimit { rlim_cur: memlock, rlim_max: memlock };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
    // SAFETY: none of these calls takes a pointer.
    unsafe {
        if libc::geteuid() == 0 {
            let user = 1_000_000 + std::process::id();
            assert_eq!((libc::setresgid(user, user, user), libc::setresuid(user, user, user)), (0, 0));
        }
    }
}

/// The open descriptors of this process and what each leads to. Only for children: other tests open and close.
pub(crate) fn descriptors() -> BTreeMap<String, String> {
    let list = std::fs::read_dir("/proc/self/fd").expect("procfs").map(|entry| entry.expect("procfs").path());
    let open = list.filter_map(|path| Some((path.to_string_lossy().into_owned(), std::fs::read_link(path).ok()?)));
    open.map(|(number, target)| (number, target.to_string_lossy().into_owned())).filter(|(_, target)| !target.contains("/proc/")).collect()
}

/// Turns the loop until nothing is in flight.
pub(crate) async fn quiet() -> Metrics {
    in_flight(0).await
}

/// Turns the loop until at most `count` operations are in flight.
pub(crate) async fn in_flight(count: u64) -> Metrics {
    loop {
        let metrics = annulus::metrics();
        if metrics.operations_in_flight <= count {
            return metrics;
        }
        turns(1).await;
    }
}

/// Turns the loop a few times: all that is queued is submitted, all that has ended is delivered, and the other tasks run. (`yield_now` only
/// lets the other tasks run; a deadline is looked at once a turn.)
pub(crate) async fn turns(count: usize) {
    for _ in 0..count {
        annulus::time::sleep(Duration::ZERO).await;
    }
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future once, with the waker of the current task, and gives it back with what it said.
pub(crate) async fn poll_in_task<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Forgets a value in a way that a leak detector takes for owned.
pub(crate) fn forget<T: 'static>(value: T) {
    static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let address = Box::into_raw(Box::new(value)).expose_provenance();
    FORGOTTEN.lock().expect("no panic under the lock").push(address);
}

/// The seed that `seed` has printed, for children.
static SEED: OnceLock<u64> = OnceLock::new();

/// The seed of a randomised test: from `ANNULUS_SEED`, or new. It is printed, which shows when the test fails.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("ANNULUS_SEED").ok().map(|text| text.parse().expect("ANNULUS_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
    });
    let seed = *SEED.get_or_init(|| seed);
    println!("ANNULUS_SEED={seed}");
    seed
}

/// A small generator of numbers (splitmix64): the same on every machine.
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// What a dropped buffer is filled with.
const DEAD: u8 = 0xdd;

/// Hands out buffers and sees to it that each comes back once, and that nobody writes to it afterwards: dropped buffers are not freed but
/// filled with a pattern and kept. (A sanitizer does not see the kernel write.)
#[derive(Clone, Default)]
pub(crate) struct Pool(Rc<Books>);

#[derive(Default)]
struct Books {
    live: Cell<usize>,
    dead: RefCell<Vec<Box<[u8]>>>,
}

impl Pool {
    /// An empty buffer with this capacity.
    pub(crate) fn empty(&self, capacity: usize) -> Tracked {
        self.track(vec![0xa5; capacity].into_boxed_slice(), 0)
    }

    /// A buffer that holds these bytes.
    pub(crate) fn filled(&self, bytes: impl Into<Vec<u8>>) -> Tracked {
        let bytes = bytes.into().into_boxed_slice();
        let len = bytes.len();
        self.track(bytes, len)
    }

    fn track(&self, bytes: Box<[u8]>, len: usize) -> Tracked {
        self.0.live.set(self.0.live.get() + 1);
        Tracked { bytes, len, pool: self.clone() }
    }

    /// Buffers that have not been dropped.
    pub(crate) fn live(&self) -> usize {
        self.0.live.get()
    }

    /// All buffers are back, and nobody wrote to them since.
    #[track_caller]
    pub(crate) fn assert_all_back(&self) {
        assert_eq!(self.live(), 0, "buffers are missing");
        self.assert_untouched();
    }

    /// Nobody wrote to a buffer after it was dropped.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        for bytes in &*self.0.dead.borrow() {
            assert!(bytes.iter().all(|&byte| byte == DEAD), "a buffer was written after its drop");
        }
    }
}

/// A buffer of a [`Pool`]. All its bytes are initialised, so its length may be set to anything up to the capacity.
pub(crate) struct Tracked {
    bytes: Box<[u8]>,
    len: usize,
    pool: Pool,
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracked({} of {} bytes)", self.len, self.bytes.len())
    }
}

impl std::ops::Deref for Tracked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.fill(DEAD);
        self.pool.0.live.set(self.pool.0.live.get() - 1);
        self.pool.0.dead.borrow_mut().push(bytes);
    }
}

// SAFETY: the bytes lie in a box of their own, which only the drop touches.
unsafe impl IoBuf for Tracked {
    fn as_init_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above, and the box is the only owner of its bytes.
unsafe impl IoBufMut for Tracked {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        assert!(len <= self.bytes.len());
        self.len = len;
    }
}
