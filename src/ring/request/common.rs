//! The parts that the families share: modifiers, whether a call waits, and a rule for chains.

/// What an entry says beside its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Modifiers {
    /// It goes on after its first completion.
    pub(crate) multishot: bool,
    /// It waits before the first attempt.
    pub(crate) poll_first: bool,
    /// Its memory comes from this group of provided buffers.
    pub(crate) group: Option<u16>,
    /// It has a second completion, the notification that its memory is free.
    pub(crate) notifies: bool,
    /// The notification says whether the data was copied.
    pub(crate) reports_usage: bool,
}

/// Does a call on files or names wait?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It ends at once.
    Never,
    /// It can be asked to say `EAGAIN` instead.
    UnlessAsked,
    /// The file system may have to be asked, whatever the flags say.
    Regardless,
}

/// The kernel reports the errors of some operations without taking them for failures, unless they
/// never came so far.
pub(super) fn never_began(result: i32) -> bool {
    matches!(-result, libc::EBADF | libc::ENOTSOCK | libc::ECANCELED)
}
