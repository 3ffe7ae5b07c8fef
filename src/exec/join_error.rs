//! The error of a task without a result.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Why a task has no result: it panicked, or it was cancelled by
/// [`JoinHandle::abort`](crate::JoinHandle::abort) or the end of its runtime.
pub struct JoinError {
    /// `None`: cancelled.
    panic: Option<Box<Panic>>,
}

struct Panic {
    /// In a mutex, which nobody locks, so that the error can be shared between threads as most
    /// error types demand.
    payload: Mutex<Box<dyn Any + Send>>,
    message: String,
}

impl JoinError {
    pub(crate) fn cancelled() -> JoinError {
        JoinError { panic: None }
    }

    pub(super) fn panic(payload: Box<dyn Any + Send>) -> JoinError {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "with a value that is no text".to_owned());
        JoinError { panic: Some(Box::new(Panic { payload: Mutex::new(payload), message })) }
    }

    /// Was the task cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Did the task panic?
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The value with which the task panicked, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    /// Gives the error back if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.panic {
            Some(panic) => Ok(panic.payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(self),
        }
    }

    /// The value with which the task panicked.
    ///
    /// # Panics
    /// If the task did not panic; see [`try_into_panic`](JoinError::try_into_panic).
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("into_panic is for a task that panicked; ask is_panic first")
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            None => f.write_str("task was cancelled"),
            Some(panic) => write!(f, "task panicked: {}", panic.message),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    /// So that `task.await??` works in functions that return [`io::Result`].
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error.to_string())
    }
}
