//! The choice between rings: what the program says, else what `ANNULUS_RING` says, else the
//! kernel's if the machine grants it.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::config::RingKind;
use super::refusal::SetupError;

/// The variable that overrides the default.
const VARIABLE: &str = "ANNULUS_RING";

/// Why it is this kind of ring.
#[derive(Debug, Clone)]
pub(crate) enum Reason {
    /// Nobody asked for another.
    Default,
    /// `Builder::ring`.
    Program,
    /// `ANNULUS_RING`.
    Environment,
    /// The machine refused the kernel's.
    Refused(Arc<SetupError>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Default => f.write_str("by default"),
            Reason::Program => f.write_str("as the program asks"),
            Reason::Environment => write!(f, "as {VARIABLE} asks"),
            Reason::Refused(error) => write!(f, "since the kernel's is not to be had: {error}"),
        }
    }
}

/// The kind of ring that was asked for, and by whom; `None` for the best that there is.
///
/// # Errors
/// `InvalidInput` if the variable names no kind.
pub(super) fn asked_for(program: Option<RingKind>) -> io::Result<Option<(RingKind, Reason)>> {
    match program {
        Some(kind) => Ok(Some((kind, Reason::Program))),
        None => asked_by_environment(env::var_os(VARIABLE).as_deref()),
    }
}

fn asked_by_environment(value: Option<&OsStr>) -> io::Result<Option<(RingKind, Reason)>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let kind = [RingKind::Kernel, RingKind::Software]
        .into_iter()
        .find(|kind| value == kind.to_string().as_str());
    kind.map(|kind| Some((kind, Reason::Environment))).ok_or_else(|| {
        let sentence = format!(
            "{VARIABLE} is {value:?}: it must be \"kernel\" or \"software\", or not be set"
        );
        io::Error::new(io::ErrorKind::InvalidInput, sentence)
    })
}

/// A refusal that says that the machine has no io_uring for us. Others come back as errors: a want
/// of descriptors, which the software ring would meet as well, and that of a submission thread, for
/// which the program has asked.
pub(super) fn refusal_of_io_uring(error: io::Error) -> io::Result<SetupError> {
    let refusal = error.downcast::<SetupError>()?;
    match refusal.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::ENOMEM | libc::EINVAL)
            if !refusal.is_of_choice() =>
        {
            Ok(refusal)
        }
        _ => Err(refusal.into_io_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::config::Sqpoll;
    use crate::ring::refusal;

    #[test]
    fn the_program_decides_before_the_environment_and_an_unknown_value_is_an_error() {
        let kind = |value: Option<&str>| {
            asked_by_environment(value.map(OsStr::new)).map(|asked| asked.map(|(kind, _)| kind))
        };
        assert_eq!(kind(None).expect("nothing said"), None);
        assert_eq!(kind(Some("")).expect("nothing said"), None);
        assert_eq!(kind(Some("kernel")).expect("known"), Some(RingKind::Kernel));
        assert_eq!(kind(Some("software")).expect("known"), Some(RingKind::Software));
        for unknown in ["Kernel", "soft", "epoll", " kernel"] {
            let error = kind(Some(unknown)).expect_err("unknown");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(
                error.to_string().contains(unknown) && error.to_string().contains("\"software\""),
                "{error}"
            );
        }
        let (kind, reason) = asked_for(Some(RingKind::Software)).expect("known").expect("a choice");
        assert_eq!(
            (kind, reason.to_string().as_str()),
            (RingKind::Software, "as the program asks")
        );
    }

    #[test]
    fn the_software_ring_stands_in_for_a_machine_without_rings_and_not_for_one_without_submission_threads()
     {
        for errno in [libc::EPERM, libc::EACCES, libc::ENOMEM, libc::EINVAL] {
            let refused = refusal::explain("io_uring_setup", io::Error::from_raw_os_error(errno));
            assert_eq!(refusal_of_io_uring(refused).expect("no ring").raw_os_error(), Some(errno));
            let refused = refusal::explain("io_uring_setup", io::Error::from_raw_os_error(errno));
            let of_thread = refusal::explain_sqpoll(refused, Sqpoll { idle_ms: 1, cpu: None });
            let error = refusal_of_io_uring(of_thread).expect_err("a ring, but no thread");
            assert!(error.to_string().contains("SQPOLL"), "{error}");
        }
    }
}
