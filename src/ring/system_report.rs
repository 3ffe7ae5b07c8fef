//! The report on this machine and process, as far as it bears on io_uring. It is read from /proc,
//! /sys and getrlimit(2), once, so that every explanation is a function of
//! data.
//!
//! It draws no conclusions and changes nothing.

use std::fmt;
use std::fs;

use crate::sys;

/// CAP_IPC_LOCK and CAP_SYS_ADMIN, capabilities(7).
const LOCK_CAPABILITY: u32 = 14;
const ADMINISTRATION_CAPABILITY: u32 = 21;

/// A resource limit of the process, getrlimit(2). `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// The bound in force.
    pub soft: u64,
    /// How far the process may raise it by itself.
    pub hard: u64,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word =
            |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
        write!(f, "{} soft, {} hard", word(self.soft), word(self.hard))
    }
}

/// Does seccomp(2) restrict the system calls of this thread?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seccomp {
    /// No.
    #[default]
    Off,
    /// Only to read, write and exit.
    Strict,
    /// By a filter, as container runtimes install.
    Filter,
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Seccomp::Off => "off",
            Seccomp::Strict => "strict",
            Seccomp::Filter => "filter",
        })
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SystemReport {
    /// `kernel.osrelease`.
    pub(crate) release: String,
    /// `kernel.io_uring_disabled`, `None` where the kernel has no such setting (before 6.6).
    pub(crate) disabled: Option<u32>,
    /// `kernel.io_uring_group`.
    pub(crate) group: Option<i64>,
    pub(crate) seccomp: Seccomp,
    /// The security modules that are on, as far as this process may see them.
    pub(crate) modules: Vec<String>,
    pub(crate) memlock: Limit,
    pub(crate) nofile: Limit,
    /// Effective capabilities, as bits.
    pub(crate) capabilities: u64,
    /// The block devices that can be asked whether they are done, as far as this process may see
    /// them.
    pub(crate) polling_devices: Vec<String>,
}

impl SystemReport {
    pub(crate) fn read() -> SystemReport {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        SystemReport {
            release: setting("osrelease").unwrap_or_default(),
            disabled: setting("io_uring_disabled").and_then(|text| text.parse().ok()),
            group: setting("io_uring_group").and_then(|text| text.parse().ok()),
            seccomp: match field("Seccomp:") {
                Some("1") => Seccomp::Strict,
                Some("2") => Seccomp::Filter,
                _ => Seccomp::Off,
            },
            modules: modules
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            memlock: limit(libc::RLIMIT_MEMLOCK),
            nofile: limit(libc::RLIMIT_NOFILE),
            capabilities: field("CapEff:")
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .unwrap_or(0),
            polling_devices: polling_devices().unwrap_or_default(),
        }
    }

    /// Does locked memory count against the limit for this process? With CAP_IPC_LOCK it does not.
    pub(crate) fn counts_locked_memory(&self) -> bool {
        self.capabilities & 1 << LOCK_CAPABILITY == 0 && self.memlock.soft != u64::MAX
    }

    /// Do settings that concern ordinary users pass this process by?
    pub(crate) fn may_administrate(&self) -> bool {
        self.capabilities & 1 << ADMINISTRATION_CAPABILITY != 0
    }
}

/// The block devices whose drivers were given queues for polling. `None`: it cannot be seen.
pub(super) fn polling_devices() -> Option<Vec<String>> {
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let polls = |device: &fs::DirEntry| {
        fs::read_to_string(device.path().join("queue/io_poll")).is_ok_and(|text| text.trim() == "1")
    };
    let mut names: Vec<_> = devices
        .filter(polls)
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Some(names)
}

/// A setting of sysctl(8) under `kernel`.
fn setting(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().to_owned())
}

fn limit(resource: libc::__rlimit_resource_t) -> Limit {
    sys::limit(resource).map(|(soft, hard)| Limit { soft, hard }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_what_its_files_say() {
        let system = SystemReport::read();
        assert!(system.release.starts_with(|first: char| first.is_ascii_digit()), "{system:?}");
        assert!(system.nofile.soft > 2 && system.nofile.soft <= system.nofile.hard, "{system:?}");
        assert_eq!(system.memlock, limit(libc::RLIMIT_MEMLOCK));
        let capable = SystemReport {
            capabilities: 1 << 14 | 1 << 21,
            memlock: Limit { soft: 1, hard: 1 },
            ..system.clone()
        };
        assert!(!capable.counts_locked_memory() && capable.may_administrate());
        let ordinary = SystemReport { capabilities: 0, ..capable };
        assert!(ordinary.counts_locked_memory() && !ordinary.may_administrate());
    }

    #[test]
    fn limits_read_as_numbers_or_as_none() {
        assert_eq!(Limit { soft: 64, hard: u64::MAX }.to_string(), "64 soft, unlimited hard");
    }
}
