//! The facts about this machine and this process that the operating system tells: cores, clocks,
//! file systems, limits.
//!
//! Knows nothing about contenders or workloads.
#![allow(unsafe_code)] // The standard library offers none of these calls.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// The machine as the report shows it. No host name: reports are meant to be passed on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    /// Part of what a TCP echo costs: pacing ones (bbr) use timers on loopback too.
    pub(crate) tcp_congestion_control: String,
}

impl Machine {
    pub(crate) fn describe() -> Machine {
        Machine {
            kernel: first_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            processor: value_of("/proc/cpuinfo", "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: allowed_cores().len(),
            memory_mib: value_of("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            tcp_congestion_control: first_line("/proc/sys/net/ipv4/tcp_congestion_control")
                .unwrap_or_else(|| "unknown".into()),
        }
    }
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// The value of the first `key : value` line of a file under /proc.
fn value_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The cores this process may run on, lowest first; never empty.
pub(crate) fn allowed_cores() -> Vec<usize> {
    // SAFETY: cpu_set_t is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a local of the size given; the call fills it before it returns and keeps no
    // reference.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: CPU_ISSET only reads the local `set`, and the index stays below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Binds the calling thread, and the threads it starts later, to one core.
pub(crate) fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is an array of integers, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: CPU_SET writes within the local `set` (libc bounds the index), and the call below
    // only reads it.
    let result = unsafe {
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// User and system time of all threads of this process, the kernel's worker threads for its ring
/// included.
pub(crate) fn process_cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local that the call fills before it returns.
    let result = unsafe { libc::clock_gettime(id, &mut time) };
    assert_eq!(result, 0, "the clock exists on every Linux");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Private memory of a process that it has written to, in bytes.
pub(crate) fn anonymous_memory(process: u32) -> io::Result<u64> {
    let value = value_of(&format!("/proc/{process}/smaps_rollup"), "Anonymous");
    let kib = value.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc tells nothing of the memory of a process"))
}

/// Has the kernel end this process when the thread that started it ends, so that no server survives
/// its parent.
pub(crate) fn end_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have ended before the call above; then no signal will come.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::other("the parent process has ended"));
    }
    Ok(())
}

/// Raises the soft limit of open files to `needed`, within the hard limit.
pub(crate) fn allow_open_files(needed: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local that the call fills before it returns.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    if limit.rlim_max < needed {
        return Err(io::Error::other(format!(
            "{needed} open files are needed and the hard limit is {}: give fewer --connections or raise it (ulimit -Hn)",
            limit.rlim_max
        )));
    }
    limit.rlim_cur = needed;
    // SAFETY: the call only reads the local `limit`.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The file system a path lies on, as far as the comparison has to know it.
#[derive(Clone, Debug)]
pub(crate) struct FileSystem {
    pub(crate) name: String,
    pub(crate) is_tmpfs: bool,
    pub(crate) free_bytes: u64,
}

pub(crate) fn file_system_of(path: &Path) -> io::Result<FileSystem> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `c_path` is a NUL-terminated string and `answer` a buffer of the right size; both are
    // locals that outlive the call, which keeps neither.
    if unsafe { libc::statfs(c_path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs(2) answered 0, so it has filled the whole structure.
    let answer = unsafe { answer.assume_init() };
    let is_tmpfs = answer.f_type == libc::TMPFS_MAGIC;
    let name = match answer.f_type as u64 {
        0xEF53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683E => "btrfs".into(),
        0x794C_7630 => "overlayfs".into(),
        0x2FC1_2FC1 => "zfs".into(),
        0x6969 => "nfs".into(),
        _ if is_tmpfs => "tmpfs".into(),
        other => format!("file system of type {other:#x}"),
    };
    Ok(FileSystem { name, is_tmpfs, free_bytes: answer.f_bavail * answer.f_bsize as u64 })
}

/// Takes the congestion control that every kernel has and that costs the least, where the default
/// may be one that sets timers.
pub(crate) fn use_cheap_congestion_control(socket: &impl AsRawFd) -> io::Result<()> {
    let name = b"reno";
    // SAFETY: the call reads the static name, whose length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel to forget the cached pages of a file that has no unwritten ones.
pub(crate) fn drop_cached_pages(file: &fs::File) -> io::Result<()> {
    // SAFETY: the call takes integers only; the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
