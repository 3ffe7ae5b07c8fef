//! The diagnosis that a program can print: which ring this process gets, what is missing, and what
//! would have to change.
//!
//! It opens a ring, looks, and closes it. Causes of a refused ring are `ring/refusal.rs`'s
//! business; here they are put together with limits, settings and the operations that the kernel
//! lacks.

use std::fmt;
use std::io;

use crate::buf::ChunkPoolConfig;
use crate::ring::catalogue::{self, Row, Without};
use crate::ring::{Limit, Refusal, Ring, RingKind, RingReport, Seccomp, SetupError, SystemReport};
use crate::runtime::{self, Builder};

/// With fewer receives, a runtime has not shown yet what its messages are like.
const FEWEST_RECEIVES: u64 = 100;
/// What an ordinary user may lock by default since Linux 5.16. With less, a hundred runtimes do not
/// fit.
const USUAL_MEMLOCK: u64 = 8 << 20;
/// The soft limit that most systems start programs with, for the sake of select(2). A server needs
/// more.
const USUAL_NOFILE: u64 = 1024;

/// Finds out which ring a runtime with default settings gets here, what it lacks, and how to mend
/// that. Called within a runtime, it also says whether that runtime's buffers for chunks are too
/// small.
///
/// A ring is opened and closed again; nothing else changes. [`Display`](fmt::Display) gives a page
/// for people; `cargo run --example doctor` prints it.
///
/// ```
/// let diagnosis = annulus::diagnose();
/// for shortfall in diagnosis.shortfalls() {
///     println!("{}: {}", shortfall.what(), shortfall.remedy());
/// }
/// ```
pub fn diagnose() -> Diagnosis {
    examine(Builder::new())
}

fn examine(builder: Builder) -> Diagnosis {
    let system = SystemReport::read();
    let opened = builder.config().and_then(|config| Ring::open(&config));
    let mut shortfalls = Vec::new();
    let mut missing = Vec::new();
    let ring = match opened {
        Ok(ring) => {
            let report = ring.report();
            shortfalls.extend(report.refusal().map(of_refused_ring));
            let lacks =
                || needed_on(report.kind()).filter(|operation| !ring.supports(operation.code));
            missing.extend(lacks().map(|operation| operation.name));
            shortfalls.extend(report.refused().iter().map(|refusal| of_refusal(&system, refusal)));
            shortfalls.extend(lacks().map(of_operation));
            shortfalls.extend(report.by_software().iter().map(|name| of_software_path(name)));
            Ok(report)
        }
        Err(error) => {
            shortfalls.push(of_failure(&error));
            Err(error)
        }
    };
    shortfalls.extend(of_limits(&system));
    shortfalls.extend(of_chunks());
    Diagnosis { system, ring, missing, shortfalls }
}

/// What [`diagnose`] found.
#[derive(Debug)]
pub struct Diagnosis {
    system: SystemReport,
    ring: io::Result<RingReport>,
    missing: Vec<&'static str>,
    shortfalls: Vec<Shortfall>,
}

impl Diagnosis {
    /// The ring that is in force, `None` where none can be opened.
    pub fn ring(&self) -> Option<&RingReport> {
        self.ring.as_ref().ok()
    }

    /// Why the kernel's ring is not in force.
    pub fn refusal(&self) -> Option<&SetupError> {
        let setup = match &self.ring {
            Ok(ring) => ring.refusal(),
            Err(error) => error.get_ref()?.downcast_ref(),
        };
        setup.filter(|setup: &&SetupError| setup.ring() == RingKind::Kernel)
    }

    /// The operations of this crate that the ring does not have, by their names in
    /// io_uring_enter(2) without `IORING_OP_`.
    pub fn missing_operations(&self) -> &[&'static str] {
        &self.missing
    }

    /// The kernel's release, as uname(2) gives it.
    pub fn kernel(&self) -> &str {
        &self.system.release
    }

    /// How many bytes may be locked: `RLIMIT_MEMLOCK`. The queues of rings count, for the user and
    /// not for the process, unless it has CAP_IPC_LOCK.
    pub fn memlock(&self) -> Limit {
        self.system.memlock
    }

    /// How many descriptors may be open: `RLIMIT_NOFILE`.
    pub fn nofile(&self) -> Limit {
        self.system.nofile
    }

    /// The setting `kernel.io_uring_disabled`: 0 allows io_uring, 1 forbids it to ordinary users
    /// outside [`io_uring_group`](Diagnosis::io_uring_group), 2 to everybody. `None` if the kernel
    /// has no such setting (before 6.6).
    pub fn io_uring_disabled(&self) -> Option<u32> {
        self.system.disabled
    }

    /// The setting `kernel.io_uring_group`: a group's number, -1 for none.
    pub fn io_uring_group(&self) -> Option<i64> {
        self.system.group
    }

    /// Does seccomp restrict this thread?
    pub fn seccomp(&self) -> Seccomp {
        self.system.seccomp
    }

    /// The Linux security modules that are on, as far as this process may see them.
    pub fn security_modules(&self) -> &[String] {
        &self.system.modules
    }

    /// The block devices that [`Builder::iopoll`] can ask whether they are done, by their names in
    /// /sys/block: those whose `queue/io_poll` is 1.
    pub fn polling_devices(&self) -> &[String] {
        &self.system.polling_devices
    }

    /// What is missing, what that costs, and what to do about it. The gravest comes first. Empty on
    /// a recent kernel with ample limits.
    pub fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_absent<T: fmt::Display>(value: Option<T>) -> String {
            value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
        }
        fn or_none(names: &[impl AsRef<str>]) -> String {
            let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        }
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<27}{value}");
        match &self.ring {
            Ok(ring) => {
                line("ring in force", &ring.kind())?;
                line(
                    "queues",
                    &format_args!(
                        "{} submissions, {} completions",
                        ring.entries(),
                        ring.completion_entries()
                    ),
                )?;
                line("granted", &or_none(ring.granted()))?;
                line(
                    "refused",
                    &or_none(&ring.refused().iter().map(Refusal::to_string).collect::<Vec<_>>()),
                )?;
                line("operations by software", &or_none(ring.by_software()))?;
                line(
                    "operations missing",
                    &format_args!(
                        "{} (of {})",
                        or_none(&self.missing),
                        needed_on(RingKind::Kernel).count()
                    ),
                )?;
            }
            Err(_) => line("ring in force", &"none")?,
        }
        line("kernel", &format_args!("Linux {}", self.kernel()))?;
        line("RLIMIT_MEMLOCK", &self.memlock())?;
        line("RLIMIT_NOFILE", &self.nofile())?;
        line("kernel.io_uring_disabled", &or_absent(self.io_uring_disabled()))?;
        line("kernel.io_uring_group", &or_absent(self.io_uring_group()))?;
        line("seccomp", &self.seccomp())?;
        line("security modules", &or_none(self.security_modules()))?;
        line("devices for IOPOLL", &or_none(self.polling_devices()))?;
        for shortfall in &self.shortfalls {
            write!(f, "\n{shortfall}\n")?;
        }
        if self.shortfalls.is_empty() {
            write!(f, "\nNothing is missing.\n")?;
        }
        Ok(())
    }
}

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    what: String,
    cost: String,
    remedy: String,
}

impl Shortfall {
    /// What is missing, by its name in the man pages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What it costs to be without, or why it was refused.
    pub fn cost(&self) -> &str {
        &self.cost
    }

    /// What to change.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shortfall: {}\n     cost: {}\n   remedy: {}", self.what, self.cost, self.remedy)
    }
}

/// What the set-up asks for, the first Linux that has it, and what it costs to be without.
const SET_UP: &[(&str, &str, &str)] = &[
    ("NO_IOWAIT", "6.15", "an idle runtime shows as I/O wait in the statistics"),
    ("SEND_MSG_RING", "6.13", "wakes from other threads go through an eventfd"),
    ("REGISTER_FILES2", "6.13", "each read and write of a file looks up its descriptor"),
    ("NO_SQARRAY", "6.6", "a little memory traffic"),
    ("DEFER_TASKRUN", "6.1", "completions interrupt the program"),
    ("SINGLE_ISSUER", "6.0", "a little locking in the kernel"),
    ("COOP_TASKRUN|TASKRUN_FLAG", "5.19", "each completion interrupts the program"),
    ("SUBMIT_ALL", "5.18", "a faulty entry in the submission queue delays those behind it"),
    ("REGISTER_RING_FDS", "5.18", "each system call looks up the ring's descriptor"),
];

/// What it means that a kernel lacks those that came later and have no other way.
const BY_SOFTWARE: &str = "system calls of this crate in its place, most of them by a thread";

/// The operations that a ring of this kind must have. The software ring reads the buffers for
/// chunks where the pool has put them, so nobody has to provide them.
fn needed_on(kind: RingKind) -> impl Iterator<Item = &'static Row> {
    catalogue::operations().filter(move |row| {
        row.without != Without::Unused && (row.by_software || kind == RingKind::Kernel)
    })
}

fn of_operation(operation: &Row) -> Shortfall {
    let cost = match operation.without {
        Without::Costs(cost) => cost,
        Without::Software => BY_SOFTWARE,
        Without::Unused => "nothing",
    };
    Shortfall {
        what: format!("the operation {}", operation.name),
        cost: cost.to_owned(),
        remedy: format!("run Linux {} or later", operation.since),
    }
}

/// An operation that the kernel lacks and the crate executes.
fn of_software_path(name: &str) -> Shortfall {
    let since = catalogue::first_release_of(name)
        .map_or_else(|| "6.18".to_owned(), |release| release.to_string());
    Shortfall {
        what: format!("the operation {name}, which takes the software path"),
        cost: BY_SOFTWARE.to_owned(),
        remedy: format!("run Linux {since} or later"),
    }
}

/// A refusal that the set-up got around.
fn of_refusal(system: &SystemReport, refusal: &Refusal) -> Shortfall {
    let known = SET_UP.iter().find(|(name, _, _)| *name == refusal.what());
    let (since, cost) = known
        .map_or(("6.18", "what was asked for is not in force"), |(_, since, cost)| (*since, *cost));
    let remedy = match refusal.errno() {
        libc::ENOMEM => raise_memlock(system),
        libc::EBUSY => "drop runtimes of this thread: it can register sixteen rings".to_owned(),
        libc::EPERM | libc::EACCES | libc::ENOSYS if system.seccomp == Seccomp::Filter => {
            "allow io_uring_register with all its opcodes in the seccomp profile".to_owned()
        }
        _ => format!("run Linux {since} or later"),
    };
    let cost = if refusal.errno() == libc::ENOMEM {
        "smaller queues: more system calls where much is going on"
    } else {
        cost
    };
    Shortfall { what: refusal.to_string(), cost: cost.to_owned(), remedy }
}

/// A ring that was refused altogether.
fn of_failure(error: &io::Error) -> Shortfall {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<SetupError>()) {
        Some(setup) => of_refused_ring(setup),
        // Whatever refuses a ring explains itself.
        None => Shortfall {
            what: "a ring that can be chosen".to_owned(),
            cost: error.to_string(),
            remedy: "mend the environment variable, or do not set it".to_owned(),
        },
    }
}

/// A ring; in the place of the kernel's there may be the software ring.
fn of_refused_ring(setup: &SetupError) -> Shortfall {
    Shortfall {
        what: format!(
            "the {} ring ({}: {})",
            setup.ring(),
            setup.call(),
            io::Error::from_raw_os_error(setup.raw_os_error().unwrap_or(0))
        ),
        cost: setup.cause().to_owned(),
        remedy: setup.remedy().to_owned(),
    }
}

fn of_limits(system: &SystemReport) -> impl Iterator<Item = Shortfall> {
    let memlock = (system.counts_locked_memory() && system.memlock.soft < USUAL_MEMLOCK).then(|| Shortfall {
        what: format!("RLIMIT_MEMLOCK is {}", system.memlock),
        cost: "the queues of rings, registered buffers and zero-copy sends of this user share it; what does not fit is refused with ENOMEM"
            .to_owned(),
        remedy: raise_memlock(system),
    });
    let nofile = (system.nofile.soft <= USUAL_NOFILE && system.nofile.soft < system.nofile.hard).then(|| Shortfall {
        what: format!("RLIMIT_NOFILE is {}", system.nofile),
        cost: format!("no more than {} files and connections at once", system.nofile.soft),
        remedy: format!("ulimit -n {} in the shell, LimitNOFILE= in a systemd unit, docker run --ulimit nofile=", system.nofile.hard),
    });
    memlock.into_iter().chain(nofile)
}

/// Are the runtime's buffers for chunks smaller than what comes? The default size is large enough:
/// longer streams fill any buffer, and lose little by it.
fn of_chunks() -> Option<Shortfall> {
    let core = runtime::try_current()?;
    let (metrics, size) = (core.metrics(), core.pool_config().size);
    let is_filled = metrics.chunk_receives >= FEWEST_RECEIVES
        && metrics.chunk_fills > metrics.chunk_receives / 2;
    (is_filled && size < ChunkPoolConfig::default().size).then(|| Shortfall {
        what: format!("{} of {} receives filled their buffer of {size} bytes", metrics.chunk_fills, metrics.chunk_receives),
        cost: "messages come in pieces, each with its own turn of the loop, and an echo may cost 2.5 times as much".to_owned(),
        remedy: "Builder::chunk_size of the largest usual message, or the default of 16 KiB".to_owned(),
    })
}

fn raise_memlock(system: &SystemReport) -> String {
    // `ulimit -l` counts KiB. Beyond the hard limit only an administrator can go.
    let shell = match system.memlock.hard >= USUAL_MEMLOCK {
        true => format!("ulimit -l {} in the shell", USUAL_MEMLOCK >> 10),
        false => "`* - memlock 8192` in /etc/security/limits.conf (the hard limit is too low for ulimit -l)".to_owned(),
    };
    format!("{shell}, LimitMEMLOCK=8M in a systemd unit, docker run --ulimit memlock=8388608")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_flag_of_the_ladder_has_its_price_and_its_kernel() {
        let system = SystemReport::default();
        for (rung, refusals) in crate::ring::refusals_of_every_rung().into_iter().enumerate() {
            assert_eq!(refusals.len(), rung, "as that kernel refuses them");
            for refusal in refusals {
                let known = SET_UP.iter().find(|(name, _, _)| *name == refusal.what());
                let (_, since, cost) =
                    known.unwrap_or_else(|| panic!("{refusal} is not in the table"));
                let shortfall = of_refusal(&system, &refusal);
                assert_eq!(
                    (shortfall.cost(), shortfall.remedy()),
                    (*cost, &*format!("run Linux {since} or later"))
                );
            }
        }
    }

    #[test]
    fn a_ring_made_smaller_a_full_table_and_a_filter_have_their_own_remedies() {
        let remedy = |system: &SystemReport, what: &str, errno| {
            let refusal = Refusal::new(what, &io::Error::from_raw_os_error(errno));
            of_refusal(system, &refusal).remedy().to_owned()
        };
        let small =
            SystemReport { memlock: Limit { soft: 65536, hard: 65536 }, ..SystemReport::default() };
        let large = SystemReport {
            memlock: Limit { soft: 65536, hard: u64::MAX },
            ..SystemReport::default()
        };
        assert!(remedy(&small, "256 entries", libc::ENOMEM).contains("limits.conf"));
        assert!(remedy(&large, "256 entries", libc::ENOMEM).starts_with("ulimit -l 8192"));
        assert!(remedy(&small, "REGISTER_RING_FDS", libc::EBUSY).contains("sixteen"));
        let filtered = SystemReport { seccomp: Seccomp::Filter, ..SystemReport::default() };
        assert!(remedy(&filtered, "REGISTER_RING_FDS", libc::EPERM).contains("seccomp profile"));
        assert!(
            remedy(&filtered, "REGISTER_RING_FDS", libc::EINVAL).contains("5.18"),
            "the kernel's own answer"
        );
    }

    #[test]
    fn limits_are_a_shortfall_only_where_they_bind() {
        let named = |system: &SystemReport| {
            of_limits(system).map(|shortfall| shortfall.what).collect::<Vec<_>>().join("; ")
        };
        let ample = SystemReport {
            memlock: Limit { soft: 8 << 20, hard: 8 << 20 },
            nofile: Limit { soft: 4096, hard: 4096 },
            ..SystemReport::default()
        };
        assert_eq!(named(&ample), "");
        let tight = SystemReport {
            memlock: Limit { soft: 65536, hard: 65536 },
            nofile: Limit { soft: 1024, hard: 4096 },
            ..SystemReport::default()
        };
        assert_eq!(
            named(&tight),
            "RLIMIT_MEMLOCK is 65536 soft, 65536 hard; RLIMIT_NOFILE is 1024 soft, 4096 hard"
        );
        let privileged = SystemReport { capabilities: u64::MAX, nofile: ample.nofile, ..tight };
        assert_eq!(named(&privileged), "");
    }

    #[test]
    fn a_kernel_without_operations_is_told_by_their_names() {
        let shortfall = of_operation(
            needed_on(RingKind::Kernel)
                .find(|operation| operation.name == "FSYNC")
                .expect("listed"),
        );
        assert_eq!(shortfall.what(), "the operation FSYNC");
        assert!(shortfall.cost().contains("sync_all") && shortfall.remedy().contains("5.1"));
    }

    #[test]
    fn what_takes_the_software_path_is_told_with_the_kernel_that_has_it() {
        let releases = [
            ("SHUTDOWN", "5.11"),
            ("MKDIRAT", "5.15"),
            ("FTRUNCATE", "6.9"),
            ("multishot ACCEPT", "5.19"),
            ("multishot RECV", "6.0"),
        ];
        for (name, since) in releases {
            let shortfall = of_software_path(name);
            assert!(
                shortfall.what().contains(name) && shortfall.cost().contains("system calls"),
                "{shortfall}"
            );
            assert_eq!(shortfall.remedy(), format!("run Linux {since} or later"));
        }
    }
}
