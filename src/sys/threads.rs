//! The threads that the system grants this process, or does not, and the calls that wait.
//!
//! A filter may refuse clone3(2), and a limit of processes may be reached. The pool for calls that
//! block does not say so: it waits for a thread as long as that takes. So whoever has such a call
//! asks here first, and makes it itself where there is no thread: late is better than never.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// There has been one, and there will be others: a limit that is reached later finds threads in the
/// pool.
static GRANTED: AtomicBool = AtomicBool::new(false);

/// Is a thread to be had? Tried with one that does nothing, until it is.
pub(crate) fn are_granted() -> bool {
    if !GRANTED.load(Ordering::Relaxed)
        && let Ok(probe) = thread::Builder::new().spawn(|| ())
    {
        GRANTED.store(probe.join().is_ok(), Ordering::Relaxed);
    }
    GRANTED.load(Ordering::Relaxed)
}

/// Runs a function on a thread of the pool, which all runtimes of the process share. The future has
/// the result; to drop it before the function has begun is to call that off. Where no thread is to
/// be had, the function comes back.
pub(crate) fn run_blocking<F, T>(function: F) -> Result<impl Future<Output = T>, F>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match are_granted() {
        true => Ok(blocking::unblock(function)),
        false => Err(function),
    }
}

/// Runs a function on a thread of its own. If none is to be had this time, it is dropped here.
pub(crate) fn run_on_own_thread(name: &str, function: impl FnOnce() + Send + 'static) {
    let _ = thread::Builder::new().name(name.to_owned()).spawn(function);
}

/// The addresses of a host with a port. Waits for the resolver; getaddrinfo(3).
pub(crate) fn resolve(host: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(host.to_socket_addrs()?.collect())
}

/// Copies the content and the permissions of a file. Waits for the disk; copy_file_range(2).
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<u64> {
    let _off = super::NoSignalOfLargeFiles::here();
    fs::copy(from, to)
}

/// The same of files that are open, the second of which is empty. Its permissions come first, so
/// that nobody reads what the first did not let him read.
pub(crate) fn copy_open_file(mut from: fs::File, mut to: fs::File) -> io::Result<u64> {
    let _off = super::NoSignalOfLargeFiles::here();
    if to.metadata()?.is_file() {
        to.set_permissions(from.metadata()?.permissions())?;
    }
    io::copy(&mut from, &mut to)
}
