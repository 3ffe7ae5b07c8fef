//! The refusal of a ring: the errno of a refused set-up, with the likely cause and its remedy.
//!
//! It looks at the machine only after a refusal, and changes nothing.

use std::error::Error;
use std::fmt;
use std::io;

use super::config::RingKind;
use super::config::Sqpoll;
use super::system_report::{Seccomp, SystemReport};

/// Why no ring could be opened, and what to do about it.
///
/// It is the inner error of the [`io::Error`] that [`Builder::build`](crate::Builder::build)
/// returns, so that the sentence is printed and the errno can still be asked for:
///
/// ```
/// use annulus::SetupError;
/// if let Err(error) = annulus::Builder::new().build() {
///     eprintln!("{error}");
///     let setup = error.get_ref().and_then(|inner| inner.downcast_ref::<SetupError>());
///     eprintln!("errno {:?}", setup.map(SetupError::raw_os_error));
/// }
/// ```
#[derive(Debug)]
pub struct SetupError {
    ring: RingKind,
    call: &'static str,
    source: io::Error,
    cause: String,
    remedy: String,
    /// The machine grants rings, but not as the program asks.
    of_choice: bool,
}

impl SetupError {
    /// The errno with which the kernel refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// The kind of ring that was refused.
    pub fn ring(&self) -> RingKind {
        self.ring
    }

    /// The system call that was refused: of the kernel's ring `io_uring_setup`,
    /// `io_uring_register`, `io_uring_enter` or `eventfd2`, of the software ring `epoll_create1`,
    /// `epoll_ctl`, `epoll_wait` or `eventfd2`.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What most likely refused.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to change so that it works.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Does the machine refuse only what the program asks for, and not every ring?
    pub(crate) fn is_of_choice(&self) -> bool {
        self.of_choice
    }

    /// Nor could the software ring be opened in its place.
    pub(crate) fn without_stand_in(mut self, error: &io::Error) -> SetupError {
        let why = match error.get_ref().and_then(|inner| inner.downcast_ref::<SetupError>()) {
            Some(setup) => format!("{}: {}", setup.call, setup.source),
            None => error.to_string(),
        };
        self.cause = format!("{}, and there is no software ring either ({why})", self.cause);
        self
    }

    /// The error around it, which has the same kind.
    pub(crate) fn into_io_error(self) -> io::Error {
        io::Error::new(self.source.kind(), self)
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = match self.ring {
            RingKind::Kernel => "an io_uring",
            RingKind::Software => "a software ring",
        };
        write!(
            f,
            "cannot open {ring}: {}: {}: {}; {}",
            self.call, self.source, self.cause, self.remedy
        )
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// What lets io_uring through a seccomp filter, where filters mostly come from.
const FILTER_REMEDY: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile \
    (docker run --security-opt seccomp=PROFILE.json, with these three under SCMP_ACT_ALLOW, or seccomp=unconfined to try; \
    Kubernetes: securityContext.seccompProfile; systemd: SystemCallFilter=@aio)";

/// What lets the software ring through.
const RAISE_MEMLOCK: &str =
    "ulimit -l, LimitMEMLOCK=, memlock in limits.conf, docker run --ulimit memlock=";

const EPOLL_REMEDY: &str =
    "allow epoll_create1, epoll_ctl, epoll_wait, epoll_pwait2 and eventfd2 in the seccomp profile";

/// Wraps the errno of a refused `call` of the software ring with the cause and the remedy.
pub(super) fn explain_epoll(call: &'static str, source: io::Error) -> io::Error {
    let system = SystemReport::read();
    let (cause, remedy) = match source.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => want_of_descriptors(&system),
        Some(libc::EINTR) => interrupted(),
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => refused_for_now(),
        _ => (
            "a seccomp filter or a security module forbids epoll, on which it rests".to_owned(),
            EPOLL_REMEDY.to_owned(),
        ),
    };
    SetupError { ring: RingKind::Software, call, source, cause, remedy, of_choice: false }
        .into_io_error()
}

/// Wraps the errno of a refused `call` with the cause and the remedy.
pub(crate) fn explain(call: &'static str, source: io::Error) -> io::Error {
    explain_on(&SystemReport::read(), call, source)
}

/// The errno of an error, be it explained or not.
pub(super) fn errno(error: &io::Error) -> Option<i32> {
    let explained = || error.get_ref()?.downcast_ref::<SetupError>()?.raw_os_error();
    error.raw_os_error().or_else(explained)
}

/// As [`explain`], where the machine grants rings, but none with the submission thread that the
/// user asked for.
pub(crate) fn explain_sqpoll(explained: io::Error, sqpoll: Sqpoll) -> io::Error {
    let errno = errno(&explained);
    let source = errno.map_or(explained, io::Error::from_raw_os_error);
    let (cause, remedy) = match (errno, sqpoll.cpu) {
        (Some(libc::EINVAL), Some(cpu)) => (
            format!("the submission thread (SQPOLL) cannot stay on processor {cpu}: it is not there, or not among this process's processors"),
            "name another processor (taskset -p, /sys/devices/system/cpu/online), or none".to_owned(),
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            "this process may have a ring, but not with a submission thread of the kernel (SQPOLL): before Linux 5.11 that takes CAP_SYS_NICE \
             or root, and a security module can forbid it by itself"
                .to_owned(),
            "leave `Builder::sqpoll` out, or grant the right".to_owned(),
        ),
        _ => (
            "the machine grants a ring, but not with a submission thread of the kernel (SQPOLL)".to_owned(),
            "leave `Builder::sqpoll` out".to_owned(),
        ),
    };
    SetupError {
        ring: RingKind::Kernel,
        call: "io_uring_setup",
        source,
        cause,
        remedy,
        of_choice: true,
    }
    .into_io_error()
}

/// Why buffers are not registered, where the errno alone says too little.
pub(super) fn explain_buffers(source: io::Error) -> io::Error {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => {
            let limit = SystemReport::read().memlock.soft;
            let sentence = format!(
                "cannot register buffers: {source}: they count against RLIMIT_MEMLOCK, which is {limit} bytes for this user over all its \
                 processes; raise it ({RAISE_MEMLOCK}), or make fewer or smaller ones"
            );
            io::Error::new(io::ErrorKind::OutOfMemory, sentence)
        }
        Some(libc::EFAULT) => io::Error::new(
            io::ErrorKind::InvalidInput,
            "cannot register buffers: each must have 1 byte to 1 GiB",
        ),
        _ => source,
    }
}

fn explain_on(system: &SystemReport, call: &'static str, source: io::Error) -> io::Error {
    let (cause, remedy) = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => refused(system),
        Some(libc::ENOSYS) => missing(system),
        Some(libc::ENOMEM) => (
            format!(
                "ring memory counts against RLIMIT_MEMLOCK, which is {} bytes for this user over all its processes",
                system.memlock.soft
            ),
            format!("raise it ({RAISE_MEMLOCK}), make fewer runtimes, or ask for fewer entries"),
        ),
        Some(libc::EMFILE | libc::ENFILE) => want_of_descriptors(system),
        Some(libc::EINVAL) => (
            format!("the kernel ({}) does not know the request", system.release),
            "annulus needs Linux 5.10 or later".to_owned(),
        ),
        Some(libc::EINTR) => interrupted(),
        Some(libc::EAGAIN | libc::EBUSY) => refused_for_now(),
        _ => (
            "the kernel gives no reason that is known for this call".to_owned(),
            format!("see the errors in {call}(2)"),
        ),
    };
    SetupError { ring: RingKind::Kernel, call, source, cause, remedy, of_choice: false }
        .into_io_error()
}

fn interrupted() -> (String, String) {
    (
        "signals interrupted the call each time, a hundred times in a row".to_owned(),
        "find who sends them (strace -e trace=none -p PID), and start again".to_owned(),
    )
}

fn refused_for_now() -> (String, String) {
    (
        "the kernel lacked memory, a thread or another resource for it, however often it was asked".to_owned(),
        "look for the limit (dmesg, memory.max and pids.max of the control group, ulimit -u), and start again".to_owned(),
    )
}

fn want_of_descriptors(system: &SystemReport) -> (String, String) {
    (
        format!("no descriptor is left (RLIMIT_NOFILE is {})", system.nofile.soft),
        "close descriptors or raise the limit (ulimit -n, LimitNOFILE=, docker run --ulimit nofile=)".to_owned(),
    )
}

fn refused(system: &SystemReport) -> (String, String) {
    match system.disabled {
        Some(2) => (
            "the setting kernel.io_uring_disabled is 2, which forbids io_uring to everybody"
                .to_owned(),
            "an administrator can allow it with `sysctl -w kernel.io_uring_disabled=0`".to_owned(),
        ),
        Some(1) if !system.may_administrate() => (
            "the setting kernel.io_uring_disabled is 1, which forbids io_uring to ordinary users"
                .to_owned(),
            format!(
                "run as a member of the group in kernel.io_uring_group (now {}), or allow it with `sysctl -w kernel.io_uring_disabled=0`",
                system.group.unwrap_or(-1)
            ),
        ),
        _ if system.seccomp == Seccomp::Filter => (
            "a seccomp filter, as container runtimes install by default, forbids io_uring"
                .to_owned(),
            FILTER_REMEDY.to_owned(),
        ),
        _ => {
            let modules = match system.modules.is_empty() {
                true => String::new(),
                false => format!(" ({} are on)", system.modules.join(", ")),
            };
            (
                format!("a security module{modules} forbids io_uring to this process"),
                "look for the denial in the audit log (ausearch -m avc, journalctl -k) and allow io_uring there".to_owned(),
            )
        }
    }
}

fn missing(system: &SystemReport) -> (String, String) {
    if system.seccomp == Seccomp::Filter {
        return (
            format!("a seccomp filter hides io_uring, or the kernel ({}) has none", system.release),
            FILTER_REMEDY.to_owned(),
        );
    }
    (
        format!(
            "the kernel ({}) has no io_uring, or was built without CONFIG_IO_URING",
            system.release
        ),
        "annulus needs Linux 5.10 or later with io_uring".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::system_report::Limit;

    fn sentence(system: &SystemReport, errno: i32) -> String {
        explain_on(system, "io_uring_setup", io::Error::from_raw_os_error(errno)).to_string()
    }

    #[test]
    fn each_refusal_names_its_cause_and_remedy() {
        let plain = SystemReport {
            release: "6.1.0".to_owned(),
            memlock: Limit { soft: 65536, hard: 65536 },
            ..SystemReport::default()
        };
        let disabled =
            SystemReport { disabled: Some(2), seccomp: Seccomp::Filter, ..plain.clone() };
        let group = SystemReport { disabled: Some(1), ..plain.clone() };
        let filtered =
            SystemReport { disabled: Some(0), seccomp: Seccomp::Filter, ..plain.clone() };
        assert!(sentence(&disabled, libc::EPERM).contains("kernel.io_uring_disabled=0"));
        assert!(sentence(&group, libc::EPERM).contains("kernel.io_uring_group"));
        assert!(sentence(&filtered, libc::EPERM).contains("seccomp profile"));
        assert!(sentence(&filtered, libc::ENOSYS).contains("seccomp profile"));
        assert!(sentence(&plain, libc::EPERM).contains("security module forbids"));
        let guarded = SystemReport {
            modules: vec!["yama".to_owned(), "selinux".to_owned()],
            ..plain.clone()
        };
        assert!(sentence(&guarded, libc::EPERM).contains("(yama, selinux are on)"));
        assert!(sentence(&plain, libc::ENOSYS).contains("6.1.0"));
        assert!(sentence(&plain, libc::ENOMEM).contains("65536"));
        assert!(sentence(&plain, libc::EMFILE).contains("RLIMIT_NOFILE"));
        assert!(sentence(&plain, libc::EINVAL).contains("5.10"));
        assert!(sentence(&plain, libc::EINTR).contains("signals interrupted"));
        assert!(sentence(&plain, libc::EAGAIN).contains("pids.max"));
        assert!(sentence(&plain, libc::EBUSY).contains("pids.max"));
        assert!(sentence(&plain, libc::EIO).contains("io_uring_setup(2)"));
    }

    #[test]
    fn the_errno_stays_reachable() {
        let error = explain_on(
            &SystemReport::default(),
            "io_uring_setup",
            io::Error::from_raw_os_error(libc::EPERM),
        );
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SetupError>());
        assert_eq!(inner.and_then(SetupError::raw_os_error), Some(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
