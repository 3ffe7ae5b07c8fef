//! The signal that comes with the error of a write beyond the limit on the size of files, kept from
//! a thread.
//!
//! The kernel sends `SIGXFSZ` to the thread whose write is too long, and it ends the process. A
//! completion tells the error, so nobody here has a use for it.
//!
//! # Safety
//! Every block is a system call of the thread on its own signals, with sets that are local
//! variables.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Is there a limit on the size of files? A write beyond it fails with `EFBIG`, and sends
/// `SIGXFSZ`; setrlimit(2).
pub(crate) fn limits_file_sizes() -> bool {
    super::limit(libc::RLIMIT_FSIZE).is_ok_and(|(soft, _)| soft != libc::RLIM_INFINITY)
}

/// Keeps the signal from the calling thread as long as any of these lives there: for a call that
/// writes, or a ring by which the kernel makes writes of the thread in any of its system calls.
/// sigprocmask(2).
///
/// They may go in any order. What else becomes of the thread's mask meanwhile stays as it is.
#[derive(Debug)]
pub(crate) struct NoSignalOfLargeFiles {
    /// It is for the thread that has made it.
    _of_thread: PhantomData<*const ()>,
}

thread_local! {
    /// How many there are on this thread, and whether the signal was kept off before the first.
    static ON_THREAD: Cell<(u32, bool)> = const { Cell::new((0, false)) };
}

impl NoSignalOfLargeFiles {
    pub(crate) fn here() -> NoSignalOfLargeFiles {
        let (count, mut was_off) = ON_THREAD.get();
        if count == 0 {
            let mut before = MaybeUninit::uninit();
            // SAFETY: both sets are local variables, of which the call fills in the second.
            was_off = unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, &alone(), before.as_mut_ptr());
                libc::sigismember(before.as_ptr(), libc::SIGXFSZ) == 1
            };
        }
        ON_THREAD.set((count + 1, was_off));
        NoSignalOfLargeFiles { _of_thread: PhantomData }
    }
}

impl Drop for NoSignalOfLargeFiles {
    fn drop(&mut self) {
        let (count, was_off) = ON_THREAD.get();
        ON_THREAD.set((count - 1, was_off));
        if count == 1 && !was_off {
            take_what_waits();
            // SAFETY: the set is a local variable.
            unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &alone(), std::ptr::null_mut()) };
        }
    }
}

/// Starts a child, which inherits the mask of its thread: it gets the signal, unless it was kept
/// off before any ring of the thread. No write is made meanwhile.
pub(crate) fn with_signal_of_large_files<T>(start: impl FnOnce() -> T) -> T {
    /// Keeps the signal off again, also if `start` panics.
    struct Off;

    impl Drop for Off {
        fn drop(&mut self) {
            // SAFETY: the set is a local variable.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &alone(), std::ptr::null_mut()) };
        }
    }

    let (count, was_off) = ON_THREAD.get();
    if count == 0 || was_off {
        return start();
    }
    take_what_waits();
    let _off = Off;
    // SAFETY: the set is a local variable.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &alone(), std::ptr::null_mut()) };
    start()
}

/// Takes the signal if it waits for this thread, which keeps it off.
fn take_what_waits() {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the time are local variables.
    unsafe { libc::sigtimedwait(&alone(), std::ptr::null_mut(), &at_once) };
}

/// The set of this signal alone.
fn alone() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is a local variable, which the first call fills in.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_off() -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: the set is a local variable, which the call fills in.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), libc::SIGXFSZ) == 1
        }
    }

    #[test]
    fn the_signal_is_off_as_long_as_one_of_several_is_there_and_what_came_meanwhile_is_taken() {
        assert!(!is_off());
        let (first, second) = (NoSignalOfLargeFiles::here(), NoSignalOfLargeFiles::here());
        drop(first);
        assert!(is_off(), "the second is there");
        // SAFETY: the signal goes to this thread, which keeps it off.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGXFSZ) }, 0);
        drop(NoSignalOfLargeFiles::here());
        assert!(is_off());
        drop(second);
        // Else the process would have ended here.
        assert!(!is_off());
    }

    #[test]
    fn a_child_gets_the_signal_unless_the_thread_kept_it_off_before() {
        assert!(!with_signal_of_large_files(is_off));
        let ring = NoSignalOfLargeFiles::here();
        assert!(!with_signal_of_large_files(is_off) && is_off());
        drop(ring);
        assert!(!is_off());
        // SAFETY: the set is a local variable.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &alone(), std::ptr::null_mut()) };
        let _ring = NoSignalOfLargeFiles::here();
        assert!(with_signal_of_large_files(is_off));
    }

    #[test]
    fn a_thread_that_keeps_the_signal_off_itself_goes_on_to() {
        // SAFETY: the set is a local variable.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &alone(), std::ptr::null_mut()) };
        drop(NoSignalOfLargeFiles::here());
        assert!(is_off());
    }
}
