//! What fails in HTTP: which step it was, and why.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// An error of any kind, as the traits of HTTP hand it on.
pub(super) type Source = Box<dyn StdError + Send + Sync>;

/// Why a request, a response or a body failed: [`kind`](Error::kind) says which step it was, and
/// [`source`](StdError::source) has the reason.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Source>,
}

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A body could not be received or made: the connection ended in the middle, what came breaks
    /// the protocol, or the stream behind the body failed.
    Body,
    /// A body is longer than the limit.
    BodyTooLarge,
    /// Nothing came for too long.
    TimedOut,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            ErrorKind::Body => "the body failed",
            ErrorKind::BodyTooLarge => "the body is longer than the limit",
            ErrorKind::TimedOut => "nothing came for too long",
        }
    }
}

impl Error {
    /// The step that failed.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(super) fn new(kind: ErrorKind) -> Error {
        Error { kind, source: None }
    }

    pub(super) fn because(kind: ErrorKind, source: impl Into<Source>) -> Error {
        Error { kind, source: Some(source.into()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.describe())?;
        match &self.source {
            None => Ok(()),
            Some(source) => write!(f, ": {source}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind {
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Body | ErrorKind::BodyTooLarge => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
