//! Panics of user code: the net that catches them, and what becomes of what they carry.
//!
//! A future, a waker, a buffer and an output are the user's, and so are their destructors. The
//! payload of a panic is the user's as well: dropping it may panic again. So every net of the crate
//! is one of these functions, and none of them lets a second panic out.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code, and gives back the payload if it panics.
#[inline]
pub(crate) fn catch<T>(user_code: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(user_code))
}

/// Runs user code whose panic has nobody to go to.
#[inline]
pub(crate) fn quietly(user_code: impl FnOnce()) {
    if let Err(payload) = catch(user_code) {
        forget(payload);
    }
}

/// Drops what a user made, a task with its result for example. A panic in that has nobody to go to.
#[inline]
pub(crate) fn discard<T>(value: T) {
    quietly(|| drop(value));
}

/// Drops a payload that nobody wants. If that panics, the payload of the second panic is leaked.
#[cold]
pub(crate) fn forget(payload: Payload) {
    if let Err(second) = catch(|| drop(payload)) {
        mem::forget(second);
    }
}

/// Runs several pieces of user code, one after the other, and keeps the first panic of them.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Payload>);

impl FirstPanic {
    #[inline]
    pub(crate) fn run(&mut self, user_code: impl FnOnce()) {
        if let Err(payload) = catch(user_code) {
            self.keep(payload);
        }
    }

    #[cold]
    fn keep(&mut self, payload: Payload) {
        match self.0 {
            None => self.0 = Some(payload),
            Some(_) => forget(payload),
        }
    }

    /// Lets the panic go on, if there was one. During another panic it is forgotten, since two at a
    /// time end the process.
    #[inline]
    pub(crate) fn resume(self) {
        match self.0 {
            None => {}
            Some(payload) if thread::panicking() => forget(payload),
            Some(payload) => resume_unwind(payload),
        }
    }
}
