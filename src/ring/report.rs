//! The report on a ring, which a program can print, log or ask: what the machine granted.

use std::fmt;
use std::io;

use super::choice::Reason;
use super::config::RingKind;
use super::refusal;
use super::refusal::SetupError;

/// What the ring of a runtime is made of: which set-up was granted, and what was refused on the way
/// there.
///
/// Set-up starts with everything a recent kernel has and takes one step down at a time, so on the
/// newest kernels nothing is refused. [`Display`](fmt::Display) gives a few lines for people.
///
/// ```
/// let runtime = annulus::Builder::new().build()?;
/// println!("{}", runtime.ring());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RingReport {
    pub(crate) kind: RingKind,
    pub(crate) reason: Reason,
    pub(crate) entries: u32,
    pub(crate) completion_entries: u32,
    pub(crate) granted: Vec<&'static str>,
    pub(crate) refused: Vec<Refusal>,
    pub(crate) by_software: Vec<&'static str>,
}

impl RingReport {
    /// The kind of ring in force. It stays the same for the life of a runtime.
    pub fn kind(&self) -> RingKind {
        self.kind
    }

    /// Why it is this kind, as the rest of a sentence: `by default`, for example, or `as
    /// ANNULUS_RING asks`.
    pub fn reason(&self) -> String {
        self.reason.to_string()
    }

    /// Why the kernel's ring is not in force, where the machine refused it.
    pub fn refusal(&self) -> Option<&SetupError> {
        match &self.reason {
            Reason::Refused(error) => Some(error),
            Reason::Default | Reason::Program | Reason::Environment => None,
        }
    }

    /// FreeIndices in the submission queue.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// FreeIndices in the completion queue.
    pub fn completion_entries(&self) -> u32 {
        self.completion_entries
    }

    /// The set-up flags and registrations in force, by their names in io_uring_setup(2),
    /// io_uring_register(2) and io_uring_enter(2).
    pub fn granted(&self) -> &[&'static str] {
        &self.granted
    }

    /// What was asked for and refused, in the order of the refusals. Everything works without; it
    /// costs more.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// The operations that the kernel lacks and that this crate executes itself beside the kernel's
    /// ring, by their names in io_uring_enter(2) without `IORING_OP_`. `multishot RECV` stands for
    /// all receives into buffers of the runtime. Empty on Linux 6.9 and later, and where the whole
    /// ring is the software ring.
    pub fn by_software(&self) -> &[&'static str] {
        &self.by_software
    }
}

/// With the feature `log`, tells the program's logger.
impl RingReport {
    #[cfg(feature = "log")]
    pub(crate) fn log(&self) {
        let level = if self.refusal().is_some() { log::Level::Warn } else { log::Level::Info };
        log::log!(target: "annulus", level, "{self}");
    }

    #[cfg(not(feature = "log"))]
    pub(crate) fn log(&self) {}
}

impl fmt::Display for RingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ring ({}), {} submission and {} completion entries",
            self.kind, self.reason, self.entries, self.completion_entries
        )?;
        if !self.granted.is_empty() {
            write!(f, "; granted: {}", self.granted.join(", "))?;
        }
        if !self.by_software.is_empty() {
            write!(f, "; by software: {}", self.by_software.join(", "))?;
        }
        for refusal in &self.refused {
            write!(f, "\nrefused: {refusal}")?;
        }
        Ok(())
    }
}

/// One thing that the kernel refused during set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) what: String,
    pub(crate) errno: i32,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>, error: &io::Error) -> Refusal {
        Refusal { what: what.into(), errno: refusal::errno(error).unwrap_or(0) }
    }

    /// What was asked for, by its name in the man pages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The kernel's answer.
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, io::Error::from_raw_os_error(self.errno))
    }
}
